//! Beginnings and ends: an agent that starts in the middle, one that is killed, a sink that is away, an idle
//! host.

use std::process::Command;
use std::time::Duration;

use anyhow::Result;
use custody_tests::process::output;
use custody_tests::servers::{Nginx, Postgres};
use custody_tests::stand::{Stand, field};

#[test]
fn a_statement_that_never_ended_is_at_the_sink_when_the_agent_was_killed() -> Result<()> {
    let folder = custody_tests::stand::folder()?;
    let mut stand = Stand::new(folder.path(), "")?;
    stand.start_agent()?;
    let servers = custody_tests::stand::folder()?;
    let postgres = Postgres::start(servers.path())?;
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

#[test]
fn what_happens_while_the_sink_is_away_arrives_when_it_is_back() -> Result<()> {
    let folder = custody_tests::stand::folder()?;
    let mut stand = Stand::new(folder.path(), "")?;
    stand.start_agent()?;
    let servers = tempfile::tempdir()?;
    let nginx = Nginx::start(servers.path(), &[])?;
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
