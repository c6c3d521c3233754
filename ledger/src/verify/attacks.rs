//! Attacks that must be rejected, each first shown to pass when the one check that stops it is left out.

use super::Check;

thread_local! {
    static LEFT_OUT: std::cell::RefCell<Vec<Check>> = const { std::cell::RefCell::new(Vec::new()) };
}

pub(super) fn is_left_out(check: Check) -> bool {
    LEFT_OUT.with_borrow(|left_out| left_out.contains(&check))
}

use std::collections::BTreeMap;

use super::{HostReport, Verdict, Verifier};
use crate::{BootId, Chain, Draft, EntryType, HostId, HostKey, SignedBatch};

const HOST: HostId = HostId::from_bytes([7; 16]);

fn draft(entry_type: EntryType, body: &[u8]) -> Draft<'_> {
    Draft { entry_type, first_ns: 1, last_ns: 2, wall_ns: 3, session: None, body, sealed: None }
}

fn epoch(key: &HostKey, counter: u64, resume: Option<crate::Resume>, batches: usize) -> Vec<SignedBatch> {
    let mut chain = Chain::start(key, HOST, BootId([1; 16]), counter, resume).unwrap();
    let close = |chain: &mut Chain| chain.close_batch(BTreeMap::new(), None).unwrap();
    (0..batches)
        .map(|batch| {
            for entry in 0..3 {
                chain
                    .append(&draft(EntryType::Exchange, format!("body {batch} {entry}").as_bytes()))
                    .unwrap();
            }
            close(&mut chain)
        })
        .collect()
}

fn verify<'a>(key: &HostKey, frames: impl IntoIterator<Item = &'a [u8]>) -> HostReport {
    let mut verifier = Verifier::new(HOST, key.public());
    frames.into_iter().for_each(|frame| verifier.batch(frame));
    verifier.finish()
}

#[test]
fn an_honest_chain_over_two_epochs_is_verified() {
    let (key, _) = HostKey::generate().unwrap();
    let first = epoch(&key, 1, None, 3);
    let resume = crate::Resume { local: first.last().map(|batch| batch.position), ..Default::default() };
    let second = epoch(&key, 2, Some(resume), 2);
    let report = verify(&key, first.iter().chain(&second).map(|batch| batch.frame.as_slice()));
    assert_eq!(report.faults, []);
    assert_eq!(report.findings, []);
    assert_eq!((report.verdict(), report.batches(), report.entries()), (Verdict::Verified, 5, 15));
}
