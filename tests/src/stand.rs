//! Custody as a user sets it up: a sink under its own user, an enrolled host, a reader who logged in.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::Signal;
use serde_json::Value;

use crate::process::{HeldPort, Running, eventually, output};

/// How long a program of ours may take to be ready, on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// The sink's unprivileged user.
pub const SINK_USER: &str = "custody-sink";

/// The set-up.
#[derive(Debug)]
pub struct Stand {
    /// Everything lies below this folder.
    pub folder: PathBuf,
    /// `None` while it is stopped.
    pub sink: Option<Running>,
    /// `None` while it is stopped.
    pub agent: Option<Running>,
    port: HeldPort,
    starts: u32,
}

impl Stand {
    /// Sets up a sink and enrols this host and a reader, in `folder`, which other users must be able to
    /// enter. The agent is not started yet. `agent_settings` are added to the agent's configuration.
    pub fn new(folder: &Path, agent_settings: &str) -> Result<Stand> {
        copy_programs(&folder.join("bin"))?;
        if output(Command::new("id").arg(SINK_USER)).is_err() {
            output(
                Command::new("useradd")
                    .args(["--system", "--no-create-home", "--shell", "/usr/sbin/nologin"])
                    .arg(SINK_USER),
            )?;
        }
        let (sink_state, agent_state) = (folder.join("sink"), folder.join("agent"));
        for state in [&sink_state, &agent_state, &folder.join("run")] {
            std::fs::create_dir_all(state)?;
        }
        output(Command::new("chown").arg(format!("{SINK_USER}:{SINK_USER}")).arg(&sink_state))?;
        let port = HeldPort::take()?;
        std::fs::write(
            folder.join("sink.toml"),
            format!(
                "config_version = 1\nlisten = \"127.0.0.1:{}\"\nstate_directory = \"{}\"\n",
                port.number(),
                sink_state.display()
            ),
        )?;
        std::fs::write(
            folder.join("agent.toml"),
            format!(
                "config_version = 1\nstate_directory = \"{}\"\nruntime_directory = \"{}\"\n{agent_settings}\n",
                agent_state.display(),
                folder.join("run").display()
            ),
        )?;
        let mut stand = Stand { folder: folder.to_owned(), sink: None, agent: None, port, starts: 0 };
        stand.start_sink()?;
        let token = stand.sink_command(&["enroll", "--host"])?;
        output(
            stand
                .program("custody-agent")
                .arg("enroll")
                .arg(token.trim())
                .arg("--config")
                .arg(folder.join("agent.toml")),
        )?;
        let token = stand.sink_command(&["enroll", "--role", "reader", "--name", "dana@corp"])?;
        let mut login = stand.program("custody");
        output(stand.as_reader(&mut login).args(["login", token.trim()]))?;
        Ok(stand)
    }

    /// Starts the sink and waits until it is ready.
    pub fn start_sink(&mut self) -> Result<()> {
        self.starts += 1;
        let log = self.folder.join(format!("sink-{}.log", self.starts));
        let program = self.binary("custody-sink").display().to_string();
        let configuration = self.folder.join("sink.toml").display().to_string();
        let mut sink = Running::start(
            "custody-sink",
            &[&program, "run", "--config", &configuration],
            Some(SINK_USER),
            &log,
            Signal::TERM,
        )?;
        let port = self.port.number();
        sink.wait_ready(PATIENCE, || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok())?;
        self.sink = Some(sink);
        Ok(())
    }

    /// Starts the agent and waits until it says READY.
    pub fn start_agent(&mut self) -> Result<()> {
        self.spawn_agent(|status| status["ready"] == true)
    }

    /// Starts the agent and waits until it answers; whether it runs.
    pub fn start_agent_unready(&mut self) -> Result<bool> {
        self.spawn_agent(|_| true)?;
        Ok(self.agent.as_mut().is_some_and(Running::alive))
    }

    fn spawn_agent(&mut self, enough: impl Fn(&Value) -> bool) -> Result<()> {
        self.starts += 1;
        let log = self.folder.join(format!("agent-{}.log", self.starts));
        let program = self.binary("custody-agent").display().to_string();
        let configuration = self.folder.join("agent.toml").display().to_string();
        let command = [program.as_str(), "run", "--config", &configuration];
        let mut agent = Running::start("custody-agent", &command, None, &log, Signal::TERM)?;
        let stand = &*self;
        agent.wait_ready(PATIENCE, || stand.status().is_ok_and(|status| enough(&status)))?;
        self.agent = Some(agent);
        Ok(())
    }

    /// What `custody-agent status` says, as JSON.
    pub fn status(&self) -> Result<Value> {
        let mut command = self.program("custody-agent");
        command.args(["status", "-o", "json", "--config"]).arg(self.folder.join("agent.toml"));
        Ok(serde_json::from_str(&output(&mut command)?)?)
    }

    /// A command of `custody-sink`, run as its user.
    pub fn sink_command(&self, arguments: &[&str]) -> Result<String> {
        let mut command = Command::new("setpriv");
        command.args(["--reuid", SINK_USER, "--regid", SINK_USER, "--init-groups", "--"]);
        command
            .arg(self.binary("custody-sink"))
            .args(arguments)
            .arg("--config")
            .arg(self.folder.join("sink.toml"));
        output(&mut command)
    }

    /// A command of `custody`; its output.
    pub fn custody(&self, arguments: &[&str]) -> Result<String> {
        output(self.program("custody").args(arguments))
    }

    /// Sets a `custody` command to the reader of this stand.
    pub fn as_reader<'c>(&self, command: &'c mut Command) -> &'c mut Command {
        command.env("CUSTODY_HOME", self.folder.join("reader"))
    }

    /// A command of `custody` as the reader who logged in, against the running sink; its output.
    pub fn ask(&self, arguments: &[&str]) -> Result<String> {
        output(self.as_reader(&mut self.program("custody")).args(arguments))
    }

    /// All records that match a filter, in the order of the chain, as `custody tail --from` prints them of the
    /// sink's folder, whether the sink runs or not.
    pub fn records(&self, filter: &str) -> Result<Vec<Value>> {
        let store = self.folder.join("sink").display().to_string();
        let mut arguments = vec!["tail", "--from", &store, "--since", "1d", "-n", "1000000", "-o", "json"];
        if !filter.is_empty() {
            arguments.extend(["--where", filter]);
        }
        told(self.program("custody").args(&arguments))
    }

    /// Waits until at least `count` records match.
    pub fn wait_records(&self, filter: &str, count: usize) -> Result<Vec<Value>> {
        let mut last = Vec::new();
        let found = eventually(PATIENCE, filter, || {
            last = self.records(filter)?;
            Ok((last.len() >= count).then_some(()))
        });
        match found {
            Ok(()) => Ok(last),
            Err(error) => {
                bail!("{error}: {} of {count} records; agent says:\n{}", last.len(), self.agent_log())
            }
        }
    }

    /// Waits until the running sink shows the reader at least `count` records that match. It shows only what is
    /// durable: a moment after the record stands in its folder.
    pub fn wait_shown(&self, filter: &str, count: usize) -> Result<()> {
        self.wait_records(filter, count)?;
        eventually(PATIENCE, "the sink shows what stands in its folder", || {
            let mut tail = self.program("custody");
            tail.args(["tail", "--since", "1d", "--no-follow", "-o", "json", "--where", filter]);
            let lines = told(self.as_reader(&mut tail))?;
            // What the tail says of itself has one key.
            let entries = lines.iter().filter(|line| line.as_object().is_some_and(|fields| fields.len() > 1));
            Ok((entries.count() >= count).then_some(()))
        })
    }

    /// Stops the agent in order, which sends what it holds.
    pub fn stop_agent(&mut self) -> Result<()> {
        let status = self.agent.take().context("no agent runs")?.stop(PATIENCE)?;
        if !status.success() {
            bail!("custody-agent ended with {status}");
        }
        Ok(())
    }

    /// Stops the sink in order.
    pub fn stop_sink(&mut self) -> Result<()> {
        let status = self.sink.take().context("no sink runs")?.stop(PATIENCE)?;
        if !status.success() {
            bail!("custody-sink ended with {status}");
        }
        Ok(())
    }

    /// `custody verify` over the sink's folder.
    pub fn verify(&self) -> Result<String> {
        let store = self.folder.join("sink").display().to_string();
        self.custody(&["verify", "--from", &store])
    }

    /// `custody verify` over the sink's folder must end with one of these codes.
    pub fn custody_verdict(&self, codes: &[i32]) -> Result<()> {
        let mut verify = self.program("custody");
        let output = verify.args(["verify", "--from"]).arg(self.folder.join("sink")).output()?;
        if !output.status.code().is_some_and(|code| codes.contains(&code)) {
            bail!("custody verify: {}: {}", output.status, String::from_utf8_lossy(&output.stdout));
        }
        Ok(())
    }

    /// What the running agent logged.
    pub fn agent_log(&self) -> String {
        self.agent.as_ref().map(Running::log).unwrap_or_default()
    }

    /// Where the sink listens, on loopback.
    pub fn sink_port(&self) -> u16 {
        self.port.number()
    }

    /// Path of one of our programs in this stand.
    pub fn binary(&self, name: &str) -> PathBuf {
        self.folder.join("bin").join(name)
    }

    /// One of our programs, to be run as root.
    pub fn program(&self, name: &str) -> Command {
        Command::new(self.binary(name))
    }
}

/// Puts copies of the release programs where the sink's user can reach them.
fn copy_programs(folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder)?;
    for name in ["custody-agent", "custody-sink", "custody"] {
        let built = built(name);
        std::fs::copy(&built, folder.join(name)).with_context(|| {
            format!(
                "{} is not built: run `cargo xtask test`, or `cargo build --release` first",
                built.display()
            )
        })?;
    }
    Ok(())
}

/// One of our programs where cargo put its release build.
pub fn built(name: &str) -> PathBuf {
    let folder = match std::env::var_os("CARGO_TARGET_DIR") {
        Some(target) => PathBuf::from(target).join("release"),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/release"),
    };
    folder.join(name)
}

/// A folder for one stand, which other users can enter.
pub fn folder() -> Result<tempfile::TempDir> {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::Builder::new()
        .prefix("custody-stand-")
        .permissions(std::fs::Permissions::from_mode(0o755))
        .tempdir_in("/var/tmp")?;
    Ok(folder)
}

/// A field of a line of `custody tail -o json`: the record's own, or its session's.
pub fn field<'a>(line: &'a Value, name: &str) -> &'a Value {
    match &line["record"]["fields"][name] {
        Value::Null => &line["session"][name],
        found => found,
    }
}

/// The lines of JSON that `custody` prints; none when nothing matched, which is exit code 1.
fn told(command: &mut Command) -> Result<Vec<Value>> {
    let output = command.output()?;
    if !matches!(output.status.code(), Some(0 | 1)) {
        bail!("{command:?} ended with {}: {}", output.status, String::from_utf8_lossy(&output.stderr));
    }
    String::from_utf8(output.stdout)?.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
}
