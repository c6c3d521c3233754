//! Who is on the other end: a host or a named person, as the client certificate's SAN URI says.

use std::fmt;
use std::str::FromStr;

use custody_ledger::HostId;
use serde::{Deserialize, Serialize};

/// What a person may do. Separate credentials for separate roles.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Tail, search, show.
    Reader,
    /// Verify, export.
    Auditor,
    /// All that readers may, and the sink's own state.
    Admin,
}

impl Role {
    const fn as_str(self) -> &'static str {
        match self {
            Role::Reader => "reader",
            Role::Auditor => "auditor",
            Role::Admin => "admin",
        }
    }
}

/// Longest name of a person, bytes.
pub const NAME_BYTES_MAX: usize = 128;

/// An authenticated caller.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Identity {
    /// An enrolled host.
    Host(HostId),
    /// A named person in one role.
    Person {
        /// What they may do.
        role: Role,
        /// Who they are.
        name: String,
    },
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Identity::Host(host) => write!(f, "custody:host:{host}"),
            Identity::Person { role, name } => write!(f, "custody:person:{}:{name}", role.as_str()),
        }
    }
}

/// Text that names nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this is no custody identity")]
pub struct ParseIdentityError;

impl FromStr for Identity {
    type Err = ParseIdentityError;
    fn from_str(text: &str) -> Result<Self, ParseIdentityError> {
        let rest = text.strip_prefix("custody:").ok_or(ParseIdentityError)?;
        if let Some(host) = rest.strip_prefix("host:") {
            return host.parse().map(Identity::Host).map_err(|_| ParseIdentityError);
        }
        let (role, name) =
            rest.strip_prefix("person:").and_then(|p| p.split_once(':')).ok_or(ParseIdentityError)?;
        let role = [Role::Reader, Role::Auditor, Role::Admin]
            .into_iter()
            .find(|known| known.as_str() == role)
            .ok_or(ParseIdentityError)?;
        if !is_name(name) {
            return Err(ParseIdentityError);
        }
        Ok(Identity::Person { role, name: name.to_owned() })
    }
}

/// Whether this may name a person: short, and harmless in a URI, a log and a terminal.
pub fn is_name(name: &str) -> bool {
    let harmless = |byte: u8| byte.is_ascii_alphanumeric() || b"@._+-".contains(&byte);
    !name.is_empty() && name.len() <= NAME_BYTES_MAX && name.bytes().all(harmless)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_is_read_back_as_it_was_written() {
        let host = Identity::Host("0190a0b0-0000-7000-8000-000000000001".parse().unwrap());
        let person = Identity::Person { role: Role::Reader, name: "dana@corp".to_owned() };
        for identity in [host, person] {
            assert_eq!(identity.to_string().parse(), Ok(identity));
        }
    }

    #[test]
    fn names_that_could_stand_for_somebody_else_are_refused() {
        for text in [
            "custody:person:reader:",
            "custody:person:reader:a:b",
            "custody:person:root:dana",
            "custody:person:reader:dana\u{202e}",
            "custody:host:0190A0B0-0000-7000-8000-000000000001",
            "custody:host:",
            "host:0190a0b0-0000-7000-8000-000000000001",
        ] {
            assert_eq!(text.parse::<Identity>(), Err(ParseIdentityError), "{text:?}");
        }
    }
}
