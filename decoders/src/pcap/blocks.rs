//! pcapng: blocks. Reads sections, interfaces (each with its link type, resolution and offset of time), enhanced,
//! simple and old packet blocks; skips all other blocks, whatever their length.
//! <https://datatracker.ietf.org/doc/draft-ietf-opsawg-pcapng/>

use super::container::{Order, Packet, RECORD_BYTES_MAX, Step};

const SECTION: u32 = 0x0a0d_0d0a;
const INTERFACE: u32 = 1;
const OLD_PACKET: u32 = 2;
const SIMPLE_PACKET: u32 = 3;
const ENHANCED_PACKET: u32 = 6;
const BYTE_ORDER_MAGIC: u32 = 0x1a2b_3c4d;
/// Interfaces of a section that are kept; packets of others cannot be read.
const INTERFACES_MAX: usize = 4096;
/// A block without a body.
const BLOCK_BYTES_MIN: usize = 12;
const OPTION_RESOLUTION: u16 = 9;
const OPTION_OFFSET: u16 = 14;

/// A link type that nobody has: of packets whose interface was not described.
const LINK_UNKNOWN: u32 = u32::MAX;

#[derive(Clone, Copy, Debug)]
struct Interface {
    link: u32,
    snap_bytes: u32,
    /// As the option has it: a power of ten, or of two when the highest bit is set.
    resolution: u8,
    offset_s: i64,
}

/// A file of this kind.
#[derive(Default)]
pub(super) struct Blocks {
    order: Order,
    interfaces: Vec<Interface>,
    /// Simple packets have no time: that of the packet before them is taken.
    last_ns: u64,
}

impl Blocks {
    pub(super) fn is_magic(magic: &[u8]) -> bool {
        Order::Little.u32(magic, 0) == SECTION
    }

    pub(super) fn step<'a>(&mut self, bytes: &'a [u8]) -> Step<'a> {
        if bytes.len() < BLOCK_BYTES_MIN {
            return Step::Need(BLOCK_BYTES_MIN, "the header of a block");
        }
        let kind = self.order.u32(bytes, 0);
        if kind == SECTION {
            self.order = match Order::Little.u32(bytes, 8) {
                BYTE_ORDER_MAGIC => Order::Little,
                swapped if swapped == BYTE_ORDER_MAGIC.swap_bytes() => Order::Big,
                _ => return Step::Damaged("a section without the mark of its byte order"),
            };
        }
        let length = self.order.u32(bytes, 4);
        if (length as usize) < BLOCK_BYTES_MIN || !length.is_multiple_of(4) {
            return Step::Damaged("a block with a length that no block has");
        }
        let known = [SECTION, INTERFACE, OLD_PACKET, SIMPLE_PACKET, ENHANCED_PACKET].contains(&kind);
        if !known {
            return Step::Skip(length.into());
        }
        let length = length as usize;
        if length > RECORD_BYTES_MAX {
            return Step::Damaged("a packet claims more bytes than any capture program keeps");
        }
        let Some(block) = bytes.get(..length) else { return Step::Need(length, "a block") };
        if self.order.u32(block, length - 4) as usize != length {
            return Step::Damaged("the two lengths of a block differ");
        }
        self.block(kind, length, &block[8..length - 4])
    }

    fn block<'a>(&mut self, kind: u32, length: usize, body: &'a [u8]) -> Step<'a> {
        let skip = Step::Skip(length as u64);
        match kind {
            SECTION => {
                self.interfaces.clear();
                skip
            }
            INTERFACE => {
                if self.interfaces.len() < INTERFACES_MAX {
                    self.interfaces.push(interface(self.order, body));
                }
                skip
            }
            SIMPLE_PACKET => {
                let interface = self.interfaces.first();
                let original = self.order.u32(body, 0);
                let snap = interface.map_or(0, |interface| interface.snap_bytes);
                let captured = if snap == 0 { original } else { original.min(snap) };
                // The block is as long as what was captured, rounded up; the interface may not have said how long.
                let captured = (captured as usize).min(body.len().saturating_sub(4));
                let time_ns = self.last_ns;
                self.packet(length, interface.copied(), time_ns, original, body.get(4..4 + captured))
            }
            _ => {
                let old = kind == OLD_PACKET;
                let number =
                    if old { self.order.u16(body, 0).into() } else { self.order.u32(body, 0) as usize };
                let ticks = u64::from(self.order.u32(body, 4)) << 32 | u64::from(self.order.u32(body, 8));
                let (captured, original) = (self.order.u32(body, 12) as usize, self.order.u32(body, 16));
                let interface = self.interfaces.get(number).copied();
                let time_ns = interface.map_or(self.last_ns, |interface| interface.time_ns(ticks));
                self.last_ns = time_ns;
                let bytes = captured.checked_add(20).and_then(|end| body.get(20..end));
                self.packet(length, interface, time_ns, original, bytes)
            }
        }
    }

    fn packet<'a>(
        &self,
        length: usize,
        interface: Option<Interface>,
        time_ns: u64,
        original: u32,
        bytes: Option<&'a [u8]>,
    ) -> Step<'a> {
        let Some(bytes) = bytes else { return Step::Damaged("a packet that is longer than its block") };
        let packet = Packet {
            number: 0,
            link: interface.map_or(LINK_UNKNOWN, |interface| interface.link),
            time_ns,
            cut_bytes: u64::from(original).saturating_sub(bytes.len() as u64),
            bytes,
        };
        Step::Packet(length, packet)
    }
}

fn interface(order: Order, body: &[u8]) -> Interface {
    let mut interface = Interface {
        link: order.u16(body, 0).into(),
        snap_bytes: order.u32(body, 4),
        resolution: 6,
        offset_s: 0,
    };
    let mut options = body.get(8..).unwrap_or_default();
    while options.len() >= 4 {
        let (code, length) = (order.u16(options, 0), usize::from(order.u16(options, 2)));
        let Some(value) = options.get(4..4 + length) else { break };
        match (code, length) {
            (0, _) => break,
            (OPTION_RESOLUTION, 1) => interface.resolution = value[0],
            (OPTION_OFFSET, 8) => interface.offset_s = order.u64(value, 0).cast_signed(),
            _ => {}
        }
        options = options.get(4 + length.next_multiple_of(4)..).unwrap_or_default();
    }
    interface
}

impl Interface {
    /// Unix ns; what lies before 1970 or beyond 2554 is put at that border.
    fn time_ns(&self, ticks: u64) -> u64 {
        let exponent = u32::from(self.resolution & 0x7f);
        let since_offset = if self.resolution & 0x80 != 0 {
            (u128::from(ticks) * 1_000_000_000).checked_shr(exponent).unwrap_or(0)
        } else if exponent <= 9 {
            u128::from(ticks) * 10u128.pow(9 - exponent)
        } else {
            10u128.checked_pow(exponent - 9).map_or(0, |divisor| u128::from(ticks) / divisor)
        };
        let offset_ns = i128::from(self.offset_s) * 1_000_000_000;
        let time_ns = i128::try_from(since_offset).unwrap_or(i128::MAX).saturating_add(offset_ns);
        u64::try_from(time_ns.max(0)).unwrap_or(u64::MAX)
    }
}
