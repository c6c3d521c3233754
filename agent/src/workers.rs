//! The agent's side of the worker: starts it with its three descriptors, tells it facts, hands its records to
//! the chain, and starts the next one when it dies. What the worker says is never believed beyond its frames:
//! it read hostile bytes.

use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, SyncSender};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use custody_decoders::mask::MaskRules;
use custody_decoders::mask::link::WorkerReader;
use custody_ledger::Counters;
use rustix::io::FdFlags;

use crate::attribution::{process, users};
use crate::capture::Seen;
use crate::chain::Input;
use crate::config;
use crate::events;
use crate::link::{self, Figures, FromWorker, ToWorker, Up};
use crate::shared::{Shared, lock};
use crate::worker::isolate::Account;

/// Processes in one message.
const PORTION: usize = 64;
/// Ticks of procfs per second: fixed for user space on Linux.
const TICKS: u64 = 100;
const READ_BYTES: usize = 256 << 10;
const BACKOFF_FIRST: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(5);
/// A worker that lived this long starts the backoff anew.
const HEALTHY: Duration = Duration::from_secs(60);
/// Workers of one start have their own range of session numbers each.
const SESSIONS_PER_WORKER: u64 = 1 << 40;

/// A ring as it is passed on.
pub struct RingFd {
    /// Its map.
    pub fd: OwnedFd,
    /// Its size in bytes.
    pub bytes: usize,
}

/// What a worker is told at its start; a reload changes it for the next one.
#[derive(Clone, Debug)]
pub struct Orders {
    /// Bounds of decoding.
    pub limits: config::Limits,
    /// What is masked.
    pub masking: MaskRules,
}

/// Keeps one worker running.
pub struct Workers {
    /// Who it becomes.
    pub account: Account,
    /// The data ring.
    pub data: RingFd,
    /// The control ring.
    pub control: RingFd,
    /// How the canary's exchange is known.
    pub canary: link::Canary,
    /// Whether plaintext without a connection is left out.
    pub leaves_out_unbound: bool,
    /// What it is told.
    pub orders: Arc<Mutex<Orders>>,
    /// The agent's own program.
    pub program: PathBuf,
    /// Figures.
    pub shared: Arc<Shared>,
    /// Takes the records.
    pub recorder: SyncSender<Input>,
    /// Takes what probes need to know.
    pub capture: Sender<Seen>,
    /// Takes lines of traces.
    pub traces: tokio::sync::broadcast::Sender<String>,
    /// Where orders to the running worker go.
    pub downlink: Arc<Downlink>,
}

/// The way to the running worker, whoever it is.
#[derive(Default)]
pub struct Downlink {
    stream: Mutex<Option<UnixStream>>,
    stopping: AtomicBool,
}

impl Downlink {
    /// Sends an order; false when there is no worker to take it.
    pub fn send(&self, message: &ToWorker) -> bool {
        let mut bytes = Vec::new();
        let mut stream = lock(&self.stream);
        let Some(stream) = stream.as_mut() else { return false };
        link::put_down(&mut bytes, message).is_ok() && stream.write_all(&bytes).is_ok()
    }

    /// The worker reads what is there and ends; no other follows.
    pub fn finish(&self) {
        self.stopping.store(true, Ordering::SeqCst);
        self.send(&ToWorker::Finish);
    }
}

impl Workers {
    /// Runs workers until [`Downlink::finish`].
    pub fn run(self) {
        let mut backoff = BACKOFF_FIRST;
        for number in 0.. {
            let began = Instant::now();
            let told = match self.one(number) {
                Ok(status) => status,
                Err(error) => {
                    events::link_broken(&error);
                    format!("{error:#}")
                }
            };
            *lock(&self.downlink.stream) = None;
            self.shared.status().worker.ended();
            if self.downlink.stopping.load(Ordering::SeqCst) {
                return;
            }
            if began.elapsed() > HEALTHY {
                backoff = BACKOFF_FIRST;
            }
            events::worker_ended(&told, backoff);
            self.shared.status().worker.restarts += 1;
            for input in [Input::NewWorker, Input::Gap("worker_restart", None)] {
                if self.recorder.send(input).is_err() {
                    return;
                }
            }
            std::thread::sleep(backoff);
            backoff = (backoff * 2).min(BACKOFF_MAX);
        }
    }

    /// One worker from start to end; how it ended.
    fn one(&self, number: u64) -> Result<String> {
        let (stream, theirs) = UnixStream::pair().context("making the link")?;
        let mut child = self.spawn(&theirs, number == 0)?;
        drop(theirs);
        events::worker_started(child.id());
        self.shared.status().worker.pid = child.id();
        let result = self.converse(&stream, number);
        // A worker that broke the link's rules must not go on reading the rings.
        let _ = child.kill();
        let status = child.wait().context("waiting for the worker")?;
        result?;
        Ok(match (status.signal(), status.code()) {
            (Some(signal), _) => format!("signal {signal}"),
            (_, Some(code)) => format!("exit code {code}"),
            _ => "unknown".to_owned(),
        })
    }

    fn spawn(&self, link: &UnixStream, fresh: bool) -> Result<Child> {
        // Copies that survive exec; they are closed here as soon as the child has them.
        let inherited = |fd: std::os::fd::BorrowedFd<'_>| -> Result<OwnedFd> {
            let copy = fd.try_clone_to_owned()?;
            rustix::io::fcntl_setfd(&copy, FdFlags::empty())?;
            Ok(copy)
        };
        let link = inherited(link.as_fd())?;
        let data = inherited(self.data.fd.as_fd())?;
        let control = inherited(self.control.fd.as_fd())?;
        let mut command = Command::new(&self.program);
        command.arg("worker").env_clear().current_dir("/");
        for (name, value) in [
            ("--link", i64::from(link.as_raw_fd())),
            ("--data", i64::from(data.as_raw_fd())),
            ("--data-bytes", i64::try_from(self.data.bytes)?),
            ("--control", i64::from(control.as_raw_fd())),
            ("--control-bytes", i64::try_from(self.control.bytes)?),
            ("--uid", i64::from(self.account.uid)),
            ("--gid", i64::from(self.account.gid)),
        ] {
            command.arg(name).arg(value.to_string());
        }
        if fresh {
            command.arg("--fresh");
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::inherit());
        command.spawn().with_context(|| format!("cannot start {}", self.program.display()))
    }

    fn converse(&self, stream: &UnixStream, number: u64) -> Result<()> {
        let right = WorkerReader::at_the_socket();
        let mut reader = Reader { stream: stream.try_clone()?, right, bytes: Vec::new(), taken: 0 };
        match reader.next()? {
            Some(Up::Message(FromWorker::Isolated)) => {}
            Some(_) => bail!("the worker spoke before it gave up its rights"),
            None => return Ok(()),
        }
        self.tell_facts(stream, number)?;
        *lock(&self.downlink.stream) = Some(stream.try_clone()?);
        if self.downlink.stopping.load(Ordering::SeqCst) {
            self.downlink.send(&ToWorker::Finish);
        }
        while let Some(up) = reader.next()? {
            match up {
                Up::Record(body) => {
                    self.recorder.send(Input::Record(body)).context("the recorder ended")?;
                }
                Up::Message(message) => self.message(message)?,
            }
        }
        Ok(())
    }

    /// Everything that was there before; the probes are attached, so what comes later is told by events.
    fn tell_facts(&self, mut stream: &UnixStream, number: u64) -> Result<()> {
        let orders = lock(&self.orders).clone();
        let users = users::read(Path::new("/"));
        let processes = process::read_all(Path::new("/proc"), TICKS, &users);
        let setup = ToWorker::Setup {
            limits: orders.limits,
            masking: Box::new(orders.masking),
            level: self.shared.status().level.in_force,
            sessions_before: number * SESSIONS_PER_WORKER,
            canary: self.canary,
            leaves_out_unbound: self.leaves_out_unbound,
        };
        let portions = processes.chunks(PORTION).map(|portion| ToWorker::Processes(portion.to_vec()));
        for message in [setup, ToWorker::Users(users)].into_iter().chain(portions).chain([ToWorker::Begin]) {
            let mut bytes = Vec::new();
            link::put_down(&mut bytes, &message)?;
            stream.write_all(&bytes).context("telling the worker its facts")?;
        }
        Ok(())
    }

    fn message(&self, message: FromWorker) -> Result<()> {
        match message {
            FromWorker::Isolated => bail!("the worker began twice"),
            FromWorker::CanarySeen => self.shared.status().canary_seen = true,
            FromWorker::Figures(figures) => self.figures(figures),
            // Without its receiver there is nobody who attaches: the agent is ending.
            FromWorker::TlsSeen { pid } => drop(self.capture.send(Seen::Tls(pid))),
            FromWorker::TlsUnread(unread) => drop(self.capture.send(Seen::Unread(unread))),
            FromWorker::Started { pid } => drop(self.capture.send(Seen::Program(pid))),
            // Nobody may be listening.
            FromWorker::Trace(line) => drop(self.traces.send(line)),
            FromWorker::Finished => {}
        }
        Ok(())
    }

    fn figures(&self, figures: Figures) {
        let left_out = {
            let mut status = self.shared.status();
            status.worker.sessions = figures.sessions;
            status.worker.held_bytes = figures.held_bytes;
            status.worker.figures = figures;
            status.worker.records_left_out()
        };
        // In each batch from the first one on that knows of it, for the sink.
        if left_out > 0 {
            let counters = Counters { produced: left_out, skipped: left_out, ..Counters::default() };
            lock(&self.shared.counters).insert("level.records".to_owned(), counters);
        }
    }
}

struct Reader {
    stream: UnixStream,
    /// What it reads has been masked by the worker.
    right: WorkerReader,
    bytes: Vec<u8>,
    taken: usize,
}

impl Reader {
    /// The next frame; `None` when the worker is gone.
    fn next(&mut self) -> Result<Option<Up>> {
        loop {
            if let Some((up, length)) = link::take_up(&self.right, &self.bytes[self.taken..])? {
                self.taken += length;
                return Ok(Some(up));
            }
            self.bytes.drain(..self.taken);
            self.taken = 0;
            let start = self.bytes.len();
            self.bytes.resize(start + READ_BYTES, 0);
            let read = match self.stream.read(&mut self.bytes[start..]) {
                Ok(read) => read,
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => 0,
                Err(error) => return Err(error).context("reading from the worker"),
            };
            self.bytes.truncate(start + read);
            if read == 0 {
                return Ok(None);
            }
        }
    }
}
