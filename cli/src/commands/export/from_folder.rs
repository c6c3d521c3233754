//! A bundle out of a copy of a store: two walks, one that finds where everything is, one that writes. Holds the log's
//! hashes (64 bytes a record) and a line for each batch of one host.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;

use anyhow::{Context, anyhow};
use custody_ledger::bundle::{Point, Proof, Range, Statements, WAY_WRITTEN_MAX, WriteError, Writer, head_of};
use custody_ledger::retention::{Retention, content_of};
use custody_ledger::segment::{Record, RecordKind};
use custody_ledger::statement::{self, Enrolment, Signed, Statement};
use custody_ledger::tlog::{Checkpoint, MemoryTree, Policy, Witnesses, leaf, proof};
use custody_ledger::{Batch, EpochId, Hash, HostId, PublicKey, Receipt, Seq, SignedReceipt, codec, tree};
use custody_record::Sessions;

use super::Wanted;
use crate::commands::the_session;
use crate::folder::Folder;
use crate::log_folder::LogFolder;
use crate::outcome::Failure;

/// A copy of a store with its log.
pub(super) struct Store<'f> {
    folder: &'f Folder,
    under: Under,
    /// What witnesses cosigned, which is worth more where it has all of a range.
    witnessed: Option<Under>,
    pub(super) policy: Policy,
    tree: MemoryTree,
    /// Name, signed enrolment and its leaf.
    hosts: BTreeMap<HostId, (String, Vec<u8>, u64)>,
    batches: BTreeMap<HostId, Vec<Row>>,
    /// What says that bodies expired, by host.
    stated: BTreeMap<HostId, Vec<Stated>>,
}

/// A statement that bodies of some records expired.
#[derive(Clone, Copy)]
struct Stated {
    /// Its own place.
    index: u64,
    first: u64,
    end: u64,
}

/// A checkpoint, and as it was signed.
struct Under {
    checkpoint: Checkpoint,
    note: String,
}

/// One batch.
#[derive(Clone, Copy)]
struct Row {
    index: u64,
    epoch: EpochId,
    first: Seq,
    last: Seq,
    received_ns: u64,
}

impl<'f> Store<'f> {
    /// The first walk.
    pub(super) fn open(
        folder: &'f Folder,
        log: &LogFolder,
        expected: Option<PublicKey>,
    ) -> Result<Self, Failure> {
        let missing =
            || Failure::negative(anyhow!("there is no log with a checkpoint here: nothing can be proven"));
        let note = log.note.clone().ok_or_else(missing)?;
        let (mut tree, mut hosts) = (MemoryTree::default(), BTreeMap::new());
        let (mut batches, mut key): (BTreeMap<HostId, Vec<Row>>, _) = (BTreeMap::new(), None);
        let mut stated: BTreeMap<HostId, Vec<Stated>> = BTreeMap::new();
        folder.records(|record| -> Result<(), Failure> {
            let index = tree.size();
            let leaf = leaf::of_record(&record)
                .context("a record has no leaf in the log")
                .map_err(Failure::negative)?;
            tree.push(tree::leaf(&leaf));
            match record.kind {
                RecordKind::Enrolment => {
                    if let Ok((enrolment, signer)) = Signed::open::<Enrolment>(&record.payload) {
                        key.get_or_insert(signer);
                        hosts.entry(enrolment.host).or_insert((enrolment.name, record.payload, index));
                    }
                }
                RecordKind::Batch => {
                    if let Some((host, row)) = row_of(&record, index) {
                        batches.entry(host).or_default().push(row);
                    }
                }
                RecordKind::Statement => {
                    let Some(Retention { first, end, hosts, .. }) = retention(&record) else { return Ok(()) };
                    for of in hosts {
                        stated.entry(of.host).or_default().push(Stated { index, first, end });
                    }
                }
                RecordKind::Other(_) => {}
            }
            Ok(())
        })?;
        let sink = expected.or(key).context("no host was ever enrolled here").map_err(Failure::negative)?;
        if expected.is_none() {
            eprintln!(
                "custody: the sink's key is taken from the store itself ({sink}); compare it with one that you hold \
                 (--sink-key)"
            );
        }
        let key = log.key().and_then(|key| Ok(key.verify(&sink)?)).map_err(Failure::negative)?;
        let open = |note: String| -> anyhow::Result<Under> {
            let checkpoint =
                Checkpoint::open_text(&note, &key).context("the log's checkpoint does not hold")?;
            anyhow::ensure!(
                tree.root(checkpoint.size) == Some(checkpoint.root),
                "the records here are not those under the log's checkpoint; `custody verify` says more"
            );
            Ok(Under { checkpoint, note })
        };
        let under = open(note).map_err(Failure::negative)?;
        let witnessed = log.witnessed.clone().map(open).transpose().map_err(Failure::negative)?;
        let policy = Policy { sink, log: key, witnesses: Witnesses::default() };
        Ok(Store { folder, under, witnessed, policy, tree, hosts, batches, stated })
    }

    /// Chooses the range, and writes it in the second walk.
    pub(super) fn write(&self, wanted: &Wanted, whole: bool, out: impl Write) -> Result<(), Failure> {
        let (range, rows) = self.choose(wanted)?;
        let (_, enrolment, index) = self
            .hosts
            .get(&range.host)
            .context("the host was never enrolled here")
            .map_err(Failure::negative)?;
        let stated = self.stated(range.host, &rows);
        let newest = rows.iter().map(|row| row.index).chain(stated.iter().copied()).chain([*index]).max();
        let newest = newest.unwrap_or(u64::MAX);
        let witnessed = self.witnessed.as_ref().filter(|under| newest < under.checkpoint.size);
        let under = witnessed.unwrap_or(&self.under);
        let place = self.place(under, *index, 0, Hash::ZERO)?;
        let mut statements = self.statements(under, &stated)?;
        let writer = Writer::begin(out, &range, &under.note, enrolment, &place, !statements.is_empty());
        let mut writer = Some(writer.map_err(super::write_failed)?);
        let (first, last) = (rows.first().map_or(0, |row| row.index), rows.last().map_or(0, |row| row.index));
        // What leads to the first batch: all batches of its epoch before it, or the last one of them.
        let of_host = self.batches.get(&range.host).map_or(&[][..], Vec::as_slice);
        let before = of_host.iter().filter(|row| row.epoch == range.first.epoch && row.index < first);
        let before: Vec<&Row> = before.collect();
        let anchored = before.len() as u64 > WAY_WRITTEN_MAX;
        let before = if anchored { &before[before.len() - 1..] } else { &before[..] };
        let (mut index, mut way, mut batches) = (0, before.iter().peekable(), rows.iter().peekable());
        self.folder.records(|record| -> Result<(), Failure> {
            let (at, frame) = (index, &record.payload);
            index += 1;
            let Some(writer) = writer.as_mut().filter(|_| at <= last) else { return Ok(()) };
            let damaged = || Failure::negative(anyhow!("a batch cannot be read any more"));
            let content = || content_of(&record);
            if way.next_if(|row| row.index == at).is_some() {
                let head = head_of(frame).ok_or_else(damaged)?;
                if anchored {
                    let row = before.last().ok_or_else(damaged)?;
                    let place = self.place(under, at, row.received_ns, content().map_err(|_| damaged())?)?;
                    writer.anchor(head, &place).map_err(super::write_failed)?;
                } else {
                    writer.way(head).map_err(super::write_failed)?;
                }
            } else if let Some(row) = batches.next_if(|row| row.index == at) {
                let place = self.place(under, at, row.received_ns, content().map_err(|_| damaged())?)?;
                writer.stored(frame, &place, whole, &mut statements).map_err(super::write_failed)?;
            }
            Ok(())
        })?;
        let ended: Result<_, WriteError> = writer.take().map(Writer::end).transpose();
        ended.map(drop).map_err(super::write_failed)
    }

    /// Which statements are about these batches.
    fn stated(&self, host: HostId, rows: &[Row]) -> BTreeSet<u64> {
        let of_host = self.stated.get(&host).map_or(&[][..], Vec::as_slice);
        let about = |stated: &&Stated| {
            let next = rows.partition_point(|row| row.index < stated.first);
            rows.get(next).is_some_and(|row| row.index < stated.end)
        };
        of_host.iter().filter(about).map(|stated| stated.index).collect()
    }

    /// These statements as they are stored: a walk of its own, for they stand behind the batches that they are about.
    fn statements(&self, under: &Under, stated: &BTreeSet<u64>) -> Result<Statements, Failure> {
        let (mut statements, mut index) = (Statements::default(), 0);
        if stated.is_empty() {
            return Ok(statements);
        }
        self.folder.records(|record| -> Result<(), Failure> {
            let at = index;
            index += 1;
            if stated.contains(&at)
                && let Some(retention) = retention(&record)
            {
                let place = self.place(under, at, 0, Hash::ZERO)?;
                statements.push(&retention, record.payload, place).map_err(super::write_failed)?;
            }
            Ok(())
        })?;
        Ok(statements)
    }

    fn place(&self, under: &Under, index: u64, received_ns: u64, content: Hash) -> Result<Proof, Failure> {
        let hashes = proof::inclusion(&self.tree, index, under.checkpoint.size).ok().flatten();
        let hashes = hashes
            .context("something that the bundle needs is not under the log's checkpoint yet")
            .map_err(Failure::negative)?;
        Ok(Proof { index, received_ns, content, hashes })
    }

    /// The range, and the committed batches that hold it.
    fn choose(&self, wanted: &Wanted) -> Result<(Range, Vec<Row>), Failure> {
        let nothing = |what: String| Failure::negative(anyhow!("{what}"));
        let committed = |host: &HostId| -> Vec<Row> {
            let rows = self.batches.get(host).into_iter().flatten();
            rows.filter(|row| row.index < self.under.checkpoint.size).copied().collect()
        };
        let holding = |rows: &[Row], epoch: u64, seq: Seq| -> Option<Row> {
            rows.iter()
                .find(|row| row.epoch.counter == epoch && (row.first..=row.last).contains(&seq))
                .copied()
        };
        let (host, rows, first, last, session) = match wanted {
            Wanted::Session(prefix) => {
                let session = self.session(prefix)?;
                let host: HostId =
                    session.host.parse().map_err(|_| nothing("the host has no id".to_owned()))?;
                let rows = committed(&host);
                let newest =
                    rows.iter().filter(|row| row.epoch.counter == session.epoch).map(|row| row.last).max();
                let last = Seq(session.last_seq).min(newest.unwrap_or(Seq(0)));
                (host, rows, (session.epoch, Seq(session.seq)), (session.epoch, last), Some(Seq(session.seq)))
            }
            Wanted::Entries { host, epoch, first, last } => {
                let host = self.named(host)?;
                (host, committed(&host), (*epoch, *first), (*epoch, *last), None)
            }
            Wanted::Time { host, window } => {
                let host = self.named(host)?;
                let rows = committed(&host);
                let mut within =
                    rows.iter().filter(|row| window.has(i64::try_from(row.received_ns).unwrap_or(i64::MAX)));
                let first = *within
                    .next()
                    .ok_or_else(|| nothing("this host sent nothing in that time".to_owned()))?;
                let last = *within.next_back().unwrap_or(&first);
                (host, rows, (first.epoch.counter, first.first), (last.epoch.counter, last.last), None)
            }
        };
        let find = |(epoch, seq): (u64, Seq)| {
            holding(&rows, epoch, seq).ok_or_else(|| {
                nothing(format!("there is no entry {epoch}/{seq} of this host under the log's checkpoint"))
            })
        };
        let (begins, ends) = (find(first)?, find(last)?);
        let range = Range {
            host,
            first: Point { epoch: begins.epoch, seq: first.1 },
            last: Point { epoch: ends.epoch, seq: last.1 },
            session,
        };
        Ok((range, rows.into_iter().filter(|row| (begins.index..=ends.index).contains(&row.index)).collect()))
    }

    fn session(
        &self,
        prefix: &custody_record::SessionPrefix,
    ) -> Result<custody_record::view::SessionView, Failure> {
        let mut sessions = Sessions::default();
        self.folder.views(|view| -> Result<(), Failure> {
            if view.session_id.is_some_and(|id| prefix.matches(&id)) {
                sessions.fold(&view);
            }
            Ok(())
        })?;
        the_session(&sessions, prefix)
    }

    fn named(&self, name: &str) -> Result<HostId, Failure> {
        let mut named = self.hosts.iter().filter(|(id, host)| host.0 == name || id.to_string() == name);
        match (named.next(), named.next()) {
            (Some((id, _)), None) => Ok(*id),
            (None, _) => Err(Failure::negative(anyhow!("there is no host {name} here"))),
            _ => Err(Failure::negative(anyhow!("several hosts have this name: give the host's id instead"))),
        }
    }
}

/// What a statement says of bodies that go by age; `None` of another one.
fn retention(record: &Record) -> Option<Retention> {
    match Signed::open::<Statement>(&record.payload).ok()?.0.what {
        statement::Stated::Retention(retention) => Some(retention),
        _ => None,
    }
}

fn row_of(record: &Record, index: u64) -> Option<(HostId, Row)> {
    let (header, position) = Batch::decode_header(&record.payload).ok()?;
    let receipt: SignedReceipt = codec::decode("receipt", &record.meta).ok()?;
    let receipt: Receipt = codec::decode("receipt", &receipt.receipt).ok()?;
    let last = Seq(header.first_seq.0.saturating_add(u64::from(header.count).saturating_sub(1)));
    let epoch = position.epoch;
    let row = Row { index, epoch, first: header.first_seq, last, received_ns: receipt.received_ns };
    Some((header.host, row))
}
