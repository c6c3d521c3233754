//! Stored batches in the order in which they were stored, whoever's they are. Never blocks the writer, and reads
//! nothing that is not durable.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufReader, Seek, SeekFrom};
use std::sync::Arc;

use custody_ledger::retention::BatchMeta;
use custody_ledger::segment::{MAGIC, Reader, Record, RecordKind};
use custody_ledger::{Batch, Receipt, codec};

use super::files::{Segments, failed};
use super::{Place, Store, StoreError, StoredBatch};

impl Store {
    /// Up to where the store is durable; `None` while nothing is stored.
    pub fn durable(&self) -> Result<Option<Place>, StoreError> {
        self.index.covered()
    }

    /// Batches from this place on (`None`: all), up to what is durable now.
    pub fn walk(&self, from: Option<Place>) -> Result<Walk, StoreError> {
        let Some(end) = self.durable()? else {
            let at = Place { segment: 0, offset: 0 };
            return Ok(Walk {
                segments: Arc::clone(&self.segments),
                numbers: VecDeque::new(),
                open: None,
                at,
                end: at,
            });
        };
        let from = from.unwrap_or(Place { segment: 0, offset: 0 });
        let mut numbers: VecDeque<u64> = self.segments.numbers()?.into();
        numbers.retain(|number| (from.segment..=end.segment).contains(number));
        Ok(Walk { segments: Arc::clone(&self.segments), numbers, open: None, at: from, end })
    }
}

/// See [`Store::walk`]. A segment that breaks off is told once, and the walk goes on with the next.
pub struct Walk {
    segments: Arc<Segments>,
    /// Segments that are still to be opened.
    numbers: VecDeque<u64>,
    open: Option<Reader<BufReader<File>>>,
    at: Place,
    end: Place,
}

impl Walk {
    /// Where the next batch will be looked for: what lies before was handed over.
    pub fn place(&self) -> Place {
        self.at
    }

    fn open_next(&mut self) -> Result<bool, StoreError> {
        let Some(number) = self.numbers.pop_front() else {
            self.at = self.end;
            return Ok(false);
        };
        let offset = if number == self.at.segment {
            self.at.offset.max(MAGIC.len() as u64)
        } else {
            MAGIC.len() as u64
        };
        self.at = Place { segment: number, offset };
        let path = self.segments.path(number);
        let mut file = File::open(&path).map_err(failed("open", &path))?;
        file.seek(SeekFrom::Start(offset)).map_err(failed("read", &path))?;
        self.open = Some(Reader::at(BufReader::with_capacity(1 << 20, file), offset));
        Ok(true)
    }

    fn record(&mut self) -> Result<Option<Record>, StoreError> {
        loop {
            let Some(reader) = &mut self.open else {
                if self.open_next()? {
                    continue;
                }
                return Ok(None);
            };
            // Beyond it the writer may be writing.
            let next = if self.at >= self.end { None } else { reader.next() };
            match next {
                None => self.open = None,
                Some(Ok(record)) => {
                    self.at.offset = record.offset + record.length;
                    return Ok(Some(record));
                }
                Some(Err(error)) => {
                    let detail = format!("{}: {error}", self.segments.path(self.at.segment).display());
                    self.open = None;
                    return Err(StoreError::Damaged { detail });
                }
            }
        }
    }
}

impl Iterator for Walk {
    type Item = Result<StoredBatch, StoreError>;
    fn next(&mut self) -> Option<Self::Item> {
        loop {
            match self.record() {
                Ok(Some(record)) if record.kind == RecordKind::Batch => return Some(batch(record)),
                Ok(Some(_)) => {}
                Ok(None) => return None,
                Err(error) => return Some(Err(error)),
            }
        }
    }
}

fn batch(record: Record) -> Result<StoredBatch, StoreError> {
    let (header, position) = Batch::decode_header(&record.payload)
        .map_err(|error| StoreError::Damaged { detail: error.to_string() })?;
    let meta = BatchMeta::of(&record)?;
    let receipt: Receipt = codec::decode("receipt", &meta.receipt)?;
    Ok(StoredBatch {
        host: header.host,
        batch: position,
        received_ns: receipt.received_ns,
        frame: record.payload,
        expired: meta.content.is_some(),
    })
}
