//! What a capture file holds: packets, with their place in the file, link type and time. Knows the containers
//! (pcap, pcapng) by their first bytes, takes the file in any pieces, and holds at most one record of it.
//!
//! Must not look into packets. Where the file is damaged it stops: neither container can be entered again
//! behind a wrong length without guessing.

use super::blocks::Blocks;
use super::classic::Classic;

/// Longest record that is held; a longer one is damage. libpcap reads no longer ones either.
pub(super) const RECORD_BYTES_MAX: usize = 16 << 20;

/// One packet of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet<'a> {
    /// Its number in the file, from 1.
    pub number: u64,
    /// Link type, as tcpdump.org lists them.
    pub link: u32,
    /// When, Unix ns.
    pub time_ns: u64,
    /// Bytes of it that were not captured.
    pub cut_bytes: u64,
    /// What was captured.
    pub bytes: &'a [u8],
}

/// Why a file could not be read to its end.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    /// Its first bytes are those of no capture.
    #[error("this is no capture file: its first bytes are neither pcap nor pcapng nor a .cap text")]
    NoCapture,
    /// It ends within something.
    #[error("the file ends at byte {at}, within {what}: {missing} bytes of it are missing")]
    Truncated {
        /// Where it ends.
        at: u64,
        /// Bytes that are missing, as far as can be told.
        missing: u64,
        /// Within what.
        what: &'static str,
    },
    /// Something stands there that cannot be.
    #[error("the file is damaged at byte {at}: {what}; what follows it was not read")]
    Damaged {
        /// Where.
        at: u64,
        /// What.
        what: &'static str,
    },
}

/// What stands at the beginning of the bytes that are left.
pub(super) enum Step<'a> {
    /// A packet, and how many bytes its record has.
    Packet(usize, Packet<'a>),
    /// So many bytes that hold no packet; they may reach beyond what is there.
    Skip(u64),
    /// So many bytes are needed to go on, to read this.
    Need(usize, &'static str),
    /// It cannot be read.
    Damaged(&'static str),
}

#[derive(Default)]
enum Format {
    #[default]
    Unknown,
    Classic(Classic),
    Blocks(Blocks),
}

/// A file that comes in pieces.
#[derive(Default)]
pub(super) struct Container {
    format: Format,
    /// What came and could not be read yet, and where it stands in the file.
    rest: Vec<u8>,
    offset: u64,
    skip: u64,
    packets: u64,
    needed: Option<(usize, &'static str)>,
    damage: Option<Damage>,
}

impl Container {
    /// Whether these are the first bytes of a container; `None` while they are too few to tell.
    pub(super) fn is_capture(first: &[u8]) -> Option<bool> {
        let magic = first.get(..4)?;
        Some(Classic::is_magic(magic) || Blocks::is_magic(magic))
    }

    /// More of the file. After damage nothing is taken any more.
    pub(super) fn push(&mut self, bytes: &[u8], each: &mut dyn FnMut(Packet<'_>)) -> Result<(), Damage> {
        if let Some(damage) = &self.damage {
            return Err(damage.clone());
        }
        let result = if self.rest.is_empty() {
            self.read(bytes, each).map(|used| self.rest.extend_from_slice(&bytes[used..]))
        } else {
            let mut all = std::mem::take(&mut self.rest);
            all.extend_from_slice(bytes);
            let result = self.read(&all, each);
            result.map(|used| {
                all.drain(..used);
                self.rest = all;
            })
        };
        if let Err(damage) = &result {
            self.damage = Some(damage.clone());
        }
        result
    }

    /// The file is over.
    pub(super) fn finish(&mut self) -> Result<(), Damage> {
        if let Some(damage) = &self.damage {
            return Err(damage.clone());
        }
        if matches!(self.format, Format::Unknown) {
            return Err(Damage::NoCapture);
        }
        let at = self.offset + self.rest.len() as u64;
        if self.skip > 0 {
            return Err(Damage::Truncated { at, missing: self.skip, what: "a block" });
        }
        match self.needed {
            Some((needed, what)) if !self.rest.is_empty() => {
                let missing = needed.saturating_sub(self.rest.len()) as u64;
                Err(Damage::Truncated { at, missing, what })
            }
            _ => Ok(()),
        }
    }

    /// Reads what can be read; how many bytes that was.
    fn read(&mut self, bytes: &[u8], each: &mut dyn FnMut(Packet<'_>)) -> Result<usize, Damage> {
        let mut at = 0;
        loop {
            let skipped = self.skip.min((bytes.len() - at) as u64) as usize;
            (at, self.skip) = (at + skipped, self.skip - skipped as u64);
            self.offset += skipped as u64;
            let left = &bytes[at..];
            if left.is_empty() {
                self.needed = None;
                return Ok(at);
            }
            let step = match &mut self.format {
                Format::Classic(classic) => classic.step(left),
                Format::Blocks(blocks) => blocks.step(left),
                Format::Unknown => match left.get(..4) {
                    None => return Ok(at),
                    Some(magic) => {
                        self.format = match (Classic::of(magic), Blocks::is_magic(magic)) {
                            (Some(classic), _) => Format::Classic(classic),
                            (None, true) => Format::Blocks(Blocks::default()),
                            (None, false) => return Err(Damage::NoCapture),
                        };
                        continue;
                    }
                },
            };
            match step {
                Step::Packet(length, packet) => {
                    self.packets += 1;
                    each(Packet { number: self.packets, ..packet });
                    at += length;
                    self.offset += length as u64;
                }
                Step::Skip(length) => self.skip = length,
                Step::Need(length, what) => {
                    self.needed = Some((length, what));
                    return Ok(at);
                }
                Step::Damaged(what) => return Err(Damage::Damaged { at: self.offset, what }),
            }
        }
    }
}

/// Numbers in the byte order of whoever wrote the file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Order {
    #[default]
    Little,
    Big,
}

impl Order {
    /// The number at `at`; 0 where there is none, so that a caller checks the length once.
    pub(super) fn u16(self, bytes: &[u8], at: usize) -> u16 {
        let taken = bytes.get(at..at + 2).and_then(|taken| taken.try_into().ok()).unwrap_or_default();
        if self == Order::Little { u16::from_le_bytes(taken) } else { u16::from_be_bytes(taken) }
    }

    pub(super) fn u32(self, bytes: &[u8], at: usize) -> u32 {
        let taken = bytes.get(at..at + 4).and_then(|taken| taken.try_into().ok()).unwrap_or_default();
        if self == Order::Little { u32::from_le_bytes(taken) } else { u32::from_be_bytes(taken) }
    }

    pub(super) fn u64(self, bytes: &[u8], at: usize) -> u64 {
        let taken = bytes.get(at..at + 8).and_then(|taken| taken.try_into().ok()).unwrap_or_default();
        if self == Order::Little { u64::from_le_bytes(taken) } else { u64::from_be_bytes(taken) }
    }
}
