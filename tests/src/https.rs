//! HTTPS servers that differ in how TLS reaches their sockets. Each answers any path below `/echo` with the same few
//! bytes, keeps connections open, and writes no log of requests.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::process::Signal;

use crate::process::{Running, free_port};

const PATIENCE: Duration = Duration::from_secs(30);

/// Python's asyncio: TLS over memory, moved to the socket by the program. Arguments: port, certificate, key.
const ASYNCIO: &str = r#"
import asyncio, ssl, sys
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[2], sys.argv[3])
answer = b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 12\r\n\r\n{"ok":true}\n'
async def serve(reader, writer):
    try:
        while True:
            await reader.readuntil(b'\r\n\r\n')
            writer.write(answer)
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()
async def main():
    server = await asyncio.start_server(serve, '127.0.0.1', int(sys.argv[1]), ssl=context, backlog=512)
    await server.serve_forever()
asyncio.run(main())
"#;

/// Node: OpenSSL within the executable, over memory of Node's own. The same arguments. It answers a path that ends with
/// `/aaaaaa` so late that the agent tells the request before.
const NODE: &str = r#"
const fs = require('fs');
const [port, cert, key] = process.argv.slice(1);
const options = { cert: fs.readFileSync(cert), key: fs.readFileSync(key), keepAliveTimeout: 600000 };
const answer = (response) => {
  response.writeHead(200, { 'Content-Type': 'application/json', 'Content-Length': 12 });
  response.end('{"ok":true}\n');
};
require('https').createServer(options, (request, response) => {
  if (request.url.endsWith('/aaaaaa')) setTimeout(answer, 500, response); else answer(response);
}).listen(Number(port), '127.0.0.1', 512);
"#;

/// A running server.
#[derive(Debug)]
pub struct Https {
    /// Where it listens, on loopback.
    pub port: u16,
    /// Ends with this value.
    running: Running,
}

impl Https {
    /// Python's asyncio.
    pub fn asyncio(folder: &Path, certificate: &Path) -> Result<Https> {
        Https::of_script(folder, "asyncio", &["/usr/bin/python3", "-c", ASYNCIO], certificate)
    }

    /// Node.
    pub fn node(folder: &Path, certificate: &Path) -> Result<Https> {
        Https::of_script(folder, "node", &["node", "-e", NODE], certificate)
    }

    /// HAProxy, in front of a plain HTTP server on `backend`.
    pub fn haproxy(folder: &Path, certificate: &Path, backend: u16) -> Result<Https> {
        let port = free_port()?;
        let both = folder.join("haproxy.pem");
        std::fs::write(&both, [std::fs::read(certificate)?, std::fs::read(key(certificate))?].concat())?;
        let configuration = format!(
            "global\n  maxconn 1000\n  nbthread 2\ndefaults\n  mode http\n  timeout connect 10s\n  timeout client 1h\n  \
             timeout server 1h\nfrontend tls\n  bind 127.0.0.1:{port} ssl crt {}\n  default_backend plain\n\
             backend plain\n  server one 127.0.0.1:{backend}\n",
            both.display()
        );
        let file = folder.join("haproxy.cfg");
        std::fs::write(&file, configuration)?;
        let file = file.to_str().context("folder is not UTF-8")?;
        Https::start(folder, "haproxy", &["haproxy", "-db", "-f", file], port)
    }

    fn of_script(folder: &Path, name: &str, command: &[&str], certificate: &Path) -> Result<Https> {
        let (port, key) = (free_port()?, key(certificate));
        let number = port.to_string();
        let (certificate, key) = (certificate.display().to_string(), key.display().to_string());
        let arguments = [number.as_str(), certificate.as_str(), key.as_str()];
        Https::start(folder, name, &[command, &arguments].concat(), port)
    }

    fn start(folder: &Path, name: &str, command: &[&str], port: u16) -> Result<Https> {
        let log = folder.join(format!("{name}.log"));
        let mut running = Running::start(name, command, None, &log, Signal::TERM)?;
        running.wait_ready(PATIENCE, || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok())?;
        Ok(Https { port, running })
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.running.pid()
    }
}

/// The key beside a certificate.
fn key(certificate: &Path) -> PathBuf {
    certificate.with_extension("key")
}
