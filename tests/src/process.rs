//! Programs that a test or the demo starts, and ends by pid. None outlives its starter: the kernel sends each
//! its own end signal when the starter dies, however that happens.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::net::sockopt::set_socket_reuseaddr;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, getsockname, socket_with};
use rustix::process::{Pid, Signal, kill_process};

/// Between two looks.
const POLL: Duration = Duration::from_millis(20);
/// How long a program may take to end when nobody waits for it.
const DROP_PATIENCE: Duration = Duration::from_secs(10);

/// A running program with its log.
#[derive(Debug)]
pub struct Running {
    name: String,
    child: Child,
    log: PathBuf,
    end: Signal,
}

/// Set by [`interrupt`]; every wait of this module looks at it.
static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Ends every wait of this module with an error, for good: somebody pressed Ctrl-C.
pub fn interrupt() {
    INTERRUPTED.store(true, Ordering::Relaxed);
}

/// Whether [`interrupt`] was called.
pub fn interrupted() -> bool {
    INTERRUPTED.load(Ordering::Relaxed)
}

impl Running {
    /// Starts `command`, as `user` when given, with its output in `log`; `end` is the signal on which it ends
    /// in order, children included. The program gets its own process group, so that a Ctrl-C at the terminal
    /// is the starter's to handle.
    pub fn start(
        name: &str,
        command: &[&str],
        user: Option<&str>,
        log: &Path,
        end: Signal,
    ) -> Result<Running> {
        let output = File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
        let mut setpriv = Command::new("setpriv");
        let signal = if end == Signal::INT { "INT" } else { "TERM" };
        setpriv.args(["--pdeathsig", signal]);
        if let Some(user) = user {
            setpriv.args(["--reuid", user, "--regid", user, "--init-groups"]);
        }
        let child = setpriv
            .arg("--")
            .args(command)
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        Ok(Running { name: name.to_owned(), child, log: log.to_owned(), end })
    }

    /// Its pid: setpriv replaces itself, so this is the program's own.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it printed so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Whether it still runs.
    pub fn alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Sends a signal, unless it has ended: its pid may be another's by now.
    fn signal(&mut self, signal: Signal) -> Result<()> {
        if !self.alive() {
            return Ok(());
        }
        let pid = Pid::from_raw(self.child.id() as i32).context("pid 0")?;
        Ok(kill_process(pid, signal)?)
    }

    /// Asks it to end and waits; after `patience` it is killed, which is an error.
    pub fn stop(mut self, patience: Duration) -> Result<ExitStatus> {
        if let Some(status) = self.child.try_wait()? {
            return Ok(status);
        }
        self.signal(self.end)?;
        let until = Instant::now() + patience;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            if Instant::now() > until {
                bail!("{} did not end on {:?} within {patience:?}:\n{}", self.name, self.end, self.log());
            }
            std::thread::sleep(POLL);
        }
    }

    /// Ends it as a crash would.
    pub fn kill(mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Ends it as a failed assertion in C would, which leaves a core where cores are allowed.
    pub fn abort(mut self) -> Result<ExitStatus> {
        self.signal(Signal::ABORT)?;
        Ok(self.child.wait()?)
    }

    /// Waits until `ready` says so; fails at once when the program ends before.
    pub fn wait_ready(&mut self, patience: Duration, mut ready: impl FnMut() -> bool) -> Result<()> {
        let end = Instant::now() + patience;
        loop {
            if ready() {
                return Ok(());
            }
            if !self.alive() {
                bail!("{} ended before it was ready:\n{}", self.name, self.log());
            }
            stop_when_interrupted()?;
            if Instant::now() > end {
                bail!("{} was not ready in {patience:?}:\n{}", self.name, self.log());
            }
            std::thread::sleep(POLL);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Nothing to report to: a drop on the way out of a failed test. First in order, because a server that is
        // killed leaves its children behind.
        let end = Instant::now() + DROP_PATIENCE;
        drop(self.signal(self.end));
        while matches!(self.child.try_wait(), Ok(None)) {
            if Instant::now() > end {
                drop(self.child.kill());
                drop(self.child.wait());
                return;
            }
            std::thread::sleep(POLL);
        }
    }
}

/// Tries until there is an answer.
pub fn eventually<T>(
    patience: Duration,
    what: &str,
    mut attempt: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let end = Instant::now() + patience;
    loop {
        if let Some(answer) = attempt()? {
            return Ok(answer);
        }
        stop_when_interrupted()?;
        if Instant::now() > end {
            bail!("{what}: not seen within {patience:?}");
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn stop_when_interrupted() -> Result<()> {
    if interrupted() {
        bail!("interrupted");
    }
    Ok(())
}

/// Runs a program to its end and gives its standard output; its failure is an error with what it said.
pub fn output(command: &mut Command) -> Result<String> {
    let name = format!("{command:?}");
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("cannot start {name}"))?;
    if !output.status.success() {
        bail!(
            "{name} ended with {}:\n{}{}",
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Memory of a process by a line of `/proc/PID/status`, such as `VmRSS` or `VmHWM`, MiB; 0 when it is gone.
pub fn memory_mib(pid: u32, line: &str) -> f64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let value = text.lines().find_map(|found| found.strip_prefix(line)?.strip_prefix(':'));
    let kib = value.and_then(|rest| rest.split_whitespace().next()?.parse::<f64>().ok());
    kib.unwrap_or(0.0) / 1024.0
}

/// Some of the fields behind the name in `/proc/PID/stat` (the first of them is field 3 of proc_pid_stat(5)), summed:
/// of times, in ticks of 10 ms.
pub fn cpu_ticks(pid: u32, range: std::ops::Range<usize>) -> Result<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let fields: Vec<&str> =
        text.rsplit(") ").next().context("stat without a name")?.split_whitespace().collect();
    Ok(fields.get(range).context("short stat")?.iter().filter_map(|n| n.parse::<u64>().ok()).sum())
}

/// A port of the loopback interface that is free now.
pub fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// A port of the loopback interface that nobody else is given while this lives: bound, and never listening. A program
/// that is started again and again on one port needs it; between two runs a free one goes to somebody else.
#[derive(Debug)]
pub struct HeldPort {
    number: u16,
    _socket: OwnedFd,
}

impl HeldPort {
    /// Takes one.
    pub fn take() -> Result<Self> {
        let socket = socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
        // Servers ask for their port the same way: then two may have it of which one listens.
        set_socket_reuseaddr(&socket, true)?;
        bind(&socket, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0))?;
        let number = SocketAddrV4::try_from(getsockname(&socket)?)?.port();
        Ok(HeldPort { number, _socket: socket })
    }

    /// Its number.
    pub fn number(&self) -> u16 {
        self.number
    }
}
