//! Where a capture comes from: a file or standard input, plain or compressed, told by content. Shows on a
//! terminal how far a long file is read.

use std::cell::Cell;
use std::fs::File;
use std::io::{self, BufRead, BufReader, IsTerminal, Read};
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail};
use custody_record::text::{count, escape};

const GZIP: [u8; 2] = [0x1f, 0x8b];
const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
/// A file has to be so long for its progress to be shown.
const PROGRESS_BYTES_MIN: u64 = 8 << 20;
const PROGRESS_EVERY: Duration = Duration::from_millis(500);

/// An open file.
pub(super) struct Input {
    name: String,
    reader: Box<dyn Read>,
    packed: bool,
    live: bool,
    progress: Option<Progress>,
}

struct Progress {
    read: Rc<Cell<u64>>,
    bytes: u64,
    shown: Instant,
    on_screen: bool,
}

impl Input {
    pub(super) fn open(path: &Path) -> anyhow::Result<Self> {
        let live = path.as_os_str() == "-";
        let (name, raw, bytes): (_, Box<dyn Read>, _) = if live {
            ("stdin".to_owned(), Box::new(io::stdin().lock()), 0)
        } else {
            let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
            let facts = file.metadata().with_context(|| format!("cannot read {}", path.display()))?;
            if facts.is_dir() {
                bail!("{} is a folder: decode takes one capture file", path.display());
            }
            let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
            (name, Box::new(file), facts.len())
        };
        let read = Rc::new(Cell::new(0));
        let mut raw = BufReader::with_capacity(128 << 10, Counted { inner: raw, read: Rc::clone(&read) });
        let head = raw.fill_buf().with_context(|| format!("cannot read {name}"))?;
        let (gzip, zstd) = (head.starts_with(&GZIP), head.starts_with(&ZSTD));
        let reader: Box<dyn Read> = if gzip {
            Box::new(flate2::bufread::MultiGzDecoder::new(raw))
        } else if zstd {
            Box::new(zstd::stream::read::Decoder::with_buffer(raw)?)
        } else {
            Box::new(raw)
        };
        // On one terminal progress would stand between the lines.
        let wanted = bytes >= PROGRESS_BYTES_MIN && io::stderr().is_terminal() && !io::stdout().is_terminal();
        let progress = wanted.then(|| Progress { read, bytes, shown: Instant::now(), on_screen: false });
        Ok(Input { name, reader, packed: gzip || zstd, live, progress })
    }

    /// The last part of its name.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn is_no_capture(&self) -> anyhow::Error {
        anyhow!(
            "{} is no capture file: by its first bytes it is neither pcap nor pcapng nor a .cap text",
            self.name
        )
    }

    /// Reads until there are so many bytes or the file is over; how many came. What came before an error is handed
    /// out first.
    pub(super) fn read(&mut self, buffer: &mut [u8], least: usize) -> anyhow::Result<usize> {
        let mut filled = 0;
        while filled < least.max(1).min(buffer.len()) {
            match self.reader.read(&mut buffer[filled..]) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) if filled > 0 => break,
                Err(error) => {
                    let doing = if self.packed { "unpack" } else { "read" };
                    return Err(anyhow::Error::new(error).context(format!("cannot {doing} {}", self.name)));
                }
            }
        }
        Ok(filled)
    }

    /// Somebody may be writing it: what was read is to be shown before more is waited for.
    pub(super) fn is_live(&self) -> bool {
        self.live
    }

    /// All that is left, behind what was read of it.
    pub(super) fn rest(&mut self, mut head: Vec<u8>, bytes_max: usize) -> anyhow::Result<Vec<u8>> {
        let left = (bytes_max + 1).saturating_sub(head.len()) as u64;
        self.reader.by_ref().take(left).read_to_end(&mut head)?;
        if head.len() > bytes_max {
            bail!("{} is longer than the {bytes_max} bytes that a .cap text may have", self.name);
        }
        Ok(head)
    }

    pub(super) fn show_progress(&mut self) {
        let Some(progress) = &mut self.progress else { return };
        if progress.shown.elapsed() < PROGRESS_EVERY {
            return;
        }
        progress.shown = Instant::now();
        progress.on_screen = true;
        let (read, bytes) = (progress.read.get(), progress.bytes);
        let percent = read.saturating_mul(100) / bytes.max(1);
        eprint!("\r{}: {percent:3} %, {} of {} bytes", escape(&self.name), count(read), count(bytes));
    }

    pub(super) fn end_progress(&mut self) {
        if self.progress.take().is_some_and(|progress| progress.on_screen) {
            eprint!("\r\x1b[K");
        }
    }
}

struct Counted<R> {
    inner: R,
    read: Rc<Cell<u64>>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.read.set(self.read.get() + read as u64);
        Ok(read)
    }
}
