//! Takes every right away from the worker before it reads a byte of payload: capabilities, account, files,
//! sockets, dumps. Faces the kernel; must not be called from a process with more than one thread, because
//! most of this belongs to a thread. What holds afterwards is shown by [`inspect`].

use std::collections::BTreeMap;
use std::os::fd::RawFd;

use anyhow::{Context, Result};
use caps::CapSet;
use rustix::process::{DumpableBehavior, Resource, Rlimit, Signal};
use rustix::thread::{Gid, Uid};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
};
use serde::Serialize;

/// Private writable memory of a worker, bytes; beyond it allocations fail and the worker is replaced.
const DATA_BYTES_MAX: u64 = 512 << 20;

/// System calls that move bytes between what is open already, or touch only the process itself.
const ALLOWED: &[libc::c_long] = &[
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_readv,
    libc::SYS_writev,
    libc::SYS_sendto,
    libc::SYS_recvfrom,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_pwait2,
    libc::SYS_close,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_brk,
    libc::SYS_futex,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_nanosleep,
    libc::SYS_getrandom,
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_sched_yield,
    libc::SYS_restart_syscall,
    libc::SYS_rt_sigreturn,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_sigaltstack,
    libc::SYS_exit,
    libc::SYS_exit_group,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_epoll_wait,
];
/// The same, as long as no memory becomes executable; the protection is their third argument.
const ALLOWED_UNLESS_EXECUTABLE: &[libc::c_long] = &[libc::SYS_mmap, libc::SYS_mprotect];

/// The account that the worker changes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Account {
    /// User id, not 0.
    pub uid: u32,
    /// Group id, not 0.
    pub gid: u32,
}

/// Gives everything up but the file descriptors `keep` and the standard three. There is no way back.
pub fn enter(account: Account, keep: &[RawFd]) -> Result<()> {
    anyhow::ensure!(account.uid != 0 && account.gid != 0, "worker_user must not be root");
    close_all_but(keep).context("closing inherited files")?;
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    rustix::process::setrlimit(Resource::Core, none).context("forbidding core dumps")?;
    let data = Rlimit { current: Some(DATA_BYTES_MAX), maximum: Some(DATA_BYTES_MAX) };
    rustix::process::setrlimit(Resource::Data, data).context("bounding memory")?;
    rustix::thread::set_no_new_privs(true).context("setting no_new_privs")?;
    caps::clear(None, CapSet::Bounding).context("emptying the bounding set")?;
    caps::clear(None, CapSet::Ambient).context("emptying the ambient set")?;
    rustix::thread::set_thread_groups(&[]).context("leaving all groups")?;
    let gid = Gid::from_raw(account.gid);
    rustix::thread::set_thread_res_gid(gid, gid, gid).context("changing the group")?;
    let uid = Uid::from_raw(account.uid);
    rustix::thread::set_thread_res_uid(uid, uid, uid).context("changing the user")?;
    caps::clear(None, CapSet::Inheritable).context("dropping capabilities")?;
    caps::clear(None, CapSet::Effective).context("dropping capabilities")?;
    caps::clear(None, CapSet::Permitted).context("dropping capabilities")?;
    // After the change of user, which resets both.
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable).context("forbidding dumps")?;
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL)).context("binding to the agent")?;
    seccompiler::apply_filter(&filter()?).context("installing the system call filter")
}

fn close_all_but(keep: &[RawFd]) -> Result<()> {
    let mut kept: Vec<u32> = keep.iter().map(|&fd| fd.cast_unsigned()).chain(0..3).collect();
    kept.sort_unstable();
    kept.dedup();
    let mut first = 0;
    for fd in kept {
        if fd > first {
            close_range(first, fd - 1)?;
        }
        first = fd + 1;
    }
    close_range(first, u32::MAX)
}

#[expect(unsafe_code, reason = "rustix has no close_range")]
fn close_range(first: u32, last: u32) -> Result<()> {
    // SAFETY: nobody owns a descriptor of this range: the worker has opened nothing yet, and what it was
    // given is outside the range.
    let result = unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
    if result == 0 {
        return Ok(());
    }
    Err(std::io::Error::last_os_error()).context("close_range")
}

fn filter() -> Result<BpfProgram> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> =
        ALLOWED.iter().map(|&number| (number, Vec::new())).collect();
    let not_executable =
        SeccompCondition::new(2, SeccompCmpArgLen::Dword, SeccompCmpOp::MaskedEq(libc::PROT_EXEC as u64), 0)?;
    for &number in ALLOWED_UNLESS_EXECUTABLE {
        rules.insert(number, vec![SeccompRule::new(vec![not_executable.clone()])?]);
    }
    // An error, not a signal: a call of a new libc that nobody foresaw must not blind the host.
    let denied = SeccompAction::Errno(libc::EPERM.cast_unsigned());
    let filter = SeccompFilter::new(rules, denied, SeccompAction::Allow, std::env::consts::ARCH.try_into()?)?;
    Ok(filter.try_into()?)
}

/// What a worker finds when it looks around from inside.
#[derive(Debug, Serialize)]
pub struct Inside {
    /// Its user.
    pub uid: u32,
    /// Opening a file that everybody may read.
    pub open_file: String,
    /// Making a file.
    pub make_file: String,
    /// Making a network socket.
    pub make_socket: String,
    /// Starting a program.
    pub start_program: String,
    /// Executable memory.
    pub executable_memory: String,
    /// Becoming root again.
    pub become_root: String,
    /// Looking into its parent's memory.
    pub trace_parent: String,
    /// bpf(2).
    pub bpf: String,
}

impl Inside {
    /// Whether every door is shut.
    pub fn is_shut(&self) -> bool {
        let doors = [
            &self.open_file,
            &self.make_file,
            &self.make_socket,
            &self.start_program,
            &self.executable_memory,
            &self.become_root,
            &self.trace_parent,
            &self.bpf,
        ];
        self.uid != 0 && doors.iter().all(|door| door.as_str() == "denied")
    }
}

/// Tries every door, for the test and for `doctor`.
pub fn inspect(uid: u32) -> Inside {
    fn told<T, E: std::fmt::Display>(result: Result<T, E>) -> String {
        result.map_or_else(|_| "denied".to_owned(), |_| "open".to_owned())
    }
    let root = Uid::from_raw(0);
    Inside {
        uid,
        open_file: told(std::fs::File::open("/etc/passwd")),
        make_file: told(std::fs::File::create("/tmp/custody-worker-was-here")),
        make_socket: told(std::net::UdpSocket::bind("127.0.0.1:0")),
        start_program: told(std::process::Command::new("/bin/true").status()),
        executable_memory: told(executable_memory()),
        become_root: told(rustix::thread::set_thread_res_uid(root, root, root)),
        trace_parent: told(raw(libc::SYS_ptrace, [libc::PTRACE_ATTACH.into(), 1, 0, 0])),
        bpf: told(raw(libc::SYS_bpf, [0, 0, 0, 0])),
    }
}

fn executable_memory() -> std::io::Result<()> {
    let protection = i64::from(libc::PROT_READ | libc::PROT_EXEC);
    let flags = i64::from(libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    raw(libc::SYS_mmap, [0, 4096, protection, flags])
}

#[expect(unsafe_code, reason = "calls that no safe crate offers, made to show that they are refused")]
fn raw(number: libc::c_long, arguments: [i64; 4]) -> std::io::Result<()> {
    let [a, b, c, d] = arguments;
    // SAFETY: each call is refused by the filter; were it not, a new anonymous mapping, an attach to pid 1
    // and a bpf(2) without attributes touch no memory of this process.
    let result = unsafe { libc::syscall(number, a, b, c, d, -1_i64, 0_i64) };
    if result < 0 { Err(std::io::Error::last_os_error()) } else { Ok(()) }
}
