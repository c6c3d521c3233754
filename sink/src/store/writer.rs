//! The one writer: gathers jobs of all hosts for a moment, commits them with one fsync, answers, and tells the
//! subscribers. After any failure it stops: what is on the disk is then only known through recovery.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use custody_ledger::segment::{RecordKind, put_record};
use custody_ledger::statement::{Signed, Stated};
use custody_ledger::verify::{Finding, Step};
use custody_ledger::{Enrolment, EntryType, HostId, Position, Seq, SignedReceipt, SinkKey, Statement, codec};
use tokio::sync::broadcast;

use super::files::{OpenSegment, Segments};
use super::index::{BatchRow, Change, ExpiryRow, Index, Place};
use super::pulse::Pulse;
use super::{Pending, StoreError, StoredBatch};

/// Bounds of the store.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// How long a commit gathers jobs.
    pub group_commit: Duration,
    /// How many bytes end the gathering.
    pub group_bytes_max: usize,
    /// A segment is sealed when it is longer.
    pub segment_bytes_max: u64,
    /// A segment is sealed when it is older, where bodies expire: they go by whole segments.
    pub segment_age_max: Option<Duration>,
    /// Jobs that may wait.
    pub queue_jobs_max: usize,
    /// Batches that a subscriber may be behind before it misses some.
    pub subscriber_batches_max: usize,
    /// Free space below which nothing new is accepted, bytes.
    pub disk_reserve_bytes: u64,
    /// A commit that takes longer hangs.
    pub commit_max: Duration,
}

/// Records to be stored together, already encoded.
#[derive(Default)]
pub struct Job {
    bytes: Vec<u8>,
    /// Changes of the index, their places relative to `bytes`.
    changes: Vec<Change>,
    stored: Vec<StoredBatch>,
}

impl Job {
    /// Whether there is nothing to store.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    fn put(&mut self, kind: RecordKind, meta: &[u8], payload: &[u8]) -> Result<Place, StoreError> {
        let offset = self.bytes.len() as u64;
        put_record(&mut self.bytes, kind, meta, payload)?;
        Ok(Place { segment: 0, offset })
    }

    /// Adds a batch that [`custody_ledger::verify::follow`] accepted, with the receipt that will be given.
    pub fn batch(
        &mut self,
        host: HostId,
        step: Step<'_>,
        frame: &[u8],
        receipt: &SignedReceipt,
        received_ns: u64,
    ) -> Result<(), StoreError> {
        let place = self.put(RecordKind::Batch, &codec::encode("receipt", receipt)?, frame)?;
        let batch = step.head.batch;
        self.changes.push(batch_change(host, step, frame, received_ns, place));
        self.stored.push(StoredBatch { host, batch, received_ns, frame: frame.to_vec(), expired: false });
        Ok(())
    }

    /// Adds an enrolment and its signed form.
    pub fn enrol(&mut self, enrolment: Enrolment, payload: &[u8]) -> Result<(), StoreError> {
        self.put(RecordKind::Enrolment, &[], payload)?;
        self.changes.push(Change::Enrolment(enrolment));
        Ok(())
    }

    /// Signs a statement and adds it.
    pub fn statement(&mut self, key: &SinkKey, statement: &Statement) -> Result<(), StoreError> {
        let payload = Signed::seal(key, statement)?;
        let place = self.put(RecordKind::Statement, &[], &payload)?;
        self.changes.push(statement_change(statement, place));
        Ok(())
    }
}

/// What a stored statement changes in the index.
pub(super) fn statement_change(statement: &Statement, place: Place) -> Change {
    let noted = match &statement.what {
        // The batch itself shows it, and is counted by that.
        Stated::Found { finding, .. } if !matches!(finding, Finding::OtherLog { .. }) => None,
        Stated::Denied(denied) => Some(denied.count),
        // Everyday life.
        Stated::Renewed { .. } => None,
        _ => Some(1),
    };
    let noted = noted.map(|count| (statement.what.code(), count));
    let revoked = match &statement.what {
        Stated::Revoked { identity, until_s, .. } => Some((identity.clone(), Some(*until_s))),
        Stated::Reinstated { identity } => Some((identity.clone(), None)),
        _ => None,
    };
    let expires = match &statement.what {
        Stated::Retention(retention) => {
            let row = ExpiryRow { bodies: retention.bodies(), bytes: retention.bytes(), done: false };
            Some((retention.segment, row))
        }
        _ => None,
    };
    Change::Statement { host: statement.host, place, at_ns: statement.at_ns, noted, revoked, expires }
}

/// The code of a step of the level ladder.
const LEVEL_STEP: &str = "level_step";

/// What a stored batch changes in the index; the same for a new batch and for one found at recovery.
pub(super) fn batch_change(
    host: HostId,
    step: Step<'_>,
    frame: &[u8],
    received_ns: u64,
    place: Place,
) -> Change {
    let first_seq = step.batch.header.first_seq;
    let batch: Position = step.head.batch;
    let opens: Vec<Seq> = step
        .batch
        .entries
        .iter()
        .filter(|entry| entry.header.entry_type == EntryType::SessionOpen)
        .map(|entry| entry.header.seq)
        .collect();
    let steps = step.batch.entries.iter().filter(|entry| entry.header.entry_type == EntryType::Level);
    let noted = step.findings.iter().map(Finding::code).chain(steps.map(|_| LEVEL_STEP)).collect();
    let bytes = frame.len() as u64;
    let row = BatchRow { batch, first_seq, count: step.batch.header.count, received_ns, place, bytes };
    Change::Batch { host, row, bytes, head: Box::new(step.head), opens, noted }
}

type Waiting = (Job, SyncSender<Result<(), StoreError>>);

/// Handle to the writer's thread.
pub(super) struct Writer {
    queue: Mutex<Option<SyncSender<Waiting>>>,
    thread: Mutex<Option<JoinHandle<Result<(), StoreError>>>>,
    segments: Arc<Segments>,
    disk_reserve_bytes: u64,
}

impl Writer {
    pub(super) fn start(
        segments: Arc<Segments>,
        index: Arc<Index>,
        next_segment: u64,
        limits: Limits,
        stored: broadcast::Sender<Arc<StoredBatch>>,
        failed: Arc<AtomicBool>,
        pulse: Arc<Pulse>,
    ) -> Result<Self, StoreError> {
        let open = OpenSegment::create(&segments, next_segment)?;
        let (queue, jobs) = sync_channel(limits.queue_jobs_max);
        let mut state = State {
            segments: Arc::clone(&segments),
            index,
            open,
            limits,
            stored,
            failed: Arc::clone(&failed),
            pulse,
        };
        let thread = std::thread::Builder::new()
            .name("store".to_owned())
            .spawn(move || {
                let result = state.run(&jobs);
                if result.is_err() {
                    failed.store(true, Ordering::Release);
                }
                result.and_then(|()| state.open.seal())
            })
            .map_err(|source| StoreError::File {
                action: "start",
                path: "the store's thread".to_owned(),
                source,
            })?;
        Ok(Writer {
            queue: Mutex::new(Some(queue)),
            thread: Mutex::new(Some(thread)),
            segments,
            disk_reserve_bytes: limits.disk_reserve_bytes,
        })
    }

    pub(super) fn submit(&self, job: Job) -> Result<Pending, StoreError> {
        let (answer, answered) = sync_channel(1);
        let queue = self.queue.lock().map_err(|_| StoreError::Closed)?.clone().ok_or(StoreError::Closed)?;
        queue.send((job, answer)).map_err(|_| StoreError::Closed)?;
        Ok(Pending(answered))
    }

    /// Whether the disk has more than its reserve.
    pub(super) fn has_room(&self) -> bool {
        // A disk that cannot be asked shows its trouble at the next write.
        rustix::fs::statvfs(self.segments.folder())
            .map_or(true, |disk| disk.f_bavail.saturating_mul(disk.f_frsize) > self.disk_reserve_bytes)
    }

    pub(super) fn close(&self) -> Result<(), StoreError> {
        drop(self.queue.lock().map_err(|_| StoreError::Closed)?.take());
        let thread = self.thread.lock().map_err(|_| StoreError::Closed)?.take();
        thread.map_or(Ok(()), |thread| thread.join().unwrap_or(Err(StoreError::Closed)))
    }
}

struct State {
    segments: Arc<Segments>,
    index: Arc<Index>,
    open: OpenSegment,
    limits: Limits,
    stored: broadcast::Sender<Arc<StoredBatch>>,
    failed: Arc<AtomicBool>,
    pulse: Arc<Pulse>,
}

impl State {
    fn run(&mut self, jobs: &Receiver<Waiting>) -> Result<(), StoreError> {
        while let Ok(first) = jobs.recv() {
            let group = self.gather(first, jobs);
            let (jobs, answers): (Vec<Job>, Vec<_>) = group.into_iter().unzip();
            self.pulse.begin();
            let result = self.commit(&jobs);
            self.pulse.end();
            if result.is_err() {
                self.failed.store(true, Ordering::Release);
            }
            for answer in answers {
                // Who asked may have gone; what is stored stays stored.
                let _ = answer.send(if result.is_ok() { Ok(()) } else { Err(StoreError::Closed) });
            }
            result?;
            for batch in jobs.into_iter().flat_map(|job| job.stored) {
                // Nobody subscribed is no error.
                let _ = self.stored.send(Arc::new(batch));
            }
        }
        Ok(())
    }

    fn gather(&self, first: Waiting, jobs: &Receiver<Waiting>) -> Vec<Waiting> {
        let until = Instant::now() + self.limits.group_commit;
        let mut bytes = first.0.bytes.len();
        let mut group = vec![first];
        while bytes < self.limits.group_bytes_max {
            match jobs.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(job) => {
                    bytes += job.0.bytes.len();
                    group.push(job);
                }
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => break,
            }
        }
        group
    }

    /// Whether the open segment holds something for so long that it must be sealed.
    fn is_old(&self) -> bool {
        let old = self.limits.segment_age_max.is_some_and(|most| self.open.age() > most);
        old && !self.open.is_empty()
    }

    fn commit(&mut self, jobs: &[Job]) -> Result<(), StoreError> {
        if self.open.length > self.limits.segment_bytes_max || self.is_old() {
            let next = OpenSegment::create(&self.segments, self.open.number + 1)?;
            std::mem::replace(&mut self.open, next).seal()?;
        }
        let mut bytes = Vec::with_capacity(jobs.iter().map(|job| job.bytes.len()).sum());
        let mut changes = Vec::new();
        for job in jobs {
            let base = Place { segment: self.open.number, offset: self.open.length + bytes.len() as u64 };
            changes.extend(job.changes.iter().map(|change| placed(change, base)));
            bytes.extend_from_slice(&job.bytes);
        }
        if bytes.is_empty() {
            return Ok(()); // Somebody only waited for those before.
        }
        self.open.append(&bytes)?;
        self.index.apply(&changes, Place { segment: self.open.number, offset: self.open.length })
    }
}

fn placed(change: &Change, base: Place) -> Change {
    let at = |place: Place| Place { segment: base.segment, offset: base.offset + place.offset };
    match change.clone() {
        Change::Batch { host, mut row, bytes, head, opens, noted } => {
            row.place = at(row.place);
            Change::Batch { host, row, bytes, head, opens, noted }
        }
        Change::Statement { host, place, at_ns, noted, revoked, expires } => {
            Change::Statement { host, place: at(place), at_ns, noted, revoked, expires }
        }
        enrolment @ Change::Enrolment(_) => enrolment,
    }
}
