//! Readers that nobody here wrote: the crates `tlog_tiles` and `signed_note` read our tiles, checkpoints, keys and
//! proofs, and we read theirs.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeMap;

use custody_ledger::tlog::checkpoint::log_key;
use custody_ledger::tlog::{
    Checkpoint, Edge, MemoryTree, NoteKey, Tile, TileNodes, proof, verify_consistency, verify_inclusion,
};
use custody_ledger::{Hash, LogKey};
use signed_note::{Note, StandardVerifier, VerifierList};
use tlog_tiles::{HashReader as _, TileHashReader, TileReader};

const SIZE: u64 = 70_000;
const SIZES: [u64; 9] = [1, 2, 255, 256, 257, 511, 1000, 65_537, SIZE];

fn leaf(number: u64) -> Vec<u8> {
    format!("leaf {number}").into_bytes()
}

/// The published files of a log that grew through `SIZES`, and its tree.
fn published() -> (BTreeMap<String, Vec<u8>>, MemoryTree) {
    let (mut files, mut tree, mut edge) = (BTreeMap::new(), MemoryTree::default(), Edge::default());
    for size in SIZES {
        for number in edge.size()..size {
            edge.push(&leaf(number)).unwrap();
            tree.push(custody_ledger::tree::leaf(&leaf(number)));
        }
        files.extend(edge.take_tiles().into_iter().map(|(tile, bytes)| (tile.path(), bytes)));
    }
    (files, tree)
}

/// A file server of ours as their client sees it.
struct Files(BTreeMap<String, Vec<u8>>);

impl TileReader for Files {
    fn height(&self) -> u8 {
        8
    }
    fn read_tiles(&self, tiles: &[tlog_tiles::Tile]) -> Result<Vec<Vec<u8>>, tlog_tiles::Error> {
        let read = |tile: &tlog_tiles::Tile| {
            // Their names carry the height, ours are those of c2sp.org/tlog-tiles.
            let path = tile.path().replacen("tile/8/", "tile/", 1);
            self.0.get(&path).unwrap_or_else(|| panic!("{path} is not published")).clone()
        };
        Ok(tiles.iter().map(read).collect())
    }
    fn save_tiles(&self, _: &[tlog_tiles::Tile], _: &[Vec<u8>]) {}
}

#[test]
fn another_reader_finds_our_tree_in_our_tiles_and_checks_our_proofs() {
    let (files, tree) = published();
    let files = Files(files);
    for size in SIZES {
        let root = tlog_tiles::Hash(tree.root(size).unwrap().0);
        // Their reader authenticates each tile that it reads against this root.
        let reader = TileHashReader::new(size, root, &files);
        assert_eq!(tlog_tiles::tree_hash(size, &reader).unwrap(), root);
        for index in [0, size / 3, size - 1] {
            let leaf = tlog_tiles::record_hash(&leaf(index));
            let theirs = tlog_tiles::prove_record(size, index, &reader).unwrap();
            let ours = proof::inclusion(&tree, index, size).unwrap().unwrap();
            assert_eq!(theirs.iter().map(|hash| Hash(hash.0)).collect::<Vec<_>>(), ours);
            let ours = ours.iter().map(|hash| tlog_tiles::Hash(hash.0)).collect();
            tlog_tiles::check_record(&ours, size, root, index, leaf).unwrap();
            let theirs: Vec<Hash> = theirs.iter().map(|hash| Hash(hash.0)).collect();
            assert!(verify_inclusion(&Hash(leaf.0), index, size, &Hash(root.0), &theirs));
        }
        for old in SIZES.into_iter().filter(|old| *old <= size) {
            let old_root = tree.root(old).unwrap();
            let ours = proof::consistency(&tree, old, size).unwrap().unwrap();
            let ours = ours.iter().map(|hash| tlog_tiles::Hash(hash.0)).collect();
            tlog_tiles::check_tree(&ours, size, root, old, tlog_tiles::Hash(old_root.0)).unwrap();
            let theirs = tlog_tiles::prove_tree(size, old, &reader).unwrap();
            let theirs: Vec<Hash> = theirs.iter().map(|hash| Hash(hash.0)).collect();
            assert!(verify_consistency(old, &old_root, size, &Hash(root.0), &theirs));
        }
    }
}

/// In the tile of the right edge: of inner tiles this reader leaves some unchecked (it begins to check behind as many
/// tiles as the size has binary digits, and they may share tiles); whoever checks a proof of them finds it, see below.
#[test]
fn another_reader_refuses_a_tile_with_a_flipped_bit() {
    let (mut files, tree) = published();
    files.get_mut("tile/0/273.p/112").unwrap()[77] ^= 1;
    let files = Files(files);
    let reader = TileHashReader::new(SIZE, tlog_tiles::Hash(tree.root(SIZE).unwrap().0), &files);
    assert!(reader.read_hashes(&[tlog_tiles::stored_hash_index(0, 300)]).is_err());
}

/// A tile of ours that was changed gives a proof that nobody takes.
#[test]
fn a_tile_with_a_flipped_bit_gives_a_proof_that_does_not_hold() {
    let (mut files, tree) = published();
    files.get_mut("tile/0/001").unwrap()[77] ^= 1;
    let read = |tile: Tile| files.get(&tile.path()).cloned().ok_or(tile);
    let proof = proof::inclusion(&TileNodes::new(SIZE, read), 300, SIZE).unwrap().unwrap();
    let hash = custody_ledger::tree::leaf(&leaf(300));
    assert!(!verify_inclusion(&hash, 300, SIZE, &tree.root(SIZE).unwrap(), &proof));
}

#[test]
fn another_reader_names_tiles_as_we_do() {
    for index in [0, 5, 999, 1000, 1_234_067, 9_876_543_210] {
        for (level, width) in [(0, 256), (1, 17), (7, 255)] {
            let kind = custody_ledger::tlog::tile::TileKind::Hashes(level);
            let ours = Tile { kind, index, width }.path();
            let theirs = tlog_tiles::Tile::new(8, level, index, u32::from(width), false).path();
            assert_eq!(ours, theirs.replacen("tile/8/", "tile/", 1));
        }
    }
}

#[test]
fn another_reader_verifies_our_checkpoints_and_keys() {
    let key = LogKey::generate().unwrap().0;
    let log = log_key(key.public());
    let checkpoint = Checkpoint { origin: log.name().to_owned(), size: 7, root: Hash([3; 32]) };
    let note = checkpoint.sign(&key).to_string();
    let theirs = Note::from_bytes(note.as_bytes()).unwrap();
    let verifier = StandardVerifier::new(&log.to_string()).unwrap();
    let (verified, unknown) = theirs.verify(&VerifierList::new(vec![Box::new(verifier)])).unwrap();
    assert_eq!((verified.len(), unknown.len()), (1, 0));
    assert_eq!(String::from_utf8(theirs.to_bytes()).unwrap(), note);
    let read = tlog_tiles::Checkpoint::from_bytes(theirs.text()).unwrap();
    assert_eq!((read.origin(), read.size(), read.hash().0), (log.name(), 7, [3; 32]));
    let other = StandardVerifier::new(&log_key(LogKey::generate().unwrap().0.public()).to_string()).unwrap();
    assert!(theirs.verify(&VerifierList::new(vec![Box::new(other)])).is_err());
    assert_eq!(log.to_string().parse::<NoteKey>().unwrap(), log);
}
