//! Live HTTP bodies, plain and over TLS: what a server compressed stands in the record as its client read it, masked;
//! an answer without an end is told while it goes on; the fields of forms are fields.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use custody_tests::observed::Place;
use custody_tests::process::{Running, free_port, output};
use custody_tests::stand::{Stand, field};
use rustix::process::Signal;

/// Arguments: port, TLS port, certificate, key, a file of text, and the same compressed by zstd, which this Node
/// has no way to make. The last part of a path below `/coded/` says how the answer is compressed; `/events` sends three events, 400 ms apart, and stays open; anything else is answered with nothing.
const SERVER: &str = r#"
const fs = require('fs'), zlib = require('zlib');
const [port, tls, cert, key, plain, zstd] = process.argv.slice(1);
const text = fs.readFileSync(plain);
const code = { gzip: zlib.gzipSync, deflate: zlib.deflateSync, br: zlib.brotliCompressSync, zstd: () => fs.readFileSync(zstd) };
const answer = (request, response) => {
  const [, kind, coding] = request.url.split('/');
  if (kind === 'coded') {
    const body = code[coding](text);
    response.writeHead(200, { 'Content-Type': 'application/json', 'Content-Encoding': coding });
    response.write(body.subarray(0, 50));
    response.end(body.subarray(50));
  } else if (kind === 'events') {
    response.writeHead(200, { 'Content-Type': 'text/event-stream' });
    let number = 0;
    const next = () => { if (++number <= 3) response.write(`data: {"event":${number},"token":"ghp_${'a1B2'.repeat(9)}"}\n\n`); };
    next();
    const timer = setInterval(next, 400);
    request.on('close', () => clearInterval(timer));
  } else { request.resume(); response.writeHead(204); response.end(); }
};
require('http').createServer(answer).listen(Number(port), '127.0.0.1');
require('https').createServer({ cert: fs.readFileSync(cert), key: fs.readFileSync(key) }, answer).listen(Number(tls), '127.0.0.1');
"#;

const CARD: &str = "4111 1111 1111 1111";

struct Server {
    bases: [(u16, String); 2],
    certificate: String,
    _running: Running,
}

impl Server {
    fn start(place: &Place) -> Result<Server> {
        let (port, tls) = (free_port()?, free_port()?);
        let (certificate, key) = (place.certificate.display().to_string(), place.key.display().to_string());
        let (port_text, tls_text) = (port.to_string(), tls.to_string());
        let plain = place.folder().join("text.json");
        let fill = "x".repeat(5000);
        std::fs::write(&plain, format!(r#"{{"note":"needle","card":"{CARD}","fill":"{fill}"}}"#))?;
        let coded = plain.with_extension("json.zst");
        output(Command::new("zstd").args(["-q", "-f", "-o"]).args([&coded, &plain]))?;
        let (plain, coded) = (plain.display().to_string(), coded.display().to_string());
        let command = ["node", "-e", SERVER, &port_text, &tls_text, &certificate, &key, &plain, &coded];
        let log = place.folder().join("node.log");
        let mut running = Running::start("node", &command, None, &log, Signal::TERM)?;
        running.wait_ready(Duration::from_secs(30), || {
            [port, tls].iter().all(|port| std::net::TcpStream::connect(("127.0.0.1", *port)).is_ok())
        })?;
        let bases = [(port, format!("http://127.0.0.1:{port}")), (tls, format!("https://localhost:{tls}"))];
        Ok(Server { bases, certificate, _running: running })
    }

    fn curl(&self, base: &str, path: &str, arguments: &[&str]) -> Command {
        let mut curl = Command::new("curl");
        curl.args(["-sS", "--cacert", &self.certificate]).args(arguments).arg(format!("{base}/{path}"));
        curl
    }
}

#[test]
fn compressed_bodies_events_and_forms_are_told_as_their_clients_saw_them() -> Result<()> {
    let place = Place::new()?;
    let server = Server::start(&place)?;
    for (port, base) in &server.bases {
        for coding in ["gzip", "deflate", "br", "zstd"] {
            coded(&place.stand, &server, *port, base, coding)?;
        }
        events(&place.stand, &server, *port, base)?;
        forms(&place.stand, &server, *port, base)?;
    }
    Ok(())
}

fn coded(stand: &Stand, server: &Server, port: u16, base: &str, coding: &str) -> Result<()> {
    let read = output(&mut server.curl(base, &format!("coded/{coding}"), &["--compressed"]))?;
    assert!(read.contains(CARD), "the server sends what must be masked");
    let told = stand.wait_records(&format!("server.port = {port} and url.path = \"/coded/{coding}\""), 1)?;
    let [one] = told.as_slice() else { anyhow::bail!("{told:#?}") };
    let body = field(one, "http.response.body.content").as_str().context("body")?;
    let (before, after) = read.split_once(CARD).context("card")?;
    assert!(body.starts_with(before) && body.ends_with(after), "{coding}: {body}");
    assert!(!body.contains(CARD), "{coding}: {body}");
    assert_eq!(field(one, "http.response.body.coding"), coding, "{one}");
    assert_eq!(field(one, "http.response.body.decoded_size"), read.len(), "{one}");
    assert_eq!(one["record"]["anomalies"].as_array().map_or(0, Vec::len), 0, "{one}");
    Ok(())
}

/// The client goes before the answer has an end.
fn events(stand: &Stand, server: &Server, port: u16, base: &str) -> Result<()> {
    let mut curl = server.curl(base, "events", &["-N"]).stdout(Stdio::piped()).spawn()?;
    let lines = BufReader::new(curl.stdout.take().context("output")?).lines();
    let sent: Vec<String> = lines
        .filter(|line| line.as_ref().is_ok_and(|line| !line.is_empty()))
        .take(3)
        .collect::<Result<_, _>>()?;
    curl.kill()?;
    curl.wait()?;
    assert!(sent.len() == 3 && sent.iter().all(|line| line.contains("ghp_a1B2")), "{sent:?}");
    let mine = format!("server.port = {port}");
    let open = stand.wait_records(&format!("{mine} and url.path = \"/events\""), 1)?;
    assert_eq!(open[0]["type"], "exchange.open", "{open:#?}");
    stand.wait_records(&format!("{mine} and type = \"exchange.close\""), 1)?;
    let records = stand.records(&format!("{mine} and type =~ \"^exchange\""))?;
    let of_this = records.iter().filter(|record| record["session_id"] == open[0]["session_id"]);
    let told: String =
        of_this.filter_map(|record| field(record, "http.response.body.content").as_str()).collect();
    for number in 1..=3 {
        assert_eq!(told.matches(&format!("\"event\":{number},")).count(), 1, "{told}");
    }
    assert!(!told.contains("ghp_a1B2"), "{told}");
    Ok(())
}

fn forms(stand: &Stand, server: &Server, port: u16, base: &str) -> Result<()> {
    output(&mut server.curl(base, "form", &["-d", "name=anna&password=hunter22"]))?;
    output(&mut server.curl(
        base,
        "upload",
        &["-F", "kind=scan", "-F", "page=@/etc/hostname;filename=page.txt"],
    ))?;
    let of = |path: &str| format!("server.port = {port} and url.path = \"/{path}\"");
    let form = stand.wait_records(&of("form"), 1)?;
    assert_eq!(field(&form[0], "http.request.form.name"), "anna", "{form:#?}");
    assert!(!form[0].to_string().contains("hunter22"), "{form:#?}");
    let upload = stand.wait_records(&of("upload"), 1)?;
    assert_eq!(field(&upload[0], "http.request.form.kind"), "scan", "{upload:#?}");
    assert_eq!(field(&upload[0], "http.request.file.page"), "page.txt", "{upload:#?}");
    Ok(())
}
