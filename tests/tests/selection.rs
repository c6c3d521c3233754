//! What ports select, over TLS: a library's call has no address, so a rule by port must hold for plaintext by what its
//! connection is, however that is found. What is left out stands nowhere, not even without a connection.

use std::process::Command;

use anyhow::Result;
use custody_tests::https::Https;
use custody_tests::process::output;
use custody_tests::servers::Nginx;
use custody_tests::stand::{self, Stand, field};
use serde_json::Value;

/// nginx, whose library moves the bytes itself, and asyncio, whose TLS is over memory.
struct Servers {
    nginx: Nginx,
    asyncio: Https,
    _folder: tempfile::TempDir,
}

impl Servers {
    fn start() -> Result<Self> {
        let folder = stand::folder()?;
        let nginx = Nginx::start(folder.path(), &[])?;
        let asyncio = Https::asyncio(folder.path(), &nginx.certificate)?;
        Ok(Servers { nginx, asyncio, _folder: folder })
    }

    /// One request to each TLS port, whose path says which, and one to the plain one; by a client of OpenSSL, which is
    /// observed too.
    fn ask(&self) -> Result<()> {
        let Servers { nginx, asyncio, .. } = self;
        for url in [
            nginx.https("echo/nginx"),
            format!("https://localhost:{}/echo/asyncio", asyncio.port),
            nginx.http("echo/plain"),
        ] {
            output(Command::new("curl").args(["-sS", "--cacert"]).arg(&nginx.certificate).arg(url))?;
        }
        Ok(())
    }
}

/// Paths of these requests in the record, and all of the record as text, but for curl's own command lines.
fn recorded(stand: &mut Stand) -> Result<(Vec<String>, String)> {
    // Ends all that waits for a connection.
    stand.stop_agent()?;
    let records = stand.records("type != \"exec\"")?;
    let path = |record| field(record, "url.path").as_str().filter(|path| path.starts_with("/echo/"));
    let mut paths: Vec<String> = records.iter().filter_map(path).map(str::to_owned).collect();
    paths.sort();
    Ok((paths, Value::from(records).to_string()))
}

#[test]
fn a_port_that_is_left_out_is_left_out_over_tls_too() -> Result<()> {
    let servers = Servers::start()?;
    let folder = stand::folder()?;
    let ports = [servers.nginx.https_port, servers.asyncio.port];
    let mut stand = Stand::new(folder.path(), &format!("[capture.exclude]\nports = {ports:?}"))?;
    stand.start_agent()?;
    servers.ask()?;
    stand.wait_records("url.path = \"/echo/plain\"", 1)?;
    let (paths, text) = recorded(&mut stand)?;
    assert_eq!(paths, ["/echo/plain"]);
    for left_out in ["/echo/nginx", "/echo/asyncio"] {
        assert!(!text.contains(left_out), "{left_out} stands in the record");
    }
    Ok(())
}

#[test]
fn a_port_that_is_included_is_read_over_tls_and_no_other_is() -> Result<()> {
    let servers = Servers::start()?;
    let folder = stand::folder()?;
    let other = Https::asyncio(folder.path(), &servers.nginx.certificate)?;
    let ports = [servers.nginx.https_port, servers.asyncio.port];
    let mut stand = Stand::new(folder.path(), &format!("[capture.include]\nports = {ports:?}"))?;
    stand.start_agent()?;
    let url = format!("https://localhost:{}/echo/other", other.port);
    output(Command::new("curl").args(["-sS", "--cacert"]).arg(&servers.nginx.certificate).arg(url))?;
    servers.ask()?;
    stand.wait_records("url.path =~ \"^/echo\"", 2)?;
    let (paths, text) = recorded(&mut stand)?;
    assert_eq!(paths, ["/echo/asyncio", "/echo/nginx"]);
    assert!(!text.contains("/echo/other"), "a port that nobody included stands in the record");
    Ok(())
}
