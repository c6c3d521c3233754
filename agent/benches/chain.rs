//! What evidence costs: entries hashed, chained and signed, and the same spooled with a sync for each batch, beside
//! plain SHA-256 of the same bytes: `cargo xtask bench chain`. Not a test: it prints speeds, in rounds that alternate.
//!
//! By wall time, for a sync waits; nothing else runs in this process.

use std::time::Instant;

use anyhow::Result;
use custody_agent::config;
use custody_agent::spool::Spool;
use custody_ledger::{BootId, Chain, Draft, EntryType, HostId, HostKey};

const ROUNDS: usize = 5;
/// Bytes of bodies in one round, and entries at most.
const ROUND_BYTES: usize = 16 << 20;
const ENTRIES_MAX: usize = 20_000;
const BODY_BYTES: [usize; 3] = [256, 1 << 10, 16 << 10];

/// What is done with the bodies.
#[derive(Clone, Copy)]
enum Work {
    Sha256,
    Chain,
    Spool,
}

/// Seconds for `count` entries of this body.
fn round(work: Work, body: &[u8], count: usize) -> Result<f64> {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let mut spool = Spool::open(folder.path(), &config::Spool::default())?.0;
    let (key, _) = HostKey::generate()?;
    let mut chain = Chain::start(&key, HostId::from_bytes([1; 16]), BootId([2; 16]), 1, None)?;
    let draft = Draft {
        entry_type: EntryType::Exchange,
        first_ns: 1,
        last_ns: 2,
        wall_ns: 3,
        session: None,
        body,
        sealed: None,
    };
    let begun = Instant::now();
    for entry in 1..=count {
        if let Work::Sha256 = work {
            std::hint::black_box(ring::digest::digest(&ring::digest::SHA256, std::hint::black_box(body)));
            continue;
        }
        chain.append(&draft)?;
        if chain.pending().is_due() || entry == count {
            let batch = chain.close_batch(Default::default(), Default::default())?;
            if let Work::Spool = work {
                spool.append(&batch)?;
                spool.sync()?;
            }
        }
    }
    Ok(begun.elapsed().as_secs_f64())
}

fn main() -> Result<()> {
    let works =
        [("sha-256", Work::Sha256), ("chained and signed", Work::Chain), ("spooled, synced", Work::Spool)];
    let rows: Vec<_> =
        BODY_BYTES.iter().flat_map(|bytes| works.map(|(name, work)| (name, work, *bytes))).collect();
    let mut rounds = vec![Vec::new(); rows.len()];
    // Bytes that do not compress to nothing: the spool would be quicker than any real one.
    let random = ring::rand::SystemRandom::new();
    let mut body = vec![0; BODY_BYTES[2]];
    ring::rand::SecureRandom::fill(&random, &mut body).map_err(|_| anyhow::anyhow!("no random bytes"))?;
    for _ in 0..ROUNDS {
        for ((_, work, bytes), rounds) in rows.iter().zip(&mut rounds) {
            let count = (ROUND_BYTES / bytes).min(ENTRIES_MAX);
            rounds.push(count as f64 / round(*work, &body[..*bytes], count)?);
        }
    }
    println!("entries of a body, per second of wall time; median (least to most) of {ROUNDS} rounds");
    for ((name, _, bytes), rounds) in rows.iter().zip(&mut rounds) {
        rounds.sort_by(f64::total_cmp);
        let [least, median, most] =
            [rounds[0], rounds[ROUNDS / 2], rounds[ROUNDS - 1]].map(|rate| rate * *bytes as f64 / 1e6);
        let name = format!("{name}, {bytes} B");
        println!(
            "  {name:28} {median:7.1} MB/s ({least:.1} to {most:.1})   {:7.0} entries/s",
            rounds[ROUNDS / 2]
        );
    }
    Ok(())
}
