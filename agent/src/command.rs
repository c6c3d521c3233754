//! The command line: what can be typed, and which exit code follows. 0 ok, 1 negative, 2 usage or
//! configuration, 3 unreachable or forbidden, 4 incomplete.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand, ValueEnum};
use custody_ledger::tlog::{NoteKey, Policy};
use custody_ledger::wire::{ParseJoinTokenError, Refusal};

use crate::config::{self, Config, ConfigError};
use crate::mask_test::{self, Reading};
use crate::probes::ProbeError;
use crate::status::{NotRunning, Request};
use crate::worker::isolate::{self, Account};
use crate::worker::serve::{self, Given};
use crate::{doctor, enroll, privileges, renewal, run, status};

const EXAMPLES: &str = "Examples:
  custody-agent enroll custody-join-1.AbC…   makes this host known to its sink, once
  custody-agent doctor                       what this kernel can do, what is missing, what to do
  custody-agent rotate-keys                  a new key for this host's chain, signed by the old one
  custody-agent run                          observes this host (systemd does this)
  custody-agent status -o json               figures of the running agent
  custody-agent trace --port 5432            one connection through all stages, without payload
  custody-agent mask-test app.log            what masking would leave of a text

Exit codes: 0 ok, 1 negative, 2 usage or configuration, 3 unreachable or forbidden, 4 incomplete";

const ROTATE_EXAMPLES: &str = "Example:
  custody-agent rotate-keys && systemctl restart custody-agent";

const MASK_TEST_EXAMPLES: &str = "Examples:
  custody-agent mask-test app.log                     the text as it would be stored
  custody-agent mask-test answer.json -o json         how many values of each kind, nothing else
  psql -Atc 'SELECT phone FROM users' | custody-agent mask-test --as column:phone -
  custody-agent --config new.toml mask-test app.log   what another configuration would do

Exit codes: 0 something would be masked, 1 nothing would be, 2 usage or configuration";

/// Records what the programs of this host say to each other, and forwards it to a sink.
#[derive(Debug, Parser)]
#[command(name = "custody-agent", version, after_help = EXAMPLES)]
struct Arguments {
    /// Configuration file.
    #[arg(long, global = true, default_value = config::DEFAULT_PATH, value_name = "FILE")]
    config: PathBuf,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Observe this host until stopped.
    Run,
    /// Make this host known to a sink: TOKEN is what `custody-sink enroll --host` printed there.
    Enroll {
        /// The join token.
        token: String,
    },
    /// Hand this host's chain over to a new key, which the one of today signs. In force from the next start of the agent
    /// on; the old key is overwritten and can open no epoch any more.
    #[command(after_help = ROTATE_EXAMPLES)]
    RotateKeys,
    /// Get another certificate and TLS key from the sink now. The running agent does this by itself while a third of the
    /// certificate's time is left.
    RenewCertificate,
    /// Say what this host can and cannot do, what that costs, and what to do about it.
    Doctor {
        /// Output.
        #[arg(short, long, default_value = "text")]
        output: Output,
    },
    /// Check a configuration file.
    CheckConfig,
    /// Figures of the running agent.
    Status {
        /// Output.
        #[arg(short, long, default_value = "text")]
        output: Output,
    },
    /// Follow connections through all stages: positions, sizes and states, no payload.
    Trace {
        /// Connections with this port at either end.
        #[arg(long, required_unless_present = "pid", default_value = "0", hide_default_value = true)]
        port: u16,
        /// Sockets that this process opened.
        #[arg(long, default_value = "0", hide_default_value = true)]
        pid: u32,
    },
    /// Show what masking would leave of a text, with the configuration in force.
    #[command(after_help = MASK_TEST_EXAMPLES)]
    MaskTest {
        /// The text; `-` is standard input.
        file: PathBuf,
        /// As what it is read: text, json, xml, form, sql, arguments, header:NAME, column:NAME, key:NAME; of the last
        /// four each line is one value. Without it the file's name or first bytes tell.
        #[arg(long = "as", value_name = "READING")]
        reading: Option<Reading>,
        /// Output: the masked text, with a summary on standard error, or the summary alone.
        #[arg(short, long, default_value = "text")]
        output: Output,
    },
    /// The unprivileged half; started by the agent alone.
    #[command(hide = true)]
    Worker(WorkerArguments),
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Output {
    Text,
    Json,
}

#[derive(Debug, clap::Args)]
struct WorkerArguments {
    /// Give up all rights, try every door, and say which were open.
    #[arg(long)]
    inspect: bool,
    #[arg(long, required_unless_present = "inspect", default_value = "-1")]
    link: i32,
    #[arg(long, default_value = "-1")]
    data: i32,
    #[arg(long, default_value = "0")]
    data_bytes: usize,
    #[arg(long, default_value = "-1")]
    control: i32,
    #[arg(long, default_value = "0")]
    control_bytes: usize,
    #[arg(long)]
    fresh: bool,
    #[arg(long)]
    uid: u32,
    #[arg(long)]
    gid: u32,
}

/// Does what was typed.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match act(&arguments) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("custody-agent: {error:#}");
            ExitCode::from(exit_code(&error))
        }
    }
}

fn act(arguments: &Arguments) -> Result<ExitCode> {
    let path = arguments.config.as_path();
    match &arguments.verb {
        Verb::Run => {
            log(path)?;
            run::run(path)?;
        }
        Verb::Enroll { token } => {
            let config = Config::load(path)?;
            let facts = runtime()?.block_on(enroll::enroll(token, &config.state_directory))?;
            println!("enrolled as host {} at {}", facts.host, facts.sink_url);
        }
        Verb::RotateKeys => {
            let config = Config::load(path)?;
            let (old, new) = renewal::rotate_host_key(&config.state_directory)?;
            println!("{old} handed over to {new}, which certifies from the next start of the agent on");
        }
        Verb::RenewCertificate => {
            let config = Config::load(path)?;
            let hash = runtime()?.block_on(renewal::renew_certificate(&config.state_directory))?;
            println!("another certificate, {hash}; a running agent takes it over within an hour");
        }
        Verb::Doctor { output } => return doctor(path, *output),
        Verb::CheckConfig => {
            let config = Config::load(path)?;
            let policy = config.spool.policy()?;
            println!("{} is valid", path.display());
            if let Some(policy) = policy {
                println!("{}", witnessed_costs(&policy, config.spool.bytes_max));
            }
        }
        Verb::Status { output } => show_status(path, *output)?,
        Verb::Trace { port, pid } => {
            let config = Config::load(path)?;
            let request = Request::Trace { port: *port, pid: *pid };
            status::ask(&config.runtime_directory, &request, |line| {
                println!("{line}");
                Ok(true)
            })?;
        }
        Verb::MaskTest { file, reading, output } => return mask_test(path, file, reading.clone(), *output),
        Verb::Worker(worker) => return work(worker),
    }
    Ok(ExitCode::SUCCESS)
}

/// What it costs to wait for witnesses.
fn witnessed_costs(policy: &Policy, spool_bytes: u64) -> String {
    let names: Vec<&str> = policy.witnesses.keys().map(NoteKey::name).collect();
    format!(
        "batches stay in the spool until witnesses cosigned a checkpoint over them ({}): that takes as long as these look \
         (a second by default), and while too few of them do, the spool of {spool_bytes} bytes holds what comes; when it is \
         full, records are lost and counted. At a start all that is not witnessed is sent again",
        names.join(", ")
    )
}

fn doctor(path: &Path, output: Output) -> Result<ExitCode> {
    let findings = runtime()?.block_on(doctor::examine(path));
    match output {
        Output::Text => println!("{}", doctor::text(&findings)),
        Output::Json => println!("{}", serde_json::to_string_pretty(&findings)?),
    }
    Ok(ExitCode::from(doctor::exit_code(&findings)))
}

fn mask_test(config: &Path, file: &Path, reading: Option<Reading>, output: Output) -> Result<ExitCode> {
    let summary = match output {
        Output::Text => {
            let mut paper = mask_test::Paper::new();
            let summary = mask_test::run(config, file, reading, Some(&mut paper))?;
            paper.flush()?;
            eprintln!("{}", mask_test::text(&summary));
            summary
        }
        Output::Json => {
            let summary = mask_test::run(config, file, reading, None)?;
            println!("{}", serde_json::to_string_pretty(&summary)?);
            summary
        }
    };
    Ok(ExitCode::from(u8::from(summary.masked == 0)))
}

fn show_status(path: &Path, output: Output) -> Result<()> {
    let config = Config::load(path)?;
    status::ask(&config.runtime_directory, &Request::Status, |line| {
        match output {
            Output::Json => println!("{line}"),
            Output::Text => println!("{}", status::text(&serde_json::from_str(line)?)),
        }
        Ok(false)
    })
}

fn work(arguments: &WorkerArguments) -> Result<ExitCode> {
    let account = Account { uid: arguments.uid, gid: arguments.gid };
    if arguments.inspect {
        isolate::enter(account, &[])?;
        let inside = isolate::inspect(account.uid);
        println!("{}", serde_json::to_string(&inside)?);
        return Ok(ExitCode::from(u8::from(!inside.is_shut())));
    }
    serve::serve(Given {
        link: arguments.link,
        data: (arguments.data, arguments.data_bytes),
        control: (arguments.control, arguments.control_bytes),
        fresh: arguments.fresh,
        account,
    })?;
    Ok(ExitCode::SUCCESS)
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?)
}

/// To standard error, which systemd takes to the journal.
fn log(path: &Path) -> Result<()> {
    let filter = Config::load(path)?.log;
    let filter = tracing_subscriber::EnvFilter::try_new(&filter).map_err(|_| ConfigError::Parse {
        path: path.to_owned(),
        message: format!("log: `{filter}` is no filter such as info or info,custody_agent=debug"),
    })?;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .without_time()
        .init();
    Ok(())
}

fn exit_code(error: &anyhow::Error) -> u8 {
    const USAGE: u8 = 2;
    const FORBIDDEN: u8 = 3;
    let is = |test: fn(&(dyn std::error::Error + 'static)) -> bool| error.chain().any(test);
    if is(|cause| {
        cause.is::<ConfigError>() || cause.is::<ParseJoinTokenError>() || cause.is::<enroll::NotOfHosts>()
    }) {
        return USAGE;
    }
    if is(|cause| cause.is::<NotRunning>() || cause.is::<privileges::Missing>() || cause.is::<Refusal>()) {
        return FORBIDDEN;
    }
    if is(|cause| matches!(cause.downcast_ref(), Some(ProbeError::Permission(_)))) {
        return FORBIDDEN;
    }
    let io = error.chain().find_map(|cause| cause.downcast_ref::<std::io::Error>());
    match io.map(std::io::Error::kind) {
        Some(
            std::io::ErrorKind::ConnectionRefused
            | std::io::ErrorKind::PermissionDenied
            | std::io::ErrorKind::HostUnreachable
            | std::io::ErrorKind::TimedOut,
        ) => FORBIDDEN,
        _ => 1,
    }
}
