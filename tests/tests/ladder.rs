//! A sink that is away for long, and a disk that others fill: less and less is recorded, each step of it stands in the
//! record, and what was recorded arrives, in order.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use custody_tests::process::{eventually, output};
use custody_tests::random::Random;
use custody_tests::servers::Nginx;
use custody_tests::small_disk::{Kind, SmallDisk};
use custody_tests::stand::{self, Stand, field};
use serde_json::{Value, json};

/// How long levels and batches may take to move, on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// Only this server is recorded, and 2 MiB of `bytes_max` are the reserve.
fn settings(nginx: &Nginx, bytes_max: u64) -> String {
    format!(
        "[spool]\nbytes_max = {bytes_max}\nreserve_bytes = 2097152\nsegment_bytes = 1048576\n\
         [forward]\nbackoff_seconds_max = 1\n[capture.include]\nports = [{}]\n",
        nginx.http_port
    )
}

/// Pages that do not become small when they are packed.
fn pages() -> Vec<(String, String)> {
    let mut random = Random::of(7);
    let mut word = || (0..6).map(|_| char::from(b'a' + random.below(26) as u8)).collect::<String>();
    let mut page = || (0..8_000).map(|_| word()).collect::<Vec<_>>().join(" ");
    (0..20).map(|number| (format!("page{number}"), format!("{{\"said\":\"{}\"}}", page()))).collect()
}

fn nginx() -> Result<(tempfile::TempDir, Nginx)> {
    let folder = stand::folder()?;
    let pages = pages();
    let pages: Vec<_> = pages.iter().map(|(name, page)| (name.as_str(), page.as_str())).collect();
    let nginx = Nginx::start(folder.path(), &pages)?;
    Ok((folder, nginx))
}

/// One connection and many requests; `what` may hold a range as curl reads it.
fn ask(nginx: &Nginx, what: &str) -> Result<()> {
    let address = format!("http://127.0.0.1:{}/{what}", nginx.http_port);
    output(Command::new("curl").args(["-s", "-o", "/dev/null", &address])).map(drop)
}

/// Waits until the level is this one, and the worker says that it goes by it.
fn wait_level(stand: &Stand, wanted: &str, mut meanwhile: impl FnMut() -> Result<()>) -> Result<()> {
    eventually(PATIENCE, wanted, || {
        let status = stand.status()?;
        if status["level"]["in_force"] == wanted && status["worker"]["figures"]["level"] == wanted {
            return Ok(Some(()));
        }
        meanwhile()?;
        Ok(None)
    })
    .with_context(|| format!("{}\n{}", status_text(stand).unwrap_or_default(), stand.agent_log()))
}

fn status_text(stand: &Stand) -> Result<String> {
    let mut status = stand.program("custody-agent");
    output(status.args(["status", "--config"]).arg(stand.folder.join("agent.toml")))
}

/// Waits until everything is committed.
fn wait_empty(stand: &Stand) -> Result<()> {
    eventually(PATIENCE, "an empty spool", || {
        let status = stand.status()?;
        Ok((status["spool"]["waiting_bytes"].as_u64() < Some(4096)).then_some(()))
    })
}

/// The ladder's entries: level before, level then.
fn steps(stand: &Stand) -> Result<Vec<(String, String)>> {
    let text = |record: &Value, name| field(record, name).as_str().unwrap_or_default().to_owned();
    let records = stand.records("type = \"level\"")?;
    Ok(records.iter().map(|step| (text(step, "custody.level.before"), text(step, "custody.level"))).collect())
}

#[test]
fn a_sink_that_was_away_for_long_and_what_was_recorded_of_that_time() -> Result<()> {
    let folder = stand::folder()?;
    let (_pages, nginx) = nginx()?;
    let mut stand = Stand::new(folder.path(), &settings(&nginx, 6 << 20))?;
    stand.start_agent()?;
    ask(&nginx, "echo?whole=[1-50]")?;
    stand.wait_records("url.query =~ \"^whole=\"", 50)?;
    stand.stop_sink()?;

    let mut page = (0..20).cycle();
    let mut next = || ask(&nginx, &format!("page{}", page.next().unwrap_or_default()));
    wait_level(&stand, "summary", &mut next)?;
    ask(&nginx, "echo?secret=[1-100]")?;
    wait_level(&stand, "counts", || ask(&nginx, "echo?secret=[1-400]"))?;
    ask(&nginx, "echo?unseen=[1-300]")?;
    let told = status_text(&stand)?;
    for words in
        ["level         counts", "LESS THAN statement", "Bring the sink back", "does not become less"]
    {
        ensure!(told.contains(words), "`{words}` is not said:\n{told}");
    }

    stand.start_sink()?;
    wait_level(&stand, "statement", || Ok(()))?;
    wait_empty(&stand)?;
    ask(&nginx, "echo?again=[1-50]")?;
    stand.wait_records("url.query =~ \"^again=\"", 50)?;
    let status = stand.status()?;
    assert_eq!(status["counters"]["records_dropped"], 0, "{status:#}");
    assert_eq!(status["counters"]["lost"]["events"], 0, "{status:#}");
    ensure!(status["spool"]["drain"]["out_per_second"].as_u64() > Some(0), "{status:#}");
    stand.stop_agent()?;
    stand.verify()?;

    let hosts = stand.ask(&["hosts"])?;
    ensure!(hosts.contains("steps of how much it records, as its spool filled and drained: 4"), "{hosts}");
    let pairs =
        [("statement", "summary"), ("summary", "counts"), ("counts", "summary"), ("summary", "statement")];
    assert_eq!(steps(&stand)?, pairs.map(|(before, now)| (before.to_owned(), now.to_owned())));
    // Each request is an exchange of its own, or counted at the end of its connection.
    let port = format!("server.port = {}", nginx.http_port);
    let told = stand.records(&format!("has(http.request.method) and has(custody.outcome) and {port}"))?;
    let closed = stand.records(&format!("type = \"session.close\" and {port}"))?;
    let counted = closed.iter().filter_map(|close| field(close, "custody.level.exchanges").as_u64());
    let counted: u64 = counted.sum();
    let asked = nginx.access_log()?.len();
    println!("{asked} asked, {} told, {counted} counted", told.len());
    ensure!(counted >= 300, "{counted} exchanges were counted alone");
    assert_eq!(told.len() as u64 + counted, asked as u64);
    // What was told as a summary says so, and holds nothing of what was asked but the path.
    let summaries: Vec<_> = told.iter().filter(|one| *field(one, "custody.level") == "summary").collect();
    ensure!(summaries.len() >= 100, "{} summaries", summaries.len());
    for one in summaries {
        ensure!(one["record"]["fields"]["url.query"].is_null(), "{one:#}");
        ensure!(field(one, "custody.level.bytes").as_u64() > Some(0), "{one:#}");
    }
    assert_eq!(stand.records("has(url.query) and url.query =~ \"^unseen=\"")?.len(), 0);
    Ok(())
}

#[test]
fn a_disk_that_others_filled_and_an_agent_that_went_on_and_said_so() -> Result<()> {
    let folder = stand::folder()?;
    std::fs::create_dir(folder.path().join("agent"))?;
    let disk = SmallDisk::mount(Kind::Tmpfs, &folder.path().join("agent"), 12)?;
    let (_pages, nginx) = nginx()?;
    let mut stand = Stand::new(folder.path(), &settings(&nginx, 64 << 20))?;
    stand.start_agent()?;
    ask(&nginx, "echo?before=[1-20]")?;
    stand.wait_records("url.query =~ \"^before=\"", 20)?;
    let epoch = stand.status()?["epoch"].clone();
    stand.stop_sink()?;

    let others = disk.fill()?;
    wait_level(&stand, "counts", || ask(&nginx, "echo?full=[1-20]"))?;
    // Long enough for heartbeats.
    for _ in 0..25 {
        ask(&nginx, "page[0-19]")?;
        disk.fill()?;
        std::thread::sleep(Duration::from_secs(1));
    }
    let status = stand.status()?;
    assert_eq!(status["epoch"], epoch, "it ended and was not meant to:\n{}", stand.agent_log());
    assert_eq!(status["spool"]["disk_full"], true, "{status:#}");
    ensure!(status["counters"]["records_dropped"].as_u64() > Some(0), "{status:#}");
    ensure!(status_text(&stand)?.contains("DISK FULL"), "{}", status_text(&stand)?);
    ensure!(stand.agent_log().contains("the disk of the spool is full"), "{}", stand.agent_log());

    // The sink takes what waits, though there is no block for cursor and checkpoint.
    stand.start_sink()?;
    let gap = "custody.gap.cause = \"spool_full\"";
    stand.wait_records(gap, 1)?;
    stand.wait_records("type = \"heartbeat\"", 2)?;
    std::fs::remove_file(others)?;
    wait_level(&stand, "statement", || Ok(()))?;
    ask(&nginx, "echo?after=[1-20]")?;
    stand.wait_records("url.query =~ \"^after=\"", 20)?;
    let status = stand.status()?;
    assert_eq!(
        (&status["spool"]["disk_full"], &status["spool"]["reserve_bytes"]),
        (&json!(false), &json!(2097152))
    );
    let dropped = status["counters"]["records_dropped"].as_u64().unwrap_or_default();
    stand.stop_agent()?;
    stand.verify()?;
    // Nothing was dropped that no gap tells.
    let gaps = stand.records(gap)?;
    let told: u64 = gaps.iter().filter_map(|gap| field(gap, "custody.gap.events").as_u64()).sum();
    assert_eq!(told, dropped);
    Ok(())
}
