//! Whose connection plaintext is told under. Each exchange carries the port of its own connection as a canary, all are
//! of one size, and many connections are used at once, in one client and four kinds of server: what is bound to
//! another connection than its own shows itself. What is in the record must be all that was sent, byte by byte: an
//! exchange that is not there must be missing from the accounts of its session too.
//!
//! `CUSTODY_BINDING=whole` makes it 100,000 exchanges on 200 connections with three restarts of the agent.

use std::collections::{BTreeMap, HashSet};
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context, Result, ensure};
use custody_tests::https::Https;
use custody_tests::servers::Nginx;
use custody_tests::stand::{self, Stand, field};
use serde_json::Value;

/// Exchanges, connections and restarts of the agent.
struct Extent {
    exchanges: usize,
    connections: usize,
    restarts: usize,
}

impl Extent {
    fn wanted() -> Extent {
        if std::env::var_os("CUSTODY_BINDING").is_some_and(|value| value == "whole") {
            Extent { exchanges: 100_000, connections: 200, restarts: 3 }
        } else {
            Extent { exchanges: 3_200, connections: 40, restarts: 1 }
        }
    }
}

/// A client over asyncio. Arguments: certificate, connections for each server, then name and port of each server. For
/// each number of its input it makes as many exchanges on each connection, all connections at once.
const CLIENT: &str = r#"
import asyncio, ssl, sys
context = ssl.create_default_context(cafile=sys.argv[1])
letters = str.maketrans('0123456789', 'abcdefghij')
def canary(number, digits): return f'{number:0{digits}}'.translate(letters)
async def connect(name, port):
    reader, writer = await asyncio.open_connection('127.0.0.1', port, ssl=context, server_hostname='localhost')
    return name, canary(writer.get_extra_info('sockname')[1], 5), reader, writer
async def ask(connection, first, count):
    name, own, reader, writer = connection
    for number in range(first, first + count):
        writer.write(f'GET /echo/{name}/{own}/{canary(number, 6)} HTTP/1.1\r\nHost: localhost\r\n\r\n'.encode())
        head = await reader.readuntil(b'\r\n\r\n')
        for line in head.split(b'\r\n'):
            if line.lower().startswith(b'content-length:'):
                await reader.readexactly(int(line.split(b':')[1]))
async def main():
    servers = list(zip(sys.argv[3::2], map(int, sys.argv[4::2])))
    connections = [await connect(*server) for _ in range(int(sys.argv[2])) for server in servers]
    print('connected', flush=True)
    loop, done = asyncio.get_running_loop(), 0
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        await asyncio.gather(*(ask(connection, done, int(line)) for connection in connections))
        done += int(line)
        print('done', flush=True)
asyncio.run(main())
"#;

struct Client {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Client {
    fn start(nginx: &Nginx, each: usize, servers: &[(&str, u16)]) -> Result<Client> {
        // Ends with the test, whichever way that ends.
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", "TERM", "--", "/usr/bin/python3", "-c", CLIENT])
            .arg(&nginx.certificate)
            .arg(each.to_string());
        for (name, port) in servers {
            command.args([*name, &port.to_string()]);
        }
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let input = child.stdin.take();
        let output = BufReader::new(child.stdout.take().context("output")?);
        let mut client = Client { child, input, output };
        client.expect("connected")?;
        Ok(client)
    }

    fn expect(&mut self, word: &str) -> Result<()> {
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        ensure!(line.trim() == word, "the client said {line:?} instead of {word}");
        Ok(())
    }

    fn ask(&mut self, times: usize) -> Result<()> {
        writeln!(self.input.as_mut().context("input")?, "{times}")?;
        self.expect("done")
    }

    fn end(mut self) -> Result<()> {
        drop(self.input.take());
        ensure!(self.child.wait()?.success(), "the client failed");
        Ok(())
    }
}

/// What became of the exchanges with one server.
#[derive(Debug, Default)]
struct Outcome {
    /// Path of each exchange that stands under its own connection.
    bound: HashSet<String>,
    /// Told without a connection.
    unknown: usize,
    /// Told under another one than their own.
    wrong: Vec<String>,
    /// Told more than once under their own.
    twice: usize,
    /// Told before their answer, which took longer than the agent waits for it.
    early: usize,
    bindings: BTreeMap<String, usize>,
    sessions: HashSet<String>,
    /// Bytes of requests that passed, as the ends of the sessions say.
    bytes_up: u64,
    /// Among all bytes that passed, those that those ends say are in no exchange.
    bytes_untold: u64,
}

impl Outcome {
    fn told(&self) -> usize {
        self.bound.len() + self.unknown + self.wrong.len()
    }
}

/// `/echo/NAME/PORT/NUMBER`: name of the server and port of the client, digits as letters.
fn canary(path: &str) -> Option<(&str, u64)> {
    let mut parts = path.strip_prefix("/echo/")?.split('/');
    let name = parts.next()?;
    let mut digits = parts.next()?.bytes().map(|letter| letter.checked_sub(b'a').map(u64::from));
    Some((name, digits.try_fold(0, |number, digit| Some(number * 10 + digit?))?))
}

fn outcomes(records: &[Value], servers: &[(&str, u16)]) -> BTreeMap<String, Outcome> {
    let mut outcomes: BTreeMap<String, Outcome> = BTreeMap::new();
    for record in records {
        // An open exchange is named again when it ends, without its path.
        if !matches!(record["type"].as_str(), Some("exchange" | "exchange.open")) {
            continue;
        }
        let path = field(record, "url.path").as_str().unwrap_or_default();
        let Some((name, own)) = canary(path) else { continue };
        let Some((_, port)) = servers.iter().find(|(server, _)| *server == name) else { continue };
        let outcome = outcomes.entry(name.to_owned()).or_default();
        let binding = field(record, "custody.binding").as_str().unwrap_or("none").to_owned();
        let ends = ["client.port", "server.port"].map(|name| field(record, name).as_u64());
        if binding == "none" && ends[1] != Some(u64::from(*port)) {
            // What HAProxy asks the server behind it, in the clear.
            continue;
        }
        outcome.early += usize::from(record["type"] == "exchange.open");
        outcome.sessions.insert(record["session_id"].as_str().unwrap_or_default().to_owned());
        if binding == "unknown" {
            outcome.unknown += 1;
        } else if ends != [Some(own), Some(u64::from(*port))] {
            outcome.wrong.push(format!("{path} under {ends:?}, {binding}"));
        } else if !outcome.bound.insert(path.to_owned()) {
            outcome.twice += 1;
        }
        *outcome.bindings.entry(binding).or_default() += 1;
    }
    for close in records.iter().filter(|record| record["type"] == "session.close") {
        let session = close["session_id"].as_str().unwrap_or_default();
        let port = field(close, "server.port").as_u64();
        let of_server = servers.iter().find(|(_, own)| port == Some(u64::from(*own))).map(|(name, _)| *name);
        let found = outcomes
            .iter_mut()
            .find(|(name, outcome)| outcome.sessions.contains(session) || Some(name.as_str()) == of_server);
        if let Some((_, outcome)) = found {
            let bytes = |name: &str| field(close, name).as_u64().unwrap_or_default();
            outcome.bytes_up += bytes("custody.bytes.up");
            outcome.bytes_untold += ["lost", "cut", "unparsed"]
                .iter()
                .map(|what| bytes(&format!("custody.bytes.{what}")))
                .sum::<u64>();
        }
    }
    outcomes
}

/// Bytes of each request to this server.
fn request_bytes(server: &str) -> usize {
    format!("GET /echo/{server}/aaaaa/aaaaaa HTTP/1.1\r\nHost: localhost\r\n\r\n").len()
}

#[test]
fn plaintext_is_told_under_its_own_connection() -> Result<()> {
    let extent = Extent::wanted();
    let (folder, servers_folder) = (stand::folder()?, stand::folder()?);
    let mut stand = Stand::new(folder.path(), "")?;
    stand.start_agent()?;
    let nginx = Nginx::start(servers_folder.path(), &[])?;
    let haproxy = Https::haproxy(servers_folder.path(), &nginx.certificate, nginx.http_port)?;
    let asyncio = Https::asyncio(servers_folder.path(), &nginx.certificate)?;
    let node = Https::node(servers_folder.path(), &nginx.certificate)?;
    let servers = [
        ("nginx", nginx.https_port),
        ("haproxy", haproxy.port),
        ("asyncio", asyncio.port),
        ("node", node.port),
    ];
    let mut client = Client::start(&nginx, extent.connections / servers.len(), &servers)?;
    let times = extent.exchanges / extent.connections / (extent.restarts + 1);
    for part in 0..=extent.restarts {
        if part != 0 {
            stand.stop_agent()?;
            stand.start_agent()?;
        }
        client.ask(times)?;
    }
    client.end()?;
    stand.stop_agent()?;
    let records = stand.records("url.path =~ \"^/echo/\" or type = \"session.close\"")?;
    let expected = times * (extent.restarts + 1) * (extent.connections / servers.len());
    let outcomes = outcomes(&records, &servers);
    println!("server    exchanges  bound  unknown  wrong  twice  early  bindings");
    for (name, _) in servers {
        let Some(one) = outcomes.get(name) else { anyhow::bail!("nothing was told of {name}") };
        let (bound, wrong) = (one.bound.len(), one.wrong.len());
        println!(
            "{name:9} {expected:9} {bound:6} {:8} {wrong:6} {:6} {:6}  {:?}",
            one.unknown, one.twice, one.early, one.bindings
        );
    }
    for (name, one) in &outcomes {
        assert!(one.wrong.is_empty(), "{name}: {:#?}", one.wrong);
        assert_eq!(one.twice, 0, "{name}: told more than once");
        let request = request_bytes(name);
        let missing = expected.checked_sub(one.told()).with_context(|| format!("{name}: told too often"))?;
        assert_eq!(
            one.bytes_up,
            (expected * request) as u64,
            "{name}: bytes of requests, as their sessions tell"
        );
        assert!(
            one.bytes_untold >= (missing * request) as u64,
            "{name}: {missing} exchanges are missing, and sessions tell of {} bytes",
            one.bytes_untold
        );
        assert!(
            one.bound.len() * 1000 >= expected * 999,
            "{name}: {} of {expected} are bound",
            one.bound.len()
        );
    }
    Ok(())
}
