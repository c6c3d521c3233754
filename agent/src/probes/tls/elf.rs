//! Where in an ELF file the functions are that are probed. Reads headers and tables of symbols, in bounds: a static
//! executable can have hundreds of megabytes, and most files have no such function.
//!
//! The programs of the kernel object read arguments as this machine's 64-bit calls pass them: files for anything
//! else are no TLS libraries to us.

use std::fs::File;
use std::os::unix::fs::FileExt;

use memchr::memmem::Finder;
use object::Endianness;
use object::elf::{EM_X86_64, FileHeader64, PT_LOAD, SHN_UNDEF, SHT_DYNSYM, SHT_SYMTAB, STT_FUNC};
use object::read::elf::{FileHeader, ProgramHeader, SectionHeader};
use object::read::{ReadCache, ReadRef};

use super::{Function, memory};

/// Longest table that is read, of symbols or of their names. Browsers with all symbols have more.
const TABLE_BYTES_MAX: u64 = 128 << 20;
/// Longest name of a function that is probed, and its end.
const NAME_BYTES_MAX: usize = 64;

/// Beginnings of names of which a file that is probed has at least one.
const NAMES: [&str; 4] = ["\0SSL_read", "\0SSL_write", "\0BIO_s_mem", "\0BIO_s_bio"];

const SYMBOL_BYTES: usize = 24;

type Header = FileHeader64<Endianness>;
type Section = object::elf::SectionHeader64<Endianness>;
type Segment = object::elf::ProgramHeader64<Endianness>;

/// Why a file's functions cannot be told.
#[derive(Debug, thiserror::Error)]
pub(super) enum ElfError {
    /// It is something else, or for another machine, which is no failure.
    #[error("no ELF file of this machine")]
    NotElf,
    /// It begins as one and is damaged, or cannot be read.
    #[error("damaged ELF file: {0}")]
    Damaged(#[from] object::read::Error),
    /// A table is where there is no file, or cannot be read.
    #[error("a table of symbols cannot be read: {0}")]
    Read(#[from] std::io::Error),
    /// Over the limit.
    #[error("a table of symbols has {0} bytes, over the limit of {TABLE_BYTES_MAX}")]
    TooLong(u64),
}

/// File offsets of the functions that this file defines; none if it is no TLS library. The dynamic symbols, and
/// where they have none (a static executable), all that were not stripped.
pub(super) fn function_offsets(file: &File) -> Result<Vec<(Function, u64)>, ElfError> {
    let cache = ReadCache::new(file);
    let (endian, header) = header(&cache)?;
    let segments = header.program_headers(endian, &cache)?;
    let sections = header.section_headers(endian, &cache)?;
    let mut found: Vec<(Function, u64)> = Vec::new();
    for kind in [SHT_DYNSYM, SHT_SYMTAB] {
        for table in sections.iter().filter(|section| section.sh_type(endian) == kind) {
            let Some(names) = sections.get(table.sh_link(endian) as usize) else { continue };
            let names = bytes_of(file, names, endian)?;
            if !NAMES.iter().any(|name| Finder::new(name).find(&names).is_some()) {
                continue;
            }
            let symbols = bytes_of(file, table, endian)?;
            collect(file, &symbols, &names, segments, endian, &mut found);
        }
        // A library with only SSL_free, say, wraps another one: its callers' plaintext does not pass here. Transports
        // may lie in a library of their own.
        if found.iter().any(|(function, _)| function.moves_plaintext() || function.is_transport()) {
            return Ok(found);
        }
    }
    Ok(Vec::new())
}

/// The file's header, if it is one of this machine.
pub(super) fn header<'data>(cache: &'data ReadCache<&File>) -> Result<(Endianness, &'data Header), ElfError> {
    match cache.read_bytes_at(0, 4) {
        Ok(b"\x7fELF") => {}
        _ => return Err(ElfError::NotElf),
    }
    let Ok(header) = Header::parse(cache) else { return Err(ElfError::NotElf) };
    let endian = header.endian()?;
    if header.e_machine(endian) != EM_X86_64 {
        return Err(ElfError::NotElf);
    }
    Ok((endian, header))
}

fn bytes_of(file: &File, section: &Section, endian: Endianness) -> Result<Vec<u8>, ElfError> {
    let Some((offset, size)) = section.file_range(endian) else { return Ok(Vec::new()) };
    // A damaged header must not make us reserve what the file does not have.
    if size > TABLE_BYTES_MAX {
        return Err(ElfError::TooLong(size));
    }
    if offset.checked_add(size).is_none_or(|end| end > file.metadata().map_or(0, |metadata| metadata.len())) {
        return Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into());
    }
    let mut bytes = vec![0; usize::try_from(size).unwrap_or(0)];
    file.read_exact_at(&mut bytes, offset)?;
    Ok(bytes)
}

fn collect(
    file: &File,
    symbols: &[u8],
    names: &[u8],
    segments: &[Segment],
    endian: Endianness,
    found: &mut Vec<(Function, u64)>,
) {
    // Elf64_Sym, in the byte order of this machine: name 4, info 1, other 1, section 2, value 8, size 8.
    for symbol in symbols.chunks_exact(SYMBOL_BYTES) {
        let [n0, n1, n2, n3, info, _, s0, s1, value @ ..] = symbol else { continue };
        let (section, name) = (u16::from_le_bytes([*s0, *s1]), u32::from_le_bytes([*n0, *n1, *n2, *n3]));
        if info & 0xf != STT_FUNC || section == SHN_UNDEF {
            continue;
        }
        let Some(name) = names.get(name as usize..) else { continue };
        let Some((value, _)) = value.split_first_chunk() else { continue };
        let address = u64::from_le_bytes(*value);
        let name = &name[..name.len().min(NAME_BYTES_MAX)];
        let Some(function) = name.split(|byte| *byte == 0).next().and_then(Function::of_symbol) else {
            continue;
        };
        let offset = if function.is_table() {
            memory::write_offset(file, address)
        } else {
            file_offset(segments, address, endian)
        };
        // A symbol can be there in several versions.
        if let Some(offset) = offset
            && !found.contains(&(function, offset))
        {
            found.push((function, offset));
        }
    }
}

/// The kernel places a uprobe by file offset: an address of a segment, taken back to where it is loaded from.
fn file_offset(segments: &[Segment], address: u64, endian: Endianness) -> Option<u64> {
    segments.iter().filter(|segment| segment.p_type(endian) == PT_LOAD).find_map(|segment| {
        let into = address.checked_sub(segment.p_vaddr(endian))?;
        (into < segment.p_filesz(endian)).then(|| segment.p_offset(endian).checked_add(into))?
    })
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::path::Path;
    use std::process::Command;

    use super::*;

    /// A shared library with these functions, and what `cc` is told beside.
    fn library(folder: &Path, functions: &[&str], options: &[&str]) -> File {
        let (source, built) = (folder.join("it.c"), folder.join("it.so"));
        let text: String =
            functions.iter().map(|name| format!("int {name}(void) {{ return 0; }}\n")).collect();
        std::fs::write(&source, text).unwrap();
        let mut compiler = Command::new("cc");
        compiler.args(["-shared", "-fPIC", "-o"]).arg(&built).arg(&source).args(options);
        assert!(compiler.status().expect("cc, which Rust itself links with").success());
        File::open(built).unwrap()
    }

    fn names(file: &File) -> Vec<&'static str> {
        let mut names: Vec<_> =
            function_offsets(file).unwrap().iter().map(|(function, _)| function.symbol()).collect();
        names.sort_unstable();
        names
    }

    #[test]
    fn functions_that_are_not_exported_are_found_until_they_are_stripped() {
        let folder = tempfile::tempdir().unwrap();
        let all = ["SSL_write", "SSL_read", "SSL_free", "SSL_unknown", "xSSL_write"];
        assert_eq!(names(&library(folder.path(), &all, &[])), ["SSL_free", "SSL_read", "SSL_write"]);
        let hidden = library(folder.path(), &all, &["-fvisibility=hidden"]);
        assert_eq!(names(&hidden), ["SSL_free", "SSL_read", "SSL_write"]);
        let stripped = library(folder.path(), &all, &["-fvisibility=hidden", "-s"]);
        assert!(names(&stripped).is_empty());
    }

    #[test]
    fn a_library_that_only_wraps_another_one_is_none() {
        let folder = tempfile::tempdir().unwrap();
        assert!(names(&library(folder.path(), &["SSL_free", "SSL_set_fd"], &[])).is_empty());
    }

    #[test]
    fn damaged_files_are_refused_without_reserving_what_they_claim() {
        let folder = tempfile::tempdir().unwrap();
        let mut whole = Vec::new();
        std::io::Read::read_to_end(&mut library(folder.path(), &["SSL_write"], &[]), &mut whole).unwrap();
        // Each byte of the headers and of the table of sections, which stands at the end.
        let places = (0..1024).chain(whole.len() - 2048..whole.len());
        for place in places.step_by(3) {
            let mut damaged = whole.clone();
            damaged[place] ^= 0xff;
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(&damaged).unwrap();
            drop(function_offsets(&file));
        }
    }

    #[test]
    fn a_library_of_another_machine_is_no_library() {
        let folder = tempfile::tempdir().unwrap();
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut library(folder.path(), &["SSL_write"], &[]), &mut bytes).unwrap();
        // e_machine: i386, whose calls pass arguments on the stack.
        bytes[18] = 3;
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&bytes).unwrap();
        assert!(matches!(function_offsets(&file), Err(ElfError::NotElf)));
    }
}
