//! Where in an ELF file the functions are that are probed. Reads headers and the dynamic symbol table only: a
//! static executable can have hundreds of megabytes.

use std::fs::File;

use object::read::{ReadCache, ReadRef};
use object::{Object, ObjectSegment, ObjectSymbol, SymbolKind};

use super::{Function, memory};

/// Why a file's functions cannot be told.
#[derive(Debug, thiserror::Error)]
pub(super) enum ElfError {
    /// It is something else, which is no failure.
    #[error("no ELF file")]
    NotElf,
    /// It begins as one and is damaged, or cannot be read.
    #[error("damaged ELF file: {0}")]
    Damaged(#[from] object::read::Error),
}

/// File offsets of the functions that this file defines; none if it is no TLS library.
pub(super) fn function_offsets(file: &File) -> Result<Vec<(Function, u64)>, ElfError> {
    let cache = ReadCache::new(file);
    match (&cache).read_bytes_at(0, 4) {
        Ok(b"\x7fELF") => {}
        _ => return Err(ElfError::NotElf),
    }
    let elf = object::File::parse(&cache)?;
    let mut found: Vec<(Function, u64)> = Vec::new();
    for symbol in elf.dynamic_symbols() {
        if symbol.is_undefined() || symbol.kind() != SymbolKind::Text {
            continue;
        }
        let Some(function) = symbol.name_bytes().ok().and_then(Function::of_symbol) else { continue };
        let offset = if function.is_table() {
            memory::write_offset(file, symbol.address())
        } else {
            file_offset(&elf, symbol.address())
        };
        // A symbol can be there in several versions.
        if let Some(offset) = offset
            && !found.contains(&(function, offset))
        {
            found.push((function, offset));
        }
    }
    // A library with only SSL_free, say, wraps another one: its callers' plaintext does not pass here. Transports
    // may lie in a library of their own.
    let is_wanted = |(function, _): &(Function, u64)| function.moves_plaintext() || function.is_transport();
    Ok(if found.iter().any(is_wanted) { found } else { Vec::new() })
}

/// The kernel places a uprobe by file offset: an address of a segment, taken back to where it is loaded from.
fn file_offset<'data, R: ReadRef<'data>>(elf: &object::File<'data, R>, address: u64) -> Option<u64> {
    elf.segments().find_map(|segment| {
        let (offset, size) = segment.file_range();
        let into = address.checked_sub(segment.address())?;
        (into < size).then(|| offset.checked_add(into))?
    })
}
