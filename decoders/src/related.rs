//! Sessions that name each other by a secret which both carry, as a cancel request names the connection whose
//! statement it is to end. Holds hashes, never a secret; tells numbers of sessions, never a hash.

use std::collections::HashMap;

use ring::digest::{SHA256, digest};

use crate::protocol::ExchangeId;

/// A secret that two connections share, as its SHA-256.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Secret([u8; 32]);

impl Secret {
    pub(crate) fn of(secret: &[u8]) -> Self {
        let mut hash = [0; 32];
        hash.copy_from_slice(digest(&SHA256, secret).as_ref());
        Secret(hash)
    }
}

/// What a decoder says of its session and another.
pub(crate) enum Relation {
    /// The session may be named by this secret.
    GoesBy(Secret),
    /// This exchange names the session that goes by this secret; its number is told as this field.
    Names(ExchangeId, Secret, &'static str),
}

/// Which open session goes by which secret. One secret a session, so it is as bounded as the sessions are.
#[derive(Default)]
pub(crate) struct Related {
    sessions: HashMap<Secret, u64>,
    secrets: HashMap<u64, Secret>,
}

impl Related {
    /// A session goes by a secret; the newest counts.
    pub(crate) fn goes_by(&mut self, session: u64, secret: Secret) {
        self.forget(session);
        self.secrets.insert(session, secret);
        self.sessions.insert(secret, session);
    }

    /// The session that goes by it.
    pub(crate) fn find(&self, secret: Secret) -> Option<u64> {
        self.sessions.get(&secret).copied()
    }

    /// The session is over.
    pub(crate) fn forget(&mut self, session: u64) {
        let Some(secret) = self.secrets.remove(&session) else { return };
        if self.sessions.get(&secret) == Some(&session) {
            self.sessions.remove(&secret);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_that_is_over_is_found_no_more_and_its_successor_stays() {
        let mut related = Related::default();
        let secret = Secret::of(b"key");
        related.goes_by(1, secret);
        related.goes_by(2, secret);
        related.forget(1);
        assert_eq!(related.find(secret), Some(2));
        related.forget(2);
        assert_eq!(related.find(secret), None);
        assert!(related.secrets.is_empty());
    }
}
