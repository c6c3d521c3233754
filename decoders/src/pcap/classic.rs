//! pcap: one header, then packets. Microseconds and nanoseconds, both byte orders, and the "modified" variant
//! whose packets carry eight bytes more. <https://datatracker.ietf.org/doc/draft-ietf-opsawg-pcap/>

use super::container::{Order, Packet, RECORD_BYTES_MAX, Step};

const HEADER_BYTES: usize = 24;
const MICROSECONDS: u32 = 0xa1b2_c3d4;
const NANOSECONDS: u32 = 0xa1b2_3c4d;
const MODIFIED: u32 = 0xa1b2_cd34;
/// The upper bits of the link type tell of frame check sequences; what IP says is shorter anyway.
const LINK_MASK: u32 = 0x0fff_ffff;

/// A file of this kind.
pub(super) struct Classic {
    order: Order,
    fraction_ns: u64,
    record_header_bytes: usize,
    link: Option<u32>,
}

impl Classic {
    pub(super) fn is_magic(magic: &[u8]) -> bool {
        Classic::of(magic).is_some()
    }

    pub(super) fn of(magic: &[u8]) -> Option<Classic> {
        [Order::Little, Order::Big].into_iter().find_map(|order| {
            let (fraction_ns, record_header_bytes) = match order.u32(magic, 0) {
                MICROSECONDS => (1000, 16),
                NANOSECONDS => (1, 16),
                MODIFIED => (1000, 24),
                _ => return None,
            };
            Some(Classic { order, fraction_ns, record_header_bytes, link: None })
        })
    }

    pub(super) fn step<'a>(&mut self, bytes: &'a [u8]) -> Step<'a> {
        let Some(link) = self.link else {
            if bytes.len() < HEADER_BYTES {
                return Step::Need(HEADER_BYTES, "the header of the file");
            }
            self.link = Some(self.order.u32(bytes, 20) & LINK_MASK);
            return Step::Skip(HEADER_BYTES as u64);
        };
        let header = self.record_header_bytes;
        if bytes.len() < header {
            return Step::Need(header, "the header of a packet");
        }
        let number = |at| self.order.u32(bytes, at);
        let (captured, original) = (number(8) as usize, u64::from(number(12)));
        if captured > RECORD_BYTES_MAX {
            return Step::Damaged("a packet claims more bytes than any capture program keeps");
        }
        let Some(packet) = bytes.get(header..header + captured) else {
            return Step::Need(header + captured, "a packet");
        };
        let fraction_ns = u64::from(number(4)).saturating_mul(self.fraction_ns);
        let packet = Packet {
            number: 0,
            link,
            time_ns: (u64::from(number(0)) * 1_000_000_000).saturating_add(fraction_ns),
            cut_bytes: original.saturating_sub(captured as u64),
            bytes: packet,
        };
        Step::Packet(header + captured, packet)
    }
}
