//! What the tests of bundles make theirs of: a sink with two hosts whose keys, salts and times are known, so that the
//! vectors are the same bytes for ever.

use std::collections::BTreeMap;

use ring::signature::Ed25519KeyPair;

use super::{Point, Proof, Range, Writer, head_of};
use crate::batch::{BATCH_VERSION, Body, frame_head, put_entry};
use crate::entry::ENTRY_VERSION;
use crate::ids::EpochNonce;
use crate::keys::Context;
use crate::segment::{Record, RecordKind};
use crate::statement::Signed;
use crate::tlog::checkpoint::{cosign, log_key};
use crate::tlog::note::KeyKind;
use crate::tlog::{BatchLeaf, Checkpoint, MemoryTree, Note, NoteKey, Policy, Witnesses, leaf, proof};
use crate::*;

mod expired;
pub(super) use expired::{ALL, EARLY, LATE, gone_of, of_age, sealed};

pub(super) const HOST: HostId = HostId::from_bytes([7; 16]);
pub(super) const OTHER: HostId = HostId::from_bytes([8; 16]);
/// The session that the first host has in its first epoch: entries 4, 5, 7 and 9.
pub(super) const SESSION: Seq = Seq(4);

const BOOT: BootId = BootId([1; 16]);
/// 2026-01-31 12:00:00 UTC, ns since 1970.
const NOON_NS: u64 = 1_769_860_800_000_000_000;

/// A key that is used nowhere else.
fn pair(seed: u8) -> Ed25519KeyPair {
    let pkcs8 = format!("302e020100300506032b657004220420{}", hex::encode([seed; 32]));
    Ed25519KeyPair::from_pkcs8_maybe_unchecked(&hex::decode(pkcs8).unwrap()).unwrap()
}

/// Signs in any context.
pub(super) fn signer(seed: u8) -> SinkKey {
    SinkKey::from_pair(pair(seed))
}

/// The witnesses of the policy that demands some: names, and seeds of keys.
pub(super) const WITNESSES: [(&str, u8); 2] = [("witness.example/w1", 0xc1), ("witness.example/w2", 0xc2)];

/// Signs notes.
pub(super) fn signer_of_notes(seed: u8) -> LogKey {
    LogKey::from_pair(pair(seed))
}

/// The key that a witness's cosignatures are verified with.
pub(super) fn witness_key(name: &str, key: &LogKey) -> NoteKey {
    NoteKey::new(name, KeyKind::CosignatureV1, key.public()).unwrap()
}

pub(super) fn epoch_id(counter: u64) -> EpochId {
    EpochId { counter, nonce: EpochNonce([0x30 + counter as u8; 16]) }
}

/// A host that signs as its agent does, with keys of known bytes: that of batch n is `keys + n`.
struct Line {
    host: HostId,
    host_key: HostKey,
    epoch: EpochId,
    keys: u8,
    line: Vec<HandOver>,
    resume: Option<Resume>,
    next_seq: u64,
    last_entry: Hash,
    newest: Option<Position>,
    made: Vec<Vec<u8>>,
}

impl Line {
    fn begin(host: HostId, host_key: u8, counter: u64, keys: u8, resume: Option<Position>) -> Self {
        Line {
            host,
            host_key: HostKey::from_pair(pair(host_key)),
            epoch: epoch_id(counter),
            keys,
            line: Vec::new(),
            resume: resume.map(|local| Resume { local: Some(local), ..Default::default() }),
            next_seq: 0,
            last_entry: Hash::ZERO,
            newest: None,
            made: Vec::new(),
        }
    }

    fn batch(&mut self, entries: &[(EntryType, Option<Seq>)]) {
        let number = self.made.len() as u64;
        let first_seq = Seq(self.next_seq);
        let (mut leaves, mut parts) = (Vec::new(), Vec::new());
        for (entry_type, session) in entries {
            let seq = self.next_seq;
            let salt = Salt([seq as u8; 16]);
            let body = format!("body {seq} of epoch {}", self.epoch.counter).into_bytes();
            let header = EntryHeader {
                version: ENTRY_VERSION,
                entry_type: entry_type.clone(),
                host: self.host,
                boot: BOOT,
                epoch: self.epoch,
                seq: Seq(seq),
                first_ns: 1_000 + seq,
                last_ns: 2_000 + seq,
                wall_ns: NOON_NS + self.epoch.counter * 3_600_000_000_000 + seq * 1_000_000,
                session: *session,
                body_bytes: body.len() as u32,
                body: tree::body_hash(&salt, &body),
                sealed: None,
                previous: self.last_entry,
            };
            let header = header.encode().unwrap();
            self.last_entry = tree::leaf(&header);
            leaves.push(self.last_entry);
            parts.push((header, salt, body));
            self.next_seq += 1;
        }
        let key = |number: u64| signer(self.keys + number as u8);
        let first_key = key(0).public();
        let opening = || Opening {
            key: first_key,
            certificate: self.host_key.certify(self.host, BOOT, self.epoch, &first_key),
            line: self.line.clone(),
            resume: self.resume.clone(),
        };
        let header = BatchHeader {
            version: BATCH_VERSION,
            host: self.host,
            boot: BOOT,
            epoch: self.epoch,
            number: BatchNumber(number),
            first_seq,
            count: entries.len() as u32,
            root: tree::root(&leaves),
            previous: self.newest.map_or(Hash::ZERO, |newest| newest.hash),
            next_key: key(number + 1).public(),
            counters: BTreeMap::new(),
            last_receipt: None,
            checkpoint: None,
            opening: (number == 0).then(opening),
        };
        let bytes = header.encode().unwrap();
        self.newest =
            Some(Position { epoch: self.epoch, number: BatchNumber(number), hash: tree::batch_hash(&bytes) });
        let mut frame = frame_head(&bytes, &key(number).sign(Context::Batch, &bytes));
        for (header, salt, body) in &parts {
            put_entry(&mut frame, header, Some(Body { salt: *salt, bytes: body }));
        }
        self.made.push(frame);
    }
}

/// A frame with its place.
pub(super) type Placed = (Vec<u8>, Proof);

/// The sink. All that a bundle can be made of.
pub(super) struct Stand {
    pub(super) policy: Policy,
    pub(super) log: LogKey,
    pub(super) checkpoint: String,
    pub(super) enrolment: Placed,
    pub(super) other_enrolment: Placed,
    /// The first host's first epoch: six batches of two entries.
    pub(super) first: Vec<Placed>,
    /// Its second one: two batches, the end in order.
    pub(super) second: Vec<Placed>,
    /// The other host's, of the same epoch and numbers.
    pub(super) other: Vec<Placed>,
    /// What the sink stated: by itself nothing.
    pub(super) stated: Vec<Placed>,
}

pub(super) fn enrol(host: HostId, host_key: u8) -> Vec<u8> {
    let enrolment = Enrolment {
        host,
        key: HostKey::from_pair(pair(host_key)).public(),
        name: "web-1".to_owned(),
        labels: BTreeMap::from([("env".to_owned(), "prod".to_owned())]),
        enrolled_ns: NOON_NS,
    };
    Signed::seal(&signer(0xa0), &enrolment).unwrap()
}

fn leaf_of(kind: RecordKind, payload: &[u8]) -> Hash {
    let record = Record { kind, meta: Vec::new(), payload: payload.to_vec(), offset: 0, length: 0 };
    tree::leaf(&leaf::of_record(&record).unwrap())
}

fn lines() -> [Line; 3] {
    use EntryType::{AgentStart, AgentStop, Exchange, Exec, Gap, Resume, SessionClose, SessionOpen};
    let session = Some(SESSION);
    let mut first = Line::begin(HOST, 0xb0, 1, 0x10, None);
    first.batch(&[(AgentStart, None), (Exec, None)]);
    first.batch(&[(SessionOpen, None), (Exchange, Some(Seq(2)))]);
    first.batch(&[(SessionOpen, None), (Exchange, session)]);
    first.batch(&[(Exchange, Some(Seq(2))), (Exchange, session)]);
    first.batch(&[(Gap, None), (SessionClose, session)]);
    first.batch(&[(SessionClose, Some(Seq(2))), (Exec, None)]);
    let mut second = Line::begin(HOST, 0xb0, 2, 0x40, first.newest);
    second.batch(&[(Resume, None), (AgentStart, None)]);
    second.batch(&[(Exec, None), (AgentStop, None)]);
    let mut other = Line::begin(OTHER, 0xb1, 1, 0x70, None);
    for _ in 0..6 {
        other.batch(&[(Exec, None), (Exec, None)]);
    }
    [first, second, other]
}

impl Stand {
    pub(super) fn new() -> Self {
        Stand::forged(|_, _| {})
    }

    /// With a log over what somebody made of the first host's epochs.
    pub(super) fn forged(forge: impl FnOnce(&mut Vec<Vec<u8>>, &mut Vec<Vec<u8>>)) -> Self {
        Stand::stating(forge, &[], &[])
    }

    /// The same, with what the sink stated before all batches, and behind them.
    fn stating(
        forge: impl FnOnce(&mut Vec<Vec<u8>>, &mut Vec<Vec<u8>>),
        before: &[Vec<u8>],
        behind: &[Vec<u8>],
    ) -> Self {
        let log = LogKey::from_pair(pair(0xa1));
        let enrolments = [enrol(HOST, 0xb0), enrol(OTHER, 0xb1)];
        let mut lines = lines().map(|line| line.made);
        let [first, second, _] = &mut lines;
        forge(first, second);
        let received = |index: u64| NOON_NS + index * 1_000_000_000;
        let mut tree = MemoryTree::default();
        enrolments.iter().for_each(|payload| tree.push(leaf_of(RecordKind::Enrolment, payload)));
        before.iter().for_each(|payload| tree.push(leaf_of(RecordKind::Statement, payload)));
        for frame in lines.iter().flatten() {
            tree.push(BatchLeaf::of_frame(frame, received(tree.size())).unwrap().hash());
        }
        let batches_end = tree.size();
        behind.iter().for_each(|payload| tree.push(leaf_of(RecordKind::Statement, payload)));
        let hashes = |index| proof::inclusion(&tree, index, tree.size()).unwrap().unwrap();
        let unsaid = |index| Proof { index, received_ns: 0, content: Hash::ZERO, hashes: hashes(index) };
        let stated = (2..).zip(before).chain((batches_end..).zip(behind));
        let stated = stated.map(|(index, payload)| (payload.clone(), unsaid(index))).collect();
        let mut index = 1 + before.len() as u64;
        let [first, second, other] = lines.map(|frames| {
            let placed = frames.into_iter().map(|frame| {
                index += 1;
                let (received_ns, content) = (received(index), tree::hash_of(&frame));
                (frame, Proof { index, received_ns, content, hashes: hashes(index) })
            });
            placed.collect::<Vec<_>>()
        });
        let [enrolment, other_enrolment] = enrolments;
        let name = log_key(log.public());
        let (size, root) = (tree.size(), tree.root(tree.size()).unwrap());
        let checkpoint = Checkpoint { origin: name.name().to_owned(), size, root };
        Stand {
            policy: Policy { sink: signer(0xa0).public(), log: name, witnesses: Witnesses::default() },
            checkpoint: checkpoint.sign(&log).to_string(),
            enrolment: (enrolment, unsaid(0)),
            other_enrolment: (other_enrolment, unsaid(1)),
            log,
            first,
            second,
            other,
            stated,
        }
    }

    /// The second epoch, certified by a key that its host never enrolled with.
    pub(super) fn epoch_of_another_key() -> Vec<Vec<u8>> {
        let [first, ..] = lines();
        let mut second = Line::begin(HOST, 0xb1, 2, 0x40, first.newest);
        second.batch(&[(EntryType::Resume, None), (EntryType::AgentStart, None)]);
        second.batch(&[(EntryType::Exec, None), (EntryType::AgentStop, None)]);
        second.made
    }

    /// The second epoch under a key that the first host's enrolled key handed over to, or whom the key `by` did for `host`.
    pub(super) fn epoch_of_a_rotated_key(host: HostId, by: u8) -> Vec<Vec<u8>> {
        let [first, ..] = lines();
        let mut second = Line::begin(HOST, 0xb2, 2, 0x40, first.newest);
        second.line = vec![HostKey::from_pair(pair(by)).hand_over(host, &second.host_key.public())];
        second.batch(&[(EntryType::Resume, None), (EntryType::AgentStart, None)]);
        second.batch(&[(EntryType::Exec, None), (EntryType::AgentStop, None)]);
        second.made
    }

    /// The same, and behind it a third epoch: of the old key, or of another one that the old key handed over to.
    pub(super) fn epoch_behind_a_rotation(other: Option<u8>) -> Vec<Vec<u8>> {
        let mut made = Stand::epoch_of_a_rotated_key(HOST, 0xb0);
        let newest = Batch::decode(&made[1]).unwrap().position();
        let mut third = Line::begin(HOST, other.unwrap_or(0xb0), 3, 0x50, Some(newest));
        let old = HostKey::from_pair(pair(0xb0));
        third.line = other.map(|_| old.hand_over(HOST, &third.host_key.public())).into_iter().collect();
        third.batch(&[(EntryType::Resume, None), (EntryType::AgentStart, None)]);
        made.append(&mut third.made);
        made
    }

    /// The second epoch with a batch behind its end in order.
    pub(super) fn epoch_that_goes_on_behind_its_end() -> Vec<Vec<u8>> {
        let [_, mut second, _] = lines();
        second.batch(&[(EntryType::Exec, None)]);
        second.made
    }

    /// The policy that demands both witnesses.
    pub(super) fn witnessed_policy(&self) -> Policy {
        let keys = WITNESSES.map(|(name, seed)| witness_key(name, &signer_of_notes(seed)));
        Policy { witnesses: Witnesses::some_of(keys, 2).unwrap(), ..self.policy.clone() }
    }

    /// The checkpoint, cosigned by these: under which name, by which key.
    pub(super) fn cosigned(&self, by: &[(&str, u8)]) -> String {
        let mut note: Note = self.checkpoint.parse().unwrap();
        for (name, seed) in by {
            cosign(&mut note, name, &signer_of_notes(*seed), NOON_NS / 1_000_000_000 + u64::from(*seed))
                .unwrap();
        }
        note.to_string()
    }

    /// The session, with the bodies of all others left out.
    pub(super) fn session(&self) -> Bundle {
        let mut bundle = self.entries(SESSION.0, 9);
        bundle.range.session = Some(SESSION);
        for (frame, _) in &mut bundle.batches {
            *frame = bundle.range.redacted(frame, false).unwrap();
        }
        bundle
    }

    /// Entries of the first epoch with all bodies.
    pub(super) fn entries(&self, first: u64, last: u64) -> Bundle {
        let batches = (first / 2) as usize..=(last / 2) as usize;
        let point = |seq| Point { epoch: epoch_id(1), seq: Seq(seq) };
        Bundle {
            range: Range { host: HOST, first: point(first), last: point(last), session: None },
            checkpoint: self.checkpoint.clone(),
            enrolment: self.enrolment.clone(),
            way: self.first[..*batches.start()]
                .iter()
                .map(|(frame, _)| head_of(frame).unwrap().to_vec())
                .collect(),
            anchor: None,
            stated: Vec::new(),
            batches: self.first[batches].to_vec(),
        }
    }

    /// The last batch of the second epoch, entered by that epoch's opening.
    pub(super) fn end_of_the_second(&self) -> Bundle {
        let point = |seq| Point { epoch: epoch_id(2), seq: Seq(seq) };
        Bundle {
            range: Range { host: HOST, first: point(2), last: point(3), session: None },
            checkpoint: self.checkpoint.clone(),
            enrolment: self.enrolment.clone(),
            way: vec![head_of(&self.second[0].0).unwrap().to_vec()],
            anchor: None,
            stated: Vec::new(),
            batches: self.second[1..2].to_vec(),
        }
    }

    /// The session, entered by an anchor.
    pub(super) fn anchored(&self) -> Bundle {
        let mut bundle = self.session();
        bundle.way.clear();
        let (frame, place) = &self.first[1];
        bundle.anchor = Some((head_of(frame).unwrap().to_vec(), place.clone()));
        bundle
    }

    /// From the middle of the first epoch to the end of the second.
    pub(super) fn both_epochs(&self) -> Bundle {
        let mut bundle = self.entries(7, 11);
        bundle.range.last = Point { epoch: epoch_id(2), seq: Seq(3) };
        bundle.batches.extend(self.second.iter().cloned());
        bundle
    }
}

pub(super) fn redacted(frame: &[u8], withhold: impl FnMut(&EntryHeader) -> bool) -> Vec<u8> {
    Batch::decode(frame).unwrap().redacted(withhold)
}

/// The pieces of a bundle, to be changed at will.
#[derive(Clone)]
pub(super) struct Bundle {
    pub(super) range: Range,
    pub(super) checkpoint: String,
    pub(super) enrolment: Placed,
    pub(super) way: Vec<Vec<u8>>,
    pub(super) anchor: Option<Placed>,
    /// Statements, each with the number of the batch that it stands before.
    pub(super) stated: Vec<(usize, Placed)>,
    pub(super) batches: Vec<Placed>,
}

impl Bundle {
    pub(super) fn encode(&self) -> Vec<u8> {
        let (enrolment, place) = &self.enrolment;
        let expired = !self.stated.is_empty();
        let mut writer =
            Writer::begin(Vec::new(), &self.range, &self.checkpoint, enrolment, place, expired).unwrap();
        self.way.iter().for_each(|head| writer.way(head).unwrap());
        self.anchor.iter().for_each(|(head, place)| writer.anchor(head, place).unwrap());
        for (number, (frame, place)) in self.batches.iter().enumerate() {
            let before = self.stated.iter().filter(|(before, _)| *before == number);
            before.for_each(|(_, (payload, place))| writer.statement(payload, place).unwrap());
            writer.batch(frame, place).unwrap();
        }
        writer.end().unwrap()
    }
}
