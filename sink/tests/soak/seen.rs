//! What went over the lines: each frame that was sent, each receipt, proof and refusal that was given, whether or not it
//! came to the host. Belongs to no part of the product.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use custody_ledger::wire::{self, AppendResponse, CommittedResponse, RefusalCode};
use custody_ledger::{Batch, Hash, HostId};

use crate::oracle::{Oracle, Place};

/// All of it.
#[derive(Default)]
pub(crate) struct Seen {
    /// Frames and `stored` receipts.
    pub(crate) oracle: Oracle,
    /// `committed` receipts: the batch's hash and its leaf's index.
    pub(crate) committed: BTreeMap<Place, (Hash, u64)>,
    /// A batch was said to be at two places of the log, or another one at its place.
    pub(crate) moved: usize,
    /// Batches that the sink said it holds another one of.
    pub(crate) equivocations: BTreeSet<(Place, Hash)>,
    /// Answers that refused something, by code.
    pub(crate) refusals: BTreeMap<String, usize>,
    /// The newest epoch of each host of which a batch was acknowledged.
    pub(crate) epochs: BTreeMap<HostId, u64>,
    /// Batches that were acknowledged, of all answers, repeated ones too.
    pub(crate) answers: usize,
}

impl Seen {
    pub(crate) fn sends(&mut self, body: &[u8]) {
        wire::frames(body).flatten().for_each(|frame| self.oracle.sends(frame));
    }

    pub(crate) fn answered(&mut self, host: HostId, body: &[u8], answer: &[u8]) -> Result<()> {
        // A refusal of whoever asks has another form, and no receipts.
        let Ok(answer) = wire::decode::<AppendResponse>(answer) else { return Ok(()) };
        let mut frames = wire::frames(body).flatten();
        for (receipt, frame) in answer.receipts.iter().zip(frames.by_ref()) {
            self.oracle.promised(frame, receipt);
            let epoch = Batch::decode_header(frame)?.1.epoch.counter;
            let newest = self.epochs.entry(host).or_default();
            *newest = epoch.max(*newest);
            self.answers += 1;
        }
        if let Some(refusal) = answer.refusal {
            *self.refusals.entry(format!("{:?}", refusal.code)).or_default() += 1;
            if let (RefusalCode::Equivocation, Some(frame)) = (refusal.code, frames.next()) {
                let (_, other) = Batch::decode_header(frame)?;
                self.equivocations.insert(((host, other.epoch.counter, other.number.0), other.hash));
            }
        }
        Ok(())
    }

    pub(crate) fn committed(&mut self, host: HostId, answer: &[u8]) -> Result<()> {
        for one in wire::decode::<CommittedResponse>(answer)?.batches {
            let place = (host, one.batch.epoch.counter, one.batch.number.0);
            let now = (one.batch.hash, one.index);
            self.moved += usize::from(*self.committed.entry(place).or_insert(now) != now);
        }
        Ok(())
    }
}
