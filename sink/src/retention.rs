//! Bodies go when they are as old as the policy lets them be, by whole segments, the oldest first. First it is stated what
//! goes, then that is under a checkpoint, and only then it goes ([`crate::store::Store::expire`]). Decides by receive time
//! alone and parses no body.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use custody_ledger::Statement;
use custody_ledger::retention::{Plan, Retention};
use custody_ledger::statement::Stated;

use crate::accept::Acceptor;
use crate::age::Age;
use crate::clock::now_ns;
use crate::metrics::Metrics;
use crate::store::{Store, StoreError, Survey};
use crate::tree::{Tree, TreeError};

mod preview;

pub use preview::preview;

/// Longest time between two looks at what is due, and the shortest.
const LOOK_MAX: Duration = Duration::from_secs(600);
const LOOK_MIN: Duration = Duration::from_millis(100);
/// A segment is sealed when it is older than this part of the age: so much later than it could a body goes.
const SEALED_PARTS: u32 = 8;
/// Of the thread: what it does can wait, receipts cannot.
const NICE: i32 = 10;
/// How long a statement may take to be committed before that is tried again at the next look.
const COMMIT_WAIT: Duration = Duration::from_secs(60);

/// How old a segment may become before it is sealed.
pub fn segment_age_max(age: Age) -> Option<Duration> {
    age.0.map(|age| age / SEALED_PARTS)
}

/// What it needs of the rest.
pub struct Parts {
    /// Where bodies lie.
    pub store: Arc<Store>,
    /// Where statements are committed.
    pub tree: Arc<Tree>,
    /// Who signs them, and counts what hosts have stored.
    pub acceptor: Arc<Acceptor>,
    /// What has gone so far.
    pub metrics: Arc<Metrics>,
    /// The policy.
    pub age: Age,
}

/// Trouble that leaves what is due for the next look.
#[derive(Debug, thiserror::Error)]
enum RetentionError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Tree(#[from] TreeError),
    #[error("a batch of segment {0} is not in the log")]
    NotInLog(u64),
    #[error("what was stated to expire is not committed yet")]
    NotCommitted,
}

/// The thread that looks.
pub struct Keeper {
    stop: Arc<(Mutex<bool>, Condvar)>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Keeper {
    /// Starts it.
    pub fn start(parts: Parts) -> std::io::Result<Self> {
        let stop = Arc::new((Mutex::new(false), Condvar::new()));
        let stopping = Arc::clone(&stop);
        let thread =
            std::thread::Builder::new().name("retention".to_owned()).spawn(move || run(&parts, &stopping))?;
        Ok(Keeper { stop, thread: Mutex::new(Some(thread)) })
    }

    /// Ends it after the segment that it is at.
    pub fn stop(&self) {
        *self.stop.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.stop.1.notify_all();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if thread.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the thread that lets bodies expire has ended early");
        }
    }
}

fn run(parts: &Parts, (stop, told): &(Mutex<bool>, Condvar)) {
    if rustix::process::setpriority_process(None, NICE).is_err() {
        tracing::debug!("the thread that lets bodies expire runs at full priority");
    }
    let look = parts.age.0.map_or(LOOK_MAX, |age| (age / 16).clamp(LOOK_MIN, LOOK_MAX));
    let mut keeper = Looks { parts, next: None };
    loop {
        let stopping = || *stop.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = keeper.look(&stopping) {
            tracing::error!(%error, "bodies that are due do not expire now; it is tried again");
        }
        let stopped = stop.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = told.wait_timeout_while(stopped, look, |stopped| !*stopped);
        if *waited.unwrap_or_else(PoisonError::into_inner).0 {
            return;
        }
    }
}

/// One look after the other.
struct Looks<'p> {
    parts: &'p Parts,
    /// The oldest segment that has bodies, and what lies in it.
    next: Option<(u64, Survey)>,
}

impl Looks<'_> {
    fn look(&mut self, stopping: &dyn Fn() -> bool) -> Result<(), RetentionError> {
        let store = &self.parts.store;
        if self.parts.age.0.is_some() && store.check_ready().is_ok() {
            // Seals what is old enough, also where nothing comes.
            store.barrier()?;
        }
        while !stopping() && self.find_next()? {
            let Some((number, survey)) = &self.next else { break };
            let (number, now_ns) = (*number, now_ns());
            if !store.expiries()?.contains_key(&number) {
                if !is_due(survey, self.parts.age, now_ns) {
                    break;
                }
                self.parts.state(number, now_ns)?;
            }
            // Also what an earlier run has stated, whatever the policy is now.
            self.parts.committed()?;
            for (host, bytes) in store.expire(number)? {
                self.parts.acceptor.freed(host, bytes);
            }
            tracing::info!(segment = number, bodies = survey.bodies.count, "bodies have expired");
            self.next = None;
        }
        self.parts.tell(self.next.as_ref().and_then(|(_, survey)| survey.oldest_ns))
    }

    /// Finds the oldest sealed segment that has bodies; whether there is one.
    fn find_next(&mut self) -> Result<bool, RetentionError> {
        if self.next.is_some() {
            return Ok(true);
        }
        let store = &self.parts.store;
        let done = store.expiries()?;
        let is_done = |number: &u64| done.get(number).is_some_and(|row| row.done);
        for number in store.sealed()?.into_iter().filter(|number| !is_done(number)) {
            let survey = store.survey(number)?;
            if survey.bodies.count > 0 {
                // Until it is due, for months perhaps, nothing is kept that grows with the segment.
                self.next = Some((number, Survey { batches: Vec::new(), ..survey }));
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// Whether all bodies of a segment are old enough.
pub fn is_due(survey: &Survey, age: Age, now_ns: u64) -> bool {
    survey.bodies.count > 0 && due_ns(survey, age).is_some_and(|due_ns| due_ns <= now_ns)
}

/// When all of them are, ns since 1970.
fn due_ns(survey: &Survey, age: Age) -> Option<u64> {
    age.0.map(|age| survey.newest_ns.saturating_add(nanoseconds(age)))
}

fn nanoseconds(age: Duration) -> u64 {
    u64::try_from(age.as_nanos()).unwrap_or(u64::MAX)
}

impl Parts {
    /// States what goes of a segment.
    fn state(&self, number: u64, at_ns: u64) -> Result<(), RetentionError> {
        let survey = self.store.survey(number)?;
        let not_in_log = || RetentionError::NotInLog(number);
        let (at, host, batch, _) = survey.batches.first().ok_or_else(not_in_log)?;
        let index = self.tree.index_of(*host, batch)?.ok_or_else(not_in_log)?;
        let first = index.checked_sub(*at).ok_or_else(not_in_log)?;
        let mut plan = Plan::new(self.age.0.map_or(0, |age| age.as_secs()), number, first);
        let mut batches = survey.batches.iter().peekable();
        for record in 0..survey.records {
            let batch = batches.next_if(|(at, ..)| *at == record);
            plan.record(
                batch.filter(|(.., bodies)| bodies.count > 0).map(|(_, host, _, bodies)| (*host, *bodies)),
            );
        }
        let statement = |what: Retention| Statement { host: None, at_ns, what: Stated::Retention(what) };
        let statements: Vec<Statement> = plan.statements().into_iter().map(statement).collect();
        Ok(self.store.state(self.acceptor.key(), &statements)?)
    }

    /// Waits until all that is durable now is under a published checkpoint.
    fn committed(&self) -> Result<(), RetentionError> {
        let Some(place) = self.store.durable()? else { return Ok(()) };
        let until = Instant::now() + COMMIT_WAIT;
        while self.tree.covered() < place {
            if Instant::now() > until || self.tree.has_failed() {
                return Err(RetentionError::NotCommitted);
            }
            std::thread::sleep(LOOK_MIN);
        }
        Ok(())
    }

    fn tell(&self, oldest_ns: Option<u64>) -> Result<(), RetentionError> {
        let done = self.store.expiries()?;
        let done = done.values().filter(|row| row.done);
        let (bodies, bytes) =
            done.fold((0, 0), |(bodies, bytes), row| (bodies + row.bodies, bytes + row.bytes));
        self.metrics.expired(bodies, bytes, oldest_ns.unwrap_or(0) / 1_000_000_000);
        Ok(())
    }
}
