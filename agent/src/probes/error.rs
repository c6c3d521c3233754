//! Why the kernel side cannot be loaded, by cause, each with what to do.

/// See the variants.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// The agent was built without the kernel object.
    #[error(
        "this agent was built without its kernel object and can observe nothing: run `cargo xtask build-ebpf`, then build the agent again"
    )]
    NoObject,
    /// The object is not the one that this agent knows.
    #[error(
        "the kernel object does not fit this agent ({0}): run `cargo xtask build-ebpf`, then build the agent again"
    )]
    Object(String),
    /// The kernel does not describe itself.
    #[error(
        "this kernel does not describe its own types, so nothing on this host can be observed: start a kernel that was built with CONFIG_DEBUG_INFO_BTF (Debian's, Ubuntu's and Red Hat's are); {path} cannot be read"
    )]
    Btf {
        /// Where it was looked for.
        path: String,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The description cannot be understood.
    #[error("cannot understand the kernel's own description of its types: {0}")]
    BtfDamaged(String),
    /// A structure is not as expected.
    #[error(
        "this kernel's `struct {owner}` has no member {member}: this version of Custody does not know this kernel, and does not guess"
    )]
    NoMember {
        /// The structure.
        owner: String,
        /// The member.
        member: String,
    },
    /// A tracepoint that the back-end needs is not there.
    #[error(
        "this kernel has no tracepoint {hook}, without which sockets cannot be observed this way; see `custody-agent doctor`"
    )]
    NoTracepoint {
        /// Its name.
        hook: String,
    },
    /// bpf(2) is refused.
    #[error(
        "the kernel refuses bpf(2) ({0}), so nothing on this host can be observed: run as root, or with CAP_BPF, CAP_PERFMON and CAP_SYS_PTRACE; if that is so already, look for a seccomp filter (a container's, a unit's), a security module or the kernel's lockdown that forbids it"
    )]
    Permission(String),
    /// No ring buffers.
    #[error(
        "this kernel has no BPF ring buffers, so nothing on this host can be observed: Linux 5.15 or newer is needed"
    )]
    NoRings,
    /// The object does not load.
    #[error("cannot load the kernel object: {0}")]
    Load(#[source] Box<aya::EbpfError>),
    /// One program does not load or attach.
    #[error("cannot attach {hook}: {}", causes(source.as_ref()))]
    Attach {
        /// The hook.
        hook: String,
        /// What the kernel said.
        #[source]
        source: Box<aya::programs::ProgramError>,
    },
    /// A map cannot be used.
    #[error("cannot use the kernel's map {map}: {source}")]
    Map {
        /// Its name.
        map: String,
        /// What the kernel said.
        #[source]
        source: aya::maps::MapError,
    },
    /// More rules than counters.
    #[error("more than {0} rules")]
    TooManyRules(u32),
}

impl ProbeError {
    pub(super) fn from_load(error: aya::EbpfError) -> Self {
        let text = causes(&error);
        if text.contains("Operation not permitted") || text.contains("EPERM") {
            return Self::Permission(text);
        }
        Self::Load(Box::new(error))
    }
}

/// The chain of causes in one line.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}
