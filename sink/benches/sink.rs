//! What a sink carries: batches of simulated hosts over real TLS into the real program, with its own settings but for
//! the disk's reserve; then the whole store verified by `custody verify`, beside plain SHA-256 of the same bytes:
//! `cargo xtask bench sink`. Not a test: it prints one JSON object for each row.
//!
//! All batches are signed before the clock starts; hosts, sink and its index of words share the machine.

use std::collections::BTreeMap;
use std::ops::Range;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use custody_ledger::chain::Echo;
use custody_ledger::wire::{self, AppendResponse, CommittedQuery, CommittedResponse};
use custody_ledger::{Chain, Draft, EntryType, SignedBatch};
use custody_record::{Kind, Record, Times, Value, names};
use custody_tests::process::{cpu_ticks, memory_mib};
use http_body_util::{BodyExt, Full};
use hyper::Method;
use hyper::body::Bytes;
use hyper::client::conn::http1::SendRequest;
use serde_json::json;
use support::{Host, Sink, request};
use tokio::task::JoinSet;

#[expect(
    dead_code,
    clippy::unwrap_used,
    reason = "shared with the tests, which use the rest and end at what fails"
)]
#[path = "../tests/support/mod.rs"]
mod support;

/// Names `custody` for the verification.
const VERIFIER: &str = "CUSTODY_PROGRAM";
const SETTINGS: &str = "[store]\ndisk_reserve_bytes = 0";
/// Longest body of a request that this bench sends, bytes; agents send up to the limit.
const REQUEST_BYTES: usize = 2 << 20;
/// How long one answer about what is committed may wait, ms.
const COMMITTED_WAIT_MS: u64 = 5_000;

/// Times of a process among what [`cpu_ticks`] reads, user and system: its own, and those of children that ended.
const OWN: Range<usize> = 11..13;
const ENDED: Range<usize> = 13..15;

/// What hosts send.
struct Load {
    row: &'static str,
    hosts: usize,
    batches: usize,
    entries: usize,
    /// From one batch of a host to its next; at once if zero.
    pause: Duration,
}

const LOADS: [Load; 4] = [
    Load { row: "full batches, 4 hosts", hosts: 4, batches: 512, entries: 256, pause: Duration::ZERO },
    Load { row: "single entries, 20 hosts", hosts: 20, batches: 1_000, entries: 1, pause: Duration::ZERO },
    Load {
        row: "20 hosts, 5 batches/s",
        hosts: 20,
        batches: 50,
        entries: 64,
        pause: Duration::from_millis(200),
    },
    Load {
        row: "1,000 hosts, heartbeats",
        hosts: 1_000,
        batches: 2,
        entries: 4,
        pause: Duration::from_secs(10),
    },
];

/// What one host saw.
#[derive(Default)]
struct Seen {
    /// Milliseconds from sending to the receipt `stored`, by batch.
    stored: Vec<f64>,
    /// Milliseconds from sending to a checkpoint with proof, by batch.
    committed: Vec<f64>,
}

struct Simulated {
    host: Host,
    batches: Vec<SignedBatch>,
    appending: SendRequest<Full<Bytes>>,
    asking: SendRequest<Full<Bytes>>,
}

fn main() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    LOADS.iter().try_for_each(|load| runtime.block_on(measure(load)))
}

async fn measure(load: &Load) -> Result<()> {
    let mut sink = Sink::configured(SETTINGS);
    sink.spawn();
    let mut hosts = Vec::new();
    let token = sink.token(&["--host", "--uses", &load.hosts.to_string()]);
    for number in 0..load.hosts {
        let host = sink.enrol_with(&token).await?;
        let batches = sign(&host, load, number)?;
        let appending = sink.connect(Some(&host.credentials)).await.map_err(|error| anyhow!(error))?;
        let asking = sink.connect(Some(&host.credentials)).await.map_err(|error| anyhow!(error))?;
        hosts.push(Simulated { host, batches, appending, asking });
    }
    let bytes: usize = hosts.iter().flat_map(|host| &host.batches).map(|batch| batch.frame.len()).sum();
    let plain = (load.pause.is_zero()).then(|| sha256(&hosts));

    let (begun, cpu) = (Instant::now(), cpu_seconds(sink.pid(), OWN)?);
    let mut running = JoinSet::new();
    for (number, host) in hosts.into_iter().enumerate() {
        // Hosts do not beat in step.
        let first = begun + load.pause.mul_f64(number as f64 / load.hosts as f64);
        running.spawn(host.run(first, load.pause));
    }
    let mut seen = Seen::default();
    while let Some(one) = running.join_next().await {
        let one = one??;
        seen.stored.extend(one.stored);
        seen.committed.extend(one.committed);
    }
    let seconds = begun.elapsed().as_secs_f64();
    let batches = load.hosts * load.batches;
    ensure!(seen.committed.len() == batches, "{} of {batches} batches are committed", seen.committed.len());
    let entries = batches * load.entries;
    let per_second = |count: usize| count as f64 / seconds;
    let mut figures = json!({
        "entries": per_second(entries),
        "leaves": per_second(batches),
        "speed": per_second(bytes) / 1e6,
        "CPU": (cpu_seconds(sink.pid(), OWN)? - cpu) * 1e6 / entries as f64,
        "memory": memory_mib(sink.pid(), "VmHWM"),
    });
    for (name, times) in [("stored", &mut seen.stored), ("committed", &mut seen.committed)] {
        times.sort_by(f64::total_cmp);
        for (share, label) in [(0.50, "p50"), (0.99, "p99"), (1.0, "max")] {
            let index = ((times.len() - 1) as f64 * share) as usize;
            figures[format!("{name} {label}")] = json!(times[index]);
        }
    }
    println!("{}", json!({ "row": load.row, "figures": figures }));
    sink.stop();
    if let Some(plain) = plain {
        println!("{}", json!({ "row": format!("SHA-256 of {}", load.row), "figures": { "speed": plain } }));
        let (seconds, cpu) = verify(&sink)?;
        let figures = json!({
            "entries": entries as f64 / seconds,
            "leaves": batches as f64 / seconds,
            "speed": bytes as f64 / seconds / 1e6,
            "CPU": cpu * 1e6 / entries as f64,
        });
        println!("{}", json!({ "row": format!("verify {}", load.row), "figures": figures }));
    }
    Ok(())
}

/// The host's batches, each with entries as an HTTP server makes them.
fn sign(host: &Host, load: &Load, number: usize) -> Result<Vec<SignedBatch>> {
    let mut chain = host.epoch(1, None);
    let mut exchange = 0;
    let mut close = |chain: &mut Chain| -> Result<SignedBatch> {
        for _ in 0..load.entries {
            exchange += 1;
            let body = record(number, exchange)?;
            chain.append(&Draft {
                entry_type: EntryType::Exchange,
                first_ns: exchange,
                last_ns: exchange + 1,
                wall_ns: exchange,
                session: None,
                body: &body,
                sealed: None,
            })?;
        }
        Ok(chain.close_batch(BTreeMap::new(), Echo::default())?)
    };
    (0..load.batches).map(|_| close(&mut chain)).collect()
}

fn record(host: usize, exchange: u64) -> Result<Vec<u8>> {
    let fields = [
        (names::HTTP_METHOD, Value::from("POST")),
        (names::URL_PATH, Value::from(format!("/v1/orders/{exchange:x}/items").as_str())),
        (names::SERVER_ADDRESS, Value::from(format!("10.0.{}.{}", host / 250, host % 250).as_str())),
        (names::SERVER_PORT, Value::from(8443u64)),
        (names::HTTP_STATUS, Value::from(200u64)),
        (names::DURATION, Value::from(1_500 + exchange % 977)),
    ];
    let record = Record {
        kind: Kind::Exchange,
        session: None,
        exchange: Some(exchange),
        times: Times { first_ns: exchange, last_ns: exchange + 1 },
        fields: fields.into_iter().map(|(name, value)| (name.into(), value)).collect(),
        masked: Vec::new(),
        kinds: BTreeMap::new(),
        anomalies: Vec::new(),
    };
    Ok(record.encode()?)
}

impl Simulated {
    /// Appends as an agent does, the next request with all that is due, and asks beside that what is committed.
    async fn run(self, first: Instant, pause: Duration) -> Result<Seen> {
        let Simulated { host, batches, mut appending, mut asking } = self;
        let (told, mut sent) = tokio::sync::mpsc::unbounded_channel();
        let id = host.id;
        let committed = tokio::spawn(async move {
            let (mut times, mut waiting) = (Vec::new(), Vec::new());
            while let Some(news) = sent.recv().await {
                waiting.push(news);
                while let Ok(more) = sent.try_recv() {
                    waiting.push(more);
                }
                while let Some(&(number, _)) = waiting.first() {
                    let query = CommittedQuery {
                        epoch: 1,
                        number,
                        wait_ms: COMMITTED_WAIT_MS,
                        ..CommittedQuery::default()
                    };
                    let path = wire::committed_path(id, &query);
                    let body = ask(&mut asking, Method::GET, &path, Vec::new()).await?;
                    let answer: CommittedResponse = wire::decode(&body)?;
                    let proven = answer.batches.last().map_or(0, |last| last.batch.number.0 + 1);
                    times.extend(
                        waiting
                            .iter()
                            .filter(|(number, _)| *number < proven)
                            .map(|(_, at): &(u64, Instant)| milliseconds(*at)),
                    );
                    waiting.retain(|(number, _)| *number >= proven);
                    while let Ok(more) = sent.try_recv() {
                        waiting.push(more);
                    }
                }
            }
            anyhow::Ok(times)
        });
        let mut stored = Vec::new();
        let mut next = 0;
        while next < batches.len() {
            tokio::time::sleep_until((first + pause * u32::try_from(next)?).into()).await;
            let (mut body, begin) = (Vec::new(), next);
            while next < batches.len() && (body.is_empty() || pause.is_zero() && body.len() < REQUEST_BYTES) {
                wire::put_frame(&mut body, &batches[next].frame);
                next += 1;
            }
            let at = Instant::now();
            let body = ask(&mut appending, Method::POST, &wire::batches_path(id), body).await?;
            let answer: AppendResponse = wire::decode(&body)?;
            ensure!(answer.refusal.is_none(), "refused: {:?}", answer.refusal);
            ensure!(answer.receipts.len() == next - begin, "{} receipts", answer.receipts.len());
            for batch in &batches[begin..next] {
                stored.push(milliseconds(at));
                told.send((batch.position.number.0, at))?;
            }
        }
        drop(told);
        Ok(Seen { stored, committed: committed.await?? })
    }
}

async fn ask(to: &mut SendRequest<Full<Bytes>>, method: Method, path: &str, body: Vec<u8>) -> Result<Bytes> {
    let request = request(method, path, body).map_err(|error| anyhow!(error))?;
    to.ready().await?;
    let response = to.send_request(request).await?;
    Ok(response.into_body().collect().await?.to_bytes())
}

fn milliseconds(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e3
}

/// MB/s of one thread over all frames.
fn sha256(hosts: &[Simulated]) -> f64 {
    let (begun, mut bytes) = (Instant::now(), 0);
    for batch in hosts.iter().flat_map(|host| &host.batches) {
        std::hint::black_box(ring::digest::digest(&ring::digest::SHA256, &batch.frame));
        bytes += batch.frame.len();
    }
    bytes as f64 / begun.elapsed().as_secs_f64() / 1e6
}

/// Seconds that `custody verify` takes for the whole store, its start included, and those of CPU.
fn verify(sink: &Sink) -> Result<(f64, f64)> {
    let program =
        std::env::var(VERIFIER).context("run it as `cargo xtask bench sink`: the verifier is not named")?;
    let (begun, cpu) = (Instant::now(), cpu_seconds(std::process::id(), ENDED)?);
    let output = Command::new(program).arg("verify").arg("--from").arg(sink.state()).output()?;
    let seconds = begun.elapsed().as_secs_f64();
    let cpu = cpu_seconds(std::process::id(), ENDED)? - cpu;
    ensure!(output.status.success(), "verify: {}", String::from_utf8_lossy(&output.stdout));
    Ok((seconds, cpu))
}

/// Seconds of CPU of a process: its [`OWN`], or of its [`ENDED`] children.
fn cpu_seconds(pid: u32, fields: Range<usize>) -> Result<f64> {
    Ok(cpu_ticks(pid, fields)? as f64 / 100.0)
}
