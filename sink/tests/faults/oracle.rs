//! What was promised, in the test's own words: every receipt that came, compared with what the segments hold. It knows
//! the format of files and batches, and asks neither index nor verifier.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use custody_ledger::retention::BatchMeta;
use custody_ledger::segment::{Reader, Record, RecordKind};
use custody_ledger::tlog::Witness;
use custody_ledger::{Batch, HostId, SignedReceipt, tree};

/// Every frame that was ever sent, those of them that a receipt came for, and the checkpoints that hosts kept.
#[derive(Clone, Debug, Default)]
pub(crate) struct Oracle {
    sent: BTreeMap<(HostId, u64, u64), Vec<u8>>,
    /// The receipt, and how long the log of calls was when it came.
    promised: BTreeMap<(HostId, u64, u64), (SignedReceipt, usize)>,
    /// Another receipt came for a batch that had one.
    changed: usize,
    kept: Vec<(Witness, usize)>,
    /// The log of calls, where there is one.
    pub(crate) calls: Option<PathBuf>,
}

/// Whether a record is what was sent, or what is left of that when its bodies have expired.
fn is_left_of(record: &Record, sent: &[u8]) -> bool {
    match BatchMeta::of(record).unwrap().content {
        None => record.payload == sent,
        Some(content) => {
            let without = Batch::decode(sent).unwrap().redacted(|_| true);
            record.payload == without && content == tree::hash_of(sent)
        }
    }
}

/// What differs.
#[derive(Debug, Default, PartialEq, Eq)]
struct Difference {
    lost: usize,
    invented: usize,
    changed: usize,
}

fn place(frame: &[u8]) -> (HostId, u64, u64) {
    let (header, position) = Batch::decode_header(frame).unwrap();
    (header.host, position.epoch.counter, position.number.0)
}

impl Oracle {
    pub(crate) fn sends(&mut self, frame: &[u8]) {
        self.sent.insert(place(frame), frame.to_vec());
    }

    pub(crate) fn promised(&mut self, frame: &[u8], receipt: &SignedReceipt) {
        let moment = self.moment();
        let (first, _) = self.promised.entry(place(frame)).or_insert_with(|| (receipt.clone(), moment));
        self.changed += usize::from(first != receipt);
    }

    pub(crate) fn keeps(&mut self, witness: Witness) {
        let moment = self.moment();
        self.kept.push((witness, moment));
    }

    /// The checkpoint that hosts go on from.
    pub(crate) fn witness(&self) -> Option<&Witness> {
        self.kept.last().map(|(witness, _)| witness)
    }

    fn moment(&self) -> usize {
        let calls = self.calls.as_ref().and_then(|path| std::fs::metadata(path).ok());
        calls.map_or(0, |facts| facts.len() as usize)
    }

    /// What was promised before the call that ends there in the log was the last one.
    pub(crate) fn until(&self, end: usize) -> Oracle {
        let mut before = Oracle { calls: None, ..self.clone() };
        before.promised.retain(|_, (_, moment)| *moment <= end);
        before.kept.retain(|(_, moment)| *moment <= end);
        before
    }

    pub(crate) fn receipts(&self) -> usize {
        self.promised.len()
    }

    /// Each batch that was acknowledged is there once and as it was sent, none is there that nobody sent, and none has
    /// two receipts. A torn tail of the newest segment holds nothing.
    pub(crate) fn compare(&self, state: &Path) -> Result<(), String> {
        let mut names: Vec<_> =
            std::fs::read_dir(state.join("segments")).unwrap().map(|item| item.unwrap().path()).collect();
        names.retain(|path| path.extension().is_some_and(|extension| extension == "seg"));
        names.sort();
        let mut stored: BTreeMap<(HostId, u64, u64), Vec<u8>> = BTreeMap::new();
        let mut difference = Difference { changed: self.changed, ..Difference::default() };
        for path in names {
            let bytes = std::fs::read(path).unwrap();
            for record in Reader::open(bytes.as_slice()).into_iter().flatten().map_while(Result::ok) {
                if record.kind != RecordKind::Batch {
                    continue;
                }
                let place = place(&record.payload);
                let is_sent = self.sent.get(&place).is_some_and(|sent| is_left_of(&record, sent));
                let is_first = stored.insert(place, record.payload).is_none();
                difference.invented += usize::from(!is_sent || !is_first);
            }
        }
        difference.lost = self.promised.keys().filter(|place| !stored.contains_key(*place)).count();
        if difference == Difference::default() { Ok(()) } else { Err(format!("{difference:?}")) }
    }
}
