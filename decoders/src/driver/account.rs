//! Where the bytes of one direction went. Each byte is counted once: the sum is asserted by tests.

use crate::event::Cause;

/// `seen = framed + unparsed + unknown + lost + cut + skipped + pending`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Account {
    /// Advance of the stream's position, holes included.
    pub seen: u64,
    /// Told to a decoder as frames and bodies.
    pub framed: u64,
    /// A decoder could not make sense of them.
    pub unparsed: u64,
    /// No decoder knows this protocol.
    pub unknown: u64,
    /// Wanted and gone.
    pub lost: u64,
    /// Over a limit.
    pub cut: u64,
    /// Left out by policy.
    pub skipped: u64,
    /// Buffered.
    pub pending: u64,
}

impl Account {
    /// Whether each byte is accounted for.
    pub fn balances(&self) -> bool {
        let parts =
            [self.framed, self.unparsed, self.unknown, self.lost, self.cut, self.skipped, self.pending];
        parts.iter().fold(0u64, |sum, part| sum.saturating_add(*part)) == self.seen
    }

    /// Bytes that were not captured.
    pub fn missing(&mut self, length: u64, cause: Cause) {
        self.seen = self.seen.saturating_add(length);
        let part = match cause {
            Cause::Limit => &mut self.cut,
            Cause::Ciphertext | Cause::Rule => &mut self.skipped,
            Cause::RingFull | Cause::PageFault | Cause::NoPayload | Cause::TableFull | Cause::Unseen => {
                &mut self.lost
            }
        };
        *part = part.saturating_add(length);
    }

    /// The sum of two accounts.
    pub fn plus(&self, other: &Account) -> Account {
        Account {
            seen: self.seen.saturating_add(other.seen),
            framed: self.framed.saturating_add(other.framed),
            unparsed: self.unparsed.saturating_add(other.unparsed),
            unknown: self.unknown.saturating_add(other.unknown),
            lost: self.lost.saturating_add(other.lost),
            cut: self.cut.saturating_add(other.cut),
            skipped: self.skipped.saturating_add(other.skipped),
            pending: self.pending.saturating_add(other.pending),
        }
    }
}
