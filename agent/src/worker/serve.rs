//! The worker's loop: drain the rings on a timer, hand records over, take facts. When the agent is slow, the
//! write to the link waits and the rings fill, which is counted loss: nothing here grows without bound.

use std::io::{Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use custody_decoders::mask::Masker;
use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};

use super::ingest::Ingest;
use super::isolate::{self, Account};
use super::stage::Stage;
use crate::clock;
use crate::link::{self, FromWorker, ToWorker};
use crate::ring::Ring;

/// Longest time between two drains: the kernel side wakes its reader only when much is pending, because each
/// wake-up costs the observed program more than the copy.
const DRAIN: Duration = Duration::from_millis(20);
/// Time between two reports.
const REPORT: Duration = Duration::from_secs(1);
/// Frames are written when they reach this many bytes, and after each drain.
const WRITE_BYTES: usize = 64 << 10;
/// Bytes that are read from the link at once.
const READ_BYTES: usize = 64 << 10;

/// What the worker is given.
#[derive(Clone, Copy, Debug)]
pub struct Given {
    /// Its end of the link.
    pub link: RawFd,
    /// The data ring and its size in bytes.
    pub data: (RawFd, usize),
    /// The control ring and its size.
    pub control: (RawFd, usize),
    /// The rings are new: their first event has number 0.
    pub fresh: bool,
    /// Who to become.
    pub account: Account,
}

/// Works until the agent is gone or says finish.
pub fn serve(given: Given) -> Result<()> {
    let data = Ring::new(own(given.data.0), given.data.1).context("mapping the data ring")?;
    let control = Ring::new(own(given.control.0), given.control.1).context("mapping the control ring")?;
    let link = UnixStream::from(own(given.link));
    quiet_panics();
    let sleep = Sleep::new(&link, &data, &control).context("making the place to sleep at")?;
    let keep = [given.link, given.data.0, given.control.0, sleep.epoll.as_raw_fd()];
    isolate::enter(given.account, &keep)?;
    let mut link = Link { stream: link, sleep, bytes: Vec::new(), closed: false };
    let mut hello = Vec::new();
    link::put_up(&mut hello, &FromWorker::Isolated)?;
    link.stream.write_all(&hello).context("writing to the agent")?;
    let Some(mut stage) = set_up(&mut link)? else { return Ok(()) };
    let mut rings = Rings { data, control, ingest: Ingest::new(given.fresh), told_ns: 0 };
    work(&mut link, &mut rings, &mut stage)
}

#[expect(unsafe_code, reason = "file descriptors come as numbers through exec")]
fn own(fd: RawFd) -> OwnedFd {
    // SAFETY: the agent passes three descriptors that nobody else in this new process knows of.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// A panic's message can quote payload: only its place is told.
fn quiet_panics() {
    std::panic::set_hook(Box::new(|info| {
        let place = info.location().map_or_else(|| "unknown".to_owned(), ToString::to_string);
        eprintln!("worker panic at {place}");
    }));
}

/// Where the worker sleeps: until the link has bytes, a ring's kernel side wakes it, or the time is over.
struct Sleep {
    epoll: OwnedFd,
}

impl Sleep {
    fn new(link: &UnixStream, data: &Ring, control: &Ring) -> Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        epoll::add(&epoll, link, LINK, epoll::EventFlags::IN)?;
        for ring in [data, control] {
            // By edge: a ring is ready when it holds one byte, but wakes only when it holds much.
            epoll::add(&epoll, ring, RING, epoll::EventFlags::IN | epoll::EventFlags::ET)?;
        }
        Ok(Sleep { epoll })
    }

    /// Whether the link has bytes, or is closed.
    fn until(&self, timeout: Duration) -> Result<bool> {
        let timeout = Timespec::try_from(timeout).ok();
        let mut events = Vec::with_capacity(3);
        match epoll::wait(&self.epoll, spare_capacity(&mut events), timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {
                Ok(events.iter().any(|event: &epoll::Event| event.data.u64() == LINK.u64()))
            }
            Err(error) => Err(error).context("waiting for the agent and the rings"),
        }
    }
}

const LINK: epoll::EventData = epoll::EventData::new_u64(0);
const RING: epoll::EventData = epoll::EventData::new_u64(1);

struct Link {
    stream: UnixStream,
    sleep: Sleep,
    bytes: Vec<u8>,
    closed: bool,
}

impl Link {
    /// Sleeps at most this long, and takes what the agent sent.
    fn wait(&mut self, timeout: Duration) -> Result<()> {
        if !self.sleep.until(timeout)? {
            return Ok(());
        }
        let start = self.bytes.len();
        self.bytes.resize(start + READ_BYTES, 0);
        let read = self.stream.read(&mut self.bytes[start..]).context("reading from the agent")?;
        self.bytes.truncate(start + read);
        self.closed |= read == 0;
        Ok(())
    }

    fn next(&mut self) -> Result<Option<ToWorker>> {
        let Some((message, length)) = link::take_down(&self.bytes)? else { return Ok(None) };
        self.bytes.drain(..length);
        Ok(Some(message))
    }

    fn flush(&mut self, stage: &mut Stage) -> Result<()> {
        self.stream.write_all(&stage.out).context("writing to the agent")?;
        stage.out.clear();
        Ok(())
    }
}

/// Takes facts until the agent says begin; `None` when it is gone.
fn set_up(link: &mut Link) -> Result<Option<Stage>> {
    let mut stage = None;
    while !link.closed {
        link.wait(REPORT)?;
        while let Some(message) = link.next()? {
            match (message, &mut stage) {
                (
                    ToWorker::Setup { limits, masking, level, sessions_before, canary, leaves_out_unbound },
                    None,
                ) => {
                    let masker = Masker::new(*masking).context("masking rules")?;
                    let mut new = Stage::new(&limits, masker, sessions_before, canary);
                    new.set_leaves_out_unbound(leaves_out_unbound);
                    new.set_level(level);
                    stage = Some(new);
                }
                (ToWorker::Users(users), Some(stage)) => stage.table.set_users(users),
                (ToWorker::Processes(processes), Some(stage)) => {
                    processes.into_iter().for_each(|process| stage.table.add_process(process));
                }
                (ToWorker::Begin, Some(_)) => return Ok(stage),
                _ => bail!("the agent's messages are out of order"),
            }
        }
    }
    Ok(None)
}

fn work(link: &mut Link, rings: &mut Rings, stage: &mut Stage) -> Result<()> {
    let mut report = Instant::now() + REPORT;
    loop {
        link.wait(DRAIN)?;
        if link.closed {
            return Ok(());
        }
        let mut finish = false;
        let mut gone = Vec::new();
        while let Some(message) = link.next()? {
            match message {
                ToWorker::Users(users) => stage.table.set_users(users),
                ToWorker::Trace { port, pid } => stage.set_trace(port, pid),
                ToWorker::Processes(processes) => {
                    processes.into_iter().for_each(|process| stage.table.add_process(process));
                }
                ToWorker::Level(level) => stage.set_level(level),
                ToWorker::Gone(sockets) => gone.extend(sockets),
                ToWorker::Finish => finish = true,
                ToWorker::Setup { .. } | ToWorker::Begin => bail!("the agent's messages are out of order"),
            }
        }
        rings.drain(link, stage)?;
        for socket in gone {
            stage.gone(socket);
        }
        if finish {
            return end(link, rings, stage);
        }
        if Instant::now() >= report {
            report = Instant::now() + REPORT;
            let figures = stage.figures();
            stage.tell(&FromWorker::Figures(figures));
            stage.tell_unread();
        }
        link.flush(stage)?;
    }
}

/// Closings wait for one drain more than their data, so the last ones need two.
fn end(link: &mut Link, rings: &mut Rings, stage: &mut Stage) -> Result<()> {
    for _ in 0..2 {
        rings.drain(link, stage)?;
    }
    stage.finish();
    let figures = stage.figures();
    stage.tell(&FromWorker::Figures(figures));
    stage.tell(&FromWorker::Finished);
    link.flush(stage)
}

struct Rings {
    data: Ring,
    control: Ring,
    ingest: Ingest,
    /// When the drain before began: everything of before then has been read.
    told_ns: u64,
}

impl Rings {
    fn drain(&mut self, link: &mut Link, stage: &mut Stage) -> Result<()> {
        let Rings { data, control, ingest, told_ns } = self;
        let began_ns = clock::boottime_ns();
        let data_end = data.producer_position();
        let control_end = control.producer_position();
        control.drain(control_end, |bytes| ingest.control(bytes))?;
        let mut failed = None;
        data.drain(data_end, |bytes| {
            ingest.data(bytes, &mut |bytes| stage.event(bytes));
            if stage.out.len() >= WRITE_BYTES && failed.is_none() {
                failed = link.flush(stage).err();
            }
        })?;
        if let Some(error) = failed {
            return Err(error);
        }
        let lost = ingest.finish(&mut |bytes| stage.event(bytes));
        stage.figures.malformed += std::mem::take(&mut ingest.malformed);
        stage.tick(lost, *told_ns);
        *told_ns = began_ns;
        Ok(())
    }
}
