//! The bytes of each format, fixed in files: what is signed cannot be migrated, so no change may pass unseen.
//! `BLESS=1 cargo test -p custody-ledger golden` rewrites them; a person reads the difference.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::batch::{BATCH_VERSION, Body, ReceiptReference, frame_head, put_entry};
use crate::entry::{ENTRY_VERSION, SealedReference};
use crate::ids::EpochNonce;
use crate::retention::{BatchMeta, ExpiredOf, Retention, Thinned, content_of};
use crate::segment::{self, RecordKind};
use crate::statement::{DenialReason, Denied, Signed, Stated};
use crate::tlog::checkpoint::CertifiedLogKey;
use crate::tlog::{self, BatchLeaf, Checkpoint, CheckpointReference, InclusionProof};
use crate::verify::Finding;
use crate::wire::{
    self, AppendResponse, ChainRegistration, EnrolRequest, EnrolResponse, HeadResponse, JoinToken,
};
use crate::*;

/// Ed25519 keys that are used nowhere else.
fn pair(seed: &str) -> ring::signature::Ed25519KeyPair {
    let pkcs8 = hex::decode(format!("302e020100300506032b657004220420{}", seed.repeat(32))).unwrap();
    ring::signature::Ed25519KeyPair::from_pkcs8_maybe_unchecked(&pkcs8).unwrap()
}

fn sink_key() -> SinkKey {
    SinkKey::from_pair(pair("5a"))
}

fn compare(name: &str, bytes: &[u8]) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    let lines: Vec<String> = bytes.chunks(32).map(hex::encode).collect();
    let text = lines.join("\n") + "\n";
    if std::env::var_os("BLESS").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, &text).unwrap();
    }
    let golden = std::fs::read_to_string(&path)
        .unwrap_or_else(|error| panic!("{}: {error}; BLESS=1 writes it", path.display()));
    assert_eq!(
        text, golden,
        "the bytes of {name} changed: stored evidence can no longer be read or verified"
    );
}

const HOST: HostId = HostId::from_bytes([0x11; 16]);
const BOOT: BootId = BootId([0x22; 16]);
const EPOCH: EpochId = EpochId { counter: 3, nonce: EpochNonce([0x33; 16]) };
const BATCH: Position = Position { epoch: EPOCH, number: BatchNumber(4), hash: Hash([0x44; 32]) };

fn entry(seq: u64, sealed: Option<SealedReference>) -> EntryHeader {
    EntryHeader {
        version: ENTRY_VERSION,
        entry_type: EntryType::Exchange,
        host: HOST,
        boot: BOOT,
        epoch: EPOCH,
        seq: Seq(seq),
        first_ns: 1_000,
        last_ns: 2_000_000_000_000,
        wall_ns: 1_800_000_000_000_000_000,
        session: Some(Seq(0)),
        body_bytes: 5,
        body: tree::body_hash(&Salt([0x66; 16]), b"hello"),
        sealed,
        previous: Hash([0x77; 32]),
    }
}

fn sealed() -> SealedReference {
    SealedReference {
        ciphertext: Hash([0x81; 32]),
        plaintext: Hash([0x82; 32]),
        ciphertext_bytes: 300,
        plaintext_bytes: 200,
        policy: Hash([0x83; 32]),
        masker: Hash([0x84; 32]),
    }
}

fn batch_header(number: u64) -> BatchHeader {
    let resume = Resume { local: Some(BATCH), sink: Some(BATCH), quarantined: vec![BATCH] };
    let opening = Opening {
        key: PublicKey([0x91; 32]),
        certificate: Signature([0x92; 64]),
        line: Vec::new(),
        resume: Some(resume),
    };
    let counters = Counters {
        produced: 1_000_000,
        delivered: 999_900,
        lost_ring: 50,
        lost_user: 20,
        skipped: 10,
        cut: 15,
        in_flight: 5,
    };
    BatchHeader {
        version: BATCH_VERSION,
        host: HOST,
        boot: BOOT,
        epoch: EPOCH,
        number: BatchNumber(number),
        first_seq: Seq(number * 2),
        count: 2,
        root: Hash([0x93; 32]),
        previous: Hash([0x94; 32]),
        next_key: PublicKey([0x95; 32]),
        counters: BTreeMap::from([("data.bytes".to_owned(), counters)]),
        last_receipt: Some(ReceiptReference { batch: BATCH, receipt: Hash([0x96; 32]) }),
        checkpoint: None,
        opening: (number == 0).then_some(opening),
    }
}

#[test]
fn golden_entry_headers() {
    compare("entry-header.hex", &entry(7, None).encode().unwrap());
    compare("entry-header-sealed.hex", &entry(8, Some(sealed())).encode().unwrap());
}

#[test]
fn golden_batch_headers_and_frame() {
    let (opening, later) = (batch_header(0).encode().unwrap(), batch_header(5).encode().unwrap());
    compare("batch-header-opening.hex", &opening);
    compare("batch-header.hex", &later);
    let mut rotated = batch_header(0);
    let step = HandOver { key: PublicKey([0x98; 32]), signature: Signature([0x99; 64]) };
    rotated.opening.as_mut().unwrap().line = vec![step];
    compare("batch-header-line.hex", &rotated.encode().unwrap());
    let mut frame = frame_head(&later, &Signature([0x97; 64]));
    let body = Body { salt: Salt([0x66; 16]), bytes: b"hello" };
    put_entry(&mut frame, &entry(10, None).encode().unwrap(), Some(body));
    put_entry(&mut frame, &entry(11, None).encode().unwrap(), None);
    compare("frame.hex", &frame);
    let read = Batch::decode(&frame).unwrap();
    assert_eq!((read.entries[0].body, read.entries[1].body), (Some(body), None));
}

#[test]
fn golden_hashes_and_signed_statements() {
    let hashes = [
        tree::leaf(b"header"),
        tree::batch_hash(b"header"),
        tree::body_hash(&Salt([0x66; 16]), b"hello"),
        tree::root(&[tree::leaf(b"a"), tree::leaf(b"b"), tree::leaf(b"c")]),
    ];
    compare("hashes.hex", &hashes.map(|hash| hash.0).concat());
    let contexts = [keys::Context::Epoch, keys::Context::Batch, keys::Context::Enrolment];
    let contexts = contexts.into_iter().chain([keys::Context::Receipt, keys::Context::Statement]);
    let signatures: Vec<u8> = contexts.flat_map(|context| sink_key().sign(context, b"message").0).collect();
    compare("signatures.hex", &signatures);
}

#[test]
fn golden_receipt_and_statements() {
    let receipt = SignedReceipt::sign(&sink_key(), ReceiptLevel::Stored, HOST, BATCH, 1_800_000_000).unwrap();
    compare("receipt.hex", &wire::encode(&receipt).unwrap());
    assert_eq!(receipt.verify(&sink_key().public()).unwrap().batch, BATCH);
    let enrolment = Enrolment {
        host: HOST,
        key: PublicKey([0xa1; 32]),
        name: "web-1".to_owned(),
        labels: BTreeMap::from([("env".to_owned(), "prod".to_owned())]),
        enrolled_ns: 1_800_000_000,
    };
    compare("enrolment.hex", &Signed::seal(&sink_key(), &enrolment).unwrap());
    let found = Stated::Found { batch: BATCH, finding: Finding::Missing { from: None, to: BATCH } };
    let other = Position { hash: Hash([0xa2; 32]), ..BATCH };
    let equivocation =
        Stated::Equivocation { accepted: BATCH, other, signed: true, frame: b"frame".to_vec() };
    let denied = Stated::Denied(Denied {
        who: None,
        reason: DenialReason::NoCertificate,
        count: 3,
        since_ns: 1_700_000_000,
        address: "192.0.2.7".to_owned(),
        request: "GET /v1/hosts".to_owned(),
    });
    let of = ExpiredOf { host: HOST, batches: 2, bodies: 300, bytes: 70_000 };
    let retention = Retention { age_s: 7_776_000, segment: 12, first: 5_000, end: 5_120, hosts: vec![of] };
    for (name, host, what) in [
        ("statement-retention.hex", None, Stated::Retention(retention)),
        ("statement-found.hex", Some(HOST), found),
        ("statement-equivocation.hex", Some(HOST), equivocation),
        ("statement-denied.hex", None, denied),
    ] {
        let statement = Statement { host, at_ns: 1_800_000_000, what };
        let sealed = Signed::seal(&sink_key(), &statement).unwrap();
        compare(name, &sealed);
        assert_eq!(Signed::open::<Statement>(&sealed).unwrap().0, statement);
    }
}

#[test]
fn golden_wire_messages() {
    let token = JoinToken { url: "https://sink:7443".to_owned(), ca: Hash([0xb1; 32]), secret: [0xb2; 32] };
    compare("join-token.hex", token.to_string().as_bytes());
    assert_eq!(token.to_string().parse::<JoinToken>().unwrap(), token);
    let chain = ChainRegistration { key: PublicKey([0xb3; 32]), proof: Signature([0xb4; 64]) };
    let request = EnrolRequest {
        secret: vec![0xb2; 32],
        certificate_request: b"csr".to_vec(),
        name: Some("web-1".to_owned()),
        chain: Some(chain),
    };
    compare("enrol-request.hex", &wire::encode(&request).unwrap());
    let response = EnrolResponse {
        identity: format!("custody:host:{HOST}"),
        host: Some(HOST),
        certificate: "PEM".to_owned(),
        ca: "PEM".to_owned(),
        sink: PublicKey([0xb5; 32]),
    };
    compare("enrol-response.hex", &wire::encode(&response).unwrap());
    let head = HeadResponse { host: HOST, head: Some(BATCH), next_seq: Seq(9) };
    compare("head-response.hex", &wire::encode(&head).unwrap());
    let refusal = wire::Refusal {
        code: wire::RefusalCode::OutOfOrder,
        detail: "the batch before it is 4".to_owned(),
        head: Some(head),
        retry_after_ms: None,
    };
    compare(
        "append-response.hex",
        &wire::encode(&AppendResponse { receipts: vec![], refusal: Some(refusal) }).unwrap(),
    );
    let mut body = Vec::new();
    wire::put_frame(&mut body, b"one");
    wire::put_frame(&mut body, b"two");
    compare("append-body.hex", &body);
    assert_eq!(wire::frames(&body).collect::<Vec<_>>(), [Some(&b"one"[..]), Some(b"two")]);
    assert_eq!(wire::frames(&body[..9]).collect::<Vec<_>>(), [Some(&b"one"[..]), None]);
}

#[test]
fn golden_log() {
    let reference =
        CheckpointReference { origin: "custody-log/0011".to_owned(), size: 7, root: Hash([0xc1; 32]) };
    let echo = BatchHeader { checkpoint: Some(reference), ..batch_header(5) }.encode().unwrap();
    compare("batch-header-checkpoint.hex", &echo);
    let mut frame = frame_head(&batch_header(5).encode().unwrap(), &Signature([0x97; 64]));
    put_entry(&mut frame, &entry(10, None).encode().unwrap(), None);
    let receipt = SignedReceipt::sign(&sink_key(), ReceiptLevel::Stored, HOST, BATCH, 1_800_000_000).unwrap();
    let record = |kind, meta: Vec<u8>, payload: &[u8]| segment::Record {
        kind,
        meta,
        payload: payload.to_vec(),
        offset: 8,
        length: 99,
    };
    let leaf =
        tlog::leaf::of_record(&record(RecordKind::Batch, wire::encode(&receipt).unwrap(), &frame)).unwrap();
    compare("leaf-batch.hex", &leaf);
    let read = BatchLeaf::decode(&leaf).unwrap();
    assert_eq!((read.host, read.received_ns, read.content), (HOST, 1_800_000_000, tree::hash_of(&frame)));
    let statement = record(RecordKind::Statement, Vec::new(), b"payload");
    compare("leaf-record.hex", &tlog::leaf::of_record(&statement).unwrap());
    let (log, witness_key) = (LogKey::from_pair(pair("5b")), LogKey::from_pair(pair("5c")));
    let checkpoint = Checkpoint {
        origin: tlog::checkpoint::log_key(log.public()).name().to_owned(),
        size: 7,
        root: Hash([0xc1; 32]),
    };
    let mut note = checkpoint.sign(&log);
    let witness =
        tlog::checkpoint::cosign(&mut note, "witness.example/w1", &witness_key, 1_800_000_000).unwrap();
    let proof = InclusionProof { index: 3, hashes: vec![Hash([0xc2; 32])], checkpoint: note };
    let certified = CertifiedLogKey::certify(&sink_key(), log.public());
    assert!(certified.verify(&sink_key().public()).is_ok());
    let keys = [tlog::checkpoint::log_key(log.public()), witness].map(|key| key.to_string()).join("\n");
    compare("log-keys.hex", keys.as_bytes());
    compare("tlog-proof.hex", proof.to_string().as_bytes());
    assert_eq!(proof.to_string().parse::<InclusionProof>().unwrap(), proof);
    let answer = wire::CommittedResponse {
        log: certified,
        checkpoint: proof.checkpoint.to_string(),
        consistency: vec![Hash([0xc3; 32])],
        batches: vec![wire::CommittedBatch { batch: BATCH, index: 3, proof: proof.hashes }],
        witnessed: None,
    };
    compare("committed-response.hex", &wire::encode(&answer).unwrap());
}

/// What stands in the place of a batch whose bodies have expired, and that its leaf is the one that it had.
#[test]
fn golden_thinned_batch() {
    let mut frame = frame_head(&batch_header(5).encode().unwrap(), &Signature([0x97; 64]));
    let body = Body { salt: Salt([0x66; 16]), bytes: b"hello" };
    put_entry(&mut frame, &entry(10, None).encode().unwrap(), Some(body));
    put_entry(&mut frame, &entry(11, None).encode().unwrap(), None);
    let receipt = SignedReceipt::sign(&sink_key(), ReceiptLevel::Stored, HOST, BATCH, 1_800_000_000).unwrap();
    let meta = wire::encode(&receipt).unwrap();
    let (kind, offset, length) = (RecordKind::Batch, 8, 99);
    let whole = segment::Record { kind, meta, payload: frame, offset, length };
    let thinned = Thinned::of(&whole).unwrap().unwrap();
    compare("thinned-meta.hex", &thinned.meta);
    compare("thinned-frame.hex", &thinned.frame);
    let left = segment::Record { meta: thinned.meta, payload: thinned.frame, ..whole.clone() };
    assert_eq!(tlog::leaf::of_record(&left).unwrap(), tlog::leaf::of_record(&whole).unwrap());
    assert_eq!(content_of(&left).unwrap(), tree::hash_of(&whole.payload));
    assert_eq!(BatchMeta::of(&left).unwrap().receipt(), receipt, "the receipt is the one that was given");
    assert_eq!(Thinned::of(&left).unwrap(), None, "nothing is left to go");
}

/// Only records that are stored as they are: zstd's bytes may change with its version, its meaning does not.
#[test]
fn golden_segment() {
    let mut file = segment::MAGIC.to_vec();
    segment::put_record(&mut file, RecordKind::Batch, b"meta", b"payload").unwrap();
    segment::put_record(&mut file, RecordKind::Statement, b"", b"x").unwrap();
    compare("segment.hex", &file);
    let read: Vec<_> = segment::Reader::open(file.as_slice()).unwrap().map(Result::unwrap).collect();
    assert_eq!((read[0].meta.as_slice(), read[0].payload.as_slice()), (&b"meta"[..], &b"payload"[..]));
    assert_eq!(segment::file_name(17), "00000000000000000017.seg");
    assert_eq!(segment::file_number("00000000000000000017.seg"), Some(17));
}
