//! What was promised, in the test's own words: every receipt that came, compared with what the segments hold. It knows
//! the format of files and batches, and asks neither index nor verifier.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use custody_ledger::retention::BatchMeta;
use custody_ledger::segment::{Reader, Record, RecordKind};
use custody_ledger::tlog::Witness;
use custody_ledger::{Batch, Hash, HostId, SignedReceipt, tree};

/// Host, epoch and number of a batch.
pub(crate) type Place = (HostId, u64, u64);

/// Every frame that was ever sent, by its place and its hash, those of them that a receipt came for, and the checkpoints
/// that hosts kept.
#[derive(Clone, Debug, Default)]
pub(crate) struct Oracle {
    /// With the hash of what is left of it when its bodies have expired.
    sent: BTreeMap<(Place, Hash), Hash>,
    /// The receipt, and how long the log of calls was when it came.
    promised: BTreeMap<(Place, Hash), (SignedReceipt, usize)>,
    /// Another receipt came for a batch that had one.
    changed: usize,
    kept: Vec<(Witness, usize)>,
    /// The log of calls, where there is one.
    pub(crate) calls: Option<PathBuf>,
}

/// What differs.
#[derive(Debug, Default, PartialEq, Eq)]
struct Difference {
    lost: usize,
    invented: usize,
    changed: usize,
}

/// Where a frame belongs, and which it is.
fn named(frame: &[u8]) -> (Place, Hash) {
    let (header, position) = Batch::decode_header(frame).unwrap();
    ((header.host, position.epoch.counter, position.number.0), tree::hash_of(frame))
}

/// Every record of a store, in order. A torn tail of a segment holds nothing.
pub(crate) fn records(state: &Path) -> impl Iterator<Item = Record> {
    let mut names: Vec<_> =
        std::fs::read_dir(state.join("segments")).unwrap().map(|item| item.unwrap().path()).collect();
    names.retain(|path| path.extension().is_some_and(|extension| extension == "seg"));
    names.sort();
    names.into_iter().flat_map(|path| {
        let file = std::io::BufReader::new(std::fs::File::open(path).unwrap());
        Reader::open(file).into_iter().flatten().map_while(Result::ok)
    })
}

impl Oracle {
    pub(crate) fn sends(&mut self, frame: &[u8]) {
        let left = Batch::decode(frame).unwrap().redacted(|_| true);
        self.sent.insert(named(frame), tree::hash_of(&left));
    }

    pub(crate) fn promised(&mut self, frame: &[u8], receipt: &SignedReceipt) {
        let moment = self.moment();
        let (first, _) = self.promised.entry(named(frame)).or_insert_with(|| (receipt.clone(), moment));
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

    /// Each batch that was acknowledged is there once and as it was sent, with the receipt that was given, none is there
    /// that nobody sent, and none has two receipts.
    pub(crate) fn compare(&self, state: &Path) -> Result<(), String> {
        let mut stored: BTreeMap<Place, Hash> = BTreeMap::new();
        let mut difference = Difference { changed: self.changed, ..Difference::default() };
        for record in records(state).filter(|record| record.kind == RecordKind::Batch) {
            let meta = BatchMeta::of(&record).ok();
            let (place, hash) = named(&record.payload);
            let came_as = meta.as_ref().and_then(|meta| meta.content);
            let named = (place, came_as.unwrap_or(hash));
            let left = self.sent.get(&named);
            let is_sent = left.is_some_and(|left| came_as.is_none() || *left == hash);
            let is_first = stored.insert(named.0, named.1).is_none();
            difference.invented += usize::from(!is_sent || !is_first);
            // The receipt that was given is the one that stands there.
            let given = self.promised.get(&named).map(|(receipt, _)| receipt);
            let kept = meta.map(BatchMeta::receipt);
            difference.changed += usize::from(given.is_some_and(|given| kept.as_ref() != Some(given)));
        }
        let is_lost = |(place, hash): &&(Place, Hash)| stored.get(place) != Some(hash);
        difference.lost = self.promised.keys().filter(is_lost).count();
        if difference == Difference::default() { Ok(()) } else { Err(format!("{difference:?}")) }
    }
}
