//! Bundles that must be rejected, each for its reason. Where the bundle's own check stops the attack, it is first shown
//! to pass with that check left out.

use std::collections::BTreeMap;

use super::*;
use crate::batch::Batch;
use crate::segment::{Record, RecordKind};
use crate::statement::{Enrolment, Signed};
use crate::tlog::checkpoint::log_key;
use crate::tlog::{BatchLeaf, Checkpoint, MemoryTree, leaf, proof};
use crate::verify::Check;
use crate::{BootId, Chain, Draft, Echo, EntryType, HostKey, LogKey, SignedBatch, SinkKey, tree};

thread_local! {
    static LEFT_OUT: std::cell::Cell<Option<BundleCheck>> = const { std::cell::Cell::new(None) };
}

pub(super) fn is_left_out(check: BundleCheck) -> bool {
    LEFT_OUT.get() == Some(check)
}

const HOST: HostId = HostId::from_bytes([7; 16]);
const OTHER: HostId = HostId::from_bytes([8; 16]);

/// A sink with two hosts: one with six batches of three entries, the other and a second epoch with two.
struct Stand {
    policy: Policy,
    log: LogKey,
    sink: SinkKey,
    checkpoint: String,
    enrolment: (Vec<u8>, Proof),
    other_enrolment: (Vec<u8>, Proof),
    batches: Vec<(Vec<u8>, Proof)>,
    other: Vec<(Vec<u8>, Proof)>,
    second: Vec<(Vec<u8>, Proof)>,
    epoch: EpochId,
}

fn chain(key: &HostKey, host: HostId, counter: u64, batches: usize) -> (EpochId, Vec<SignedBatch>) {
    let mut chain = Chain::start(key, host, BootId([1; 16]), counter, None).unwrap();
    let made = (0..batches).map(|_| {
        for entry in 0..3 {
            let body = [entry; 9];
            let entry_type = if entry == 1 { EntryType::Gap } else { EntryType::Exchange };
            let draft = Draft {
                entry_type,
                first_ns: 1,
                last_ns: 2,
                wall_ns: 3,
                session: None,
                body: &body,
                sealed: None,
            };
            chain.append(&draft).unwrap();
        }
        chain.close_batch(BTreeMap::new(), Echo::default()).unwrap()
    });
    let made = made.collect();
    (chain.epoch(), made)
}

fn enrol(sink: &SinkKey, host: HostId, key: &HostKey) -> Vec<u8> {
    let enrolment = Enrolment {
        host,
        key: key.public(),
        name: "web-1".to_owned(),
        labels: BTreeMap::new(),
        enrolled_ns: 5,
    };
    Signed::seal(sink, &enrolment).unwrap()
}

fn enrolment_leaf(payload: &[u8]) -> Hash {
    let record = Record {
        kind: RecordKind::Enrolment,
        meta: Vec::new(),
        payload: payload.to_vec(),
        offset: 0,
        length: 0,
    };
    tree::leaf(&leaf::of_record(&record).unwrap())
}

impl Stand {
    fn new() -> Self {
        let (sink, log) = (SinkKey::generate().unwrap().0, LogKey::generate().unwrap().0);
        let (key, other_key) = (HostKey::generate().unwrap().0, HostKey::generate().unwrap().0);
        let enrolments = [enrol(&sink, HOST, &key), enrol(&sink, OTHER, &other_key)];
        let (epoch, first) = chain(&key, HOST, 1, 6);
        let (_, other) = chain(&other_key, OTHER, 1, 2);
        let (_, second) = chain(&key, HOST, 2, 2);
        let mut tree = MemoryTree::default();
        enrolments.iter().for_each(|payload| tree.push(enrolment_leaf(payload)));
        for batch in first.iter().chain(&other).chain(&second) {
            tree.push(BatchLeaf::of_frame(&batch.frame, 1_000).unwrap().hash());
        }
        let place = |index: u64| Proof {
            index,
            received_ns: 0,
            content: Hash::ZERO,
            hashes: proof::inclusion(&tree, index, tree.size()).unwrap().unwrap(),
        };
        let mut index = 2;
        let mut placed = |batches: Vec<SignedBatch>| -> Vec<(Vec<u8>, Proof)> {
            let with_proof = |batch: SignedBatch| {
                let proof =
                    Proof { received_ns: 1_000, content: tree::hash_of(&batch.frame), ..place(index) };
                index += 1;
                (batch.frame, proof)
            };
            batches.into_iter().map(with_proof).collect()
        };
        let (batches, other, second) = (placed(first), placed(other), placed(second));
        let [enrolment, other_enrolment] = enrolments;
        let log_name = log_key(log.public());
        let checkpoint = Checkpoint {
            origin: log_name.name().to_owned(),
            size: tree.size(),
            root: tree.root(tree.size()).unwrap(),
        };
        Stand {
            policy: Policy { sink: sink.public(), log: log_name },
            checkpoint: checkpoint.sign(&log).to_string(),
            enrolment: (enrolment, place(0)),
            other_enrolment: (other_enrolment, place(1)),
            log,
            sink,
            batches,
            other,
            second,
            epoch,
        }
    }

    /// Entries 7 to 13, which lie in batches 2 to 4.
    fn bundle(&self) -> Bundle<'_> {
        let batches = self.batches[2..5].iter().map(|(frame, proof)| (frame.as_slice(), proof.clone()));
        Bundle {
            range: Range { host: HOST, epoch: self.epoch, first: Seq(7), last: Seq(13) },
            checkpoint: &self.checkpoint,
            enrolment: (&self.enrolment.0, self.enrolment.1.clone()),
            way: self.batches[..2].iter().map(|(frame, _)| head_of(frame).unwrap()).collect(),
            batches: batches.collect(),
        }
    }
}

#[track_caller]
fn rejected(bytes: &[u8], policy: &Policy, check: BundleCheck) -> Rejected {
    let rejected = verify(bytes, policy).expect_err("the attack passes");
    assert_eq!(rejected.check, check, "{rejected}");
    rejected
}

/// Rejected for this reason, and accepted without this one check.
#[track_caller]
fn stopped_by(check: BundleCheck, bundle: &Bundle<'_>, policy: &Policy) {
    let bytes = bundle.encode();
    LEFT_OUT.set(Some(check));
    let unguarded = verify(&bytes, policy);
    LEFT_OUT.set(None);
    unguarded.expect("the attack fails for another reason");
    rejected(&bytes, policy, check);
}

#[track_caller]
fn stopped_by_chain(check: Check, bundle: &Bundle<'_>, policy: &Policy) {
    let rejected = rejected(&bundle.encode(), policy, BundleCheck::Chain);
    assert_eq!(rejected.fault.map(|fault| fault.check), Some(check));
}

#[test]
fn an_honest_bundle_is_verified_whole_or_with_bodies_withheld() {
    let stand = Stand::new();
    let report = verify(&stand.bundle().encode(), &stand.policy).unwrap();
    assert_eq!((report.verified, report.withheld, report.gaps, report.around), (7, 0, 3, 2));
    let redacted: Vec<Vec<u8>> = stand.batches[2..5]
        .iter()
        .map(|(frame, _)| Batch::decode(frame).unwrap().redacted(|header| header.seq != Seq(8)))
        .collect();
    let mut bundle = stand.bundle();
    bundle.batches.iter_mut().zip(&redacted).for_each(|(batch, frame)| batch.0 = frame);
    let report = verify(&bundle.encode(), &stand.policy).unwrap();
    assert_eq!((report.verified, report.withheld), (1, 6));
    let policy: Policy = stand.policy.to_string().parse().unwrap();
    assert_eq!(policy, stand.policy);
}

#[test]
fn a_range_that_is_larger_than_what_is_there_is_rejected() {
    let stand = Stand::new();
    for (first, last) in [(5, 13), (7, 15), (13, 7), (0, u64::MAX)] {
        let mut bundle = stand.bundle();
        (bundle.range.first, bundle.range.last) = (Seq(first), Seq(last));
        stopped_by(BundleCheck::Range, &bundle, &stand.policy);
    }
}

#[test]
fn a_first_or_last_batch_that_was_cut_off_is_rejected() {
    let stand = Stand::new();
    let mut bundle = stand.bundle();
    bundle.batches.pop();
    stopped_by(BundleCheck::Range, &bundle, &stand.policy);
    let mut bundle = stand.bundle();
    bundle.batches.remove(0);
    stopped_by_chain(Check::Number, &bundle, &stand.policy);
}

#[test]
fn batches_dropped_swapped_repeated_or_foreign_are_rejected() {
    let stand = Stand::new();
    let mut bundle = stand.bundle();
    bundle.batches.remove(1);
    stopped_by_chain(Check::Number, &bundle, &stand.policy);
    let mut bundle = stand.bundle();
    bundle.batches.swap(1, 2);
    stopped_by_chain(Check::Number, &bundle, &stand.policy);
    let mut bundle = stand.bundle();
    bundle.batches.insert(1, bundle.batches[1].clone());
    stopped_by_chain(Check::Number, &bundle, &stand.policy);
    let mut bundle = stand.bundle();
    bundle.batches[1] = (&stand.other[1].0, stand.other[1].1.clone());
    rejected(&bundle.encode(), &stand.policy, BundleCheck::Epoch);
    let mut bundle = stand.bundle();
    bundle.batches[1] = (&stand.second[1].0, stand.second[1].1.clone());
    rejected(&bundle.encode(), &stand.policy, BundleCheck::Epoch);
}

#[test]
fn an_enrolment_of_another_host_or_sink_is_rejected() {
    let stand = Stand::new();
    let mut bundle = stand.bundle();
    bundle.enrolment = (&stand.other_enrolment.0, stand.other_enrolment.1.clone());
    rejected(&bundle.encode(), &stand.policy, BundleCheck::Host);
    let policy = Policy { sink: SinkKey::generate().unwrap().0.public(), ..stand.policy.clone() };
    stopped_by(BundleCheck::Enrolment, &stand.bundle(), &policy);
    // The sink's owner enrols the host anew with a key of his own, outside the log.
    let forged = enrol(&stand.sink, HOST, &HostKey::generate().unwrap().0);
    let mut bundle = stand.bundle();
    bundle.enrolment.0 = &forged;
    rejected(&bundle.encode(), &stand.policy, BundleCheck::Inclusion);
}

#[test]
fn a_checkpoint_of_another_key_tree_or_size_is_rejected() {
    let stand = Stand::new();
    let policy = Policy { log: log_key(LogKey::generate().unwrap().0.public()), ..stand.policy.clone() };
    rejected(&stand.bundle().encode(), &policy, BundleCheck::Checkpoint);
    let honest = Checkpoint::open_text(&stand.checkpoint, &stand.policy.log).unwrap();
    let other_root = Checkpoint { root: Hash([9; 32]), ..honest.clone() };
    let other_size = Checkpoint { size: 5, ..honest };
    for checkpoint in [other_root, other_size] {
        let note = checkpoint.sign(&stand.log).to_string();
        stopped_by(BundleCheck::Inclusion, &Bundle { checkpoint: &note, ..stand.bundle() }, &stand.policy);
        let note = stand.checkpoint.replace("\n12\n", "\n13\n");
        rejected(
            &Bundle { checkpoint: &note, ..stand.bundle() }.encode(),
            &stand.policy,
            BundleCheck::Checkpoint,
        );
    }
}

#[test]
fn a_proof_of_another_leaf_time_or_content_is_rejected() {
    let stand = Stand::new();
    let changes: [fn(&mut Proof); 4] = [
        |proof| proof.index += 1,
        |proof| proof.received_ns += 1,
        |proof| proof.hashes.truncate(1),
        |proof| proof.hashes[0] = Hash([1; 32]),
    ];
    for change in changes {
        let mut bundle = stand.bundle();
        change(&mut bundle.batches[1].1);
        stopped_by(BundleCheck::Inclusion, &bundle, &stand.policy);
    }
    let mut bundle = stand.bundle();
    bundle.batches[1].1 = bundle.batches[2].1.clone();
    rejected(&bundle.encode(), &stand.policy, BundleCheck::Inclusion);
}

#[test]
fn a_way_of_keys_with_a_hole_or_of_another_epoch_is_rejected() {
    let stand = Stand::new();
    let mut bundle = stand.bundle();
    bundle.way.remove(0);
    rejected(&bundle.encode(), &stand.policy, BundleCheck::Way);
    let mut bundle = stand.bundle();
    bundle.way.pop();
    stopped_by_chain(Check::Number, &bundle, &stand.policy);
    let mut bundle = stand.bundle();
    bundle.way.clear();
    rejected(&bundle.encode(), &stand.policy, BundleCheck::Way);
    let mut bundle = stand.bundle();
    bundle.way = stand.second.iter().map(|(frame, _)| head_of(frame).unwrap()).collect();
    rejected(&bundle.encode(), &stand.policy, BundleCheck::Way);
    let mut bundle = stand.bundle();
    let mut signature = bundle.way[1].to_vec();
    *signature.last_mut().unwrap() ^= 1;
    bundle.way[1] = &signature;
    stopped_by(BundleCheck::Way, &bundle, &stand.policy);
}

#[test]
fn a_changed_body_or_salt_is_rejected_whether_or_not_others_are_withheld() {
    let stand = Stand::new();
    let mut frame = stand.batches[3].0.clone();
    *frame.last_mut().unwrap() ^= 1;
    let mut bundle = stand.bundle();
    bundle.batches[1].0 = &frame;
    rejected(&bundle.encode(), &stand.policy, BundleCheck::Content);
    // A part of its bodies is withheld: only the header's hash speaks.
    let mut frame = Batch::decode(&stand.batches[3].0).unwrap().redacted(|header| header.seq == Seq(9));
    let salt = frame.len() - 9 - 4 - 1;
    for at in [frame.len() - 1, salt] {
        frame[at] ^= 1;
        let mut bundle = stand.bundle();
        bundle.batches[1].0 = &frame;
        stopped_by_chain(Check::Body, &bundle, &stand.policy);
        frame[at] ^= 1;
    }
}

/// Every byte of a bundle is covered: whichever is flipped, and wherever it is cut, it is rejected.
#[test]
fn every_flipped_byte_and_every_cut_is_rejected() {
    let stand = Stand::new();
    let honest = stand.bundle().encode();
    let mut bytes = honest.clone();
    for at in 0..bytes.len() {
        bytes[at] ^= 0x10;
        assert!(verify(&bytes, &stand.policy).is_err(), "byte {at} is covered by nothing");
        bytes[at] ^= 0x10;
    }
    for length in 0..honest.len() {
        rejected(&honest[..length], &stand.policy, BundleCheck::Format);
    }
    rejected(&[honest.as_slice(), b"x"].concat(), &stand.policy, BundleCheck::Format);
}
