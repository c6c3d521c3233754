//! Loads the kernel side, attaches it, and hands out its rings. The flow starts here: what is attached
//! writes into the rings, which the worker reads (`ring`).
//!
//! Must not: read events, or go on with a kernel whose structures are not known for sure.

pub mod able;
mod counters;
mod error;
mod offsets;
mod path;
mod rules;
mod standing;
mod syscalls;
mod table;
pub mod tls;

pub use counters::Counters;
pub use error::ProbeError;
pub use path::path_of_names;
pub use rules::{Match, Rule};
pub use standing::Gone;
pub use table::{Probe, State, table};

use aya::maps::{MapData, RingBuf};
use aya::programs::RawTracePoint;
use aya::{Ebpf, EbpfLoader};
use aya_log::EbpfLogger;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;

/// How sockets are observed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// Raw tracepoints on the socket layer.
    Sockets,
    /// Raw tracepoints on every system call.
    SystemCalls,
}

/// What the kernel side is told before it is loaded.
#[derive(Clone, Debug)]
pub struct ProbeOptions {
    /// Bytes of the data ring, a power of two.
    pub data_ring_bytes: u32,
    /// Bytes of the control ring, a power of two.
    pub control_ring_bytes: u32,
    /// Payload bytes captured of one call; the rest is cut and told as a gap.
    pub call_bytes_max: u64,
    /// Sockets known at one time.
    pub sockets_max: u32,
    /// Takes this back-end instead of the best that the kernel has.
    pub backend: Option<Backend>,
    /// Whether sends are placed under the socket's lock where the kernel has the hook; without it, what
    /// several threads write at the same time has no sure order.
    pub locked_sends: bool,
    /// What is observed and what is not; the first exclusion that matches names the counter.
    pub rules: Vec<Rule>,
    /// Port of the agent's own exchange, which no rule leaves out; 0 none.
    pub canary_port: u16,
    /// Where `/sys` is mounted.
    pub sys: PathBuf,
    /// Where `/proc` is mounted.
    pub proc: PathBuf,
}

impl Default for ProbeOptions {
    fn default() -> Self {
        Self {
            data_ring_bytes: 8 << 20,
            control_ring_bytes: 4 << 20,
            call_bytes_max: 1 << 20,
            sockets_max: 65536,
            backend: None,
            locked_sends: true,
            rules: Vec::new(),
            canary_port: 0,
            sys: "/sys".into(),
            proc: "/proc".into(),
        }
    }
}

/// A ring as another process can map it.
#[derive(Clone, Copy, Debug)]
pub struct RingHandle<'a> {
    /// The map.
    pub fd: BorrowedFd<'a>,
    /// Its size in bytes.
    pub bytes: usize,
}

/// Both rings.
#[derive(Clone, Copy, Debug)]
pub struct Rings<'a> {
    /// Payload.
    pub data: RingHandle<'a>,
    /// Everything else.
    pub control: RingHandle<'a>,
}

/// The kernel side, loaded and attached. Dropping it detaches everything.
pub struct Probes {
    ebpf: Ebpf,
    log: EbpfLogger<&'static dyn log::Log>,
    data: RingBuf<MapData>,
    control: RingBuf<MapData>,
    ring_bytes: [usize; 2],
    backend: Backend,
    rules: rules::Rules,
    standing: standing::Standing,
}

/// The object that `cargo xtask build-ebpf` made.
#[cfg(custody_ebpf_object)]
const OBJECT: Option<&[u8]> = Some(aya::include_bytes_aligned!(env!("CUSTODY_EBPF_OBJECT_PATH")));
#[cfg(not(custody_ebpf_object))]
const OBJECT: Option<&[u8]> = None;

/// SHA-256 of the embedded object, if there is one.
pub fn object_hash() -> Option<[u8; 32]> {
    let digest = ring::digest::digest(&ring::digest::SHA256, OBJECT?);
    digest.as_ref().try_into().ok()
}

/// Attached with either back-end.
const PROCESS_HOOKS: [&str; 3] = ["sched_process_exec", "sched_process_fork", "sched_process_exit"];
const LIFE_HOOKS: [&str; 2] = ["tcp_destroy_sock", "inet_sock_set_state"];
/// Where the kernel has them: who broke a connection off.
const RESET_HOOKS: [&str; 2] = ["tcp_receive_reset", "tcp_send_reset"];
const SOCKET_HOOKS: [&str; 2] = ["sock_send_length", "sock_recv_length"];
/// Under the socket's lock: exact places where threads write one socket at the same time.
const LOCKED_HOOK: &str = "tcp_sendmsg_locked";
const CALL_HOOKS: [&str; 2] = ["sys_enter", "sys_exit"];

impl Probes {
    /// Loads and attaches.
    ///
    /// # Errors
    /// Says what is missing on this host, and what to do; see [`ProbeError`].
    pub fn load(options: &ProbeOptions) -> Result<Self, ProbeError> {
        let object = OBJECT.ok_or(ProbeError::NoObject)?;
        let kernel = offsets::Kernel::read(&options.sys)?;
        let backend = choose(options.backend, &kernel)?;
        let mut ebpf = load_object(object, options, &kernel)?;
        let log = EbpfLogger::init(&mut ebpf)
            .map_err(|error| ProbeError::Object(format!("its log cannot be read: {error}")))?;
        syscalls::fill(&mut ebpf)?;
        let mut rules = rules::Rules::new(&mut ebpf)?;
        for rule in &options.rules {
            rules.add(rule)?;
        }
        let hooks: &[&str] = if backend == Backend::Sockets { &SOCKET_HOOKS } else { &CALL_HOOKS };
        let locked = backend == Backend::Sockets && options.locked_sends;
        let optional = RESET_HOOKS.into_iter().chain(locked.then_some(LOCKED_HOOK));
        let optional = optional.filter(|hook| kernel.has_tracepoint(hook));
        // Lives first: a socket that is seen before the hook of its end is there would be taken for the next
        // one at its address.
        for hook in LIFE_HOOKS.into_iter().chain(optional).chain(hooks.iter().copied()).chain(PROCESS_HOOKS) {
            attach(&mut ebpf, hook)?;
        }
        let standing = standing::Standing::new(&mut ebpf, &options.proc, options.sockets_max)?;
        standing.list_existing(&mut ebpf)?;
        let data = take(&mut ebpf, "DATA")?;
        let control = take(&mut ebpf, "CONTROL")?;
        let ring_bytes = [options.data_ring_bytes as usize, options.control_ring_bytes as usize];
        Ok(Self { ebpf, log, data, control, ring_bytes, backend, rules, standing })
    }

    /// Passes on what the kernel side logged since the last call.
    pub fn pass_log(&mut self) {
        self.log.flush();
    }

    /// Which back-end observes sockets.
    pub fn backend(&self) -> Backend {
        self.backend
    }

    /// The rings, for the process that reads them.
    pub fn rings(&self) -> Rings<'_> {
        Rings {
            data: RingHandle { fd: self.data.as_fd(), bytes: self.ring_bytes[0] },
            control: RingHandle { fd: self.control.as_fd(), bytes: self.ring_bytes[1] },
        }
    }

    /// Sums since loading, by source and by rule.
    ///
    /// # Errors
    /// When the kernel refuses to read its map.
    pub fn counters(&self) -> Result<Counters, ProbeError> {
        counters::read(&self.ebpf, &self.rules)
    }

    /// Leaves out every connection with this address at one of its ends: both ends of those to our sink.
    ///
    /// # Errors
    /// When the table of rules is full.
    pub fn exclude_endpoint(&mut self, address: std::net::IpAddr, port: u16) -> Result<(), ProbeError> {
        self.rules.add(&Rule { include: false, matches: Match::Endpoint { address, port } })
    }

    /// Sockets without a handshake that are gone since the last time; the kernel side has forgotten them.
    ///
    /// # Errors
    /// When the kernel refuses to read its map.
    pub fn sweep(&mut self) -> Result<Vec<Gone>, ProbeError> {
        self.standing.sweep()
    }

    /// The programs that the kernel has loaded, in the order of their names, each with the tag that the kernel made of its
    /// instructions.
    pub fn programs(&self) -> Vec<(String, u64)> {
        // One that is not loaded has no tag, and does nothing.
        let loaded = self.ebpf.programs().filter_map(|(name, program)| Some((name, program.info().ok()?)));
        let mut programs: Vec<_> = loaded.map(|(name, info)| (name.to_owned(), info.tag())).collect();
        programs.sort_unstable();
        programs
    }

    /// The loaded object, for probes that attach later (TLS libraries).
    pub fn ebpf(&mut self) -> &mut Ebpf {
        &mut self.ebpf
    }
}

fn choose(wanted: Option<Backend>, kernel: &offsets::Kernel) -> Result<Backend, ProbeError> {
    let backend = wanted.unwrap_or_else(|| {
        if SOCKET_HOOKS.iter().all(|hook| kernel.has_tracepoint(hook)) {
            Backend::Sockets
        } else {
            Backend::SystemCalls
        }
    });
    let hooks: &[&str] = if backend == Backend::Sockets { &SOCKET_HOOKS } else { &CALL_HOOKS };
    match hooks.iter().find(|hook| !kernel.has_tracepoint(hook)) {
        Some(hook) => Err(ProbeError::NoTracepoint { hook: (*hook).to_owned() }),
        None => Ok(backend),
    }
}

fn load_object(object: &[u8], options: &ProbeOptions, kernel: &offsets::Kernel) -> Result<Ebpf, ProbeError> {
    let data_wake = u64::from(options.data_ring_bytes / 8);
    let control_wake = u64::from(options.control_ring_bytes / 8);
    let include_only = u32::from(options.rules.iter().any(|rule| rule.include));
    let include_addresses =
        u32::from(options.rules.iter().any(|rule| rule.include && rule.matches.is_address()));
    let canary_port = u32::from(options.canary_port);
    let mut loader = EbpfLoader::new();
    loader
        .map_max_entries("DATA", options.data_ring_bytes)
        .map_max_entries("CONTROL", options.control_ring_bytes)
        .map_max_entries("SOCKETS", options.sockets_max)
        .override_global("DATA_WAKE_BYTES", &data_wake, true)
        .override_global("CONTROL_WAKE_BYTES", &control_wake, true)
        .override_global("CALL_BYTES_MAX", &options.call_bytes_max, true)
        .override_global("INCLUDE_ONLY", &include_only, true)
        .override_global("INCLUDE_ADDRESSES", &include_addresses, true)
        .override_global("CANARY_PORT", &canary_port, true)
        .override_global("ITER_UBUF", &kernel.iter_ubuf, true)
        .override_global("ITER_IOVEC", &kernel.iter_iovec, true)
        .override_global("MEMORY_SUBSYSTEM", &kernel.memory_subsystem, false);
    for (name, offset) in &kernel.offsets {
        // An offset that no program reads is no global of the object.
        loader.override_global(name, offset, false);
    }
    loader.load(object).map_err(ProbeError::from_load)
}

fn attach(ebpf: &mut Ebpf, hook: &str) -> Result<(), ProbeError> {
    let refused = |source: aya::programs::ProgramError| ProbeError::Attach {
        hook: hook.to_owned(),
        source: Box::new(source),
    };
    let program = ebpf.program_mut(hook).ok_or_else(|| ProbeError::Object(format!("no program {hook}")))?;
    let program: &mut RawTracePoint = program.try_into().map_err(refused)?;
    program.load().map_err(refused)?;
    program.attach(hook).map_err(refused)?;
    Ok(())
}

/// Takes a map out of the object, typed.
fn take<T>(ebpf: &mut Ebpf, name: &str) -> Result<T, ProbeError>
where
    T: TryFrom<aya::maps::Map, Error = aya::maps::MapError>,
{
    let map = ebpf.take_map(name).ok_or_else(|| ProbeError::Object(format!("no map {name}")))?;
    T::try_from(map).map_err(|source| ProbeError::Map { map: name.to_owned(), source })
}
