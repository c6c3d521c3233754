//! Where OpenSSL's transports in memory write: functions that no symbol names. `BIO_s_mem` and `BIO_s_bio` return the
//! address of a table, which names them. Probing these, and not `BIO_write`, costs programs nothing whose
//! transport is a socket.
//!
//! Reads the few bytes that it needs, and refuses whatever does not look as expected.

use std::fs::File;
use std::os::unix::fs::FileExt;

use object::Endianness;
use object::elf::{FileHeader64, PF_X, PT_LOAD, R_X86_64_RELATIVE, SHT_RELA};
use object::read::ReadCache;
use object::read::elf::{FileHeader, ProgramHeader, Rela, SectionHeader};

type Segment = object::elf::ProgramHeader64<Endianness>;

/// `BIO_TYPE_MEM` and `BIO_TYPE_BIO`, which a table begins with (OpenSSL `bio.h`).
const TYPES: [u32; 2] = [0x401, 0x413];
/// Place of the write function in the table: behind type, name and the newer write function, which only calls this
/// one (OpenSSL 1.1.0 to 3.x, `internal/bio.h`).
const WRITE: u64 = 24;
/// Longest list of relocations that is read; a browser's has some megabytes.
const RELOCATIONS_BYTES_MAX: u64 = 64 << 20;

/// File offset of the function that writes, for the symbol `BIO_s_mem` or `BIO_s_bio` at `address`.
pub(super) fn write_offset(file: &File, address: u64) -> Option<u64> {
    let cache = ReadCache::new(file);
    let header = FileHeader64::<Endianness>::parse(&cache).ok()?;
    let endian = header.endian().ok()?;
    let segments = header.program_headers(endian, &cache).ok()?;
    let table = returned_address(&bytes_at(file, segments, endian, address)?, address)?;
    let kind = u32::from_le_bytes(bytes_at(file, segments, endian, table)?);
    if !TYPES.contains(&kind) {
        return None;
    }
    let slot = table.checked_add(WRITE)?;
    let mut function = u64::from_le_bytes(bytes_at(file, segments, endian, slot)?);
    for section in header.section_headers(endian, &cache).ok()? {
        if section.sh_type(endian) != SHT_RELA || section.sh_size(endian) > RELOCATIONS_BYTES_MAX {
            continue;
        }
        let Ok(Some((relocations, _))) = section.rela(endian, &cache) else { continue };
        let found = relocations
            .iter()
            .find(|one| one.r_offset(endian) == slot && one.r_type(endian, false) == R_X86_64_RELATIVE);
        if let Some(found) = found {
            function = u64::try_from(found.r_addend(endian)).ok()?;
        }
    }
    let segment = segment_of(segments, endian, function)?;
    (segment.p_flags(endian) & PF_X != 0).then(|| offset_in(segment, endian, function))
}

/// What a function returns that does nothing but return an address: `lea rax, [rip + x]` or `mov eax, x`, with or
/// without `endbr64` before it.
fn returned_address(code: &[u8; 16], address: u64) -> Option<u64> {
    const ENDBR64: [u8; 4] = [0xf3, 0x0f, 0x1e, 0xfa];
    let skipped = if code.starts_with(&ENDBR64) { ENDBR64.len() } else { 0 };
    let number = |at: usize| Some(i32::from_le_bytes(code.get(at..at + 4)?.try_into().ok()?));
    match code[skipped..] {
        [0x48, 0x8d, 0x05, _, _, _, _, 0xc3, ..] => {
            let next = address.checked_add(skipped as u64 + 7)?;
            next.checked_add_signed(i64::from(number(skipped + 3)?))
        }
        [0xb8, _, _, _, _, 0xc3, ..] => u64::try_from(number(skipped + 1)?).ok(),
        _ => None,
    }
}

fn bytes_at<const N: usize>(
    file: &File,
    segments: &[Segment],
    endian: Endianness,
    address: u64,
) -> Option<[u8; N]> {
    let segment = segment_of(segments, endian, address)?;
    let mut bytes = [0; N];
    file.read_exact_at(&mut bytes, offset_in(segment, endian, address)).ok()?;
    Some(bytes)
}

fn segment_of(segments: &[Segment], endian: Endianness, address: u64) -> Option<&Segment> {
    segments.iter().filter(|segment| segment.p_type(endian) == PT_LOAD).find(|segment| {
        let into = address.checked_sub(segment.p_vaddr(endian));
        into.is_some_and(|into| into < segment.p_filesz(endian))
    })
}

/// `address` lies in the segment.
fn offset_in(segment: &Segment, endian: Endianness, address: u64) -> u64 {
    segment.p_offset(endian).wrapping_add(address.wrapping_sub(segment.p_vaddr(endian)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_that_a_function_returns_is_read_from_its_code() {
        let code = |bytes: &[u8]| {
            let mut code = [0xcc; 16];
            code[..bytes.len()].copy_from_slice(bytes);
            code
        };
        let lea = [0x48, 0x8d, 0x05, 0xf9, 0xff, 0xff, 0xff, 0xc3];
        assert_eq!(returned_address(&code(&lea), 0x1000), Some(0x1000));
        let with_endbr = [&[0xf3, 0x0f, 0x1e, 0xfa][..], &lea].concat();
        assert_eq!(returned_address(&code(&with_endbr), 0x1000), Some(0x1004));
        assert_eq!(returned_address(&code(&[0xb8, 0, 0x10, 0x40, 0, 0xc3]), 0x1000), Some(0x40_1000));
        // A function that does more than return an address.
        assert_eq!(returned_address(&code(&lea[..7]), 0x1000), None);
        assert_eq!(returned_address(&code(&lea), u64::MAX - 2), None);
    }

    #[test]
    fn a_file_without_such_a_table_has_no_such_function() {
        let file = File::open("/proc/self/exe").unwrap();
        assert_eq!((0..64).find_map(|address| write_offset(&file, address << 12)), None);
    }
}
