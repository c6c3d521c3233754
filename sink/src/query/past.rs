//! Stored entries of several hosts as one walk, in the order in which the sink received them. Holds one batch of
//! each host at a time.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::iter::Peekable;

use custody_ledger::Seq;

use super::parameters::Wanted;
use super::sight::Sight;
use crate::store::{Entries, HostRow, Store, StoreError, StoredEntry};

/// How far back the newest lines are looked for: further, as long as there are too few. Unix ns.
pub(super) const WINDOWS: [Option<i64>; 6] = [
    Some(60_000_000_000),
    Some(600_000_000_000),
    Some(3_600_000_000_000),
    Some(86_400_000_000_000),
    Some(7 * 86_400_000_000_000),
    None,
];

/// See the module.
pub(super) struct Past<'s> {
    hosts: Vec<(&'s HostRow, Peekable<Entries<'s>>)>,
    /// When the next entry of each host was received.
    next: BinaryHeap<Reverse<(u64, usize)>>,
}

impl<'s> Past<'s> {
    /// What was received at `since` (Unix ns) or later; everything without it.
    pub(super) fn open(
        store: &'s Store,
        hosts: &'s [HostRow],
        since: Option<i64>,
    ) -> Result<Self, StoreError> {
        let mut past = Past { hosts: Vec::new(), next: BinaryHeap::new() };
        for host in hosts {
            let id = host.enrolment.host;
            let from = match since {
                None => Some((0, Seq(0))),
                Some(since) => store.first_since(id, u64::try_from(since).unwrap_or(0))?,
            };
            if let Some(from) = from {
                past.hosts.push((host, store.entries(id, from)?.peekable()));
                past.see(past.hosts.len() - 1)?;
            }
        }
        Ok(past)
    }

    /// The next entry with its host.
    pub(super) fn next(&mut self) -> Result<Option<(&'s HostRow, StoredEntry)>, StoreError> {
        let Some(Reverse((_, index))) = self.next.pop() else { return Ok(None) };
        let Some((host, entries)) = self.hosts.get_mut(index) else { return Ok(None) };
        let (host, entry) = (*host, entries.next().transpose()?);
        self.see(index)?;
        Ok(entry.map(|entry| (host, entry)))
    }

    fn see(&mut self, index: usize) -> Result<(), StoreError> {
        let Some((_, entries)) = self.hosts.get_mut(index) else { return Ok(()) };
        match entries.peek() {
            Some(Ok(entry)) => self.next.push(Reverse((entry.received_ns, index))),
            Some(Err(_)) => {
                if let Some(Err(error)) = entries.next() {
                    return Err(error);
                }
            }
            None => {}
        }
        Ok(())
    }
}

/// Hosts of which entries can be wanted, and how many are seen at all.
pub(super) fn hosts(
    store: &Store,
    sight: &Sight,
    wanted: &Wanted,
) -> Result<(Vec<HostRow>, usize), StoreError> {
    let mut hosts = sight.hosts(store)?;
    let known = hosts.len();
    hosts.retain(|host| wanted.admits(host));
    Ok((hosts, known))
}
