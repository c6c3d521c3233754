//! Live HTTP, plain and TLS: the record equals nginx's own log in values, each request exactly once.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use custody_tests::observed;
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

/// The exchanges of one server, told by its port.
fn of(port: u16) -> String {
    format!("has(http.request.method) and server.port = {port} and type = \"exchange\"")
}

/// Requests of curl and urllib at this base address; returns how many.
fn requests(base: &str, certificate: &str) -> Result<usize> {
    let curl = |arguments: &[&str], path: &str| {
        output(
            Command::new("curl")
                .args(["-s", "-o", "/dev/null", "--cacert", certificate])
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
    curl(&["-o", "/dev/null", "-o", "/dev/null"], "small.json?kept=[1-3]")?;
    let script = "import ssl, sys, urllib.request as r\n\
        c = ssl.create_default_context(cafile=sys.argv[2])\n\
        for n in range(4): r.urlopen(sys.argv[1] + '?urllib=%d' % n, context=c).read()";
    output(Command::new("python3").args(["-c", script, &format!("{base}/large.txt"), certificate]))?;
    Ok(5 + 1 + 1 + 3 + 4)
}

#[test]
fn curl_and_urllib_equal_the_access_log_plain_and_tls() -> Result<()> {
    let large = "0123456789abcdef".repeat(20_000);
    let (_folders, stand, nginx) = observed::nginx(&[("small.json", "{\"a\":1}\n"), ("large.txt", &large)])?;
    let certificate = nginx.certificate.display().to_string();
    let plain = requests(&format!("http://127.0.0.1:{}", nginx.http_port), &certificate)?;
    let tls = requests(&format!("https://localhost:{}", nginx.https_port), &certificate)?;
    let mut records = stand.wait_records(&of(nginx.http_port), plain)?;
    assert_eq!(records.len(), plain, "each exactly once");
    let inside = stand.wait_records(&of(nginx.https_port), tls)?;
    assert_eq!(inside.len(), tls, "each exactly once");
    for record in &inside {
        assert_eq!(field(record, "custody.tls"), "tls", "{record}");
        assert!(matches!(field(record, "custody.binding").as_str(), Some("fd" | "nested")), "{record}");
    }
    records.extend(inside);
    assert_eq!(recorded(&records)?, logged(&nginx)?);
    for record in &records {
        assert_eq!(field(record, "custody.bytes.lost").as_u64().unwrap_or(0), 0, "{record}");
        assert_eq!(record["record"]["anomalies"].as_array().map_or(0, Vec::len), 0, "{record}");
        let program = field(record, "process.executable.path").as_str().unwrap_or_default();
        assert!(program.ends_with("/curl") || program.contains("python3"), "{record}");
    }
    Ok(())
}

/// Each request of wrk with a number of its own, and a pause of five milliseconds before it.
const NUMBERED: &str = "local number = 0\n\
    request = function() number = number + 1; return wrk.format('GET', '/echo?wrk=' .. number) end\n\
    delay = function() return 5 end\n";
/// With the pause: up to two thousand requests a second.
const CONNECTIONS: usize = 10;

#[test]
fn every_request_of_wrk_is_recorded_once_plain_and_tls() -> Result<()> {
    let folder = custody_tests::stand::folder()?;
    let mut stand = Stand::new(folder.path(), "")?;
    stand.start_agent()?;
    for tls in [false, true] {
        let servers = tempfile::tempdir()?;
        let nginx = Nginx::start(servers.path(), &[])?;
        every_request_of_wrk_is_recorded_once(&stand, &nginx, servers.path(), tls)?;
    }
    // Of anybody's traffic: a page that another program had not touched yet is no matter of load.
    let full = stand.records("type = gap and custody.gap.cause = ring_full")?;
    assert!(full.is_empty(), "{full:#?}");
    let status = stand.status()?;
    assert_eq!(status["counters"]["records_dropped"], 0, "{status:#}");
    Ok(())
}

fn every_request_of_wrk_is_recorded_once(
    stand: &Stand,
    nginx: &Nginx,
    folder: &Path,
    tls: bool,
) -> Result<()> {
    let (port, base) = if tls {
        (nginx.https_port, format!("https://localhost:{}", nginx.https_port))
    } else {
        (nginx.http_port, format!("http://127.0.0.1:{}", nginx.http_port))
    };
    let script = folder.join("numbered.lua");
    std::fs::write(&script, NUMBERED)?;
    let load = ["-t1", &format!("-c{CONNECTIONS}"), "-d3s", "-s"];
    output(Command::new("wrk").args(load).arg(&script).arg(format!("{base}/echo")))?;
    // A request of its own says that all before it has been worked off.
    output(Command::new("curl").arg("-sk").arg(format!("{base}/echo?last")))?;
    stand.wait_records(&format!("server.port = {port} and url.query = \"last\""), 1)?;
    let logged = logged(nginx)?;
    println!("wrk: {} requests in 3 s on {CONNECTIONS} connections, TLS {tls}", logged.len() - 1);
    assert!(logged.len() > 400, "wrk made only {} requests", logged.len());
    let answered = format!("{} and has(http.response.status_code)", of(port));
    let recorded = recorded(&stand.wait_records(&answered, logged.len())?)?;
    for (exchange, times) in &logged {
        assert_eq!(*times, 1, "wrk's numbers are not unique: {exchange:?}");
        assert_eq!(recorded.get(exchange), Some(&1), "{exchange:?} is in the access log");
    }
    // wrk drops its connections at the end of its time: what it asked last may have no line in the log.
    let more: Vec<_> = recorded.iter().filter(|(exchange, _)| !logged.contains_key(*exchange)).collect();
    assert!(more.len() <= CONNECTIONS && more.iter().all(|(_, times)| **times == 1), "{more:?}");
    // wrk's first connection only tries whether there is a server.
    let unknown = "network.protocol.name = unknown and custody.protocol.looks_like != empty";
    for filter in ["type = gap", unknown] {
        let found = stand.records(&format!("server.port = {port} and {filter}"))?;
        assert!(found.is_empty(), "{filter}: {found:#?}");
    }
    let unbound = stand.records("custody.binding = unknown and url.query =~ \"^wrk=\"")?;
    assert!(unbound.is_empty(), "{unbound:#?}");
    Ok(())
}

/// The server never reads what it sends; the client on the same host does.
#[test]
fn a_file_that_nginx_sends_by_sendfile_is_recorded_from_the_client() -> Result<()> {
    let folder = custody_tests::stand::folder()?;
    let mut stand = Stand::new(folder.path(), "")?;
    stand.start_agent()?;
    let servers = tempfile::tempdir()?;
    let small = "one line of a file\n".repeat(100);
    let large = "0123456789abcdef".repeat(20_000);
    let nginx = Nginx::start(servers.path(), &[("small.txt", &small), ("large.txt", &large)])?;
    let base = format!("http://127.0.0.1:{}/kernel", nginx.http_port);
    for (path, content) in [("small.txt", &small), ("large.txt", &large)] {
        let got = output(Command::new("curl").args(["-s", &format!("{base}/{path}")]))?;
        assert!(got == *content, "{path}");
    }
    // Closed by the server as soon as it has sent all.
    output(Command::new("curl").args(["-s", "-0", "-o", "/dev/null", &format!("{base}/small.txt")]))?;
    let records = stand.wait_records(&of(nginx.http_port), 3)?;
    assert_eq!(recorded(&records)?, logged(&nginx)?);
    for record in &records {
        assert_eq!(field(record, "custody.bytes.lost").as_u64().unwrap_or(0), 0, "{record}");
        let path = field(record, "url.path").as_str().unwrap_or_default().to_owned();
        if path.ends_with("small.txt") {
            assert_eq!(field(record, "http.response.body.content").as_str(), Some(small.as_str()));
        }
    }
    let gaps = stand.records(&format!("type = \"gap\" and server.port = {}", nginx.http_port))?;
    assert!(gaps.is_empty(), "{gaps:?}");
    Ok(())
}
