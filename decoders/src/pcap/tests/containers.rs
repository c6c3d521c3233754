//! Files: both byte orders, several interfaces, what is damaged and what is missing.

use super::*;

/// A file of blocks in one byte order.
struct Ng {
    big: bool,
    file: Vec<u8>,
}

impl Ng {
    fn new(big: bool) -> Self {
        let mut ng = Ng { big, file: Vec::new() };
        let mut body = ng.u32(0x1a2b_3c4d);
        body.extend(ng.u32(1));
        body.extend([0xff; 8]);
        ng.block(0x0a0d_0d0a, &body);
        ng
    }

    fn u32(&self, number: u32) -> Vec<u8> {
        if self.big { number.to_be_bytes().to_vec() } else { number.to_le_bytes().to_vec() }
    }

    fn u16(&self, number: u16) -> Vec<u8> {
        if self.big { number.to_be_bytes().to_vec() } else { number.to_le_bytes().to_vec() }
    }

    fn block(&mut self, kind: u32, body: &[u8]) {
        let padded = body.len().next_multiple_of(4);
        let length = self.u32(padded as u32 + 12);
        self.file.extend(self.u32(kind));
        self.file.extend(&length);
        self.file.extend(body);
        self.file.extend(vec![0; padded - body.len()]);
        self.file.extend(length);
    }

    fn interface(&mut self, link: u16, options: &[(u16, &[u8])]) {
        let mut body = [self.u16(link), self.u16(0), self.u32(0)].concat();
        for (code, value) in options {
            body.extend(self.u16(*code));
            body.extend(self.u16(value.len() as u16));
            body.extend_from_slice(value);
            body.extend(vec![0; value.len().next_multiple_of(4) - value.len()]);
        }
        self.block(1, &body);
    }

    fn packet(&mut self, interface: u32, ticks: u64, bytes: &[u8]) {
        let mut body = self.u32(interface);
        for number in [(ticks >> 32) as u32, ticks as u32, bytes.len() as u32, bytes.len() as u32] {
            body.extend(self.u32(number));
        }
        body.extend_from_slice(bytes);
        self.block(6, &body);
    }

    fn simple(&mut self, bytes: &[u8]) {
        let body = [self.u32(bytes.len() as u32), bytes.to_vec()].concat();
        self.block(3, &body);
    }
}

/// Link type, time and length of a packet.
type Read = (u32, u64, usize);

/// The packets, and how the file ended.
fn packets(file: &[u8]) -> (Vec<Read>, Result<(), Damage>) {
    let mut container = container::Container::default();
    let mut found = Vec::new();
    for piece in file.chunks(7) {
        let each = &mut |packet: Packet<'_>| found.push((packet.link, packet.time_ns, packet.bytes.len()));
        if container.push(piece, each).is_err() {
            break;
        }
    }
    (found, container.finish())
}

#[test]
fn each_interface_has_its_own_link_and_clock() {
    for big in [false, true] {
        let mut ng = Ng::new(big);
        let seconds = 1_700_000_000u64;
        let offset = if big { 100i64.to_be_bytes() } else { 100i64.to_le_bytes() };
        ng.interface(1, &[]);
        ng.interface(101, &[(2, b"eth0"), (9, &[9]), (14, &offset)]);
        ng.interface(113, &[(9, &[0x80 | 10])]);
        ng.block(0x0000_0bad, b"skipped");
        ng.packet(0, seconds * 1_000_000 + 5, b"micro");
        ng.packet(1, (seconds - 100) * 1_000_000_000 + 6, b"nano!!");
        ng.packet(2, (seconds << 10) + 512, b"binary");
        ng.simple(b"simple");
        ng.packet(7, 1, b"of no interface");
        let ns = seconds * 1_000_000_000;
        let expected = [
            (1, ns + 5000, 5),
            (101, ns + 6, 6),
            (113, ns + 500_000_000, 6),
            (1, ns + 500_000_000, 6),
            (u32::MAX, ns + 500_000_000, 15),
        ];
        assert_eq!(packets(&ng.file), (expected.to_vec(), Ok(())), "big: {big}");
    }
}

#[test]
fn a_section_of_another_byte_order_may_follow() {
    let mut file = Vec::new();
    for big in [false, true, false] {
        let mut ng = Ng::new(big);
        ng.interface(101, &[]);
        ng.packet(0, 1, b"abc");
        file.extend(ng.file);
    }
    assert_eq!(packets(&file), (vec![(101, 1000, 3); 3], Ok(())));
}

#[test]
fn a_block_longer_than_memory_is_skipped() {
    let mut ng = Ng::new(false);
    ng.interface(101, &[]);
    ng.block(0x0000_0bad, &vec![0; 20 << 20]);
    ng.packet(0, 1, b"abc");
    let mut container = container::Container::default();
    let mut found = 0;
    for piece in ng.file.chunks(1 << 16) {
        container.push(piece, &mut |_| found += 1).expect("no damage");
    }
    assert_eq!((found, container.finish()), (1, Ok(())));
}

#[test]
fn all_kinds_of_pcap_are_read() {
    for (magic, fraction, header) in
        [(0xa1b2_c3d4u32, 1000, 16), (0xa1b2_3c4d, 1, 16), (0xa1b2_cd34, 1000, 24)]
    {
        for big in [false, true] {
            let number = |number: u32| if big { number.to_be_bytes() } else { number.to_le_bytes() };
            let mut file = number(magic).to_vec();
            file.extend([0; 16]);
            file.extend(number(0xf000_0000 | 276));
            for part in [7, 9, 3, 3] {
                file.extend(number(part));
            }
            file.extend(vec![0; header - 16]);
            file.extend(b"abc");
            let expected = vec![(276, 7_000_000_000 + 9 * fraction, 3)];
            assert_eq!(packets(&file), (expected, Ok(())), "{magic:x} big: {big}");
        }
    }
}

#[test]
fn a_file_that_is_cut_off_anywhere_shows_what_was_before() {
    let mut talk = Talk::begun();
    talk.up(0, 0, b"abc");
    talk.up(3, 0, b"def");
    let file = talk.file();
    let record = 16 + talk.packets[4].1.len();
    for length in file.len() - record + 1..file.len() {
        let heard = hear(&file[..length]);
        assert_eq!(heard.up(), "abc");
        let Some(Damage::Truncated { at, missing, .. }) = heard.damage else { panic!("{:?}", heard.damage) };
        assert_eq!(at, length as u64);
        // Before the whole header is there, only its own end is known.
        let header_cut = length < file.len() - record + 16;
        let expected = if header_cut { file.len() - record + 16 - length } else { file.len() - length };
        assert_eq!(missing, expected as u64);
    }
    assert_eq!(hear(&file[..file.len() - record]).damage, None);
}

#[test]
fn damage_is_told_with_its_place() {
    let mut talk = Talk::begun();
    talk.up(0, 0, b"abc");
    let mut file = talk.file();
    let at = file.len() as u64;
    file.extend([0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]);
    file.extend(vec![0; 100]);
    let heard = hear(&file);
    assert_eq!(heard.up(), "abc");
    assert!(
        matches!(heard.damage, Some(Damage::Damaged { at: found, .. }) if found == at),
        "{:?}",
        heard.damage
    );
    let mut ng = Ng::new(false);
    ng.interface(101, &[]);
    let at = ng.file.len() as u64;
    ng.packet(0, 1, b"abc");
    let last = ng.file.len() - 1;
    ng.file[last] = 1;
    assert!(matches!(packets(&ng.file).1, Err(Damage::Damaged { at: found, .. }) if found == at));
}

#[test]
fn what_is_no_capture_is_said_to_be_none() {
    for file in [&b""[..], b"a", b"hello world", &[0; 100]] {
        assert_eq!(hear(file).damage, Some(Damage::NoCapture));
        assert_ne!(Capture::is_capture(file), Some(true));
    }
}

#[test]
fn datagrams_and_all_else_are_counted() {
    let mut packets = Talk::begun().packets;
    let mut udp = ip(CLIENT, SERVER, &[0, 53, 0, 53, 0, 11, 0, 0, 1, 2, 3]);
    udp[9] = 17;
    let mut icmp = ip(CLIENT, SERVER, &[8, 0, 0, 0]);
    icmp[9] = 1;
    let short = packets[0].1[..30].to_vec();
    packets.extend([udp, icmp, vec![0x10], short].map(|packet| (1, packet)));
    let counts = hear(&pcap(&packets)).counts;
    assert_eq!((counts.packets, counts.segments, counts.datagrams, counts.datagram_bytes), (7, 3, 1, 3));
    assert_eq!((counts.other_transport, counts.not_ip, counts.malformed), (1, 1, 1));
}
