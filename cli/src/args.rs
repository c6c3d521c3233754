//! The command line: one set of flags for all commands that choose or show entries.

mod evidence;
mod follow;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use custody_record::search::{By, Cursor};

pub(crate) use evidence::{ExportArgs, VerifyArgs};
pub(crate) use follow::WitnessKeyArgs;

const EXITS: &str = "Exit codes: 0 ok, 1 the answer is no (altered, nothing found), 2 usage or configuration, \
                     3 sink unreachable or access refused, 4 incomplete (something is missing).";

const DECODE_HELP: &str = "Examples:\n  custody decode capture.pcap\n  custody decode -o json capture.pcapng.zst > exchanges.jsonl\n  \
    tcpdump -i lo -w - port 5432 | custody decode -\n  \
    custody decode capture.pcap --protocol postgresql --where 'duration > 100ms'\n  \
    custody decode capture.pcap --errors --since 2026-01-31T12:00:00Z --until 2026-01-31T12:05:00Z\n  \
    custody decode capture.pcap --trace -n 5        (each stage of each connection, on standard error)\n\n\
    Needs no sink and no network. The kind of file is told by its content, never by its name.\n\
    Times are those of the packets: an exchange's is that of its last one. The whole file is read, whatever --since \
    and --until choose of it, and what is missing anywhere in it is told at the end.\n\
    Exit codes: 0 all was read, 1 nothing matched, 2 no capture file, 4 something is missing: bytes that were \
    sent and are not in the capture, packets that it cut off, or the end of the file.";

const SEARCH_HELP: &str = "Examples:\n  custody search no_such_table\n  custody search refund 'card declined' --since 2d\n  \
    custody search '/v1/char*' --errors -l env=prod\n  custody search --where 'db.user = svc_pay and duration > 1s' -n 100\n  \
    custody search balance --from /var/lib/custody-sink    (the sink is down; reads all of it)\n\n\
    Words are runs of letters and digits, in any case; an entry must have all of them, in whatever fields. An argument \
    of several words (\"card declined\", no_such_table, 10.2.0.9) wants them one after the other in one value; word* is \
    the beginning of a word. Words of a session's beginning (its program, its addresses) are words of its entries. \
    --where is the filter of `custody tail`.\n\
    Each hit is read from the store and checked: \u{2714} its body and header are those that its host signed, \u{2718} not, \
    and why. MISSING: the index knows the entry and the store has it no more.\n\
    Exit codes: 0 found, 1 nothing matched, 2 usage, 3 unreachable or refused, 4 not the whole answer: something is \
    missing or could not be verified, the index is being built, or a limit was hit.";

const TIMELINE_HELP: &str = "Examples:\n  custody timeline b81x           a session and what happened around it\n  \
    custody timeline b81x.3         one exchange of it\n  \
    custody timeline --host db-7 --host web-3 --since 10m --until 5m\n  \
    custody timeline b81x --from ./copy -o json\n\n\
    Of a session: its beginning and end, its exchanges and gaps; start and end of its program; and within a minute of it, \
    gaps of no session, starts and stops of the agent, and what was not read of its program (coverage).\n\
    Within a host the order is that of its chain; across hosts, that in which the sink received. The times that are shown \
    are those of the hosts' clocks, and nothing is sorted by them.\n\
    Exit codes: 0 told, 1 no such session or nothing there, 2 usage, 3 unreachable or refused, 4 not the whole answer.";

const STATS_HELP: &str = "Examples:\n  custody stats --by service,statement\n  custody stats --by status --protocol http --since 15m\n  \
    custody stats --by process,user --where 'server.port = 5432' -o json\n  custody stats --by statement --from ./copy\n\n\
    --by takes up to four of: service, statement, host, protocol, user, process, status.\n\
    Statements are counted without their values: SELECT * FROM t WHERE id = ?, GET /users/{}, HGETALL.\n\
    An exchange counts when it ends; WAITING have no end yet. PER S is over the time from the first to the last of \
    them. P50 and P99 are at most 3 % too high, MAX is exact. Without --since: the last hour; of a copy of a store, all.\n\
    Exit codes: 0 counted, 1 nothing matched, 2 usage, 3 unreachable or refused, 4 not all was counted.";

/// See what the programs of your hosts say to each other, from a record that the hosts cannot change.
#[derive(Debug, Parser)]
#[command(name = "custody", version, after_help = EXITS, max_term_width = 110)]
pub(crate) struct Custody {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Get a certificate of a sink by a join token, and remember the sink.
    #[command(
        after_help = "Example:\n  custody login \"$(custody-sink enroll --role reader --name dana@corp)\""
    )]
    Login(LoginArgs),
    /// List the hosts that the sink knows, and whether they are heard.
    #[command(after_help = "Examples:\n  custody hosts\n  custody hosts -l env=prod -o json")]
    Hosts(HostsArgs),
    /// Show exchanges as they come.
    #[command(after_help = "Examples:\n  custody tail\n  custody tail -l env=prod --errors --since 5m\n  \
        custody tail --where 'db.response.status_code =~ \"^57\" and duration > 500ms'\n  \
        custody tail --from /var/lib/custody-sink --since 1h    (the sink is down)\n\n\
        The filter language: field operator value, joined by and, or, not and parentheses.\n\
        Operators: = != < <= > >= =~ !~ (pattern), has(field), error, open.\n\
        Values: psql, 57014, 500ms, 64KiB, 'quoted text'. `custody explain fields` lists all fields.\n\
        Flags never hide gaps and silence, because they say what is missing; --where does what it says.")]
    Tail(TailArgs),
    /// Find entries by their words, newest first.
    #[command(after_help = SEARCH_HELP)]
    Search(SearchArgs),
    /// Show all that concerns a session, an exchange, or some hosts for a while, in order.
    #[command(after_help = TIMELINE_HELP)]
    Timeline(TimelineArgs),
    /// Count exchanges by what they have in common: how many, how many went wrong, how long they took.
    #[command(after_help = STATS_HELP)]
    Stats(StatsArgs),
    /// List sessions: connections and what became of them.
    #[command(
        after_help = "Examples:\n  custody sessions --open\n  custody sessions --process psql --since 1h"
    )]
    Sessions(SessionsArgs),
    /// Show one session, one exchange or one entry, by its id.
    #[command(
        after_help = "Examples:\n  custody show b81x             a session\n  custody show b81x.3           \
        its third exchange\n  custody show db-7/3/184201    one entry: host/epoch/sequence"
    )]
    Show(ShowArgs),
    /// Show what was said in a capture file (pcap, pcapng, .cap; also gzip or zstd of them), masked as on a host.
    #[command(after_help = DECODE_HELP)]
    Decode(DecodeArgs),
    /// Write a session or a range of entries into one file that anybody can check offline.
    #[command(after_help = evidence::EXPORT_HELP)]
    Export(ExportArgs),
    /// Check a copy of a sink's store, or a bundle of `custody export`: that nothing was changed, reordered or taken out.
    #[command(after_help = evidence::VERIFY_HELP)]
    Verify(VerifyArgs),
    /// Make the key of a witness, which cosigns the log of a sink (`custody verify --follow --cosign`).
    #[command(after_help = follow::WITNESS_KEY_HELP)]
    WitnessKey(WitnessKeyArgs),
    /// Explain a code: an anomaly, the cause of a gap; or list `codes` or `fields`.
    #[command(after_help = "Examples:\n  custody explain order_unknown\n  custody explain codes\n  \
        custody explain fields")]
    Explain(ExplainArgs),
}

#[derive(Debug, Args)]
pub(crate) struct LoginArgs {
    /// The token as `custody-sink enroll` printed it; `-` reads it from standard input, so that it stands in no
    /// process list.
    pub(crate) token: String,
}

#[derive(Debug, Args)]
pub(crate) struct HostsArgs {
    #[command(flatten)]
    pub(crate) hosts: HostSelection,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

#[derive(Debug, Args)]
pub(crate) struct TailArgs {
    #[command(flatten)]
    pub(crate) selection: Selection,
    /// End after what is there; do not wait for more. Exit code 1 when nothing matched.
    #[arg(long)]
    pub(crate) no_follow: bool,
    #[command(flatten)]
    pub(crate) shown: Shown,
}

#[derive(Debug, Args)]
pub(crate) struct SearchArgs {
    /// Words, phrases and beginnings (word*), all of which must be there.
    pub(crate) words: Vec<String>,
    #[command(flatten)]
    pub(crate) selection: Selection,
    /// At most N on this page, of at most 1000.
    #[arg(short = 'n', value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub(crate) hits: u16,
    /// The page before this place, as the last page ended.
    #[arg(long, value_name = "CURSOR")]
    pub(crate) cursor: Option<Cursor>,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

#[derive(Debug, Args)]
pub(crate) struct TimelineArgs {
    /// b81x or b81x.3; without it, what the hosts that are chosen did since --since.
    #[arg(conflicts_with_all = CHOICES)]
    pub(crate) id: Option<String>,
    #[command(flatten)]
    pub(crate) selection: Selection,
    /// Heartbeats too.
    #[arg(long)]
    pub(crate) all: bool,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// What chooses entries, and has no part in the timeline of one session.
const CHOICES: [&str; 13] = [
    "host", "label", "service", "process", "user", "login", "open", "protocol", "errors", "slow", "since",
    "until", "filter",
];

#[derive(Debug, Args)]
pub(crate) struct StatsArgs {
    /// What exchanges of one group have in common, by comma.
    #[arg(long, value_name = "NAMES")]
    pub(crate) by: By,
    #[command(flatten)]
    pub(crate) selection: Selection,
    /// At most the N largest groups, of at most 1000.
    #[arg(short = 'n', value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub(crate) rows: u16,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

#[derive(Debug, Args)]
pub(crate) struct SessionsArgs {
    #[command(flatten)]
    pub(crate) selection: Selection,
    /// Show at most the last N.
    #[arg(short = 'n', value_name = "N", default_value_t = 100)]
    pub(crate) lines: usize,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ShowArgs {
    /// b81x, b81x.3 or db-7/3/184201.
    pub(crate) id: String,
    /// Read a copy of a sink's store instead of asking the sink.
    #[arg(long, value_name = "DIR")]
    pub(crate) from: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

#[derive(Debug, Args)]
pub(crate) struct DecodeArgs {
    /// The file; `-` is standard input.
    pub(crate) file: PathBuf,
    #[command(flatten)]
    pub(crate) traffic: Traffic,
    /// Tell on standard error what each stage makes of each packet: segment, chunk, record. Never what it says.
    #[arg(long)]
    pub(crate) trace: bool,
    #[command(flatten)]
    pub(crate) shown: Shown,
}

#[derive(Debug, Args)]
pub(crate) struct ExplainArgs {
    /// The code, `codes` or `fields`.
    pub(crate) code: String,
}

#[derive(Clone, Debug, Default, Args)]
pub(crate) struct HostSelection {
    /// Of this host (name or id); may be given more than once.
    #[arg(long, value_name = "HOST")]
    pub(crate) host: Vec<String>,
    /// Of hosts with this label; all given ones must fit.
    #[arg(short = 'l', long, value_name = "KEY=VALUE")]
    pub(crate) label: Vec<String>,
}

#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Choose")]
pub(crate) struct Selection {
    #[command(flatten)]
    pub(crate) hosts: HostSelection,
    /// Of this systemd unit.
    #[arg(long, value_name = "UNIT")]
    pub(crate) service: Option<String>,
    /// Of this executable (path or its last part) or pid.
    #[arg(long, value_name = "PROCESS")]
    pub(crate) process: Option<String>,
    /// Of processes that run as this user.
    #[arg(long, value_name = "USER")]
    pub(crate) user: Option<String>,
    /// Of processes of this person's login, whoever they became since.
    #[arg(long, value_name = "USER")]
    pub(crate) login: Option<String>,
    /// That have no end yet.
    #[arg(long)]
    pub(crate) open: bool,
    #[command(flatten)]
    pub(crate) traffic: Traffic,
    /// Read a copy of a sink's store instead of asking the sink.
    #[arg(long, value_name = "DIR")]
    pub(crate) from: Option<PathBuf>,
}

/// What was said, and when; whoever said it.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Choose")]
pub(crate) struct Traffic {
    /// Of this protocol.
    #[arg(long, value_name = "NAME")]
    pub(crate) protocol: Option<String>,
    /// That went wrong: an error, a reset, no answer.
    #[arg(long)]
    pub(crate) errors: bool,
    /// That took at least so long, such as 500ms.
    #[arg(long, value_name = "DURATION")]
    pub(crate) slow: Option<String>,
    /// From then on: 10m ago, or a time such as 2026-01-31T12:00:00Z.
    #[arg(long, value_name = "TIME")]
    pub(crate) since: Option<String>,
    /// Until then.
    #[arg(long, value_name = "TIME")]
    pub(crate) until: Option<String>,
    /// What this filter says.
    #[arg(long = "where", value_name = "FILTER")]
    pub(crate) filter: Option<String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// One line, cut to the terminal.
    #[default]
    Text,
    /// Nothing cut, more fields.
    Wide,
    /// One JSON object per line.
    Json,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Color {
    /// On a terminal, unless NO_COLOR is set.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

#[derive(Clone, Copy, Debug, Default, Args)]
#[command(next_help_heading = "Show")]
pub(crate) struct OutputArgs {
    /// How.
    #[arg(short = 'o', long = "output", value_enum, default_value_t, value_name = "FORMAT")]
    pub(crate) format: Format,
    /// In colour.
    #[arg(long, value_enum, default_value_t, value_name = "WHEN")]
    pub(crate) color: Color,
    /// Times in UTC instead of local time.
    #[arg(long)]
    pub(crate) utc: bool,
}

/// Which of the entries that were chosen are shown, and how.
#[derive(Clone, Copy, Debug, Default, Args)]
#[command(next_help_heading = "Show")]
pub(crate) struct Shown {
    /// At most the last N of what is there.
    #[arg(short = 'n', value_name = "N")]
    pub(crate) lines: Option<usize>,
    /// Every type of entry: heartbeats and beginnings of sessions too.
    #[arg(long)]
    pub(crate) all: bool,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}
