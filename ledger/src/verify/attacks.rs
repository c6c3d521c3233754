//! Attacks on a host's chain that must be rejected (`docs/attacks.md`), each first shown to pass when the one check that
//! stops it is left out.

use super::Check;

thread_local! {
    static LEFT_OUT: std::cell::RefCell<Vec<Check>> = const { std::cell::RefCell::new(Vec::new()) };
}

pub(super) fn is_left_out(check: Check) -> bool {
    LEFT_OUT.with_borrow(|left_out| left_out.contains(&check))
}

use std::collections::BTreeMap;

use super::{HostReport, Verdict, Verifier};
use crate::{BootId, Chain, Draft, Echo, EntryType, HandOver, HostId, HostKey, SignedBatch};

const HOST: HostId = HostId::from_bytes([7; 16]);

fn draft(entry_type: EntryType, body: &[u8]) -> Draft<'_> {
    Draft { entry_type, first_ns: 1, last_ns: 2, wall_ns: 3, session: None, body, sealed: None }
}

fn epoch(key: &HostKey, counter: u64, resume: Option<crate::Resume>, batches: usize) -> Vec<SignedBatch> {
    epoch_in_line(key, &[], counter, resume, batches)
}

/// An epoch that the key at the end of this line certifies.
fn epoch_in_line(
    key: &HostKey,
    line: &[HandOver],
    counter: u64,
    resume: Option<crate::Resume>,
    batches: usize,
) -> Vec<SignedBatch> {
    let chain = Chain::start(key, HOST, BootId([1; 16]), counter, resume).unwrap();
    let mut chain = chain.in_line(line.to_vec());
    let close = |chain: &mut Chain| chain.close_batch(BTreeMap::new(), Echo::default()).unwrap();
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

/// Leaves checks out while it lives.
pub(crate) struct LeavingOut;
impl LeavingOut {
    pub(crate) fn these(checks: &[Check]) -> Self {
        LEFT_OUT.with_borrow_mut(|left_out| *left_out = checks.to_vec());
        LeavingOut
    }
}
impl Drop for LeavingOut {
    fn drop(&mut self) {
        LEFT_OUT.with_borrow_mut(Vec::clear);
    }
}

/// The attack passes with these checks left out, and is stopped by the first of them when they are back: the one that its
/// row of the page names. Where more are named, the same lie meets them too.
fn assert_stopped_by(name: &str, checks: &[Check], attack: impl Fn() -> HostReport) {
    let row = custody_tests::attacks::named(name);
    assert_eq!(row.seen_by, checks[0].to_string());
    let unguarded = {
        let _leaving_out = LeavingOut::these(checks);
        attack()
    };
    assert_eq!(unguarded.faults, [], "the attack fails for another reason");
    let report = attack();
    assert_eq!(report.faults.first().map(|fault| fault.check), Some(checks[0]), "{:?}", report.faults);
    assert!(report.faults[0].to_string().contains(row.reads), "{}", report.faults[0]);
    assert_eq!(report.verdict(), Verdict::Altered);
}

fn frames(batches: &[SignedBatch]) -> Vec<Vec<u8>> {
    batches.iter().map(|batch| batch.frame.clone()).collect()
}

fn verify_all(key: &HostKey, frames: &[Vec<u8>]) -> HostReport {
    verify(key, frames.iter().map(Vec::as_slice))
}

/// Takes a frame apart, lets `change` work on it, and puts it together; nothing is signed again.
fn rebuild(frame: &[u8], change: impl FnOnce(&mut crate::BatchHeader, &mut Vec<Entry>)) -> Vec<u8> {
    let batch = crate::Batch::decode(frame).unwrap();
    let mut header = batch.header.clone();
    let mut entries: Vec<Entry> = batch
        .entries
        .iter()
        .map(|entry| {
            let body = entry.body.unwrap();
            Entry { header: entry.header.clone(), salt: body.salt, body: body.bytes.to_vec() }
        })
        .collect();
    change(&mut header, &mut entries);
    assemble(&header.encode().unwrap(), &batch.signature, &entries)
}

fn assemble(header: &[u8], signature: &crate::Signature, entries: &[Entry]) -> Vec<u8> {
    let mut frame = crate::batch::frame_head(header, signature);
    for entry in entries {
        let body = crate::batch::Body { salt: entry.salt, bytes: &entry.body };
        crate::batch::put_entry(&mut frame, &entry.header.encode().unwrap(), Some(body));
    }
    frame
}

struct Entry {
    header: crate::EntryHeader,
    salt: crate::Salt,
    body: Vec<u8>,
}

fn root(entries: &[Entry]) -> crate::Hash {
    let leaves: Vec<_> =
        entries.iter().map(|entry| crate::tree::leaf(&entry.header.encode().unwrap())).collect();
    crate::tree::root(&leaves)
}

fn key() -> HostKey {
    HostKey::generate().unwrap().0
}

#[test]
fn a_swapped_body_is_found() {
    let key = key();
    let frames = frames(&epoch(&key, 1, None, 1));
    let swapped = rebuild(&frames[0], |_, entries| entries[1].body = b"body 0 x".to_vec());
    assert_stopped_by("a_swapped_body_is_found", &[Check::Body], || {
        verify_all(&key, std::slice::from_ref(&swapped))
    });
}

#[test]
fn a_body_under_another_salt_is_found() {
    let key = key();
    let frames = frames(&epoch(&key, 1, None, 1));
    let salted = rebuild(&frames[0], |_, entries| entries[0].salt.0[3] ^= 1);
    assert_stopped_by("a_body_under_another_salt_is_found", &[Check::Body], || {
        verify_all(&key, std::slice::from_ref(&salted))
    });
}

#[test]
fn a_changed_entry_header_is_found() {
    let key = key();
    let frames = frames(&epoch(&key, 1, None, 1));
    let changed = rebuild(&frames[0], |_, entries| entries[2].header.wall_ns += 1);
    assert_stopped_by("a_changed_entry_header_is_found", &[Check::Tree], || {
        verify_all(&key, std::slice::from_ref(&changed))
    });
}

#[test]
fn a_root_made_to_fit_is_found_by_its_signature() {
    let key = key();
    let frames = frames(&epoch(&key, 1, None, 1));
    let changed = rebuild(&frames[0], |header, entries| {
        entries[2].header.wall_ns += 1;
        header.root = root(entries);
    });
    assert_stopped_by("a_root_made_to_fit_is_found_by_its_signature", &[Check::Signature], || {
        verify_all(&key, std::slice::from_ref(&changed))
    });
}

#[test]
fn an_entry_taken_out_is_found_even_if_root_and_count_are_made_to_fit() {
    let key = key();
    let frames = frames(&epoch(&key, 1, None, 1));
    let shorter = rebuild(&frames[0], |header, entries| {
        entries.remove(1);
        header.root = root(entries);
        header.count -= 1;
    });
    let checks = [Check::Signature, Check::Sequence, Check::EntryLink];
    assert_stopped_by("an_entry_taken_out_is_found_even_if_root_and_count_are_made_to_fit", &checks, || {
        verify_all(&key, std::slice::from_ref(&shorter))
    });
}

/// Signs a changed batch as who has the key of its place: root on the host.
fn forge(
    frame: &[u8],
    key: crate::keys::BatchKey,
    change: impl FnOnce(&mut crate::BatchHeader, &mut Vec<Entry>),
) -> Vec<u8> {
    let mut header_bytes = Vec::new();
    let mut all = Vec::new();
    rebuild(frame, |header, entries| {
        change(header, entries);
        header.root = root(entries);
        header.count = entries.len() as u32;
        header_bytes = header.encode().unwrap();
        all = std::mem::take(entries);
    });
    let signature = key.sign_last(&header_bytes).unwrap();
    assemble(&header_bytes, &signature, &all)
}

/// The first batch of an epoch under a key that the host certifies, changed before it is signed.
fn forge_first(
    host: &HostKey,
    frame: &[u8],
    change: impl FnOnce(&mut crate::BatchHeader, &mut Vec<Entry>),
) -> Vec<u8> {
    let key = crate::keys::BatchKey::generate().unwrap();
    let public = key.public();
    forge(frame, key, |header, entries| {
        let certificate = host.certify(header.host, header.boot, header.epoch, &public);
        header.opening = Some(crate::Opening { key: public, certificate, line: Vec::new(), resume: None });
        change(header, entries);
    })
}

/// Names the entry before in each, as an agent does.
fn relink(entries: &mut [Entry], from: usize) {
    for index in from..entries.len() {
        entries[index].header.previous = crate::tree::leaf(&entries[index - 1].header.encode().unwrap());
    }
}

#[test]
fn a_link_between_entries_is_checked_apart_from_their_numbers() {
    let key = key();
    let frames = frames(&epoch(&key, 1, None, 1));
    let relinked = forge_first(&key, &frames[0], |_, entries| {
        entries[1].header.previous.0[0] ^= 1;
        relink(entries, 2);
    });
    assert_stopped_by(
        "a_link_between_entries_is_checked_apart_from_their_numbers",
        &[Check::EntryLink],
        || verify_all(&key, std::slice::from_ref(&relinked)),
    );
}

#[test]
fn entries_of_wrong_numbers_are_found() {
    let key = key();
    let frames = frames(&epoch(&key, 1, None, 1));
    let shorter = forge_first(&key, &frames[0], |_, entries| {
        entries.remove(1);
        relink(entries, 1);
    });
    assert_stopped_by("entries_of_wrong_numbers_are_found", &[Check::Sequence], || {
        verify_all(&key, std::slice::from_ref(&shorter))
    });
}

#[test]
fn an_entry_of_a_foreign_host_is_found() {
    let key = key();
    let frames = frames(&epoch(&key, 1, None, 1));
    let foreign = forge_first(&key, &frames[0], |_, entries| {
        entries[1].header.host = HostId::from_bytes([8; 16]);
        relink(entries, 2);
    });
    assert_stopped_by("an_entry_of_a_foreign_host_is_found", &[Check::Host], || {
        verify_all(&key, std::slice::from_ref(&foreign))
    });
}

#[test]
fn an_entry_that_is_put_behind_the_last_one_is_found() {
    let key = key();
    let frames = frames(&epoch(&key, 1, None, 1));
    let longer = rebuild(&frames[0], |_, entries| {
        let last = entries.last().unwrap();
        entries.push(Entry { header: last.header.clone(), salt: last.salt, body: last.body.clone() });
    });
    let checks = [Check::Tree, Check::Sequence, Check::EntryLink];
    assert_stopped_by("an_entry_that_is_put_behind_the_last_one_is_found", &checks, || {
        verify_all(&key, std::slice::from_ref(&longer))
    });
}

#[test]
fn an_entry_that_is_left_out_is_found() {
    let key = key();
    let frames = frames(&epoch(&key, 1, None, 1));
    let shorter = rebuild(&frames[0], |_, entries| drop(entries.pop()));
    assert_stopped_by("an_entry_that_is_left_out_is_found", &[Check::Tree], || {
        verify_all(&key, std::slice::from_ref(&shorter))
    });
}

#[test]
fn a_signature_of_another_batch_is_found() {
    let key = key();
    let batches = frames(&epoch(&key, 1, None, 2));
    let of_first = crate::Batch::decode(&batches[0]).unwrap().signature;
    let mut second = batches[1].clone();
    let header = crate::Batch::decode(&second).unwrap().header_bytes.len();
    second[4 + header..4 + header + 64].copy_from_slice(&of_first.0);
    assert_stopped_by("a_signature_of_another_batch_is_found", &[Check::Signature], || {
        verify_all(&key, &[batches[0].clone(), second.clone()])
    });
}

#[test]
fn counters_made_to_look_right_are_found() {
    let key = key();
    let mut chain = Chain::start(&key, HOST, BootId([1; 16]), 1, None).unwrap();
    let mut close = |lost| {
        chain.append(&draft(EntryType::Heartbeat, b"")).unwrap();
        let counters =
            crate::Counters { produced: 9, delivered: 9 - lost, lost_ring: lost, ..Default::default() };
        chain.close_batch([("ring".to_owned(), counters)].into(), Echo::default()).unwrap().frame
    };
    let batches = [close(2), close(5)];
    let changed = rebuild(&batches[1], |header, _| {
        let counters = crate::Counters { produced: 9, delivered: 7, lost_ring: 2, ..Default::default() };
        header.counters.insert("ring".to_owned(), counters);
    });
    assert_stopped_by("counters_made_to_look_right_are_found", &[Check::Signature], || {
        verify_all(&key, &[batches[0].clone(), changed.clone()])
    });
}

#[test]
fn an_opening_whose_certificate_is_of_another_epoch_is_found() {
    let key = key();
    let frames = frames(&epoch(&key, 1, None, 1));
    let other = crate::keys::BatchKey::generate().unwrap();
    let public = other.public();
    let reused = forge(&frames[0], other, |header, entries| {
        header.epoch.counter = 2;
        entries.iter_mut().for_each(|entry| entry.header.epoch.counter = 2);
        relink(entries, 1);
        // The certificate is still that of epoch 1 and its key.
        header.opening.as_mut().unwrap().key = public;
    });
    assert_stopped_by(
        "an_opening_whose_certificate_is_of_another_epoch_is_found",
        &[Check::Certificate],
        || verify_all(&key, std::slice::from_ref(&reused)),
    );
}

#[test]
fn a_batch_that_comes_twice_is_found() {
    let key = key();
    let batches = frames(&epoch(&key, 1, None, 2));
    let twice = [batches[0].clone(), batches[1].clone(), batches[1].clone()];
    let checks = [Check::Number, Check::Link, Check::Signature, Check::Sequence, Check::EntryLink];
    assert_stopped_by("a_batch_that_comes_twice_is_found", &checks, || verify_all(&key, &twice));
}

#[test]
fn a_batch_of_the_right_number_that_names_another_before_it_is_found() {
    let key = key();
    let batches = frames(&epoch(&key, 1, None, 2));
    let next = crate::keys::BatchKey::generate().unwrap();
    let first = forge_first(&key, &batches[0], |header, _| header.next_key = next.public());
    let second = forge(&batches[1], next, |header, _| header.previous.0[0] ^= 1);
    assert_stopped_by(
        "a_batch_of_the_right_number_that_names_another_before_it_is_found",
        &[Check::Link],
        || verify_all(&key, &[first.clone(), second.clone()]),
    );
}

#[test]
fn a_dropped_tail_is_found_by_a_receipt() {
    let key = key();
    let batches = epoch(&key, 1, None, 3);
    let promised = batches[2].position;
    let kept = frames(&batches[..2]);
    assert_stopped_by("a_dropped_tail_is_found_by_a_receipt", &[Check::Promised], || {
        let mut verifier = Verifier::new(HOST, key.public());
        verifier.promise(promised);
        kept.iter().for_each(|frame| verifier.batch(frame));
        verifier.finish()
    });
}

#[test]
fn a_batch_left_out_in_the_middle_is_found() {
    let key = key();
    let batches = frames(&epoch(&key, 1, None, 3));
    let without = [batches[0].clone(), batches[2].clone()];
    let checks = [Check::Number, Check::Link, Check::Signature, Check::Sequence, Check::EntryLink];
    assert_stopped_by("a_batch_left_out_in_the_middle_is_found", &checks, || verify_all(&key, &without));
}

#[test]
fn reordered_batches_are_found() {
    let key = key();
    let batches = frames(&epoch(&key, 1, None, 3));
    let swapped = [batches[0].clone(), batches[2].clone(), batches[1].clone()];
    let checks = [Check::Number, Check::Link, Check::Signature, Check::Sequence, Check::EntryLink];
    assert_stopped_by("reordered_batches_are_found", &checks, || verify_all(&key, &swapped));
}

#[test]
fn a_batch_of_a_foreign_host_is_found() {
    let key = key();
    let boot = BootId([1; 16]);
    let mut foreign = Chain::start(&key, HostId::from_bytes([8; 16]), boot, 1, None).unwrap();
    foreign.append(&draft(EntryType::Heartbeat, b"")).unwrap();
    let foreign = foreign.close_batch(BTreeMap::new(), Echo::default()).unwrap().frame;
    assert_stopped_by("a_batch_of_a_foreign_host_is_found", &[Check::Host], || {
        verify_all(&key, std::slice::from_ref(&foreign))
    });
}

#[test]
fn an_epoch_that_the_host_key_did_not_certify_is_found() {
    let (key, other) = (key(), key());
    let forged = frames(&epoch(&other, 1, None, 2));
    assert_stopped_by("an_epoch_that_the_host_key_did_not_certify_is_found", &[Check::Certificate], || {
        verify_all(&key, &forged)
    });
}

/// Who takes the host at batch 2 has key 2. Batch 1 was signed with key 1, which is gone.
#[test]
fn history_signed_again_with_a_later_key_is_found() {
    let key = key();
    let mut chain = Chain::start(&key, HOST, BootId([1; 16]), 1, None).unwrap();
    let mut batches = Vec::new();
    for body in ["before", "evidence of the break-in"] {
        chain.append(&draft(EntryType::Exchange, body.as_bytes())).unwrap();
        batches.push(chain.close_batch(BTreeMap::new(), Echo::default()).unwrap());
    }
    let stolen = chain.steal_key();
    let mut forged = Vec::new();
    let frame = rebuild(&batches[1].frame, |header, entries| {
        entries[0].body = b"nothing happened".to_vec();
        entries[0].header.body_bytes = 16;
        entries[0].header.body = crate::tree::body_hash(&entries[0].salt, &entries[0].body);
        header.root = root(entries);
        forged = header.encode().unwrap();
    });
    let signature = stolen.sign_last(&forged).unwrap();
    let resigned = crate::Batch::decode(&frame).unwrap();
    let mut frame = crate::batch::frame_head(&forged, &signature);
    for entry in &resigned.entries {
        crate::batch::put_entry(&mut frame, entry.header_bytes, entry.body);
    }
    let history = [batches[0].frame.clone(), frame];
    assert_stopped_by("history_signed_again_with_a_later_key_is_found", &[Check::Signature], || {
        verify_all(&key, &history)
    });
}

fn resumed(batches: &[SignedBatch]) -> Option<crate::Resume> {
    Some(crate::Resume { local: batches.last().map(|batch| batch.position), ..Default::default() })
}

#[test]
fn a_host_whose_key_is_rotated_twice_is_verified_and_each_rotation_is_told() {
    let keys = [key(), key(), key()];
    let line = [keys[0].hand_over(HOST, &keys[1].public()), keys[1].hand_over(HOST, &keys[2].public())];
    let first = epoch(&keys[0], 1, None, 2);
    let second = epoch_in_line(&keys[1], &line[..1], 2, resumed(&first), 2);
    let third = epoch_in_line(&keys[2], &line, 3, resumed(&second), 2);
    let fourth = epoch_in_line(&keys[2], &line, 4, resumed(&third), 1);
    let report = verify_all(&keys[0], &frames(&[first, second, third, fourth].concat()));
    assert_eq!(report.faults, []);
    let told =
        |from: &HostKey, to: &HostKey| super::Finding::KeyRotated { from: from.public(), to: to.public() };
    assert_eq!(report.findings, [told(&keys[0], &keys[1]), told(&keys[1], &keys[2])]);
    assert_eq!((report.verdict(), report.batches()), (Verdict::Verified, 7));
}

/// A sink that never saw the epoch of a key takes the one behind it: each opening has the whole line.
#[test]
fn a_rotation_whose_epoch_never_came_does_not_shut_the_host_out() {
    let keys = [key(), key(), key()];
    let line = [keys[0].hand_over(HOST, &keys[1].public()), keys[1].hand_over(HOST, &keys[2].public())];
    let first = epoch(&keys[0], 1, None, 2);
    let third = epoch_in_line(&keys[2], &line, 3, resumed(&first), 2);
    let report = verify_all(&keys[0], &frames(&[first, third].concat()));
    assert_eq!((report.faults.len(), report.verdict()), (0, Verdict::Verified));
}

#[test]
fn a_rotation_that_a_foreign_key_signed_is_found() {
    let (own, foreign) = (key(), key());
    let line = [foreign.hand_over(HOST, &foreign.public())];
    let first = epoch(&own, 1, None, 1);
    let second = epoch_in_line(&foreign, &line, 2, resumed(&first), 1);
    let history = frames(&[first, second].concat());
    assert_stopped_by("a_rotation_that_a_foreign_key_signed_is_found", &[Check::HandOver], || {
        verify_all(&own, &history)
    });
}

/// Two hosts may have one key, where an image was cloned and enrolled twice by hand.
#[test]
fn a_rotation_replayed_for_another_host_is_found() {
    let (shared, next) = (key(), key());
    let line = [shared.hand_over(HostId::from_bytes([8; 16]), &next.public())];
    let first = epoch(&shared, 1, None, 1);
    let second = epoch_in_line(&next, &line, 2, resumed(&first), 1);
    let history = frames(&[first, second].concat());
    assert_stopped_by("a_rotation_replayed_for_another_host_is_found", &[Check::HandOver], || {
        verify_all(&shared, &history)
    });
}

#[test]
fn an_epoch_of_a_key_that_was_rotated_away_is_found() {
    let (old, new) = (key(), key());
    let line = [old.hand_over(HOST, &new.public())];
    let first = epoch(&old, 1, None, 1);
    let second = epoch_in_line(&new, &line, 2, resumed(&first), 1);
    let third = epoch(&old, 3, resumed(&second), 1);
    let history = frames(&[first, second, third].concat());
    assert_stopped_by("an_epoch_of_a_key_that_was_rotated_away_is_found", &[Check::KeyLine], || {
        verify_all(&old, &history)
    });
}

#[test]
fn a_second_rotation_from_the_same_key_is_found() {
    let (old, new, other) = (key(), key(), key());
    let first = epoch(&old, 1, None, 1);
    let second = epoch_in_line(&new, &[old.hand_over(HOST, &new.public())], 2, resumed(&first), 1);
    let third = epoch_in_line(&other, &[old.hand_over(HOST, &other.public())], 3, resumed(&second), 1);
    let history = frames(&[first, second, third].concat());
    assert_stopped_by("a_second_rotation_from_the_same_key_is_found", &[Check::KeyLine], || {
        verify_all(&old, &history)
    });
}

#[test]
fn an_epoch_that_the_old_key_certified_under_the_new_line_is_found() {
    let (old, new) = (key(), key());
    let line = [old.hand_over(HOST, &new.public())];
    let first = epoch(&old, 1, None, 1);
    let second = epoch_in_line(&old, &line, 2, resumed(&first), 1);
    let history = frames(&[first, second].concat());
    let name = "an_epoch_that_the_old_key_certified_under_the_new_line_is_found";
    assert_stopped_by(name, &[Check::Certificate], || verify_all(&old, &history));
}

#[test]
fn an_epoch_replayed_after_a_newer_one_is_found() {
    let key = key();
    let first = epoch(&key, 1, None, 1);
    let resume = crate::Resume { local: Some(first[0].position), ..Default::default() };
    let second = epoch(&key, 2, Some(resume), 1);
    let replayed = [first[0].frame.clone(), second[0].frame.clone(), first[0].frame.clone()];
    assert_stopped_by("an_epoch_replayed_after_a_newer_one_is_found", &[Check::Epoch], || {
        verify_all(&key, &replayed)
    });
}

#[test]
fn entries_after_a_stop_are_found() {
    let key = key();
    let mut chain = Chain::start(&key, HOST, BootId([1; 16]), 1, None).unwrap();
    chain.append(&draft(EntryType::AgentStop, b"")).unwrap();
    let stop = chain.close_batch(BTreeMap::new(), Echo::default()).unwrap().frame;
    chain.undo_stop();
    chain.append(&draft(EntryType::Exchange, b"after")).unwrap();
    let history = [stop, chain.close_batch(BTreeMap::new(), Echo::default()).unwrap().frame];
    assert_stopped_by("entries_after_a_stop_are_found", &[Check::Stop], || verify_all(&key, &history));
}

#[test]
fn a_missing_epoch_is_named_by_the_one_after_it() {
    let key = key();
    let first = epoch(&key, 1, None, 2);
    let resume = |batches: &[SignedBatch]| {
        Some(crate::Resume { local: batches.last().map(|batch| batch.position), ..Default::default() })
    };
    let second = epoch(&key, 2, resume(&first), 2);
    let third = epoch(&key, 3, resume(&second), 2);
    let report = verify(&key, first.iter().chain(&third).map(|batch| batch.frame.as_slice()));
    assert_eq!(report.verdict(), Verdict::Incomplete);
    let missing = super::Finding::Missing { from: Some(first[1].position), to: second[1].position };
    assert_eq!(report.findings, [missing]);
}

/// Each bit of a batch matters: there is none whose change goes unnoticed.
#[test]
fn every_flipped_bit_of_a_frame_is_found() {
    let key = key();
    let mut frame = frames(&epoch(&key, 1, None, 1)).remove(0);
    for bit in 0..frame.len() * 8 {
        frame[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(verify(&key, [frame.as_slice()]).verdict(), Verdict::Altered, "bit {bit}");
        frame[bit / 8] ^= 1 << (bit % 8);
    }
    assert_eq!(verify(&key, [frame.as_slice()]).verdict(), Verdict::Verified);
}

#[test]
fn a_withheld_body_leaves_the_chain_verifiable_and_is_counted() {
    let key = key();
    let batches = epoch(&key, 1, None, 2);
    let withheld = crate::Batch::decode(&batches[0].frame).unwrap().redacted(|header| header.seq.0 == 1);
    let report = verify(&key, [withheld.as_slice(), &batches[1].frame]);
    assert_eq!((report.verdict(), report.withheld, report.entries()), (Verdict::Verified, 1, 6));
}

#[test]
fn after_a_fault_the_next_epoch_is_verified_again() {
    let key = key();
    let first = epoch(&key, 1, None, 3);
    let resume = crate::Resume { local: Some(first[2].position), ..Default::default() };
    let second = epoch(&key, 2, Some(resume), 2);
    let mut all: Vec<Vec<u8>> = frames(&first);
    all.extend(frames(&second));
    let last = all[1].len() - 1;
    all[1][last] ^= 1;
    let report = verify_all(&key, &all);
    assert_eq!(report.faults.len(), 1);
    assert_eq!(report.faults[0].check, Check::Body);
    let counted: Vec<_> = report.epochs.iter().map(|epoch| (epoch.batches, epoch.unverifiable)).collect();
    assert_eq!(counted, [(1, 2), (2, 0)]);
}
