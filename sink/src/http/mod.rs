//! One port: routes, who may call them, and limits on what they read.
//!
//! What people read is in [`crate::query`].

mod answer;
mod append;
mod enroll;
mod intake;
mod observe;
pub mod server;

use std::sync::Arc;

use axum::Router;
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::routing::{get, post};
use custody_ledger::wire::RefusalCode;
use tokio::sync::{Semaphore, watch};

use crate::accept::Acceptor;
use crate::authority::Authority;
use crate::identity::{Identity, Role};
use crate::metrics::Metrics;
use crate::store::Store;
use crate::token::Tokens;

pub use answer::Refused;
pub use intake::Intake;

/// What every handler may use.
pub struct Services {
    /// The store; its read functions block, so handlers call them in `spawn_blocking`.
    pub store: Arc<Store>,
    /// Accepts batches.
    pub acceptor: Acceptor,
    /// Issues certificates.
    pub authority: Authority,
    /// Join tokens.
    pub tokens: Tokens,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// Room for the bodies of appends.
    pub appends: Intake,
    /// Room for the bodies of enrolments, apart: strangers must not take the hosts' room.
    pub enrolments: Intake,
    /// Room for those who follow.
    pub readers: Arc<Semaphore>,
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
        .route("/v1/hosts/{id}/head", get(append::head));
    let enrolment = Router::new().route("/v1/enroll", post(enroll::enroll));
    let observation = Router::new()
        .route("/metrics", get(observe::metrics))
        .route("/livez", get(observe::livez))
        .route("/readyz", get(observe::readyz));
    let readers = crate::query::routes();
    Router::new().merge(hosts).merge(enrolment).merge(observation).merge(readers).with_state(services)
}

/// The caller, as the connection's client certificate says. As an extractor it refuses who has none.
#[derive(Clone, Debug)]
pub struct Caller(pub Identity);

impl Caller {
    /// The person's name, if it is a person who may read records.
    pub fn reader(&self) -> Result<&str, Refused> {
        match &self.0 {
            Identity::Person { role: Role::Reader | Role::Auditor | Role::Admin, name } => Ok(name),
            Identity::Host(_) => Err(Refused::new(
                RefusalCode::Forbidden,
                "a host may append to its own chain and ask for its head, nothing else",
            )),
        }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = Refused;
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refused> {
        parts.extensions.get::<Caller>().cloned().ok_or_else(|| {
            Refused::new(RefusalCode::Forbidden, "this needs a client certificate of this sink: enrol first")
        })
    }
}
