//! Bundles that must be rejected: a table of what was done, the checks that stop it one behind the other, and the bytes.
//! Each is first shown to pass with those checks left out. The vectors for other readers are made of the same table.

use super::report::{BundleCheck, VerifyError};
use super::stand::{
    Bundle, HOST, OTHER, Placed, SESSION, Stand, WITNESSES, enrol, epoch_id, redacted, signer,
    signer_of_notes, witness_key,
};
use super::verify::verify;
use super::{Point, Proof, Range, Report, head_of};
use crate::batch::{Body, frame_head, put_entry};
use crate::tlog::checkpoint::{cosign, log_key};
use crate::tlog::{Checkpoint, Note, Policy};
use crate::verify::Check;
use crate::verify::attacks::LeavingOut;
use crate::{Batch, EntryHeader, EntryType, Hash, LogKey, Salt, Seq};

mod expired;

thread_local! {
    static LEFT_OUT: std::cell::RefCell<Vec<BundleCheck>> = const { std::cell::RefCell::new(Vec::new()) };
}

pub(super) fn is_left_out(check: BundleCheck) -> bool {
    LEFT_OUT.with_borrow(|left_out| left_out.contains(&check))
}

/// What a checkpoint says, whoever signed it, when that check is left out.
pub(super) fn unsigned(text: &str) -> Option<Checkpoint> {
    is_left_out(BundleCheck::Checkpoint).then(|| {
        let mut lines = text.lines();
        let origin = lines.next().unwrap().to_owned();
        let size = lines.next().unwrap().parse().unwrap();
        let root = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, lines.next().unwrap());
        Checkpoint { origin, size, root: Hash(root.unwrap().try_into().unwrap()) }
    })
}

/// Which policy a vector is checked against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Whose {
    /// The one of the bundle's own sink.
    Own,
    /// Another sink's key, the same log.
    OtherSink,
    /// The same sink's key, another log.
    OtherLog,
    /// That of the bundle's own sink, which demands two witnesses.
    Witnessed,
}

impl Whose {
    pub(super) const ALL: [Whose; 4] = [Whose::Own, Whose::OtherSink, Whose::OtherLog, Whose::Witnessed];

    pub(super) fn file(self) -> &'static str {
        match self {
            Whose::Own => "policy.txt",
            Whose::OtherSink => "policy-of-another-sink.txt",
            Whose::OtherLog => "policy-of-another-log.txt",
            Whose::Witnessed => "policy-with-witnesses.txt",
        }
    }

    pub(super) fn policy(self, stand: &Stand) -> Policy {
        let own = stand.policy.clone();
        match self {
            Whose::Own => own,
            Whose::OtherSink => Policy { sink: signer(0xa2).public(), ..own },
            Whose::OtherLog => Policy { log: log_key(signer(0xa2).public()), ..own },
            Whose::Witnessed => stand.witnessed_policy(),
        }
    }
}

/// One attack.
pub(super) struct Attack {
    pub(super) name: &'static str,
    /// The checks that stop it: the first does, without it the second, and so on.
    pub(super) stopped_by: Vec<Stop>,
    /// It goes through when none of these looks; otherwise the reader itself cannot go on.
    pub(super) passes_without: bool,
    pub(super) policy: Whose,
    pub(super) bytes: Vec<u8>,
}

/// A check of the bundle, or a step of the chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    Bundle(BundleCheck),
    Chain(Check),
}

impl Stop {
    pub(super) fn name(self) -> String {
        match self {
            Stop::Bundle(check) => check.to_string(),
            Stop::Chain(check) => format!("chain.{check}").replace(' ', "_"),
        }
    }
}

const FORMAT: Stop = Stop::Bundle(BundleCheck::Format);
const CHECKPOINT: Stop = Stop::Bundle(BundleCheck::Checkpoint);
const UNWITNESSED: Stop = Stop::Bundle(BundleCheck::Witnesses);
const ENROLMENT: Stop = Stop::Bundle(BundleCheck::Enrolment);
const OWNER: Stop = Stop::Bundle(BundleCheck::Host);
const INCLUSION: Stop = Stop::Bundle(BundleCheck::Inclusion);
const WAY: Stop = Stop::Bundle(BundleCheck::Way);
const CONTENT: Stop = Stop::Bundle(BundleCheck::Content);
const RANGE: Stop = Stop::Bundle(BundleCheck::Range);
const NUMBER: Stop = Stop::Chain(Check::Number);
const LINK: Stop = Stop::Chain(Check::Link);
const SIGNATURE: Stop = Stop::Chain(Check::Signature);
const SEQUENCE: Stop = Stop::Chain(Check::Sequence);
const ENTRY_LINK: Stop = Stop::Chain(Check::EntryLink);
const TREE: Stop = Stop::Chain(Check::Tree);
const BODY: Stop = Stop::Chain(Check::Body);
const EPOCH: Stop = Stop::Chain(Check::Epoch);

/// All of them.
pub(super) fn attacks() -> Vec<Attack> {
    let stand = Stand::new();
    let mut list = List { stand: &stand, attacks: Vec::new() };
    list.of_entries();
    list.of_batches();
    list.of_the_log();
    list.of_witnesses();
    list.of_keys();
    list.of_the_range();
    list.of_the_file();
    list.of_the_owner_of_the_sink();
    list.of_rotations();
    list.of_what_expired();
    list.attacks
}

struct List<'s> {
    stand: &'s Stand,
    attacks: Vec<Attack>,
}

impl List<'_> {
    fn add(&mut self, name: &'static str, stopped_by: &[Stop], bundle: &Bundle) {
        self.bytes(name, stopped_by, true, Whose::Own, bundle.encode());
    }

    fn bytes(&mut self, name: &'static str, stops: &[Stop], passes: bool, policy: Whose, bytes: Vec<u8>) {
        let stopped_by = stops.to_vec();
        self.attacks.push(Attack { name, stopped_by, passes_without: passes, policy, bytes });
    }

    /// The session's bundle with something done to it.
    fn changed(&mut self, name: &'static str, stops: &[Stop], change: impl FnOnce(&mut Bundle, &Stand)) {
        let mut bundle = self.stand.session();
        change(&mut bundle, self.stand);
        self.add(name, stops, &bundle);
    }

    /// The bundle of a range with all its bodies with something done to it.
    fn whole(&mut self, name: &'static str, stops: &[Stop], change: impl FnOnce(&mut Bundle, &Stand)) {
        let mut bundle = self.stand.entries(SESSION.0, 9);
        change(&mut bundle, self.stand);
        self.add(name, stops, &bundle);
    }

    /// The session's bundle with the entries of one batch done over.
    fn entries(&mut self, name: &'static str, stops: &[Stop], change: impl FnOnce(&mut Vec<Entry>)) {
        self.changed(name, stops, |bundle, _| bundle.batches[1].0 = rebuilt(&bundle.batches[1].0, change));
    }

    fn of_entries(&mut self) {
        let signed = [TREE, ENTRY_LINK];
        self.entries("entry_time_changed", &signed, |entries| entries[1].alter(|header| header.wall_ns += 1));
        self.entries("entry_taken_out_of_its_session", &signed, |entries| {
            entries[1].alter(|header| header.session = None);
        });
        self.entries("entry_type_changed", &signed, |entries| {
            entries[0].alter(|header| header.entry_type = EntryType::Heartbeat);
        });
        self.entries("redaction_pretended_of_another_body", &signed, |entries| {
            entries[1].alter(|header| header.body = Hash([9; 32]));
            entries[1].body = None;
        });
        self.entries("entry_dropped", &[TREE, SEQUENCE, ENTRY_LINK], |entries| drop(entries.pop()));
        self.entries("entries_reordered", &[TREE, SEQUENCE, ENTRY_LINK], |entries| entries.reverse());
        self.entries("entry_duplicated", &[TREE, SEQUENCE, ENTRY_LINK], |entries| {
            entries.push(entries[1].clone());
        });
        self.entries("body_changed", &[BODY], |entries| entries[1].body.as_mut().unwrap().1[0] ^= 1);
        self.entries("salt_changed", &[BODY], |entries| entries[1].body.as_mut().unwrap().0.0[0] ^= 1);
        self.entries("body_cut", &[BODY], |entries| {
            entries[1].body.as_mut().unwrap().1.pop();
        });
        self.entries("redaction_pretended_by_an_empty_body", &[BODY], |entries| {
            entries[1].body = Some((Salt([0; 16]), Vec::new()));
        });
        self.entries("body_moved_to_another_entry", &[BODY], |entries| {
            entries[0].body = entries[1].body.take();
        });
        self.whole("bodies_swapped", &[CONTENT, BODY], |bundle, _| {
            bundle.batches[1].0 = rebuilt(&bundle.batches[1].0, |entries| {
                let body = entries[0].body.take();
                entries[0].body = std::mem::replace(&mut entries[1].body, body);
            });
        });
        self.whole("body_changed_in_a_whole_batch", &[CONTENT, BODY], |bundle, _| {
            *bundle.batches[1].0.last_mut().unwrap() ^= 1;
        });
    }

    fn of_batches(&mut self) {
        let hole = [NUMBER, LINK, SIGNATURE, SEQUENCE, ENTRY_LINK];
        let at_the_start = [RANGE, NUMBER, LINK, SIGNATURE, SEQUENCE];
        self.changed("batch_dropped_at_the_start", &at_the_start, |bundle, _| {
            bundle.batches.remove(0);
        });
        self.changed("batch_dropped_in_the_middle", &hole, |bundle, _| drop(bundle.batches.remove(1)));
        self.changed("batch_dropped_at_the_end", &[RANGE], |bundle, _| drop(bundle.batches.pop()));
        let swapped = [&hole[..], &[RANGE]].concat();
        self.changed("batches_reordered", &swapped, |bundle, _| bundle.batches.swap(1, 2));
        self.changed("batch_duplicated", &hole, |bundle, _| {
            bundle.batches.insert(1, bundle.batches[1].clone());
        });
        let foreign = [Stop::Chain(Check::Host), LINK, SIGNATURE, ENTRY_LINK];
        self.changed("batch_of_another_host", &foreign, |bundle, stand| {
            bundle.batches[1] = stand.other[3].clone();
        });
        let mut bundle = self.stand.session();
        bundle.batches[1] = self.stand.second[1].clone();
        self.bytes("batch_of_another_epoch", &[EPOCH], false, Whose::Own, bundle.encode());
        let mut bundle = self.stand.both_epochs();
        bundle.batches.remove(3);
        self.bytes("opening_of_the_next_epoch_dropped", &[EPOCH], false, Whose::Own, bundle.encode());
    }

    fn of_the_log(&mut self) {
        let honest = Checkpoint::open_text(&self.stand.checkpoint, &self.stand.policy.log).unwrap();
        let signed = |checkpoint: Checkpoint, key: &LogKey| checkpoint.sign(key).to_string();
        let log = &self.stand.log;
        let other_root = signed(Checkpoint { root: Hash([9; 32]), ..honest.clone() }, log);
        let smaller = signed(Checkpoint { size: 5, ..honest.clone() }, log);
        let lines: Vec<&str> = self.stand.checkpoint.splitn(3, '\n').collect();
        let edited = format!("{}\n{}\n{}", lines[0], honest.size + 1, lines[2]);
        for (name, checkpoint, stops) in [
            ("checkpoint_of_another_tree", other_root, &[INCLUSION][..]),
            ("checkpoint_of_another_size", smaller, &[INCLUSION]),
            ("checkpoint_edited", edited, &[CHECKPOINT, INCLUSION]),
        ] {
            self.changed(name, stops, |bundle, _| bundle.checkpoint = checkpoint);
        }
        let bytes = self.stand.session().encode();
        self.bytes("policy_with_another_log", &[CHECKPOINT], true, Whose::OtherLog, bytes.clone());
        self.bytes("policy_with_another_sink", &[ENROLMENT], true, Whose::OtherSink, bytes);
        let places: [(_, ChangeProof); 5] = [
            ("place_of_another_leaf", |place| place.index += 1),
            ("time_of_receipt_changed", |place| place.received_ns += 1),
            ("content_of_a_redacted_batch_changed", |place| place.content = Hash([1; 32])),
            ("proof_cut", |place| place.hashes.truncate(1)),
            ("proof_changed", |place| place.hashes[0] = Hash([1; 32])),
        ];
        for (name, change) in places {
            self.changed(name, &[INCLUSION], |bundle, _| change(&mut bundle.batches[1].1));
        }
        self.changed("proof_of_another_batch", &[INCLUSION], |bundle, _| {
            bundle.batches[1].1 =
                Proof { content: bundle.batches[1].1.content, ..bundle.batches[2].1.clone() };
        });
    }

    /// The policy demands two witnesses; the first one did cosign.
    fn of_witnesses(&mut self) {
        let stand = self.stand;
        let [first, second] = WITNESSES;
        // As the second one would sign, by this key; its line then stands below the second one's name and id.
        let disguised = |text: &str, seed: u8| -> String {
            let (mut signed, mut note): (Note, Note) =
                (text.parse().unwrap(), stand.cosigned(&[first]).parse().unwrap());
            let key = signer_of_notes(seed);
            cosign(&mut signed, second.0, &key, 1_769_860_801).unwrap();
            let bytes = signed.signature(&witness_key(second.0, &key));
            note.add(&witness_key(second.0, &signer_of_notes(second.1)), bytes);
            note.to_string()
        };
        let another = stand.checkpoint.replacen("\n16\n", "\n15\n", 1);
        assert_ne!(another, stand.checkpoint, "the size of the log is another one");
        let changed = {
            let mut note: Note = stand.cosigned(&[first]).parse().unwrap();
            let key = witness_key(second.0, &signer_of_notes(second.1));
            let signed: Note = stand.cosigned(&[second]).parse().unwrap();
            let mut bytes = signed.signature(&key);
            bytes[7] ^= 1;
            note.add(&key, bytes);
            note.to_string()
        };
        for (name, checkpoint) in [
            ("checkpoint_that_no_witness_cosigned", stand.checkpoint.clone()),
            ("checkpoint_that_too_few_witnesses_cosigned", stand.cosigned(&[first])),
            ("cosignature_of_a_key_that_the_policy_has_not", stand.cosigned(&[first, (second.0, 0xc9)])),
            ("cosignature_of_a_stranger_under_the_id_of_a_witness", disguised(&stand.checkpoint, 0xc9)),
            ("cosignature_of_one_witness_under_the_id_of_another", disguised(&stand.checkpoint, first.1)),
            ("cosignature_by_the_log_itself", disguised(&stand.checkpoint, 0xa1)),
            ("cosignature_copied_from_another_checkpoint", disguised(&another, second.1)),
            ("cosignature_whose_time_was_changed", changed),
        ] {
            let mut bundle = stand.session();
            bundle.checkpoint = checkpoint;
            self.bytes(name, &[UNWITNESSED], true, Whose::Witnessed, bundle.encode());
        }
    }

    fn of_keys(&mut self) {
        let other_host = [OWNER, WAY, Stop::Chain(Check::Host)];
        self.changed("enrolment_of_another_host", &other_host, |bundle, stand| {
            bundle.enrolment = stand.other_enrolment.clone();
        });
        self.changed("enrolment_outside_the_log", &[INCLUSION, WAY], |bundle, _| {
            bundle.enrolment.0 = enrol(HOST, 0xb1);
        });
        let heads = |batches: &[Placed]| -> Vec<Vec<u8>> {
            batches.iter().map(|(frame, _)| head_of(frame).unwrap().to_vec()).collect()
        };
        self.changed("way_of_another_host", &[WAY, LINK, SIGNATURE], |bundle, stand| {
            bundle.way = heads(&stand.other[..2]);
        });
        self.changed("way_signature_changed", &[WAY], |bundle, _| {
            *bundle.way[1].last_mut().unwrap() ^= 1;
        });
        let mut bundle = self.stand.entries(8, 9);
        bundle.way.remove(2);
        self.add("way_with_a_hole", &[WAY], &bundle);
        self.changed("way_cut_at_its_end", &[NUMBER, LINK, SIGNATURE, SEQUENCE], |bundle, _| {
            bundle.way.pop();
        });
        let mut bundle = self.stand.session();
        bundle.way.remove(0);
        self.bytes("way_cut_at_its_start", &[WAY], false, Whose::Own, bundle.encode());
        bundle.way.clear();
        self.bytes("way_left_out", &[EPOCH], false, Whose::Own, bundle.encode());
        let mut bundle = self.stand.anchored();
        bundle.anchor.as_mut().unwrap().1.received_ns += 1;
        self.add("anchor_outside_the_log", &[INCLUSION], &bundle);
        let (frame, place) = &self.stand.first[0];
        bundle.anchor = Some((head_of(frame).unwrap().to_vec(), place.clone()));
        self.add("anchor_of_an_earlier_batch", &[NUMBER, LINK, SIGNATURE, SEQUENCE], &bundle);
        let (frame, place) = &self.stand.other[1];
        bundle.anchor = Some((head_of(frame).unwrap().to_vec(), place.clone()));
        self.add("anchor_of_another_host", &[WAY, LINK, SIGNATURE], &bundle);
    }

    fn of_the_range(&mut self) {
        let point = |counter, seq| Point { epoch: epoch_id(counter), seq: Seq(seq) };
        let last = |last| move |range: &mut Range| range.last = last;
        let mut range = |name, change: &dyn Fn(&mut Range)| {
            self.whole(name, &[RANGE], |bundle, _| change(&mut bundle.range));
        };
        range("range_goes_on_behind_the_last_batch", &last(point(1, 10)));
        range("range_goes_on_into_the_next_epoch", &last(point(2, 0)));
        range("range_ends_before_it_begins", &last(point(1, 3)));
        range("range_without_end", &last(point(1, u64::MAX - 1)));
        range("range_begins_before_the_first_batch", &|range| range.first.seq = Seq(3));
        range("range_names_a_session_that_begins_elsewhere", &|range| range.session = Some(Seq(5)));
        range("range_of_another_epoch_of_the_same_number", &|range| range.last.epoch.nonce.0[0] ^= 1);
    }

    fn of_the_file(&mut self) {
        let stand = self.stand;
        let honest = stand.session().encode();
        let mut add = |name, passes, bytes| self.bytes(name, &[FORMAT], passes, Whose::Own, bytes);
        add("bytes_behind_the_end", true, [honest.as_slice(), b"x"].concat());
        add("end_cut_off", false, honest[..honest.len() - 8].to_vec());
        add("cut_in_the_middle", false, honest[..honest.len() / 2].to_vec());
        add("empty_file", false, Vec::new());
        add("another_version", false, [b"CUSTBDL2", &honest[8..]].concat());
        let field = |tag: &[u8; 4]| honest.windows(4).position(|four| four == tag).unwrap();
        for (name, tag) in
            [("oversized_length_of_a_batch", b"btch"), ("oversized_length_of_a_proof", b"prov")]
        {
            let mut bytes = honest.clone();
            let at = field(tag) + 4;
            bytes[at..at + 4].copy_from_slice(&[0xff; 4]);
            add(name, false, bytes);
        }
        let mut bytes = honest.clone();
        bytes[field(b"btch")..][..4].copy_from_slice(b"more");
        add("unknown_field", false, bytes);
        let behind = |bundle: &Bundle| bundle.encode()[..bundle.encode().len() - 8].to_vec();
        let mut bytes = behind(&stand.session());
        bytes.extend(&honest[field(b"head")..field(b"btch")]);
        bytes.extend(b"last\0\0\0\0");
        add("way_behind_the_batches", false, bytes);
        let mut bundle = stand.session();
        bundle.batches.clear();
        add("no_batch_at_all", false, bundle.encode());
        let mut bundle = stand.session();
        bundle.enrolment.1.received_ns = 1;
        add("enrolment_with_a_time_that_nobody_signed", true, bundle.encode());
        let mut bundle = stand.session();
        bundle.batches[1].1.hashes = vec![Hash::ZERO; 129];
        add("proof_longer_than_any_tree", false, bundle.encode());
    }

    /// Who has the sink's keys signs a log over whatever he likes; he has no key of any host.
    fn of_the_owner_of_the_sink(&mut self) {
        let forged = Stand::forged(|first, _| *signature_of(&mut first[3]) ^= 1);
        self.add("owner_of_the_sink_signs_for_the_host", &[SIGNATURE], &forged.session());
        let forged = Stand::forged(|_, second| *second = Stand::epoch_of_another_key());
        self.add(
            "owner_of_the_sink_opens_an_epoch",
            &[Stop::Chain(Check::Certificate)],
            &forged.both_epochs(),
        );
        let forged = Stand::forged(|_, second| *second = Stand::epoch_that_goes_on_behind_its_end());
        let mut bundle = forged.both_epochs();
        bundle.range.last.seq = Seq(4);
        self.add("entries_behind_the_end_of_an_epoch", &[Stop::Chain(Check::Stop)], &bundle);
    }

    /// What a key that was rotated away, or never the host's, can be made to sign; all of it stands in the log.
    fn of_rotations(&mut self) {
        for (name, host, by) in
            [("rotation_that_another_key_signed", HOST, 0xb3), ("rotation_of_another_host", OTHER, 0xb0)]
        {
            let forged = Stand::forged(|_, second| *second = Stand::epoch_of_a_rotated_key(host, by));
            self.add(name, &[Stop::Chain(Check::HandOver)], &forged.both_epochs());
        }
        let forged = Stand::forged(|_, second| *second = Stand::epoch_of_a_rotated_key(HOST, 0xb3));
        self.add("way_over_a_rotation_that_another_key_signed", &[WAY], &forged.end_of_the_second());
        for (name, other) in [
            ("epoch_of_a_key_that_was_rotated_away", None),
            ("second_rotation_from_the_same_key", Some(0xb3)),
        ] {
            let forged = Stand::forged(|_, second| *second = Stand::epoch_behind_a_rotation(other));
            let mut bundle = forged.both_epochs();
            bundle.range.last = Point { epoch: epoch_id(3), seq: Seq(1) };
            self.add(name, &[Stop::Chain(Check::KeyLine)], &bundle);
        }
    }
}

type ChangeProof = fn(&mut Proof);

/// A byte of a frame's signature.
fn signature_of(frame: &mut [u8]) -> &mut u8 {
    let at = head_of(frame).unwrap().len() - 1;
    &mut frame[at]
}

/// An entry of a frame, to be changed at will.
#[derive(Clone)]
struct Entry {
    header: EntryHeader,
    body: Option<(Salt, Vec<u8>)>,
}

impl Entry {
    fn alter(&mut self, change: impl FnOnce(&mut EntryHeader)) {
        change(&mut self.header);
    }
}

/// The frame with other entries below what was signed.
fn rebuilt(frame: &[u8], change: impl FnOnce(&mut Vec<Entry>)) -> Vec<u8> {
    let batch = Batch::decode(frame).unwrap();
    let entry = |view: &crate::batch::EntryView<'_>| Entry {
        header: view.header.clone(),
        body: view.body.map(|body| (body.salt, body.bytes.to_vec())),
    };
    let mut entries = batch.entries.iter().map(entry).collect();
    change(&mut entries);
    let mut out = frame_head(batch.header_bytes, &batch.signature);
    for entry in &entries {
        let body = entry.body.as_ref().map(|(salt, bytes)| Body { salt: *salt, bytes });
        put_entry(&mut out, &entry.header.encode().unwrap(), body);
    }
    out
}

pub(super) fn checked(bytes: &[u8], policy: &Policy) -> Result<Report, VerifyError> {
    verify(bytes, policy, &mut |_| {})
}

/// Name of the check that rejects.
fn rejected_by(bytes: &[u8], policy: &Policy) -> Option<String> {
    match checked(bytes, policy) {
        Ok(_) => None,
        Err(VerifyError::Rejected(rejected)) => Some(rejected.name()),
        Err(VerifyError::Io(error)) => panic!("{error}"),
    }
}

#[test]
fn each_attack_is_stopped_by_its_checks_and_passes_without_them() {
    let stand = Stand::new();
    let attacks = attacks();
    for attack in &attacks {
        let policy = attack.policy.policy(&stand);
        for gone in 0..=attack.stopped_by.len() {
            let (without, left) = attack.stopped_by.split_at(gone);
            let chain: Vec<Check> = without
                .iter()
                .filter_map(|stop| match stop {
                    Stop::Chain(check) => Some(*check),
                    Stop::Bundle(_) => None,
                })
                .collect();
            let bundle = without.iter().filter_map(|stop| match stop {
                Stop::Bundle(check) => Some(*check),
                Stop::Chain(_) => None,
            });
            LEFT_OUT.set(bundle.collect());
            let leaving_out = LeavingOut::these(&chain);
            let stopped = rejected_by(&attack.bytes, &policy);
            drop(leaving_out);
            LEFT_OUT.set(Vec::new());
            if gone < attack.stopped_by.len() || attack.passes_without {
                assert_eq!(
                    stopped,
                    left.first().map(|stop| stop.name()),
                    "{} without {without:?}",
                    attack.name
                );
            }
        }
    }
    let names: std::collections::BTreeSet<_> = attacks.iter().map(|attack| attack.name).collect();
    assert_eq!(names.len(), attacks.len(), "two attacks have one name");
    assert!(attacks.iter().filter(|attack| attack.passes_without).count() >= 40);
}

/// Every byte of a bundle is covered: whichever is flipped, and wherever it is cut, it is rejected.
#[test]
fn every_flipped_byte_and_every_cut_is_rejected() {
    let stand = Stand::new();
    let flipped = |honest: &[u8], at: usize| {
        let mut bytes = honest.to_vec();
        bytes[at] ^= 0x10;
        assert!(checked(&bytes, &stand.policy).is_err(), "byte {at} is covered by nothing");
    };
    let anchored = stand.anchored().encode();
    (0..anchored.len()).for_each(|at| flipped(&anchored, at));
    (0..anchored.len()).step_by(7).for_each(|cut| {
        assert!(checked(&anchored[..cut], &stand.policy).is_err(), "cut at {cut}");
    });
    // What the other one has and this one has not: the way of keys.
    let led = stand.session().encode();
    let place = |tag: &[u8; 4]| led.windows(4).position(|four| four == tag).unwrap();
    (place(b"head")..place(b"btch")).for_each(|at| flipped(&led, at));
}

#[test]
fn a_note_of_a_witness_beside_the_logs_own_is_passed_over() {
    let stand = Stand::new();
    let mut bundle = stand.session();
    let mut note: Note = stand.checkpoint.parse().unwrap();
    cosign(&mut note, "witness.example/w1", &stand.log, 1_800_000_000).unwrap();
    bundle.checkpoint = note.to_string();
    assert!(checked(&bundle.encode(), &stand.policy).is_ok());
}

#[test]
fn a_bundle_says_what_is_redacted_and_what_is_missing() {
    let stand = Stand::new();
    let report = |bundle: &Bundle| checked(&bundle.encode(), &stand.policy).unwrap();
    let whole = report(&stand.entries(SESSION.0, 9));
    assert_eq!((whole.verified, whole.redacted, whole.gaps, whole.around), (6, 0, 1, 0));
    let session = report(&stand.session());
    // The gap of no session stays: it says what is missing.
    assert_eq!((session.verified, session.redacted), (5, 1));
    let of_session = session.session.unwrap();
    assert_eq!((of_session.entries, of_session.redacted, of_session.closed), (4, 0, true));
    assert!(session.is_whole());
    // A body of the session itself is left out.
    let mut bundle = stand.session();
    bundle.batches[1].0 = redacted(&bundle.batches[1].0, |_| true);
    let report_of = report(&bundle);
    assert_eq!((report_of.is_whole(), report_of.session.unwrap().redacted), (false, 1));
    // The last batch of an epoch is left out: the next epoch names it.
    let both = report(&stand.both_epochs());
    assert_eq!((both.is_whole(), both.epochs, both.verified, both.around), (true, 2, 9, 1));
    let mut bundle = stand.both_epochs();
    bundle.batches.remove(2);
    let lost = report(&bundle);
    assert!(!lost.is_whole() && lost.findings.len() == 1, "{:?}", lost.findings);
}
