//! How people name things: a session `b81x`, an exchange `b81x.3`, one entry `db-7/3/184201`. All three are
//! derived from what is signed (host, epoch, sequence), so nobody hands them out and nobody can forge them.

use std::fmt;
use std::str::FromStr;

use ring::digest::{Context, SHA256};

/// RFC 4648 base32 in lower case without the letters that are taken for digits: no `i`, `l`, `o`, `u`.
const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
/// Digits of a whole id: 80 bits, so that a clash among billions of sessions stays unlikely.
const DIGITS: usize = 16;
/// Fewest digits that are taken for a session: shorter ones name half of the store.
const PREFIX_MIN: usize = 3;
/// Digits shown where the whole id would be noise.
const SHORT: usize = 6;
/// Separates this hash from every other use of SHA-256.
const DOMAIN: &[u8] = b"custody/1 session\0";

/// Name of a session: base32 of SHA-256 over host id, epoch and sequence of its `session.open` entry.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionId([u8; DIGITS]);

impl SessionId {
    /// The session that this entry opened. `host` is the host id's sixteen bytes; `epoch` its counter and
    /// random part.
    pub fn of(host: &[u8; 16], epoch: u64, nonce: &[u8; 16], seq: u64) -> Self {
        let mut hash = Context::new(&SHA256);
        hash.update(DOMAIN);
        hash.update(host);
        hash.update(&epoch.to_be_bytes());
        hash.update(nonce);
        hash.update(&seq.to_be_bytes());
        let digest = hash.finish();
        let bits = digest.as_ref()[..10].iter().fold(0u128, |bits, byte| bits << 8 | u128::from(*byte));
        let mut digits = [0; DIGITS];
        for (index, digit) in digits.iter_mut().enumerate() {
            *digit = ALPHABET[(bits >> (5 * (DIGITS - 1 - index)) & 31) as usize];
        }
        SessionId(digits)
    }

    /// All digits.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    /// The first digits, for lines that people read.
    pub fn short(&self) -> &str {
        &self.as_str()[..SHORT]
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
impl FromStr for SessionId {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        let prefix = SessionPrefix::from_str(text)?;
        let digits = prefix.0.as_bytes().try_into().map_err(|_| IdError::Session(text.to_owned()))?;
        Ok(SessionId(digits))
    }
}
impl serde::Serialize for SessionId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}
impl<'de> serde::Deserialize<'de> for SessionId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// The beginning of a session's id, as people type it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionPrefix(String);

impl SessionPrefix {
    /// Whether it is the beginning of this one.
    pub fn matches(&self, id: &SessionId) -> bool {
        id.as_str().starts_with(&self.0)
    }

    /// The digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}
impl FromStr for SessionPrefix {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        let lower = text.to_ascii_lowercase();
        if lower.len() < PREFIX_MIN
            || lower.len() > DIGITS
            || !lower.bytes().all(|digit| ALPHABET.contains(&digit))
        {
            return Err(IdError::Session(crate::text::escape(text).into_owned()));
        }
        Ok(SessionPrefix(lower))
    }
}

/// One entry of one host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Citation {
    /// Host's name or id.
    pub host: String,
    /// Epoch's counter.
    pub epoch: u64,
    /// Sequence in the epoch.
    pub seq: u64,
}
impl fmt::Display for Citation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.host, self.epoch, self.seq)
    }
}
impl FromStr for Citation {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        let wrong = || IdError::Citation(crate::text::escape(text).into_owned());
        let parts: Vec<&str> = text.split('/').collect();
        let [host, epoch, seq] = parts[..] else { return Err(wrong()) };
        let host_is_a_name = !host.is_empty()
            && host.len() <= 253
            && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte));
        if !host_is_a_name {
            return Err(wrong());
        }
        let number = |text: &str| -> Result<u64, IdError> {
            if text.starts_with('+') {
                return Err(wrong());
            }
            text.parse().map_err(|_| wrong())
        };
        Ok(Citation { host: host.to_owned(), epoch: number(epoch)?, seq: number(seq)? })
    }
}

/// What `show` takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Id {
    /// `b81x`
    Session(SessionPrefix),
    /// `b81x.3`
    Exchange(SessionPrefix, u64),
    /// `db-7/3/184201`
    Entry(Citation),
}

impl FromStr for Id {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        if text.contains('/') {
            return text.parse().map(Id::Entry);
        }
        match text.split_once('.') {
            None => text.parse().map(Id::Session),
            Some((session, exchange)) => {
                let wrong = || IdError::Exchange(crate::text::escape(text).into_owned());
                if exchange.starts_with('+') {
                    return Err(wrong());
                }
                Ok(Id::Exchange(session.parse()?, exchange.parse().map_err(|_| wrong())?))
            }
        }
    }
}

/// Text that names nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// No session.
    #[error("`{0}` is no session id: 3 to 16 of the digits 0-9 and a-z without i, l, o, u, such as b81x")]
    Session(String),
    /// No exchange.
    #[error("`{0}` is no exchange: a session id, a dot and a number, such as b81x.3")]
    Exchange(String),
    /// No citation.
    #[error("`{0}` is no citation: host/epoch/sequence, such as db-7/3/184201")]
    Citation(String),
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_three_kinds_are_told_apart() {
        assert!(matches!("b81x".parse(), Ok(Id::Session(_))));
        assert!(matches!("B81X.3".parse(), Ok(Id::Exchange(_, 3))));
        let citation = Citation { host: "db-7".into(), epoch: 3, seq: 184_201 };
        assert_eq!("db-7/3/184201".parse(), Ok(Id::Entry(citation)));
        for wrong in [
            "",
            "b8",
            "b81x.",
            "b81x.+3",
            "b81x.-1",
            "a/b",
            "a/1/2/3",
            "/1/2",
            "a/+1/2",
            "ilo",
            "b81x\u{1b}[2J",
        ] {
            assert!(wrong.parse::<Id>().is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn an_id_never_changes() {
        // Golden: ids stand in people's notes and in reports.
        assert_eq!(SessionId::of(&[7; 16], 3, &[9; 16], 42).as_str(), "sg0w9t2ngrwx2xpe");
    }

    proptest! {
        #[test]
        fn an_id_is_found_by_each_prefix(seq: u64, epoch: u64, length in PREFIX_MIN..=DIGITS) {
            let id = SessionId::of(&[1; 16], epoch, &[2; 16], seq);
            let prefix: SessionPrefix = id.as_str()[..length].parse().unwrap();
            prop_assert!(prefix.matches(&id));
            prop_assert_eq!(id.as_str().parse::<SessionId>(), Ok(id));
        }

        #[test]
        fn any_text_is_an_id_or_an_error(text in ".{0,64}") {
            if let Err(error) = text.parse::<Id>() {
                prop_assert!(!error.to_string().chars().any(char::is_control));
            }
        }
    }
}
