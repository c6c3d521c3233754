//! Plaintext of OpenSSL's callers in the ways that real programs call it: writes that are tried again, memory
//! BIOs, a forked child, a library that no package installed.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use custody_tests::observed;
use custody_tests::process::{eventually, output};
use custody_tests::servers::Nginx;
use custody_tests::stand::{Stand, field};

/// A Python program with the address and the certificate of a server as its arguments.
fn python(script: &str, nginx: &Nginx) -> Command {
    let mut command = Command::new("/usr/bin/python3");
    let prelude = "import os, select, socket, ssl, sys, time\n\
        port, context = int(sys.argv[1]), ssl.create_default_context(cafile=sys.argv[2])\n\
        def connect():\n    \
            return context.wrap_socket(socket.create_connection(('127.0.0.1', port)), server_hostname='localhost')\n";
    command
        .args(["-c", &format!("{prelude}{script}"), &nginx.https_port.to_string()])
        .arg(&nginx.certificate);
    command
}

fn exchanges(stand: &Stand, nginx: &Nginx, path: &str, count: usize) -> Result<Vec<serde_json::Value>> {
    let port = nginx.https_port;
    let filter = format!("type = \"exchange\" and server.port = {port} and url.path = \"{path}\"");
    stand.wait_records(&filter, count)
}

#[test]
fn a_write_that_is_tried_again_is_told_once() -> Result<()> {
    let (_folders, stand, nginx) = observed::nginx(&[])?;
    // A small send buffer and no waiting: most writes fail with WANT_WRITE and are made again.
    let script = "\
s = connect(); s.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096); s.setblocking(False)\n\
size = 900000; data = b'POST /upload HTTP/1.1\\r\\nHost: x\\r\\nConnection: close\\r\\nContent-Length: %d\\r\\n\\r\\n' % size + b'a' * size\n\
again = 0\n\
while data:\n    \
    try: data = data[s.write(data[:200000]):]\n    \
    except ssl.SSLWantWriteError: again += 1; select.select([], [s], [])\n    \
    except ssl.SSLWantReadError: select.select([s], [], [])\n\
s.setblocking(True); s.read(4096); s.close(); print(again)";
    let again: u32 = output(&mut python(script, &nginx))?.trim().parse()?;
    assert!(again > 0, "no write was tried again: the test shows nothing");
    let told = exchanges(&stand, &nginx, "/upload", 1)?;
    assert_eq!(told.len(), 1, "{told:#?}");
    assert_eq!(field(&told[0], "http.request.body.size"), 900_000, "{}", told[0]);
    assert_eq!(field(&told[0], "custody.bytes.lost").as_u64().unwrap_or(0), 0, "{}", told[0]);
    Ok(())
}

#[test]
fn a_child_goes_on_with_its_parents_connection() -> Result<()> {
    let (_folders, stand, nginx) = observed::nginx(&[])?;
    let script = "\
s = connect()\n\
def ask(path): s.write(b'GET /echo HTTP/1.1\\r\\nHost: x\\r\\nX-Who: %s\\r\\n\\r\\n' % path); s.read(4096)\n\
ask(b'parent')\n\
child = os.fork()\n\
if child == 0: ask(b'child'); os._exit(0)\n\
os.waitpid(child, 0)";
    output(&mut python(script, &nginx))?;
    let told = exchanges(&stand, &nginx, "/echo", 2)?;
    let who: Vec<_> = told.iter().map(|one| field(one, "http.request.header.x-who").clone()).collect();
    assert_eq!(who, ["parent", "child"]);
    Ok(())
}

#[test]
fn a_connection_that_was_open_before_the_agent_is_read_from_then_on() -> Result<()> {
    let folder = custody_tests::stand::folder()?;
    let mut stand = Stand::new(folder.path(), "")?;
    let servers = tempfile::tempdir()?;
    let nginx = Nginx::start(servers.path(), &[])?;
    let script = "\
s = connect()\n\
def ask(path): s.write(b'GET /echo HTTP/1.1\\r\\nHost: x\\r\\nX-Who: %s\\r\\n\\r\\n' % path); s.read(4096)\n\
ask(b'before'); print('asked', flush=True); sys.stdin.readline(); ask(b'after'); ask(b'later')";
    let mut client = python(script, &nginx).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let mut asked = String::new();
    BufReader::new(client.stdout.take().context("output")?).read_line(&mut asked)?;
    stand.start_agent()?;
    drop(client.stdin.take());
    anyhow::ensure!(client.wait()?.success(), "the client failed");
    let told = exchanges(&stand, &nginx, "/echo", 2)?;
    let who: Vec<_> = told.iter().map(|one| field(one, "http.request.header.x-who").clone()).collect();
    assert_eq!(who, ["after", "later"]);
    for one in &told {
        assert_eq!(field(one, "custody.bytes.lost").as_u64().unwrap_or(0), 0, "{one}");
    }
    Ok(())
}

#[test]
fn plaintext_that_reaches_no_socket_is_unknown_and_counted() -> Result<()> {
    let (_folders, stand, nginx) = observed::nginx(&[])?;
    // Both ends in one program, and between them its own memory: what a socket would tell does not exist.
    let script = "\
server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER); server.load_cert_chain(sys.argv[2], sys.argv[2].replace('.crt', '.key'))\n\
a, b = ssl.MemoryBIO(), ssl.MemoryBIO()\n\
ends = [context.wrap_bio(a, b, server_hostname='localhost'), server.wrap_bio(b, a, server_side=True)]\n\
for end in ends * 2:\n    \
    try: end.do_handshake()\n    \
    except ssl.SSLWantReadError: pass\n\
ends[0].write(b'GET /nowhere HTTP/1.1\\r\\nHost: x\\r\\nX-Who: memory\\r\\n\\r\\n'); print(ends[1].read(4096))";
    let read = output(&mut python(script, &nginx))?;
    assert!(read.contains("/nowhere"), "{read}");
    let unbound = stand.wait_records("type = \"exchange\" and custody.binding = \"unknown\"", 1)?;
    assert_eq!(field(&unbound[0], "http.request.header.x-who"), "memory");
    assert!(field(&unbound[0], "server.port").is_null(), "an address was guessed: {}", unbound[0]);
    eventually(Duration::from_secs(10), "a figure of unbound plaintext", || {
        let bytes = stand.status()?["worker"]["figures"]["tls_unbound_bytes"].as_u64();
        Ok(bytes.filter(|&bytes| bytes > 0))
    })?;
    Ok(())
}

#[test]
fn a_library_that_nobody_knew_is_probed_when_a_program_maps_it() -> Result<()> {
    let (_folders, stand, nginx) = observed::nginx(&[])?;
    let own = tempfile::tempdir()?;
    for name in ["libssl.so.3", "libcrypto.so.3"] {
        std::fs::copy(Path::new("/usr/lib/x86_64-linux-gnu").join(name), own.path().join(name))?;
    }
    // Without TLS 1.3 tickets or threads: requests until one was made long after the library was mapped.
    let script = "\
for n in range(30):\n    \
    s = connect(); s.write(b'GET /echo HTTP/1.1\\r\\nHost: x\\r\\nConnection: close\\r\\n\\r\\n'); s.read(4096); s.close()\n    \
    time.sleep(0.1)";
    output(python(script, &nginx).env("LD_LIBRARY_PATH", own.path()))?;
    // Each exchange once, by the server's end or by both.
    assert_eq!(exchanges(&stand, &nginx, "/echo", 30)?.len(), 30);
    let probes = stand.status()?["probes"].to_string();
    let path = own.path().display().to_string();
    assert!(probes.contains(&path), "{path} is not among {probes}");
    Ok(())
}

/// Both ends of many connections in one program that moves ciphertext itself. All of a kind write before any of it is
/// sent, and what was written last is sent first.
const BY_HAND: &str = "\
version = getattr(ssl.TLSVersion, sys.argv[3])\n\
context.maximum_version = version\n\
server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER); server.load_cert_chain(sys.argv[2], sys.argv[2].replace('.crt', '.key'))\n\
listener = socket.create_server(('127.0.0.1', 0)); address = listener.getsockname()\n\
class End:\n    \
    def __init__(self, sock, context, **options):\n        \
        self.sock, self.inward, self.outward = sock, ssl.MemoryBIO(), ssl.MemoryBIO()\n        \
        self.tls = context.wrap_bio(self.inward, self.outward, **options)\n    \
    def shake(self):\n        \
        try: self.tls.do_handshake()\n        \
        except ssl.SSLWantReadError: pass\n    \
    def send(self):\n        \
        if self.outward.pending: self.sock.sendall(self.outward.read())\n    \
    def receive(self): self.inward.write(self.sock.recv(65536))\n\
clients, servers = [], []\n\
for _ in range(20):\n    \
    clients.append(End(socket.create_connection(address), context, server_hostname='localhost'))\n    \
    servers.append(End(listener.accept()[0], server, server_side=True))\n\
def turn(ends, others, work):\n    \
    for end in ends: work(end)\n    \
    sending = [(end, other) for end, other in zip(ends, others) if end.outward.pending]\n    \
    for end, other in reversed(sending): end.send(); other.receive()\n\
for _ in range(3): turn(clients, servers, End.shake); turn(servers, clients, End.shake)\n\
def ask(end): end.tls.write(b'GET /by-hand HTTP/1.1\\r\\nHost: x\\r\\nX-Who: %s\\r\\n\\r\\n' % canary(end.sock.getsockname()[1]))\n\
def answer(end):\n    \
    who = end.tls.read(4096).split(b'X-Who: ')[1][:5]\n    \
    end.tls.write(b'HTTP/1.1 200 OK\\r\\nContent-Length: 5\\r\\nX-Who: %s\\r\\n\\r\\n%s' % (who, who))\n\
def canary(port): return b'%05d' % port\n\
for _ in range(3): turn(clients, servers, ask); turn(servers, clients, answer); [end.tls.read(4096) for end in clients]\n\
time.sleep(1)\n\
for end in clients + servers: end.sock.close()";

#[test]
fn ciphertext_that_a_program_moves_itself_tells_the_connection() -> Result<()> {
    let (_folders, stand, nginx) = observed::nginx(&[])?;
    for version in ["TLSv1_2", "TLSv1_3"] {
        output(python(BY_HAND, &nginx).arg(version))?;
    }
    let told = stand.wait_records("type = \"exchange\" and url.path = \"/by-hand\"", 120)?;
    assert_eq!(told.len(), 120, "each once, by one of its ends");
    for one in &told {
        assert_eq!(field(one, "custody.binding"), "ciphertext", "{one}");
        let port = field(one, "client.port").to_string();
        for header in ["http.request.header.x-who", "http.response.header.x-who"] {
            let who = field(one, header).as_str().unwrap_or_default().trim_start_matches('0').to_owned();
            assert_eq!(who, port, "{header}: {one}");
        }
    }
    Ok(())
}

#[test]
fn clients_are_bound_by_their_own_end_where_the_server_is_not_observed() -> Result<()> {
    let (folder, servers) = (custody_tests::stand::folder()?, custody_tests::stand::folder()?);
    let mut stand = Stand::new(folder.path(), "[capture.exclude]\nexecutables = [\"/usr/sbin/nginx\"]")?;
    stand.start_agent()?;
    let nginx = Nginx::start(servers.path(), &[])?;
    // curl brings a transport of its own over a socket; asyncio's is memory.
    let mut curl = Command::new("curl");
    curl.args(["-sS", "-o", "/dev/null", "-w", "%{local_port}", "--cacert"]).arg(&nginx.certificate);
    let curl = output(curl.arg(format!("https://localhost:{}/echo?of=curl", nginx.https_port)))?;
    let script = "\
import asyncio\n\
async def main():\n    \
    r, w = await asyncio.open_connection('127.0.0.1', port, ssl=context, server_hostname='localhost')\n    \
    w.write(b'GET /echo?of=asyncio HTTP/1.1\\r\\nHost: x\\r\\nConnection: close\\r\\n\\r\\n'); await r.read()\n    \
    print(w.get_extra_info('sockname')[1]); w.close()\n\
asyncio.run(main())";
    let asyncio = output(&mut python(script, &nginx))?;
    let told = exchanges(&stand, &nginx, "/echo", 2)?;
    let bound: Vec<_> = told
        .iter()
        .map(|one| (field(one, "client.port").to_string(), field(one, "custody.binding").clone()))
        .collect();
    let port = |said: &str| said.trim().to_owned();
    assert_eq!(bound, [(port(&curl), "nested".into()), (port(&asyncio), "ciphertext".into())], "{told:#?}");
    // What went over the wire beside the plaintext is counted, whoever moved it there.
    let closed = format!(
        "type = \"session.close\" and network.protocol.name = \"http\" and server.port = {}",
        nginx.https_port
    );
    for one in stand.wait_records(&closed, 2)? {
        assert!(field(&one, "custody.bytes.skipped").as_u64() > Some(0), "{one}");
        assert_eq!(field(&one, "custody.bytes.lost").as_u64().unwrap_or(0), 0, "{one}");
    }
    Ok(())
}
