//! How fast one core decodes and masks: `cargo bench -p custody-decoders`. Not a test: it prints CPU time by
//! protocol, in rounds that alternate, and asserts only that nothing was lost.
//!
//! Traffic is made here, so that the count of exchanges is known; `cargo xtask bench` measures against others.

use std::sync::Arc;

use custody_decoders::event::{
    Chunk, Endpoint, Event, Flow, Layer, Process, Role, Socket, SocketId, Transport,
};
use custody_decoders::mask::{Masked, link};
use custody_decoders::pipeline::{Pipeline, PipelineOptions};
use custody_record::{Kind, Record};

/// Exchanges of one connection, and connections of one round.
const EXCHANGES: u64 = 2_000;
const CONNECTIONS: u64 = 20;
const ROUNDS: usize = 5;

/// One exchange as two chunks.
struct Traffic {
    name: &'static str,
    port: u16,
    begin: [Vec<u8>; 2],
    exchange: [Vec<u8>; 2],
    /// Records of exchanges that one connection gives besides its exchanges.
    begun: u64,
    /// Exchanges that stand in the two chunks.
    pipelined: u64,
}

fn http(name: &'static str, body: usize) -> Traffic {
    let request = "GET /accounts/4711?verbose=1 HTTP/1.1\r\nHost: shop.example\r\nUser-Agent: bench/1.0\r\nAccept: application/json\r\nAuthorization: Bearer abcdefghijklmnop\r\n\r\n";
    let body = format!("{{\"id\":4711,\"note\":\"{}\"}}", "lorem ipsum ".repeat(body / 12));
    let answer = format!(
        "HTTP/1.1 200 OK\r\nServer: bench\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let exchange = [request.into(), answer.into_bytes()];
    Traffic { name, port: 80, begin: [Vec::new(), Vec::new()], exchange, begun: 0, pipelined: 1 }
}

fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    [&[kind], &(body.len() as u32 + 4).to_be_bytes()[..], body].concat()
}

fn postgres() -> Traffic {
    let startup = b"\0\x03\0\0user\0bench\0database\0shop\0\0";
    let startup = [&(startup.len() as u32 + 4).to_be_bytes()[..], startup].concat();
    let ready = message(b'Z', b"I");
    let welcome = [message(b'R', &[0; 4]), ready.clone()].concat();
    let query = message(b'Q', b"SELECT id, name, balance FROM accounts WHERE id = 4711 AND name = 'Ann'\0");
    let mut columns = vec![0, 3];
    for name in ["id", "name", "balance"] {
        columns.extend([name.as_bytes(), &[0; 7], &25u32.to_be_bytes(), &[0; 8]].concat());
    }
    let row = message(b'D', b"\0\x03\0\0\0\x044711\0\0\0\x03Ann\0\0\0\x0512.50");
    let answer = [message(b'T', &columns), row, message(b'C', b"SELECT 1\0"), ready].concat();
    let begin = [startup, welcome];
    Traffic { name: "postgresql", port: 5432, begin, exchange: [query, answer], begun: 1, pipelined: 1 }
}

/// GET with a value of this size, so many of them in one segment and their replies in another.
fn redis(name: &'static str, value: usize, pipelined: usize) -> Traffic {
    let key = "key:000000004711";
    let command = format!("*2\r\n$3\r\nGET\r\n${}\r\n{key}\r\n", key.len()).repeat(pipelined);
    let reply = format!("${value}\r\n{}\r\n", "x".repeat(value)).repeat(pipelined);
    let exchange = [command.into_bytes(), reply.into_bytes()];
    Traffic {
        name,
        port: 6379,
        begin: [Vec::new(), Vec::new()],
        exchange,
        begun: 0,
        pipelined: pipelined as u64,
    }
}

/// CPU time of this thread, which is the only one, ns.
fn cpu_ns() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/schedstat").expect("the kernel counts CPU time");
    stat.split(' ').next().and_then(|ns| ns.parse().ok()).expect("a number")
}

/// One round: bytes, and CPU time.
fn round(traffic: &Traffic) -> (u64, u64) {
    let mut pipeline = Pipeline::new(PipelineOptions::default());
    let mut frames = Vec::new();
    let (mut told, mut bytes, mut now_ns) = (0u64, 0u64, 1_000_000_000);
    let begun_ns = cpu_ns();
    for number in 1..=CONNECTIONS {
        let id = SocketId(number);
        let endpoint = |port| Some(Endpoint { address: [127, 0, 0, 1].into(), port });
        let socket = Socket {
            id,
            time_ns: now_ns,
            transport: Transport::Tcp,
            role: Role::Server,
            local: endpoint(traffic.port),
            remote: Some(Endpoint { address: [10, 0, 0, 9].into(), port: 40_000 + number as u16 }),
            peer: None,
            netns: 1,
            whole: false,
            existing: false,
            positions: [Some(0), Some(0)],
            process: Arc::new(Process::default()),
        };
        // Into the form that is stored, as a worker does.
        let mut count = |record: Masked<Record>| {
            told += u64::from(record.get().kind == Kind::Exchange);
            frames.clear();
            link::encode(&record, &mut frames).expect("a record fits a frame");
        };
        pipeline.feed(Event::Open(socket), &mut count);
        let mut positions = [0u64; 2];
        for exchange in 0..=EXCHANGES {
            let chunks = if exchange == 0 { &traffic.begin } else { &traffic.exchange };
            for (flow, said) in [Flow::Ingress, Flow::Egress].into_iter().zip(chunks) {
                now_ns += 1_000;
                let position = positions[flow as usize];
                positions[flow as usize] += said.len() as u64;
                bytes += said.len() as u64;
                let chunk =
                    Chunk { socket: id, flow, layer: Layer::Wire, position, time_ns: now_ns, bytes: said };
                if !said.is_empty() {
                    pipeline.feed(Event::Chunk(chunk), &mut count);
                }
            }
        }
        let ends = positions.map(Some);
        pipeline.feed(Event::Close(id, ends, now_ns), &mut count);
        pipeline.feed(Event::Tick(now_ns + 1), &mut count);
    }
    pipeline.finish(&mut |_| {});
    assert_eq!(
        told,
        CONNECTIONS * (EXCHANGES * traffic.pipelined + traffic.begun),
        "{}: exchanges were lost",
        traffic.name
    );
    (bytes, cpu_ns() - begun_ns)
}

fn main() {
    let mut all = vec![
        http("http, 150 B", 150),
        http("http, 16 KiB", 16 << 10),
        postgres(),
        redis("redis, 64 B", 64, 1),
        redis("redis, -P 16", 64, 16),
        redis("redis, 16 KiB", 16 << 10, 1),
    ];
    // `cargo bench … -- NAME` measures those alone whose name holds it.
    if let Some(wanted) = std::env::args().nth(1).filter(|word| !word.starts_with("--")) {
        all.retain(|traffic| traffic.name.contains(&wanted));
    }
    let mut rounds = vec![Vec::new(); all.len()];
    for _ in 0..ROUNDS {
        for (traffic, rounds) in all.iter().zip(&mut rounds) {
            rounds.push(round(traffic));
        }
    }
    println!(
        "decoded, masked and in the stored form, per second of CPU time; median (least to most) of {ROUNDS} rounds"
    );
    for (traffic, rounds) in all.iter().zip(&mut rounds) {
        rounds.sort_by_key(|(_, cpu_ns)| std::cmp::Reverse(*cpu_ns));
        let speed = |(bytes, cpu_ns): (u64, u64)| bytes as f64 * 1e3 / cpu_ns as f64;
        let [least, median, most] = [rounds[0], rounds[ROUNDS / 2], rounds[ROUNDS - 1]].map(speed);
        let exchanges =
            (CONNECTIONS * EXCHANGES * traffic.pipelined) as f64 * 1e9 / rounds[ROUNDS / 2].1 as f64;
        println!(
            "  {:13} {median:7.1} MB/s ({least:.1} to {most:.1})   {:7.0} exchanges/s",
            traffic.name, exchanges
        );
    }
}
