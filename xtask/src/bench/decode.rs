//! Capture files into lines: `custody decode -o json` beside tshark, and tcpdump as the floor, over the same enlarged
//! capture. User CPU seconds, speed and peak memory; the count of exchanges is known.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use custody_tests::process::{cpu_ticks, memory_mib};

use super::Common;
use super::results::{Better, Column, Results, agree};
use crate::setup;

/// A capture whose count is known, and what each reader is asked.
struct Load {
    name: &'static str,
    /// In the corpus.
    file: &'static str,
    /// Exchanges in it.
    exchanges: u64,
    /// What stands in the lines of `custody decode` that are counted, and its filter.
    ours: &'static str,
    /// Display filter and field of tshark; it prints the field as often as there are messages.
    theirs: (&'static str, &'static str),
    /// What stands in the value of that field where it is counted.
    counts: &'static str,
}

const LOADS: [Load; 3] = [
    Load {
        name: "postgresql",
        file: "pg_tpcb_ext_small.pcap",
        exchanges: 8400,
        ours: "db.postgresql.message = Execute",
        theirs: ("pgsql", "pgsql.type"),
        counts: "Execute",
    },
    Load {
        name: "http",
        file: "http_small.pcap",
        exchanges: 7983,
        ours: "http.response.status_code = 200",
        theirs: ("http.response", "http.response.code"),
        counts: "200",
    },
    Load {
        name: "redis",
        file: "redis_p16_small.pcap",
        exchanges: 30_002,
        ours: "db.system.name = redis and type = exchange",
        theirs: ("resp", "resp.array.length"),
        counts: "",
    },
];

/// The capture is repeated until it is so long.
const BYTES_MIN: usize = 48 << 20;

const COLUMNS: [Column; 5] = [
    Column { name: "user_cpu", unit: "s", better: Better::Lower },
    Column { name: "speed", unit: "MB/s", better: Better::Higher },
    Column { name: "exchanges", unit: "1/s", better: Better::Higher },
    Column { name: "memory", unit: "MiB", better: Better::Lower },
    Column { name: "cpu_to_ours", unit: "×", better: Better::None },
];

/// Measures.
pub(super) fn run(root: &Path, options: &Common) -> Result<()> {
    setup::packages(&[setup::BENCH_DECODE], options.yes)?;
    setup::run(setup::cargo().args(["build", "--release", "-p", "custody"]))?;
    let corpus =
        std::env::var_os("CUSTODY_CORPUS").map_or_else(|| root.join("../shared/corpus"), PathBuf::from);
    let made = corpus.join("made");
    ensure!(made.is_dir(), "{} is no corpus of captures: set CUSTODY_CORPUS", corpus.display());
    let folder = root.join("target/bench/captures");
    std::fs::create_dir_all(&folder)?;
    let mut results = Results::new("decode", &COLUMNS);
    for load in LOADS {
        let (file, copies) = enlarged(&made.join(load.file), &folder.join(load.file))?;
        let megabytes = std::fs::metadata(&file)?.len() as f64 / 1e6;
        let exchanges = load.exchanges * copies;
        let readers = readers(root, &load, &file);
        let ours = format!("{} custody", load.name);
        for round in 0..options.rounds {
            for (reader, words, counts) in &readers {
                eprintln!("{}: round {} of {}, {reader}", load.name, round + 1, options.rounds);
                let row = format!("{} {reader}", load.name);
                let run = measure(words, *counts)?;
                if let Some(count) = run.count
                    && let Err(why) = agree(&BTreeMap::from([(*reader, count)]), exchanges)
                {
                    results.refuse(&row, why);
                    continue;
                }
                let rate = if run.count.is_some() { exchanges as f64 / run.user_s } else { f64::NAN };
                results.sample(&row, &[run.user_s, megabytes / run.user_s, rate, run.peak_mib, f64::NAN]);
            }
        }
        results.ratio(4, 0, &ours, |row| row.starts_with(load.name));
        std::fs::remove_file(&file)?;
    }
    results.tell(root, options)
}

/// Name, command, and what is counted in its lines.
type Reader<'a> = (&'static str, Vec<String>, Option<&'a str>);

fn readers<'a>(root: &Path, load: &Load, file: &Path) -> Vec<Reader<'a>>
where
    'static: 'a,
{
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    let file = file.display().to_string();
    let program = root.join("target/release/custody").display().to_string();
    let ours = words(&[&program, "decode", "-o", "json", "--where", load.ours, &file]);
    let fields = ["-T", "fields", "-e", "frame.number", "-e", load.theirs.1, "-E", "occurrence=a"];
    let tshark = [words(&["tshark", "-n", "-r", &file, "-Y", load.theirs.0]), words(&fields)].concat();
    vec![
        ("custody", ours, Some("")),
        ("tshark", tshark, Some(load.counts).filter(|counts| !counts.is_empty())),
        ("tcpdump", words(&["tcpdump", "-r", &file, "-w", "/dev/null"]), None),
    ]
}

/// What one run took.
struct Run {
    user_s: f64,
    peak_mib: f64,
    count: Option<u64>,
}

/// Runs a reader, and counts in its lines: how often the word stands there, or the lines themselves.
fn measure(words: &[String], counts: Option<&str>) -> Result<Run> {
    let (program, arguments) = words.split_first().context("a command has a word")?;
    let mut child =
        Command::new(program).args(arguments).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
    let pid = child.id();
    let output = BufReader::with_capacity(1 << 20, child.stdout.take().context("its output")?);
    // Reads in a thread of its own, so that the peak is seen while it runs.
    let word = counts.map(str::to_owned);
    let counter = std::thread::spawn(move || -> std::io::Result<u64> {
        let mut count = 0;
        for line in output.split(b'\n') {
            let line = line?;
            count += match &word {
                Some(word) if !word.is_empty() => {
                    // Behind the frame's number, in whose digits a status may stand.
                    let field = line.split(|byte| *byte == b'\t').nth(1).unwrap_or_default();
                    String::from_utf8_lossy(field).matches(word.as_str()).count() as u64
                }
                _ => 1,
            };
        }
        Ok(count)
    });
    let mut peak: f64 = 0.0;
    // A process that has ended keeps its times until it is waited for, and no memory.
    while !is_over(pid)? {
        peak = peak.max(memory_mib(pid, "VmHWM"));
        std::thread::sleep(Duration::from_millis(5));
    }
    let user_s = cpu_ticks(pid, 11..12)? as f64 / 100.0;
    let count = counter.join().map_err(|_| anyhow::anyhow!("the counter panicked"))??;
    let status = child.wait()?;
    // Where lines are counted, they say whether something is missing: `custody decode` has a code for it.
    let is_told = counts.is_some() && matches!(status.code(), Some(1 | 4));
    if !status.success() && !is_told {
        bail!("{} ended with {status}", words.join(" "));
    }
    Ok(Run { user_s, peak_mib: peak, count: counts.map(|_| count) })
}

fn is_over(pid: u32) -> Result<bool> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    Ok(stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('Z')))
}

/// The capture so many times in one file, each copy between other addresses and later than the one before.
fn enlarged(from: &Path, to: &Path) -> Result<(PathBuf, u64)> {
    const HEADER: usize = 24;
    let one = std::fs::read(from).with_context(|| from.display().to_string())?;
    ensure!(one.starts_with(&0xa1b2_c3d4u32.to_le_bytes()), "{}: no little-endian pcap", from.display());
    let copies = BYTES_MIN.div_ceil(one.len());
    ensure!(copies < 200, "{}: too short to be repeated", from.display());
    let mut all = one[..HEADER].to_vec();
    for copy in 0..copies {
        let mut rest = &one[HEADER..];
        while let Some((head, after)) = rest.split_at_checked(16) {
            let number = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
            let (packet, after) =
                after.split_at_checked(number(8) as usize).context("a packet that is cut off")?;
            rest = after;
            all.extend_from_slice(&(number(0) + 3600 * copy as u32).to_le_bytes());
            all.extend_from_slice(&head[4..]);
            let begin = all.len();
            all.extend_from_slice(packet);
            readdress(&mut all[begin..], copy as u8);
        }
    }
    std::fs::write(to, all)?;
    Ok((to.to_owned(), copies as u64))
}

/// Ethernet and IPv4: both addresses get another third byte, and the header its checksum.
fn readdress(packet: &mut [u8], copy: u8) {
    const ETHERNET: usize = 14;
    if packet.get(12..14) != Some(&[8, 0]) || packet.len() < ETHERNET + 20 {
        return;
    }
    let header = &mut packet[ETHERNET..ETHERNET + 20];
    header[14] = copy;
    header[18] = copy;
    header[10..12].fill(0);
    let sum: u32 = header.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1])).sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    header[10..12].copy_from_slice(&(!(folded as u16 + (folded >> 16) as u16)).to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_copy_has_its_own_addresses_and_a_checksum_that_holds() {
        let mut packet = vec![0; 14 + 20 + 4];
        packet[12] = 8;
        packet[14..34]
            .copy_from_slice(&[0x45, 0, 0, 60, 0x88, 0x47, 0x40, 0, 64, 6, 0, 0, 127, 0, 0, 1, 127, 0, 0, 1]);
        for copy in [0, 7, 199] {
            readdress(&mut packet, copy);
            let header = &packet[14..34];
            let sum: u32 = header.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1])).sum();
            assert_eq!((sum & 0xffff) + (sum >> 16), 0xffff, "copy {copy}");
            assert_eq!((header[14], header[18]), (copy, copy));
        }
    }

    #[test]
    fn a_capture_is_repeated_whole_and_each_copy_is_later() {
        let folder = tempfile::tempdir().expect("a folder");
        let (from, to) = (folder.path().join("one"), folder.path().join("all"));
        let mut one = 0xa1b2_c3d4u32.to_le_bytes().to_vec();
        one.resize(24, 0);
        const PACKET: u32 = 1 << 20;
        for number in [5, 0, PACKET, PACKET] {
            one.extend_from_slice(&number.to_le_bytes());
        }
        one.resize(one.len() + PACKET as usize, 0);
        std::fs::write(&from, &one).expect("written");
        let (_, copies) = enlarged(&from, &to).expect("repeated");
        let all = std::fs::read(&to).expect("read");
        assert_eq!(copies, 48);
        assert_eq!(all.len(), 24 + (one.len() - 24) * 48);
        let second = &all[one.len()..];
        assert_eq!(u32::from_le_bytes([second[0], second[1], second[2], second[3]]), 3605);
    }
}
