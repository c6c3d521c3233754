//! Load generators, each bounded in time or count, that tell how many operations were done: bench and soak compare
//! that with what was recorded.

use std::process::Command;

use anyhow::{Context, Result};
use custody_tests::process::output;
use custody_tests::servers::Postgres;

/// Connections of a load over HTTP.
const HTTP_CONNECTIONS: u64 = 50;

/// So many requests per second, to the addresses in turn. `rate` is a multiple of [`HTTP_CONNECTIONS`].
pub(crate) fn http(rate: u64, seconds: u64, urls: &[String]) -> Result<u64> {
    let mut h2load = Command::new("h2load");
    h2load.args(["--h1", "-t1"]);
    h2load.args(["-c", &HTTP_CONNECTIONS.to_string(), "--rps", &(rate / HTTP_CONNECTIONS).to_string()]);
    h2load.args(["-n", &(rate * seconds).to_string()]).args(urls);
    let text = output(&mut h2load)?;
    // requests: 60000 total, 60000 started, 60000 done, 60000 succeeded, …
    let line = text.lines().find(|line| line.starts_with("requests: ")).context("h2load said nothing")?;
    let done = line.split(", ").find_map(|part| part.strip_suffix(" succeeded"));
    Ok(done.context("h2load said nothing")?.parse()?)
}

/// As many requests as the server takes.
pub(crate) fn http_saturated(seconds: u64, url: &str) -> Result<u64> {
    let text = output(Command::new("wrk").args(["-t1", "-c50", &format!("-d{seconds}s"), url]))?;
    let line = text.lines().find(|line| line.contains(" requests in ")).context("wrk said nothing")?;
    Ok(line.split_whitespace().next().context("wrk said nothing")?.parse()?)
}

/// Transactions of one SELECT each over ten connections; so many per second, or as many as the server takes.
pub(crate) fn pgbench(
    postgres: &Postgres,
    tls: bool,
    mode: &str,
    rate: Option<u64>,
    seconds: u64,
) -> Result<u64> {
    let mut pgbench = postgres.program("pgbench", tls);
    pgbench.args(["-n", "-S", "-c", "10", "-T", &seconds.to_string(), "-M", mode]);
    pgbench.args(rate.map(|rate| format!("--rate={rate}")));
    let text = output(&mut pgbench)?;
    let line = text
        .lines()
        .find(|line| line.starts_with("number of transactions actually processed"))
        .context("pgbench said nothing")?;
    let number =
        line.rsplit(": ").next().and_then(|rest| rest.split('/').next()).context("pgbench said nothing")?;
    Ok(number.trim().parse()?)
}

/// So many GETs of 64 bytes over fifty connections.
pub(crate) fn redis(port: u16, pipeline: u64, count: u64) -> Result<u64> {
    let (port, text, pipeline) = (port.to_string(), count.to_string(), pipeline.to_string());
    output(
        Command::new("redis-benchmark")
            .args(["-q", "-c", "50", "-d", "64", "-t", "get", "-P", &pipeline, "-n", &text, "-p", &port]),
    )?;
    Ok(count)
}
