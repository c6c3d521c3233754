//! Which files processes have mapped as code, and which TLS libraries the system has. Reads below a root path,
//! so that it is tested on recorded trees.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Bytes of `/proc/PID/maps` that are looked at.
const MAPS_BYTES_MAX: usize = 16 << 20;
/// Folders where libraries lie if the loader keeps no cache (musl).
const FOLDERS: [&str; 5] = ["lib", "usr/lib", "usr/local/lib", "lib64", "usr/lib64"];

/// A mapped file as `/proc/PID/maps` names it: device and inode, which may differ from `stat`'s (overlayfs,
/// btrfs), so it is only compared with its like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct MapId {
    device: (u32, u32),
    inode: u64,
}

/// A file that is mapped as code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mapping {
    pub(super) id: MapId,
    /// Name of the entry in `map_files`.
    range: String,
    /// In the process's mount namespace; for people.
    pub(super) path: PathBuf,
}

impl Mapping {
    /// Opens the mapped file itself: right for deleted files and in other mount namespaces.
    pub(super) fn open(&self, host: &Path, pid: u32) -> io::Result<File> {
        File::open(host.join(format!("proc/{pid}/map_files/{}", self.range)))
    }

    /// State of the mapped file itself; `None` when the process is gone.
    pub(super) fn stamp(&self, host: &Path, pid: u32) -> Option<Stamp> {
        let metadata = fs::metadata(host.join(format!("proc/{pid}/map_files/{}", self.range)));
        metadata.ok().map(|metadata| Stamp::of(&metadata))
    }
}

/// What tells that a file is no longer what it was, though it has the same inode: it was written in place, or the
/// inode was given to another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    size: u64,
    modified: (i64, i64),
}

impl Stamp {
    pub(super) fn of(metadata: &fs::Metadata) -> Self {
        Stamp { size: metadata.size(), modified: (metadata.mtime(), metadata.mtime_nsec()) }
    }
}

/// Files that the process maps as code, each once; `None` if there is no such process.
pub(super) fn mapped_files(host: &Path, pid: u32) -> Option<Vec<Mapping>> {
    let maps = fs::read(host.join(format!("proc/{pid}/maps"))).ok()?;
    let mut seen = HashSet::new();
    let maps = &maps[..maps.len().min(MAPS_BYTES_MAX)];
    let mappings = maps.split(|byte| *byte == b'\n').filter_map(mapping);
    let mut files: Vec<_> = mappings.filter(|mapping| seen.insert(mapping.id)).collect();
    // What is named like a TLS library first: its program may be about to use it.
    files.sort_by_key(|mapping| !has_tls_name(&mapping.path));
    Some(files)
}

/// `7f..-7f.. r-xp 00001000 fe:00 1234   /usr/lib/libssl.so.3`
fn mapping(line: &[u8]) -> Option<Mapping> {
    let mut fields = line.splitn(6, |byte| *byte == b' ');
    let range = std::str::from_utf8(fields.next()?).ok()?;
    let rights = fields.next()?;
    let _offset = fields.next()?;
    let device = std::str::from_utf8(fields.next()?).ok()?;
    let inode: u64 = std::str::from_utf8(fields.next()?).ok()?.parse().ok()?;
    let path = fields.next()?.trim_ascii_start();
    if rights.get(2) != Some(&b'x') || inode == 0 || !path.starts_with(b"/") {
        return None;
    }
    let (major, minor) = device.split_once(':')?;
    let number = |hex| u32::from_str_radix(hex, 16).ok();
    let id = MapId { device: (number(major)?, number(minor)?), inode };
    // map_files names an entry without the leading zeros that maps may show.
    let (start, end) = range.split_once('-')?;
    let address = |hex| u64::from_str_radix(hex, 16).ok();
    let range = format!("{:x}-{:x}", address(start)?, address(end)?);
    Some(Mapping { id, range, path: PathBuf::from(std::ffi::OsStr::from_bytes(path)) })
}

fn has_tls_name(path: &Path) -> bool {
    path.file_name()
        .is_some_and(|name| name.as_bytes().windows(3).any(|part| part.eq_ignore_ascii_case(b"ssl")))
}

/// The program that the process runs.
pub(super) fn executable(host: &Path, pid: u32) -> io::Result<File> {
    File::open(host.join(format!("proc/{pid}/exe")))
}

/// Running processes.
pub(super) fn processes(host: &Path) -> Vec<u32> {
    let Ok(entries) = fs::read_dir(host.join("proc")) else { return Vec::new() };
    entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// Whether there is such a process now.
pub(super) fn is_process(host: &Path, pid: u32) -> bool {
    host.join(format!("proc/{pid}")).exists()
}

/// Inode of the process's mount namespace.
pub(super) fn mount_namespace(host: &Path, pid: u32) -> Option<u64> {
    fs::metadata(host.join(format!("proc/{pid}/ns/mnt"))).ok().map(|metadata| metadata.ino())
}

/// Files named like an OpenSSL library that the loader of this root would find, used or not.
pub(super) fn system_libraries(root: &Path) -> Vec<PathBuf> {
    let cache = fs::read(root.join("etc/ld.so.cache")).unwrap_or_default();
    let mut paths: Vec<PathBuf> =
        cached_paths(&cache).iter().map(|path| root.join(path.trim_start_matches('/'))).collect();
    for folder in FOLDERS {
        let Ok(entries) = fs::read_dir(root.join(folder)) else { continue };
        let names = entries.flatten().map(|entry| entry.file_name());
        paths.extend(
            names
                .filter(|name| is_tls_name(&name.to_string_lossy()))
                .map(|name| root.join(folder).join(name)),
        );
    }
    paths.retain(|path| path.is_file());
    paths.sort();
    paths.dedup();
    paths
}

fn is_tls_name(name: &str) -> bool {
    (name.starts_with("libssl") || name.starts_with("libcrypto")) && name.contains(".so")
}

/// Paths of TLS libraries in glibc's cache (glibc `sysdeps/generic/dl-cache.h`, the 1.1 form, alone or behind
/// the old one).
fn cached_paths(cache: &[u8]) -> Vec<&str> {
    const MAGIC: &[u8] = b"glibc-ld.so.cache1.1";
    const HEADER_BYTES: usize = 48;
    const ENTRY_BYTES: usize = 24;
    let Some(start) = cache.windows(MAGIC.len()).position(|window| window == MAGIC) else {
        return Vec::new();
    };
    let cache = &cache[start..];
    let word = |at: usize| -> Option<usize> {
        let bytes = cache.get(at..at.checked_add(4)?)?;
        usize::try_from(u32::from_ne_bytes(bytes.try_into().ok()?)).ok()
    };
    let count = word(MAGIC.len()).unwrap_or(0).min(cache.len() / ENTRY_BYTES);
    let path = |index: usize| -> Option<&str> {
        let text = cache.get(word(HEADER_BYTES + index * ENTRY_BYTES + 8)?..)?;
        let end = text.iter().take(4096).position(|byte| *byte == 0)?;
        std::str::from_utf8(&text[..end]).ok()
    };
    (0..count).filter_map(path).filter(|path| path.rsplit('/').next().is_some_and(is_tls_name)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_mappings_are_told_once_and_by_their_own_name() {
        let host = tempfile::tempdir().unwrap();
        fs::create_dir_all(host.path().join("proc/7")).unwrap();
        let maps = "00400000-00452000 r-xp 00000000 fe:00 11 /usr/bin/with space\n\
                    7f00-7f10 r--p 00000000 fe:00 12 /usr/lib/libssl.so.3\n\
                    7f10-7f20 r-xp 00001000 fe:00 12 /usr/lib/libssl.so.3 (deleted)\n\
                    7f20-7f30 r-xp 00002000 fe:00 12 /usr/lib/libssl.so.3\n\
                    7f30-7f40 r-xp 00000000 00:00 0 [vdso]\n\
                    damaged\n7f-x r-xp 0 a b /c";
        fs::write(host.path().join("proc/7/maps"), maps).unwrap();
        let found = mapped_files(host.path(), 7).unwrap();
        let told: Vec<_> = found.iter().map(|one| (one.range.as_str(), one.path.to_str().unwrap())).collect();
        assert_eq!(
            told,
            [("7f10-7f20", "/usr/lib/libssl.so.3 (deleted)"), ("400000-452000", "/usr/bin/with space")]
        );
        assert!(mapped_files(host.path(), 8).is_none());
    }

    #[test]
    fn a_damaged_cache_gives_nothing_and_does_no_harm() {
        let mut cache = b"glibc-ld.so.cache1.1".to_vec();
        cache.extend(u32::MAX.to_ne_bytes());
        assert!(cached_paths(&cache).is_empty());
        cache.extend([0xff; 500]);
        assert!(cached_paths(&cache).is_empty());
        assert!(cached_paths(b"").is_empty());
    }
}
