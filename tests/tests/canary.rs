//! Canary secrets in every form that the decoded protocols know: none may stand in any file or log of agent,
//! worker and sink, in what people are shown, or in the memory of agent and sink.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use custody_tests::process::output;
use custody_tests::servers::{Nginx, PASSWORD, Postgres};
use custody_tests::stand::Stand;

/// No cards, but numbers that pass the check digit.
const CARDS: [&str; 3] = ["4929123456781236", "5425233430109903", "374245455400126"];
/// No address that anybody has.
const MAIL: &str = "canary.4f1c@example.org";

/// Everything that must not be found, with the base64 of what travels in that form.
const CANARIES: [&str; 20] = [
    PASSWORD,
    CARDS[0],
    CARDS[1],
    CARDS[2],
    MAIL,
    "canary-bearer-4f1c",
    "canary-cookie-4f1c",
    "canary-basic-4f1c",
    "Y2FuYXJ5LWJhc2ljLTRmMWM",
    "canary-form-4f1c",
    "canary%2Dpercent%2D4f1c",
    "canary-percent-4f1c",
    "canary-json-4f1c",
    "canary-query-4f1c",
    "canary-split-4f1c",
    "canary-gzip-4f1c",
    "canary-argv-4f1c",
    "canary-flag-4f1c",
    "canary-dsn-4f1c",
    "canary-literal-4f1c",
];

#[test]
fn no_canary_survives_in_files_logs_answers_or_memory() -> Result<()> {
    let folder = custody_tests::stand::folder()?;
    let mut stand = Stand::new(folder.path(), "")?;
    stand.start_agent()?;
    let servers = custody_tests::stand::folder()?;
    let (http, pg) = (servers.path().join("nginx"), servers.path().join("postgres"));
    std::fs::create_dir(&http)?;
    std::fs::create_dir(&pg)?;
    let nginx = Nginx::start(&http, &[])?;
    let postgres = Postgres::start(&pg)?;
    over_http(&nginx, servers.path())?;
    in_arguments()?;
    for tls in [false, true] {
        over_postgres(&postgres, tls)?;
    }
    stand.wait_shown("url.query = \"last=1\"", 2)?;
    stand.wait_shown("db.query.text =~ \"AS last_of_all\"", 2)?;
    // What people are shown, by the sink and from its folder.
    for (name, style) in [("wide.txt", "wide"), ("lines.json", "json")] {
        let shown = stand.ask(&["tail", "--all", "--no-follow", "--since", "1h", "-o", style])?;
        std::fs::write(folder.path().join(name), shown)?;
    }
    let shown: String = stand.records("")?.iter().map(|line| format!("{line}\n")).collect();
    std::fs::write(folder.path().join("folder.json"), shown)?;
    // The worker's memory held them all a moment ago: it masks. The other two never see them.
    for program in [&stand.agent, &stand.sink].into_iter().flatten() {
        let dump = folder.path().join(format!("memory-{}", program.pid()));
        output(Command::new("gcore").arg("-o").arg(&dump).arg(program.pid().to_string()))?;
    }
    stand.stop_agent()?;
    stand.stop_sink()?;
    let found: Vec<String> =
        CANARIES.into_iter().filter_map(|canary| search(canary, folder.path())).collect();
    ensure!(found.is_empty(), "{found:#?}");
    Ok(())
}

/// Where a canary stands, if anywhere.
fn search(canary: &str, folder: &Path) -> Option<String> {
    let hits = Command::new("grep").args(["-rlaF", canary]).arg(folder).output().ok()?;
    let files = String::from_utf8_lossy(&hits.stdout).replace('\n', " ");
    (!files.is_empty()).then(|| format!("{canary} stands in {files}"))
}

fn over_http(nginx: &Nginx, folder: &Path) -> Result<()> {
    let certificate = nginx.certificate.display().to_string();
    let zipped = folder.join("body.gz");
    let body = format!("{{\"password\":\"canary-gzip-4f1c\",\"card\":\"{}\"}}", CARDS[0]);
    let script = format!("printf '%s' '{body}' | gzip -c > {}", zipped.display());
    output(Command::new("sh").args(["-c", &script]))?;
    for base in
        [format!("http://127.0.0.1:{}", nginx.http_port), format!("https://localhost:{}", nginx.https_port)]
    {
        let url = format!("{base}/echo");
        let curl = |arguments: &[&str]| {
            let fixed = ["-s", "-o", "/dev/null", "--cacert", &certificate];
            output(Command::new("curl").args(fixed).args(arguments))
        };
        curl(&["-H", "Authorization: Bearer canary-bearer-4f1c", &url])?;
        curl(&["-H", "Cookie: session=canary-cookie-4f1c", &format!("{base}/cookie")])?;
        curl(&["-u", "anna:canary-basic-4f1c", &url])?;
        curl(&["-d", &format!("password=canary-form-4f1c&contact={MAIL}"), &url])?;
        curl(&["-d", "password=canary%2Dpercent%2D4f1c", &url])?;
        let json = format!("{{\"password\":\"canary-json-4f1c\",\"card\":\"{}\"}}", CARDS[0]);
        curl(&["-H", "Content-Type: application/json", "-d", &json, &url])?;
        let file = format!("@{}", zipped.display());
        curl(&["-H", "Content-Encoding: gzip", "--data-binary", &file, &url])?;
        curl(&[&format!("{url}?access_token=canary-query-4f1c")])?;
        curl(&[&format!("{url}?last=1")])?;
    }
    split_in_chunks(nginx.http_port)
}

/// A form in chunks of three bytes, each written on its own.
fn split_in_chunks(port: u16) -> Result<()> {
    let mut connection = TcpStream::connect(("127.0.0.1", port))?;
    connection.set_nodelay(true)?;
    connection.write_all(
        b"POST /echo HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
          Content-Type: application/x-www-form-urlencoded\r\nTransfer-Encoding: chunked\r\n\r\n",
    )?;
    let form = format!("password=canary-split-4f1c&card={}&contact={MAIL}", CARDS[1]);
    for piece in form.as_bytes().chunks(3) {
        connection.write_all(format!("{:x}\r\n", piece.len()).as_bytes())?;
        connection.write_all(piece)?;
        connection.write_all(b"\r\n")?;
    }
    connection.write_all(b"0\r\n\r\n")?;
    let mut answer = String::new();
    connection.read_to_string(&mut answer)?;
    ensure!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    Ok(())
}

/// Programs that get secrets as arguments.
fn in_arguments() -> Result<()> {
    output(Command::new("true").args(["--password=canary-argv-4f1c", "--token", "canary-flag-4f1c"]))?;
    output(Command::new("true").args(["postgres://anna:canary-dsn-4f1c@db/shop", CARDS[2]]))?;
    Ok(())
}

fn over_postgres(postgres: &Postgres, tls: bool) -> Result<()> {
    let [card, other, third] = CARDS;
    let psql = |statement: &str| postgres.psql(tls).args(["-c", statement]).output();
    psql("DROP ROLE IF EXISTS anna")?;
    psql("CREATE ROLE anna LOGIN PASSWORD 'canary-literal-4f1c'")?;
    psql(&format!("SELECT '{card}' AS a, {other} AS b, '{MAIL}' AS c"))?;
    psql(&format!("PREPARE p AS SELECT $1::text; EXECUTE p('{third}')"))?;
    psql(&format!(
        "CREATE TABLE IF NOT EXISTS people (mail text PRIMARY KEY); INSERT INTO people VALUES ('{MAIL}')"
    ))?;
    // The detail of this error names the key: the address.
    psql(&format!("INSERT INTO people VALUES ('{MAIL}')"))?;
    let mode = if tls { "require" } else { "disable" };
    let script = format!(
        "import psycopg\n\
         with psycopg.connect('host=127.0.0.1 port={} user=postgres dbname=postgres sslmode={mode}') as c:\n\
        \x20   for binary in (False, True):\n\
        \x20       c.execute('SELECT %s::text, %s::bytea', ('{card}', b'{other}'), binary=binary).fetchall()\n\
        \x20       c.execute('SELECT %s::int8', ({card},), binary=binary).fetchall()\n\
        \x20   c.execute('CREATE TEMP TABLE t (card text, mail text)')\n\
        \x20   with c.cursor().copy('COPY t FROM STDIN') as copy:\n\
        \x20       for n in range(100): copy.write_row(('{card}', '{MAIL}'))\n\
        \x20   c.execute('SELECT * FROM t').fetchall()\n\
        \x20   with c.cursor().copy('COPY t TO STDOUT') as copy:\n\
        \x20       for row in copy: pass\n\
        \x20   c.execute('SELECT 1 AS last_of_all').fetchall()\n",
        postgres.port
    );
    let program = postgres.folder().join("client.py");
    std::fs::write(&program, script)?;
    output(Command::new("/usr/bin/python3").env("PGPASSWORD", PASSWORD).arg(program))?;
    Ok(())
}

#[test]
fn a_crash_leaves_no_core() -> Result<()> {
    // First that a core would be told: the same signal on a program that allows them.
    let control = Command::new("sh")
        .current_dir(tempfile::tempdir()?.path())
        .args(["-c", "ulimit -c unlimited && kill -ABRT $$"])
        .status()?;
    ensure!(
        control.core_dumped(),
        "no program of this machine leaves cores, so this test would show nothing"
    );
    let folder = custody_tests::stand::folder()?;
    let mut stand = Stand::new(folder.path(), "")?;
    stand.start_agent()?;
    let worker = stand.status()?["worker"]["pid"].as_u64().context("worker.pid")?;
    let limits = std::fs::read_to_string(format!("/proc/{worker}/limits"))?;
    let cores = limits.lines().find(|line| line.starts_with("Max core file size")).context("limits")?;
    ensure!(cores.split_whitespace().filter(|word| *word == "0").count() == 2, "worker: {cores}");
    for program in [stand.agent.take(), stand.sink.take()] {
        let status = program.context("not started")?.abort()?;
        ensure!(status.signal().is_some() && !status.core_dumped(), "{status}");
    }
    Ok(())
}
