//! The attach loop against a kernel of our own, and the libraries of this very process and system.

use super::*;

#[derive(Default)]
struct Kernel {
    attached: Vec<(&'static str, u64)>,
    refuse: bool,
    objects_of: Vec<u32>,
}

impl Attach for Kernel {
    type Link = ();
    type Error = &'static str;

    fn attach(&mut self, function: Function, _: &File, offset: u64) -> Result<Vec<()>, &'static str> {
        if self.refuse {
            return Err("refused");
        }
        self.attached.push((function.symbol(), offset));
        Ok(vec![()])
    }

    fn forget_dead(&mut self, is_alive: &dyn Fn(u32) -> bool) -> Result<u64, &'static str> {
        Ok(self.objects_of.iter().filter(|pid| !is_alive(**pid)).count() as u64)
    }
}

#[test]
fn the_systems_library_is_probed_once_however_often_it_is_found() {
    let (mut kernel, mut libraries) = (Kernel::default(), Libraries::new(Path::new("/")));
    let now = Instant::now();
    libraries.attach_known(&mut kernel, now);
    let functions: usize = libraries.libraries().map(|library| library.functions.len()).sum();
    assert_eq!(kernel.attached.len(), functions, "once per library");
    let writes = kernel.attached.iter().filter(|(symbol, _)| *symbol == "SSL_write_ex").count();
    let with = |symbol: &'static str| {
        libraries.libraries().filter(|library| library.functions.contains(&symbol)).count()
    };
    assert_eq!(writes, with("SSL_write_ex"), "once per library");
    assert!(
        with("BIO_s_mem") >= 1 && with("BIO_s_bio") >= 1,
        "where libssl is, its transports in memory are"
    );
    assert!(writes >= 1, "the package libssl3 must be installed for this test");
    let before = kernel.attached.len();
    libraries.on_exec(&mut kernel, std::process::id(), now);
    libraries.tick(&mut kernel, now + RESCAN_INTERVAL);
    assert_eq!(kernel.attached.len(), before);
    assert!(kernel.attached.iter().all(|(_, offset)| *offset != 0));
}

#[test]
fn a_refusal_is_counted_and_told() {
    let mut libraries = Libraries::new(Path::new("/"));
    libraries.attach_known(&mut Kernel { refuse: true, ..Kernel::default() }, Instant::now());
    assert!(libraries.counters().attach_errors >= 11);
    let told = libraries.counters().last_error.clone().unwrap_or_default();
    assert!(told.contains("cannot be probed: refused"), "{told}");
    assert_eq!(libraries.libraries().count(), 0);
}

#[test]
fn a_process_without_a_tls_library_is_uncovered() {
    let (mut kernel, mut libraries) = (Kernel::default(), Libraries::new(Path::new("/")));
    // This test maps no libssl.
    assert!(!libraries.on_tls_seen(&mut kernel, std::process::id(), Instant::now()));
    assert_eq!(libraries.counters().uncovered_handshakes, 1);
}

#[test]
fn objects_of_processes_that_ended_are_swept() {
    let ended =
        std::process::Command::new("true").spawn().and_then(|mut child| child.wait().map(|_| child.id()));
    let objects_of = vec![ended.unwrap(), std::process::id()];
    let (mut kernel, mut libraries) =
        (Kernel { objects_of, ..Kernel::default() }, Libraries::new(Path::new("/")));
    libraries.rescan(&mut kernel, Instant::now());
    assert_eq!(libraries.counters().abandoned, 1);
}

/// A host with one process that maps one file, which is at the returned place.
fn host_with_a_mapping() -> (tempfile::TempDir, std::path::PathBuf) {
    let host = tempfile::tempdir().unwrap();
    let process = host.path().join("proc/7");
    std::fs::create_dir_all(process.join("map_files")).unwrap();
    std::fs::write(process.join("maps"), "7f10-7f20 r-xp 00001000 fe:00 12 /opt/it.so\n").unwrap();
    let mapped = process.join("map_files/7f10-7f20");
    (host, mapped)
}

#[test]
fn a_file_that_was_no_library_is_looked_at_again_when_it_changed() {
    let (host, mapped) = host_with_a_mapping();
    std::fs::write(&mapped, "no library").unwrap();
    let (mut kernel, mut libraries) = (Kernel::default(), Libraries::new(host.path()));
    libraries.rescan(&mut kernel, Instant::now());
    assert!(kernel.attached.is_empty());
    // Its inode is another file's now.
    std::fs::write(&mapped, std::fs::read("/usr/lib/x86_64-linux-gnu/libssl.so.3").unwrap()).unwrap();
    libraries.on_exec(&mut kernel, 7, Instant::now());
    assert!(kernel.attached.is_empty(), "a file was read again for each program that maps it");
    libraries.rescan(&mut kernel, Instant::now());
    assert!(!kernel.attached.is_empty());
}

#[test]
fn a_library_that_is_written_in_place_is_probed_at_its_new_places() {
    let (host, mapped) = host_with_a_mapping();
    let mut bytes = std::fs::read("/usr/lib/x86_64-linux-gnu/libssl.so.3").unwrap();
    std::fs::write(&mapped, &bytes).unwrap();
    let (mut kernel, mut libraries) = (Kernel::default(), Libraries::new(host.path()));
    libraries.rescan(&mut kernel, Instant::now());
    let once = kernel.attached.len();
    libraries.rescan(&mut kernel, Instant::now());
    assert_eq!(kernel.attached.len(), once);
    bytes.push(0);
    std::fs::write(&mapped, &bytes).unwrap();
    libraries.rescan(&mut kernel, Instant::now());
    assert_eq!(kernel.attached.len(), 2 * once, "the old places are still probed");
    assert_eq!(libraries.libraries().count(), 1);
}

#[test]
fn a_program_says_by_what_it_maps_how_it_speaks() {
    let (host, mapped) = host_with_a_mapping();
    std::fs::write(&mapped, "no library").unwrap();
    std::fs::write(host.path().join("proc/7/exe"), b"\x7fELF...\xff Go buildinf:").unwrap();
    let (mut kernel, mut libraries) = (Kernel::default(), Libraries::new(host.path()));
    assert!(!libraries.on_tls_seen(&mut kernel, 7, Instant::now()));
    assert_eq!(libraries.speaks_with(7), "Go");
    std::fs::copy("/usr/lib/x86_64-linux-gnu/libssl.so.3", &mapped).unwrap();
    assert!(libraries.on_tls_seen(&mut kernel, 7, Instant::now() + 2 * SEEN_INTERVAL));
    assert_eq!(libraries.speaks_with(7), "OpenSSL");
    assert_eq!(libraries.speaks_with(8), "unknown");
}
