//! `GET /v1/stats`: exchanges counted by what they have in common. Reads the stored entries of the time that is asked
//! for; the index of words has no part in it.

use std::time::Instant;

use axum::body::Body;
use axum::extract::{Query, State as Shared};
use axum::http::Response;
use custody_ledger::wire::RefusalCode;
use custody_record::Filter;
use custody_record::search::{By, GROUPS_MAX, Stats, StatsPage};
use serde::Deserialize;

use super::parameters::Wanted;
use super::past::{self, Past};
use super::search::{READ_TIME_MAX, guarded, room};
use super::sight::Sight;
use super::views::{self, Viewer};
use super::{LOOK_MAX, blocking, json, store_trouble};
use crate::http::{Caller, Refused, Services, State};

/// Groups of one answer when no number was asked for.
const ROWS: usize = 20;

/// The query of a URL as it comes.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Parameters {
    by: String,
    #[serde(rename = "where")]
    filter: Option<String>,
    since: Option<i64>,
    until: Option<i64>,
    n: Option<usize>,
}

pub(super) async fn stats(
    Shared(services): Shared<State>,
    caller: Caller,
    query: Result<Query<Parameters>, axum::extract::rejection::QueryRejection>,
) -> Result<Response<Body>, Refused> {
    let sight = Sight::of(&caller)?;
    let malformed = |detail: String| Refused::new(RefusalCode::Malformed, detail);
    let Query(parameters) = query.map_err(|error| malformed(error.body_text()))?;
    let by: By = parameters.by.parse().map_err(|error| malformed(format!("{error}")))?;
    let filter = parameters.filter.map(|text| text.parse::<Filter>()).transpose();
    let filter = filter.map_err(|error| malformed(error.to_string()))?;
    let rows = parameters.n.unwrap_or(ROWS);
    if rows == 0 || rows > GROUPS_MAX {
        return Err(malformed(format!("n is at least 1 and at most {GROUPS_MAX}")));
    }
    let wanted = Wanted::past(filter, parameters.since, parameters.until);
    let room = room(&services)?;
    tracing::info!(reader = sight.reader, "statistics read");
    let page = blocking(move || {
        let page = guarded(&services, || count(&services, &sight, &wanted, by, rows));
        drop(room);
        page
    });
    json(&page.await?)
}

fn count(
    services: &Services,
    sight: &Sight,
    wanted: &Wanted,
    by: By,
    rows: usize,
) -> Result<StatsPage, Refused> {
    let store = &services.store;
    let (hosts, _) = past::hosts(store, sight, wanted).map_err(store_trouble)?;
    let mut past = Past::open(store, &hosts, wanted.since).map_err(store_trouble)?;
    let (mut viewer, mut stats) = (Viewer::without_levels(), Stats::new(by, wanted.filter.clone()));
    let end = Instant::now() + READ_TIME_MAX;
    let (mut looked, mut limit) = (0, None);
    while let Some((host, entry)) = past.next().map_err(store_trouble)? {
        let received = views::signed(entry.received_ns);
        if wanted.until.is_some_and(|until| received >= until)
            || wanted.since.is_some_and(|since| received < since)
        {
            continue;
        }
        looked += 1;
        if looked > LOOK_MAX || Instant::now() >= end {
            limit = Some(format!(
                "{looked} entries were read, as many as one request may: what was received later is not counted; \
                 narrow it with --host, --since, --until"
            ));
            break;
        }
        stats.take(viewer.view_or_alone(store, host, &entry));
    }
    let mut page = stats.page(rows);
    page.limits.extend(limit);
    services.metrics.searched(page.limits.len(), 0);
    Ok(page)
}
