//! The corpus: where it lies, what a capture says to us, what the second reader says of it.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use custody_decoders::event::{Event, SocketId};
use custody_decoders::pcap::{Capture, CaptureOptions};
use custody_decoders::pipeline::{Pipeline, PipelineOptions};
use custody_record::{Record, Value, names};

/// What any capture of the corpus may hold at once.
const HELD_BYTES_MAX: usize = 16 << 20;

/// The corpus: `CUSTODY_CORPUS`, else beside the repository. `None`, said loudly, where there is none.
pub(crate) fn corpus() -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/corpus");
    let path = std::env::var_os("CUSTODY_CORPUS").map_or(beside, PathBuf::from);
    if path.is_dir() {
        return Some(path);
    }
    assert!(std::env::var_os("CI").is_none(), "the corpus of captures is missing: set CUSTODY_CORPUS");
    eprintln!("SKIPPED: no corpus of captures; set CUSTODY_CORPUS to compare with the second reader");
    None
}

pub(crate) fn captures(corpus: &Path, folder: &str) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(corpus.join(folder))
        .unwrap_or_else(|error| panic!("folder {folder} of the corpus: {error}"))
        .map(|entry| entry.expect("folder entry").path())
        .collect();
    files.sort();
    files
}

pub(crate) fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// What a capture holds, as far as we read it.
#[derive(Default)]
pub(crate) struct Decoded {
    pub(crate) records: Vec<Record>,
    /// It is damaged: what stands before the damage is told.
    pub(crate) damaged: bool,
    /// Of each connection the bytes of both directions, without holes, and how many are missing.
    pub(crate) bytes: BTreeMap<Stream, ([Vec<u8>; 2], u64)>,
    sockets: BTreeMap<SocketId, Stream>,
}

impl Decoded {
    fn hear(&mut self, event: &Event<'_>) {
        match event {
            Event::Open(socket) => {
                if let (Some(local), Some(remote)) = (socket.local, socket.remote) {
                    self.sockets.insert(socket.id, stream(local.port.into(), remote.port.into()));
                }
            }
            Event::Chunk(chunk) => {
                let stream = self.sockets[&chunk.socket];
                self.bytes.entry(stream).or_default().0[chunk.flow as usize].extend_from_slice(chunk.bytes);
            }
            Event::Hole(hole) => {
                let stream = self.sockets[&hole.socket];
                self.bytes.entry(stream).or_default().1 += hole.length;
            }
            _ => {}
        }
    }
}

/// Decodes a capture: no decoder panicked, and memory was bounded.
pub(crate) fn decode(path: &Path) -> Decoded {
    let mut file = std::fs::read(path).expect("capture");
    if file.starts_with(&[0x1f, 0x8b]) {
        let mut plain = Vec::new();
        flate2::read::MultiGzDecoder::new(file.as_slice()).read_to_end(&mut plain).expect("gzip");
        file = plain;
    }
    let mut pipeline = Pipeline::new(PipelineOptions::default());
    let (mut records, mut decoded, mut held_bytes) = (Vec::new(), Decoded::default(), 0);
    let mut capture = Capture::new(CaptureOptions::default());
    let mut hear = |event: Event<'_>| {
        decoded.hear(&event);
        pipeline.feed(event, &mut |masked| records.push(masked.get().clone()));
        held_bytes = held_bytes.max(pipeline.held_bytes());
    };
    let read = capture.push(&file, &mut hear).and(capture.finish(&mut hear));
    pipeline.finish(&mut |masked| records.push(masked.get().clone()));
    let name = path.display();
    if let Err(damage) = &read {
        println!("    {name}: {damage}");
    }
    assert_eq!((pipeline.sessions_open(), pipeline.held_bytes()), (0, 0), "{name}");
    assert!(held_bytes < HELD_BYTES_MAX, "{name}: held {held_bytes} bytes");
    let panicked = records.iter().any(|record| record.anomalies.contains(&"decoder_panicked".into()));
    assert!(!panicked, "{name}: a decoder panicked");
    Decoded { records, damaged: read.is_err(), ..decoded }
}

/// Ports of a connection, the lower one first: what both readers know of it.
pub(crate) type Stream = (u64, u64);

fn stream(one: u64, other: u64) -> Stream {
    (one.min(other), one.max(other))
}

pub(crate) fn stream_of(record: &Record) -> Stream {
    stream(number(record, names::CLIENT_PORT), number(record, names::SERVER_PORT))
}

/// A row of the second reader: one value.
pub(crate) struct Row {
    pub(crate) frame: u64,
    pub(crate) stream: Stream,
    pub(crate) from_port: u64,
    pub(crate) field: String,
    pub(crate) value: String,
}

/// What the second reader says of a capture; `None` where it was not asked.
pub(crate) fn rows(corpus: &Path, folder: &str, file: &Path) -> Option<Vec<Row>> {
    let table =
        std::fs::read_to_string(corpus.join(format!("oracle/{folder}__{}.tsv", file_name(file)))).ok()?;
    let row = |line: &str| {
        let columns: Vec<&str> = line.split('\t').collect();
        let [frame, _, from, to, _, field, value] = columns[..] else { return None };
        let from_port = from.parse().ok()?;
        Some(Row {
            frame: frame.parse().ok()?,
            stream: stream(from_port, to.parse().ok()?),
            from_port,
            field: field.to_owned(),
            // Tab, newline and return are escaped.
            value: value.replace("\\t", "\t").replace("\\n", "\n").replace("\\r", "\r"),
        })
    };
    let lines = table.lines().skip(1).filter(|line| !line.is_empty());
    Some(lines.map(|line| row(line).unwrap_or_else(|| panic!("{}: {line:?}", file.display()))).collect())
}

pub(crate) fn text(record: &Record, name: &str) -> Option<String> {
    match record.fields.get(name)? {
        Value::Text(text) => Some(text.clone()),
        Value::Unsigned(number) => Some(number.to_string()),
        _ => None,
    }
}

pub(crate) fn number(record: &Record, name: &str) -> u64 {
    match record.fields.get(name) {
        Some(Value::Unsigned(number)) => *number,
        _ => 0,
    }
}
