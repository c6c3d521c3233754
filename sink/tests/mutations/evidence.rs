//! What of a store is evidence, decided before anything is changed: a change of it must be seen, and nothing else may
//! be called one. Read by the format's own reader, and by no verifier.
//!
//! Evidence are the records of `segments/` in their order, each with kind, meta and payload, and that nothing else
//! stands in these files; of `log/` the checkpoint, the log's key and every tile that was published. Not evidence are:
//!
//! - how records are spread over segment files, and a segment without a record;
//! - how a record is compressed;
//! - that a partial tile of an older size is gone: a newer one begins with it;
//! - a file of `log/` with a name under which nothing was published.

use std::collections::BTreeMap;

use custody_ledger::segment::{Reader, RecordKind, file_number};
use custody_ledger::tlog::Tile;

/// Files of a store by their path below it.
pub(crate) type Files = BTreeMap<String, Vec<u8>>;

/// What must stay.
#[derive(Debug, PartialEq)]
pub(crate) struct Evidence {
    records: Vec<(RecordKind, Vec<u8>, Vec<u8>)>,
    /// Bytes of segment files that are no record.
    strange_bytes: bool,
    log: BTreeMap<String, Vec<u8>>,
}

impl Evidence {
    /// What these files hold of it. `published` names the files of the log that count.
    pub(crate) fn of(files: &Files, published: &Files) -> Self {
        let mut evidence = Evidence { records: Vec::new(), strange_bytes: false, log: BTreeMap::new() };
        let segments = files.iter().filter(|(path, _)| {
            path.strip_prefix("segments/").is_some_and(|name| file_number(name).is_some())
        });
        for (_, bytes) in segments {
            let Ok(reader) = Reader::open(bytes.as_slice()) else {
                evidence.strange_bytes = true;
                continue;
            };
            for record in reader {
                match record {
                    Ok(record) => evidence.records.push((record.kind, record.meta, record.payload)),
                    Err(_) => evidence.strange_bytes = true,
                }
            }
        }
        for path in published.keys().filter(|path| path.starts_with("log/")) {
            let bytes = files.get(path);
            if bytes.is_some() || !is_replaced(path, published) {
                // Gone is another content than any.
                evidence.log.insert(path.clone(), bytes.cloned().unwrap_or_default());
            } else {
                evidence.log.insert(path.clone(), published[path].clone());
            }
        }
        evidence
    }
}

/// A partial tile beside a wider one of its place.
fn is_replaced(path: &str, published: &Files) -> bool {
    let tile = |path: &str| path.strip_prefix("log/").and_then(Tile::parse);
    let Some(own) = tile(path) else { return false };
    let wider = |other: Tile| (other.kind, other.index) == (own.kind, own.index) && other.width > own.width;
    published.keys().filter_map(|path| tile(path)).any(wider)
}
