//! `GET /v1/export`: a session, a range or a while of one host as a bundle ([`custody_ledger::bundle`]), written while it
//! is read from the store. For auditors.
//!
//! What is wrong with a request is said before the first byte. What fails later cuts the answer off: it lacks its end then,
//! and is no bundle.

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Query, State as Shared};
use axum::http::{HeaderValue, Response, header};
use custody_ledger::bundle::{
    BATCHES_MAX, Point, Proof, Range, Statements, WAY_WRITTEN_MAX, WriteError, Writer, head_of,
};
use custody_ledger::wire::RefusalCode;
use custody_ledger::{BatchNumber, EntryType, Hash, HostId, Seq};
use serde::Deserialize;
use tokio::runtime::Handle;
use tokio::sync::watch;

use super::sight::Sight;
use super::{LOOK_MAX, blocking, not_found, pieces, store_trouble};
use crate::http::{Caller, Refused, Services, State};
use crate::store::{BatchRow, HostRow, Store, StoreError};
use crate::tree::{Published, TreeError};

mod records;

use records::{Stated, enrolment, stated};

/// How long to wait for the checkpoint over what was asked for; one is due within a second.
const COMMIT_WAIT: Duration = Duration::from_secs(20);
/// Rows of the index that are held at once.
const ROWS_AT_ONCE: usize = 256;

/// The query of a URL as it comes: a session (its first entry), entries, or a while.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Parameters {
    host: String,
    epoch: Option<u64>,
    session: Option<u64>,
    first: Option<u64>,
    last: Option<u64>,
    since: Option<i64>,
    until: Option<i64>,
    whole: bool,
}

pub(super) async fn export(
    Shared(services): Shared<State>,
    caller: Caller,
    query: Result<Query<Parameters>, axum::extract::rejection::QueryRejection>,
) -> Result<Response<Body>, Refused> {
    let reader = caller.auditor()?.to_owned();
    let sight = Sight::of(&caller)?;
    let Query(asked) = query.map_err(|error| Refused::new(RefusalCode::Malformed, error.body_text()))?;
    let busy = "as many readers follow as this sink serves; try again later";
    let room = Arc::clone(&services.readers).try_acquire_owned();
    let room = room.map_err(|_| Refused::new(RefusalCode::Busy, busy))?;
    tracing::info!(reader, host = ?asked.host, whole = asked.whole, "export begins");
    let (runtime, shared) = (Handle::current(), Arc::clone(&services));
    let export = blocking(move || {
        let chosen = choose(&shared.store, &sight, &asked)?;
        Export::prepare(&shared, chosen, asked.whole, &runtime)
    });
    let export = export.await?;
    let (mut out, body) = pieces::answer(Handle::current());
    tokio::task::spawn_blocking(move || {
        match export.write(&services, &caller, &mut out) {
            Ok(()) => tracing::info!(reader, "export ends"),
            Err(error) => {
                tracing::warn!(reader, %error, "an export ends before its end");
                out.cut();
            }
        }
        drop(room);
    });
    let mut response = Response::new(body);
    let kind = HeaderValue::from_static("application/octet-stream");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    Ok(response)
}

/// What was asked for, found in the store.
struct Chosen {
    host: HostRow,
    range: Range,
    first: BatchRow,
    last: BatchRow,
}

fn choose(store: &Store, sight: &Sight, asked: &Parameters) -> Result<Chosen, Refused> {
    let host = host(store, sight, &asked.host)?;
    let id = host.enrolment.host;
    let of_entry = |counter: u64, seq: u64| -> Result<(Point, BatchRow, EntryType), Refused> {
        let missing = || not_found(format!("this host has no entry {counter}/{seq} at this sink"));
        let entry = store.entry(id, counter, Seq(seq)).map_err(store_trouble)?.ok_or_else(missing)?;
        let row = store.batch(id, entry.header.epoch, entry.batch).map_err(store_trouble)?;
        let point = Point { epoch: entry.header.epoch, seq: Seq(seq) };
        Ok((point, row.ok_or_else(missing)?, entry.header.entry_type))
    };
    let (first, last, session) = match (asked.epoch, asked.session, asked.first, asked.last, asked.since) {
        (Some(epoch), Some(session), None, None, None) => {
            let (point, row, kind) = of_entry(epoch, session)?;
            if kind != EntryType::SessionOpen {
                return Err(not_found(format!("no session begins at {epoch}/{session}")));
            }
            let last = of_entry(epoch, end_of_session(store, id, point)?.0)?;
            ((point, row), (last.0, last.1), Some(point.seq))
        }
        (Some(epoch), None, Some(first), Some(last), None) if first <= last => {
            let (first, last) = (of_entry(epoch, first)?, of_entry(epoch, last)?);
            ((first.0, first.1), (last.0, last.1), None)
        }
        (None, None, None, None, Some(since)) => {
            let (first, last) = within(store, id, since, asked.until)?;
            let begins = Point { epoch: first.batch.epoch, seq: first.first_seq };
            let end = last.first_seq.0.saturating_add(u64::from(last.count).saturating_sub(1));
            ((begins, first), (Point { epoch: last.batch.epoch, seq: Seq(end) }, last), None)
        }
        _ => {
            let detail = "an export is of host, epoch and session; of host, epoch, first and last; or of host and since";
            return Err(Refused::new(RefusalCode::Malformed, detail));
        }
    };
    let range = Range { host: id, first: first.0, last: last.0, session };
    if range.first.epoch == range.last.epoch {
        demand_few(last.1.batch.number.0.saturating_sub(first.1.batch.number.0).saturating_add(1))?;
    }
    Ok(Chosen { host, range, first: first.1, last: last.1 })
}

fn demand_few(batches: u64) -> Result<(), Refused> {
    let detail = || format!("a bundle holds at most {BATCHES_MAX} batches: choose a smaller range");
    if batches > BATCHES_MAX { Err(Refused::new(RefusalCode::TooLarge, detail())) } else { Ok(()) }
}

/// The one host of that name or id.
fn host(store: &Store, sight: &Sight, name: &str) -> Result<HostRow, Refused> {
    let hosts = sight.hosts(store).map_err(store_trouble)?.into_iter();
    let mut named =
        hosts.filter(|host| host.enrolment.name == name || host.enrolment.host.to_string() == name);
    match (named.next(), named.next()) {
        (Some(host), None) => Ok(host),
        (None, _) => Err(not_found("there is no such host at this sink")),
        _ => Err(not_found("several hosts have this name: give the host's id instead")),
    }
}

/// The newest entry of a session: its end, where that is stored.
fn end_of_session(store: &Store, host: HostId, opening: Point) -> Result<Seq, Refused> {
    let (mut last, mut looked) = (opening.seq, 0);
    for entry in store.entries(host, opening.order()).map_err(store_trouble)? {
        let header = entry.map_err(store_trouble)?.header;
        looked += 1;
        if header.epoch != opening.epoch || looked > LOOK_MAX {
            break;
        }
        if header.session == Some(opening.seq) {
            last = header.seq;
            if header.entry_type == EntryType::SessionClose {
                break;
            }
        }
    }
    Ok(last)
}

/// The first and the last batch that was received in that time.
fn within(
    store: &Store,
    host: HostId,
    since: i64,
    until: Option<i64>,
) -> Result<(BatchRow, BatchRow), Refused> {
    let nothing = || not_found("this host sent nothing in that time");
    let since = u64::try_from(since).unwrap_or(0);
    let until = until.map_or(u64::MAX, |until| u64::try_from(until).unwrap_or(0));
    let (counter, seq) = store.first_since(host, since).map_err(store_trouble)?.ok_or_else(nothing)?;
    let entry = store.entry(host, counter, seq).map_err(store_trouble)?.ok_or_else(nothing)?;
    let (mut next, mut found, mut count) = ((counter, entry.batch.0), None, 0);
    loop {
        let rows = store.batches_from(host, next.0, next.1, ROWS_AT_ONCE).map_err(store_trouble)?;
        let full = rows.len() == ROWS_AT_ONCE;
        for row in rows {
            if row.received_ns >= until {
                return found.ok_or_else(nothing);
            }
            count += 1;
            demand_few(count)?;
            next = (row.batch.epoch.counter, row.batch.number.0.saturating_add(1));
            found = Some((found.map_or_else(|| row.clone(), |(first, _)| first), row));
        }
        if !full {
            return found.ok_or_else(nothing);
        }
    }
}

/// Why an answer ends before its end.
#[derive(Debug, thiserror::Error)]
enum ExportError {
    #[error(transparent)]
    Write(#[from] WriteError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Tree(#[from] TreeError),
    #[error("{0} is not where the index says")]
    Missing(String),
    #[error("nobody can say whether the reader's certificate is revoked")]
    NotKnown,
    #[error("the reader's certificate was revoked")]
    Revoked,
}

/// All that is needed to write a bundle.
struct Export {
    chosen: Chosen,
    published: Arc<Published>,
    enrolment: Vec<u8>,
    place: Proof,
    /// What says that bodies of the range expired.
    stated: Vec<Stated>,
    whole: bool,
}

impl Export {
    /// Waits for a checkpoint over all of it, and finds the enrolment. Blocks.
    fn prepare(services: &Services, chosen: Chosen, whole: bool, runtime: &Handle) -> Result<Self, Refused> {
        let trouble = |error: ExportError| match error {
            ExportError::Write(error @ WriteError::TooLarge { .. }) => {
                Refused::new(RefusalCode::TooLarge, error.to_string())
            }
            error => Refused::internal(&error),
        };
        let id = chosen.range.host;
        let stated = stated(services, &chosen).map_err(trouble)?;
        let newest = stated.iter().map(|one| one.index).max();
        let covers = |published: &Published| -> Result<bool, Refused> {
            let stated = newest.is_none_or(|index| index < published.checkpoint.size);
            Ok(stated && committed(services, id, &chosen.last, published).map_err(trouble)?.is_some())
        };
        // A witnessed checkpoint is worth more, where it has all of it.
        let published = match services.tree.witnessing().newest() {
            Some(witnessed) if covers(&witnessed)? => witnessed,
            _ => wait_for(services.tree.subscribe(), runtime, covers)?,
        };
        let (enrolment, index) = enrolment(services, id, &published).map_err(trouble)?;
        let place = of_record(services, index, &published).map_err(trouble)?;
        Ok(Export { chosen, published, enrolment, place, stated, whole })
    }

    fn write(mut self, services: &Services, caller: &Caller, out: impl Write) -> Result<(), ExportError> {
        let mut statements = Statements::default();
        for Stated { index, retention, payload } in std::mem::take(&mut self.stated) {
            statements.push(&retention, payload, of_record(services, index, &self.published)?)?;
        }
        let Chosen { range, first, last, .. } = &self.chosen;
        let (note, expired) = (&self.published.note, !statements.is_empty());
        let mut writer = Writer::begin(out, range, note, &self.enrolment, &self.place, expired)?;
        self.lead(services, first, &mut writer)?;
        let end = (last.batch.epoch.counter, last.batch.number.0);
        let mut next = (first.batch.epoch.counter, first.batch.number.0);
        while next <= end {
            if services.is_revoked(caller).map_err(|_| ExportError::NotKnown)? {
                return Err(ExportError::Revoked);
            }
            let rows = self.placed(services, next)?;
            if rows.is_empty() {
                return Err(ExportError::Missing(last.batch.to_string()));
            }
            for (row, mut place) in rows {
                let at = (row.batch.epoch.counter, row.batch.number.0);
                if at > end {
                    return Ok(writer.end().map(drop)?);
                }
                let (frame, content) = services.store.frame_and_content(range.host, &row)?;
                place.content = content;
                writer.stored(&frame, &place, self.whole, &mut statements)?;
                next = (at.0, at.1.saturating_add(1));
            }
        }
        Ok(writer.end().map(drop)?)
    }

    /// What leads to the first batch: the way of keys, or an anchor where that would be long.
    fn lead<W: Write>(
        &self,
        services: &Services,
        first: &BatchRow,
        writer: &mut Writer<W>,
    ) -> Result<(), ExportError> {
        let (store, number) = (&services.store, first.batch.number.0);
        let anchored = number > WAY_WRITTEN_MAX;
        for number in if anchored { number - 1 } else { 0 }..number {
            let missing = || ExportError::Missing(format!("batch {number}"));
            let row = store.batch(self.chosen.range.host, first.batch.epoch, BatchNumber(number))?;
            let row = row.ok_or_else(missing)?;
            let (frame, content) = store.frame_and_content(self.chosen.range.host, &row)?;
            let head = head_of(&frame).ok_or_else(missing)?;
            if anchored {
                let (row, mut place) = committed(services, self.chosen.range.host, &row, &self.published)?
                    .ok_or_else(missing)?;
                place.content = content;
                place.received_ns = row.received_ns;
                writer.anchor(head, &place)?;
            } else {
                writer.way(head)?;
            }
        }
        Ok(())
    }

    fn placed(&self, services: &Services, from: (u64, u64)) -> Result<Vec<(BatchRow, Proof)>, ExportError> {
        placed(services, self.chosen.host.enrolment.host, from, &self.published)
    }
}

/// The first checkpoint from now on that covers all of it. Blocks.
fn wait_for(
    mut newest: watch::Receiver<Arc<Published>>,
    runtime: &Handle,
    covers: impl Fn(&Published) -> Result<bool, Refused>,
) -> Result<Arc<Published>, Refused> {
    loop {
        let published = Arc::clone(&newest.borrow_and_update());
        if covers(&published)? {
            return Ok(published);
        }
        let changed = async { tokio::time::timeout(COMMIT_WAIT, newest.changed()).await };
        if !matches!(runtime.block_on(changed), Ok(Ok(()))) {
            let detail = "what was asked for is not under a checkpoint yet; try again in a moment";
            return Err(Refused::new(RefusalCode::Unavailable, detail));
        }
    }
}

/// Batches of a host from this one on with their places, as far as they are under the checkpoint. What their frames hash
/// to is left to who reads them.
fn placed(
    services: &Services,
    host: HostId,
    (epoch, number): (u64, u64),
    published: &Published,
) -> Result<Vec<(BatchRow, Proof)>, ExportError> {
    let committed = services.tree.batches(host, (epoch, number), published)?;
    let rows = services.store.batches_from(host, epoch, number, committed.len())?;
    let same = rows.into_iter().zip(committed).take_while(|(row, committed)| row.batch == committed.batch);
    let place = |(row, committed): (BatchRow, custody_ledger::wire::CommittedBatch)| {
        let (index, received_ns) = (committed.index, row.received_ns);
        (row, Proof { index, received_ns, content: Hash::ZERO, hashes: committed.proof })
    };
    Ok(same.map(place).collect())
}

/// The place of a record that is no batch.
fn of_record(services: &Services, index: u64, published: &Published) -> Result<Proof, ExportError> {
    let hashes = services.tree.inclusion(index, published)?.unwrap_or_default();
    Ok(Proof { index, received_ns: 0, content: Hash::ZERO, hashes })
}

/// The place of this one, if it is under the checkpoint.
fn committed(
    services: &Services,
    host: HostId,
    row: &BatchRow,
    published: &Published,
) -> Result<Option<(BatchRow, Proof)>, ExportError> {
    let from = (row.batch.epoch.counter, row.batch.number.0);
    let first = placed(services, host, from, published)?.into_iter().next();
    Ok(first.filter(|(found, _)| found.batch == row.batch))
}
