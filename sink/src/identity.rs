//! Who is on the other end: a host or a named person, and of which hosts that one may see anything, as the client
//! certificate's SAN URI says.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use custody_ledger::HostId;
use serde::{Deserialize, Serialize};

use crate::labels;

/// What a person may do. Separate credentials for separate roles.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Reads the records of the hosts in their scope, and follows the log's checkpoints.
    Reader,
    /// Reads records, evidence and the log of the whole store.
    Auditor,
    /// Reads what an auditor reads. Tokens and revocations are made on the sink's own host, by nobody over the network.
    Admin,
}

impl Role {
    /// Its word, as in certificates.
    pub const fn as_str(self) -> &'static str {
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

/// Which hosts a reader sees: those that have all of these labels, and every one where there are none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scope(BTreeMap<String, String>);

impl Scope {
    /// The scope of these labels.
    pub const fn of(labels: BTreeMap<String, String>) -> Self {
        Scope(labels)
    }

    /// Whether it is the whole store.
    pub fn is_whole(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a host with these labels is in it. A host's labels come from its join token, never from itself.
    pub fn has(&self, labels: &BTreeMap<String, String>) -> bool {
        self.0.iter().all(|(key, value)| labels.get(key) == Some(value))
    }
}

/// What a certificate says: who, and with which scope. As text the identity, then `;key=value` for each label of the
/// scope. A reader of that text that knows no scopes takes it for nobody's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    /// Who.
    pub identity: Identity,
    /// Only readers have one that is not the whole store.
    pub scope: Scope,
}

impl From<Identity> for Subject {
    fn from(identity: Identity) -> Self {
        Subject { identity, scope: Scope::default() }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.identity)?;
        self.scope.0.iter().try_for_each(|(key, value)| write!(f, ";{key}={value}"))
    }
}

impl FromStr for Subject {
    type Err = ParseIdentityError;
    fn from_str(text: &str) -> Result<Self, ParseIdentityError> {
        let Some((identity, scope)) = text.split_once(';') else { return text.parse().map(Identity::into) };
        let identity: Identity = identity.parse()?;
        let labels: Result<Vec<_>, String> = scope.split(';').map(labels::parse).collect();
        let labels = labels.and_then(labels::gather).map_err(|_| ParseIdentityError)?;
        match identity {
            Identity::Person { role: Role::Reader, .. } => Ok(Subject { identity, scope: Scope(labels) }),
            // A scope that nobody enforces must not be taken for one.
            Identity::Person { .. } | Identity::Host(_) => Err(ParseIdentityError),
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
    fn a_scope_is_read_back_as_it_was_written_and_nothing_near_it_is_a_scope() {
        let text = "custody:person:reader:dana@corp;env=prod;team=db/1";
        let subject: Subject = text.parse().unwrap();
        assert_eq!(subject.to_string(), text);
        assert!(!subject.scope.is_whole());
        let labels = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
        };
        assert!(subject.scope.has(&labels(&[("env", "prod"), ("team", "db/1"), ("rack", "7")])));
        for other in [&[("env", "prod")][..], &[("env", "prod"), ("team", "web")], &[]] {
            assert!(!subject.scope.has(&labels(other)), "{other:?}");
        }
        assert!("custody:person:reader:dana@corp".parse::<Subject>().unwrap().scope.is_whole());
        for text in [
            "custody:person:reader:dana@corp;",
            "custody:person:reader:dana@corp;env=prod;",
            "custody:person:reader:dana@corp;env=prod;env=dev",
            "custody:person:reader:dana@corp;env",
            "custody:person:auditor:dana@corp;env=prod",
            "custody:host:0190a0b0-0000-7000-8000-000000000001;env=prod",
        ] {
            assert_eq!(text.parse::<Subject>(), Err(ParseIdentityError), "{text:?}");
        }
        assert_eq!(text.parse::<Identity>(), Err(ParseIdentityError), "without its scope it is nobody");
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
