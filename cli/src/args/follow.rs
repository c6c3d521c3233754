//! The flags of `custody verify --follow`.

use std::path::PathBuf;

use clap::Args;

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
    /// Look so often.
    #[arg(long, value_name = "DURATION", default_value = "10s", requires = "follow")]
    pub(crate) every: String,
    /// Keep what was seen in this file, instead of beside the login.
    #[arg(long, value_name = "FILE", requires = "follow")]
    pub(crate) state: Option<PathBuf>,
}
