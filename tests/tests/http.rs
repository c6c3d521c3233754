//! Live HTTP: the record equals nginx's own log in values, each request exactly once.

use std::collections::BTreeMap;
use std::process::Command;

use anyhow::{Context, Result};
use custody_tests::process::output;
use custody_tests::servers::Nginx;
use custody_tests::stand::{Stand, field};
use serde_json::Value;

/// What both sides know of a request.
type Exchange = (String, String, u64, u64);

fn logged(nginx: &Nginx) -> Result<BTreeMap<Exchange, usize>> {
    let mut counts = BTreeMap::new();
    for line in nginx.access_log()? {
        let exchange = (
            line["method"].as_str().context("method")?.to_owned(),
            line["uri"].as_str().context("uri")?.to_owned(),
            line["status"].as_u64().context("status")?,
            line["bytes"].as_u64().context("bytes")?,
        );
        *counts.entry(exchange).or_default() += 1;
    }
    Ok(counts)
}

fn recorded(records: &[Value]) -> Result<BTreeMap<Exchange, usize>> {
    let mut counts = BTreeMap::new();
    for line in records {
        let mut uri = field(line, "url.path").as_str().context("url.path")?.to_owned();
        if let Some(query) = field(line, "url.query").as_str() {
            uri = format!("{uri}?{query}");
        }
        let exchange = (
            field(line, "http.request.method").as_str().context("method")?.to_owned(),
            uri,
            field(line, "http.response.status_code").as_u64().context("status")?,
            field(line, "http.response.body.size").as_u64().unwrap_or(0),
        );
        *counts.entry(exchange).or_default() += 1;
    }
    Ok(counts)
}

/// The exchanges of one nginx, told by its port.
fn of(nginx: &Nginx) -> String {
    format!("has(http.request.method) and server.port = {} and type = \"exchange\"", nginx.http_port)
}

#[test]
fn curl_and_urllib_equal_the_access_log() -> Result<()> {
    let folder = custody_tests::stand::folder()?;
    let mut stand = Stand::new(folder.path(), "")?;
    stand.start_agent()?;
    let servers = tempfile::tempdir()?;
    let large = "0123456789abcdef".repeat(20_000);
    let nginx = Nginx::start(servers.path(), &[("small.json", "{\"a\":1}\n"), ("large.txt", &large)])?;
    let base = format!("http://127.0.0.1:{}", nginx.http_port);
    let curl = |arguments: &[&str], path: &str| {
        output(
            Command::new("curl")
                .args(["-s", "-o", "/dev/null"])
                .args(arguments)
                .arg(format!("{base}/{path}")),
        )
    };
    for path in ["small.json", "large.txt", "missing", "broken", "small.json?page=2&sort=name"] {
        curl(&[], path)?;
    }
    curl(&["-d", "name=anna"], "echo?kind=form")?;
    curl(&["-I"], "small.json?head")?;
    // Three requests on one connection.
    output(Command::new("curl").arg("-s").arg(format!("{base}/small.json?kept=[1-3]")))?;
    let script = "import sys, urllib.request as r\n\
        for n in range(4): r.urlopen(sys.argv[1] + '?urllib=%d' % n).read()";
    output(Command::new("python3").args(["-c", script, &format!("{base}/large.txt")]))?;
    let requests = 5 + 1 + 1 + 3 + 4;
    let records = stand.wait_records(&of(&nginx), requests)?;
    assert_eq!(recorded(&records)?, logged(&nginx)?);
    assert_eq!(records.len(), requests, "each exactly once");
    for record in &records {
        assert_eq!(field(record, "custody.bytes.lost").as_u64().unwrap_or(0), 0, "{record}");
        assert_eq!(record["record"]["anomalies"].as_array().map_or(0, Vec::len), 0, "{record}");
    }
    Ok(())
}

#[test]
fn wrk_under_load_is_recorded_without_a_gap_and_never_twice() -> Result<()> {
    let folder = custody_tests::stand::folder()?;
    let mut stand = Stand::new(folder.path(), "")?;
    stand.start_agent()?;
    let servers = tempfile::tempdir()?;
    let nginx = Nginx::start(servers.path(), &[])?;
    let url = format!("http://127.0.0.1:{}/echo", nginx.http_port);
    output(Command::new("wrk").args(["-t1", "-c10", "-d1s", &url]))?;
    // wrk drops its connections at the end of its time, so the last requests have no answer that it read.
    let answered = logged(&nginx)?.values().sum::<usize>();
    let records = stand.wait_records(&of(&nginx), answered.saturating_sub(20))?;
    assert!(answered > 200, "wrk made only {answered} requests");
    assert!(records.len() <= answered, "{} recorded, {answered} in the log", records.len());
    let gaps = stand.records(&format!("type = \"gap\" and server.port = {}", nginx.http_port))?;
    assert!(gaps.is_empty(), "{gaps:?}");
    Ok(())
}
