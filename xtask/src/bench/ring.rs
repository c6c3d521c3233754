//! What a captured call costs and what the kernel's rings carry: a writer and a reader of our own over loopback, with
//! and without the agent. Each message goes there and back, so a round is four calls: two that send, two that receive.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use custody_tests::process::eventually;
use custody_tests::stand::{self, Stand};

use super::Common;
use super::results::{Better, Column, Results};
use crate::{build_ebpf, setup, test};

/// Bytes of a message, and how often it goes there and back.
const LOADS: [(usize, u64); 3] = [(64, 100_000), (1 << 10, 100_000), (16 << 10, 20_000)];
/// Calls of a message that goes there and back.
const CALLS: u64 = 4;
/// Until the agent has read what was written.
const WORKED_OFF: Duration = Duration::from_secs(30);

const COLUMNS: [Column; 4] = [
    Column { name: "call_cpu", unit: "µs", better: Better::Lower },
    Column { name: "added_per_call", unit: "µs", better: Better::Lower },
    Column { name: "events", unit: "1/s", better: Better::Higher },
    Column { name: "payload", unit: "MB/s", better: Better::Higher },
];

/// Measures.
pub(super) fn run(root: &Path, options: &Common) -> Result<()> {
    setup::bpf_linker(options.yes)?;
    build_ebpf::run(root)?;
    test::build_release()?;
    setup::account(stand::SINK_USER, "the sink runs as it and owns its store", options.yes)?;
    let folder = stand::folder()?;
    let mut stand = Stand::new(folder.path(), "")?;
    let mut results = Results::new("ring", &COLUMNS);
    for round in 0..options.rounds {
        for (bytes, count) in LOADS {
            eprintln!("ring: round {} of {}, {bytes} bytes", round + 1, options.rounds);
            let (bare, watched) = (format!("{bytes} B bare"), format!("{bytes} B custody"));
            let without = exchange(bytes, count)?;
            results.sample(&bare, &[without.call_cpu_us, f64::NAN, f64::NAN, f64::NAN]);
            stand.start_agent()?;
            let before = counters(&stand)?;
            let with = exchange(bytes, count)?;
            let moved = 2 * count * bytes as u64;
            let after = eventually(WORKED_OFF, "all that was written, in the agent's counters", || {
                let now = counters(&stand)?;
                Ok((now.bytes - before.bytes >= moved as f64).then_some(now))
            })?;
            stand.stop_agent()?;
            if after.lost > before.lost {
                results.refuse(&watched, format!("{} events were lost", after.lost - before.lost));
                continue;
            }
            let added = with.call_cpu_us - without.call_cpu_us;
            let rate = |amount: f64| amount / with.seconds;
            let payload = rate((after.bytes - before.bytes) / 1e6);
            results.sample(&watched, &[with.call_cpu_us, added, rate(after.events - before.events), payload]);
        }
    }
    results.tell(root, options)
}

struct Counters {
    events: f64,
    bytes: f64,
    lost: f64,
}

/// What the kernel side offered and lost so far; of a connection within the host one end is told, the other skipped.
fn counters(stand: &Stand) -> Result<Counters> {
    let status = stand.status()?;
    let number = |name: &str| {
        let number = status.pointer(name).and_then(serde_json::Value::as_f64);
        number.with_context(|| format!("status without {name}"))
    };
    Ok(Counters {
        events: number("/counters/produced/events")?,
        bytes: number("/counters/produced/bytes")?,
        lost: number("/counters/lost/events")?,
    })
}

struct Exchange {
    /// User and system time of this process for one call.
    call_cpu_us: f64,
    seconds: f64,
}

fn exchange(bytes: usize, count: u64) -> Result<Exchange> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let mut client = TcpStream::connect(address)?;
    let (mut server, _) = listener.accept()?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let echo = std::thread::spawn(move || -> std::io::Result<()> {
        let mut message = vec![0; bytes];
        for _ in 0..count {
            server.read_exact(&mut message)?;
            server.write_all(&message)?;
        }
        Ok(())
    });
    // No protocol begins so: what is measured ends before the decoders.
    let mut message = vec![0; bytes];
    let (begun, cpu) = (Instant::now(), cpu());
    for _ in 0..count {
        client.write_all(&message)?;
        client.read_exact(&mut message)?;
    }
    echo.join().map_err(|_| anyhow::anyhow!("the echo panicked"))??;
    let (seconds, cpu) = (begun.elapsed().as_secs_f64(), self::cpu() - cpu);
    Ok(Exchange { call_cpu_us: cpu * 1e6 / (CALLS * count) as f64, seconds })
}

/// User and system seconds of this process.
fn cpu() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}
