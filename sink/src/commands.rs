//! What operators type: `run`, `enroll`, `revoke`, `doctor`, `status`, `retention`. Exit codes: 0 ok, 1 negative, 2 usage or
//! configuration, 3 unreachable or forbidden.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use custody_ledger::wire::JoinToken;

use crate::age::{Age, parse_duration};
use crate::authority;
use crate::clock::now_ns;
use crate::config::{Config, ConfigError};
use crate::doctor;
use crate::identity::{Identity, Role, is_name};
use crate::labels;
use crate::retention;
use crate::revocation::{REASON_BYTES_MAX, Revocations};
use crate::run;
use crate::status;
use crate::token::{Grant, Tokens};

/// Longest life of a join token: what lies about for longer is forgotten.
const LIFETIME_MAX: Duration = Duration::from_secs(90 * 86_400);

const EXIT_NEGATIVE: u8 = 1;
const EXIT_USAGE: u8 = 2;
const EXIT_UNREACHABLE: u8 = 3;

/// Receives, stores and shows what hosts record.
#[derive(Parser)]
#[command(name = "custody-sink", version)]
pub struct Cli {
    /// Configuration file.
    #[arg(long, global = true, env = "CUSTODY_SINK_CONFIG", default_value = "/etc/custody/sink.toml")]
    config: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve until told to stop.
    Run {
        /// Run as root although the sink needs no rights.
        #[arg(long)]
        allow_root: bool,
    },
    /// Make a join token and print it.
    Enroll(EnrollArgs),
    /// Believe no certificate that a host or a person was given so far, such as
    /// `custody-sink revoke --role reader --name dana@corp --reason "left the company"`. That, and when it is taken back by
    /// removing its file, becomes a signed statement of the store.
    Revoke(RevokeArgs),
    /// Check configuration, keys and every byte of the store.
    Doctor,
    /// Ask the running sink how it is.
    Status,
    /// Say what the policy of `[retention]` would let go now, segment by segment. Removes nothing: a running sink does that
    /// by itself, and states it before.
    #[command(
        after_help = "Examples:\n  custody-sink retention                what goes now, and when the rest does\n  \
                            custody-sink retention --bodies 30d   as if bodies were kept for 30 days"
    )]
    Retention(RetentionArgs),
}

#[derive(Args)]
struct EnrollArgs {
    /// A token for hosts.
    #[arg(long, conflicts_with_all = ["role", "name"], required_unless_present = "role")]
    host: bool,
    /// A token for one person in this role.
    #[arg(long, requires = "name")]
    role: Option<Role>,
    /// The person's name, such as dana@corp.
    #[arg(long, requires = "role")]
    name: Option<String>,
    /// Label that hosts of this token get, as key=value; for a reader: only hosts that have it are seen. May be given
    /// several times.
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = labels::parse)]
    labels: Vec<(String, String)>,
    /// How often it may be used, by hosts: a person's token is used once.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    uses: u32,
    /// How long it may be used: 90s, 30m, 1h, 7d; at most 90d.
    #[arg(long, default_value = "1h", value_parser = parse_duration)]
    expires: Duration,
}

#[derive(Args)]
struct RetentionArgs {
    /// As if this were the policy: an age such as 90d, 12h or 600s, or forever.
    #[arg(long, value_name = "AGE")]
    bodies: Option<Age>,
}

#[derive(Args)]
struct RevokeArgs {
    /// The host, by its id as `custody hosts -o wide` shows it.
    #[arg(long, value_name = "ID", conflicts_with_all = ["role", "name"], required_unless_present = "role")]
    host: Option<custody_ledger::HostId>,
    /// The person's role.
    #[arg(long, requires = "name")]
    role: Option<Role>,
    /// The person's name, such as dana@corp.
    #[arg(long, requires = "role")]
    name: Option<String>,
    /// Why: stands in the statement of the store.
    #[arg(long)]
    reason: Option<String>,
}

/// Runs what was typed.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let config = match Config::load(&cli.config) {
        Ok(config) => config,
        Err(error @ ConfigError::Unreadable { .. }) => {
            return fail(EXIT_USAGE, &format!("{error}; name another file by --config"));
        }
        Err(error) => return fail(EXIT_USAGE, &error.to_string()),
    };
    match cli.command {
        Command::Run { allow_root } => {
            if let Err(error) = start_log(&config.log) {
                return fail(EXIT_USAGE, &error);
            }
            match run::run(&config, allow_root) {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => fail(EXIT_NEGATIVE, &format!("{error:#}")),
            }
        }
        Command::Enroll(args) => match enroll(&config, args) {
            Ok(token) => print(&format!("{token}\n")),
            Err(detail) => fail(EXIT_USAGE, &detail),
        },
        Command::Revoke(args) => match revoke(&config, args) {
            Ok(identity) => print(&format!("{identity} is revoked; a running sink refuses it from now on\n")),
            Err(detail) => fail(EXIT_USAGE, &detail),
        },
        Command::Doctor => {
            let report = doctor::examine(&config);
            let code = print(&report.text);
            if report.is_healthy { code } else { ExitCode::from(EXIT_NEGATIVE) }
        }
        Command::Retention(args) => {
            let age = args.bodies.unwrap_or(config.retention.bodies);
            match retention::preview(&config, age, now_ns()) {
                Ok(text) => print(&text),
                Err(detail) => fail(EXIT_NEGATIVE, &detail),
            }
        }
        Command::Status => match status::ask(&config) {
            Ok(status) => {
                let code = print(&status.text);
                if status.is_ready { code } else { ExitCode::from(EXIT_NEGATIVE) }
            }
            Err(error) => fail(EXIT_UNREACHABLE, &format!("{error:#}")),
        },
    }
}

fn enroll(config: &Config, args: EnrollArgs) -> Result<JoinToken, String> {
    let directory = &config.state_directory;
    let ca = authority::fingerprint(directory)
        .map_err(|error| format!("{error}; start the sink once before enrolling, it makes its keys then"))?;
    let labels = labels::gather(args.labels)?;
    if args.expires > LIFETIME_MAX {
        return Err("a join token lives for 90 days at most: make another one then".to_owned());
    }
    if args.role.is_some() && args.uses > 1 {
        return Err(
            "a person's token is used once: several holders of one name cannot be told apart".to_owned()
        );
    }
    let grant = match (args.role, args.name) {
        (Some(role), _) if role != Role::Reader && !labels.is_empty() => {
            return Err(format!("an {} sees the whole store: a scope is for readers", role.as_str()));
        }
        (Some(role), Some(name)) if is_name(&name) => Grant::Person { role, name, labels },
        (Some(_), _) => {
            return Err(
                "a person's name has letters, digits and @ . _ + - only, at most 128 of them".to_owned()
            );
        }
        (None, _) => Grant::Host { labels },
    };
    let lifetime_ns = u64::try_from(args.expires.as_nanos()).unwrap_or(u64::MAX);
    let expires_ns = now_ns().saturating_add(lifetime_ns);
    let tokens = Tokens::open(directory).map_err(|error| error.to_string())?;
    let secret = tokens
        .create(grant, args.uses, expires_ns, config.limits.tokens_max)
        .map_err(|error| error.to_string())?;
    Ok(JoinToken { url: config.public_url(), ca, secret })
}

fn revoke(config: &Config, args: RevokeArgs) -> Result<Identity, String> {
    let identity = match (args.host, args.role, args.name) {
        (Some(host), _, _) => Identity::Host(host),
        (None, Some(role), Some(name)) if is_name(&name) => Identity::Person { role, name },
        _ => return Err("this is nobody's name: say --host ID, or --role ROLE --name NAME".to_owned()),
    };
    let reason = args.reason.as_deref();
    if reason.is_some_and(|reason| reason.len() > REASON_BYTES_MAX || reason.contains('\n')) {
        return Err(format!("a reason is one line of {REASON_BYTES_MAX} bytes at most"));
    }
    let directory = &config.state_directory;
    authority::fingerprint(directory).map_err(|error| error.to_string())?;
    let revoked = Revocations::open(directory).and_then(|revocations| revocations.revoke(&identity, reason));
    revoked.map_err(|error| error.to_string())?;
    Ok(identity)
}

fn start_log(filter: &str) -> Result<(), String> {
    let filter = tracing_subscriber::EnvFilter::try_new(filter)
        .map_err(|error| format!("the configuration is wrong: log {error}"))?;
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false).init();
    Ok(())
}

fn print(text: &str) -> ExitCode {
    // A reader that has closed its end has seen enough.
    let _ = std::io::stdout().write_all(text.as_bytes());
    ExitCode::SUCCESS
}

fn fail(code: u8, detail: &str) -> ExitCode {
    eprintln!("custody-sink: {detail}");
    ExitCode::from(code)
}
