//! Who watches while a load runs: nobody, Custody, or another observer, each started and ended the same way.
//!
//! The peers are run at their best: tcpdump with a filter on the port and no file, bpftrace with a filter on the
//! server's name, strace on the server's processes alone. Each is given what its users would give it.

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, bail};
use custody_tests::process::Running;
use rustix::process::Signal;

/// An observer that is not ours.
#[derive(Clone, Copy)]
pub(super) struct Peer {
    /// As it stands in the table.
    pub(super) name: &'static str,
    kind: Kind,
}

#[derive(Clone, Copy)]
enum Kind {
    Tcpdump,
    /// A program in which `PROGRAM` stands for the server's.
    Bpftrace(&'static str),
    Strace,
}

/// Runs `$0`, a program of bpftrace, with tracefs mounted where only it can see it. What it prints goes nowhere.
const BPFTRACE: &str = "mount -t tracefs nodev /sys/kernel/tracing && \
    BPFTRACE_STRLEN=200 exec bpftrace -e \"$0\" > /dev/null";

/// Bytes that the server's calls move, summed in the kernel.
const COUNT: &str = "
    tracepoint:syscalls:sys_exit_recvfrom, tracepoint:syscalls:sys_exit_sendto,
    tracepoint:syscalls:sys_exit_recvmsg, tracepoint:syscalls:sys_exit_sendmsg,
    tracepoint:syscalls:sys_exit_read, tracepoint:syscalls:sys_exit_write, tracepoint:syscalls:sys_exit_writev
    /comm == PROGRAM && args->ret > 0/ { @bytes = sum(args->ret); }";

/// The first 200 bytes of each call, printed.
const PRINT: &str = "
    tracepoint:syscalls:sys_enter_recvfrom /comm == PROGRAM/ { @at[tid] = args->ubuf; }
    tracepoint:syscalls:sys_enter_read /comm == PROGRAM/ { @at[tid] = args->buf; }
    tracepoint:syscalls:sys_exit_recvfrom, tracepoint:syscalls:sys_exit_read /@at[tid]/ {
        if (args->ret > 0) { printf(\"%s\\n\", str(@at[tid], args->ret)); }
        delete(@at[tid]);
    }
    tracepoint:syscalls:sys_enter_sendto /comm == PROGRAM/ { printf(\"%s\\n\", str(args->buff, args->len)); }
    tracepoint:syscalls:sys_enter_write /comm == PROGRAM/ { printf(\"%s\\n\", str(args->buf, args->count)); }
    tracepoint:syscalls:sys_enter_writev /comm == PROGRAM/ { printf(\"%s\\n\", str(args->vec->iov_base)); }";

/// All of them.
pub(super) const PEERS: &[Peer] = &[
    Peer { name: "tcpdump", kind: Kind::Tcpdump },
    Peer { name: "bpftrace-count", kind: Kind::Bpftrace(COUNT) },
    Peer { name: "bpftrace-print", kind: Kind::Bpftrace(PRINT) },
    Peer { name: "strace", kind: Kind::Strace },
];

/// None of them says when it has attached to everything: this long is enough.
const SETTLE: Duration = Duration::from_secs(2);

impl Peer {
    /// Starts it beside a server: its port, program and processes.
    pub(super) fn start(&self, folder: &Path, port: u16, program: &str, pids: &[u32]) -> Result<Running> {
        let words: Vec<String> = match self.kind {
            Kind::Tcpdump => {
                ["tcpdump", "-i", "lo", "-B", "16384", "-w", "/dev/null", "port", &port.to_string()]
                    .map(String::from)
                    .to_vec()
            }
            Kind::Bpftrace(source) => {
                let source = source.replace("PROGRAM", &format!("\"{program}\""));
                ["unshare", "-m", "sh", "-c", BPFTRACE, &source].map(String::from).to_vec()
            }
            Kind::Strace => {
                let calls = "trace=network,read,write,readv,writev";
                let mut words = ["strace", "-f", "-q", "-s", "200", "-e", calls, "-o", "/dev/null"]
                    .map(String::from)
                    .to_vec();
                words.extend(pids.iter().flat_map(|pid| ["-p".to_owned(), pid.to_string()]));
                words
            }
        };
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let log = folder.join(format!("{}.log", self.name));
        let mut running = Running::start(self.name, &words, None, &log, Signal::INT)?;
        std::thread::sleep(SETTLE);
        if !running.alive() {
            bail!("{} does not run here: {}", self.name, running.log());
        }
        Ok(running)
    }
}
