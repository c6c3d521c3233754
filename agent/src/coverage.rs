//! Which programs of this host speak TLS that is not read, and how much: sums by program and library, for `status`
//! and as entries of their own, so that the sink knows what it does not see.
//!
//! Pure. Must not count a session itself: the worker says what was not read.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use custody_decoders::item::{Class, Field};
use custody_record::names;
use serde::Serialize;

use crate::link::UnreadTls;

/// Programs that are told apart; the others are told as one.
const PROGRAMS_MAX: usize = 256;
/// A program's sums are told when it is first seen, and then at most this often.
const TELL_INTERVAL: Duration = Duration::from_secs(60);
/// Name of all programs beyond the bound.
const OTHERS: &str = "(other programs)";

/// A program's TLS that was not read, since the agent's start.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct UnreadProgram {
    /// Its executable.
    pub executable: String,
    /// What it speaks TLS with, in words.
    pub library: String,
    /// Connections that ended, or that moved more than a handshake.
    pub connections: u64,
    /// Bytes on the wire, handshakes included.
    pub bytes: u64,
}

#[derive(Default)]
struct Sum {
    connections: u64,
    bytes: u64,
    told_bytes: u64,
    told_at: Option<Instant>,
}

/// See the module.
#[derive(Default)]
pub struct Coverage {
    programs: BTreeMap<(String, String), Sum>,
}

impl Coverage {
    /// What the worker says of a program; `library` is what is known of the process.
    pub fn add(&mut self, unread: &UnreadTls, library: &str) {
        let mut key = (unread.executable.clone(), library.to_owned());
        if self.programs.len() >= PROGRAMS_MAX && !self.programs.contains_key(&key) {
            key = (OTHERS.to_owned(), String::new());
        }
        let sum = self.programs.entry(key).or_default();
        sum.connections = sum.connections.saturating_add(unread.connections);
        sum.bytes = sum.bytes.saturating_add(unread.bytes);
    }

    /// All programs, those with most bytes first.
    pub fn programs(&self) -> Vec<UnreadProgram> {
        let mut programs: Vec<_> = self.programs.iter().map(|(key, sum)| program(key, sum)).collect();
        programs.sort_by_key(|program| std::cmp::Reverse(program.bytes));
        programs
    }

    /// Facts of programs whose sums changed and are due to be told; all that changed when the agent `ends`.
    pub fn due(&mut self, now: Instant, ends: bool) -> Vec<Vec<Field>> {
        let waited =
            |at: Option<Instant>| at.is_none_or(|at| now.saturating_duration_since(at) >= TELL_INTERVAL);
        let mut due = Vec::new();
        for (key, sum) in &mut self.programs {
            if sum.bytes > sum.told_bytes && (ends || waited(sum.told_at)) {
                sum.told_bytes = sum.bytes;
                sum.told_at = Some(now);
                due.push(facts(&program(key, sum)));
            }
        }
        due
    }

    /// Something of what was due did not get through.
    pub fn tell_again(&mut self) {
        for sum in self.programs.values_mut() {
            (sum.told_bytes, sum.told_at) = (0, None);
        }
    }
}

fn program((executable, library): &(String, String), sum: &Sum) -> UnreadProgram {
    let (executable, library) = (executable.clone(), library.clone());
    UnreadProgram { executable, library, connections: sum.connections, bytes: sum.bytes }
}

fn facts(program: &UnreadProgram) -> Vec<Field> {
    vec![
        Field::new(names::PROCESS_EXECUTABLE, program.executable.as_str(), Class::Identifier),
        Field::structure(names::TLS_LIBRARY, program.library.as_str()),
        Field::structure(names::TLS_UNREAD_CONNECTIONS, program.connections),
        Field::structure(names::BYTES_SKIPPED, program.bytes),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unread(executable: &str, bytes: u64) -> UnreadTls {
        UnreadTls { pid: 1, executable: executable.to_owned(), connections: 1, bytes }
    }

    #[test]
    fn a_program_is_told_at_once_then_at_intervals_and_at_the_end() {
        let (mut coverage, start) = (Coverage::default(), Instant::now());
        coverage.add(&unread("/usr/bin/wget", 100), "GnuTLS");
        assert_eq!(coverage.due(start, false).len(), 1);
        coverage.add(&unread("/usr/bin/wget", 50), "GnuTLS");
        assert!(coverage.due(start + TELL_INTERVAL / 2, false).is_empty());
        assert_eq!(coverage.due(start + TELL_INTERVAL, false).len(), 1);
        assert!(coverage.due(start + 2 * TELL_INTERVAL, false).is_empty(), "nothing changed");
        coverage.add(&unread("/usr/bin/wget", 1), "GnuTLS");
        let told = coverage.due(start + TELL_INTERVAL, true);
        assert!(told[0].contains(&Field::structure(names::BYTES_SKIPPED, 151u64)), "{told:?}");
        assert!(told[0].contains(&Field::structure(names::TLS_UNREAD_CONNECTIONS, 3u64)), "{told:?}");
    }

    #[test]
    fn programs_beyond_the_bound_are_summed_as_one() {
        let mut coverage = Coverage::default();
        for number in 0..PROGRAMS_MAX + 50 {
            coverage.add(&unread(&format!("/program/{number}"), 1), "Go");
        }
        assert_eq!(coverage.programs().len(), PROGRAMS_MAX + 1);
        assert_eq!(
            coverage.programs().iter().map(|program| program.bytes).sum::<u64>(),
            PROGRAMS_MAX as u64 + 50
        );
        assert_eq!(coverage.programs()[0].executable, OTHERS);
    }
}
