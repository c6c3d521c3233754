//! Beginnings and ends: an agent that starts in the middle, one that is killed, a sink that is away, an idle
//! host.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use custody_tests::observed;
use custody_tests::process::output;
use custody_tests::servers::Postgres;
use custody_tests::stand::{Stand, field};
use serde_json::{Value, json};

#[test]
fn a_statement_that_never_ended_is_at_the_sink_when_the_agent_was_killed() -> Result<()> {
    let (_folders, mut stand, postgres) = observed::postgres()?;
    let mut psql = postgres.psql(false).args(["-c", "SELECT pg_sleep(60)"]).spawn()?;
    let open = stand.wait_records("db.query.text = \"SELECT pg_sleep(60)\"", 1)?;
    assert_eq!(open[0]["type"], "exchange.open");
    stand.agent.take().expect("started above").kill()?;
    assert_eq!(stand.records("db.query.text = \"SELECT pg_sleep(60)\"")?.len(), 1);
    psql.kill()?;
    psql.wait()?;
    // The next agent goes on in a new epoch, and the whole still verifies.
    stand.start_agent()?;
    output(postgres.psql(false).args(["-c", "SELECT 'after the crash' AS said"]))?;
    stand.wait_records("db.query.text =~ \"after the crash\"", 1)?;
    stand.stop_agent()?;
    stand.verify()?;
    Ok(())
}

#[test]
fn an_agent_that_starts_in_the_middle_of_connections_is_right_about_what_follows() -> Result<()> {
    let folder = custody_tests::stand::folder()?;
    let mut stand = Stand::new(folder.path(), "")?;
    let servers = custody_tests::stand::folder()?;
    let postgres = Postgres::start(servers.path())?;
    // A session that says something every second, for longer than the agent needs to start.
    let mut psql = postgres.psql(false);
    for number in 0..30 {
        psql.args(["-c", &format!("SELECT {number} AS tick_{number}"), "-c", "SELECT pg_sleep(0.5)"]);
    }
    let mut psql = psql.stdout(std::process::Stdio::null()).spawn()?;
    std::thread::sleep(Duration::from_secs(1));
    stand.start_agent()?;
    let records = stand.wait_records("db.query.text =~ \"AS tick_\"", 10)?;
    for record in &records {
        let text = field(record, "db.query.text").as_str().unwrap_or_default();
        assert!(text.starts_with("SELECT ") && text.contains(" AS tick_"), "{text}");
        assert!(
            field(record, "db.user").is_null(),
            "who logged in before is not known, so it is not guessed"
        );
    }
    psql.kill()?;
    psql.wait()?;
    Ok(())
}

/// Opens a connection, prepares a statement, says so, and goes on when it is told to.
const PREPARED_BEFORE: &str = r#"
import sys, psycopg
with psycopg.connect(autocommit=True) as connection:
    old = "SELECT n AS told_before FROM generate_series(1, %t::int4) AS n"
    connection.execute(old, (2,), prepare=True)
    print(connection.info.backend_pid, flush=True)
    sys.stdin.readline()
    connection.execute(old, (3,), prepare=True)
    connection.execute("SELECT 4 AS simple_after")
    connection.execute("SELECT %b::int4 AS prepared_after", (5,), prepare=True)
    connection.execute(old, (6,), prepare=True)
    try: connection.execute("SELECT 1/%t::int4 AS failed_after", (0,))
    except psycopg.Error: pass
"#;

#[test]
fn a_statement_prepared_before_the_agent_has_no_text_plain() -> Result<()> {
    a_statement_prepared_before_the_agent_has_no_text(false)
}

#[test]
fn a_statement_prepared_before_the_agent_has_no_text_over_tls() -> Result<()> {
    a_statement_prepared_before_the_agent_has_no_text(true)
}

fn a_statement_prepared_before_the_agent_has_no_text(tls: bool) -> Result<()> {
    let folder = custody_tests::stand::folder()?;
    let mut stand = Stand::new(folder.path(), "")?;
    let servers = custody_tests::stand::folder()?;
    let postgres = Postgres::start(servers.path())?;
    let mut python = Command::new("/usr/bin/python3");
    python.args(["-c", PREPARED_BEFORE]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut client = postgres.address(&mut python, tls).spawn()?;
    let mut backend = String::new();
    BufReader::new(client.stdout.take().context("output")?).read_line(&mut backend)?;
    stand.start_agent()?;
    drop(client.stdin.take());
    anyhow::ensure!(client.wait()?.success(), "the client failed");

    let mine = format!("server.port = {}", postgres.port);
    let closed = stand.wait_records(&format!("{mine} and type = \"session.close\""), 1)?;
    assert_eq!(field(&closed[0], "custody.session.existing"), true, "{}", closed[0]);
    assert_eq!(field(&closed[0], "custody.bytes.lost"), 0, "{}", closed[0]);
    let records = stand.records(&format!("{mine} and type = \"exchange\""))?;
    let told: Vec<Value> = records
        .iter()
        .map(|record| {
            let of = |name: &str| field(record, name);
            let unknown = record["record"]["anomalies"].clone();
            json!([
                of("db.query.text"),
                of("db.postgresql.statement"),
                of("db.query.parameter.1"),
                of("db.response.returned_rows"),
                of("db.response.status_code"),
                unknown
            ])
        })
        .collect();
    // What the old statement says is not known; its values and its answers are.
    let expected = json!([
        [null, "_pg3_0", "3", 3, null, ["statement_unknown"]],
        ["SELECT 4 AS simple_after", null, null, 1, null, null],
        ["SELECT $1::int4 AS prepared_after", "_pg3_1", 5, 1, null, null],
        [null, "_pg3_0", "6", 6, null, ["statement_unknown"]],
        ["SELECT 1/$1::int4 AS failed_after", null, "0", null, "22012", null],
    ]);
    assert_eq!(Value::Array(told), expected);
    for record in &records {
        assert!(field(record, "db.user").is_null(), "who logged in before was guessed: {record}");
        assert!(field(record, "db.namespace").is_null(), "the database was guessed: {record}");
        assert_eq!(field(record, "process.pid"), client.id(), "{record}");
        assert_eq!(field(record, "custody.peer.pid").to_string(), backend.trim(), "{record}");
        assert_eq!(field(record, "custody.tls").as_str(), tls.then_some("tls"), "{record}");
    }
    let guessed = format!("{mine} and db.query.text =~ \"told_before\"");
    assert_eq!(stand.records(&guessed)?.len(), 0, "a text was guessed");
    Ok(())
}

#[test]
fn what_happens_while_the_sink_is_away_arrives_when_it_is_back() -> Result<()> {
    let (_folders, mut stand, nginx) = observed::nginx(&[])?;
    stand.stop_sink()?;
    for number in 0..5 {
        output(
            Command::new("curl")
                .arg("-s")
                .arg(format!("http://127.0.0.1:{}/echo?away={number}", nginx.http_port)),
        )?;
    }
    std::thread::sleep(Duration::from_secs(2));
    stand.start_sink()?;
    stand.wait_records("url.query =~ \"^away=\"", 5)?;
    stand.stop_agent()?;
    stand.verify()?;
    Ok(())
}
