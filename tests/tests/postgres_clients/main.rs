//! asyncpg and node-pg, plain and over TLS: their records equal, statement by statement and in order, what the
//! server logged and what the client was told. asyncpg binds in binary, keeps prepared statements and copies in
//! binary; node-pg binds in text. It must not depend on how fast the server answers.

use std::process::Command;

use anyhow::{Context, Result};
use custody_tests::postgres_log::Logged;
use custody_tests::process::output;
use custody_tests::servers::Postgres;
use custody_tests::stand::{Stand, field};
use custody_tests::{npm, observed, spelling};
use serde_json::Value;

/// Where the record's spelling of a value is another than that of the server's log.
const SPELLINGS: [(&str, &str); 4] = [
    ("P0M3DT1.000000S", "3 days 00:00:01"),
    // Binary bytes are left out by the masks, with their length.
    ("‹binary·drop·8›", "\\x00017175696574ff"),
    // What JavaScript sends, and how the server understands it.
    ("2024-02-29T12:34:56.789+00:00", "2024-02-29 12:34:56.789+00"),
    ("true", "t"),
];

#[test]
fn asyncpg_equals_the_servers_log_plain_and_over_tls() -> Result<()> {
    equals_the_servers_log(&asyncpg())
}

#[test]
fn node_pg_equals_the_servers_log_plain_and_over_tls() -> Result<()> {
    node_pg().and_then(|node| node.map_or(Ok(()), |node| equals_the_servers_log(&node)))
}

/// How a client is started: it finds its server in the environment, as clients of libpq do.
type Client = dyn Fn() -> Command;

fn asyncpg() -> impl Fn() -> Command {
    || {
        // Debian's Python, which has Debian's asyncpg; another one may come first in PATH.
        let mut python = Command::new("/usr/bin/python3");
        python.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/postgres_clients/asyncpg_traffic.py"));
        python
    }
}

fn node_pg() -> Result<Option<impl Fn() -> Command>> {
    let Some(package) = npm::package("pg", "8.16.3")? else { return Ok(None) };
    Ok(Some(move || {
        let mut node = Command::new("node");
        node.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/postgres_clients/node_traffic.js"));
        node.env("NODE_PG", &package);
        node
    }))
}

/// Both ways on one stand, whose start takes longer than the traffic.
fn equals_the_servers_log(client: &Client) -> Result<()> {
    let (_folders, stand, postgres) = observed::postgres()?;
    for tls in [false, true] {
        session_equals_the_servers_log(client, &stand, &postgres, tls)?;
    }
    let port = format!("server.port = {}", postgres.port);
    assert_eq!(stand.records(&format!("type = \"gap\" and {port}"))?.len(), 0);
    let unknown = format!("{port} and network.protocol.name = \"unknown\" and custody.bytes.up > 0");
    assert_eq!(stand.records(&unknown)?.len(), 0);
    Ok(())
}

fn session_equals_the_servers_log(
    client: &Client,
    stand: &Stand,
    postgres: &Postgres,
    tls: bool,
) -> Result<()> {
    let application = if tls { "traffic-tls" } else { "traffic-plain" };
    let mut command = client();
    postgres.address(&mut command, tls).env("PGAPPNAME", application);
    let said: Value = serde_json::from_str(&output(&mut command)?)?;
    let mine = format!("server.port = {} and db.client.application = \"{application}\"", postgres.port);
    stand.wait_records(&format!("{mine} and type = \"session.close\""), 1)?;
    let logged = postgres.statements(said["backend"].as_u64().context("backend")?)?;
    let records = exchanges(stand.records(&format!("{mine} and type =~ \"^exchange\""))?)?;
    let (records, others): (Vec<Value>, Vec<Value>) =
        records.into_iter().partition(|record| !field(record, "db.query.text").is_null());
    assert!(
        others.iter().all(|other| field(other, "db.postgresql.message") == "StartupMessage"),
        "{others:#?}"
    );
    let texts: Vec<&Value> = records.iter().map(|record| field(record, "db.query.text")).collect();
    assert_eq!(records.len(), logged.len(), "each exactly once: {texts:#?}");
    for (record, logged) in records.iter().zip(&logged) {
        equal(record, logged);
        assert_eq!(record["session_id"], records[0]["session_id"], "one connection, one session: {record}");
        assert_eq!(field(record, "custody.tls").as_str(), tls.then_some("tls"), "{record}");
    }
    // What the client ran itself, among what it asks for its own sake.
    let told = said["told"].as_array().context("told")?;
    assert!(told.len() > 20, "the traffic is not what it was: {}", told.len());
    let mut left = records.iter();
    for told in told {
        let record = left
            .find(|record| field(record, "db.query.text") == &told["text"])
            .with_context(|| format!("not recorded, or not in order: {told}"))?;
        assert_eq!(field(record, "db.response.status_code"), &told["status"], "{record}");
        if !told["rows"].is_null() {
            assert_eq!(field(record, "db.response.returned_rows"), &told["rows"], "{record}");
        }
    }
    Ok(())
}

/// Each exchange as one: of one that takes long, its beginning is recorded before its end.
fn exchanges(records: Vec<Value>) -> Result<Vec<Value>> {
    let mut whole: Vec<Value> = Vec::new();
    for record in records {
        if record["type"] == "exchange" || record["type"] == "exchange.open" {
            whole.push(record);
            continue;
        }
        let same = |one: &&mut Value| {
            one["session_id"] == record["session_id"]
                && one["record"]["exchange"] == record["record"]["exchange"]
        };
        let begun = whole.iter_mut().rev().find(same).with_context(|| format!("no beginning: {record}"))?;
        assert_eq!(record["record"]["anomalies"].as_array().map_or(0, Vec::len), 0, "{record}");
        let later = record["record"]["fields"].as_object().context("fields")?;
        begun["record"]["fields"].as_object_mut().context("fields")?.extend(later.clone());
    }
    Ok(whole)
}

/// One statement: the record, and the server's log.
fn equal(record: &Value, logged: &Logged) {
    assert_eq!(record["record"]["anomalies"].as_array().map_or(0, Vec::len), 0, "{record}");
    assert_eq!(field(record, "db.query.text"), &logged.text, "{record}");
    assert_eq!(field(record, "db.response.status_code").as_str(), logged.status.as_deref(), "{record}");
    let outcome = if logged.status.is_some() { "error" } else { "ok" };
    assert_eq!(field(record, "custody.outcome"), outcome, "{record}");
    if let Some(expected) = &logged.parameters {
        assert_eq!(&spelling::parameters(record, &SPELLINGS), expected, "{record}");
    }
}
