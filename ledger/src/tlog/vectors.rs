//! The trees of RFC 6962's reference implementation, and properties over all small trees.

use super::*;
use crate::ids::Hash;
use crate::tree;

/// The leaves that the Certificate Transparency project publishes for its reference tree.
pub(super) const LEAVES: [&str; 8] =
    ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"];

fn reference_tree() -> (Vec<Hash>, MemoryTree) {
    let leaves: Vec<Hash> = LEAVES.iter().map(|hex| tree::leaf(&hex::decode(hex).unwrap())).collect();
    let mut tree = MemoryTree::default();
    leaves.iter().for_each(|leaf| tree.push(*leaf));
    (leaves, tree)
}

fn hashes(texts: &[&str]) -> Vec<Hash> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

/// (index, size) and the proof, as the reference implementation gives them.
#[test]
fn inclusion_proofs_equal_the_reference_vectors_of_rfc_6962() {
    let vectors: [(u64, u64, &[&str]); 4] = [
        (
            0,
            8,
            &[
                "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
                "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
                "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
            ],
        ),
        (
            5,
            8,
            &[
                "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
                "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
                "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
            ],
        ),
        (2, 3, &["fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"]),
        (
            1,
            5,
            &[
                "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
                "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
                "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
            ],
        ),
    ];
    let (leaves, tree) = reference_tree();
    for (index, size, expected) in vectors {
        let proof = proof::inclusion(&tree, index, size).unwrap().unwrap();
        assert_eq!(proof, hashes(expected), "{index} in {size}");
        let root = tree.root(size).unwrap();
        assert!(verify_inclusion(&leaves[index as usize], index, size, &root, &proof));
    }
}

#[test]
fn consistency_proofs_equal_the_reference_vectors_of_rfc_6962() {
    let vectors: [(u64, u64, &[&str]); 4] = [
        (1, 1, &[]),
        (
            1,
            8,
            &[
                "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
                "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
                "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
            ],
        ),
        (
            6,
            8,
            &[
                "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
                "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
                "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
            ],
        ),
        (
            2,
            5,
            &[
                "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
                "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
            ],
        ),
    ];
    let (_, tree) = reference_tree();
    for (old, new, expected) in vectors {
        let proof = proof::consistency(&tree, old, new).unwrap().unwrap();
        assert_eq!(proof, hashes(expected), "{old} to {new}");
    }
}

fn tree_of(count: u64) -> (Vec<Hash>, MemoryTree) {
    let leaves: Vec<Hash> = (0..count).map(|number| tree::leaf(&number.to_be_bytes())).collect();
    let mut tree = MemoryTree::default();
    leaves.iter().for_each(|leaf| tree.push(*leaf));
    (leaves, tree)
}

/// Every proof of every tree up to 40 leaves holds for what it proves, and for nothing beside it.
#[test]
fn a_proof_holds_for_its_own_leaf_place_and_tree_only() {
    let (leaves, tree) = tree_of(40);
    for size in 1..=40_u64 {
        let root = tree.root(size).unwrap();
        assert_eq!(root, tree::root(&leaves[..size as usize]));
        for index in 0..size {
            let proof = proof::inclusion(&tree, index, size).unwrap().unwrap();
            let leaf = &leaves[index as usize];
            assert!(verify_inclusion(leaf, index, size, &root, &proof));
            let other = &leaves[((index + 1) % 40) as usize];
            assert!(!verify_inclusion(other, index, size, &root, &proof), "another leaf");
            assert!(!verify_inclusion(leaf, index + 1, size, &root, &proof), "another place");
            assert!(!verify_inclusion(leaf, index, size, &leaves[0], &proof) || size == 1, "another root");
            let longer = [proof.as_slice(), &[leaves[3]]].concat();
            assert!(!verify_inclusion(leaf, index, size, &root, &longer), "a proof that is too long");
            if let Some((_, shorter)) = proof.split_last() {
                assert!(!verify_inclusion(leaf, index, size, &root, shorter), "a proof that is too short");
            }
        }
        assert_eq!(proof::inclusion(&tree, size, size).unwrap(), None);
    }
}

#[test]
fn a_consistency_proof_holds_for_its_own_two_trees_only() {
    let (leaves, tree) = tree_of(40);
    let mut forked = MemoryTree::default();
    leaves.iter().enumerate().for_each(|(index, leaf)| {
        forked.push(if index == 4 { leaves[0] } else { *leaf });
    });
    for new in 1..=40_u64 {
        let new_root = tree.root(new).unwrap();
        for old in 0..=new {
            let old_root = tree.root(old).unwrap();
            let proof = proof::consistency(&tree, old, new).unwrap().unwrap();
            assert!(verify_consistency(old, &old_root, new, &new_root, &proof), "{old} to {new}");
            assert!(!verify_consistency(new, &new_root, old, &old_root, &proof) || old == new, "backwards");
            let longer = [proof.as_slice(), &[leaves[3]]].concat();
            assert!(!verify_consistency(old, &old_root, new, &new_root, &longer), "too long");
            if let Some((_, shorter)) = proof.split_last() {
                assert!(!verify_consistency(old, &old_root, new, &new_root, shorter), "too short");
            }
            if old > 4 {
                let forked_root = forked.root(old).unwrap();
                assert!(!verify_consistency(old, &forked_root, new, &new_root, &proof), "a fork");
                let forked_proof = proof::consistency(&forked, old, new).unwrap().unwrap();
                assert!(!verify_consistency(old, &old_root, new, &forked.root(new).unwrap(), &forked_proof));
            }
        }
        assert_eq!(proof::consistency(&tree, new + 1, new).unwrap(), None);
    }
}

/// Grows a tree in uneven steps, keeps its published tiles as a file server would, and reads everything back.
#[test]
fn tiles_that_an_edge_makes_give_back_the_same_tree() {
    let (leaves, tree) = tree_of(70_000);
    let mut files = std::collections::BTreeMap::new();
    let mut edge = Edge::default();
    let mut size = 0;
    for step in [1_u64, 254, 1, 1, 255, 3000, 65_536 - 3512, 1, 0, 4463] {
        for number in size..size + step {
            edge.push(&number.to_be_bytes()).unwrap();
        }
        size += step;
        for (made, bytes) in edge.take_tiles() {
            assert_eq!(Tile::parse(&made.path()), Some(made));
            // What is published never changes.
            let before = files.insert(made.path(), bytes.clone());
            assert!(before.is_none_or(|before| before == bytes), "{}", made.path());
        }
        assert_eq!((edge.size(), edge.root()), (size, tree.root(size).unwrap()));
        let read = |wanted: Tile| files.get(&wanted.path()).cloned().ok_or(wanted);
        assert!(Tile::all_in_tree(size).all(|wanted| files.contains_key(&wanted.path())));
        let loaded = Edge::load(size, read).unwrap();
        assert_eq!(loaded.root(), edge.root());
        let nodes = TileNodes::new(size, read);
        for index in [0, size / 2, size - 1] {
            let proof = proof::inclusion(&nodes, index, size).unwrap().unwrap();
            assert!(verify_inclusion(&leaves[index as usize], index, size, &edge.root(), &proof));
        }
        assert_eq!(proof::root(&nodes, size - 1).unwrap(), tree.root(size - 1).unwrap());
    }
    assert_eq!(files.keys().filter(|path| !path.contains(".p/") && path.contains("/0/")).count(), 273);
}

#[test]
fn only_one_spelling_names_a_tile() {
    for (path, kind, index, width) in [
        ("tile/0/000", tile::TileKind::Hashes(0), 0, 256),
        ("tile/63/x001/x234/067", tile::TileKind::Hashes(63), 1_234_067, 256),
        ("tile/entries/x001/234.p/8", tile::TileKind::Entries, 1234, 8),
    ] {
        assert_eq!(Tile::parse(path), Some(Tile { kind, index, width }));
    }
    for path in [
        "tile/0/0",
        "tile/00/000",
        "tile/64/000",
        "tile/0/x000/001",
        "tile/0/001/002",
        "tile/0/000.p/0",
        "tile/0/000.p/256",
        "tile/0/000.p/08",
        "tile/0/../checkpoint",
        "tile/0/+01",
        "tile/data/000",
        "checkpoint",
    ] {
        assert_eq!(Tile::parse(path), None, "{path}");
    }
}
