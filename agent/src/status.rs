//! The socket in the runtime directory: `status` and `trace` ask there. For root alone; no payload.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream as BlockingStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

use crate::link::ToWorker;
use crate::shared::Shared;
use crate::workers::Downlink;

const FILE: &str = "agent.sock";
/// Programs whose TLS is not read that are shown; JSON has them all.
const UNREAD_LINES_MAX: usize = 20;
const REQUEST_BYTES_MAX: u64 = 4096;

/// What can be asked: one line of JSON.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// One line of figures.
    Status,
    /// Lines until the asker goes.
    Trace {
        /// Port of either end, 0 for none.
        port: u16,
        /// Process, 0 for none.
        pid: u32,
    },
}

/// Listens; the socket file is removed when it is dropped.
pub struct Server {
    path: PathBuf,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
        // A file that is gone already is what was wanted.
        let _ = std::fs::remove_file(&self.path);
    }
}

impl Server {
    /// Begins to listen. A socket file of an agent that died is replaced: the state lock says that there is
    /// no other agent.
    pub fn listen(
        runtime_directory: &Path,
        shared: Arc<Shared>,
        downlink: Arc<Downlink>,
        traces: broadcast::Sender<String>,
    ) -> Result<Self> {
        let path = runtime_directory.join(FILE);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("cannot replace {}", path.display()));
            }
            _ => {}
        }
        let listener =
            UnixListener::bind(&path).with_context(|| format!("cannot listen on {}", path.display()))?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
        let task = tokio::spawn(async move {
            // An asker that misbehaves costs its own connection.
            while let Ok((stream, _)) = listener.accept().await {
                let (shared, downlink, traces) = (Arc::clone(&shared), Arc::clone(&downlink), traces.clone());
                tokio::spawn(async move { drop(answer(stream, &shared, &downlink, &traces).await) });
            }
        });
        Ok(Server { path, task })
    }
}

async fn answer(
    mut stream: UnixStream,
    shared: &Shared,
    downlink: &Downlink,
    traces: &broadcast::Sender<String>,
) -> Result<()> {
    let (reader, mut writer) = stream.split();
    let mut line = String::new();
    let mut reader = tokio::io::BufReader::new(reader.take(REQUEST_BYTES_MAX));
    reader.read_line(&mut line).await?;
    match serde_json::from_str(&line)? {
        Request::Status => {
            let mut text = serde_json::to_string(&shared.snapshot())?;
            text.push('\n');
            writer.write_all(text.as_bytes()).await?;
        }
        Request::Trace { port, pid } => {
            let mut lines = traces.subscribe();
            downlink.send(&ToWorker::Trace { port, pid });
            let mut gone = [0];
            loop {
                tokio::select! {
                    line = lines.recv() => match line {
                        Ok(line) => writer.write_all(format!("{line}\n").as_bytes()).await?,
                        Err(RecvError::Lagged(lines)) => {
                            writer.write_all(format!("({lines} lines were too many)\n").as_bytes()).await?;
                        }
                        Err(RecvError::Closed) => break,
                    },
                    // The asker says no more: any answer means that it is gone.
                    _ = reader.read(&mut gone) => break,
                }
            }
            downlink.send(&ToWorker::Trace { port: 0, pid: 0 });
        }
    }
    Ok(())
}

/// Asks a running agent; each line of its answer goes to `line` until that says stop.
pub fn ask(
    runtime_directory: &Path,
    request: &Request,
    mut line: impl FnMut(&str) -> Result<bool>,
) -> Result<()> {
    let path = runtime_directory.join(FILE);
    let mut stream = BlockingStream::connect(&path).map_err(|error| {
        NotRunning(format!(
            "no agent answers on {} ({error}): is custody-agent running, and are you root?",
            path.display()
        ))
    })?;
    let mut text = serde_json::to_string(request)?;
    text.push('\n');
    stream.write_all(text.as_bytes()).context("asking the agent")?;
    for answer in BufReader::new(stream).lines() {
        if !line(&answer.context("reading the agent's answer")?)? {
            break;
        }
    }
    Ok(())
}

/// There is no agent to ask.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct NotRunning(String);

/// How much is recorded; where that is less than asked for, what it costs and what to do.
fn level(status: &serde_json::Value) -> Vec<String> {
    let level = &status["level"];
    let [configured, now] = ["configured", "in_force"].map(|name| level[name].as_str().unwrap_or("?"));
    let left_out = status["worker"]["figures"]["records_left_out"].as_u64().unwrap_or(0)
        + status["worker"]["records_left_out_before"].as_u64().unwrap_or(0);
    let mut lines =
        vec![format!("level         {now}   {left_out} records left out   {} steps", level["steps"])];
    if now != configured {
        let costs = match now {
            "summary" => "exchanges are recorded without values, headers and bodies",
            _ => "sessions are recorded with their bytes, exchanges are only counted",
        };
        lines.push(format!("              LESS THAN {configured}, for the spool is filling: {costs}."));
        lines.push(
            "              Bring the sink back, or give spool.bytes_max and its disk more room; it goes up by itself."
                .to_owned(),
        );
    }
    lines
}

/// What waits for the sink, and how that becomes less.
fn spool(status: &serde_json::Value) -> Vec<String> {
    let spool = &status["spool"];
    let drain = &spool["drain"];
    let mut lines = vec![
        format!(
            "spool         {} of {} bytes   limit now {}   reserve {}",
            spool["bytes"], spool["bytes_max"], spool["limit"], spool["reserve_bytes"]
        ),
        format!(
            "to the sink   {} batches wait, {} bytes   in {} bytes/s   out {} bytes/s   {}",
            spool["batches"],
            spool["waiting_bytes"],
            drain["in_per_second"],
            drain["out_per_second"],
            match (spool["batches"].as_u64(), drain["seconds_left"].as_u64()) {
                (Some(0), _) => "nothing waits".to_owned(),
                (_, Some(seconds)) => format!("empty in about {seconds} s"),
                _ => "does not become less".to_owned(),
            }
        ),
    ];
    if spool["disk_full"] == true {
        lines.push(
            "DISK FULL     records are dropped and counted; heartbeats and gaps go to the reserve. Make room on that disk."
                .to_owned(),
        );
    }
    lines
}

/// The figures as people read them.
pub fn text(status: &serde_json::Value) -> String {
    let get = |path: &str| match status.pointer(path) {
        Some(serde_json::Value::String(text)) => text.clone(),
        Some(value) => value.to_string(),
        None => "?".to_owned(),
    };
    let mut lines = vec![
        format!("ready         {}", if get("/ready") == "true" { "yes" } else { "NO" }),
        format!("host          {}   epoch {}", get("/host"), get("/epoch")),
        format!(
            "worker        pid {}   restarts {}   sessions {}   holds {} bytes",
            get("/worker/pid"),
            get("/worker/restarts"),
            get("/worker/sessions"),
            get("/worker/held_bytes")
        ),
    ];
    for (label, name) in
        [("produced", "produced"), ("in the rings", "delivered"), ("lost", "lost"), ("skipped", "skipped")]
    {
        lines.push(format!(
            "{label:<13} {} events   {} bytes",
            get(&format!("/counters/{name}/events")),
            get(&format!("/counters/{name}/bytes"))
        ));
    }
    lines.push(format!(
        "records       {}   entries {}   batches {}   dropped {}",
        get("/counters/records"),
        get("/counters/entries"),
        get("/counters/batches"),
        get("/counters/records_dropped")
    ));
    lines.extend(level(status));
    lines.extend(spool(status));
    lines.push(format!(
        "head          {}   stored {}   committed {}",
        get("/head"),
        get("/stored"),
        get("/acknowledged")
    ));
    if get("/spool/free_at") == "witnessed" {
        lines.push(format!(
            "witnessed     {}   {} batches wait for it",
            get("/witnessed"),
            get("/spool/unwitnessed")
        ));
    }
    let (origin, alarm) = (get("/log/origin"), get("/log/alarm"));
    if !origin.is_empty() {
        lines.push(format!(
            "log           {origin}   {} records under its newest checkpoint",
            get("/log/size")
        ));
    }
    if !alarm.is_empty() {
        lines.push(format!("LOG ALARM     {alarm}; nothing leaves the spool"));
    }
    let not_witnessed = get("/log/not_witnessed");
    if !not_witnessed.is_empty() {
        lines.push(format!("NOT WITNESSED {not_witnessed}"));
    }
    lines.push(format!(
        "exposure      p50 {} ms   p99 {} ms   max {} ms",
        get("/exposure/p50_ms"),
        get("/exposure/p99_ms"),
        get("/exposure/max_ms")
    ));
    lines.push(format!("configuration {}", get("/configuration")));
    let error = get("/sink_error");
    if !error.is_empty() {
        lines.push(format!("sink          NOT REACHED: {error}"));
    }
    let aside = get("/aside/batches");
    if aside != "0" {
        lines.push(format!("NOT AT SINK   {aside} batches, kept in the spool's folder `aside`"));
        let reason = get("/aside/reason");
        if !reason.is_empty() {
            lines.push(format!("              {reason}"));
        }
    }
    for program in status["tls_unread"].as_array().into_iter().flatten().take(UNREAD_LINES_MAX) {
        let field = |name: &str| match &program[name] {
            serde_json::Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        lines.push(format!(
            "TLS not read  {} ({}): {} connections, {} bytes",
            field("executable"),
            field("library"),
            field("connections"),
            field("bytes")
        ));
    }
    for probe in status["probes"].as_array().into_iter().flatten() {
        let field = |name: &str| probe[name].as_str().unwrap_or("?").to_owned();
        lines.push(format!("probe         {}: {}", field("name"), field("state")));
    }
    lines.join("\n")
}
