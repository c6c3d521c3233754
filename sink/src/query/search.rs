//! `GET /v1/search`: entries that have these words and that the filter lets through, newest first. The index says
//! where to look; each hit is read from its segment and checked, and what is not there any more is told.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::{Query as UrlQuery, State as Shared};
use axum::http::Response;
use custody_ledger::wire::RefusalCode;
use custody_record::search::page::{HITS, HITS_MAX};
use custody_record::search::{Cursor, Evidence, Found, Hit, MissingHit, Need, Query, SearchPage};
use custody_record::{Citation, Filter, View};
use serde::Deserialize;

use super::evidence;
use super::parameters::Wanted;
use super::sight::Sight;
use super::views::{self, Viewer};
use super::{blocking, json, past};
use crate::http::{Caller, Refused, Services, State};
use crate::search::{IndexedBatch, Plan, SearchError, Snapshot};
use crate::store::{BatchRow, HostRow, Store, StoredBatch, StoredEntry};

/// How long one search may take.
pub(super) const READ_TIME_MAX: Duration = Duration::from_secs(20);
/// Entries that one search may read.
const READ_MAX: u64 = 200_000;
/// Bodies of the hits of one page, bytes.
const PAGE_BYTES_MAX: usize = 32 << 20;

type Rejection = axum::extract::rejection::QueryRejection;

/// The query of a URL as it comes.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Parameters {
    q: String,
    #[serde(rename = "where")]
    filter: Option<String>,
    since: Option<i64>,
    until: Option<i64>,
    n: Option<usize>,
    cursor: Option<String>,
}

/// What is searched, checked.
pub(crate) struct Asked {
    query: Query,
    wanted: Wanted,
    hits: usize,
    cursor: Option<Cursor>,
}

impl Asked {
    /// # Errors
    /// A query, filter, number or cursor that is none.
    pub(crate) fn of(query: Result<UrlQuery<Parameters>, Rejection>) -> Result<Self, Refused> {
        let malformed = |detail: String| Refused::new(RefusalCode::Malformed, detail);
        let UrlQuery(parameters) = query.map_err(|error| malformed(error.body_text()))?;
        let hits = parameters.n.unwrap_or(HITS);
        if hits == 0 || hits > HITS_MAX {
            return Err(malformed(format!("n is at least 1 and at most {HITS_MAX}")));
        }
        let filter = parameters.filter.map(|text| text.parse::<Filter>()).transpose();
        let cursor = parameters.cursor.map(|text| text.parse::<Cursor>()).transpose();
        Ok(Asked {
            query: parameters.q.parse().map_err(|error| malformed(format!("{error}")))?,
            wanted: Wanted::past(
                filter.map_err(|error| malformed(error.to_string()))?,
                parameters.since,
                parameters.until,
            ),
            hits,
            cursor: cursor.map_err(|error| malformed(error.to_string()))?,
        })
    }
}

pub(super) async fn search(
    Shared(services): Shared<State>,
    caller: Caller,
    query: Result<UrlQuery<Parameters>, Rejection>,
) -> Result<Response<Body>, Refused> {
    let sight = Sight::of(&caller)?;
    let asked = Asked::of(query)?;
    let room = room(&services)?;
    tracing::info!(reader = sight.reader, "search");
    let page = blocking(move || {
        let page = guarded(&services, || page(&services, &sight, &asked));
        drop(room);
        page
    });
    json(&page.await?)
}

/// Work that reads the index. redb may panic on pages that are not its own: then the index is built again.
pub(super) fn guarded<T>(
    services: &Services,
    work: impl FnOnce() -> Result<T, Refused>,
) -> Result<T, Refused> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(work))
        .unwrap_or_else(|_| Err(trouble(services, SearchError::Damaged("reading it failed"))))
}

/// Room for one more search.
pub(super) fn room(services: &Services) -> Result<tokio::sync::OwnedSemaphorePermit, Refused> {
    let busy = || Refused::new(RefusalCode::Busy, "as many search as this sink serves; try again later");
    Arc::clone(&services.searches).try_acquire_owned().map_err(|_| busy())
}

/// Trouble of the index, as the caller is told.
pub(super) fn trouble(services: &Services, error: SearchError) -> Refused {
    services.search.distrust(&error);
    match error {
        SearchError::TooManySteps => {
            Refused::new(RefusalCode::Malformed, format!("{error}: add a rarer one, or --since"))
        }
        SearchError::Store(error) => super::store_trouble(error),
        SearchError::Closed => Refused::new(
            RefusalCode::Unavailable,
            "the index of words is being opened and checked; try again in a moment, or read a copy of the store",
        ),
        error => {
            tracing::error!(%error, "a search failed");
            Refused::new(
                RefusalCode::Unavailable,
                "the index of words is not to be had now and is being built again; try again later",
            )
        }
    }
}

fn page(services: &Services, sight: &Sight, asked: &Asked) -> Result<SearchPage, Refused> {
    let (hosts, _) = past::hosts(&services.store, sight, &asked.wanted).map_err(super::store_trouble)?;
    let failed = |error| trouble(services, error);
    let (snapshot, behind) = services.search.snapshot().map_err(failed)?;
    let mut needs = vec![asked.query.need()];
    needs.extend(asked.wanted.filter.as_ref().and_then(Filter::need));
    let search = Search {
        services,
        asked,
        hosts: &hosts,
        snapshot: &snapshot,
        need: Need::All(needs.clone()),
        viewer: Viewer::new(&services.tree),
        read: None,
        bytes: 0,
        page: SearchPage { answers_to: behind.map(views::signed), ..SearchPage::default() },
    };
    let mut plan = Plan::new(&snapshot, &needs).map_err(failed)?;
    let page = search.run(&mut plan).map_err(failed)?;
    let missing = page.found.iter().filter(|found| matches!(found, Found::Missing(_))).count();
    services.metrics.searched(page.limits.len(), missing);
    Ok(page)
}

/// One search.
struct Search<'s> {
    services: &'s Services,
    asked: &'s Asked,
    hosts: &'s [HostRow],
    snapshot: &'s Snapshot,
    need: Need,
    viewer: Viewer,
    /// The batch that was read last.
    read: Option<Read<'s>>,
    bytes: usize,
    page: SearchPage,
}

/// A batch that the index names.
struct Read<'s> {
    number: u64,
    batch: IndexedBatch,
    /// `None` when its host is not wanted.
    host: Option<&'s HostRow>,
    /// Its entries, or why they are not to be had; read at the first that is wanted.
    stored: Option<Result<Stored, String>>,
}

/// A batch out of its segment.
struct Stored {
    row: BatchRow,
    frame: StoredBatch,
    entries: Vec<StoredEntry>,
    /// Made for the first hit.
    evidence: Option<Evidence>,
}

impl<'s> Search<'s> {
    fn run(mut self, plan: &mut Plan<'_>) -> Result<SearchPage, SearchError> {
        if plan.too_many_words {
            self.page.limits.push(
                "a beginning fits more words than one search follows: entries were read for it".to_owned(),
            );
        }
        let until = Instant::now() + READ_TIME_MAX;
        let mut at = match self.asked.cursor {
            Some(cursor) => cursor.before().min(self.snapshot.newest()),
            None => self.snapshot.newest(),
        };
        while let Some(from) = at {
            let Some((place, indexed)) = plan.seek(from)? else { break };
            if self.is_over(until) {
                self.page.next = Some(Cursor(place.0.saturating_add(1)));
                break;
            }
            at = self.look(place, indexed)?;
            if self.page.found.len() >= self.asked.hits {
                self.page.next = at.map(|_| place);
                break;
            }
        }
        Ok(self.page)
    }

    /// Whether a limit ends the search here; the next page goes on.
    fn is_over(&mut self, until: Instant) -> bool {
        let limit = if self.page.looked >= READ_MAX {
            format!("{READ_MAX} entries were read")
        } else if self.bytes >= PAGE_BYTES_MAX {
            "the hits so far fill one answer".to_owned()
        } else if Instant::now() >= until {
            format!("{} s have passed", READ_TIME_MAX.as_secs())
        } else {
            return false;
        };
        self.page.limits.push(limit);
        true
    }

    /// Looks at one entry; answers where to go on.
    fn look(&mut self, place: Cursor, indexed: bool) -> Result<Option<Cursor>, SearchError> {
        let number = place.batch();
        if self.read.as_ref().is_none_or(|read| read.number != number) {
            let batch = self.snapshot.batch(number)?.ok_or(SearchError::Damaged("a batch has no row"))?;
            let host = self.hosts.iter().find(|host| host.enrolment.host == batch.host);
            self.read = Some(Read { number, batch, host, stored: None });
        }
        let Some(read) = &mut self.read else { return Ok(None) };
        let received = views::signed(read.batch.received_ns);
        if self.asked.wanted.since.is_some_and(|since| views::signed(read.batch.latest_ns) < since) {
            return Ok(None); // Nothing that was stored earlier was received later.
        }
        let outside = self.asked.wanted.since.is_some_and(|since| received < since)
            || self.asked.wanted.until.is_some_and(|until| received >= until);
        let Some(host) = read.host.filter(|_| !outside) else { return Ok(Cursor::of(number, 0).before()) };
        // Without words every place is asked for, those behind the last entry too.
        let Some(last) = u64::from(read.batch.count).checked_sub(1) else {
            return Ok(Cursor::of(number, 0).before());
        };
        if place.index() > last {
            return Ok(Some(Cursor::of(number, last)));
        }
        self.page.looked += 1;
        let services = self.services;
        let stored = read.stored.get_or_insert_with(|| Stored::read(services, host, &read.batch));
        let id = Citation {
            host: host.enrolment.name.clone(),
            epoch: read.batch.epoch,
            seq: read.batch.first_seq.0.saturating_add(place.index()),
        }
        .to_string();
        let found = match stored {
            Err(reason) => Some(Found::Missing(MissingHit { id, received, reason: reason.clone() })),
            Ok(stored) => {
                let index = usize::try_from(place.index()).unwrap_or(usize::MAX);
                match stored.entries.get(index) {
                    None => {
                        Some(missing(id, received, "its batch has fewer entries than when it was indexed"))
                    }
                    Some(entry) => {
                        let view = self.viewer.view_or_alone(&services.store, host, entry);
                        if self.asked.query.matches(&view) && self.asked.wanted.has(&view) {
                            self.bytes += entry.body.as_ref().map_or(0, |(_, body)| body.len());
                            Some(hit(services, host, stored, index, id, view))
                        } else if indexed && !self.need.is_met(&view) && !has_expired(&services.store, entry)
                        {
                            Some(missing(
                                id,
                                received,
                                "it was indexed with these words, and what is stored has them no more",
                            ))
                        } else {
                            None
                        }
                    }
                }
            }
        };
        self.page.found.extend(found);
        Ok(place.before())
    }
}

/// Whether an entry lost words by age: its own, or those of its session's beginning.
fn has_expired(store: &Store, entry: &StoredEntry) -> bool {
    let header = &entry.header;
    let beginning = header.session.filter(|session| *session < header.seq);
    let beginning =
        beginning.and_then(|seq| store.entry(header.host, header.epoch.counter, seq).ok().flatten());
    entry.expired || beginning.is_some_and(|beginning| beginning.expired)
}

fn missing(id: String, received: i64, reason: &str) -> Found {
    Found::Missing(MissingHit { id, received, reason: reason.to_owned() })
}

fn hit(
    services: &Services,
    host: &HostRow,
    stored: &mut Stored,
    index: usize,
    id: String,
    view: View,
) -> Found {
    let withheld = stored.entries.get(index).is_some_and(|entry| entry.body.is_none());
    let expired = stored.frame.expired;
    let (row, frame) = (&stored.row, &stored.frame.frame);
    let evidence = stored.evidence.get_or_insert_with(|| evidence::of(&services.store, host, row, frame));
    let evidence = evidence.clone().of_body(!withheld, expired);
    Found::Hit(Box::new(Hit { id, evidence, entry: view }))
}

impl Stored {
    fn read(services: &Services, host: &HostRow, batch: &IndexedBatch) -> Result<Self, String> {
        let store = &services.store;
        let unreadable = |error: crate::store::StoreError| {
            // What stands where is for the sink's log.
            tracing::error!(%error, "evidence that was indexed cannot be read");
            "its segment cannot be read".to_owned()
        };
        let epoch = store.epoch(host.enrolment.host, batch.epoch).map_err(unreadable)?;
        let row = match epoch {
            Some(epoch) => store.batch(host.enrolment.host, epoch, batch.number).map_err(unreadable)?,
            None => None,
        };
        let row = row.ok_or("the store has no such batch")?;
        if row.batch.hash != batch.hash {
            return Err("the store has another batch at its place".to_owned());
        }
        let frame = store.stored(batch.host, &row).map_err(unreadable)?;
        let entries = frame.entries().map_err(unreadable)?;
        Ok(Stored { row, frame, entries, evidence: None })
    }
}
