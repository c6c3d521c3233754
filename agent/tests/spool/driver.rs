//! The steps of an agent with its spool, over several starts, in a process of its own; and what it says of them.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use custody_agent::config;
use custody_agent::spool::Spool;
use custody_ledger::{
    BootId, Chain, Draft, Echo, EntryType, Hash, HostId, HostKey, Position, SignedBatch, tree,
};

/// Names the folder of a run; without it the driver does nothing.
pub(crate) const DRIVER_FOLDER: &str = "CUSTODY_SPOOL_DRIVER";

/// Epoch and number of a batch.
pub(crate) type Place = (u64, u64);

/// What the driver knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    /// It is about to be written, with this hash over its frame.
    Appended(Place, Hash),
    /// The spool gave it out to be sent.
    Left(Place),
    /// It and all before it are about to be freed.
    Freeing(Place),
    /// It was put aside.
    Aside(Place),
    /// The driver came to its end.
    Ended,
}

/// What the driver in this folder said.
pub(crate) fn told(folder: &Path) -> Vec<Told> {
    told_with_places(folder).into_iter().map(|(told, _)| told).collect()
}

/// With how long the log of calls was at each.
pub(crate) fn told_with_places(folder: &Path) -> Vec<(Told, usize)> {
    let text = std::fs::read_to_string(folder.join("told")).unwrap_or_default();
    let mut told = Vec::new();
    for line in text.lines() {
        let fields: Vec<&str> = line.split(' ').collect();
        let number = |index: usize| fields[index].parse::<u64>().unwrap();
        let place = || (number(2), number(3));
        let one = match fields[1] {
            "appended" => Told::Appended(place(), Hash(hash(fields[4]))),
            "left" => Told::Left(place()),
            "freeing" => Told::Freeing(place()),
            "aside" => Told::Aside(place()),
            _ => Told::Ended,
        };
        told.push((one, number(0) as usize));
    }
    told
}

fn hash(text: &str) -> [u8; 32] {
    std::array::from_fn(|index| u8::from_str_radix(&text[2 * index..2 * index + 2], 16).unwrap())
}

struct Driver {
    folder: PathBuf,
    told: std::fs::File,
    chains: BTreeMap<u64, Chain>,
}

fn place(position: &Position) -> String {
    format!("{} {}", position.epoch.counter, position.number.0)
}

impl Driver {
    fn tell(&mut self, what: &str) {
        let calls = std::fs::metadata(self.folder.join("calls")).map_or(0, |facts| facts.len());
        self.told.write_all(format!("{calls} {what}\n").as_bytes()).unwrap();
    }

    fn batch(&mut self, epoch: u64) -> SignedBatch {
        let chain = self.chains.entry(epoch).or_insert_with(|| {
            let (key, _) = HostKey::generate().unwrap();
            Chain::start(&key, HostId::from_bytes([7; 16]), BootId([1; 16]), epoch, None).unwrap()
        });
        let body = vec![epoch as u8; 300];
        chain.append(&Draft::new(EntryType::Heartbeat, &body)).unwrap();
        chain.close_batch(BTreeMap::new(), Echo::default()).unwrap()
    }

    fn append(&mut self, spool: &mut Spool, epoch: u64, count: usize) -> anyhow::Result<()> {
        for _ in 0..count {
            let batch = self.batch(epoch);
            self.tell(&format!("appended {} {}", place(&batch.position), tree::hash_of(&batch.frame)));
            spool.append(&batch)?;
        }
        Ok(())
    }

    /// What the forwarder would send now.
    fn leave(&mut self, spool: &Spool) -> anyhow::Result<Vec<Position>> {
        let unsent = spool.unsent(usize::MAX, usize::MAX)?;
        for (position, _) in &unsent {
            self.tell(&format!("left {}", place(position)));
        }
        Ok(unsent.into_iter().map(|(position, _)| position).collect())
    }

    fn free(&mut self, spool: &mut Spool, position: &Position) -> anyhow::Result<()> {
        self.tell(&format!("freeing {}", place(position)));
        spool.free(position).map(drop)
    }

    /// One start of the agent: it takes up what is there, records, sends, frees, and ends without an order.
    fn start(&mut self, epoch: u64) -> anyhow::Result<()> {
        let limits = config::Spool { segment_bytes: 1_500, ..config::Spool::default() };
        let (mut spool, _) = Spool::open(&self.folder.join("state"), &limits)?;
        self.leave(&spool)?;
        self.append(&mut spool, epoch, 4)?;
        spool.sync()?;
        let sent = self.leave(&spool)?;
        if let [first, second, ..] = sent[..] {
            spool.mark_sent(&second);
            self.free(&mut spool, &first)?;
        }
        self.append(&mut spool, epoch, 3)?;
        spool.sync()?;
        self.leave(&spool)?;
        if let Some(refused) = spool.put_aside()? {
            self.tell(&format!("aside {}", place(&refused)));
        }
        self.append(&mut spool, epoch, 2)?;
        spool.sync()?;
        let sent = self.leave(&spool)?;
        if let [.., last, _] = sent[..] {
            spool.mark_sent(&last);
            self.free(&mut spool, &last)?;
        }
        // Written, and never synced by this start.
        self.append(&mut spool, epoch, 1)
    }
}

#[test]
fn drives_a_spool() {
    let Some(folder) = std::env::var_os(DRIVER_FOLDER).map(PathBuf::from) else { return };
    let told = std::fs::File::options().create(true).append(true).open(folder.join("told")).unwrap();
    let mut driver = Driver { folder, told, chains: BTreeMap::new() };
    for epoch in 1..=4 {
        // What goes wrong ends a start, and the next one takes it up.
        if let Err(error) = driver.start(epoch) {
            println!("start {epoch}: {error:#}");
        }
    }
    driver.tell("ended");
}
