//! What an exchange costs on disk at each level. Prints the table of `docs/sizing.md`.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, ensure};
use custody_tests::process::{eventually, output};
use custody_tests::random::Random;
use custody_tests::servers::{Nginx, Postgres};
use custody_tests::stand::{self, Stand, field};

/// Exchanges of each kind of load, and how many a second: no build of the agent loses any of so few.
const EXCHANGES: u64 = 500;
const RATE: &str = "100";
/// How long the last of them may take to come, on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(60);
const LEVELS: [&str; 4] = ["statement", "summary", "counts", "off"];

type Load<'a> = (&'a str, &'a dyn Fn() -> Result<()>);

/// Bytes of all segments of the sink: each record as it lies on disk, here and in the agent's spool.
fn stored(sink: &Path) -> Result<u64> {
    let segments = std::fs::read_dir(sink.join("segments"))?;
    segments.map(|segment| Ok(segment?.metadata()?.len())).sum()
}

/// Exchanges that stand in the record, by themselves or in the count of their session.
fn told(stand: &Stand) -> Result<u64> {
    let ended = stand.records("type = \"exchange\" or type = \"exchange.close\"")?.len() as u64;
    let closed = stand.records("has(custody.level.exchanges)")?;
    let counted = closed.iter().filter_map(|close| field(close, "custody.level.exchanges").as_u64());
    Ok(ended + counted.sum::<u64>())
}

/// Bytes and exchanges that one start of the agent with this load added, once so many are told. Then the agent stops, so
/// that nothing of it is on its way.
fn cost(stand: &mut Stand, least: u64, load: &dyn Fn() -> Result<()>) -> Result<(u64, u64)> {
    let sink = stand.folder.join("sink");
    let (bytes, exchanges) = (stored(&sink)?, told(stand)?);
    stand.start_agent()?;
    load()?;
    eventually(PATIENCE, "all exchanges", || Ok((told(stand)? - exchanges >= least).then_some(())))?;
    stand.stop_agent()?;
    Ok((stored(&sink)? - bytes, told(stand)? - exchanges))
}

/// Small answers and answers of 9 KiB, of which no two are the same.
fn pages() -> Vec<(String, String)> {
    let mut random = Random::of(1);
    let mut row =
        || format!("{{\"sku\":\"A-{}\",\"cents\":{}}}", random.below(1_000_000), random.below(100_000));
    let mut pages = Vec::new();
    for page in 1..=EXCHANGES {
        pages.push((format!("price{page}"), row()));
        let rows: Vec<_> = (0..280).map(|_| row()).collect();
        pages.push((format!("prices{page}"), format!("[{}]", rows.join(","))));
    }
    pages
}

#[test]
fn a_level_that_records_less_and_takes_no_less_room() -> Result<()> {
    let (web, data) = (stand::folder()?, stand::folder()?);
    let pages = pages();
    let pages: Vec<_> = pages.iter().map(|(name, page)| (name.as_str(), page.as_str())).collect();
    let nginx = Nginx::start(web.path(), &pages)?;
    let postgres = Postgres::start(data.path())?;
    let pgbench = |arguments: &[&str]| output(postgres.program("pgbench", false).args(arguments)).map(drop);
    pgbench(&["-i", "-q"])?;
    let curl = |path: &str, arguments: &[&str]| {
        let (port, rate) = (nginx.http_port, format!("{RATE}/s"));
        let address = format!("http://127.0.0.1:{port}/{path}[1-{EXCHANGES}]?of=today");
        let mut curl = Command::new("curl");
        output(curl.args(["-s", "-o", "/dev/null", "--rate", &rate, &address]).args(arguments)).map(drop)
    };
    let count = EXCHANGES.to_string();
    let loads: [Load<'_>; 4] = [
        ("HTTP, a small answer", &|| curl("price", &[])),
        ("HTTP, one connection each", &|| curl("price", &["-H", "Connection: close"])),
        ("HTTP, an answer of 9 KiB", &|| curl("prices", &[])),
        ("PostgreSQL, `pgbench -S`", &|| pgbench(&["-n", "-S", "-R", RATE, "-t", &count])),
    ];
    let mut table = vec![Vec::new(); loads.len()];
    for level in LEVELS {
        let folder = stand::folder()?;
        let settings = format!(
            "[capture]\nlevel = \"{level}\"\n[capture.include]\nports = [{}, {}]\n",
            nginx.http_port, postgres.port
        );
        let mut stand = Stand::new(folder.path(), &settings)?;
        let (nothing, _) = cost(&mut stand, 0, &|| Ok(()))?;
        for (row, (name, load)) in table.iter_mut().zip(&loads) {
            let least = if level == "off" { 0 } else { EXCHANGES };
            let (bytes, exchanges) = cost(&mut stand, least, load)?;
            // pgbench asks for a few things before it begins.
            let wanted = if level == "off" { 0..=0 } else { EXCHANGES..=EXCHANGES + 5 };
            ensure!(wanted.contains(&exchanges), "{name} at {level}: {exchanges} of {EXCHANGES} were told");
            row.push((bytes.saturating_sub(nothing) + EXCHANGES / 2) / EXCHANGES);
        }
        let programs = stand.records("type = \"exec\"")?.len();
        println!("{level}: a start with nothing else {nothing} bytes, {programs} programs in all five runs");
        stand.verify()?;
    }
    println!("| bytes per exchange | {} |", LEVELS.join(" | "));
    for ((name, _), row) in loads.iter().zip(&table) {
        println!("| {name} | {} |", row.iter().map(u64::to_string).collect::<Vec<_>>().join(" | "));
    }
    // The host's other programs are in all of these figures: what is compared must differ by more than they do.
    ensure!(table[2][0] > 2 * table[2][1], "bodies: {:?}", table[2]);
    let all = |level: usize| table.iter().map(|row| row[level]).sum::<u64>();
    ensure!(all(1) > all(2), "{} at summary, {} at counts", all(1), all(2));
    Ok(())
}
