//! A person at a running sink: logs in with a token, sees what is said while it is said, looks it up, and gets the
//! same from a copy of the store.

use std::fs::File;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use custody_tests::observed;
use custody_tests::process::{eventually, output};
use custody_tests::stand::field;

const PATIENCE: Duration = Duration::from_secs(30);

#[test]
fn a_reader_sees_what_is_said_and_looks_it_up() -> Result<()> {
    let (_folders, mut stand, nginx) = observed::nginx(&[])?;
    let token = stand.sink_command(&["enroll", "--role", "reader", "--name", "dana@corp"])?;
    let reader = |arguments: &[&str]| {
        let mut command = stand.program("custody");
        output(stand.as_reader(command.args(arguments)))
    };
    assert!(reader(&["login", token.trim()])?.contains("dana@corp (reader)"));
    assert!(reader(&["login", token.trim()]).is_err(), "a token for one was used twice");

    let seen = stand.folder.join("seen");
    let mut follower = stand.program("custody");
    stand.as_reader(&mut follower).args(["tail", "-n", "0", "--protocol", "http"]);
    let mut follower = follower.stdout(File::create(&seen)?).stdin(Stdio::null()).spawn()?;
    let url = format!("https://localhost:{}/echo?live", nginx.https_port);
    output(Command::new("curl").arg("-s").arg("--cacert").arg(&nginx.certificate).arg(&url))?;
    let line = eventually(PATIENCE, "the exchange in the live tail", || {
        let text = std::fs::read_to_string(&seen)?;
        Ok(text.lines().find(|line| line.contains("GET /echo?live")).map(str::to_owned))
    });
    follower.kill()?;
    follower.wait()?;
    let line = line?;
    assert!(line.contains("curl") && line.contains("200"), "{line}");

    // The last word of a line is what `show` takes.
    let id = line.split_whitespace().last().context("an id")?;
    let exchange = reader(&["show", id])?;
    assert!(exchange.contains("url.query") && exchange.contains("live"), "{exchange}");
    let session = id.split('.').next().context("a session")?;
    assert!(reader(&["show", session])?.contains("/usr/bin/curl"));
    assert!(reader(&["sessions", "--protocol", "http"])?.contains(session));
    assert!(reader(&["hosts"])?.contains("heard"));

    let filter = format!("type = \"exchange\" and server.port = {}", nginx.https_port);
    stand.wait_shown(&filter, 1)?;
    // Each of them says `stored` until it sees the checkpoint over it.
    let (live, copied) = eventually(PATIENCE, "the exchange under a checkpoint", || {
        let live = reader(&["tail", "--no-follow", "-n", "1", "-o", "json", "--where", &filter])?;
        let live: serde_json::Value = serde_json::from_str(live.lines().last().context("a line")?)?;
        let copied = stand.records(&filter)?.swap_remove(0);
        let are_committed = [&live, &copied].iter().all(|one| one["status"] == "committed");
        Ok(are_committed.then_some((live, copied)))
    })?;
    assert_eq!(live, copied, "the sink and its folder say the same");
    assert_eq!(field(&live, "custody.tls"), "tls");

    stand.stop_sink()?;
    let mut down = stand.program("custody");
    let down = stand.as_reader(down.args(["hosts"])).output()?;
    let said = String::from_utf8_lossy(&down.stderr).into_owned();
    assert!(said.contains("cannot reach the sink"), "{said}");
    assert_ne!(down.status.code(), Some(0));
    Ok(())
}
