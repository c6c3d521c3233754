//! Lengths of time as people write them: `90s`, `30m`, `12h`, `90d`.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Deserializer};

/// How long something is kept; `None`: for ever.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Age(pub Option<Duration>);

/// What stands for no end.
const FOREVER: &str = "forever";

/// Reads a length of time: a number and s, m, h or d.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let wrong = || "a duration is a number and s, m, h or d, such as 30m".to_owned();
    let unit = text.chars().last().ok_or_else(wrong)?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        'd' => 86_400,
        _ => return Err(wrong()),
    };
    let number: u64 = text[..text.len() - 1].parse().map_err(|_| wrong())?;
    number.checked_mul(seconds).filter(|s| *s > 0).map(Duration::from_secs).ok_or_else(wrong)
}

impl std::str::FromStr for Age {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        if text == FOREVER {
            return Ok(Age(None));
        }
        parse_duration(text).map(|age| Age(Some(age))).map_err(|error| format!("{error}, or \"{FOREVER}\""))
    }
}

impl fmt::Display for Age {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.map(|age| age.as_secs()) {
            None => f.write_str(FOREVER),
            Some(seconds) if seconds.is_multiple_of(86_400) => write!(f, "{}d", seconds / 86_400),
            Some(seconds) => write!(f, "{seconds}s"),
        }
    }
}

impl<'de> Deserialize<'de> for Age {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_age_without_a_unit_is_no_age() {
        for wrong in ["", "90", "d", "0d", "90 d", "-1d", "90w", "never", "99999999999999999999d"] {
            assert!(wrong.parse::<Age>().is_err(), "{wrong}");
        }
        assert_eq!("forever".parse(), Ok(Age(None)));
        for text in ["90d", "10s"] {
            assert_eq!(text.parse::<Age>().unwrap().to_string(), text);
        }
    }
}
