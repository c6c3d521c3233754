//! Reads an entry header that stands in the very layout in which [`EntryHeader::encode`] writes it: fields in order, in
//! a tenth of the time of the general reader, which is asked for any other. Never reads one in another way than that.

use super::{EntryHeader, EntryType};
use crate::codec::Fields;
use crate::ids::{BootId, EpochId, EpochNonce, Hash, HostId, Seq};

/// Fields that are always there.
const FIELDS: u8 = 12;
const FIX_MAP: u8 = 0x80;
const FIX_STR: u8 = 0xa0;
const FIX_STR_MAX: usize = 31;
const BIN_8: u8 = 0xc4;

/// The header; `None` of another layout, of one with a sealed original, and of what is no header.
pub(super) fn read(bytes: &[u8]) -> Option<EntryHeader> {
    let mut walk = Walk(Fields::new(bytes));
    let fields = walk.0.u8()?.checked_sub(FIX_MAP)?;
    let version = walk.field(b"version")?.number()?;
    let entry_type = walk.field(b"type")?.entry_type()?;
    let host = walk.field(b"host")?.bytes()?;
    let boot = walk.field(b"boot")?.bytes()?;
    walk.field(b"epoch")?.literal(&[FIX_MAP | 2])?;
    let counter = walk.field(b"counter")?.number()?;
    let nonce = walk.field(b"nonce")?.bytes()?;
    let seq = walk.field(b"seq")?.number()?;
    let first_ns = walk.field(b"first_ns")?.number()?;
    let last_ns = walk.field(b"last_ns")?.number()?;
    let wall_ns = walk.field(b"wall_ns")?.number()?;
    let session = if fields == FIELDS { None } else { Some(Seq(walk.field(b"session")?.number()?)) };
    let body_bytes = walk.field(b"body_bytes")?.number()?;
    let body = walk.field(b"body")?.bytes()?;
    let previous = walk.field(b"previous")?.bytes()?;
    let whole = fields == FIELDS + u8::from(session.is_some()) && walk.0.rest().is_empty();
    whole.then_some(EntryHeader {
        version: version.try_into().ok()?,
        entry_type,
        host: HostId::from_bytes(host),
        boot: BootId(boot),
        epoch: EpochId { counter, nonce: EpochNonce(nonce) },
        seq: Seq(seq),
        first_ns,
        last_ns,
        wall_ns,
        session,
        body_bytes: body_bytes.try_into().ok()?,
        body: Hash(body),
        sealed: None,
        previous: Hash(previous),
    })
}

struct Walk<'a>(Fields<'a>);

impl Walk<'_> {
    fn literal(&mut self, bytes: &[u8]) -> Option<()> {
        (self.0.take(bytes.len())? == bytes).then_some(())
    }

    /// Past the name of a field, of at most 31 bytes.
    fn field<const N: usize>(&mut self, name: &[u8; N]) -> Option<&mut Self> {
        self.literal(&[FIX_STR | N as u8])?;
        self.literal(name)?;
        Some(self)
    }

    fn number(&mut self) -> Option<u64> {
        match self.0.u8()? {
            small @ 0..0x80 => Some(small.into()),
            0xcc => self.0.u8().map(u64::from),
            0xcd => self.0.array().map(u16::from_be_bytes).map(u64::from),
            0xce => self.0.u32().map(u64::from),
            0xcf => self.0.array().map(u64::from_be_bytes),
            _ => None,
        }
    }

    fn bytes<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.literal(&[BIN_8, N as u8])?;
        self.0.array()
    }

    fn entry_type(&mut self) -> Option<EntryType> {
        let length = usize::from(self.0.u8()?.checked_sub(FIX_STR)?);
        let text = self.0.take(length).filter(|text| text.len() <= FIX_STR_MAX)?;
        std::str::from_utf8(text).ok().map(EntryType::from)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::codec;
    use crate::entry::{ENTRY_VERSION, SealedReference};

    fn general(bytes: &[u8]) -> Option<EntryHeader> {
        codec::decode("entry header", bytes).ok()
    }

    /// Whatever this reader reads, the general one reads the same.
    #[track_caller]
    fn assert_same(bytes: &[u8]) {
        if let Some(header) = read(bytes) {
            assert_eq!(Some(header), general(bytes), "{bytes:02x?}");
        }
    }

    fn header(numbers: [u64; 5], session: Option<u64>, entry_type: &str, body_bytes: u32) -> EntryHeader {
        let [counter, seq, first_ns, last_ns, wall_ns] = numbers;
        EntryHeader {
            version: ENTRY_VERSION,
            entry_type: entry_type.into(),
            host: HostId::from_bytes([7; 16]),
            boot: BootId([1; 16]),
            epoch: EpochId { counter, nonce: EpochNonce([2; 16]) },
            seq: Seq(seq),
            first_ns,
            last_ns,
            wall_ns,
            session: session.map(Seq),
            body_bytes,
            body: Hash([3; 32]),
            sealed: None,
            previous: Hash([4; 32]),
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_as_the_general_reader_reads_it(
            numbers: [u64; 5],
            shift in 0..64_u32,
            session: Option<u64>,
            kind in "[a-z.é]{0,15}",
            body_bytes: u32,
        ) {
            let header = header(numbers.map(|number| number >> shift), session, &kind, body_bytes >> (shift / 2));
            let bytes = header.encode().unwrap();
            prop_assert_eq!(read(&bytes), Some(header.clone()));
            prop_assert_eq!(general(&bytes), Some(header));
        }
    }

    #[test]
    fn a_changed_byte_is_never_read_otherwise_than_by_the_general_reader() {
        let numbers = [1, 300, 70_000, 1 << 40, u64::MAX];
        for session in [None, Some(2)] {
            let bytes = header(numbers, session, "exchange", 170).encode().unwrap();
            for at in 0..bytes.len() {
                for byte in 0..=u8::MAX {
                    let mut changed = bytes.clone();
                    changed[at] = byte;
                    assert_same(&changed);
                }
                assert_same(&bytes[..at]);
                let (before, behind) = bytes.split_at(at);
                assert_same(&[before, &[0xc0], behind].concat());
                assert_same(&[before, &behind[1..]].concat());
            }
            assert_same(&[&bytes[..], &[0]].concat());
        }
    }

    #[test]
    fn a_sealed_original_is_left_to_the_general_reader() {
        let hash = Hash([5; 32]);
        let sealed = SealedReference {
            ciphertext: hash,
            plaintext: hash,
            ciphertext_bytes: 1,
            plaintext_bytes: 1,
            policy: hash,
            masker: hash,
        };
        let header = EntryHeader { sealed: Some(sealed), ..header([1; 5], None, "exchange", 1) };
        let bytes = header.encode().unwrap();
        assert_eq!(read(&bytes), None);
        assert_eq!(EntryHeader::decode(&bytes).unwrap(), header);
    }
}
