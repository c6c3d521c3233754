//! Acceptance: exactly the next batch of the chain of the host that the certificate names. The same batch again
//! gets the same receipt again; another one for a taken place is an equivocation, kept and reported.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use axum::body::Bytes;
use custody_ledger::statement::{DenialReason, Stated};
use custody_ledger::tlog::CheckpointReference;
use custody_ledger::verify::Head;
use custody_ledger::wire::{AppendResponse, HeadResponse, RefusalCode, RenewRequest};
use custody_ledger::{Enrolment, HostId, PublicKey, Seq, SinkKey, keys, line};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::clock::now_ns;
use crate::config::QuotaSection;
use crate::http::Refused;
use crate::identity::Identity;
use crate::metrics::Metrics;
use crate::quota::{Meter, Over};
use crate::revocation::statements;
use crate::store::{HostRow, Job, Store, StoreError};
use crate::tree::Tree;

mod append;

use append::Append;

/// Statements about one host's refused batches that are kept per run of the sink; more are only counted. A
/// hostile host must not fill the disk with its own lies.
const STATEMENTS_PER_HOST_MAX: u32 = 32;
/// Other batches with the host's own signature are kept apart from those: whatever else there is to say of a host, that it
/// signed twice is not left out.
const EQUIVOCATIONS_PER_HOST_MAX: u32 = 32;

/// Appends of one host that are read or stored at once: nobody takes the room of all others.
const APPENDS_PER_HOST_MAX: usize = 2;

/// Least time between two certificates of one host: each is a statement, and none may fill the disk with them.
const RENEWAL_INTERVAL: Duration = Duration::from_secs(600);

/// One host.
struct Host {
    chain: Mutex<HostChain>,
    appends: Arc<Semaphore>,
}

/// One host's chain as accepted, which may be a commit ahead of what is durable.
struct HostChain {
    key: PublicKey,
    head: Option<Head>,
    /// The checkpoint that its batches echo, once it was compared with the log.
    echoed: Option<CheckpointReference>,
    statements_left: u32,
    equivocations_left: u32,
    meter: Meter,
    /// Its revocation is stated: no batch of it may follow that statement.
    revoked: bool,
    /// When it asked for another certificate last.
    renewed: Option<Instant>,
}

/// Accepts batches into the store.
pub struct Acceptor {
    store: Arc<Store>,
    tree: Arc<Tree>,
    key: Arc<SinkKey>,
    metrics: Arc<Metrics>,
    quota: QuotaSection,
    /// The steady clock of [`Meter`].
    started: Instant,
    hosts: Arc<RwLock<HashMap<HostId, Arc<Host>>>>,
    /// Hosts that are being enrolled.
    enrolling: Arc<AtomicUsize>,
}

/// A place among the hosts, for one that is being enrolled.
pub struct Reservation(Arc<AtomicUsize>);

impl Drop for Reservation {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Acceptor {
    /// Takes up where the store stands.
    pub fn new(
        store: Arc<Store>,
        tree: Arc<Tree>,
        key: Arc<SinkKey>,
        metrics: Arc<Metrics>,
        quota: QuotaSection,
    ) -> Result<Self, StoreError> {
        let revoked = store.revoked()?;
        let host = |row: HostRow| {
            let meter = Meter::of(&row);
            let revoked = revoked.contains_key(&Identity::Host(row.enrolment.host).to_string());
            (row.enrolment.host, host(row.enrolment.key, row.head, meter, revoked))
        };
        let hosts = Arc::new(RwLock::new(store.hosts()?.into_iter().map(host).collect()));
        let started = Instant::now();
        Ok(Acceptor { store, tree, key, metrics, quota, started, hosts, enrolling: Arc::default() })
    }

    /// The key that signs receipts and statements.
    pub fn key(&self) -> &SinkKey {
        &self.key
    }

    /// Takes batches of a host that was just enrolled durably.
    pub fn add(&self, enrolment: Enrolment) {
        let mut hosts = self.hosts.write().unwrap_or_else(PoisonError::into_inner);
        hosts.insert(enrolment.host, host(enrolment.key, None, Meter::default(), false));
    }

    /// States that an identity was revoked, or is not any more. What a host sent before that and was read already comes
    /// before the statement in the store, or is refused. Blocks.
    pub fn state_revocation(&self, identity: &Identity, what: Stated) -> Result<(), StoreError> {
        let revoked = matches!(what, Stated::Revoked { .. });
        tracing::warn!(%identity, revoked, "a revocation is stated");
        let statement = statements::statement(identity, what);
        let Some(host) = statement.host.and_then(|host| self.host(host)) else {
            return self.store.state(&self.key, &[statement]);
        };
        let mut job = Job::default();
        job.statement(&self.key, &statement)?;
        let pending = {
            let mut chain = host.chain.lock().unwrap_or_else(PoisonError::into_inner);
            chain.revoked = revoked;
            self.store.submit(job)?
        };
        pending.wait()
    }

    /// So many bytes of a host are no longer in the store.
    pub fn freed(&self, id: HostId, bytes: u64) {
        if let Some(host) = self.host(id) {
            host.chain.lock().unwrap_or_else(PoisonError::into_inner).meter.freed(bytes);
        }
    }

    /// Keeps a place for one more host, if there may be one.
    pub fn reserve(&self, hosts_max: usize) -> Option<Reservation> {
        // Held, so that none is counted neither here nor there.
        let hosts = self.hosts.read().unwrap_or_else(PoisonError::into_inner);
        let room = |enrolling: usize| (hosts.len() + enrolling < hosts_max).then_some(enrolling + 1);
        let reserved = self.enrolling.fetch_update(Ordering::Relaxed, Ordering::Relaxed, room).is_ok();
        reserved.then(|| Reservation(Arc::clone(&self.enrolling)))
    }

    /// How many hosts are enrolled.
    pub fn hosts(&self) -> usize {
        self.hosts.read().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Appends the frames of a request's body. Batches before a refused one are accepted.
    pub async fn append(&self, turn: Turn, body: Bytes) -> AppendResponse {
        let Turn { id: host, host: of, .. } = &turn;
        let (host, of) = (*host, Arc::clone(of));
        let clock = Clock { quota: self.quota, started: self.started };
        let (store, tree) = (Arc::clone(&self.store), Arc::clone(&self.tree));
        let (key, metrics) = (Arc::clone(&self.key), Arc::clone(&self.metrics));
        let appended = tokio::task::spawn_blocking(move || {
            let job = Job::default();
            let append =
                Append { store: &store, tree: &tree, key: &key, metrics: &metrics, host, clock, job };
            append.run(&of.chain, &body)
        });
        appended.await.unwrap_or_else(|error| AppendResponse {
            receipts: Vec::new(),
            refusal: Some(*Refused::internal(&error).refusal),
        })
    }

    /// Whether a host may have another certificate: who asks has the newest key of its chain, and did not just ask.
    pub fn admit_renewal(&self, id: HostId, request: &RenewRequest) -> Result<(), Refused> {
        let host = self.host(id).ok_or_else(|| unknown_host(id))?;
        let mut chain = host.chain.lock().unwrap_or_else(PoisonError::into_inner);
        let held = chain.head.as_ref().and_then(|head| head.host_key).unwrap_or(chain.key);
        let newest = line::follow(id, &chain.key, &held, &request.line)
            .map_err(|error| Refused::denied(DenialReason::ChainKey, error.to_string()))?;
        if !keys::is_renewal_proof(&newest, id, &request.certificate_request, &request.proof) {
            let detail = "this is not signed by the newest key of the host's chain";
            return Err(Refused::denied(DenialReason::ChainKey, detail));
        }
        let since = chain.renewed.map_or(RENEWAL_INTERVAL, |renewed| renewed.elapsed());
        if let Some(wait) = RENEWAL_INTERVAL.checked_sub(since).filter(|wait| !wait.is_zero()) {
            let detail = "this host got another certificate a moment ago";
            let mut refused = Refused::new(RefusalCode::Busy, detail);
            refused.refusal.retry_after_ms = Some(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX));
            return Err(refused);
        }
        chain.renewed = Some(Instant::now());
        Ok(())
    }

    /// Where the host's chain stands durably.
    pub async fn head(&self, host: HostId) -> Result<HeadResponse, Refused> {
        let store = Arc::clone(&self.store);
        let row = tokio::task::spawn_blocking(move || store.host(host));
        let row = row.await.map_err(|error| Refused::internal(&error))?;
        match row.map_err(|error| Refused::internal(&error))? {
            Some(row) => Ok(head_response(host, row.head.as_ref())),
            None => Err(unknown_host(host)),
        }
    }

    /// Whether a host may append now, asked before its request is read: not while it is over a quota that it was refused
    /// for, nor while as many of its requests are at work as may be.
    pub fn turn(&self, id: HostId) -> Result<Turn, Refused> {
        let host = self.host(id).ok_or_else(|| unknown_host(id))?;
        // While a request of it is at work, that one decides.
        if let Ok(chain) = host.chain.try_lock() {
            let clock = Clock { quota: self.quota, started: self.started };
            if let Some(over) = chain.meter.is_unread(&self.quota, now_ns(), clock.steady_ns()) {
                return Err(over_quota(&over));
            }
        }
        let Ok(room) = Arc::clone(&host.appends).try_acquire_owned() else {
            let detail = "as many requests of this host are read as may be at once: try again later";
            return Err(Refused::new(RefusalCode::Busy, detail));
        };
        Ok(Turn { id, host, _room: room })
    }

    /// The quota that a host is over, in words.
    pub fn over_quota(&self, id: HostId) -> Option<String> {
        let host = self.host(id)?;
        let chain = host.chain.lock().unwrap_or_else(PoisonError::into_inner);
        let clock = Clock { quota: self.quota, started: self.started };
        chain.meter.still_over(&self.quota, now_ns(), clock.steady_ns()).map(|over| over.sentence())
    }

    fn host(&self, id: HostId) -> Option<Arc<Host>> {
        self.hosts.read().unwrap_or_else(PoisonError::into_inner).get(&id).cloned()
    }
}

/// The right to one append.
pub struct Turn {
    id: HostId,
    host: Arc<Host>,
    _room: OwnedSemaphorePermit,
}

/// What quotas are measured with.
#[derive(Clone, Copy)]
struct Clock {
    quota: QuotaSection,
    started: Instant,
}

impl Clock {
    fn steady_ns(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

fn host(key: PublicKey, head: Option<Head>, meter: Meter, revoked: bool) -> Arc<Host> {
    let (statements_left, equivocations_left) = (STATEMENTS_PER_HOST_MAX, EQUIVOCATIONS_PER_HOST_MAX);
    Arc::new(Host {
        chain: Mutex::new(HostChain {
            key,
            head,
            echoed: None,
            statements_left,
            equivocations_left,
            meter,
            revoked,
            renewed: None,
        }),
        appends: Arc::new(Semaphore::new(APPENDS_PER_HOST_MAX)),
    })
}

fn over_quota(over: &Over) -> Refused {
    let mut refused = Refused::new(RefusalCode::OverQuota, over.sentence());
    refused.refusal.retry_after_ms = Some(u64::try_from(over.retry_after.as_millis()).unwrap_or(u64::MAX));
    refused
}

fn unknown_host(host: HostId) -> Refused {
    let detail = format!("host {host} is not enrolled at this sink: enrol it again");
    Refused::denied(DenialReason::NotEnrolled, detail)
}

fn head_response(host: HostId, head: Option<&Head>) -> HeadResponse {
    HeadResponse {
        host,
        head: head.map(|head| head.batch),
        next_seq: head.map_or(Seq(0), |head| head.next_seq),
    }
}
