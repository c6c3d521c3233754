//! OpenSSL's rarer calls, made by real programs against the real library: objects that are used again, looks ahead,
//! early data, renegotiation, files that the kernel sends.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::Result;
use custody_tests::gnutls::fetch;
use custody_tests::process::{Running, free_port, output};
use custody_tests::servers::certificate;
use custody_tests::stand::{Stand, field};
use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(30);
const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/tls_ways");

struct Place {
    stand: Stand,
    _folder: TempDir,
    own: TempDir,
    certificate: PathBuf,
    key: PathBuf,
}

impl Place {
    fn new() -> Result<Place> {
        let (folder, own) = (custody_tests::stand::folder()?, custody_tests::stand::folder()?);
        let mut stand = Stand::new(folder.path(), "")?;
        let (certificate, key) = certificate(own.path())?;
        stand.start_agent()?;
        Ok(Place { stand, _folder: folder, own, certificate, key })
    }

    /// Starts a server whose arguments are a port, a certificate, a key, and these.
    fn server(&self, script: &str, more: &str) -> Result<(Running, u16)> {
        let port = free_port()?;
        let (port_text, script) = (port.to_string(), format!("{FOLDER}/{script}"));
        let (certificate, key) = (self.certificate.display().to_string(), self.key.display().to_string());
        let command = ["/usr/bin/python3", &script, &port_text, &certificate, &key, more];
        let mut server =
            Running::start("server", &command, None, &self.own.path().join("log"), Signal::TERM)?;
        server.wait_ready(PATIENCE, || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok())?;
        Ok((server, port))
    }

    fn exchanges(&self, port: u16, count: usize) -> Result<Vec<Value>> {
        self.stand.wait_records(&format!("type = \"exchange\" and server.port = {port}"), count)
    }
}

fn paths(records: &[Value]) -> Vec<&str> {
    records.iter().filter_map(|record| field(record, "url.path").as_str()).collect()
}

#[test]
fn one_object_for_two_connections_and_looks_ahead_are_told_once() -> Result<()> {
    let place = Place::new()?;
    let (_server, port) = place.server("server.py", "libssl.so.3")?;
    for path in ["/first", "/second"] {
        fetch(port, &place.certificate, &[path])?;
    }
    let told = place.exchanges(port, 2)?;
    assert_eq!(paths(&told), ["/first", "/second"], "{told:#?}");
    assert_ne!(told[0]["session_id"], told[1]["session_id"], "the second connection is told as the first");
    for one in &told {
        assert_eq!(field(one, "http.response.body.size"), 100_000, "{one}");
        assert_eq!(field(one, "custody.outcome"), "ok", "{one}");
        assert!(one["record"]["anomalies"].as_array().is_none_or(Vec::is_empty), "{one}");
    }
    assert!(place.stand.records(&format!("server.port = {port} and type = \"gap\""))?.is_empty());
    Ok(())
}

/// A client that is told line by line what to type.
fn client(port: u16, options: &[&str], typed: &str) -> Result<()> {
    let mut shell = Command::new("sh");
    let options = options.join(" ");
    let client = format!("({typed}) | openssl s_client -connect localhost:{port} {options} >/dev/null 2>&1");
    output(shell.args(["-c", &client]).stdin(Stdio::null())).map(drop)
}

#[test]
fn plaintext_goes_on_through_a_renegotiation() -> Result<()> {
    let place = Place::new()?;
    let (_server, port) = place.server("../tls_found/server.py", "0")?;
    let typed = "printf 'GET /before HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n'; sleep 1; echo R; sleep 1; \
        printf 'GET /after HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n'; sleep 1; echo Q";
    client(port, &["-tls1_2"], typed)?;
    let told = place.exchanges(port, 2)?;
    assert_eq!(paths(&told), ["/before", "/after"], "{told:#?}");
    assert_eq!(told[0]["session_id"], told[1]["session_id"]);
    let closed = place.stand.wait_records(
        &format!("server.port = {port} and type = \"session.close\" and has(tls.protocol.version)"),
        1,
    )?;
    assert_eq!(field(&closed[0], "tls.protocol.version"), "1.2", "{}", closed[0]);
    assert!(place.stand.records(&format!("server.port = {port} and type = \"gap\""))?.is_empty());
    Ok(())
}

#[test]
fn early_data_is_told_once_and_as_what_it_is() -> Result<()> {
    let place = Place::new()?;
    let port = free_port()?;
    let (port_text, folder) = (port.to_string(), place.own.path());
    let (certificate, key) = (place.certificate.display().to_string(), place.key.display().to_string());
    let command = [
        "sh",
        "-c",
        "sleep 60 | openssl s_server -quiet -early_data -accept 127.0.0.1:$0 -cert $1 -key $2",
        &port_text,
        &certificate,
        &key,
    ];
    let mut server = Running::start("s_server", &command, None, &folder.join("log"), Signal::TERM)?;
    server.wait_ready(PATIENCE, || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok())?;
    let (session, early) = (folder.join("session").display().to_string(), folder.join("early"));
    std::fs::write(&early, "GET /early HTTP/1.1\r\nHost: x\r\n\r\n")?;
    client(port, &["-tls1_3", "-sess_out", &session], "sleep 1; echo Q")?;
    client(
        port,
        &["-tls1_3", "-sess_in", &session, "-early_data", &early.display().to_string()],
        "sleep 1; echo Q",
    )?;
    let told = place.exchanges(port, 1)?;
    assert_eq!(paths(&told), ["/early"], "{told:#?}");
    let closes = place.stand.wait_records(
        &format!("server.port = {port} and type = \"session.close\" and has(custody.tls.early_data)"),
        1,
    )?;
    assert_eq!(field(&closes[0], "custody.tls.early_data"), "offered", "{}", closes[0]);
    let odd = closes[0]["record"]["anomalies"].to_string();
    assert!(odd.contains("tls_early_data"), "{odd}: {}", closes[0]);
    Ok(())
}

#[test]
fn a_file_that_the_library_sends_is_a_gap_of_its_size_and_place() -> Result<()> {
    let place = Place::new()?;
    let library = place.own.path().join("libnull_tls.so");
    let source = Path::new(FOLDER).join("null_tls.c");
    output(Command::new("cc").args(["-shared", "-fPIC", "-w", "-o"]).arg(&library).arg(source))?;
    let mut python = Command::new("/usr/bin/python3");
    let port: u16 = output(python.arg(format!("{FOLDER}/null_tls.py")).arg(&library))?.trim().parse()?;
    let told = place.exchanges(port, 2)?;
    assert_eq!(
        paths(&told),
        ["/file/0", "/file/1"],
        "what follows a file stands at the wrong place: {told:#?}"
    );
    for one in &told {
        assert_eq!(field(one, "http.response.body.size"), 5000, "{one}");
        assert_eq!(field(one, "custody.bytes.lost"), 5000, "{one}");
    }
    let gaps = place
        .stand
        .wait_records(&format!("server.port = {port} and custody.gap.cause = \"no_payload\""), 1)?;
    let lost: u64 = gaps.iter().filter_map(|gap| field(gap, "custody.bytes.lost").as_u64()).sum();
    assert_eq!(lost, 10_000, "{gaps:#?}");
    Ok(())
}
