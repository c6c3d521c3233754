//! Bodies that are told as expired and have not. What rejects a bundle stands in the table of attacks; what is told as left
//! out instead is shown below.

use super::super::report::RetentionCheck;
use super::super::stand::{ALL, EARLY, LATE, gone_of, of_age, sealed};
use super::super::{Statements, WriteError, Writer};
use super::*;
use crate::retention::Retention;
use crate::statement::Stated;

const fn stop(check: RetentionCheck) -> Stop {
    Stop::Bundle(BundleCheck::Retention(check))
}

const STATEMENT: Stop = stop(RetentionCheck::Statement);
const SIGNER: Stop = stop(RetentionCheck::Signature);
const NAMED: Stop = stop(RetentionCheck::Host);
const PLACE: Stop = stop(RetentionCheck::Place);
const ORDER: Stop = stop(RetentionCheck::Order);
const ABOUT: Stop = stop(RetentionCheck::About);
const HERE: Stop = stop(RetentionCheck::Body);
const AGE: Stop = stop(RetentionCheck::Age);
const BATCHES: Stop = stop(RetentionCheck::Batches);

/// The session, all of whose bodies this stands before.
fn gone_by(stand: &Stand, stated: &Placed) -> Bundle {
    let mut bundle = stand.session();
    bundle.expire(stated, 0, 0..3);
    bundle
}

/// The same by the one statement that the sink made, whoever signed it.
fn stated(payload: Vec<u8>) -> Bundle {
    let stand = Stand::aged(&[payload]);
    gone_by(&stand, &stand.stated[0])
}

fn all_of(batches: u64) -> Retention {
    gone_of(ALL, &[(HOST, batches)])
}

impl List<'_> {
    pub(super) fn of_what_expired(&mut self) {
        self.of_the_statement();
        self.of_what_it_is_about();
        self.of_its_place_in_the_file();
    }

    fn of_the_statement(&mut self) {
        let by_another = stated(sealed(0xa2, Stated::Retention(all_of(8))));
        self.add("expiry_that_another_key_stated", &[SIGNER], &by_another);
        let mut bundle = stated(of_age(all_of(8)));
        let middle = bundle.stated[0].1.0.len() / 2;
        bundle.stated[0].1.0[middle] ^= 1;
        self.bytes("expiry_whose_statement_was_changed", &[SIGNER], false, Whose::Own, bundle.encode());
        let other = stated(sealed(0xa0, Stated::Admitted { identity: "reader dana@corp".to_owned() }));
        self.bytes(
            "expiry_by_a_statement_of_something_else",
            &[STATEMENT],
            false,
            Whose::Own,
            other.encode(),
        );
        let mut bundle = stated(of_age(all_of(8)));
        bundle.stated[0].1.0 = bundle.enrolment.0.clone();
        self.bytes("expiry_by_an_enrolment", &[STATEMENT], false, Whose::Own, bundle.encode());
        let of_other = stated(of_age(gone_of(ALL, &[(OTHER, 6)])));
        self.add("expiry_of_another_host", &[NAMED, BATCHES], &of_other);
        // The sink's owner signs it and never shows it to the log.
        let mut bundle = stated(of_age(all_of(8)));
        bundle.stated[0].1.0 = of_age(all_of(7));
        self.add("expiry_that_is_not_in_the_log", &[INCLUSION], &bundle);
        let mut bundle = stated(of_age(all_of(8)));
        bundle.stated[0].1.1.index = 15;
        self.add("expiry_at_the_place_of_another_leaf", &[INCLUSION, PLACE], &bundle);
        let mut bundle = stated(of_age(all_of(8)));
        bundle.stated[0].1.1.received_ns = 1;
        self.add("expiry_with_a_time_that_nobody_signed", &[FORMAT], &bundle);
        let stand = Stand::stated_before(&[of_age(gone_of(0..17, &[(HOST, 8)]))]);
        let before = gone_by(&stand, &stand.stated[0]);
        self.add("expiry_stated_before_the_batches_came", &[PLACE], &before);
        let hour = Retention { age_s: 91 * 86_400, ..all_of(8) };
        self.add("expiry_before_its_time", &[AGE], &stated(of_age(hour)));
        let never = Retention { age_s: u64::MAX, ..all_of(8) };
        self.add("expiry_at_an_age_that_nothing_has", &[AGE], &stated(of_age(never)));
    }

    fn of_what_it_is_about(&mut self) {
        self.add("expiry_of_more_batches_than_were_stated", &[BATCHES], &stated(of_age(all_of(2))));
        let old = Stand::old();
        // The one of the first segment, replayed for a batch of the second one.
        let mut bundle = old.session();
        bundle.expire(&old.stated[0], 1, 1..3);
        self.add("expiry_of_another_segment", &[ABOUT], &bundle);
        let mut bundle = old.session();
        bundle.expire(&old.stated[1], 0, 0..3);
        self.add("expiry_of_what_lies_behind", &[ABOUT], &bundle);
        // Named twice, as if the statement had named twice as many batches.
        let stand = Stand::aged(&[of_age(all_of(2))]);
        let mut bundle = gone_by(&stand, &stand.stated[0]);
        bundle.expire(&stand.stated[0], 2, 2..3);
        self.add("expiry_stated_once_and_shown_twice", &[ORDER], &bundle);
        let stand = Stand::aged(&[of_age(gone_of(2..9, &[(HOST, 1)])), of_age(gone_of(3..9, &[(HOST, 2)]))]);
        let mut bundle = gone_by(&stand, &stand.stated[0]);
        bundle.expire(&stand.stated[1], 1, 1..3);
        self.add("expiry_of_the_same_records_stated_twice", &[ORDER], &bundle);
        let mut bundle = old.old_session();
        bundle.batches[1].0 = old.session().batches[1].0.clone();
        self.add("expiry_of_a_body_that_is_here", &[HERE], &bundle);
        let mut bundle = old.old_session();
        bundle.batches[1].1.content = Hash([1; 32]);
        self.add("expiry_of_a_batch_of_another_content", &[INCLUSION], &bundle);
        let mut bundle = old.old_session();
        bundle.batches[1].0 = rebuilt(&bundle.batches[1].0, |entries| {
            entries[1].alter(|header| header.body = Hash([9; 32]));
        });
        self.add("expiry_of_a_body_that_was_never_there", &[TREE, ENTRY_LINK], &bundle);
        let mut bundle = old.old_session();
        bundle.batches[1].1.received_ns -= 1_000_000_000;
        self.add("expiry_of_a_batch_made_older", &[INCLUSION], &bundle);
    }

    fn of_its_place_in_the_file(&mut self) {
        let old = Stand::old().old_session().encode();
        let mut add = |name, bytes| self.bytes(name, &[FORMAT], false, Whose::Own, bytes);
        add("expiry_in_a_bundle_of_the_first_version", [b"CUSTBDL1", &old[8..]].concat());
        let field = |tag: &[u8; 4]| old.windows(4).position(|four| four == tag).unwrap();
        let (stmt, btch) = (field(b"stmt"), field(b"btch"));
        add("expiry_stated_twice_before_one_batch", [&old[..btch], &old[stmt..]].concat());
        let second = stmt + 4 + old[stmt + 4..].windows(4).position(|four| four == b"stmt").unwrap();
        let behind = second + old[second..].windows(4).position(|four| four == b"btch").unwrap();
        let end = old.len() - 8;
        let moved = [&old[..second], &old[behind..end], &old[second..behind], &old[end..]];
        add("expiry_of_nothing_that_follows", moved.concat());
        let head = field(b"head");
        add(
            "expiry_before_the_way_of_keys",
            [&old[..head], &old[stmt..btch], &old[head..stmt], &old[btch..]].concat(),
        );
        let mut bytes = old.clone();
        bytes[stmt + 4..stmt + 8].copy_from_slice(&(512 * 1024 + 1_u32).to_be_bytes());
        add("oversized_length_of_a_statement", bytes);
    }
}

/// An attack of the table above, as its row of docs/attacks.md tells it.
fn found(name: &str) {
    let row = custody_tests::attacks::named(name);
    let vector = name.strip_prefix("an_").unwrap().strip_suffix("_is_found").unwrap();
    let attacks = attacks();
    let attack = attacks.iter().find(|attack| attack.name == vector).unwrap();
    assert!(attack.passes_without, "the table shows that it passes without its checks");
    let rejected = match checked(&attack.bytes, &attack.policy.policy(&Stand::new())) {
        Err(VerifyError::Rejected(rejected)) => rejected,
        other => panic!("{other:?}"),
    };
    assert_eq!(rejected.name(), row.seen_by);
    assert!(rejected.detail.contains(row.reads), "{}", rejected.detail);
}

#[test]
fn an_expiry_that_another_key_stated_is_found() {
    found("an_expiry_that_another_key_stated_is_found");
}

#[test]
fn an_expiry_of_another_host_is_found() {
    found("an_expiry_of_another_host_is_found");
}

#[test]
fn an_expiry_that_is_not_in_the_log_is_found() {
    found("an_expiry_that_is_not_in_the_log_is_found");
}

#[test]
fn an_expiry_stated_before_the_batches_came_is_found() {
    found("an_expiry_stated_before_the_batches_came_is_found");
}

#[test]
fn an_expiry_before_its_time_is_found() {
    found("an_expiry_before_its_time_is_found");
}

#[test]
fn an_expiry_of_a_batch_made_older_is_found() {
    found("an_expiry_of_a_batch_made_older_is_found");
}

#[test]
fn an_expiry_of_another_segment_is_found() {
    found("an_expiry_of_another_segment_is_found");
}

#[test]
fn an_expiry_of_more_batches_than_were_stated_is_found() {
    found("an_expiry_of_more_batches_than_were_stated_is_found");
}

#[test]
fn an_expiry_stated_once_and_shown_twice_is_found() {
    found("an_expiry_stated_once_and_shown_twice_is_found");
}

#[test]
fn an_expiry_of_a_body_that_is_here_is_found() {
    found("an_expiry_of_a_body_that_is_here_is_found");
}

#[test]
fn an_expiry_of_a_body_that_was_never_there_is_found() {
    found("an_expiry_of_a_body_that_was_never_there_is_found");
}

/// So many bodies are told as expired and as left out, and so many would pass for expired without the check.
fn told(bundle: &Bundle, check: RetentionCheck, (expired, redacted): (u64, u64), without: u64) {
    let (bytes, policy) = (bundle.encode(), Stand::new().policy);
    let told = || checked(&bytes, &policy).unwrap();
    assert_eq!((told().expired, told().redacted), (expired, redacted));
    assert!(!told().is_whole(), "the session lacks what nobody let go");
    LEFT_OUT.set(vec![BundleCheck::Retention(check)]);
    let passes = told().expired;
    LEFT_OUT.set(Vec::new());
    assert_eq!(passes, without);
}

#[test]
fn bodies_that_no_statement_is_about_have_not_expired() {
    let mut bundle = Stand::old().old_session();
    bundle.stated.pop();
    told(&bundle, RetentionCheck::Stated, (2, 4), 6);
    bundle.stated.clear();
    told(&bundle, RetentionCheck::Stated, (0, 6), 6);
}

#[test]
fn bodies_of_batches_behind_what_is_stated_have_not_expired() {
    let early = Stand::aged(&[of_age(gone_of(EARLY, &[(HOST, 3)]))]);
    let mut bundle = early.session();
    bundle.expire(&early.stated[0], 0, 0..3);
    told(&bundle, RetentionCheck::Stated, (2, 4), 6);
}

#[test]
fn bodies_that_never_came_have_not_expired() {
    let stand = Stand::aged_without_bodies_of_batch_3(&[of_age(gone_of(LATE, &[(HOST, 4), (OTHER, 2)]))]);
    let mut bundle = stand.session();
    bundle.expire(&stand.stated[0], 1, 1..3);
    told(&bundle, RetentionCheck::Came, (2, 2), 4);
}

#[test]
fn a_bundle_says_what_expired_and_by_which_statement() {
    let old = Stand::old();
    let report = checked(&old.old_session().encode(), &old.policy).unwrap();
    assert_eq!((report.verified, report.redacted, report.expired), (0, 0, 6));
    assert!(report.is_whole(), "what went by policy is not missing");
    assert_eq!(report.session.map(|session| (session.entries, session.expired)), Some((4, 4)));
    let told: Vec<_> = report.expiries.iter().map(|one| (one.age_s, one.bodies)).collect();
    assert_eq!(told, [(90 * 86_400, 2), (90 * 86_400, 4)]);
}

/// A store whose segment is being replaced may give one batch with bodies and the next one without.
#[test]
fn who_makes_a_bundle_gives_nothing_that_was_stated_and_passes_nothing_over_that_was_not() {
    let old = Stand::old();
    let write = |stated: &[&Placed]| {
        let Bundle { range, checkpoint, enrolment, way, batches, .. } = old.session();
        let mut statements = Statements::default();
        for ((payload, place), records) in stated.iter().zip([EARLY, LATE]) {
            statements.push(&gone_of(records, &[]), payload.clone(), place.clone()).unwrap();
        }
        let (enrolment, place) = enrolment;
        let expired = !statements.is_empty();
        let mut writer = Writer::begin(Vec::new(), &range, &checkpoint, &enrolment, &place, expired).unwrap();
        way.iter().for_each(|head| writer.way(head).unwrap());
        // The first of them is gone already, the others are on the disk still.
        let stored = [redacted(&old.first[2].0, |_| true), old.first[3].0.clone(), old.first[4].0.clone()];
        for (frame, (_, place)) in stored.iter().zip(&batches) {
            writer.stored(frame, place, true, &mut statements)?;
        }
        writer.end()
    };
    let made = write(&[&old.stated[0], &old.stated[1]]).unwrap();
    assert!(made == old.old_session().encode(), "a body left the store that was stated to go");
    assert!(matches!(write(&[]), Err(WriteError::Unstated(number)) if number.0 == 2));
    let report = checked(&write(&[&old.stated[0]]).unwrap(), &old.policy).unwrap();
    assert_eq!((report.expired, report.verified, report.redacted), (2, 4, 0));
}

/// Every byte of a statement and of its place is covered.
#[test]
fn every_flipped_byte_of_a_statement_is_rejected() {
    let old = Stand::old();
    let honest = old.old_session().encode();
    let field = |tag: &[u8; 4]| honest.windows(4).position(|four| four == tag).unwrap();
    for at in (0..8).chain(field(b"stmt")..field(b"btch")) {
        let mut bytes = honest.clone();
        bytes[at] ^= 0x10;
        assert!(checked(&bytes, &old.policy).is_err(), "byte {at} is covered by nothing");
    }
}
