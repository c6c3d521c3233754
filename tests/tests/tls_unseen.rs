//! TLS that is not read is no silence: the session says how much stayed ciphertext and what its handshake told, and
//! the host says which program it was.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;
use custody_tests::gnutls::fetch;
use custody_tests::process::{Running, eventually, free_port};
use custody_tests::servers::certificate;
use custody_tests::stand::{Stand, field};
use rustix::process::Signal;
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(30);
const PAGES: usize = 3;

/// Of a program that ended before it was looked at, nobody knows what it spoke TLS with; its bytes count all the same. The
/// server goes on.
fn may_be_told(program: &str, library: &str) -> bool {
    library == "GnuTLS" || (program == "/wget" && library == "unknown")
}

#[test]
fn programs_with_gnutls_are_named_with_what_was_not_read() -> Result<()> {
    let (folder, own) = (custody_tests::stand::folder()?, custody_tests::stand::folder()?);
    let mut stand = Stand::new(folder.path(), "")?;
    let (certificate, key) = certificate(own.path())?;
    stand.start_agent()?;
    let port = free_port()?;
    let (port_text, certificate_text, key_text) =
        (port.to_string(), certificate.display().to_string(), key.display().to_string());
    let command = [
        "gnutls-serv",
        "--http",
        "--port",
        &port_text,
        "--x509certfile",
        &certificate_text,
        "--x509keyfile",
        &key_text,
    ];
    let mut server = Running::start("gnutls-serv", &command, None, &own.path().join("log"), Signal::TERM)?;
    server.wait_ready(PATIENCE, || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok())?;
    for _ in 0..PAGES {
        fetch(port, &certificate, &["/"])?;
    }
    let here = format!("server.port = {port} and custody.gap.cause = \"tls_not_read\"");
    let gaps = stand.wait_records(&here, PAGES)?;
    assert_eq!(gaps.len(), PAGES, "one for each session: {gaps:#?}");
    let mut bytes = 0;
    for gap in &gaps {
        assert_eq!(field(gap, "tls.client.server_name"), "localhost", "{gap}");
        assert_eq!(field(gap, "tls.protocol.version"), "1.3", "{gap}");
        assert!(
            field(gap, "process.executable.path").as_str().is_some_and(|path| path.ends_with("/wget")),
            "{gap}"
        );
        bytes += field(gap, "custody.bytes.skipped").as_u64().unwrap_or(0);
    }
    assert!(bytes > 1000 * PAGES as u64, "{gaps:#?}");
    let closes = stand.wait_records(&format!("server.port = {port} and type = \"session.close\""), PAGES)?;
    let skipped = |record| field(record, "custody.bytes.skipped").as_u64().unwrap_or(0);
    assert_eq!(closes.iter().map(skipped).sum::<u64>(), bytes, "gaps and accounts do not agree");
    let programs = ["/wget", "/gnutls-serv"];
    eventually(PATIENCE, "both programs in the status", || {
        let unread = stand.status()?["tls_unread"].as_array().cloned().unwrap_or_default();
        let of = |name: &str| {
            let of_program =
                |one: &&Value| one["executable"].as_str().is_some_and(|path| path.ends_with(name));
            let all: Vec<&Value> = unread.iter().filter(of_program).collect();
            let sum = |figure: &str| all.iter().filter_map(|one| one[figure].as_u64()).sum::<u64>();
            all.iter().any(|one| may_be_told(name, one["library"].as_str().unwrap_or_default()))
                && sum("connections") == PAGES as u64
                && sum("bytes") == bytes
        };
        Ok(programs.iter().all(|name| of(name)).then_some(()))
    })?;
    stand.stop_agent()?;
    // The last that was told of each program and library.
    let mut told = BTreeMap::new();
    for record in stand.records("type = \"coverage\"")? {
        let text = |name| field(&record, name).as_str().unwrap_or_default().to_owned();
        let key = (text("process.executable.path"), text("custody.tls.library"));
        told.insert(key, field(&record, "custody.bytes.skipped").as_u64().unwrap_or(0));
    }
    for name in programs {
        let of_program: Vec<_> = told.iter().filter(|((path, _), _)| path.ends_with(name)).collect();
        assert_eq!(of_program.iter().map(|(_, skipped)| **skipped).sum::<u64>(), bytes, "{told:?}");
        assert!(of_program.iter().any(|((_, library), _)| may_be_told(name, library)), "{told:?}");
    }
    Ok(())
}
