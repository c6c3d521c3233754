//! SHA-256 in its uses here, kept apart by a first byte: 0x00 leaf and 0x01 node (RFC 6962 section 2.1),
//! 0x02 batch header, 0x03 salted body.

use ring::digest::{Context, SHA256};

use crate::ids::{Hash, Salt};

fn sha256(parts: &[&[u8]]) -> Hash {
    let mut context = Context::new(&SHA256);
    for part in parts {
        context.update(part);
    }
    let mut hash = [0; 32];
    hash.copy_from_slice(context.finish().as_ref());
    Hash(hash)
}

/// Plain SHA-256 of bytes that live outside the chain, such as certificates and receipts.
pub fn hash_of(bytes: &[u8]) -> Hash {
    sha256(&[bytes])
}

/// Leaf of an entry's header as stored; the next entry's header names it.
pub fn leaf(header: &[u8]) -> Hash {
    sha256(&[&[0x00], header])
}

/// Inner node of a Merkle tree.
pub(crate) fn node(left: &Hash, right: &Hash) -> Hash {
    sha256(&[&[0x01], &left.0, &right.0])
}

/// Name of a batch: hash of its header as stored; the next batch's header names it.
pub fn batch_hash(header: &[u8]) -> Hash {
    sha256(&[&[0x02], header])
}

/// What an entry's header says of its body.
pub fn body_hash(salt: &Salt, body: &[u8]) -> Hash {
    sha256(&[&[0x03], &salt.0, body])
}

/// Root of the Merkle tree over `leaves` (RFC 6962 section 2.1). The root of none is the hash of nothing.
pub fn root(leaves: &[Hash]) -> Hash {
    match leaves {
        [] => sha256(&[]),
        [leaf] => *leaf,
        _ => {
            // Largest power of two below the count: with at least two leaves it is at least one.
            let split = 1_usize << (leaves.len() - 1).ilog2();
            let (left, right) = leaves.split_at(split);
            node(&root(left), &root(right))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Leaves and roots that the Certificate Transparency project publishes for its reference tree.
    #[test]
    fn root_equals_the_reference_vectors_of_rfc_6962() {
        let inputs = [
            "",
            "00",
            "10",
            "2021",
            "3031",
            "40414243",
            "5051525354555657",
            "606162636465666768696a6b6c6d6e6f",
        ];
        let roots = [
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
            "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
            "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
            "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
            "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
            "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
            "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
            "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
        ];
        let leaves: Vec<Hash> = inputs.iter().map(|hex| leaf(&hex::decode(hex).unwrap())).collect();
        for (count, expected) in roots.iter().enumerate() {
            assert_eq!(root(&leaves[..count]).to_string(), *expected, "{count} leaves");
        }
    }
}
