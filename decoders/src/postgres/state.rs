//! What may answer what: a pure table, without memory and without bytes.
//!
//! The documentation calls it "Message Flow"; each row below is one of its sentences. What is not in the
//! table is [`Effect::Wrong`], and the connection then stops pairing instead of guessing.

/// Something that the client sent and the server has to answer, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Startup,
    Query,
    Function,
    Parse,
    Bind,
    Describe,
    Execute,
    Close,
    Sync,
    /// What the client asked was not seen: the answer stands alone up to ReadyForQuery.
    Unseen,
}

/// What a server's message means for the step that it answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    /// Part of the answer; more follows.
    More,
    /// The answer is complete.
    Done,
    /// The step failed, and the server skips all that follows up to the next Sync.
    Failed,
    /// No such answer exists.
    Wrong,
}

/// What a message of type `kind` means for `step`. Notices, parameters and notifications come at any time
/// and are no part of this.
pub(super) fn effect(step: Step, kind: u8) -> Effect {
    use Effect::{Done, Failed, More, Wrong};
    use Step::*;
    match (step, kind) {
        (Startup, b'R' | b'K' | b'v') => More,
        (Query, b'T' | b'D' | b'C' | b'I' | b'G' | b'H' | b'W' | b'd' | b'c') => More,
        (Function, b'V') => More,
        // An error of a simple query or a function call goes on to ReadyForQuery; one of a start-up to the end.
        (Query | Function, b'E') => More,
        (Startup, b'E') => Done,
        (Startup | Query | Function, b'Z') => Done,
        (Parse, b'1') | (Bind, b'2') | (Close, b'3') => Done,
        (Describe, b't') => More,
        (Describe, b'T' | b'n') => Done,
        // A CopyBoth of the extended protocol does not exist: replication takes simple queries only.
        (Execute, b'D' | b'G' | b'H' | b'd' | b'c') => More,
        (Execute, b'C' | b'I' | b's') => Done,
        (Parse | Bind | Describe | Execute | Close, b'E') => Failed,
        // A deferred constraint fails at the implicit commit.
        (Sync, b'E') => More,
        (Sync, b'Z') => Done,
        (Unseen, b'Z') => Done,
        (Unseen, _) => More,
        _ => Wrong,
    }
}

impl Step {
    /// Its message in the words of the documentation.
    pub(super) fn message(self) -> &'static str {
        match self {
            Step::Startup => "StartupMessage",
            Step::Query => "Query",
            Step::Function => "FunctionCall",
            Step::Parse => "Parse",
            Step::Bind => "Bind",
            Step::Describe => "Describe",
            Step::Execute => "Execute",
            Step::Close => "Close",
            Step::Sync => "Sync",
            Step::Unseen => "",
        }
    }
    /// The server ends it with ReadyForQuery.
    pub(super) fn ends_ready(self) -> bool {
        matches!(self, Step::Startup | Step::Query | Step::Function | Step::Sync | Step::Unseen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEPS: [Step; 10] = [
        Step::Startup,
        Step::Query,
        Step::Function,
        Step::Parse,
        Step::Bind,
        Step::Describe,
        Step::Execute,
        Step::Close,
        Step::Sync,
        Step::Unseen,
    ];

    #[test]
    fn ready_for_query_ends_exactly_the_steps_that_say_so() {
        for step in STEPS {
            assert_eq!(effect(step, b'Z') == Effect::Done, step.ends_ready(), "{step:?}");
        }
    }

    #[test]
    fn an_error_fits_every_step_and_skips_only_in_the_extended_protocol() {
        for step in STEPS {
            let expected = match step {
                Step::Startup => Effect::Done,
                step if step.ends_ready() => Effect::More,
                _ => Effect::Failed,
            };
            assert_eq!(effect(step, b'E'), expected, "{step:?}");
        }
    }

    #[test]
    fn rows_answer_only_queries_and_executes() {
        for step in STEPS {
            let expected = matches!(step, Step::Query | Step::Execute | Step::Unseen);
            assert_eq!(effect(step, b'D') != Effect::Wrong, expected, "{step:?}");
        }
    }
}
