//! What exchanges are grouped by: names that people type, and what an exchange has of each.

use std::fmt;
use std::str::FromStr;

use super::shape;
use crate::{View, names};

/// Fields that one may group by at once.
pub const KEYS_MAX: usize = 4;
/// Longest value of a group's key, bytes.
const KEY_BYTES_MAX: usize = 400;

/// What one may group by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Key {
    /// Systemd unit.
    Service,
    /// Statement without its values.
    Statement,
    /// Host's name.
    Host,
    /// Protocol.
    Protocol,
    /// User that the process runs as.
    User,
    /// Program.
    Process,
    /// Status of the answer.
    Status,
}

/// Their names.
const KEYS: &[(&str, Key)] = &[
    ("service", Key::Service),
    ("statement", Key::Statement),
    ("host", Key::Host),
    ("protocol", Key::Protocol),
    ("user", Key::User),
    ("process", Key::Process),
    ("status", Key::Status),
];

/// What to group by, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct By(Vec<Key>);

/// Text that names nothing to group by.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}; --by takes up to {KEYS_MAX} of: {}", names(KEYS))]
pub struct ByError {
    what: String,
}

fn names(keys: &[(&str, Key)]) -> String {
    keys.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ")
}

impl FromStr for By {
    type Err = ByError;
    fn from_str(text: &str) -> Result<Self, ByError> {
        let mut keys = Vec::new();
        for name in text.split(',').map(str::trim).take(KEYS_MAX + 1) {
            let shown: String = name.chars().take(40).collect();
            let shown = crate::text::escape(&shown).into_owned();
            let Some((_, key)) = KEYS.iter().find(|(own, _)| *own == name) else {
                return Err(ByError { what: format!("`{shown}` is nothing to group by") });
            };
            if keys.contains(key) || keys.len() == KEYS_MAX {
                return Err(ByError { what: format!("`{shown}` is one too many") });
            }
            keys.push(*key);
        }
        Ok(By(keys))
    }
}

impl fmt::Display for By {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let own = |key: &Key| KEYS.iter().find(|(_, other)| other == key).map_or("", |(name, _)| *name);
        f.write_str(&self.0.iter().map(own).collect::<Vec<_>>().join(","))
    }
}

impl By {
    /// What this exchange has of each; `-` where it has none.
    pub(super) fn of(&self, view: &View) -> Vec<String> {
        self.0.iter().map(|key| key.of(view)).collect()
    }
}

impl Key {
    fn of(self, view: &View) -> String {
        let text = |name: &str| view.text(name).map(|text| text.into_owned());
        let value = match self {
            Key::Service => text(names::SERVICE_NAME),
            Key::Statement => shape::statement(view),
            Key::Host => Some(view.host_name.clone()),
            Key::Protocol => text(names::PROTOCOL_NAME),
            Key::User => text(names::USER_NAME).or_else(|| text(names::USER_ID)),
            Key::Process => text(names::PROCESS_EXECUTABLE)
                .map(|path| path.rsplit('/').next().unwrap_or_default().to_owned()),
            Key::Status => text(names::HTTP_STATUS)
                .or_else(|| text(names::DB_RESPONSE_STATUS))
                .or_else(|| text(names::OUTCOME)),
        };
        let mut value = value.filter(|value| !value.is_empty()).unwrap_or_else(|| "-".to_owned());
        let end = (0..=KEY_BYTES_MAX.min(value.len())).rev().find(|at| value.is_char_boundary(*at));
        value.truncate(end.unwrap_or(0));
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_key_names_the_right_ones() {
        let error = |by: &str| by.parse::<By>().unwrap_err().to_string();
        assert!(
            error("statment").contains("`statment` is nothing to group by")
                && error("x").contains("service, statement, host")
        );
        assert!(error("host,host").contains("one too many") && error("").contains("nothing"));
        assert!(error("host,user,status,process,protocol").contains("one too many"));
        assert!(!error("\u{1b}[2J").contains('\u{1b}'));
    }
}
