//! Addresses of Bitcoin: Base58Check with its hash, and Bech32 with its checksum (BIP 173, BIP 350).

use ring::digest::{SHA256, digest};

use super::shape::Recogniser;

pub(super) const WALLET: Recogniser = Recogniser {
    kind: "wallet",
    what: "Bitcoin addresses",
    told: "Base58Check hash, Bech32 checksum",
    words: &["wallet", "bitcoin", "btc"],
    shapes: &[],
};

/// Lengths of addresses, either form.
pub(super) const CHARACTERS: std::ops::RangeInclusive<usize> = 26..=90;

/// Whether this word is an address.
pub(super) fn is_address(word: &[u8]) -> bool {
    match word {
        [b'1' | b'3', ..] if word.len() <= 35 => base58_check(word).is_some(),
        [b'b' | b'B', b'c' | b'C', b'1', data @ ..] => bech32(data).is_some(),
        _ => false,
    }
}

fn base58_check(word: &[u8]) -> Option<()> {
    const ALPHABET: &[u8] = b"123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";
    let mut bytes = [0u8; 25];
    for byte in word {
        let mut carry = ALPHABET.iter().position(|known| known == byte)?;
        for place in bytes.iter_mut().rev() {
            carry += usize::from(*place) * 58;
            *place = (carry & 0xFF) as u8;
            carry >>= 8;
        }
        if carry > 0 {
            return None;
        }
    }
    let (payload, check) = bytes.split_at(21);
    let twice = digest(&SHA256, digest(&SHA256, payload).as_ref());
    twice.as_ref().starts_with(check).then_some(())
}

/// The part after `bc1`. The sum ends in 1, of version 1 and later in 0x2bc830a3.
fn bech32(data: &[u8]) -> Option<()> {
    const ALPHABET: &[u8] = b"qpzry9x8gf2tvdw0s3jn54khce6mua7l";
    const GENERATOR: [u32; 5] = [0x3b6a_57b2, 0x2650_8e6d, 0x1ea1_19fa, 0x3d42_33dd, 0x2a14_62b3];
    // "bc": the high bits of both letters, zero, the low bits.
    let prefix = [3, 3, 0, 2, 3];
    let mut values = prefix.to_vec();
    for byte in data {
        values.push(ALPHABET.iter().position(|known| *known == byte.to_ascii_lowercase())? as u32);
    }
    let sum = values.iter().fold(1u32, |sum, value| {
        let top = sum >> 25;
        let bits = GENERATOR.iter().enumerate().filter(|(bit, _)| top >> bit & 1 == 1);
        bits.fold((sum & 0x1FF_FFFF) << 5 ^ value, |sum, (_, generator)| sum ^ generator)
    });
    matches!(sum, 1 | 0x2bc8_30a3).then_some(())
}
