//! `custody decode` of what tcpdump captured: whole, it equals the servers' own logs; with packets missing, it says
//! so, and pairs no request with another one's answer.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use custody_tests::process::{Running, eventually, output};
use custody_tests::servers::{Nginx, Postgres};
use custody_tests::stand::{built, field, folder};
use rustix::process::Signal;
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(30);

/// A running tcpdump, and where it writes.
struct Capture {
    running: Running,
    file: PathBuf,
}

impl Capture {
    fn start(folder: &Path, name: &str, filter: &str) -> Result<Capture> {
        let (file, log) = (folder.join(format!("{name}.pcap")), folder.join(format!("{name}.log")));
        let path = file.display().to_string();
        let command = ["tcpdump", "-i", "lo", "-U", "-B", "16384", "-Z", "root", "-w", &path, filter];
        let running = Running::start("tcpdump", &command, None, &log, Signal::INT)?;
        eventually(PATIENCE, "tcpdump listens", || Ok(running.log().contains("listening on").then_some(())))?;
        Ok(Capture { running, file })
    }

    /// Ends it once it wrote all that was said.
    fn stop(self) -> Result<PathBuf> {
        let mut before = u64::MAX;
        eventually(PATIENCE, "the capture is written", || {
            let bytes = std::fs::metadata(&self.file)?.len();
            let still = bytes == std::mem::replace(&mut before, bytes) && bytes > 24;
            std::thread::sleep(Duration::from_millis(300));
            Ok(still.then_some(()))
        })?;
        self.running.stop(PATIENCE)?;
        Ok(self.file)
    }
}

fn decode(file: &Path, arguments: &[&str]) -> Result<(Output, Vec<Value>)> {
    let run = Command::new(built("custody"))
        .arg("decode")
        .arg(file)
        .args(["-o", "json"])
        .args(arguments)
        .output()?;
    let lines = String::from_utf8(run.stdout.clone())?;
    let values = lines.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    Ok((run, values))
}

/// Method, path and status of each exchange that has all of them, and how often.
fn exchanges(values: &[Value]) -> BTreeMap<(String, String, u64), usize> {
    let mut joined: BTreeMap<(String, u64), [Value; 3]> = BTreeMap::new();
    for value in values {
        let (Some(session), Some(number)) = (value["session_id"].as_str(), value["exchange"].as_u64()) else {
            continue;
        };
        let known = joined.entry((session.to_owned(), number)).or_default();
        for (known, name) in
            known.iter_mut().zip(["http.request.method", "url.path", "http.response.status_code"])
        {
            if !value["record"]["fields"][name].is_null() {
                *known = field(value, name).clone();
            }
        }
    }
    let mut counts = BTreeMap::new();
    for [method, path, status] in joined.values() {
        if let (Some(method), Some(path), Some(status)) = (method.as_str(), path.as_str(), status.as_u64()) {
            *counts.entry((method.to_owned(), path.to_owned(), status)).or_default() += 1;
        }
    }
    counts
}

#[test]
fn a_capture_of_nginx_equals_its_log_and_one_with_holes_pairs_nothing_wrongly() -> Result<()> {
    let folder = folder()?;
    let large = "lorem ipsum ".repeat(20_000);
    let nginx = Nginx::start(folder.path(), &[("large.txt", &large)])?;
    let port = nginx.http_port;
    let whole = Capture::start(folder.path(), "whole", &format!("tcp port {port}"))?;
    // Every sixteenth packet is left out, by the number that IP gives it.
    let holes = format!("tcp port {port} and not (ip[4:2] & 15 = 3)");
    let holes = Capture::start(folder.path(), "holes", &holes)?;
    for round in 0..40 {
        // Each path once, many on one connection, so that a wrong pair would show.
        let small = format!("http://127.0.0.1:{port}/{{echo,missing,broken,cookie}}/{round}-[1-5]");
        let large = format!("http://127.0.0.1:{port}/large.txt");
        output(Command::new("curl").args(["-s", "-o", "/dev/null", &small, "-o", "/dev/null", &large]))?;
    }
    let mut logged = BTreeMap::new();
    for line in nginx.access_log()? {
        let text = |name: &str| line[name].as_str().context("a log line").map(str::to_owned);
        let status = line["status"].as_u64().context("status")?;
        *logged.entry((text("method")?, text("uri")?, status)).or_default() += 1;
    }
    let (whole, holes) = (whole.stop()?, holes.stop()?);

    let (run, values) = decode(&whole, &[])?;
    ensure!(run.status.code() == Some(0), "{}", String::from_utf8_lossy(&run.stderr));
    assert_eq!(exchanges(&values), logged);

    let (run, values) = decode(&holes, &[])?;
    let said = String::from_utf8_lossy(&run.stderr).into_owned();
    ensure!(run.status.code() == Some(4) && said.contains("missing:"), "{said}");
    let found = exchanges(&values);
    let wrong: Vec<_> = found.iter().filter(|(exchange, count)| logged.get(exchange) < Some(count)).collect();
    assert!(wrong.is_empty(), "pairs that nginx did not log: {wrong:?}");
    assert!(found.values().sum::<usize>() > logged.values().sum::<usize>() / 3, "{said}");
    nginx.stop()
}

#[test]
fn a_capture_of_pgbench_has_each_of_its_transactions() -> Result<()> {
    let folder = folder()?;
    let postgres = Postgres::start(folder.path())?;
    output(postgres.program("pgbench", false).args(["-i", "-q", "-s", "1"]))?;
    let capture = Capture::start(folder.path(), "pgbench", &format!("tcp port {}", postgres.port))?;
    let transactions = 200;
    output(
        postgres.program("pgbench", false).args(["-n", "-S", "-M", "extended", "-c", "4"]).args(["-t", "50"]),
    )?;
    let file = capture.stop()?;
    let (run, values) = decode(&file, &["--where", "db.query.text =~ '^SELECT abalance'"])?;
    ensure!(run.status.code() == Some(0), "{}", String::from_utf8_lossy(&run.stderr));
    assert_eq!(values.iter().filter(|value| value["type"] == "exchange").count(), transactions);
    postgres.stop()
}
