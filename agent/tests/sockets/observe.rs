//! Loads the probes for this test process alone, and reads what they tell of it.

use custody_abi::{Data, Exec, Exit, Fork, Gap, Header, SocketClose, SocketOpen, kind};
use custody_agent::probes::{Backend, Counters, Match, ProbeOptions, Probes, Rule};
use custody_agent::ring::Ring;
use std::os::unix::fs::MetadataExt;
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// What an event may take, on an emulated processor too.
const PATIENCE: Duration = Duration::from_secs(60);

static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// A piece of payload as it came.
pub(crate) struct Chunk {
    pub(crate) data: Data,
    pub(crate) bytes: Vec<u8>,
}

/// All that was told since the start, of this process.
#[derive(Default)]
pub(crate) struct Told {
    pub(crate) chunks: Vec<Chunk>,
    /// What other processes of this program moved: its children.
    pub(crate) elsewhere: Vec<Chunk>,
    pub(crate) opens: Vec<SocketOpen>,
    pub(crate) closes: Vec<SocketClose>,
    pub(crate) gaps: Vec<Gap>,
    pub(crate) execs: Vec<(Exec, Vec<u8>)>,
    pub(crate) forks: Vec<Fork>,
    pub(crate) exits: Vec<Exit>,
    /// Sockets that had data before their open.
    pub(crate) data_before_open: usize,
}

pub(crate) struct Observer {
    pub(crate) probes: Probes,
    data: Ring,
    control: Ring,
    told: Told,
    _one: MutexGuard<'static, ()>,
}

impl Observer {
    pub(crate) fn start(backend: Backend) -> Self {
        Self::with(ProbeOptions { backend: Some(backend), ..only_this_program() })
    }

    pub(crate) fn with(options: ProbeOptions) -> Self {
        let one = ONE_AT_A_TIME.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let probes = Probes::load(&options).unwrap_or_else(|error| panic!("{error}"));
        let rings = probes.rings();
        let data = Ring::new(rings.data.fd.try_clone_to_owned().unwrap(), rings.data.bytes).unwrap();
        let control = Ring::new(rings.control.fd.try_clone_to_owned().unwrap(), rings.control.bytes).unwrap();
        Self { probes, data, control, told: Told::default(), _one: one }
    }

    /// Reads the rings as the worker does: opens are seen before their data.
    pub(crate) fn drain(&mut self) -> &Told {
        let until = self.data.producer_position();
        let told = &mut self.told;
        self.control.drain(u64::MAX, |event| told.control(event)).unwrap();
        self.data.drain(until, |event| told.data(event)).unwrap();
        told
    }

    /// Reads until `enough` says so, or fails.
    pub(crate) fn until(&mut self, what: &str, enough: impl Fn(&Told) -> bool) -> &Told {
        let begin = Instant::now();
        while !enough(self.drain()) {
            assert!(begin.elapsed() < PATIENCE, "never told: {what}");
            std::thread::sleep(Duration::from_millis(2));
        }
        &self.told
    }

    pub(crate) fn counters(&self) -> Counters {
        self.probes.counters().unwrap()
    }
}

/// Rules that include nothing but this test's executable.
pub(crate) fn only_this_program() -> ProbeOptions {
    let own = std::fs::metadata("/proc/self/exe").unwrap();
    let matches = Match::Executable { device: own.dev(), inode: own.ino() };
    ProbeOptions { rules: vec![Rule { include: true, matches }], ..ProbeOptions::default() }
}

/// Reads a fixed-size event out of bytes.
fn event<T: Copy>(bytes: &[u8]) -> (T, &[u8]) {
    assert!(bytes.len() >= size_of::<T>(), "an event of {} bytes", bytes.len());
    // SAFETY: long enough, and T is a struct of integers, for which all bytes are valid.
    #[expect(unsafe_code, reason = "events are plain structs of integers in the ring's memory")]
    let value = unsafe { bytes.as_ptr().cast::<T>().read_unaligned() };
    (value, &bytes[size_of::<T>()..])
}

impl Told {
    fn data(&mut self, bytes: &[u8]) {
        let (data, rest): (Data, _) = event(bytes);
        assert_eq!(data.header.kind, kind::DATA);
        let chunk = Chunk { data, bytes: rest[..data.header.len as usize].to_vec() };
        if data.task.pid != std::process::id() {
            self.elsewhere.push(chunk);
            return;
        }
        if !self.opens.iter().any(|open| open.socket == data.socket) {
            self.data_before_open += 1;
        }
        self.chunks.push(chunk);
    }

    fn control(&mut self, bytes: &[u8]) {
        let (header, _): (Header, _) = event(bytes);
        let own = std::process::id();
        match header.kind {
            kind::SOCKET_OPEN => self.opens.push(event(bytes).0),
            kind::SOCKET_CLOSE => self.closes.push(event(bytes).0),
            kind::GAP => {
                let gap: Gap = event(bytes).0;
                if gap.task.pid == own {
                    self.gaps.push(gap);
                }
            }
            kind::EXEC => {
                let (exec, rest): (Exec, _) = event(bytes);
                self.execs.push((exec, rest[..header.len as usize].to_vec()));
            }
            kind::FORK => self.forks.push(event(bytes).0),
            kind::EXIT => self.exits.push(event(bytes).0),
            other => panic!("an event of kind {other}"),
        }
    }

    /// The open of the socket of this inode.
    pub(crate) fn open(&self, inode: u64) -> Option<&SocketOpen> {
        self.opens.iter().find(|open| open.inode == inode)
    }

    /// Bytes of one direction of a socket in the order told, each at its position, counted from `from`.
    pub(crate) fn stream(&self, inode: u64, direction: u8, from: u64) -> Vec<u8> {
        let Some(open) = self.open(inode) else { return vec![] };
        let mut bytes = vec![];
        for chunk in &self.chunks {
            if chunk.data.socket == open.socket && chunk.data.direction == direction {
                assert_eq!(chunk.data.position, from + bytes.len() as u64, "chunks follow each other");
                bytes.extend_from_slice(&chunk.bytes);
            }
        }
        bytes
    }

    /// Bytes of one direction of a socket, captured or said to be missing.
    pub(crate) fn accounted(&self, inode: u64, direction: u8) -> u64 {
        let Some(open) = self.open(inode) else { return 0 };
        let captured = self
            .chunks
            .iter()
            .filter(|chunk| chunk.data.socket == open.socket && chunk.data.direction == direction)
            .map(|chunk| chunk.bytes.len() as u64);
        captured.sum::<u64>() + self.gaps(inode, direction).iter().map(|gap| gap.length).sum::<u64>()
    }

    /// Gaps of one direction of a socket.
    pub(crate) fn gaps(&self, inode: u64, direction: u8) -> Vec<&Gap> {
        let Some(open) = self.open(inode) else { return vec![] };
        self.gaps.iter().filter(|gap| gap.socket == open.socket && gap.direction == direction).collect()
    }
}
