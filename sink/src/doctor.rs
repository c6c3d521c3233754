//! `custody-sink doctor`: looks at what the sink needs and reads every segment, without changing anything. May
//! run beside the sink: the newest segment's tail may then be in the middle of a write.

use std::fmt::Write;
use std::fs::{self, File};
use std::io::BufReader;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use custody_ledger::segment::{Reader, file_number};

use crate::authority;
use crate::config::Config;

/// What was found.
#[derive(Default)]
pub struct Report {
    /// One line for each look.
    pub text: String,
    /// Whether nothing needs a person.
    pub is_healthy: bool,
}

impl Report {
    fn line(&mut self, is_good: bool, what: &str) {
        self.is_healthy &= is_good;
        let mark = if is_good { "ok  " } else { "BAD " };
        // Writing to a string does not fail.
        let _ = writeln!(self.text, "{mark} {what}");
    }
}

/// Looks at everything.
pub fn examine(config: &Config) -> Report {
    let mut report = Report { is_healthy: true, ..Report::default() };
    let directory = &config.state_directory;
    report.line(true, "configuration");
    if !directory.exists() {
        report.line(
            false,
            &format!("{} is missing: create it and give it to the sink's user", directory.display()),
        );
        return report;
    }
    for name in ["ca.key", "receipt.key"] {
        examine_key(&mut report, &directory.join(name));
    }
    // A store of before the log gets it at its next start.
    let log_key = directory.join("log.key");
    if log_key.exists() {
        examine_key(&mut report, &log_key);
    }
    match authority::fingerprint(directory) {
        Ok(hash) => report.line(true, &format!("authority {hash}")),
        Err(error) => report.line(false, &error.to_string()),
    }
    match rustix::fs::statvfs(directory) {
        Ok(disk) => {
            let free = disk.f_bavail.saturating_mul(disk.f_frsize);
            let what = format!(
                "{} MiB free, {} MiB kept in reserve",
                free >> 20,
                config.store.disk_reserve_bytes >> 20
            );
            report.line(free > config.store.disk_reserve_bytes, &what);
        }
        Err(error) => report.line(false, &format!("the disk cannot be asked for its space: {error}")),
    }
    examine_segments(&mut report, &directory.join("segments"));
    report
}

fn examine_key(report: &mut Report, path: &Path) {
    match fs::metadata(path) {
        Ok(metadata) if metadata.permissions().mode() & 0o077 != 0 => {
            report.line(
                false,
                &format!("{} is open to others: chmod 600 it, and ask who read it", path.display()),
            );
        }
        Ok(_) => report.line(true, &format!("{}", path.display())),
        Err(error) => report.line(false, &format!("{}: {error}", path.display())),
    }
}

fn examine_segments(report: &mut Report, folder: &Path) {
    let mut numbers: Vec<u64> = match fs::read_dir(folder) {
        Ok(items) => {
            items.flatten().filter_map(|item| item.file_name().to_str().and_then(file_number)).collect()
        }
        Err(error) => return report.line(false, &format!("{}: {error}", folder.display())),
    };
    numbers.sort_unstable();
    let (mut records, mut bytes) = (0_u64, 0_u64);
    for (place, number) in numbers.iter().enumerate() {
        let path = folder.join(custody_ledger::segment::file_name(*number));
        if let Some(before) = place.checked_sub(1).and_then(|before| numbers.get(before))
            && before + 1 != *number
        {
            report.line(false, &format!("segments {} to {} are missing", before + 1, number - 1));
        }
        match read_whole(&path) {
            Ok((in_file, length)) => (records, bytes) = (records + in_file, bytes + length),
            Err(error) if place + 1 == numbers.len() => {
                report.line(
                    true,
                    &format!(
                        "{}: {error}; being written, or torn and recovered at the next start",
                        path.display()
                    ),
                );
            }
            Err(error) => report.line(false, &format!("{}: {error}; restore it from a copy", path.display())),
        }
    }
    report.line(true, &format!("{} segments read, {records} records, {bytes} bytes", numbers.len()));
}

fn read_whole(path: &Path) -> Result<(u64, u64), custody_ledger::segment::SegmentError> {
    let mut reader = Reader::open(BufReader::with_capacity(1 << 20, File::open(path)?))?;
    let mut records = 0;
    for record in &mut reader {
        record?;
        records += 1;
    }
    Ok((records, reader.offset()))
}
