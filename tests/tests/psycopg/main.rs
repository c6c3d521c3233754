//! psycopg, plain and over TLS: simple and extended protocol, parameters in text and binary, prepared statements,
//! errors, pipelines, COPY and cursors. The record of a session equals, statement by statement and in order, what
//! the server logged and what the client was told.

use std::process::Command;

use anyhow::{Context, Result};
use custody_tests::observed;
use custody_tests::postgres_log::Logged;
use custody_tests::process::output;
use custody_tests::spelling;
use custody_tests::stand::field;
use serde_json::Value;

/// What a value of the traffic looks like in the record and in the server's log, where those differ: in text
/// format the record holds what the client sent, and the server logs what it understood.
const SPELLINGS: [(&str, &str); 6] = [
    ("2024-02-29 12:34:56.789000+00:00", "2024-02-29 12:34:56.789+00"),
    ("2024-02-29 12:34:56.789000", "2024-02-29 12:34:56.789"),
    ("6f1c1a522f7c4b519d3e0a4b7c8d9e0f", "6f1c1a52-2f7c-4b51-9d3e-0a4b7c8d9e0f"),
    ("{6f1c1a522f7c4b519d3e0a4b7c8d9e0f}", "{6f1c1a52-2f7c-4b51-9d3e-0a4b7c8d9e0f}"),
    ("{\"2024-02-29 12:34:56.789000+00:00\"}", "{\"2024-02-29 12:34:56.789+00\"}"),
    // Binary bytes are left out by the masks, with their length.
    ("‹binary·drop·8›", "\\x00017175696574ff"),
];

#[test]
fn a_session_of_psycopg_equals_the_servers_log_plain() -> Result<()> {
    a_session_of_psycopg_equals_the_servers_log(false)
}

#[test]
fn a_session_of_psycopg_equals_the_servers_log_over_tls() -> Result<()> {
    a_session_of_psycopg_equals_the_servers_log(true)
}

fn a_session_of_psycopg_equals_the_servers_log(tls: bool) -> Result<()> {
    let (_folders, stand, postgres) = observed::postgres()?;
    // Debian's Python, which has Debian's psycopg; another one may come first in PATH.
    let mut python = Command::new("/usr/bin/python3");
    python.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/psycopg/traffic.py"));
    python.env("PGAPPNAME", "psycopg-traffic");
    let said: Value = serde_json::from_str(&output(postgres.address(&mut python, tls))?)?;
    let mine = format!("server.port = {} and db.client.application = \"psycopg-traffic\"", postgres.port);
    stand.wait_records(&format!("{mine} and type = \"session.close\""), 1)?;
    let told = said["told"].as_array().context("told")?;
    let logged = postgres.statements(said["backend"].as_u64().context("backend")?)?;
    assert!(told.len() > 150, "the traffic is not what it was: {}", told.len());
    assert_eq!(logged.len(), told.len(), "client and server do not agree among themselves");
    let records = stand.records(&format!("{mine} and type =~ \"^exchange\" and has(db.query.text)"))?;
    let (skipped, run): (Vec<&Value>, Vec<&Value>) =
        records.iter().partition(|record| field(record, "db.postgresql.skipped") == true);
    assert_eq!(skipped.len(), 1, "{skipped:#?}");
    assert_eq!(field(skipped[0], "db.query.text"), "SELECT $1::int4 AS never_run");
    assert_eq!(run.len(), logged.len(), "each exactly once: {:#?}", texts(&run));
    for ((record, logged), told) in run.iter().zip(&logged).zip(told) {
        equal(record, logged, told);
        assert_eq!(record["session_id"], run[0]["session_id"], "one connection, one session: {record}");
        assert_eq!(field(record, "db.user"), "postgres", "{record}");
        assert_eq!(field(record, "custody.tls").as_str(), tls.then_some("tls"), "{record}");
    }
    assert_eq!(stand.records(&format!("type = \"gap\" and server.port = {}", postgres.port))?.len(), 0);
    Ok(())
}

fn texts<'a>(records: &[&'a Value]) -> Vec<&'a Value> {
    records.iter().map(|record| field(record, "db.query.text")).collect()
}

/// One statement: the record, the server's log, and what the client was told.
fn equal(record: &Value, logged: &Logged, told: &Value) {
    assert_eq!(record["type"], "exchange", "{record}");
    assert_eq!(record["record"]["anomalies"].as_array().map_or(0, Vec::len), 0, "{record}");
    assert_eq!(field(record, "db.query.text"), &logged.text, "{record}");
    assert_eq!(field(record, "db.response.status_code").as_str(), logged.status.as_deref(), "{record}");
    assert_eq!(field(record, "db.response.status_code"), &told["status"], "{record}");
    let outcome = if logged.status.is_some() { "error" } else { "ok" };
    assert_eq!(field(record, "custody.outcome"), outcome, "{record}");
    // The client counts the rows of what it runs itself; BEGIN and the like have none.
    assert_eq!(field(record, "db.response.returned_rows"), &told["rows"], "{record}");
    // The server repeats bound values in the context of an error, where no column tells what they are.
    let context = field(record, "db.postgresql.error.where").as_str().unwrap_or_default();
    assert!(!context.contains("$1 = "), "{record}");
    let bound = spelling::parameters(record, &SPELLINGS);
    if let Some(expected) = &logged.parameters {
        assert_eq!(&bound, expected, "{record}");
    }
}
