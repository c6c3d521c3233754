//! Whatever bytes come: no panic, no false acceptance, and a segment is good exactly up to where it was broken.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeMap;

use custody_ledger::segment::{self, Reader, RecordKind};
use custody_ledger::tlog::{
    BatchLeaf, InclusionProof, Note, NoteKey, Tile, tile, verify_consistency, verify_inclusion,
};
use custody_ledger::verify::{Verdict, Verifier};
use custody_ledger::wire::{self, AppendResponse, CommittedResponse, EnrolRequest, JoinToken};
use custody_ledger::{Batch, BootId, Chain, Draft, Echo, EntryType, Hash, HostId, HostKey};
use proptest::collection::vec;
use proptest::prelude::*;

const HOST: HostId = HostId::from_bytes([7; 16]);

fn file_of(payloads: &[Vec<u8>]) -> (Vec<u8>, Vec<usize>) {
    let mut file = segment::MAGIC.to_vec();
    let mut ends = vec![file.len()];
    for payload in payloads {
        segment::put_record(&mut file, RecordKind::Batch, b"meta", payload).unwrap();
        ends.push(file.len());
    }
    (file, ends)
}

proptest! {
    #[test]
    fn proofs_and_counts_of_a_liar_are_refused_without_panic(
        hashes in vec(any::<[u8; 32]>(), 0..130),
        (one, other) in (any::<u64>(), any::<u64>()),
        (index, size) in (0..40_u64, 0..40_u64),
    ) {
        let hashes: Vec<Hash> = hashes.into_iter().map(Hash).collect();
        let root = Hash([1; 32]);
        for (one, other) in [(one, other), (index, size), (u64::MAX, u64::MAX), (index, u64::MAX)] {
            prop_assert!(!verify_inclusion(&Hash([2; 32]), one, other, &root, &hashes));
            prop_assert!(!verify_consistency(one, &Hash([2; 32]), other, &root, &hashes));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_bytes_are_read_without_panic(bytes in vec(any::<u8>(), 0..600)) {
        let _ = Batch::decode(&bytes);
        let _ = wire::decode::<AppendResponse>(&bytes);
        let _ = wire::decode::<EnrolRequest>(&bytes);
        let _ = wire::frames(&bytes).count();
        let text = String::from_utf8_lossy(&bytes);
        let _ = text.parse::<JoinToken>();
        let _ = (text.parse::<Note>(), text.parse::<NoteKey>(), text.parse::<InclusionProof>());
        let _ = wire::decode::<CommittedResponse>(&bytes);
        let _ = (Tile::parse(&text), tile::entries(&bytes, 3), BatchLeaf::decode(&bytes));
        let mut file = segment::MAGIC.to_vec();
        file.extend_from_slice(&bytes);
        if let Ok(reader) = Reader::open(file.as_slice()) {
            prop_assert!(reader.count() <= file.len() / 16 + 1);
        }
    }

    #[test]
    fn a_cut_segment_gives_exactly_its_whole_records(
        payloads in vec(vec(any::<u8>(), 0..2000), 1..6),
        cut in any::<prop::sample::Index>(),
    ) {
        let (file, ends) = file_of(&payloads);
        let cut = segment::MAGIC.len() + cut.index(file.len() - segment::MAGIC.len() + 1);
        let mut reader = Reader::open(&file[..cut]).unwrap();
        let whole = ends.iter().filter(|end| **end <= cut).count() - 1;
        let read: Vec<_> = reader.by_ref().map_while(Result::ok).map(|record| record.payload).collect();
        prop_assert_eq!(read.as_slice(), &payloads[..whole]);
        prop_assert_eq!(reader.offset() as usize, ends[whole]);
    }

    #[test]
    fn a_flipped_bit_ends_a_segment_before_its_record(
        payloads in vec(vec(any::<u8>(), 0..500), 1..5),
        place in any::<prop::sample::Index>(),
        bit in 0..8_u8,
    ) {
        let (mut file, ends) = file_of(&payloads);
        let place = segment::MAGIC.len() + place.index(file.len() - segment::MAGIC.len());
        file[place] ^= 1 << bit;
        let read: Vec<_> = Reader::open(file.as_slice()).unwrap().collect();
        let good = ends.iter().filter(|end| **end <= place).count() - 1;
        prop_assert_eq!(read.iter().filter(|record| record.is_ok()).count(), good);
        prop_assert!(read.last().is_some_and(Result::is_err));
    }

    #[test]
    fn any_chain_of_any_bodies_is_verified(
        batches in vec(vec(vec(any::<u8>(), 0..3000), 1..6), 1..6),
    ) {
        let (key, _) = HostKey::generate().unwrap();
        let mut chain = Chain::start(&key, HOST, BootId([1; 16]), 1, None).unwrap();
        let mut verifier = Verifier::new(HOST, key.public());
        for bodies in &batches {
            for body in bodies {
                let entry_type = EntryType::Exchange;
                let draft =
                    Draft { entry_type, first_ns: 1, last_ns: 2, wall_ns: 3, session: None, body, sealed: None };
                chain.append(&draft).unwrap();
            }
            let batch = chain.close_batch(BTreeMap::new(), Echo::default()).unwrap();
            verifier.promise(batch.position);
            verifier.batch(&batch.frame);
        }
        let report = verifier.finish();
        prop_assert_eq!(report.verdict(), Verdict::Verified);
        prop_assert_eq!(report.batches() as usize, batches.len());
        prop_assert_eq!(report.entries() as usize, batches.iter().map(Vec::len).sum::<usize>());
    }
}

#[test]
fn a_record_that_says_it_is_huge_is_refused_before_anything_is_reserved() {
    let mut file = segment::MAGIC.to_vec();
    file.extend_from_slice(b"crec\x01\x01\x00\x00\xff\xff\xff\xff\xff\xff\xff\xff");
    assert!(Reader::open(file.as_slice()).unwrap().next().unwrap().is_err());
}
