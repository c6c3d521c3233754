//! A real redis-server with a folder and a port of its own, that keeps a log of each command.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::process::Signal;
use serde_json::Value;

use crate::process::{Running, free_port, output};

/// How long it may take to answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// The server.
#[derive(Debug)]
pub struct Redis {
    /// TCP port.
    pub port: u16,
    /// Ends with this value.
    running: Running,
}

/// A command as the server logged it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Logged {
    /// Port of the client that sent it.
    pub client_port: u64,
    /// The command and its arguments, with spaces between them.
    pub line: String,
}

impl Redis {
    /// Starts it in `folder`, without persistence, with every command in its slow log.
    pub fn start(folder: &Path) -> Result<Redis> {
        let port = free_port()?;
        let (folder, log) = (folder.display().to_string(), folder.join("redis.log"));
        let port_text = port.to_string();
        let command =
            [
                &[
                    "redis-server",
                    "--port",
                    &port_text,
                    "--bind",
                    "127.0.0.1",
                    "--dir",
                    &folder,
                    "--save",
                    "",
                ][..],
                &["--slowlog-log-slower-than", "0", "--slowlog-max-len", "1000000"],
            ]
            .concat();
        let mut running = Running::start("redis-server", &command, None, &log, Signal::TERM)?;
        running.wait_ready(PATIENCE, || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok())?;
        Ok(Redis { port, running })
    }

    /// One of its programs, set to this server.
    pub fn program(&self, name: &str) -> Command {
        let mut command = Command::new(name);
        command.args(["-h", "127.0.0.1", "-p", &self.port.to_string()]);
        command
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.running.pid()
    }

    /// How often it ran a command, by its own count.
    pub fn calls(&self, command: &str) -> Result<u64> {
        let statistics = output(self.program("redis-cli").args(["INFO", "commandstats"]))?;
        let prefix = format!("cmdstat_{command}:calls=");
        let count = statistics.lines().find_map(|line| line.strip_prefix(&prefix)?.split(',').next());
        Ok(count.map_or(Ok(0), str::parse)?)
    }

    /// What it ran, oldest first.
    pub fn logged(&self) -> Result<Vec<Logged>> {
        let entries = output(self.program("redis-cli").args(["--json", "SLOWLOG", "GET", "-1"]))?;
        let entries: Value = serde_json::from_str(&entries)?;
        let mut logged = Vec::new();
        for entry in entries.as_array().context("entries")?.iter().rev() {
            let words = entry[3].as_array().context("arguments")?;
            let words: Vec<&str> = words.iter().filter_map(Value::as_str).collect();
            let (_, port) = entry[4].as_str().and_then(|client| client.rsplit_once(':')).context("client")?;
            logged.push(Logged { client_port: port.parse()?, line: words.join(" ") });
        }
        Ok(logged)
    }
}
