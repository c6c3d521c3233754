//! The command lines of `custody export` and `custody verify`, and what their --help says.

use std::path::PathBuf;

use clap::Args;

use super::OutputArgs;
use super::follow::FollowArgs;

pub(super) const EXPORT_HELP: &str = "Examples:\n  custody export b81x -o b81x.bundle        a session, for somebody outside\n  \
    custody export db-7/3/184201-184260 -o range.bundle\n  \
    custody export --host db-7 --since 2h --until 1h -o hour.bundle\n  \
    custody export b81x -o b81x.bundle --from ./copy    (the sink is down)\n  \
    custody export --policy-out policy.txt    only the keys: give them on by another way than the bundle\n\n\
    The bundle holds each signed header of the range, so that nothing in between can be missing unseen, the proof that all \
    of it is in the sink's log, and the content of the entries that were asked for. The content of others in between is \
    left out, which is proven too; their headers show type, time, size and session. --whole keeps all content.\n\
    Asking a sink is for auditors. A session begins with its opening and goes to its end, or to the newest entry that is here. At most 1 GiB and \
    65,536 batches. The file is checked before it gets its name. `custody verify FILE --policy P` checks it anywhere.\n\
    Exit codes: 0 written, 1 no such session or range, or what is stored does not hold, 2 usage or over a limit, \
    3 unreachable or refused.";

pub(super) const VERIFY_HELP: &str = "Examples:\n  custody verify --from /var/lib/custody-sink\n  \
    custody verify ./copy -o json\n  custody verify --from ./copy --checkpoint ./last-month\n  \
    custody verify b81x.bundle --policy policy.txt\n  \
    custody verify --follow                    (a sink that runs)\n  custody verify --follow --cosign audit.key  (as its witness)\n\n\
    A copy or a bundle needs no network and no key but public ones: of a store, those in it; of a bundle, those of the policy, which is worth \
    as much as the way by which it came to you (`custody export --policy-out`).\n\
    Exit codes: 0 all holds, 1 altered, 2 usage, 4 what is there holds but something is missing,\n5 it \
    contradicts a signed checkpoint that a host or you hold: it was rolled back or forked.";

#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("wanted").args(["what", "host", "policy_out"]).required(true).multiple(true))]
pub(crate) struct ExportArgs {
    /// b81x (a session), db-7/3/184201-184260 or db-7/3/184201 (host/epoch/sequences).
    #[arg(conflicts_with_all = ["host", "since", "until"], requires = "output")]
    pub(crate) what: Option<String>,
    /// All that this host (name or id) sent between --since and --until.
    #[arg(long, value_name = "HOST", requires = "since", requires = "output")]
    pub(crate) host: Option<String>,
    /// From then on, by the time at which the sink received: 10m ago, or a time such as 2026-01-31T12:00:00Z.
    #[arg(long, value_name = "TIME", requires = "host")]
    pub(crate) since: Option<String>,
    /// Until then.
    #[arg(long, value_name = "TIME", requires = "host")]
    pub(crate) until: Option<String>,
    /// Keep the content of all entries, also of those that were not asked for.
    #[arg(long)]
    pub(crate) whole: bool,
    /// Where the bundle goes; a file that is there is not replaced.
    #[arg(short = 'o', long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// Where the keys go that the bundle is checked with.
    #[arg(long, value_name = "FILE")]
    pub(crate) policy_out: Option<PathBuf>,
    /// Read a copy of a sink's store instead of asking the sink.
    #[arg(long, value_name = "DIR")]
    pub(crate) from: Option<PathBuf>,
    /// With --from: the sink's public key that you hold from elsewhere (64 hexadecimal digits). Without it the one that
    /// you got at login counts, and without login whatever key the store itself names.
    #[arg(long, value_name = "KEY", requires = "from")]
    pub(crate) sink_key: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    /// A bundle, or the folder of a store or of a copy of it.
    #[arg(required_unless_present_any = ["from", "follow"], conflicts_with = "follow")]
    pub(crate) what: Option<PathBuf>,
    /// The store's folder, or a copy of it.
    #[arg(long, value_name = "DIR", conflicts_with = "what")]
    pub(crate) from: Option<PathBuf>,
    /// Of a bundle: the file with the public keys that you believe.
    #[arg(long, value_name = "FILE")]
    pub(crate) policy: Option<PathBuf>,
    /// The sink's public key that you hold from elsewhere (64 hexadecimal digits). Without it the one that you
    /// got at login counts, and without login whatever key the store itself names.
    #[arg(long, value_name = "KEY")]
    pub(crate) sink_key: Option<String>,
    /// A checkpoint of the sink's log that you kept from before: the store must go on from it.
    #[arg(long, value_name = "FILE")]
    pub(crate) checkpoint: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) follow: FollowArgs,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}
