//! A sink's store read as files: when the sink is down, or by whoever got a copy. Never writes.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::BufReader;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use custody_ledger::retention::BatchMeta;
use custody_ledger::segment::{self, Reader, RecordKind, SegmentError};
use custody_ledger::statement::{Enrolment, Signed};
use custody_ledger::verify::{Head, follow};
use custody_ledger::{Batch, HostId, ReceiptLevel, codec};
use custody_record::search::{Cursor, Evidence};
use custody_record::{Assembler, Facts, Status, View};

mod turns;

/// Deepest folder that is looked into.
const DEPTH_MAX: usize = 4;

/// The segments of a store, in order.
pub(crate) struct Folder {
    files: Vec<PathBuf>,
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
        Ok(Folder { files })
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
        let mut damages = Vec::new();
        for (index, path) in self.files.iter().enumerate() {
            let tail = index + 1 == self.files.len();
            let mut damage = |error| damages.push(Damage { file: path.clone(), error, tail });
            let reader = File::open(path)
                .map_err(SegmentError::Io)
                .and_then(|file| Reader::open(BufReader::new(file)));
            match reader {
                Err(error) => damage(error),
                Ok(reader) => {
                    for record in reader {
                        match record {
                            Ok(record) => take(record)?,
                            Err(error) => damage(error),
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
        self.records(|record| {
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
                    let views = views_of(&batch, &record.meta, host, &mut assembler);
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
    host: Option<&Enrolment>,
    assembler: &mut Assembler,
) -> Vec<View> {
    // Reading shows what is there; whether it holds is `verify`'s question.
    let meta = codec::decode::<BatchMeta>("receipt", meta);
    let expired = meta.as_ref().is_ok_and(|meta| meta.content.is_some());
    let receipt = meta.and_then(|meta| codec::decode::<custody_ledger::Receipt>("receipt", &meta.receipt));
    let (received, status) =
        receipt.map_or((0, Status::Stored), |receipt| (receipt.received_ns, status(receipt.level)));
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

fn status(level: ReceiptLevel) -> Status {
    match level {
        ReceiptLevel::Stored => Status::Stored,
        ReceiptLevel::Committed => Status::Committed,
        ReceiptLevel::Witnessed => Status::Witnessed,
    }
}
