//! OpenSSL wherever it is: linked into a program, a renamed copy in a Python package, in a mount namespace or a
//! root of its own, replaced while it is used, loaded late. The clients of the servers here speak TLS that is not
//! read, so what is recorded was read inside the server.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use custody_tests::gnutls::fetch;
use custody_tests::observed::Place;
use custody_tests::process::{Running, eventually, free_port, output};
use custody_tests::servers::Postgres;
use custody_tests::stand::field;
use rustix::process::Signal;

const PATIENCE: Duration = Duration::from_secs(30);
const LIBRARIES: &str = "/usr/lib/x86_64-linux-gnu";
const SERVER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/tls_found/server.py");

/// A folder with a copy of the system's OpenSSL.
fn copy_openssl(place: &Place, name: &str) -> Result<PathBuf> {
    let folder = place.folder().join(name);
    std::fs::create_dir(&folder)?;
    for library in ["libssl.so.3", "libcrypto.so.3"] {
        std::fs::copy(Path::new(LIBRARIES).join(library), folder.join(library))?;
    }
    Ok(folder)
}

/// Starts a shell command, in which `$PORT`, `$CERTIFICATE`, `$KEY` and `$SERVER` are set.
fn start(place: &Place, command: &str) -> Result<(Running, u16)> {
    let port = free_port()?;
    let settings = [
        format!("PORT={port}"),
        format!("CERTIFICATE={}", place.certificate.display()),
        format!("KEY={}", place.key.display()),
        format!("SERVER={SERVER}"),
    ];
    let mut whole = vec!["env"];
    whole.extend(settings.iter().map(String::as_str));
    whole.extend(["sh", "-ec", command]);
    let log = place.folder().join(format!("server-{port}.log"));
    let mut server = Running::start("the server", &whole, None, &log, Signal::TERM)?;
    server.wait_ready(PATIENCE, || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok())?;
    Ok((server, port))
}

fn python(place: &Place, libraries: &Path) -> Result<(Running, u16)> {
    let libraries = libraries.display();
    start(
        place,
        &format!("exec env LD_LIBRARY_PATH={libraries} /usr/bin/python3 $SERVER $PORT $CERTIFICATE $KEY 0"),
    )
}

/// Each path was read once inside the server.
fn assert_read(place: &Place, port: u16, paths: &[&str]) -> Result<()> {
    fetch(port, &place.certificate, paths)?;
    let filter = format!("type = \"exchange\" and server.port = {port}");
    let told = place.stand.wait_records(&filter, paths.len())?;
    let read: Vec<_> = told.iter().map(|one| field(one, "url.path").as_str().unwrap_or("?")).collect();
    assert_eq!(read, paths, "{told:#?}");
    for one in &told {
        assert_eq!(field(one, "custody.tls"), "tls", "{one}");
    }
    Ok(())
}

/// What is probed, as soon as the status, which is made anew every second, says so.
fn wait_probed(place: &Place, path: &str, times: usize) -> Result<()> {
    eventually(Duration::from_secs(20), &format!("{path} among the probes"), || {
        let probes = place.stand.status()?["probes"].to_string();
        Ok((probes.matches(path).count() >= times).then_some(()))
    })
}

#[test]
fn openssl_that_is_linked_into_node_is_read() -> Result<()> {
    if Command::new("node").arg("--version").output().is_err() {
        return shows_nothing("node is not installed");
    }
    let place = Place::new()?;
    let script = "const fs = require('fs'), [port, cert, key] = process.argv.slice(1); \
        require('https').createServer({cert: fs.readFileSync(cert), key: fs.readFileSync(key)}, \
        (request, answer) => answer.end('ok')).listen(+port, '127.0.0.1')";
    let (_server, port) = start(&place, &format!("exec node -e \"{script}\" $PORT $CERTIFICATE $KEY"))?;
    fetch(port, &place.certificate, &["/one", "/two"])?;
    // Node hands ciphertext over in memory: whether it is bound to the socket is another matter than that it is read.
    let filter = "type = \"exchange\" and (url.path = \"/one\" or url.path = \"/two\")";
    let told = place.stand.wait_records(filter, 2)?;
    assert_eq!(told.len(), 2, "each exactly once: {told:#?}");
    assert!(told.iter().all(|one| field(one, "http.response.status_code") == 200), "{told:#?}");
    wait_probed(&place, "/node (", 1)?;

    Ok(())
}

#[test]
fn a_library_that_exists_in_a_mount_namespace_alone_is_read() -> Result<()> {
    let place = Place::new()?;
    let copy = copy_openssl(&place, "copied")?;
    let inside = place.folder().join("inside");
    std::fs::create_dir(&inside)?;
    let (copy, inside) = (copy.display(), inside.display());
    let (_server, port) = start(
        &place,
        &format!(
            "exec unshare -m sh -ec 'mount -t tmpfs tmpfs {inside}; cp {copy}/* {inside}; \
         exec env LD_LIBRARY_PATH={inside} /usr/bin/python3 $SERVER $PORT $CERTIFICATE $KEY 0'"
        ),
    )?;
    std::thread::sleep(Duration::from_secs(3));
    assert_read(&place, port, &["/in/a/namespace", "/again"])?;
    assert!(!Path::new(&format!("{inside}/libssl.so.3")).exists(), "the library is on the host too");
    wait_probed(&place, &format!("{inside}/libssl.so.3"), 1)?;
    Ok(())
}

#[test]
fn a_library_below_another_root_is_read() -> Result<()> {
    let place = Place::new()?;
    let root = place.folder().join("root");
    let linked = output(Command::new("ldd").arg("/usr/bin/openssl"))?;
    let needed = linked.split_whitespace().filter(|word| word.starts_with('/'));
    for file in needed.chain(["/usr/bin/openssl"]) {
        let target = root.join(file.trim_start_matches('/'));
        std::fs::create_dir_all(target.parent().context("a root")?)?;
        std::fs::copy(file, target)?;
    }
    std::fs::copy(&place.certificate, root.join("certificate"))?;
    std::fs::copy(&place.key, root.join("key"))?;
    // Its standard input answers the client.
    let input = place.folder().join("input");
    output(Command::new("mkfifo").arg(&input))?;
    let (_server, port) = start(
        &place,
        &format!(
            "exec chroot {} /usr/bin/openssl s_server -quiet -accept 127.0.0.1:$PORT -cert /certificate -key /key <>{}",
            root.display(),
            input.display()
        ),
    )?;
    std::thread::sleep(Duration::from_secs(3));
    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok";
    let mut standard_input = std::fs::File::options().write(true).open(&input)?;
    std::thread::spawn(move || {
        std::thread::sleep(Duration::from_secs(2));
        std::io::Write::write_all(&mut standard_input, answer)
    });
    fetch(port, &place.certificate, &["/below/a/root"])?;
    let filter = format!("server.port = {port} and url.path = \"/below/a/root\"");
    let told = place.stand.wait_records(&filter, 1)?;
    assert_eq!(field(&told[0], "custody.tls"), "tls", "{}", told[0]);
    Ok(())
}

#[test]
fn a_library_that_was_replaced_stays_read_and_so_does_the_new_one() -> Result<()> {
    let place = Place::new()?;
    let libraries = copy_openssl(&place, "upgraded")?;
    let (_old, old_port) = python(&place, &libraries)?;
    std::thread::sleep(Duration::from_secs(3));
    assert_read(&place, old_port, &["/old/before"])?;
    // As a package manager does it: a new file takes the name.
    for library in ["libssl.so.3", "libcrypto.so.3"] {
        let new = libraries.join("new");
        std::fs::copy(Path::new(LIBRARIES).join(library), &new)?;
        std::fs::rename(new, libraries.join(library))?;
    }
    let (_new, new_port) = python(&place, &libraries)?;
    // A rescan has passed, which forgets what nobody maps any more.
    std::thread::sleep(Duration::from_secs(12));
    assert_read(&place, new_port, &["/new"])?;
    fetch(old_port, &place.certificate, &["/old/after"])?;
    let filter = format!("type = \"exchange\" and server.port = {old_port}");
    assert_eq!(place.stand.wait_records(&filter, 2)?.len(), 2, "the old library is not read any more");
    let path = libraries.join("libssl.so.3").display().to_string();
    wait_probed(&place, &path, 2)?;
    Ok(())
}

#[test]
fn what_passed_before_a_late_library_was_probed_is_a_gap() -> Result<()> {
    let place = Place::new()?;
    let libraries = copy_openssl(&place, "late")?.display().to_string();
    // No look at the young process is left when it loads its library.
    let (_server, port) = start(
        &place,
        &format!("exec env LD_LIBRARY_PATH={libraries} /usr/bin/python3 $SERVER $PORT $CERTIFICATE $KEY 4"),
    )?;
    let paths: Vec<String> = (0..8).map(|number| format!("/late/{number}")).collect();
    fetch(port, &place.certificate, &paths.iter().map(String::as_str).collect::<Vec<_>>())?;
    let here = format!("server.port = {port}");
    place
        .stand
        .wait_records(&format!("{here} and type = \"session.close\" and has(tls.client.server_name)"), 1)?;
    let gaps = place.stand.records(&format!("{here} and custody.gap.cause = \"tls_not_read\""))?;
    assert_eq!(gaps.len(), 1, "{gaps:#?}");
    assert!(field(&gaps[0], "custody.bytes.skipped").as_u64() > Some(1000), "{}", gaps[0]);
    assert_eq!(field(&gaps[0], "tls.client.server_name"), "localhost", "{}", gaps[0]);
    let told = place.stand.records(&format!("{here} and type = \"exchange\""))?;
    let read: Vec<_> = told.iter().filter_map(|one| field(one, "url.path").as_str()).collect();
    assert!(read.len() >= 4, "the library was not probed at the handshake: {read:?}");
    assert_eq!(read, paths[paths.len() - read.len()..], "what was read is not the rest");
    Ok(())
}

#[test]
fn a_renamed_copy_in_a_python_package_is_read() -> Result<()> {
    const PACKAGE: &str = "psycopg2-binary==2.9.10";
    let cache = Path::new(env!("CARGO_MANIFEST_DIR")).join(".cache").join(PACKAGE);
    if !cache.join("psycopg2").exists() {
        std::fs::create_dir_all(&cache)?;
        let mut pip = Command::new("python3");
        pip.args(["-m", "pip", "install", "-q", "--no-deps", "--only-binary=:all:", "--target"]).arg(&cache);
        // For Debian's own Python, whichever one is first in the path.
        pip.args(["--python-version", "3.11", "--implementation", "cp", "--abi", "cp311"]);
        pip.args(["--platform", "manylinux2014_x86_64", PACKAGE]);
        if !pip.stderr(Stdio::inherit()).status().is_ok_and(|status| status.success()) {
            return shows_nothing("pip brings no package with an OpenSSL of its own");
        }
    }
    let place = Place::new()?;
    let cluster = place.folder().join("cluster");
    std::fs::create_dir(&cluster)?;
    let postgres = Postgres::start(&cluster)?;
    let script = "import psycopg2, time\n\
        time.sleep(3)\n\
        c = psycopg2.connect(''); c.autocommit = True; q = c.cursor()\n\
        for n in range(5): q.execute('SELECT %s AS from_a_wheel', (n,)); q.fetchall()\n\
        print(max({l.split()[-1] for l in open('/proc/self/maps') if 'libssl' in l}, key=lambda path: 'binary.libs' in path))";
    let mut python = Command::new("/usr/bin/python3.11");
    python.args(["-c", script]).env("PYTHONPATH", &cache);
    let library = output(postgres.address(&mut python, true))?;
    assert!(library.contains("psycopg2_binary.libs/libssl-"), "another OpenSSL was used: {library}");
    let filter = format!("server.port = {} and db.query.text =~ \"from_a_wheel$\"", postgres.port);
    assert_eq!(place.stand.wait_records(&filter, 5)?.len(), 5, "each exactly once, read at either end");
    wait_probed(&place, library.trim(), 1)?;
    Ok(())
}

/// Where something is missing the test shows nothing, and says so; in CI that is an error.
fn shows_nothing(why: &str) -> Result<()> {
    if std::env::var_os("CI").is_some_and(|value| value == "true") {
        bail!("{why}");
    }
    println!("skipped: {why}");
    Ok(())
}
