//! A sink's store read as files: when the sink is down, or by whoever got a copy. Never writes.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::BufReader;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use custody_ledger::retention::BatchMeta;
use custody_ledger::segment::{self, Reader, RecordKind, SegmentError};
use custody_ledger::statement::{Enrolment, Signed};
use custody_ledger::tlog::Checkpoint;
use custody_ledger::tlog::checkpoint::log_key;
use custody_ledger::verify::{Head, follow};
use custody_ledger::{Batch, HostId, codec};
use custody_record::search::{Cursor, Evidence};
use custody_record::{Assembler, Facts, Status, View};

use crate::log_folder::LogFolder;

mod turns;

/// Deepest folder that is looked into.
const DEPTH_MAX: usize = 4;
/// Number of the first segment of a store.
const FIRST_SEGMENT: u64 = 1;

/// The segments of a store, in order.
pub(crate) struct Folder {
    files: Vec<PathBuf>,
    covers: Covers,
}

/// Leaves that the folder's checkpoints claim to cover: `verify` proves it.
#[derive(Default)]
struct Covers {
    committed: u64,
    witnessed: u64,
}

impl Covers {
    /// Nothing is claimed for what lies in a log that cannot be read: what is wrong with it is `verify`'s question.
    fn of(directory: &Path) -> Self {
        let Ok(log) = LogFolder::find(directory) else { return Covers::default() };
        let Ok(key) = log.key() else { return Covers::default() };
        let size = |note: &Option<String>| {
            let checkpoint = Checkpoint::open_text(note.as_ref()?, &log_key(key.key)).ok()?;
            Some(checkpoint.size)
        };
        Covers { committed: size(&log.note).unwrap_or(0), witnessed: size(&log.witnessed).unwrap_or(0) }
    }

    /// How far the record with this leaf is safe.
    fn level(&self, leaf: u64) -> Status {
        if leaf < self.witnessed {
            Status::Witnessed
        } else if leaf < self.committed {
            Status::Committed
        } else {
            Status::Stored
        }
    }
}

/// Something in the files that is not as it should be.
#[derive(Debug)]
pub(crate) struct Damage {
    pub(crate) file: PathBuf,
    pub(crate) error: SegmentError,
    /// It is at the end of the newest segment: a sink that was writing, or was stopped while it did.
    pub(crate) tail: bool,
}

impl Folder {
    pub(crate) fn open(directory: &Path) -> anyhow::Result<Self> {
        // Before the segments are looked at: a running sink goes on meanwhile.
        let covers = Covers::of(directory);
        let mut files = Vec::new();
        collect(directory, 0, &mut files)
            .with_context(|| format!("cannot read the store in {}", directory.display()))?;
        files.sort_by(|one, two| one.file_name().cmp(&two.file_name()));
        if files.is_empty() {
            bail!(
                "{} holds no segment (*{}): it is no store of a sink",
                directory.display(),
                segment::FILE_SUFFIX
            );
        }
        Ok(Folder { files, covers })
    }

    /// Bytes of all segments.
    pub(crate) fn bytes(&self) -> u64 {
        self.files.iter().filter_map(|file| fs::metadata(file).ok()).map(|facts| facts.len()).sum()
    }

    /// Hands over every record in order; damage ends its file, not the walk.
    pub(crate) fn records<E>(
        &self,
        mut take: impl FnMut(segment::Record) -> Result<(), E>,
    ) -> Result<Vec<Damage>, E> {
        self.leaves(|record, _| take(record))
    }

    /// [`Folder::records`], with the number of each one's leaf in the log; `None` behind records that are not here.
    fn leaves<E>(
        &self,
        mut take: impl FnMut(segment::Record, Option<u64>) -> Result<(), E>,
    ) -> Result<Vec<Damage>, E> {
        let (mut damages, mut leaf) = (Vec::new(), Some(0));
        for (index, path) in self.files.iter().enumerate() {
            let tail = index + 1 == self.files.len();
            let number = path.file_name().and_then(|name| segment::file_number(name.to_str()?));
            leaf = leaf.filter(|_| number == Some(FIRST_SEGMENT + index as u64));
            let mut damage = |error| damages.push(Damage { file: path.clone(), error, tail });
            let reader = File::open(path)
                .map_err(SegmentError::Io)
                .and_then(|file| Reader::open(BufReader::new(file)));
            match reader {
                Err(error) => {
                    leaf = None;
                    damage(error);
                }
                Ok(reader) => {
                    for record in reader {
                        match record {
                            Ok(record) => {
                                take(record, leaf)?;
                                leaf = leaf.map(|leaf| leaf + 1);
                            }
                            Err(error) => {
                                leaf = None;
                                damage(error);
                            }
                        }
                    }
                }
            }
        }
        Ok(damages)
    }

    /// Hands over the view of every entry in order.
    pub(crate) fn views<E>(&self, mut take: impl FnMut(View) -> Result<(), E>) -> Result<Vec<Damage>, E> {
        self.walk(false, |placed| take(placed.view))
    }

    /// Hands over every entry in order, checked against its chain as far as that is here.
    pub(crate) fn checked<E>(&self, take: impl FnMut(Placed) -> Result<(), E>) -> Result<Vec<Damage>, E> {
        self.walk(true, take)
    }

    fn walk<E>(&self, check: bool, mut take: impl FnMut(Placed) -> Result<(), E>) -> Result<Vec<Damage>, E> {
        let mut hosts: BTreeMap<HostId, Enrolment> = BTreeMap::new();
        let mut heads: BTreeMap<HostId, Head> = BTreeMap::new();
        let mut assembler = Assembler::default();
        let mut number = 0;
        self.leaves(|record, leaf| {
            let status = leaf.map_or(Status::Stored, |leaf| self.covers.level(leaf));
            match record.kind {
                RecordKind::Enrolment => {
                    if let Ok((enrolment, _)) = Signed::open::<Enrolment>(&record.payload) {
                        hosts.insert(enrolment.host, enrolment);
                    }
                }
                RecordKind::Batch => {
                    number += 1;
                    let Ok(batch) = Batch::decode(&record.payload) else { return Ok(()) };
                    let host = hosts.get(&batch.header.host);
                    let evidence = if check {
                        evidence(host, &batch, &record.payload, &mut heads)
                    } else {
                        Evidence::unverified("it was not checked")
                    };
                    let views = views_of(&batch, &record.meta, status, host, &mut assembler);
                    for (index, (view, entry)) in (0..).zip(views.into_iter().zip(&batch.entries)) {
                        let evidence = evidence.clone().of_body(entry.body.is_some(), view.expired);
                        take(Placed { view, place: Cursor::of(number - 1, index), evidence })?;
                    }
                }
                RecordKind::Statement | RecordKind::Other(_) => {}
            }
            Ok(())
        })
    }
}

/// An entry with its place in the order of the store.
pub(crate) struct Placed {
    pub(crate) view: View,
    pub(crate) place: Cursor,
    pub(crate) evidence: Evidence,
}

/// Checks a batch as the sink did when it accepted it, and goes on from it whatever came out.
fn evidence(
    host: Option<&Enrolment>,
    batch: &Batch<'_>,
    frame: &[u8],
    heads: &mut BTreeMap<HostId, Head>,
) -> Evidence {
    let id = batch.header.host;
    let Some(host) = host else { return Evidence::unverified("its host was never enrolled here") };
    let before = heads.get(&id);
    let (evidence, head) = match follow(id, &host.key, before, frame) {
        Ok(step) => (Evidence::verified(), Some(step.head)),
        Err(fault) => {
            let host_key = before.and_then(|head| head.host_key);
            let head = Head::after(batch).map(|head| Head { host_key, ..head });
            (Evidence::unverified(fault.to_string()), head)
        }
    };
    heads.extend(head.map(|head| (id, head)));
    evidence
}

fn collect(directory: &Path, depth: usize, files: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        let name = entry.file_name();
        if kind.is_dir() && depth < DEPTH_MAX {
            collect(&entry.path(), depth + 1, files)?;
        } else if kind.is_file() && name.to_str().is_some_and(|name| segment::file_number(name).is_some()) {
            files.push(entry.path());
        }
    }
    Ok(())
}

fn views_of(
    batch: &Batch<'_>,
    meta: &[u8],
    status: Status,
    host: Option<&Enrolment>,
    assembler: &mut Assembler,
) -> Vec<View> {
    // Reading shows what is there; whether it holds is `verify`'s question.
    let meta = codec::decode::<BatchMeta>("receipt", meta);
    let expired = meta.as_ref().is_ok_and(|meta| meta.content.is_some());
    let receipt = meta.and_then(|meta| codec::decode::<custody_ledger::Receipt>("receipt", &meta.receipt));
    let received = receipt.map_or(0, |receipt| receipt.received_ns);
    let host_id = batch.header.host.to_string();
    let nobody = BTreeMap::new();
    let facts = |entry: &custody_ledger::batch::EntryView<'_>| -> View {
        let header = &entry.header;
        assembler.view(&Facts {
            host: header.host.as_bytes(),
            host_id: &host_id,
            host_name: host.map_or(host_id.as_str(), |host| &host.name),
            labels: host.map_or(&nobody, |host| &host.labels),
            epoch: header.epoch.counter,
            nonce: header.epoch.nonce.as_bytes(),
            seq: header.seq.0,
            entry_type: header.entry_type.as_str(),
            session: header.session.map(|seq| seq.0),
            received: i64::try_from(received).unwrap_or(i64::MAX),
            wall: i64::try_from(header.wall_ns).unwrap_or(i64::MAX),
            status,
            body: entry.body.map(|body| body.bytes),
            expired,
        })
    };
    batch.entries.iter().map(facts).collect()
}
