//! `GET /v1/hosts`: who is enrolled, how far each chain came, and what its agent says was lost.

use std::collections::BTreeMap;

use axum::body::Body;
use axum::extract::{Query, State as Shared};
use axum::http::Response;
use custody_ledger::Batch;
use custody_record::view::{HeadView, HostView, NotedView};

use super::parameters::{Parameters, Wanted};
use super::sight::Sight;
use super::{blocking, json, store_trouble, views};
use crate::clock::now_ns;
use crate::http::{Caller, Refused, Services, State};
use crate::store::{HostRow, Store, StoreError};

/// Heartbeats are 10 s apart; who misses three is silent.
pub(super) const SILENCE_NS: u64 = 30_000_000_000;

pub(super) async fn hosts(
    Shared(services): Shared<State>,
    caller: Caller,
    query: Result<Query<Parameters>, axum::extract::rejection::QueryRejection>,
) -> Result<Response<Body>, Refused> {
    let sight = Sight::of(&caller)?;
    tracing::info!(reader = sight.reader, "hosts read");
    let wanted = Wanted::of(query)?;
    let rows = blocking(move || {
        let rows = sight.hosts(&services.store).map_err(store_trouble)?;
        let wanted = rows.iter().filter(|row| wanted.admits(row));
        wanted.map(|row| view(&services, row).map_err(store_trouble)).collect::<Result<Vec<_>, _>>()
    });
    json(&rows.await?)
}

fn view(services: &Services, row: &HostRow) -> Result<HostView, StoreError> {
    let store = &services.store;
    let counters = newest_counters(store, row)?;
    let in_bytes = counters.iter().filter(|(source, _)| source.ends_with(".bytes"));
    let lost = in_bytes.filter_map(|(_, counts)| counts.get("lost")).sum();
    Ok(HostView {
        id: row.enrolment.host.to_string(),
        name: row.enrolment.name.clone(),
        labels: row.enrolment.labels.clone(),
        head: row.head.as_ref().map(|head| HeadView {
            epoch: head.batch.epoch.counter,
            batch: head.batch.number.0,
            seq: head.next_seq.0.saturating_sub(1),
        }),
        last_seen: row.received_ns.map(views::signed),
        counters,
        lost,
        silent: row.received_ns.is_some_and(|seen| now_ns().saturating_sub(seen) > SILENCE_NS),
        over_quota: services.acceptor.over_quota(row.enrolment.host),
        noted: store
            .noted(row.enrolment.host)?
            .into_iter()
            .map(|(code, noted)| (code, NotedView { count: noted.count, last: views::signed(noted.last_ns) }))
            .collect(),
    })
}

/// The counters of the newest batch.
fn newest_counters(
    store: &Store,
    row: &HostRow,
) -> Result<BTreeMap<String, BTreeMap<String, u64>>, StoreError> {
    let Some(head) = &row.head else { return Ok(BTreeMap::new()) };
    let Some(batch) = store.batch(row.enrolment.host, head.batch.epoch, head.batch.number)? else {
        return Ok(BTreeMap::new());
    };
    let frame = store.frame(row.enrolment.host, &batch)?;
    let batch = Batch::decode(&frame).map_err(|error| StoreError::Damaged { detail: error.to_string() })?;
    let named = |counters: &custody_ledger::Counters| {
        [
            ("produced", counters.produced),
            ("delivered", counters.delivered),
            ("lost", counters.lost_ring + counters.lost_user),
            ("cut", counters.cut),
            ("skipped", counters.skipped),
        ]
        .map(|(name, count)| (name.to_owned(), count))
        .into()
    };
    Ok(batch.header.counters.iter().map(|(source, counters)| (source.clone(), named(counters))).collect())
}
