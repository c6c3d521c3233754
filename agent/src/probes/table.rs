//! The probe table: what is hooked, what it needs, and what is lost without it. `doctor` prints it for the
//! running host, with or without privileges.

use super::ProbeError;
use super::offsets::Kernel;
use std::path::Path;

/// What this host says of a hook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// It is there.
    Present,
    /// It is not.
    Missing,
    /// The host does not say, and why.
    Unknown(String),
}

/// One line of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// Name of the raw tracepoint.
    pub hook: &'static str,
    /// Its arguments.
    pub prototype: &'static str,
    /// Oldest kernel known to have it; shown to people, never compared.
    pub least_kernel: &'static str,
    /// What it needs beside permission to load programs.
    pub needs: &'static str,
    /// What is done where it is missing.
    pub fallback: &'static str,
    /// What is lost then.
    pub lost: &'static str,
    /// On this host.
    pub state: State,
}

macro_rules! probes {
    ($($hook:literal, $prototype:literal, $least:literal, $needs:literal, $fallback:literal, $lost:literal;)*) => {
        [$(($hook, $prototype, $least, $needs, $fallback, $lost)),*]
    };
}

const PROBES: [(&str, &str, &str, &str, &str, &str); 12] = probes! {
    "sock_recv_length", "struct sock *sk, int ret, int flags", "6.3", "BTF, bpf_task_pt_regs (5.15)",
        "sys_enter and sys_exit", "nothing, but every system call of the host then costs more";
    "sock_send_length", "struct sock *sk, int ret, int flags", "6.3", "BTF, bpf_task_pt_regs (5.15)",
        "sys_enter and sys_exit", "nothing, but every system call of the host then costs more";
    "tcp_sendmsg_locked", "struct sock *sk, struct msghdr *msg, struct sk_buff *skb, int size_goal", "6.16", "BTF",
        "sock_send_length, which tells a send when it is over",
        "the sure order of what several threads write to one socket at the same time; the payload of io_uring's sends";
    "inet_sock_set_state", "struct sock *sk, int oldstate, int newstate", "4.16", "BTF",
        "none", "who connected and who accepted; connections without data";
    "tcp_destroy_sock", "struct sock *sk", "4.16", "BTF",
        "none", "the end of TCP connections and their final byte counts";
    "tcp_receive_reset", "struct sock *sk", "4.16", "BTF",
        "none", "that the peer broke a connection off";
    "tcp_send_reset", "struct sock *sk, struct sk_buff *skb", "4.16", "BTF",
        "none", "that this host broke a connection off";
    "sched_process_exec", "struct task_struct *p, pid_t old_pid, struct linux_binprm *bprm", "3.4", "BTF",
        "/proc when a process first moves data", "programs that start and end without any traffic";
    "sched_process_fork", "struct task_struct *parent, struct task_struct *child", "3.2", "BTF",
        "/proc when a process first moves data", "parents of short-lived processes";
    "sched_process_exit", "struct task_struct *p", "3.2", "BTF",
        "none", "exit status of processes";
    "sys_enter", "struct pt_regs *regs, long id", "4.17", "BTF, bpf_task_pt_regs (5.15)",
        "not needed where the socket tracepoints are", "sockets on kernels without the socket tracepoints";
    "sys_exit", "struct pt_regs *regs, long ret", "4.17", "BTF, bpf_task_pt_regs (5.15)",
        "not needed where the socket tracepoints are", "sockets on kernels without the socket tracepoints";
};

/// The table, for the host whose `/sys` this is.
pub fn table(sys: &Path) -> Vec<Probe> {
    let kernel = Kernel::read(sys);
    PROBES
        .iter()
        .map(|&(hook, prototype, least_kernel, needs, fallback, lost)| {
            let state = match &kernel {
                Ok(kernel) if kernel.has_tracepoint(hook) => State::Present,
                Ok(_) => State::Missing,
                Err(ProbeError::Btf { .. }) => State::Unknown("not known without the kernel types".into()),
                Err(error) => State::Unknown(error.to_string()),
            };
            Probe { hook, prototype, least_kernel, needs, fallback, lost, state }
        })
        .collect()
}
