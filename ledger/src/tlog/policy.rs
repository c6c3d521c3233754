//! The policy: the public keys that an auditor or a host believes, and which witnesses must have cosigned a checkpoint
//! before it counts. Got by another way than what is checked with it. Lines of C2SP's policy files (c2sp.org/tlog-policy),
//! with one of ours for the sink's receipt key. Says nothing about a checkpoint's own signature or its tree.
//!
//! ```text
//! sink <64 hexadecimal digits>
//! log <verifier key: name+id+base64> [url]
//! witness <name> <verifier key> [url]          none or more
//! group <name> <any|all|k> <name>…             of names that stand above it
//! quorum <name|none>                           exactly one
//! ```

use std::fmt;
use std::str::FromStr;

use serde::Serialize;

use super::checkpoint::log_key;
use super::note::{KeyKind, Note, NoteKey};
use super::rules::{Rule, is_left_out};
use crate::ids::PublicKey;

/// Longest policy that a reader accepts, bytes.
pub const POLICY_BYTES_MAX: usize = 64 * 1024;
/// Most witnesses of a policy.
pub const WITNESSES_MAX: usize = 32;
/// Most groups of a policy.
const GROUPS_MAX: usize = 32;

/// Whom an auditor or a host believes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// The key by which the sink signs enrolments.
    pub sink: PublicKey,
    /// The key of its log, under the log's name.
    pub log: NoteKey,
    /// Who must have cosigned a checkpoint.
    pub witnesses: Witnesses,
}

/// Witnesses, and which of them must have cosigned a checkpoint. By default nobody must.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Witnesses {
    /// In the order of their lines: each hangs on earlier ones alone.
    members: Vec<Member>,
    /// Which member must be met; `None` is C2SP's `quorum none`.
    quorum: Option<usize>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Member {
    name: String,
    what: What,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum What {
    Witness(NoteKey),
    Group { threshold: usize, of: Vec<usize> },
}

/// A cosignature that holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Cosigned {
    /// Of its key.
    pub witness: String,
    /// When the witness says that it signed, seconds since 1970.
    pub at_s: u64,
}

/// Text that is no policy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// A line that cannot be followed; to pass over it would be to believe more than the policy says.
    #[error("line {0} of the policy is unknown here, damaged or repeated")]
    Line(usize),
    /// A key, or a member, that would count twice.
    #[error("line {0} of the policy counts a witness that counts already: one key is one witness")]
    CountedTwice(usize),
    /// A witness that is the one who is to be watched.
    #[error("the policy names the key of the log or of its sink as a witness: nobody is a witness of itself")]
    OwnKey,
    /// A line that must be there.
    #[error("the policy names no {0}")]
    Missing(&'static str),
    /// Over a limit.
    #[error("the policy is too long")]
    TooLong,
}

impl Witnesses {
    /// At least `quorum` of these keys. `None` when the keys are too many, two are one or they are no keys of witnesses, or
    /// the quorum cannot be reached or is zero.
    pub fn some_of(keys: impl IntoIterator<Item = NoteKey>, quorum: usize) -> Option<Self> {
        let mut witnesses = Witnesses::default();
        for (index, key) in keys.into_iter().enumerate() {
            witnesses.add_witness(format!("w{index}"), key).ok()?;
        }
        let of: Vec<usize> = (0..witnesses.members.len()).collect();
        if !(1..=of.len()).contains(&quorum) {
            return None;
        }
        witnesses.quorum = Some(of.len());
        witnesses
            .members
            .push(Member { name: "all".to_owned(), what: What::Group { threshold: quorum, of } });
        Some(witnesses)
    }

    /// Whether anybody must have cosigned.
    #[must_use]
    pub const fn demand_any(&self) -> bool {
        self.quorum.is_some()
    }

    /// Keys of all witnesses.
    pub fn keys(&self) -> impl Iterator<Item = &NoteKey> {
        self.members.iter().filter_map(|member| match &member.what {
            What::Witness(key) => Some(key),
            What::Group { .. } => None,
        })
    }

    /// The cosignatures of this note that hold, by these witnesses.
    pub fn cosigned(&self, note: &Note) -> Vec<Cosigned> {
        let signed = |key: &NoteKey| {
            let at_s = key.verify(note)?.at_s?;
            Some(Cosigned { witness: key.name().to_owned(), at_s })
        };
        self.keys().filter_map(signed).collect()
    }

    /// Whether enough of them cosigned this note.
    #[must_use]
    pub fn are_met(&self, note: &Note) -> bool {
        let Some(quorum) = self.quorum else { return true };
        let mut met: Vec<bool> = Vec::with_capacity(self.members.len());
        for member in &self.members {
            met.push(match &member.what {
                What::Witness(key) => key.verify(note).is_some(),
                What::Group { threshold, of } => of.iter().filter(|one| met[**one]).count() >= *threshold,
            });
        }
        met[quorum] || is_left_out(Rule::Quorum)
    }

    fn named(&self, name: &str) -> Option<usize> {
        self.members.iter().position(|member| member.name == name)
    }

    fn add_witness(&mut self, name: String, key: NoteKey) -> Result<(), Wrong> {
        if key.kind() != KeyKind::CosignatureV1 || self.keys().count() >= WITNESSES_MAX {
            return Err(Wrong::Line);
        }
        if self.keys().any(|known| known.key() == key.key()) && !is_left_out(Rule::OneKey) {
            return Err(Wrong::CountedTwice);
        }
        self.members.push(Member { name, what: What::Witness(key) });
        Ok(())
    }

    /// `counted`: members that stand in a group already; each witness counts in one way only.
    fn add_group(&mut self, name: String, words: &[&str], counted: &mut Vec<usize>) -> Result<(), Wrong> {
        let (threshold, members) = words.split_first().ok_or(Wrong::Line)?;
        let groups = self.members.len() - self.keys().count();
        if members.is_empty() || groups >= GROUPS_MAX {
            return Err(Wrong::Line);
        }
        let mut of = Vec::with_capacity(members.len().min(self.members.len()));
        for member in members {
            let member = self.named(member).ok_or(Wrong::Line)?;
            if counted.contains(&member) {
                return Err(Wrong::CountedTwice);
            }
            counted.push(member);
            of.push(member);
        }
        let threshold = match *threshold {
            "any" => 1,
            "all" => of.len(),
            number => super::checkpoint::decimal(number)
                .and_then(|number| usize::try_from(number).ok())
                .filter(|number| (1..=of.len()).contains(number))
                .ok_or(Wrong::Line)?,
        };
        self.members.push(Member { name, what: What::Group { threshold, of } });
        Ok(())
    }

    /// A name that may be given to a member.
    fn free(&self, name: &str) -> Result<String, Wrong> {
        if name == "none" || self.named(name).is_some() { Err(Wrong::Line) } else { Ok(name.to_owned()) }
    }
}

/// What is wrong with a line.
enum Wrong {
    Line,
    CountedTwice,
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "sink {}\nlog {}", self.sink, self.log)?;
        let Witnesses { members, quorum } = &self.witnesses;
        for Member { name, what } in members {
            match what {
                What::Witness(key) => writeln!(f, "witness {name} {key}")?,
                What::Group { threshold, of } => {
                    write!(f, "group {name} {threshold}")?;
                    of.iter().try_for_each(|one| write!(f, " {}", members[*one].name))?;
                    writeln!(f)?;
                }
            }
        }
        writeln!(f, "quorum {}", quorum.map_or("none", |quorum| members[quorum].name.as_str()))
    }
}

impl FromStr for Policy {
    type Err = PolicyError;
    fn from_str(text: &str) -> Result<Self, PolicyError> {
        if text.len() > POLICY_BYTES_MAX {
            return Err(PolicyError::TooLong);
        }
        let mut lines = Lines::default();
        for (index, line) in text.split('\n').enumerate() {
            lines.line(line).map_err(|wrong| match wrong {
                Wrong::Line => PolicyError::Line(index + 1),
                Wrong::CountedTwice => PolicyError::CountedTwice(index + 1),
            })?;
        }
        let Lines { sink, log, mut witnesses, quorum, .. } = lines;
        let (sink, log) =
            (sink.ok_or(PolicyError::Missing("sink"))?, log.ok_or(PolicyError::Missing("log"))?);
        witnesses.quorum = quorum.ok_or(PolicyError::Missing("quorum"))?;
        let own = |key: &NoteKey| key.key() == sink || key.key() == log.key();
        if witnesses.keys().any(own) && !is_left_out(Rule::OwnKey) {
            return Err(PolicyError::OwnKey);
        }
        Ok(Policy { sink, log, witnesses })
    }
}

/// A policy while its lines are read.
#[derive(Default)]
struct Lines {
    sink: Option<PublicKey>,
    log: Option<NoteKey>,
    witnesses: Witnesses,
    counted: Vec<usize>,
    quorum: Option<Option<usize>>,
}

impl Lines {
    fn line(&mut self, line: &str) -> Result<(), Wrong> {
        if line.chars().any(|c| c.is_ascii_control() && c != '\t') {
            return Err(Wrong::Line);
        }
        let words: Vec<&str> = line.split([' ', '\t']).filter(|word| !word.is_empty()).collect();
        match words[..] {
            [] => {}
            [first, ..] if first.starts_with('#') => {}
            ["sink", key] if self.sink.is_none() => self.sink = Some(key.parse().map_err(|_| Wrong::Line)?),
            ["log", key] | ["log", key, _] if self.log.is_none() => {
                self.log = Some(read_log(key).ok_or(Wrong::Line)?);
            }
            ["witness", name, key] | ["witness", name, key, _] => {
                let key = key.parse().map_err(|_| Wrong::Line)?;
                self.witnesses.add_witness(self.witnesses.free(name)?, key)?;
            }
            ["group", name, ref rest @ ..] => {
                self.witnesses.add_group(self.witnesses.free(name)?, rest, &mut self.counted)?;
            }
            ["quorum", "none"] if self.quorum.is_none() => self.quorum = Some(None),
            ["quorum", name] if self.quorum.is_none() => {
                self.quorum = Some(Some(self.witnesses.named(name).ok_or(Wrong::Line)?));
            }
            _ => return Err(Wrong::Line),
        }
        Ok(())
    }
}

/// A log's name follows from its key.
fn read_log(text: &str) -> Option<NoteKey> {
    let key: NoteKey = text.parse().ok()?;
    (key == log_key(key.key())).then_some(key)
}
