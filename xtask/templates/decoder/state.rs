//! What may come from which end: a pure table, without memory and without bytes.

use crate::protocol::{Direction, Outcome};

/// What a message means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    /// The first message of a connection.
    Hello,
    /// A request with a credential.
    Login,
    /// A request.
    Request,
    /// The answer to the oldest request that has none.
    Answer(Outcome),
    /// No such message exists in this direction.
    Wrong,
}

/// What a message of this kind means.
pub(super) fn effect(direction: Direction, kind: u8) -> Effect {
    match (direction, kind) {
        (Direction::Up, b'H') => Effect::Hello,
        (Direction::Up, b'L') => Effect::Login,
        (Direction::Up, b'?') => Effect::Request,
        (Direction::Down, b'+') => Effect::Answer(Outcome::Ok),
        (Direction::Down, b'-') => Effect::Answer(Outcome::Error),
        _ => Effect::Wrong,
    }
}
