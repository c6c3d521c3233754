//! Where text goes: standard output, whose reader may go away at any time, with or without colours and a width.

use std::io::{self, IsTerminal, Write};

use custody_record::View;
use custody_record::text::Palette;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::Serialize;

use crate::args::{Color, Format, OutputArgs};
use crate::json;
use crate::outcome::Failure;

/// How to render.
#[derive(Clone, Debug)]
pub(crate) struct Style {
    pub(crate) palette: Palette,
    /// Columns of the terminal; `None` when lines are not to be cut.
    pub(crate) columns: Option<usize>,
    pub(crate) zone: TimeZone,
    pub(crate) wide: bool,
    /// What "open 13m" counts from, Unix ns.
    pub(crate) now: i64,
}

impl Style {
    pub(crate) fn of(arguments: &OutputArgs) -> Self {
        let terminal = io::stdout().is_terminal();
        let colours = match arguments.color {
            Color::Always => true,
            Color::Never => false,
            Color::Auto => terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()),
        };
        let wide = arguments.format == Format::Wide;
        let size = rustix::termios::tcgetwinsize(io::stdout()).ok();
        let columns =
            size.map(|size| usize::from(size.ws_col)).filter(|columns| terminal && !wide && *columns >= 60);
        let zone = if arguments.utc { TimeZone::UTC } else { TimeZone::system() };
        Style { palette: Palette { colours }, columns, zone, wide, now: now() }
    }

    /// `03:12:07.118`
    pub(crate) fn clock(&self, unix_ns: i64) -> String {
        self.format(unix_ns, "%H:%M:%S%.3f")
    }

    /// `2026-01-31 03:12:07.118`
    pub(crate) fn date(&self, unix_ns: i64) -> String {
        self.format(unix_ns, "%Y-%m-%d %H:%M:%S%.3f")
    }

    /// `2026-01-31`
    pub(crate) fn day(&self, unix_ns: i64) -> String {
        self.format(unix_ns, "%Y-%m-%d")
    }

    fn format(&self, unix_ns: i64, pattern: &str) -> String {
        match Timestamp::from_nanosecond(unix_ns.into()) {
            Ok(time) => time.to_zoned(self.zone.clone()).strftime(pattern).to_string(),
            Err(_) => "no time".to_owned(),
        }
    }
}

/// Unix ns now.
pub(crate) fn now() -> i64 {
    i64::try_from(Timestamp::now().as_nanosecond()).unwrap_or(i64::MAX)
}

/// Standard output, line by line.
pub(crate) struct Lines {
    out: io::BufWriter<io::StdoutLock<'static>>,
    line: Vec<u8>,
}

impl Lines {
    pub(crate) fn new() -> Self {
        Lines { out: io::BufWriter::with_capacity(64 << 10, io::stdout().lock()), line: Vec::new() }
    }

    pub(crate) fn put(&mut self, line: &str) -> Result<(), Failure> {
        writeln!(self.out, "{line}").map_err(gone)
    }

    /// An entry as a line of JSON.
    pub(crate) fn view(&mut self, view: &View) -> Result<(), Failure> {
        self.line.clear();
        json::view(view, &mut self.line);
        self.line.push(b'\n');
        self.out.write_all(&self.line).map_err(gone)
    }

    pub(crate) fn json(&mut self, value: &impl Serialize) -> Result<(), Failure> {
        let line = serde_json::to_string(value).map_err(|error| gone(error.into()))?;
        self.put(&custody_record::text::escape_json(&line))
    }

    pub(crate) fn flush(&mut self) -> Result<(), Failure> {
        self.out.flush().map_err(gone)
    }
}

fn gone(error: io::Error) -> Failure {
    if error.kind() == io::ErrorKind::BrokenPipe {
        return Failure::ReaderGone;
    }
    Failure::usage(anyhow::Error::new(error).context("cannot write the output"))
}
