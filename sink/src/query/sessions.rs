//! `GET /v1/sessions` and `GET /v1/sessions/ID`: sessions as rows, and one session with its entries.

use std::collections::HashSet;

use axum::body::Body;
use axum::extract::{Path, Query, State as Shared};
use axum::http::Response;
use custody_ledger::wire::RefusalCode;
use custody_ledger::{EpochId, Seq};
use custody_record::view::{SessionPage, SessionView};
use custody_record::{SessionId, SessionPrefix, Sessions};

use super::parameters::{Parameters, Wanted};
use super::past::{self, Past, WINDOWS};
use super::sight::Sight;
use super::views::{self, Viewer};
use super::{LOOK_MAX, blocking, json, not_found, store_trouble};
use crate::clock::now_ns;
use crate::http::{Caller, Refused, Services, State};
use crate::store::{HostRow, Store, StoreError};

/// Rows of one answer when no number was asked for.
const ROWS: usize = 50;
/// Entries of one page.
const ENTRIES_MAX: usize = 10_000;
/// Bodies of one page, bytes.
const PAGE_BYTES_MAX: usize = 64 << 20;
/// Sessions that are named when a prefix fits several.
const NAMED_MAX: usize = 6;

type Rejection = axum::extract::rejection::QueryRejection;

pub(super) async fn list(
    Shared(services): Shared<State>,
    caller: Caller,
    query: Result<Query<Parameters>, Rejection>,
) -> Result<Response<Body>, Refused> {
    let sight = Sight::of(&caller)?;
    tracing::info!(reader = sight.reader, "sessions read");
    let wanted = Wanted::of(query)?;
    let rows = blocking(move || newest(&services.store, &sight, &wanted).map_err(store_trouble));
    json(&rows.await?)
}

/// The newest rows, oldest first. Looks further back as long as there are too few.
fn newest(store: &Store, sight: &Sight, wanted: &Wanted) -> Result<Vec<SessionView>, StoreError> {
    let (hosts, _) = past::hosts(store, sight, wanted)?;
    let lines = wanted.lines.unwrap_or(ROWS);
    let now = views::signed(now_ns());
    let mut rows = Vec::new();
    for window in WINDOWS {
        let since = wanted.since.or(window.map(|window| now.saturating_sub(window)));
        let looked;
        (rows, looked) = rows_since(store, &hosts, wanted, since)?;
        if rows.len() >= lines || wanted.since.is_some() || looked >= LOOK_MAX {
            break;
        }
    }
    rows.drain(..rows.len().saturating_sub(lines));
    Ok(rows)
}

fn rows_since(
    store: &Store,
    hosts: &[HostRow],
    wanted: &Wanted,
    since: Option<i64>,
) -> Result<(Vec<SessionView>, u64), StoreError> {
    let (mut past, mut viewer) = (Past::open(store, hosts, since)?, Viewer::without_levels());
    let (mut sessions, mut fitting, mut looked) = (Sessions::default(), HashSet::new(), 0);
    while let Some((host, entry)) = past.next()? {
        looked += 1;
        if looked > LOOK_MAX {
            break;
        }
        let (beginning, view) = viewer.view(store, host, &entry)?;
        for view in beginning.iter().chain([&view]) {
            sessions.fold(view);
            if wanted.fits(view) {
                fitting.extend(view.session_id);
            }
        }
    }
    let fits = |row: &&SessionView| {
        fitting.contains(&row.session_id)
            && !(wanted.open && row.closed.is_some())
            && since.is_none_or(|since| row.received >= since)
            && wanted.until.is_none_or(|until| row.opened < until)
    };
    Ok((sessions.iter().filter(fits).cloned().collect(), looked))
}

pub(super) async fn page(
    Shared(services): Shared<State>,
    caller: Caller,
    Path(id): Path<String>,
    query: Result<Query<Parameters>, Rejection>,
) -> Result<Response<Body>, Refused> {
    let sight = Sight::of(&caller)?;
    let prefix: SessionPrefix =
        id.parse().map_err(|error| Refused::new(RefusalCode::Malformed, format!("{error}")))?;
    tracing::info!(reader = sight.reader, session = prefix.as_str(), "session read");
    let wanted = Wanted::of(query)?;
    let page = blocking(move || {
        let hosts = sight.hosts(&services.store).map_err(store_trouble)?;
        page_of(&services, &hosts, &prefix, wanted.exchange)
    });
    json(&page.await?)
}

/// The one session of these hosts whose id begins so, with its entries or those of one exchange.
pub(super) fn page_of(
    services: &Services,
    hosts: &[HostRow],
    prefix: &SessionPrefix,
    exchange: Option<u64>,
) -> Result<SessionPage, Refused> {
    let found = find(&services.store, hosts, prefix).map_err(store_trouble)?;
    match &found[..] {
        [] => Err(not_found(format!("there is no session {} at this sink", prefix.as_str()))),
        [one] => read(services, one, exchange).map_err(store_trouble),
        several => {
            let ids: Vec<&str> = several.iter().map(|found| found.id.as_str()).collect();
            Err(not_found(format!("{} begins several sessions: {}", prefix.as_str(), ids.join(", "))))
        }
    }
}

/// Where a session begins.
struct Found<'h> {
    host: &'h HostRow,
    epoch: EpochId,
    seq: Seq,
    id: SessionId,
}

fn find<'h>(
    store: &Store,
    hosts: &'h [HostRow],
    prefix: &SessionPrefix,
) -> Result<Vec<Found<'h>>, StoreError> {
    let mut found = Vec::new();
    for host in hosts {
        let mut epoch: Option<EpochId> = None;
        for (counter, seq) in store.session_opens(host.enrolment.host)? {
            if epoch.is_none_or(|epoch| epoch.counter != counter) {
                epoch = store.epoch(host.enrolment.host, counter)?;
            }
            let Some(epoch) = epoch else { continue };
            let id = views::session_id(host.enrolment.host, epoch, seq.0);
            if prefix.matches(&id) {
                found.push(Found { host, epoch, seq, id });
                if found.len() >= NAMED_MAX {
                    return Ok(found);
                }
            }
        }
    }
    Ok(found)
}

fn read(services: &Services, found: &Found<'_>, exchange: Option<u64>) -> Result<SessionPage, StoreError> {
    let store = &services.store;
    let (mut sessions, mut viewer) = (Sessions::default(), Viewer::new(&services.tree));
    let (mut entries, mut bytes, mut looked, mut truncated) = (Vec::new(), 0, 0, false);
    for entry in store.entries(found.host.enrolment.host, (found.epoch.counter, found.seq))? {
        let entry = entry?;
        looked += 1;
        if entry.header.epoch != found.epoch || looked > LOOK_MAX {
            truncated |= looked > LOOK_MAX;
            break;
        }
        if entry.header.seq != found.seq && entry.header.session != Some(found.seq) {
            continue;
        }
        let (_, view) = viewer.view(store, found.host, &entry)?;
        sessions.fold(&view);
        let closes = view.entry_type == "session.close";
        if exchange.is_none() || view.exchange == exchange {
            bytes += entry.body.as_ref().map_or(0, |(_, body)| body.len());
            if entries.len() >= ENTRIES_MAX || bytes > PAGE_BYTES_MAX {
                truncated = true;
            } else {
                entries.push(view);
            }
        }
        if closes {
            break;
        }
    }
    let session = sessions.iter().next().cloned().ok_or_else(|| StoreError::Damaged {
        detail: format!(
            "the index names a session at {}/{} that is not there",
            found.epoch.counter, found.seq
        ),
    })?;
    Ok(SessionPage { session, entries, truncated })
}
