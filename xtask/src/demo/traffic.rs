//! What the demo's clients do: real programs, plain and over TLS, with successes, failures, and secrets that
//! must not reach the record.

use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use custody_tests::servers::{Nginx, Postgres};

/// What nginx serves.
pub(super) const PAGES: [(&str, &str); 1] = [("prices.json", "{\"tea\": 4, \"cake\": 7}\n")];

/// A filter for the last exchange of the last round, when the number of rounds is known; else for any.
pub(super) fn last_of(nginx: &Nginx, rounds: Option<u64>) -> String {
    let query = rounds.map_or_else(String::new, |rounds| format!(" and url.query = \"end={rounds}\""));
    format!("server.port = {}{query}", nginx.http_port)
}

/// Each client once.
pub(super) fn round(nginx: &Nginx, postgres: &Postgres, round: u64) -> Result<()> {
    let https = format!("https://localhost:{}", nginx.https_port);
    let http = format!("http://127.0.0.1:{}", nginx.http_port);
    let certificate = nginx.certificate.display().to_string();
    let curl = |arguments: &[&str]| {
        quiet(Command::new("curl").args(["-s", "--max-time", "10", "--cacert", &certificate]).args(arguments))
    };
    curl(&[&format!("{https}/prices.json?round={round}")])?;
    curl(&["-H", "Authorization: Bearer c2VjcmV0IG9mIHRoZSBkZW1v", &format!("{https}/echo?as=anna")])?;
    curl(&["-d", "card=4111111111111111&contact=anna@example.org", &format!("{https}/echo")])?;
    curl(&[&format!("{http}/missing")])?;
    let urllib = "import ssl, sys, urllib.request as r\n\
                  r.urlopen(sys.argv[1], context=ssl.create_default_context(cafile=sys.argv[2])).read()";
    quiet(Command::new("/usr/bin/python3").args([
        "-c",
        urllib,
        &format!("{https}/echo?from=python"),
        &certificate,
    ]))?;
    let psql = |tls: bool, statement: &str| quiet(postgres.psql(tls).args(["-c", statement]));
    psql(true, "SELECT 'anna@example.org' AS contact, 42 AS answer")?;
    psql(false, &format!("SELECT count(*) FROM pg_class WHERE oid > {round}"))?;
    // Its failure is the point: the record shows the SQLSTATE.
    psql(false, "SELECT * FROM no_such_table").ok();
    curl(&[&format!("{http}/prices.json?end={round}")])
}

fn quiet(command: &mut Command) -> Result<()> {
    let status = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .with_context(|| format!("cannot start {command:?}"))?;
    if !status.success() {
        bail!("{command:?} ended with {status}");
    }
    Ok(())
}
