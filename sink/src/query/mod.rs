//! What people may read: hosts, the tail, sessions, single entries. JSON out, certificates of persons in.
//!
//! Everything here reads what is stored and nothing else: a reader, however slow, holds a thread of its own and
//! never the writer, and what it misses is told to it. Each request is logged by who made it. Which hosts somebody sees is
//! decided in one place, [`sight`].

mod entries;
mod evidence;
mod export;
mod hosts;
pub(crate) mod parameters;
mod past;
mod pieces;
pub(crate) mod search;
mod sessions;
mod sight;
mod stats;
mod tail;
mod timeline;
mod views;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderValue, Response, header};
use axum::routing::get;
use custody_ledger::wire::RefusalCode;
use serde::Serialize;

use crate::http::{Refused, State};
use crate::store::StoreError;

pub(crate) use views::Viewer;

/// Stored entries that one request looks at; what lies beyond is told as missing.
const LOOK_MAX: u64 = 2_000_000;

/// The routes of readers.
pub fn routes() -> Router<State> {
    Router::new()
        .route("/v1/export", get(export::export))
        .route("/v1/hosts", get(hosts::hosts))
        .route("/v1/tail", get(tail::tail))
        .route("/v1/search", get(search::search))
        .route("/v1/stats", get(stats::stats))
        .route("/v1/timeline", get(timeline::timeline))
        .route("/v1/sessions", get(sessions::list))
        .route("/v1/sessions/{id}", get(sessions::page))
        .route("/v1/entries/{host}/{epoch}/{seq}", get(entries::entry))
}

/// Work that reads the store, off the threads that serve connections.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Refused> + Send + 'static,
) -> Result<T, Refused> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(Refused::internal(&error)))
}

fn json<T: Serialize>(value: &T) -> Result<Response<Body>, Refused> {
    let bytes = serde_json::to_vec(value).map_err(|error| Refused::internal(&error))?;
    let mut response = Response::new(Body::from(bytes));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(response)
}

fn store_trouble(error: StoreError) -> Refused {
    Refused::internal(&error)
}

fn not_found(what: impl Into<String>) -> Refused {
    Refused::new(RefusalCode::NotFound, what)
}
