//! The fuzz body of the reader of TLS hellos: any bytes as the two sides of a handshake, in pieces.

use super::hello::Hellos;
use crate::item::Field;

/// Two halves of a hello and what its record begins with, at most, with what a growing buffer keeps beside it.
const HELD_BYTES_MAX: usize = 4 * (16 << 10) + 1024;
/// One server name, one list of protocols, one chosen; versions and early data.
const FIELDS_MAX: usize = 8;

/// Must not panic, must hold no more than it may, and must not depend on how the bytes come.
pub fn body(data: &[u8]) {
    let [piece, high, low, bytes @ ..] = data else { return };
    let split = usize::from(u16::from_be_bytes([*high, *low])).min(bytes.len());
    let sides = bytes.split_at(split);
    let whole = told(sides, usize::MAX);
    let pieces = told(sides, 1 + usize::from(*piece));
    assert_eq!(whole, pieces, "the pieces in which a handshake comes change what it says");
}

fn told((client, server): (&[u8], &[u8]), piece: usize) -> Vec<String> {
    let mut hellos = Hellos::default();
    for (direction, bytes) in [client, server].into_iter().enumerate() {
        for piece in bytes.chunks(piece.min(bytes.len()).max(1)) {
            hellos.push(direction, piece);
            assert!(hellos.held_bytes() <= HELD_BYTES_MAX, "held {}", hellos.held_bytes());
        }
    }
    let mut fields: Vec<Field> = Vec::new();
    hellos.fields(&mut fields);
    assert!(fields.len() <= FIELDS_MAX);
    fields.iter().map(|field| format!("{field:?}")).collect()
}

#[cfg(test)]
mod tests {
    use super::body;

    #[test]
    fn a_hello_says_the_same_in_whatever_pieces_it_comes_however_it_is_broken() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../fuzz/seeds/hello/tls13");
        let seed = std::fs::read(path).expect("the seed");
        body(&seed);
        for at in 0..seed.len() {
            for byte in [0, 1, 0x7f, 0xff, seed[at] ^ 0x10] {
                let mut broken = seed.clone();
                broken[at] = byte;
                body(&broken);
            }
            body(&seed[..at]);
        }
    }
}
