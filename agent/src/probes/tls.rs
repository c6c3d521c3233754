//! Finds the TLS libraries that programs of this host use and attaches the plaintext probes to them, once per
//! file. A library counts by the symbols that it exports, never by its name.
//!
//! What it promises: libraries of the system are probed before a program can use them (the loader's cache is
//! read at start, and for each new mount namespace); others as soon as a TLS handshake or an exec is seen of
//! their process, and by a rescan at the latest. A failure is counted and shown, never fatal.
//!
//! Must not: open a file that is no library of some process or of the loader's cache, or trust a path where the
//! mapping itself can be opened.

mod attach;
mod elf;
mod files;
mod memory;
mod objects;
mod speaker;

use std::collections::{HashMap, HashSet, VecDeque};
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

pub use attach::{Attach, Function, LoadError, load};
use files::{MapId, Mapping, Stamp};

/// Files that are probed at one time.
const LIBRARIES_MAX: usize = 1024;
/// Files that are known to be no TLS library, remembered so that they are not read again.
const OTHERS_MAX: usize = 65_536;
/// Processes whose way to speak TLS is remembered.
const SPEAKERS_MAX: usize = 4096;
/// Processes that wait for a second look.
const YOUNG_MAX: usize = 4096;
/// When a process that just started is looked at again: its libraries are mapped after exec.
const YOUNG_DELAYS: [Duration; 3] =
    [Duration::from_millis(20), Duration::from_millis(200), Duration::from_secs(2)];
/// One process is scanned for a handshake at most this often.
const SEEN_INTERVAL: Duration = Duration::from_millis(500);
/// How often all processes are scanned.
const RESCAN_INTERVAL: Duration = Duration::from_secs(10);

/// A file by device and inode as `stat` names them.
type FileId = (u64, u64);

/// A probed library, for `doctor` and `status`.
#[derive(Clone, Debug)]
pub struct Library {
    /// Where it was found first.
    pub path: PathBuf,
    /// Functions that are probed.
    pub functions: Vec<&'static str>,
}

/// What happened since the start.
#[derive(Clone, Debug, Default)]
pub struct Counters {
    /// Functions that could not be probed.
    pub attach_errors: u64,
    /// Files that could not be opened or read as ELF (a process that ended in between is none).
    pub read_errors: u64,
    /// Libraries and second looks left out because there were too many.
    pub over_limit: u64,
    /// TLS objects of programs that ended without freeing them.
    pub abandoned: u64,
    /// Handshakes seen of processes that map no probed library: their plaintext is not captured.
    pub uncovered_handshakes: u64,
    /// The last failure, in words.
    pub last_error: Option<String>,
}

struct Probed<L> {
    library: Library,
    /// Not one that only brings transports.
    moves_plaintext: bool,
    /// Dropping them detaches.
    _links: Vec<L>,
    file: File,
    stamp: Stamp,
}

/// What a mapping turned out to be.
#[derive(Clone, Copy)]
struct Verdict {
    /// `None`: no TLS library.
    file: Option<FileId>,
    stamp: Option<Stamp>,
}

/// See the module.
pub struct Libraries<A: Attach> {
    host: PathBuf,
    probed: HashMap<FileId, Probed<A::Link>>,
    mappings: HashMap<MapId, Verdict>,
    /// What programs speak TLS with that map no probed library, by process.
    speakers: HashMap<u32, &'static str>,
    mount_namespaces: HashSet<u64>,
    young: VecDeque<(Instant, u32, usize)>,
    last_seen: HashMap<u32, (Instant, bool)>,
    last_rescan: Option<Instant>,
    counters: Counters,
}

impl<A: Attach> Libraries<A> {
    /// `host` is the root under which `/proc` and `/etc/ld.so.cache` lie, `/` but in tests.
    pub fn new(host: &Path) -> Self {
        Self {
            host: host.to_owned(),
            probed: HashMap::new(),
            mappings: HashMap::new(),
            speakers: HashMap::new(),
            mount_namespaces: HashSet::new(),
            young: VecDeque::new(),
            last_seen: HashMap::new(),
            last_rescan: None,
            counters: Counters::default(),
        }
    }

    /// At start: the system's libraries, used or not, then those of all running processes.
    pub fn attach_known(&mut self, kernel: &mut A, now: Instant) {
        self.attach_system(kernel, &self.host.clone());
        self.rescan(kernel, now);
    }

    /// A program started: its own file now, the libraries of its mount namespace if that is new, and what it
    /// maps a little later.
    pub fn on_exec(&mut self, kernel: &mut A, pid: u32, now: Instant) {
        self.last_seen.remove(&pid);
        if let Some(namespace) = files::mount_namespace(&self.host, pid)
            && self.mount_namespaces.len() < OTHERS_MAX
            && self.mount_namespaces.insert(namespace)
        {
            self.attach_system(kernel, &self.host.join(format!("proc/{pid}/root")));
        }
        self.speakers.remove(&pid);
        self.scan(kernel, pid, None);
        self.look_again(now, pid, 0);
    }

    /// A TLS handshake was seen on a socket of this process. Returns whether it maps a probed library.
    pub fn on_tls_seen(&mut self, kernel: &mut A, pid: u32, now: Instant) -> bool {
        let covered = match self.last_seen.get(&pid) {
            Some((when, covered)) if now.saturating_duration_since(*when) < SEEN_INTERVAL => *covered,
            _ => {
                let mapped = self.scan(kernel, pid, Some(&mut HashSet::new())).unwrap_or_default();
                let covered = mapped.iter().any(|id| self.moves_plaintext(*id));
                // An executable is looked through once: it can be large, and handshakes many.
                let known = self.speakers.get(&pid).is_some_and(|told| covered == (*told == speaker::PROBED));
                if !known {
                    self.remember_speaker(pid);
                }
                if self.last_seen.len() >= OTHERS_MAX {
                    self.last_seen.clear();
                }
                self.last_seen.insert(pid, (now, covered));
                covered
            }
        };
        self.counters.uncovered_handshakes += u64::from(!covered);
        covered
    }

    /// To be called every 20 ms or so: second looks that are due, and the rescan.
    pub fn tick(&mut self, kernel: &mut A, now: Instant) {
        for _ in 0..self.young.len() {
            let Some((due, pid, step)) = self.young.pop_front() else { break };
            if due > now {
                self.young.push_back((due, pid, step));
            } else if self.scan(kernel, pid, None).is_some() {
                self.look_again(now, pid, step + 1);
            }
        }
        let due = |last: Instant| now.saturating_duration_since(last) >= RESCAN_INTERVAL;
        if self.last_rescan.is_none_or(due) {
            self.rescan(kernel, now);
        }
    }

    /// Scans all processes, and forgets libraries that are deleted and that nobody maps, and objects of
    /// processes that ended.
    pub fn rescan(&mut self, kernel: &mut A, now: Instant) {
        self.last_rescan = Some(now);
        self.last_seen.clear();
        let (mut mapped, mut stamped) = (HashSet::new(), HashSet::new());
        for pid in files::processes(&self.host) {
            mapped.extend(self.scan(kernel, pid, Some(&mut stamped)).unwrap_or_default());
        }
        // An inode that nobody maps may be given to another file.
        self.mappings.retain(|id, _| stamped.contains(id));
        match kernel.forget_dead(&|pid| files::is_process(&self.host, pid)) {
            Ok(forgotten) => self.counters.abandoned += forgotten,
            Err(error) => self.counters.last_error = Some(format!("TLS objects cannot be swept: {error}")),
        }
        self.probed.retain(|id, probed| {
            let deleted = probed.file.metadata().is_ok_and(|metadata| metadata.nlink() == 0);
            mapped.contains(id) || !deleted
        });
        let probed = &self.probed;
        self.mappings.retain(|_, verdict| verdict.file.is_none_or(|id| probed.contains_key(&id)));
    }

    /// What this process speaks TLS with, in words, as far as it was seen at its handshakes or can be seen now.
    pub fn speaks_with(&mut self, pid: u32) -> &'static str {
        if !self.speakers.contains_key(&pid) {
            self.remember_speaker(pid);
        }
        self.speakers.get(&pid).copied().unwrap_or(speaker::UNKNOWN)
    }

    fn remember_speaker(&mut self, pid: u32) {
        if self.speakers.len() >= SPEAKERS_MAX {
            self.speakers.retain(|pid, _| files::is_process(&self.host, *pid));
        }
        if self.speakers.len() >= SPEAKERS_MAX {
            return;
        }
        let mapped = files::mapped_files(&self.host, pid).unwrap_or_default();
        let probed = |mapping: &Mapping| {
            let file = self.mappings.get(&mapping.id).and_then(|known| known.file);
            file.is_some_and(|id| self.moves_plaintext(id))
        };
        let by_probe = mapped.iter().any(probed).then_some(speaker::PROBED);
        let by_name = || speaker::of_mapped(mapped.iter().map(|mapping| mapping.path.as_path()));
        let by_mark = || speaker::of_executable(&files::executable(&self.host, pid).ok()?);
        let speaker = by_probe.or_else(by_name).or_else(by_mark).unwrap_or(speaker::UNKNOWN);
        self.speakers.insert(pid, speaker);
    }

    /// Whether plaintext passes this probed file; a library of transports alone is probed too.
    fn moves_plaintext(&self, file: FileId) -> bool {
        self.probed.get(&file).is_some_and(|one| one.moves_plaintext)
    }

    /// The probed libraries.
    pub fn libraries(&self) -> impl Iterator<Item = &Library> {
        self.probed.values().map(|probed| &probed.library)
    }

    /// What happened so far.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    fn look_again(&mut self, now: Instant, pid: u32, step: usize) {
        let Some(delay) = YOUNG_DELAYS.get(step) else { return };
        if self.young.len() >= YOUNG_MAX {
            self.counters.over_limit += 1;
            return;
        }
        self.young.push_back((now + *delay, pid, step));
    }

    fn attach_system(&mut self, kernel: &mut A, root: &Path) {
        for path in files::system_libraries(root) {
            match File::open(&path) {
                Ok(file) => {
                    self.examine(kernel, &path, file);
                }
                Err(error) => self.read_error(&path, &error),
            }
        }
    }

    /// Probes what this process maps; returns the probed files among it, or `None` if the process is gone. A file
    /// is read once; with `stamped`, that it is still the same is looked at, once for each file in the set.
    fn scan(
        &mut self,
        kernel: &mut A,
        pid: u32,
        mut stamped: Option<&mut HashSet<MapId>>,
    ) -> Option<Vec<FileId>> {
        let mut found = Vec::new();
        for mapping in files::mapped_files(&self.host, pid)? {
            let known = self.mappings.get(&mapping.id).copied();
            let look = stamped.as_mut().is_some_and(|stamped| stamped.insert(mapping.id));
            let verdict = match known {
                Some(known) if !look || known.stamp == mapping.stamp(&self.host, pid) => known,
                _ => match self.judge(kernel, &mapping, pid) {
                    Some(verdict) => verdict,
                    // The process ended, or replaced its mapping; if not, the rescan tries again.
                    None => continue,
                },
            };
            found.extend(verdict.file);
        }
        Some(found)
    }

    fn judge(&mut self, kernel: &mut A, mapping: &Mapping, pid: u32) -> Option<Verdict> {
        let opened = mapping.open(&self.host, pid).ok()?;
        let stamp = opened.metadata().ok().map(|metadata| Stamp::of(&metadata));
        let verdict = Verdict { file: self.examine(kernel, &mapping.path, opened), stamp };
        if self.mappings.len() >= OTHERS_MAX {
            self.mappings.clear();
        }
        self.mappings.insert(mapping.id, verdict);
        Some(verdict)
    }

    /// Probes the file if it is a TLS library that is not probed yet. Returns its name if it is probed.
    fn examine(&mut self, kernel: &mut A, path: &Path, file: File) -> Option<FileId> {
        let metadata = file.metadata().ok()?;
        let (id, stamp) = ((metadata.dev(), metadata.ino()), Stamp::of(&metadata));
        match self.probed.get(&id) {
            Some(probed) if probed.stamp == stamp => return Some(id),
            // It was written in place: its functions are elsewhere now, and a probe would stand in the middle of one.
            _ => drop(self.probed.remove(&id)),
        }
        let offsets = match elf::function_offsets(&file) {
            Ok(offsets) => offsets,
            Err(elf::ElfError::NotElf) => return None,
            Err(error) => {
                self.read_error(path, &error);
                return None;
            }
        };
        if offsets.is_empty() {
            return None;
        }
        if self.probed.len() >= LIBRARIES_MAX {
            self.counters.over_limit += 1;
            return None;
        }
        let (mut links, mut functions, mut moves_plaintext) = (Vec::new(), Vec::new(), false);
        for (function, offset) in offsets {
            match kernel.attach(function, &file, offset) {
                Ok(new) => {
                    links.extend(new);
                    functions.push(function.symbol());
                    moves_plaintext |= function.moves_plaintext();
                }
                Err(error) => {
                    let symbol = function.symbol();
                    let words = format!("{symbol} of {} cannot be probed: {error}", path.display());
                    // Each library fails in the same way, and is tried again with each program that maps it.
                    if self.counters.attach_errors == 0 {
                        tracing::error!("{words}; `custody-agent status` counts such failures");
                    }
                    self.counters.attach_errors += 1;
                    self.counters.last_error = Some(words);
                }
            }
        }
        if links.is_empty() {
            return None;
        }
        tracing::info!(library = %path.display(), functions = functions.len(), "TLS library probed");
        let library = Library { path: path.to_owned(), functions };
        self.probed.insert(id, Probed { library, moves_plaintext, _links: links, file, stamp });
        Some(id)
    }

    fn read_error(&mut self, path: &Path, error: &dyn std::fmt::Display) {
        self.counters.read_errors += 1;
        self.counters.last_error = Some(format!("{} cannot be read: {error}", path.display()));
    }
}

#[cfg(test)]
mod tests;
