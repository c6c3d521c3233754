//! All that concerns one session, one exchange, or some hosts for a while, in order: within a host by the chain's own
//! order, across hosts by when the sink received it. Clocks of hosts are shown and never sorted on.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::page::Hit;
use crate::view::SessionView;
use crate::{SessionId, Value, View, names};

/// Entries of one answer.
pub const ENTRIES_MAX: usize = 5_000;
/// How long before a session's beginning and after its end its surroundings concern it, ns of the sink's clock.
pub const AROUND_NS: i64 = 60_000_000_000;

/// What a timeline answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TimelinePage {
    /// The session that it is about; absent when it is about hosts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<SessionView>,
    /// What concerns it, in order.
    pub entries: Vec<Hit>,
    /// Entries that were read.
    pub looked: u64,
    /// Limits that were hit, one sentence each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub limits: Vec<String>,
}

/// A program that runs or ran: its pid alone is used again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its pid.
    pub pid: u64,
    /// Its start, boottime ns, where it is known.
    pub start: Option<u64>,
}

/// What a timeline of a session is about.
#[derive(Clone, Debug)]
pub struct Subject {
    host: String,
    session: SessionId,
    exchange: Option<u64>,
    processes: Vec<Process>,
    executables: Vec<String>,
    /// Received at this time or later, Unix ns.
    pub since: i64,
    /// Received at this time or earlier.
    pub until: i64,
}

impl Subject {
    /// That session, or one exchange of it, whose entries were received between `first` and `last` (Unix ns).
    pub fn new(session: &SessionView, exchange: Option<u64>, first: i64, last: i64) -> Self {
        let number = |name: &str| session.fields.get(name).and_then(Value::as_unsigned);
        let text = |name: &str| session.fields.get(name).and_then(Value::as_text).map(str::to_owned);
        let own = number(names::PROCESS_PID).map(|pid| Process { pid, start: number(names::PROCESS_START) });
        let peer = number(names::PEER_PID).map(|pid| Process { pid, start: None });
        Subject {
            host: session.host.clone(),
            session: session.session_id,
            exchange,
            processes: own.into_iter().chain(peer).collect(),
            executables: [names::PROCESS_EXECUTABLE, names::PEER_EXECUTABLE]
                .into_iter()
                .filter_map(text)
                .collect(),
            since: first.saturating_sub(AROUND_NS),
            until: last.saturating_add(AROUND_NS),
        }
    }

    /// Its programs, whose beginning and end may lie far from the session.
    pub fn processes(&self) -> &[Process] {
        &self.processes
    }

    /// Whether this entry belongs into the timeline.
    pub fn concerns(&self, view: &View) -> bool {
        if view.host != self.host {
            return false;
        }
        if view.session_id == Some(self.session) {
            return self.exchange.is_none() || view.exchange.is_none() || view.exchange == self.exchange;
        }
        let near = (self.since..=self.until).contains(&view.received);
        match view.entry_type.as_str() {
            "exec" | "exit" => self.processes.iter().any(|process| is_of(view, process, near)),
            "coverage" => {
                let executable = view.field(names::PROCESS_EXECUTABLE).and_then(Value::as_text);
                near && executable.is_some_and(|path| self.executables.iter().any(|own| own == path))
            }
            // Of no session: it may have been this one's.
            "gap" => near && view.session_id.is_none(),
            "agent.start" | "agent.stop" | "resume" | "level" => near,
            _ => false,
        }
    }
}

/// Whether a program's beginning or end is this one's: surely where both know its start, else where it is near.
fn is_of(view: &View, process: &Process, near: bool) -> bool {
    if view.number(names::PROCESS_PID) != Some(process.pid) {
        return false;
    }
    match (view.number(names::PROCESS_START), process.start) {
        (Some(one), Some(other)) => one == other,
        _ => near,
    }
}

/// Puts entries into their order, each host's being in the order of its chain already.
pub fn arrange(entries: &mut Vec<Hit>) {
    let mut latest: HashMap<String, i64> = HashMap::new();
    let mut placed: Vec<(i64, Hit)> = Vec::with_capacity(entries.len());
    for hit in entries.drain(..) {
        // The sink's clock may go back; the chain does not.
        let time = latest.entry(hit.entry.host.clone()).or_insert(i64::MIN);
        *time = (*time).max(hit.entry.received);
        placed.push((*time, hit));
    }
    let place = |(time, hit): &(i64, Hit)| (*time, hit.entry.host.clone(), hit.entry.epoch, hit.entry.seq);
    placed.sort_by_cached_key(place);
    entries.extend(placed.into_iter().map(|(_, hit)| hit));
}

#[cfg(test)]
mod tests {
    use super::super::Evidence;
    use super::super::tests::view;
    use super::*;

    fn hit(host: &str, seq: u64, received: i64) -> Hit {
        let entry = View { host: host.into(), seq, received, ..view([]) };
        Hit { id: format!("{host}/1/{seq}"), evidence: Evidence::verified(), entry }
    }

    #[test]
    fn a_clock_that_goes_back_does_not_turn_a_chain_round() {
        let mut entries =
            vec![hit("a", 1, 50), hit("a", 2, 20), hit("a", 3, 60), hit("b", 1, 10), hit("b", 2, 55)];
        arrange(&mut entries);
        let order: Vec<&str> = entries.iter().map(|hit| hit.id.as_str()).collect();
        assert_eq!(order, ["b/1/1", "a/1/1", "a/1/2", "b/1/2", "a/1/3"]);
    }
}
