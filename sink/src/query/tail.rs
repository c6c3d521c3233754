//! `GET /v1/tail`: stored entries as lines of JSON, then, with `follow`, those that come.
//!
//! A slow reader slows nobody else: what is behind by more than the subscription holds is told to it as missed, and
//! one that takes nothing for [`STALL_MAX`] is cut. While nothing comes, an empty line says that the sink lives.

use std::collections::{HashMap, VecDeque};
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{Query, State as Shared};
use axum::http::{HeaderValue, Response, header};
use custody_ledger::wire::RefusalCode;
use custody_ledger::{HostId, Seq};
use custody_record::view::{Notice, TailLine};
use hyper::body::Frame;
use serde::Serialize;
use tokio::sync::broadcast::{self, error::RecvError};
use tokio::sync::mpsc;

use super::hosts::SILENCE_NS;
use super::parameters::{Parameters, Wanted};
use super::past::{self, Past, WINDOWS};
use super::sight::Sight;
use super::views::{self, Viewer};
use super::{LOOK_MAX, blocking, store_trouble};
use crate::clock::now_ns;
use crate::http::{Caller, Refused, Services, State};
use crate::store::{HostRow, StoreError, StoredBatch};

/// A reader that takes nothing for so long is cut.
const STALL_MAX: Duration = Duration::from_secs(60);
/// How often the sink says that it lives, and looks for hosts that fell silent.
const ALIVE: Duration = Duration::from_secs(10);
/// Pieces of the answer that wait for the reader.
const PIECES_MAX: usize = 16;
/// Lines are handed over once they are this many bytes.
const PIECE_BYTES: usize = 64 << 10;
/// The newest lines that are held to be sent, bytes.
const NEWEST_BYTES_MAX: usize = 64 << 20;

/// Entries of a host up to here were sent, or were not wanted.
type Reached = HashMap<HostId, (u64, Seq)>;

pub(super) async fn tail(
    Shared(services): Shared<State>,
    caller: Caller,
    query: Result<Query<Parameters>, axum::extract::rejection::QueryRejection>,
) -> Result<Response<Body>, Refused> {
    let sight = Sight::of(&caller)?;
    let reader = sight.reader.clone();
    let wanted = Wanted::of(query)?;
    let Ok(room) = Arc::clone(&services.readers).try_acquire_owned() else {
        return Err(Refused::new(
            RefusalCode::Busy,
            "as many readers follow as this sink serves; try again later",
        ));
    };
    tracing::info!(reader, follow = wanted.follow, "tail begins");
    // Before the past is read, so that nothing falls between.
    let live = wanted.follow.then(|| services.store.subscribe());
    let (pieces, body) = mpsc::channel(PIECES_MAX);
    tokio::spawn(async move {
        let lines = Lines { pieces, pending: Vec::new() };
        let end = match follow(services, caller, sight, wanted, live, lines).await {
            Ok(()) => "done",
            Err(End::Gone) => "the reader went away",
            Err(End::Revoked) => "the reader's certificate was revoked",
            Err(End::Stalled) => "the reader took nothing for too long and is cut",
            // Logged where it was made.
            Err(End::Failed) => "something could not be read",
        };
        tracing::info!(reader, end, "tail ends");
        drop(room);
    });
    let mut response = Response::new(Body::new(Pieces(body)));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"));
    Ok(response)
}

/// Why an answer ends before its end.
enum End {
    Gone,
    Revoked,
    Stalled,
    Failed,
}

impl From<StoreError> for End {
    fn from(error: StoreError) -> Self {
        store_trouble(error);
        End::Failed
    }
}

async fn follow(
    services: State,
    caller: Caller,
    sight: Sight,
    wanted: Wanted,
    live: Option<broadcast::Receiver<Arc<StoredBatch>>>,
    lines: Lines,
) -> Result<(), End> {
    let runtime = tokio::runtime::Handle::current();
    let (shared, seen, asked) = (Arc::clone(&services), sight.clone(), wanted.clone());
    // Reading files blocks, and a slow reader makes it wait: a thread of its own, of which there are enough for
    // all readers.
    let past = blocking(move || {
        let mut lines = lines;
        let mut viewer = Viewer::new(&shared.tree);
        let told = told_before(&shared, &seen, &asked, &mut viewer, &mut |line: &Line<'_>| {
            lines.put(line)?;
            if lines.is_full() { runtime.block_on(lines.flush()) } else { Ok(()) }
        });
        Ok(told.map(|reached| (reached, viewer, lines)))
    });
    let (reached, viewer, mut lines) = past.await.map_err(|_| End::Failed)??;
    lines.flush().await?;
    let Some(live) = live else { return Ok(()) };
    Live { services, caller, sight, wanted, viewer, reached, hosts: HashMap::new(), silent: HashMap::new() }
        .run(live, lines)
        .await
}

/// One line to put.
enum Line<'a> {
    Tail(&'a TailLine),
    /// Made before.
    Ready(&'a [u8]),
}

/// Puts what is stored; returns how far each host was read.
fn told_before(
    services: &Services,
    sight: &Sight,
    wanted: &Wanted,
    viewer: &mut Viewer,
    put: &mut dyn FnMut(&Line<'_>) -> Result<(), End>,
) -> Result<Reached, End> {
    let (hosts, known) = past::hosts(&services.store, sight, wanted)?;
    let shown = Notice::Hosts { shown: hosts.len() as u64, known: known as u64 };
    put(&Line::Tail(&TailLine::Notice(shown)))?;
    let newest = wanted.lines.filter(|_| wanted.since.is_none());
    let now = views::signed(now_ns());
    for window in WINDOWS {
        let since = wanted.since.or(window.filter(|_| newest.is_some()).map(|window| now - window));
        let mut read =
            Read { kept: VecDeque::new(), bytes: 0, dropped: false, looked: 0, reached: Reached::new() };
        read.all(services, &hosts, wanted, since, viewer, put)?;
        let enough = newest.is_none_or(|newest| read.kept.len() >= newest);
        if enough || since.is_none() || read.looked > LOOK_MAX {
            read.kept.iter().try_for_each(|line| put(&Line::Ready(line)))?;
            if read.looked > LOOK_MAX || read.dropped {
                put(&Line::Tail(&TailLine::Notice(Notice::Incomplete(read.looked))))?;
            }
            return Ok(read.reached);
        }
    }
    Ok(Reached::new())
}

/// One walk through the past.
struct Read {
    /// The newest lines, where only so many are wanted.
    kept: VecDeque<Vec<u8>>,
    bytes: usize,
    /// Lines were dropped for want of room.
    dropped: bool,
    looked: u64,
    reached: Reached,
}

impl Read {
    fn all(
        &mut self,
        services: &Services,
        hosts: &[HostRow],
        wanted: &Wanted,
        since: Option<i64>,
        viewer: &mut Viewer,
        put: &mut dyn FnMut(&Line<'_>) -> Result<(), End>,
    ) -> Result<(), End> {
        let mut past = Past::open(&services.store, hosts, since)?;
        while let Some((host, entry)) = past.next()? {
            self.looked += 1;
            if self.looked > LOOK_MAX {
                break;
            }
            let (_, view) = viewer.view(&services.store, host, &entry)?;
            self.reached.insert(entry.header.host, (entry.header.epoch.counter, entry.header.seq));
            if wanted.has(&view) {
                let line = TailLine::Entry(Box::new(view));
                match wanted.lines {
                    Some(lines) => self.keep(&line, lines)?,
                    None => put(&Line::Tail(&line))?,
                }
            }
        }
        Ok(())
    }

    fn keep(&mut self, line: &TailLine, lines: usize) -> Result<(), End> {
        let line = written(line)?;
        self.bytes += line.len();
        self.kept.push_back(line);
        while self.kept.len() > lines || self.bytes > NEWEST_BYTES_MAX {
            self.dropped |= self.kept.len() <= lines;
            self.bytes -= self.kept.pop_front().map_or(0, |line| line.len());
        }
        Ok(())
    }
}

/// What follows the past.
struct Live {
    services: State,
    caller: Caller,
    sight: Sight,
    wanted: Wanted,
    viewer: Viewer,
    reached: Reached,
    /// Those that batches came from; `None` when it is not seen.
    hosts: HashMap<HostId, Option<HostRow>>,
    /// Hosts whose silence was told, with when they were heard last.
    silent: HashMap<HostId, u64>,
}

impl Live {
    async fn run(
        mut self,
        mut live: broadcast::Receiver<Arc<StoredBatch>>,
        mut lines: Lines,
    ) -> Result<(), End> {
        let mut stopping = self.services.stopping.clone();
        let mut alive = tokio::time::interval(ALIVE);
        loop {
            tokio::select! {
                batch = live.recv() => match batch {
                    Ok(batch) => {
                        self.batch(&batch, &mut lines)?;
                        // What came meanwhile goes out with it.
                        if !live.is_empty() && !lines.is_full() {
                            continue;
                        }
                    }
                    Err(RecvError::Lagged(missed)) => {
                        lines.put(&Line::Tail(&TailLine::Notice(Notice::Missed(missed))))?;
                    }
                    Err(RecvError::Closed) => return Ok(()),
                },
                _ = alive.tick() => {
                    if self.services.is_revoked(&self.caller).map_err(|_| End::Failed)? {
                        return Err(End::Revoked);
                    }
                    self.look_for_silence(&mut lines)?;
                    lines.put(&Line::Ready(b"\n"))?;
                }
                _ = stopping.changed() => return Ok(()),
                () = lines.pieces.closed() => return Err(End::Gone),
            }
            lines.flush().await?;
        }
    }

    fn batch(&mut self, batch: &StoredBatch, lines: &mut Lines) -> Result<(), End> {
        if !self.hosts.contains_key(&batch.host) {
            let row = self.sight.host(&self.services.store, batch.host)?;
            self.hosts.insert(batch.host, row);
        }
        let Some(Some(host)) = self.hosts.get(&batch.host) else { return Ok(()) };
        if !self.wanted.admits(host) {
            return Ok(());
        }
        for entry in batch.entries()? {
            let place = (entry.header.epoch.counter, entry.header.seq);
            if self.reached.get(&batch.host).is_some_and(|reached| place <= *reached) {
                continue;
            }
            let (_, view) = self.viewer.view(&self.services.store, host, &entry)?;
            if self.wanted.has(&view) {
                lines.put(&Line::Tail(&TailLine::Entry(Box::new(view))))?;
            }
        }
        Ok(())
    }

    fn look_for_silence(&mut self, lines: &mut Lines) -> Result<(), End> {
        let now = now_ns();
        for host in self.sight.hosts(&self.services.store)? {
            let id = host.enrolment.host;
            let Some(heard) = host.received_ns.filter(|heard| now.saturating_sub(*heard) > SILENCE_NS) else {
                self.silent.remove(&id);
                continue;
            };
            if self.wanted.admits(&host) && self.silent.insert(id, heard) != Some(heard) {
                let last = host.head.as_ref().map_or_else(String::new, |head| {
                    let seq = head.next_seq.0.saturating_sub(1);
                    format!("{}/{}/{seq}", host.enrolment.name, head.batch.epoch.counter)
                });
                let host_name = host.enrolment.name;
                let notice = Notice::Silent { host_name, since: views::signed(heard), last };
                lines.put(&Line::Tail(&TailLine::Notice(notice)))?;
            }
        }
        Ok(())
    }
}

/// Lines on their way to the reader.
struct Lines {
    pieces: mpsc::Sender<Bytes>,
    pending: Vec<u8>,
}

impl Lines {
    fn put(&mut self, line: &Line<'_>) -> Result<(), End> {
        match line {
            Line::Tail(line) => self.pending.extend(written(line)?),
            Line::Ready(line) => self.pending.extend_from_slice(line),
        }
        Ok(())
    }

    fn is_full(&self) -> bool {
        self.pending.len() >= PIECE_BYTES
    }

    async fn flush(&mut self) -> Result<(), End> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let piece = Bytes::from(std::mem::take(&mut self.pending));
        match tokio::time::timeout(STALL_MAX, self.pieces.send(piece)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(End::Gone),
            Err(_) => Err(End::Stalled),
        }
    }
}

fn written(line: &impl Serialize) -> Result<Vec<u8>, End> {
    let mut bytes = serde_json::to_vec(line).map_err(|_| End::Failed)?;
    bytes.push(b'\n');
    Ok(bytes)
}

/// The answer's body.
struct Pieces(mpsc::Receiver<Bytes>);

impl hyper::body::Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(context).map(|piece| piece.map(|piece| Ok(Frame::data(piece))))
    }
}
