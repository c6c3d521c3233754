//! Inclusion and consistency proofs (RFC 6962 section 2.1, RFC 9162 sections 2.1.3 and 2.1.4): made from a tree's
//! nodes, checked with nothing but hashes. Whoever checks believes neither a length nor an order of the proof.

use crate::ids::Hash;
use crate::tree;

/// Longest proof of any tree: two hashes for each of 64 levels.
pub const PROOF_HASHES_MAX: usize = 128;

/// Where the nodes of a tree come from.
pub trait Nodes {
    /// Why a node cannot be had.
    type Error;
    /// Root of the whole subtree over the leaves from `index << level` to `(index + 1) << level`.
    fn node(&self, level: u8, index: u64) -> Result<Hash, Self::Error>;
}

/// Root over the first `size` leaves.
pub fn root<N: Nodes + ?Sized>(nodes: &N, size: u64) -> Result<Hash, N::Error> {
    if size == 0 { Ok(tree::root(&[])) } else { range(nodes, 0, size) }
}

/// Root over the leaves from `start` to before `end`. `start` is a multiple of the power of two that covers them.
fn range<N: Nodes + ?Sized>(nodes: &N, start: u64, end: u64) -> Result<Hash, N::Error> {
    let count = end - start;
    if count.is_power_of_two() {
        let level = count.ilog2();
        return nodes.node(level as u8, start >> level); // At most 63.
    }
    let middle = start + split(count);
    Ok(tree::node(&range(nodes, start, middle)?, &range(nodes, middle, end)?))
}

/// Largest power of two below `count`, which is at least two.
const fn split(count: u64) -> u64 {
    1 << (count - 1).ilog2()
}

/// Proves that the leaf at `index` is in the tree of `size` leaves. `None` when it is not.
pub fn inclusion<N: Nodes + ?Sized>(nodes: &N, index: u64, size: u64) -> Result<Option<Vec<Hash>>, N::Error> {
    if index >= size {
        return Ok(None);
    }
    let (mut start, mut end) = (0, size);
    let mut proof = Vec::new();
    while end - start > 1 {
        let middle = start + split(end - start);
        if index < middle {
            proof.push(range(nodes, middle, end)?);
            end = middle;
        } else {
            proof.push(range(nodes, start, middle)?);
            start = middle;
        }
    }
    proof.reverse();
    Ok(Some(proof))
}

/// Proves that the tree of `old` leaves is the beginning of that of `new`. `None` when `old` is the larger one.
/// Between equal sizes and from the empty tree the proof is empty.
pub fn consistency<N: Nodes + ?Sized>(nodes: &N, old: u64, new: u64) -> Result<Option<Vec<Hash>>, N::Error> {
    if old > new {
        return Ok(None);
    }
    if old == 0 || old == new {
        return Ok(Some(Vec::new()));
    }
    let (mut start, mut end) = (0, new);
    let mut proof = Vec::new();
    // Down to the subtree that the old tree ends with.
    while old != end {
        let middle = start + split(end - start);
        if old <= middle {
            proof.push(range(nodes, middle, end)?);
            end = middle;
        } else {
            proof.push(range(nodes, start, middle)?);
            start = middle;
        }
    }
    // Who checks knows the old root; it is left out where it is that subtree.
    if start > 0 {
        proof.push(range(nodes, start, end)?);
    }
    proof.reverse();
    Ok(Some(proof))
}

/// Whether `leaf` is at `index` of the tree of `size` leaves with this root (RFC 9162 section 2.1.3.2).
#[must_use]
pub fn verify_inclusion(leaf: &Hash, index: u64, size: u64, root: &Hash, proof: &[Hash]) -> bool {
    if index >= size {
        return false;
    }
    let (mut place, mut last) = (index, size - 1);
    let mut hash = *leaf;
    for step in proof {
        if last == 0 {
            return false;
        }
        if place & 1 == 1 || place == last {
            hash = tree::node(step, &hash);
            while place & 1 == 0 && place != 0 {
                place >>= 1;
                last >>= 1;
            }
        } else {
            hash = tree::node(&hash, step);
        }
        place >>= 1;
        last >>= 1;
    }
    last == 0 && hash == *root
}

/// Whether the tree of `old` leaves with `old_root` is the beginning of that of `new` leaves with `new_root`
/// (RFC 9162 section 2.1.4.2).
#[must_use]
pub fn verify_consistency(old: u64, old_root: &Hash, new: u64, new_root: &Hash, proof: &[Hash]) -> bool {
    if old > new {
        return false;
    }
    if old == new {
        return proof.is_empty() && old_root == new_root;
    }
    if old == 0 {
        return proof.is_empty() && *old_root == tree::root(&[]);
    }
    let (mut place, mut last) = (old - 1, new - 1);
    while place & 1 == 1 {
        place >>= 1;
        last >>= 1;
    }
    let mut steps = proof.iter();
    // Where the old tree is a whole subtree of the new one, its root begins both.
    let first = if old.is_power_of_two() { Some(old_root) } else { steps.next() };
    let Some(first) = first else { return false };
    let (mut from_old, mut from_new) = (*first, *first);
    for step in steps {
        if last == 0 {
            return false;
        }
        if place & 1 == 1 || place == last {
            from_old = tree::node(step, &from_old);
            from_new = tree::node(step, &from_new);
            while place & 1 == 0 && place != 0 {
                place >>= 1;
                last >>= 1;
            }
        } else {
            from_new = tree::node(&from_new, step);
        }
        place >>= 1;
        last >>= 1;
    }
    last == 0 && from_old == *old_root && from_new == *new_root
}
