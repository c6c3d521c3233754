//! One port: routes, who may call them, and limits on what they read.
//!
//! What people read is in [`crate::query`].

mod answer;
mod append;
mod enroll;
mod intake;
mod log;
mod observe;
mod renew;
pub mod server;

use std::sync::Arc;

use axum::Router;
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::routing::{get, post};
use custody_ledger::statement::DenialReason;
use custody_ledger::wire::{self, RefusalCode};
use tokio::sync::{Semaphore, watch};

use crate::accept::Acceptor;
use crate::authority::Authority;
use crate::denied::Denials;
use crate::identity::{Identity, Role, Subject};
use crate::metrics::Metrics;
use crate::revocation::Revocations;
use crate::search::Search;
use crate::store::Store;
use crate::token::Tokens;
use crate::tree::Tree;

pub use answer::Refused;
pub use intake::Intake;

/// What every handler may use.
pub struct Services {
    /// The store; its read functions block, so handlers call them in `spawn_blocking`.
    pub store: Arc<Store>,
    /// The log over it; it blocks as well.
    pub tree: Arc<Tree>,
    /// Accepts batches.
    pub acceptor: Arc<Acceptor>,
    /// Issues certificates.
    pub authority: Authority,
    /// Join tokens.
    pub tokens: Tokens,
    /// Certificates that are no longer believed.
    pub revocations: Revocations,
    /// Attempts that were denied.
    pub denials: Arc<Denials>,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// Room for the bodies of appends.
    pub appends: Intake,
    /// Room for the bodies of enrolments, apart: strangers must not take the hosts' room.
    pub enrolments: Intake,
    /// Room for those who follow.
    pub readers: Arc<Semaphore>,
    /// The index of words.
    pub search: Search,
    /// Room for those who search.
    pub searches: Arc<Semaphore>,
    /// Changes when the sink is told to stop: who follows would not end by itself.
    pub stopping: watch::Receiver<bool>,
    /// Most hosts that may be enrolled.
    pub hosts_max: usize,
}

/// Shared by all handlers.
pub type State = Arc<Services>;

/// All routes.
pub fn router(services: State) -> Router {
    let hosts = Router::new()
        .route("/v1/hosts/{id}/batches", post(append::append))
        .route("/v1/hosts/{id}/head", get(append::head))
        .route("/v1/hosts/{id}/committed", get(log::committed))
        .route("/v1/hosts/{id}/certificate", post(renew::renew));
    let log = Router::new()
        .route("/v1/log/key", get(log::key))
        .route("/v1/log/checkpoint", get(log::checkpoint))
        .route(wire::CANDIDATE_PATH, get(log::candidate))
        .route(wire::WITNESSED_PATH, get(log::witnessed))
        .route(wire::COSIGNATURES_PATH, post(log::cosignatures))
        .route("/v1/log/tile/{*path}", get(log::tile));
    let enrolment = Router::new().route("/v1/enroll", post(enroll::enroll));
    let observation = Router::new()
        .route("/metrics", get(observe::metrics))
        .route("/livez", get(observe::livez))
        .route("/readyz", get(observe::readyz));
    let readers = crate::query::routes();
    Router::new()
        .merge(hosts)
        .merge(log)
        .merge(enrolment)
        .merge(observation)
        .merge(readers)
        .with_state(services)
}

/// Who is on the other end of a connection.
#[derive(Clone, Debug)]
pub enum Peer {
    /// Without a client certificate.
    Nobody,
    /// With a certificate of this sink's authority that names nobody who is known here; what it names instead, escaped.
    Unreadable(String),
    /// Somebody.
    Caller(Caller),
}

impl Peer {
    /// What the certificate says.
    fn name(&self) -> Option<String> {
        match self {
            Peer::Nobody => None,
            Peer::Unreadable(name) => Some(name.clone()),
            Peer::Caller(caller) => Some(caller.subject.to_string()),
        }
    }
}

/// The caller, as the connection's client certificate says. As an extractor it refuses who has none.
#[derive(Clone, Debug)]
pub struct Caller {
    /// Who it is.
    pub subject: Subject,
    /// When the certificate was issued, seconds since 1970.
    pub issued_s: i64,
}

impl Caller {
    /// Refuses who is no longer believed. What is said of a caller is evidence: where nobody can say whether this one is
    /// revoked, it is told to come again, and nothing is stated of it.
    fn demand_unrevoked(&self, services: &Services) -> Result<(), Refused> {
        if !services.is_revoked(self)? {
            return Ok(());
        }
        services.metrics.revoked();
        tracing::warn!(identity = %self.subject.identity, "a revoked certificate was used");
        let detail = "this certificate is revoked: ask for a new join token";
        Err(Refused::denied(DenialReason::Revoked, detail))
    }

    /// Role and name of a person. What of the store that one may see is decided by [`crate::query`].
    pub fn person(&self) -> Result<(Role, &str), Refused> {
        match &self.subject.identity {
            Identity::Person { role, name } => Ok((*role, name)),
            Identity::Host(_) => Err(Refused::denied(
                DenialReason::Role,
                "a host may append to its own chain and ask for its head, nothing else",
            )),
        }
    }

    /// The name of a person who may see the whole store, evidence and log included.
    pub fn auditor(&self) -> Result<&str, Refused> {
        match self.person()? {
            (Role::Auditor | Role::Admin, name) => Ok(name),
            (Role::Reader, _) => Err(Refused::denied(
                DenialReason::Role,
                "this is of all hosts, and for auditors: ask for a token of that role",
            )),
        }
    }
}

impl FromRequestParts<State> for Caller {
    type Rejection = Refused;
    async fn from_request_parts(parts: &mut Parts, services: &State) -> Result<Self, Refused> {
        let caller = match parts.extensions.get::<Peer>() {
            Some(Peer::Caller(caller)) => caller,
            Some(Peer::Unreadable(_)) => {
                let detail = "this certificate names no role that is known here: ask for a new join token";
                return Err(Refused::denied(DenialReason::Identity, detail));
            }
            Some(Peer::Nobody) | None => {
                let detail = "this needs a client certificate of this sink: enrol first";
                return Err(Refused::denied(DenialReason::NoCertificate, detail));
            }
        };
        caller.demand_unrevoked(services)?;
        Ok(caller.clone())
    }
}

impl Services {
    /// Whether store or log has failed: the process must restart through recovery.
    pub fn has_failed(&self) -> bool {
        self.store.has_failed() || self.tree.has_failed()
    }

    /// Whether the disk does not answer.
    pub fn hangs(&self) -> bool {
        self.store.hangs() || self.tree.busy_for().is_some_and(|busy| busy > self.store.commit_max())
    }

    /// Whether this caller is no longer believed; refused where nobody can say. Asked before a request begins, and again
    /// by what lasts.
    pub fn is_revoked(&self, caller: &Caller) -> Result<bool, Refused> {
        self.revocations.is_revoked(&caller.subject.identity, caller.issued_s).map_err(|error| {
            tracing::error!(%error, "a revocation cannot be read: nobody of this identity is let in");
            Refused::new(
                RefusalCode::Unavailable,
                "the sink cannot read its revocations now; its log says why",
            )
        })
    }
}
