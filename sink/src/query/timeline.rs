//! `GET /v1/timeline`: all that concerns one session or exchange, or some hosts for a while, in order and checked.

use std::collections::HashSet;
use std::time::Instant;

use axum::body::Body;
use axum::extract::{Query, State as Shared};
use axum::http::Response;
use custody_ledger::wire::RefusalCode;
use custody_ledger::{BatchNumber, EpochId, HostId};
use custody_record::search::timeline::{ENTRIES_MAX, arrange};
use custody_record::search::{Evidence, Hit, Need, Subject, TimelinePage};
use custody_record::{Filter, Id, View};
use serde::Deserialize;

use super::parameters::Wanted;
use super::past::{self, Past};
use super::search::{READ_TIME_MAX, guarded, room, trouble};
use super::sight::Sight;
use super::views::Viewer;
use super::{LOOK_MAX, blocking, evidence, json, sessions, store_trouble};
use crate::http::{Caller, Refused, Services, State};
use crate::search::{Plan, SearchError};
use crate::store::{HostRow, StoredEntry};

/// Entries of far beginnings and ends of programs that are looked at.
const FAR_MAX: u64 = 1_000;

/// The query of a URL as it comes.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Parameters {
    id: Option<String>,
    #[serde(rename = "where")]
    filter: Option<String>,
    since: Option<i64>,
    until: Option<i64>,
}

pub(super) async fn timeline(
    Shared(services): Shared<State>,
    caller: Caller,
    query: Result<Query<Parameters>, axum::extract::rejection::QueryRejection>,
) -> Result<Response<Body>, Refused> {
    let sight = Sight::of(&caller)?;
    let malformed = |detail: String| Refused::new(RefusalCode::Malformed, detail);
    let Query(parameters) = query.map_err(|error| malformed(error.body_text()))?;
    let id =
        parameters.id.map(|id| id.parse::<Id>()).transpose().map_err(|error| malformed(error.to_string()))?;
    let filter = parameters.filter.map(|text| text.parse::<Filter>()).transpose();
    let filter = filter.map_err(|error| malformed(error.to_string()))?;
    if id.is_none() && parameters.since.is_none() {
        return Err(malformed("a timeline of hosts needs a beginning: --since".to_owned()));
    }
    let wanted = Wanted::past(filter, parameters.since, parameters.until);
    let room = room(&services)?;
    tracing::info!(reader = sight.reader, "timeline read");
    let page = blocking(move || {
        let page = guarded(&services, || page(&services, &sight, id.as_ref(), &wanted));
        drop(room);
        page
    });
    json(&page.await?)
}

fn page(
    services: &Services,
    sight: &Sight,
    id: Option<&Id>,
    wanted: &Wanted,
) -> Result<TimelinePage, Refused> {
    let store = &services.store;
    let (hosts, _) = past::hosts(store, sight, wanted).map_err(store_trouble)?;
    let mut reader = Reader::new(services);
    let (prefix, exchange) = match id {
        None => {
            reader.walk(
                &hosts,
                wanted.since,
                |view| wanted.has(view),
                |view| wanted.until.is_none_or(|until| view.received < until),
            )?;
            return Ok(reader.finish());
        }
        Some(Id::Session(prefix)) => (prefix, None),
        Some(Id::Exchange(prefix, exchange)) => (prefix, Some(*exchange)),
        Some(Id::Entry(_)) => {
            let detail = "a timeline is of a session (b81x) or an exchange (b81x.3)";
            return Err(Refused::new(RefusalCode::Malformed, detail));
        }
    };
    let session = sessions::page_of(services, &hosts, prefix, None)?;
    let times = || session.entries.iter().filter(|entry| exchange.is_none() || entry.exchange == exchange);
    let times = times().map(|entry| entry.received);
    let Some((first, last)) = times.clone().min().zip(times.max()) else {
        let detail =
            format!("session {} has no exchange {} at this sink", prefix.as_str(), exchange.unwrap_or(0));
        return Err(super::not_found(detail));
    };
    // A session that is open, or longer than a page: to its newest entry.
    let last = if exchange.is_none() { last.max(session.session.received) } else { last };
    let subject = Subject::new(&session.session, exchange, first, last);
    let host: Vec<HostRow> =
        hosts.into_iter().filter(|host| host.enrolment.host.to_string() == session.session.host).collect();
    reader.walk(
        &host,
        Some(subject.since),
        |view| subject.concerns(view),
        |view| view.received <= subject.until,
    )?;
    if let Some(host) = host.first() {
        reader.ends_of_session(host, &session.entries, &subject);
        reader.far(host, &subject).map_err(|error| trouble(services, error))?;
    }
    reader.page.session = Some(session.session);
    Ok(reader.finish())
}

/// Gathers entries and checks them.
struct Reader<'s> {
    services: &'s Services,
    viewer: Viewer,
    page: TimelinePage,
    /// Places of those that are gathered.
    seen: HashSet<(HostId, u64, u64)>,
    /// The batch that was checked last.
    checked: Option<(HostId, EpochId, BatchNumber, Evidence)>,
    end: Instant,
}

impl<'s> Reader<'s> {
    fn new(services: &'s Services) -> Self {
        Reader {
            services,
            viewer: Viewer::new(&services.tree),
            page: TimelinePage { session: None, entries: Vec::new(), looked: 0, limits: Vec::new() },
            seen: HashSet::new(),
            checked: None,
            end: Instant::now() + READ_TIME_MAX,
        }
    }

    /// Takes what concerns, from a time on, while `goes_on`.
    fn walk(
        &mut self,
        hosts: &[HostRow],
        since: Option<i64>,
        concerns: impl Fn(&View) -> bool,
        goes_on: impl Fn(&View) -> bool,
    ) -> Result<(), Refused> {
        let store = &self.services.store;
        let mut past = Past::open(store, hosts, since).map_err(store_trouble)?;
        let mut over = None;
        while let Some((host, entry)) = past.next().map_err(store_trouble)? {
            self.page.looked += 1;
            if self.page.looked > LOOK_MAX || Instant::now() >= self.end {
                over = Some(format!(
                    "{} entries were read, as many as one request may: later ones are not here",
                    self.page.looked
                ));
                break;
            }
            let view = self.viewer.view_or_alone(store, host, &entry);
            if !goes_on(&view) {
                break;
            }
            if concerns(&view) && !self.take(host, &entry, view) {
                break;
            }
        }
        self.page.limits.extend(over);
        Ok(())
    }

    /// Adds an entry; whether there is room for more.
    fn take(&mut self, host: &HostRow, entry: &StoredEntry, view: View) -> bool {
        if !self.seen.insert((entry.header.host, entry.header.epoch.counter, entry.header.seq.0)) {
            return true;
        }
        if self.page.entries.len() >= ENTRIES_MAX {
            self.page
                .limits
                .push(format!("more than {ENTRIES_MAX} entries concern it: later ones are not here"));
            return false;
        }
        let evidence = self.evidence(host, entry);
        self.page.entries.push(Hit { id: view.citation().to_string(), evidence, entry: view });
        true
    }

    fn evidence(&mut self, host: &HostRow, entry: &StoredEntry) -> Evidence {
        let (id, epoch, number) = (entry.header.host, entry.header.epoch, entry.batch);
        let known =
            self.checked.as_ref().filter(|checked| (checked.0, checked.1, checked.2) == (id, epoch, number));
        let evidence = match known {
            Some((.., evidence)) => evidence.clone(),
            None => {
                let store = &self.services.store;
                let row = store.batch(id, epoch, number).ok().flatten();
                let evidence = match row.and_then(|row| Some((store.frame(id, &row).ok()?, row))) {
                    Some((frame, row)) => evidence::of(store, host, &row, &frame),
                    None => Evidence::unverified("its segment cannot be read again"),
                };
                self.checked = Some((id, epoch, number, evidence.clone()));
                evidence
            }
        };
        evidence.of_body(entry.body.is_some(), entry.expired)
    }

    /// The beginning and end of the session where only one of its exchanges was walked to.
    fn ends_of_session(&mut self, host: &HostRow, entries: &[View], subject: &Subject) {
        let ends =
            entries.iter().filter(|view| view.entry_type.starts_with("session.") && subject.concerns(view));
        for view in ends {
            let seq = custody_ledger::Seq(view.seq);
            if let Ok(Some(entry)) = self.services.store.entry(host.enrolment.host, view.epoch, seq) {
                self.take(host, &entry, view.clone());
            }
        }
    }

    /// Beginnings and ends of its programs, however far away: the index of words finds them.
    fn far(&mut self, host: &HostRow, subject: &Subject) -> Result<(), SearchError> {
        let word = |text: String| Need::Word(text);
        for process in subject.processes() {
            // Without its start it is told from others of its pid by being near, and near was walked.
            let Some(start) = process.start else { continue };
            let (snapshot, behind) = self.services.search.snapshot()?;
            if behind.is_some() {
                self.page.limits.push(
                    "the index is being built: a far beginning or end of a program may be missing".to_owned(),
                );
            }
            let kinds = Need::Any(vec![word("exec".to_owned()), word("exit".to_owned())]);
            let needs = [word(process.pid.to_string()), word(start.to_string()), kinds];
            let mut plan = Plan::new(&snapshot, &needs)?;
            let (mut at, mut looked) = (snapshot.newest(), 0);
            while let Some(from) = at {
                let Some((place, _)) = plan.seek(from)? else { break };
                at = place.before();
                looked += 1;
                if looked > FAR_MAX {
                    self.page.limits.push(format!(
                        "more than {FAR_MAX} entries may be of its programs: not all were read"
                    ));
                    break;
                }
                let Some(batch) = snapshot.batch(place.batch())? else { continue };
                if batch.host != host.enrolment.host {
                    continue;
                }
                let seq = custody_ledger::Seq(batch.first_seq.0.saturating_add(place.index()));
                let Ok(Some(entry)) = self.services.store.entry(batch.host, batch.epoch, seq) else {
                    self.page.limits.push(format!(
                        "{}/{}/{seq} is in the index and cannot be read",
                        host.enrolment.name, batch.epoch
                    ));
                    continue;
                };
                let view = self.viewer.view_or_alone(&self.services.store, host, &entry);
                if subject.concerns(&view) {
                    self.take(host, &entry, view);
                }
            }
        }
        Ok(())
    }

    fn finish(mut self) -> TimelinePage {
        self.page.entries.sort_by_key(|hit| (hit.entry.epoch, hit.entry.seq));
        arrange(&mut self.page.entries);
        self.services.metrics.searched(self.page.limits.len(), 0);
        self.page
    }
}
