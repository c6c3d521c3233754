//! The flags of `custody verify --follow`.

use std::path::PathBuf;

use clap::Args;

pub(super) const WITNESS_KEY_HELP: &str = "Example:\n  custody witness-key audit.key --name audit.example/w1\n\n\
    Prints the line by which others know the witness: its sink's owner puts it under [witnesses], whoever demands it puts it \
    into a policy (`witness NAME LINE`). Beside FILE stands FILE.signed, what the key has signed: without it the key signs \
    nothing more. A copy of both on another machine would be a second witness under one name: make none.";

/// Making the key of a witness.
#[derive(Debug, Args)]
pub(crate) struct WitnessKeyArgs {
    /// Where the key goes; a file that is there is not replaced.
    pub(crate) file: PathBuf,
    /// What it is called in cosignatures, such as audit.example/w1.
    #[arg(long, value_name = "NAME")]
    pub(crate) name: String,
}

/// Watching the log of a sink that runs.
#[derive(Debug, Args)]
#[command(next_help_heading = "Follow a running sink")]
pub(crate) struct FollowArgs {
    /// Follow the log of the sink that you are logged in at: each checkpoint must go on from the one before. For an
    /// auditor also what leaves hold, and the checkpoints that hosts echo in them.
    #[arg(long, conflicts_with_all = ["from", "sink_key", "checkpoint"])]
    pub(crate) follow: bool,
    /// Look once, and end.
    #[arg(long, requires = "follow")]
    pub(crate) once: bool,
    /// Look so often; by default each 10s, with --cosign each second.
    #[arg(long, value_name = "DURATION", requires = "follow")]
    pub(crate) every: Option<String>,
    /// Be a witness: cosign, with this key (`custody witness-key`), each checkpoint that the sink offers and that holds.
    /// For auditors; best on another machine than the sink's, and by another hand. One process a key.
    #[arg(long, value_name = "KEYFILE", requires = "follow")]
    pub(crate) cosign: Option<PathBuf>,
    /// Keep what was seen in this file, instead of beside the login.
    #[arg(long, value_name = "FILE", requires = "follow")]
    pub(crate) state: Option<PathBuf>,
}
