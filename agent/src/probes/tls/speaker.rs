//! What a program speaks TLS with when no library of it is probed, as far as it can be told from outside: the names
//! of what it maps, and marks that toolchains leave in executables. Words for people, never a ground to probe.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use memchr::memmem::Finder;

/// Parts of the names of mapped files. The first that fits is told.
const MAPPED: [(&str, &str); 8] = [
    ("libgnutls", "GnuTLS"),
    ("libjvm.so", "Java"),
    ("libssl3.so", "NSS"),
    ("libnss3.so", "NSS"),
    ("libmbedtls", "Mbed TLS"),
    ("libwolfssl", "wolfSSL"),
    ("librustls", "rustls"),
    ("libs2n", "s2n-tls"),
];
/// Marks in an executable. The first that is there is told.
const MARKS: [(&[u8], &str); 5] = [
    (b"\xff Go buildinf:", "Go"),
    (b"rustls-0.", "rustls"),
    (b"BoringSSL", "BoringSSL without symbols"),
    (b"OpenSSL 3.", "OpenSSL without symbols"),
    (b"OpenSSL 1.", "OpenSSL without symbols"),
];
/// Bytes of an executable that are looked through.
const EXECUTABLE_BYTES_MAX: u64 = 128 << 20;
const PIECE_BYTES: usize = 1 << 20;
/// Longer than any mark: what stands on the border of two pieces is found in the second.
const OVERLAP_BYTES: u64 = 32;

/// By the names of mapped files.
pub(super) fn of_mapped<'a>(mut paths: impl Iterator<Item = &'a Path> + Clone) -> Option<&'static str> {
    let name = |path: &Path, part: &str| {
        path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(part))
    };
    MAPPED.iter().find(|(part, _)| paths.clone().any(|path| name(path, part))).map(|(_, told)| *told).or_else(
        || {
            // Erlang's virtual machine brings its own.
            paths.any(|path| name(path, "beam.smp")).then_some("Erlang")
        },
    )
}

/// By the marks in the executable.
pub(super) fn of_executable(file: &File) -> Option<&'static str> {
    let finders = MARKS.map(|(mark, _)| Finder::new(mark));
    let mut best = MARKS.len();
    let mut piece = vec![0; PIECE_BYTES];
    let mut offset = 0;
    while best > 0 && offset < EXECUTABLE_BYTES_MAX {
        let Ok(read) = file.read_at(&mut piece, offset) else { break };
        let found = finders[..best].iter().position(|finder| finder.find(&piece[..read]).is_some());
        best = found.unwrap_or(best);
        if (read as u64) <= OVERLAP_BYTES {
            break;
        }
        offset += read as u64 - OVERLAP_BYTES;
    }
    MARKS.get(best).map(|(_, told)| *told)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_mark_on_the_border_of_two_pieces_is_found_and_the_surest_one_is_told() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&[0; PIECE_BYTES - 4]).unwrap();
        assert_eq!(of_executable(&file), None);
        file.write_all(b"OpenSSL 3.0.2").unwrap();
        assert_eq!(of_executable(&file), Some("OpenSSL without symbols"));
        file.write_all(&[0; 2 * PIECE_BYTES]).unwrap();
        file.write_all(b"\xff Go buildinf:").unwrap();
        assert_eq!(of_executable(&file), Some("Go"));
    }

    #[test]
    fn a_mapped_library_is_known_by_its_name_alone() {
        let of = |paths: &[&str]| of_mapped(paths.iter().map(Path::new));
        assert_eq!(of(&["/usr/bin/wget", "/usr/lib/libgnutls.so.30.34.3"]), Some("GnuTLS"));
        assert_eq!(of(&["/opt/libgnutls/program"]), None);
        assert_eq!(of(&["/usr/lib/erlang/erts-13.1.5/bin/beam.smp"]), Some("Erlang"));
    }
}
