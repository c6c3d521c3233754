//! Bodies that are gone, against what the sink stated of them. A body that is gone without such a statement is missing;
//! one that is gone as stated has expired. Knows neither files nor signatures: who calls has checked both.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use crate::batch::Batch;
use crate::ids::{HostId, Position};
use crate::retention::Retention;

/// Why bodies that are gone have not expired.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum NotExpired {
    /// No statement is about them.
    NotStated,
    /// The statement stands before them in the log, or says that it is about what was still to come.
    StatedBefore,
    /// They were younger than the age that the statement names.
    TooYoung,
    /// The statement is about other hosts, or about fewer batches of this one.
    OtherHost,
}

impl fmt::Display for NotExpired {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            NotExpired::NotStated => "no statement of the sink says that they expired",
            NotExpired::StatedBefore => "the statement that they expired was made before they came",
            NotExpired::TooYoung => "they were younger than the age at which, as stated, they expire",
            NotExpired::OtherHost => "the statement that they expired names fewer batches of this host",
        })
    }
}

/// Bodies of one host that are gone for no good reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Unexplained {
    /// Whose.
    pub host: HostId,
    /// Why they have not expired.
    pub reason: NotExpired,
    /// In how many batches.
    pub batches: u64,
    /// How many entries lack theirs.
    pub bodies: u64,
    /// The first of these batches.
    pub first: Position,
}

/// Bodies of one host that expired.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ExpiredBodies {
    /// How many.
    pub bodies: u64,
    /// In how many batches.
    pub batches: u64,
    /// The greatest age that a statement names for them, seconds.
    pub age_s: u64,
}

struct Gone {
    index: u64,
    host: HostId,
    batch: Position,
    received_ns: u64,
    bodies: u64,
}

struct Stated {
    index: u64,
    at_ns: u64,
    retention: Retention,
    /// Batches of each host that it names.
    named: BTreeMap<HostId, u64>,
}

/// Gathers both while the records of a store pass in order. Holds about 120 bytes for each batch that is thinned.
#[derive(Default)]
pub struct Expiries {
    gone: Vec<Gone>,
    /// In rising order of what they are about.
    stated: Vec<Stated>,
}

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Expired {
    /// By host.
    pub hosts: BTreeMap<HostId, ExpiredBodies>,
    /// What has no good reason.
    pub unexplained: Vec<Unexplained>,
}

impl Expiries {
    /// A batch whose bodies were taken out since it came, with its index in the log.
    pub fn batch(&mut self, index: u64, batch: &Batch<'_>, received_ns: u64) {
        let bodies = batch.entries.iter().filter(|entry| entry.body.is_none()).count() as u64;
        let (host, batch) = (batch.header.host, batch.position());
        self.gone.push(Gone { index, host, batch, received_ns, bodies });
    }

    /// A statement of the sink, with its own index. Sinks state the oldest first and nothing twice: one that goes back
    /// behind another explains nothing.
    pub fn stated(&mut self, index: u64, at_ns: u64, retention: Retention) {
        if self.stated.last().is_none_or(|last| retention.first >= last.retention.end) {
            let mut named: BTreeMap<HostId, u64> = BTreeMap::new();
            for of in &retention.hosts {
                let batches = named.entry(of.host).or_default();
                *batches = batches.saturating_add(of.batches);
            }
            self.stated.push(Stated { index, at_ns, retention, named });
        }
    }

    /// Compares the two.
    pub fn finish(self) -> Expired {
        let mut expired = Expired::default();
        let mut unexplained: BTreeMap<(HostId, NotExpired), Unexplained> = BTreeMap::new();
        // Batches that each statement was used for, by host.
        let mut used: BTreeMap<(usize, HostId), u64> = BTreeMap::new();
        for gone in self.gone {
            let behind = self.stated.partition_point(|stated| stated.retention.first <= gone.index);
            let place = behind.checked_sub(1);
            let stated = place.and_then(|place| Some((place, self.stated.get(place)?)));
            let reason = match stated.filter(|(_, stated)| stated.retention.covers(gone.index)) {
                None => Some(NotExpired::NotStated),
                Some((place, stated)) => {
                    let used = used.entry((place, gone.host)).or_default();
                    *used += 1;
                    reason_against(stated, &gone, *used)
                }
            };
            match (reason, stated) {
                (None, Some((_, stated))) => {
                    let host = expired.hosts.entry(gone.host).or_default();
                    host.bodies += gone.bodies;
                    host.batches += 1;
                    host.age_s = host.age_s.max(stated.retention.age_s);
                }
                (reason, _) => {
                    let (reason, host) = (reason.unwrap_or(NotExpired::NotStated), gone.host);
                    let none = Unexplained { host, reason, batches: 0, bodies: 0, first: gone.batch };
                    let told = unexplained.entry((host, reason)).or_insert(none);
                    told.batches += 1;
                    told.bodies += gone.bodies;
                }
            }
        }
        expired.unexplained = unexplained.into_values().collect();
        expired
    }
}

/// `used`: how many batches of this host were found gone by this statement, this one included.
fn reason_against(stated: &Stated, gone: &Gone, used: u64) -> Option<NotExpired> {
    let named = stated.named.get(&gone.host).copied().unwrap_or(0);
    if !stated.retention.stands_behind(stated.index) {
        Some(NotExpired::StatedBefore)
    } else if !stated.retention.is_due(gone.received_ns, stated.at_ns) {
        Some(NotExpired::TooYoung)
    } else if used > named {
        Some(NotExpired::OtherHost)
    } else {
        None
    }
}
