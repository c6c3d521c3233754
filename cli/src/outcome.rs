//! How a command ends: exit codes that scripts rely on, and one clear sentence on standard error.

use std::process::ExitCode;

/// What a command comes to. `Ok` holds the code of an end without an error: 0, or 1 and 4 where the answer
/// itself says no or not all.
pub(crate) type Outcome = Result<Exit, Failure>;

/// Exit codes, the same for every command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// As asked.
    Ok = 0,
    /// The answer is no: altered, no hit.
    Negative = 1,
    /// Wrong usage or configuration.
    Usage = 2,
    /// The sink cannot be reached, or says that this is not for you.
    Unreachable = 3,
    /// The answer is not the whole answer.
    Incomplete = 4,
    /// What is here contradicts a signed checkpoint that somebody holds: it was rolled back or forked.
    Forked = 5,
}

/// An end with a sentence.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Who read our output has gone away: `custody tail | head`. No error.
    ReaderGone,
    /// All else.
    Because(Exit, anyhow::Error),
}

impl Failure {
    pub(crate) fn usage(error: impl Into<anyhow::Error>) -> Self {
        Failure::Because(Exit::Usage, error.into())
    }

    pub(crate) fn unreachable(error: impl Into<anyhow::Error>) -> Self {
        Failure::Because(Exit::Unreachable, error.into())
    }

    pub(crate) fn negative(error: impl Into<anyhow::Error>) -> Self {
        Failure::Because(Exit::Negative, error.into())
    }
}

/// Says why, once, and gives the code.
pub(crate) fn report(outcome: Outcome) -> ExitCode {
    let exit = match outcome {
        Ok(exit) => exit,
        Err(Failure::ReaderGone) => Exit::Ok,
        Err(Failure::Because(exit, error)) => {
            // Lines stay apart (a filter error points with a caret); all else that could move a cursor is shown.
            for (index, line) in format!("{error:#}").lines().enumerate() {
                let line = custody_record::text::escape(line);
                eprintln!("{}{line}", if index == 0 { "custody: " } else { "" });
            }
            exit
        }
    };
    ExitCode::from(exit as u8)
}
