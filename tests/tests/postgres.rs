//! Live PostgreSQL, plain and TLS: statements, bound parameters, SQLSTATE and row counts equal what the
//! server logged or is known to answer, each exactly once.

use std::process::Command;

use anyhow::{Context, Result};
use custody_tests::observed;
use custody_tests::process::output;
use custody_tests::servers::{PASSWORD, Postgres};
use custody_tests::stand::{Stand, field};
use serde_json::Value;

fn statements(stand: &Stand, server: &Postgres, text: &str, count: usize) -> Result<Vec<Value>> {
    let filter = format!("server.port = {} and db.query.text =~ \"{text}\"", server.port);
    let records = stand.wait_records(&filter, count)?;
    assert_eq!(records.len(), count, "each exactly once: {records:#?}");
    Ok(records)
}

#[test]
fn psql_statements_results_and_errors_plain() -> Result<()> {
    psql_statements_results_and_errors(false)
}

#[test]
fn psql_statements_results_and_errors_over_tls() -> Result<()> {
    psql_statements_results_and_errors(true)
}

fn psql_statements_results_and_errors(tls: bool) -> Result<()> {
    let (_folders, stand, postgres) = observed::postgres()?;
    let psql = |statement: &str| postgres.psql(tls).args(["-c", statement]).output();
    psql("SELECT generate_series(1, 7) AS n_seven")?;
    psql("SELECT 1/0 AS n_zero")?;
    psql("CREATE TABLE made (id int, name text)")?;
    psql("INSERT INTO made VALUES (1, 'x'), (2, 'y'), (3, NULL)")?;
    let series = &statements(&stand, &postgres, "n_seven$", 1)?[0];
    assert_eq!(field(series, "db.query.text"), "SELECT generate_series(1, 7) AS n_seven");
    assert_eq!(field(series, "db.response.returned_rows"), 7);
    assert_eq!(field(series, "db.user"), "postgres");
    assert_eq!(field(series, "custody.outcome"), "ok");
    assert_eq!(field(series, "custody.tls").as_str(), tls.then_some("tls"));
    let executable = field(series, "process.executable.path").as_str();
    assert!(executable.is_some_and(|path| path.ends_with("/psql")), "{series}");
    let server = field(series, "custody.peer.executable.path").as_str();
    assert!(server.is_some_and(|path| path.ends_with("/bin/postgres")), "{series}");
    let zero = &statements(&stand, &postgres, "n_zero$", 1)?[0];
    assert_eq!(field(zero, "db.response.status_code"), "22012", "division_by_zero");
    assert_eq!(field(zero, "custody.outcome"), "error");
    let insert = &statements(&stand, &postgres, "^INSERT INTO made", 1)?[0];
    assert_eq!(field(insert, "db.response.returned_rows"), 3);
    // The server's own log names the same statement.
    let log = postgres.csv_log()?;
    assert!(log.contains("SELECT generate_series(1, 7) AS n_seven"), "{log}");
    Ok(())
}

#[test]
fn psql_over_the_unix_socket_is_one_session_and_says_who_both_are() -> Result<()> {
    let (_folders, stand, postgres) = observed::postgres()?;
    let mut psql = postgres.psql(false);
    psql.env("PGHOST", postgres.folder()).env("PGAPPNAME", "psql-unix");
    for statement in ["SELECT pg_backend_pid()", "SELECT generate_series(1, 3) AS here", "SELECT 1/0 AS zero"]
    {
        psql.args(["-c", statement]);
    }
    let said = psql.output()?;
    let backend: u64 = String::from_utf8(said.stdout)?.lines().next().context("a pid")?.parse()?;
    let mine = "db.client.application = \"psql-unix\"";
    let closed = stand.wait_records(&format!("{mine} and type = \"session.close\""), 1)?;
    let logged = postgres.statements(backend)?;
    assert_eq!(logged.len(), 3, "{logged:?}");
    assert_eq!(closed.len(), 1, "both ends are one session: {closed:#?}");
    let records = stand.records(&format!("{mine} and has(db.query.text)"))?;
    assert_eq!(records.len(), logged.len(), "each exactly once: {records:#?}");
    for (record, logged) in records.iter().zip(&logged) {
        assert_eq!(record["session_id"], closed[0]["session_id"]);
        assert_eq!(field(record, "db.query.text"), &logged.text);
        assert_eq!(field(record, "db.response.status_code").as_str(), logged.status.as_deref());
        assert_eq!(field(record, "network.transport"), "unix");
        assert_eq!(field(record, "custody.side"), "both");
        assert_eq!(field(record, "db.user"), "postgres");
        assert_eq!(field(record, "user.name"), "root", "{record}");
        assert_eq!(field(record, "custody.peer.pid"), backend, "{record}");
        let client = field(record, "process.executable.path").as_str().context("client")?;
        let server = field(record, "custody.peer.executable.path").as_str().context("server")?;
        assert!(client.ends_with("/bin/psql") && server.ends_with("/bin/postgres"), "{client} {server}");
    }
    assert_eq!(field(&records[1], "db.response.returned_rows"), 3);
    for name in ["custody.bytes.lost", "custody.bytes.cut", "custody.bytes.unparsed"] {
        assert_eq!(field(&closed[0], name), 0, "{name}");
    }
    Ok(())
}

#[test]
fn pgbench_in_its_three_modes_is_recorded_transaction_by_transaction_plain() -> Result<()> {
    pgbench_in_its_three_modes(false)
}

#[test]
fn pgbench_in_its_three_modes_is_recorded_transaction_by_transaction_over_tls() -> Result<()> {
    pgbench_in_its_three_modes(true)
}

fn pgbench_in_its_three_modes(tls: bool) -> Result<()> {
    let folder = custody_tests::stand::folder()?;
    let mut stand = Stand::new(folder.path(), "")?;
    let servers = custody_tests::stand::folder()?;
    let postgres = Postgres::start(servers.path())?;
    output(postgres.program("pgbench", false).args(["-i", "-q", "-s", "1"]))?;
    stand.start_agent()?;
    let per_mode = 400;
    for mode in ["simple", "extended", "prepared"] {
        output(postgres.program("pgbench", tls).args(["-n", "-S", "-c", "4", "-t", "100", "-M", mode]))?;
    }
    let records = statements(&stand, &postgres, "^SELECT abalance FROM pgbench_accounts", 3 * per_mode)?;
    let bound: Vec<&Value> =
        records.iter().filter(|record| !field(record, "db.query.parameter.1").is_null()).collect();
    assert_eq!(bound.len(), 2 * per_mode, "extended and prepared bind a parameter");
    // The server logs each bound value: the same multiset must stand in the record.
    let mut logged: Vec<u64> = postgres
        .csv_log()?
        .split("parameters: $1 = '")
        .skip(1)
        .map(|rest| rest.split('\'').next().and_then(|n| n.parse().ok()).context("parameter"))
        .collect::<Result<_>>()?;
    let mut recorded: Vec<u64> = bound
        .iter()
        .map(|record| {
            let value = field(record, "db.query.parameter.1");
            value.as_str().and_then(|text| text.parse().ok()).or(value.as_u64()).context("parameter")
        })
        .collect::<Result<_>>()?;
    logged.sort_unstable();
    recorded.sort_unstable();
    assert_eq!(recorded, logged);
    for record in &records {
        assert_eq!(field(record, "db.response.returned_rows"), 1, "{record}");
    }
    assert_eq!(stand.records(&format!("type = \"gap\" and server.port = {}", postgres.port))?.len(), 0);
    Ok(())
}

#[test]
fn the_password_of_a_login_and_of_a_statement_stand_nowhere() -> Result<()> {
    let (_folders, mut stand, postgres) = observed::postgres()?;
    output(postgres.psql(false).args(["-c", "CREATE ROLE carla LOGIN PASSWORD 'canary-in-a-literal'"]))?;
    statements(&stand, &postgres, "^CREATE ROLE carla", 1)?;
    stand.stop_agent()?;
    stand.stop_sink()?;
    for canary in [PASSWORD, "canary-in-a-literal"] {
        let hits = Command::new("grep").args(["-rlaF", canary]).arg(&stand.folder).output()?;
        assert!(hits.stdout.is_empty(), "{canary} stands in {}", String::from_utf8_lossy(&hits.stdout));
    }
    Ok(())
}
