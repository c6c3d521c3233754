//! The log over HTTPS: to people as the static files that it is, to a host what is committed of its own chain. What
//! leaves hold is of all hosts, and for auditors; checkpoint and hashes tell nothing of anybody.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Path, Query, State as Shared};
use axum::http::{HeaderValue, Response, header};
use custody_ledger::statement::DenialReason;
use custody_ledger::tlog::Tile;
use custody_ledger::tlog::tile::TileKind;
use custody_ledger::wire::{
    COMMITTED_WAIT_MS_MAX, COSIGNED_BYTES_MAX, CommittedQuery, CommittedResponse, CosignatureResponse,
    RefusalCode,
};

use super::answer::ok;
use super::append::own_host;
use super::{Caller, Refused, State};
use crate::tree::{CosignatureError, Published};

/// `GET /v1/log/key`: the key that signs checkpoints, with the sink's certificate of it.
pub(super) async fn key(
    Shared(services): Shared<State>,
    caller: Result<Caller, Refused>,
) -> Result<Response<Body>, Refused> {
    caller?.person()?;
    Ok(file(services.tree.key_file(), "text/plain; charset=utf-8", "no-store"))
}

/// `GET /v1/log/checkpoint`
pub(super) async fn checkpoint(
    Shared(services): Shared<State>,
    caller: Result<Caller, Refused>,
) -> Result<Response<Body>, Refused> {
    caller?.person()?;
    let published = Arc::clone(&services.tree.subscribe().borrow());
    Ok(file(published.note.clone().into_bytes(), "text/plain; charset=utf-8", "no-store"))
}

/// `GET /v1/log/checkpoint.candidate`: the one that witnesses are to cosign.
pub(super) async fn candidate(
    Shared(services): Shared<State>,
    caller: Result<Caller, Refused>,
) -> Result<Response<Body>, Refused> {
    caller?.person()?;
    let offered = tokio::task::spawn_blocking(move || services.tree.witnessing().offered());
    let offered = offered.await.map_err(|error| Refused::internal(&error))?;
    let missing = || Refused::new(RefusalCode::NotFound, CosignatureError::NotCollected.to_string());
    Ok(file(offered.ok_or_else(missing)?.into_bytes(), "text/plain; charset=utf-8", "no-store"))
}

/// `GET /v1/log/checkpoint.witnessed`: the newest one that enough witnesses cosigned.
pub(super) async fn witnessed(
    Shared(services): Shared<State>,
    caller: Result<Caller, Refused>,
) -> Result<Response<Body>, Refused> {
    caller?.person()?;
    let newest = services.tree.witnessing().newest();
    let missing = || Refused::new(RefusalCode::NotFound, "no checkpoint of this log is witnessed");
    let note = newest.ok_or_else(missing)?.note.clone();
    Ok(file(note.into_bytes(), "text/plain; charset=utf-8", "no-store"))
}

/// `POST /v1/log/cosignatures`: a checkpoint with a witness's line below it.
pub(super) async fn cosignatures(
    Shared(services): Shared<State>,
    caller: Result<Caller, Refused>,
    body: Body,
) -> Result<Response<Body>, Refused> {
    caller?.auditor()?;
    let (body, room) = services.appends.read(body, COSIGNED_BYTES_MAX).await?;
    let taking = Arc::clone(&services);
    let taken = tokio::task::spawn_blocking(move || {
        let text = std::str::from_utf8(&body).unwrap_or_default();
        taking.tree.witnessing().take(text)
    });
    let taken = taken.await.map_err(|error| Refused::internal(&error))?;
    drop(room);
    let witnessed = taken.map_err(|error| match error {
        CosignatureError::Malformed(_) => Refused::new(RefusalCode::Malformed, error.to_string()),
        CosignatureError::Forged => Refused::denied(DenialReason::Cosignature, error.to_string()),
        CosignatureError::NotCollected | CosignatureError::NotOffered => {
            Refused::new(RefusalCode::NotFound, error.to_string())
        }
        CosignatureError::Kept(error) => Refused::internal(&error),
    })?;
    Ok(ok(&CosignatureResponse { witnessed }))
}

/// `GET /v1/log/tile/…`
pub(super) async fn tile(
    Shared(services): Shared<State>,
    caller: Result<Caller, Refused>,
    Path(path): Path<String>,
) -> Result<Response<Body>, Refused> {
    let caller = caller?;
    caller.person()?;
    let missing = || Refused::new(RefusalCode::NotFound, "the log has no such tile");
    // The path never reaches the disk: only the name of a tile does, as the tile itself spells it.
    let tile = Tile::parse(&format!("tile/{path}")).ok_or_else(missing)?;
    if tile.kind == TileKind::Entries {
        caller.auditor()?;
    }
    let read = tokio::task::spawn_blocking(move || services.tree.tile(tile));
    let bytes = read.await.map_err(|error| Refused::internal(&error))?;
    let bytes = bytes.map_err(|error| Refused::internal(&error))?.ok_or_else(missing)?;
    Ok(file(bytes, "application/octet-stream", "max-age=31536000, immutable"))
}

fn file(bytes: Vec<u8>, content_type: &'static str, caching: &'static str) -> Response<Body> {
    let mut response = Response::new(Body::from(bytes));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static(caching));
    response
}

/// `GET /v1/hosts/{id}/committed`: answers when the batch that was asked for is committed, or after the wait.
pub(super) async fn committed(
    Shared(services): Shared<State>,
    caller: Result<Caller, Refused>,
    Path(id): Path<String>,
    query: Result<Query<CommittedQuery>, axum::extract::rejection::QueryRejection>,
) -> Result<Response<Body>, Refused> {
    let host = own_host(caller, &id)?;
    let Query(query) = query.map_err(|error| Refused::new(RefusalCode::Malformed, error.body_text()))?;
    let wait = Duration::from_millis(query.wait_ms.min(COMMITTED_WAIT_MS_MAX));
    let until = tokio::time::Instant::now() + wait;
    let (mut newest, mut witnessed) = (services.tree.subscribe(), services.tree.witnessing().subscribe());
    let mut stopping = services.stopping.clone();
    loop {
        // In this order: what is witnessed was published before.
        let cosigned = witnessed.borrow_and_update().clone();
        let published = Arc::clone(&newest.borrow_and_update());
        let answer = ask(&services, host, query, &published, cosigned).await?;
        if !answer.batches.is_empty() || answer.witnessed.is_some() || query.size > published.checkpoint.size
        {
            return Ok(ok(&answer));
        }
        tokio::select! {
            // An error: the log has ended.
            changed = newest.changed() => if changed.is_err() { return Ok(ok(&answer)) },
            changed = witnessed.changed(), if query.witnessed_epoch.is_some() => {
                if changed.is_err() { return Ok(ok(&answer)) }
            }
            _ = stopping.changed() => return Ok(ok(&answer)),
            () = tokio::time::sleep_until(until) => return Ok(ok(&answer)),
        }
    }
}

async fn ask(
    services: &State,
    host: custody_ledger::HostId,
    query: CommittedQuery,
    published: &Arc<Published>,
    cosigned: Option<Arc<Published>>,
) -> Result<CommittedResponse, Refused> {
    let (services, published) = (Arc::clone(services), Arc::clone(published));
    let asked = tokio::task::spawn_blocking(move || {
        services.tree.committed(host, &query, &published, cosigned.as_deref())
    });
    asked.await.map_err(|error| Refused::internal(&error))?.map_err(|error| Refused::internal(&error))
}
