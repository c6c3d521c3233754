//! What a hostile sink or log can try against a host that watches it (`docs/attacks.md`), each first shown to pass when the
//! one check that stops it is left out.

use super::checkpoint::{CertifiedLogKey, CheckpointError, log_key};
use super::rules::Rule;
use super::text::ProofError;
use super::witness::Alarm;
use super::*;
use crate::ids::{BatchNumber, EpochId, EpochNonce, Hash, Position};
use crate::keys::{LogKey, SinkKey};
use crate::tree;
use crate::verify::{LogDifference, judge_checkpoint};
use crate::wire::{CommittedBatch, CommittedResponse};

mod witnessed;

thread_local! {
    static LEFT_OUT: std::cell::RefCell<Vec<Rule>> = const { std::cell::RefCell::new(Vec::new()) };
}

pub(super) fn is_left_out(rule: Rule) -> bool {
    LEFT_OUT.with_borrow(|left_out| left_out.contains(&rule))
}

/// The attack passes with these checks left out, and is an alarm by the first of them when they are back: the one that its
/// row of `docs/attacks.md` names. Where more are named, the same lie meets them too.
#[track_caller]
fn assert_alarm(name: &str, rules: &[Rule], attack: impl Fn() -> Result<usize, Alarm>) -> Alarm {
    let row = custody_tests::attacks::named(name);
    LEFT_OUT.with_borrow_mut(|left_out| *left_out = rules.to_vec());
    let unguarded = attack();
    LEFT_OUT.with_borrow_mut(Vec::clear);
    assert!(unguarded.is_ok(), "the attack fails for another reason: {unguarded:?}");
    let alarm = attack().unwrap_err();
    assert!(alarm.to_string().contains(row.reads), "{alarm}");
    let seen_by = match rules[0] {
        Rule::Certificate => "certificate",
        Rule::OtherLog => "other log",
        Rule::Origin => "origin",
        Rule::Signature => "log signature",
        Rule::Rollback => "rollback",
        Rule::Fork => "fork",
        Rule::Inclusion => "inclusion",
        Rule::Cosignature => "cosignature",
        Rule::Quorum => "quorum",
        Rule::OneKey => "one key",
        Rule::OwnKey => "own key",
        Rule::WitnessedFork => "witnessed fork",
    };
    assert_eq!(row.seen_by, seen_by);
    alarm
}

/// A sink with a log of numbered leaves, all of one host.
struct Log {
    sink: SinkKey,
    key: LogKey,
    leaves: Vec<Hash>,
    tree: MemoryTree,
}

fn batch(number: u64) -> Position {
    let epoch = EpochId { counter: 1, nonce: EpochNonce([1; 16]) };
    Position { epoch, number: BatchNumber(number), hash: Hash([9; 32]) }
}

impl Log {
    fn with(sink: SinkKey, leaves: impl Iterator<Item = u64>) -> Self {
        let leaves: Vec<Hash> = leaves.map(|leaf| tree::leaf(&leaf.to_be_bytes())).collect();
        let mut tree = MemoryTree::default();
        leaves.iter().for_each(|leaf| tree.push(*leaf));
        Log { sink, key: LogKey::generate().unwrap().0, leaves, tree }
    }

    fn new() -> Self {
        Log::with(SinkKey::generate().unwrap().0, 0..20)
    }

    /// The same sink and key with other leaves.
    fn forked(self, leaves: impl Iterator<Item = u64>) -> Self {
        let Log { sink, key, .. } = self;
        Log { key, ..Log::with(sink, leaves) }
    }

    fn checkpoint(&self, size: u64) -> Checkpoint {
        let origin = log_key(self.key.public()).name().to_owned();
        Checkpoint { origin, size, root: self.tree.root(size).unwrap() }
    }

    /// What an honest sink answers to a host that knows the tree of `held` and waits for these batches.
    fn answer(&self, held: u64, size: u64, batches: &[u64]) -> CommittedResponse {
        let committed = |index: &u64| CommittedBatch {
            batch: batch(*index),
            index: *index,
            proof: proof::inclusion(&self.tree, *index, size).unwrap().unwrap(),
        };
        CommittedResponse {
            log: CertifiedLogKey::certify(&self.sink, self.key.public()),
            checkpoint: self.checkpoint(size).sign(&self.key).to_string(),
            consistency: proof::consistency(&self.tree, held, size).unwrap().unwrap_or_default(),
            batches: batches.iter().map(committed).collect(),
            witnessed: None,
        }
    }

    fn awaited(&self, batches: &[u64]) -> Vec<Awaited> {
        let awaited = |index: &u64| Awaited { batch: batch(*index), leaf: self.leaves[*index as usize] };
        batches.iter().map(awaited).collect()
    }

    fn kept(&self, size: u64) -> Witness {
        Witness::see(None, &self.sink.public(), &self.answer(0, size, &[]), &[]).unwrap().witness
    }

    fn see(&self, kept: &Witness, answer: &CommittedResponse, awaited: &[Awaited]) -> Result<usize, Alarm> {
        Witness::see(Some(kept), &self.sink.public(), answer, awaited).map(|seen| seen.committed)
    }
}

#[test]
fn an_honest_log_is_followed_and_its_batches_are_committed() {
    let log = Log::new();
    let kept = log.kept(7);
    let awaited = log.awaited(&[7, 8, 9, 19]);
    assert_eq!(log.see(&kept, &log.answer(7, 20, &[7, 8, 9, 19]), &awaited), Ok(4));
    assert_eq!(log.see(&kept, &log.answer(7, 12, &[7, 8, 9]), &awaited), Ok(3));
    assert_eq!(log.see(&kept, &log.answer(7, 7, &[]), &awaited), Ok(0));
    assert!(kept.is_whole());
}

#[test]
fn a_rolled_back_checkpoint_is_an_alarm() {
    let log = Log::new();
    let kept = log.kept(9);
    let attack = || log.see(&kept, &log.answer(9, 8, &[]), &[]);
    // Who does not mind a smaller tree cannot ask for a proof either.
    let alarm = assert_alarm("a_rolled_back_checkpoint_is_an_alarm", &[Rule::Rollback, Rule::Fork], attack);
    assert_eq!(alarm, Alarm::RolledBack { held: 9, shown: 8 });
}

#[test]
fn a_forked_tree_of_the_same_size_is_an_alarm() {
    let log = Log::new();
    let kept = log.kept(9);
    let forked = log.forked((0..9).map(|leaf| leaf + 100));
    let attack = || forked.see(&kept, &forked.answer(9, 9, &[]), &[]);
    let alarm = assert_alarm("a_forked_tree_of_the_same_size_is_an_alarm", &[Rule::Fork], attack);
    assert_eq!(alarm, Alarm::Forked { held: 9, shown: 9 });
}

#[test]
fn a_longer_tree_that_does_not_go_on_from_the_old_one_is_an_alarm() {
    let log = Log::new();
    let kept = log.kept(9);
    // One leaf of the past is another, all later ones are there.
    let forked = log.forked((0..20).map(|leaf| if leaf == 4 { 99 } else { leaf }));
    let name = "a_longer_tree_that_does_not_go_on_from_the_old_one_is_an_alarm";
    let mut without = forked.answer(9, 20, &[]);
    without.consistency.clear();
    for answer in [forked.answer(9, 20, &[]), without] {
        let alarm = assert_alarm(name, &[Rule::Fork], || forked.see(&kept, &answer, &[]));
        assert_eq!(alarm, Alarm::Forked { held: 9, shown: 20 });
    }
}

#[test]
fn a_receipt_for_a_batch_that_is_not_in_the_tree_is_an_alarm() {
    let log = Log::new();
    let kept = log.kept(9);
    let awaited = [Awaited { batch: batch(10), leaf: tree::leaf(b"another") }];
    let attack = || log.see(&kept, &log.answer(9, 20, &[10]), &awaited);
    let name = "a_receipt_for_a_batch_that_is_not_in_the_tree_is_an_alarm";
    assert_eq!(assert_alarm(name, &[Rule::Inclusion], attack), Alarm::NotInTree { batch: batch(10) });
}

/// The host waits for 7 and 12, and the sink has 8 too: the host came back from an old copy.
#[test]
fn batches_that_the_host_has_forgotten_are_no_alarm() {
    let log = Log::new();
    let kept = log.kept(7);
    assert_eq!(log.see(&kept, &log.answer(7, 20, &[7, 8, 9]), &log.awaited(&[7, 12])), Ok(1));
    let mut other = log.answer(7, 20, &[7]);
    other.batches[0].batch.hash = Hash([8; 32]);
    let alarm = Err(Alarm::NotInTree { batch: batch(7) });
    assert_eq!(log.see(&kept, &other, &log.awaited(&[7])), alarm, "another batch in its place");
}

#[test]
fn a_proof_of_another_leaf_is_an_alarm() {
    let log = Log::new();
    let kept = log.kept(9);
    let awaited = log.awaited(&[10]);
    let mut other = log.answer(9, 20, &[11]);
    other.batches[0].batch = batch(10);
    let mut moved = log.answer(9, 20, &[10]);
    moved.batches[0].index = 12;
    let mut changed = log.answer(9, 20, &[10]);
    changed.batches[0].proof[2].0[0] ^= 1;
    for answer in [other, moved, changed] {
        let attack = || log.see(&kept, &answer, &awaited);
        let alarm = assert_alarm("a_proof_of_another_leaf_is_an_alarm", &[Rule::Inclusion], attack);
        assert_eq!(alarm, Alarm::NotInTree { batch: batch(10) });
    }
}

#[test]
fn a_checkpoint_that_another_key_signed_is_an_alarm() {
    let log = Log::new();
    let kept = log.kept(9);
    let other = LogKey::generate().unwrap().0;
    let mut answer = log.answer(9, 20, &[]);
    answer.checkpoint = log.checkpoint(20).sign(&other).to_string();
    let name = "a_checkpoint_that_another_key_signed_is_an_alarm";
    let alarm = assert_alarm(name, &[Rule::Signature], || log.see(&kept, &answer, &[]));
    assert_eq!(alarm, Alarm::Checkpoint(CheckpointError::Signature));
}

/// With a log of its own, certified by nobody.
#[test]
fn a_log_that_the_sink_did_not_certify_is_an_alarm() {
    let log = Log::new();
    let other_log = Log { sink: SinkKey::generate().unwrap().0, ..Log::new() };
    let answer = other_log.answer(0, 20, &[]);
    let attack = || Witness::see(None, &log.sink.public(), &answer, &[]).map(|seen| seen.committed);
    let alarm = assert_alarm("a_log_that_the_sink_did_not_certify_is_an_alarm", &[Rule::Certificate], attack);
    assert_eq!(alarm, Alarm::Checkpoint(CheckpointError::Certificate));
}

#[test]
fn another_log_of_the_same_sink_is_an_alarm() {
    let log = Log::new();
    let kept = log.kept(9);
    let other = LogKey::generate().unwrap().0;
    let other_log = Log { key: other, ..Log::new() };
    let mut answer = other_log.answer(9, 20, &[]);
    answer.log = CertifiedLogKey::certify(&log.sink, other_log.key.public());
    let attack = || log.see(&kept, &answer, &[]);
    let alarm = assert_alarm("another_log_of_the_same_sink_is_an_alarm", &[Rule::OtherLog], attack);
    assert_eq!(alarm, Alarm::OtherLog);
}

#[test]
fn a_checkpoint_of_a_wrong_origin_is_an_alarm() {
    let log = Log::new();
    let kept = log.kept(9);
    let mut answer = log.answer(9, 20, &[]);
    let elsewhere = Checkpoint { origin: "custody-log/0000000000000000".to_owned(), ..log.checkpoint(20) };
    answer.checkpoint = elsewhere.sign(&log.key).to_string();
    let name = "a_checkpoint_of_a_wrong_origin_is_an_alarm";
    // The name that stands below it is that of the key, as before.
    let alarm = assert_alarm(name, &[Rule::Origin], || log.see(&kept, &answer, &[]));
    assert_eq!(alarm, Alarm::Checkpoint(CheckpointError::Origin));
}

/// What is changed in a checkpoint's text after it was signed is not signed.
#[test]
fn every_flipped_bit_of_a_checkpoint_is_found() {
    let log = Log::new();
    let note = log.checkpoint(20).sign(&log.key).to_string();
    let key = log_key(log.key.public());
    assert!(Checkpoint::open_text(&note, &key).is_ok());
    for bit in 0..note.len() * 8 {
        let mut bytes = note.clone().into_bytes();
        bytes[bit / 8] ^= 1 << (bit % 8);
        let opened = String::from_utf8(bytes).map(|text| Checkpoint::open_text(&text, &key));
        assert!(!matches!(opened, Ok(Ok(_))), "bit {bit}");
    }
}

#[test]
fn a_log_that_is_smaller_than_an_echo_or_has_another_root_there_is_known() {
    let log = Log::new();
    let held = log.checkpoint(12).reference();
    let judge = |held: &CheckpointReference, size: u64| {
        judge_checkpoint(held, &log.checkpoint(1).origin, |at| (at <= size).then(|| log.tree.root(at))?)
    };
    assert_eq!(judge(&held, 20), None);
    assert_eq!(judge(&held, 12), None);
    assert_eq!(judge(&held, 11), Some(LogDifference::Smaller));
    let forked = CheckpointReference { root: Hash([1; 32]), ..held.clone() };
    assert_eq!(judge(&forked, 20), Some(LogDifference::OtherRoot));
    let elsewhere = CheckpointReference { origin: "custody-log/00".to_owned(), ..held };
    assert_eq!(judge(&elsewhere, 20), Some(LogDifference::OtherOrigin));
}

#[test]
fn a_proof_file_proves_its_own_leaf_under_its_own_log_only() {
    let log = Log::new();
    let hashes = proof::inclusion(&log.tree, 5, 20).unwrap().unwrap();
    let proof = InclusionProof { index: 5, hashes, checkpoint: log.checkpoint(20).sign(&log.key) };
    let proof: InclusionProof = proof.to_string().parse().unwrap();
    let key = log_key(log.key.public());
    assert_eq!(proof.verify(&log.leaves[5], &key), Ok(log.checkpoint(20)));
    assert_eq!(proof.verify(&log.leaves[6], &key), Err(ProofError::Inclusion));
    let other = log_key(LogKey::generate().unwrap().0.public());
    assert_eq!(proof.verify(&log.leaves[5], &other), Err(ProofError::Checkpoint(CheckpointError::Origin)));
    let swapped = proof.to_string().replace("index 5\n", "index 4\n");
    assert_eq!(
        swapped.parse::<InclusionProof>().unwrap().verify(&log.leaves[5], &key),
        Err(ProofError::Inclusion)
    );
    for text in [
        "",
        "c2sp.org/tlog-proof@v1\n",
        "c2sp.org/tlog-proof@v2\nindex 0\n\n",
        "c2sp.org/tlog-proof@v1\nindex 00\n\na",
    ] {
        assert!(text.parse::<InclusionProof>().is_err(), "{text:?}");
    }
}
