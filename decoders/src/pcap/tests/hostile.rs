//! Files made to do harm, and files without end.

use proptest::prelude::*;

use super::*;

/// A conversation that has a bit of everything.
fn seed() -> Vec<u8> {
    let mut talk = Talk::begun();
    talk.up(0, 0, b"GET / HTTP/1.1\r\n\r\n");
    talk.down(4, 18, b"answer");
    talk.down(0, 18, b"some");
    talk.segment(0, 18, Some(10), FIN, b"");
    talk.segment(1, 10, Some(19), RST, b"x");
    talk.handshake();
    talk.file()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn any_bytes_are_a_capture_or_damage(bytes in prop::collection::vec(any::<u8>(), 0..600), ng: bool) {
        let magic: &[u8] = if ng { &[0x0a, 0x0d, 0x0d, 0x0a] } else { &[0xd4, 0xc3, 0xb2, 0xa1] };
        fuzz::body(&[magic, &bytes].concat());
    }

    #[test]
    fn a_changed_capture_does_no_harm(changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..12)) {
        let mut file = seed();
        for (at, byte) in changes {
            let at = at.index(file.len());
            file[at] = byte;
        }
        fuzz::body(&file);
    }

    #[test]
    fn a_changed_tunnel_does_no_harm(
        kind in 0..tunnels::WRAPS.len(),
        changes in prop::collection::vec((0usize..80, any::<u8>()), 1..6),
    ) {
        let (_, _, wrap) = tunnels::WRAPS[kind];
        let mut packets = tunnels::wrapped(&tunnels::said(), wrap);
        for (_, packet) in &mut packets {
            for (at, byte) in &changes {
                let at = at % packet.len();
                packet[at] = *byte;
            }
        }
        fuzz::body(&pcap(&packets));
    }

    #[test]
    fn any_packet_does_no_harm(packets in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..90), 0..20), link in 0u32..4) {
        let mut file = pcap(&[]);
        file[20] = [0, 1, 113, 101][link as usize];
        for mut packet in packets {
            if let (3, Some(first)) = (link, packet.first_mut()) {
                *first = if *first & 1 == 0 { 0x45 } else { 0x60 };
            }
            for number in [1, 1, packet.len() as u32, 2 * packet.len() as u32] {
                file.extend(number.to_le_bytes());
            }
            file.extend(packet);
        }
        fuzz::body(&file);
    }

    #[test]
    fn any_segments_of_a_few_connections_do_no_harm(
        segments in prop::collection::vec((0u16..3, any::<bool>(), 0u32..64, 0u32..64, any::<u8>(), 0usize..20, 0u64..80), 0..120)
    ) {
        let mut packets = Vec::new();
        let mut now_ns = 1_700_000_000_000_000_000;
        for (port, up, sequence, acknowledged, flags, length, ms) in segments {
            now_ns += ms * MS;
            let client = ([10, 0, 0, 1], 40_000 + port);
            let (from, to) = if up { (client, SERVER) } else { (SERVER, client) };
            // Most are near each other, some at the ends of the numbers.
            let sequence = if sequence < 4 { sequence.wrapping_sub(2) << 30 } else { sequence };
            let bytes = vec![b'a' + (sequence % 7) as u8; length];
            packets.push((now_ns, ip(from, to, &tcp(from.1, to.1, sequence, acknowledged, flags, &bytes))));
        }
        // Hearing asserts that each place of a stream is told once and in order.
        let heard = hear(&pcap(&packets));
        prop_assert!(heard.counts.segments == packets.len() as u64);
        fuzz::body(&pcap(&packets));
    }
}

#[test]
fn connections_without_number_hold_bounded_memory() {
    let options = CaptureOptions { connections_max: 100, held_bytes_max: 1 << 20 };
    let mut capture = Capture::new(options);
    let (mut opened, mut closed, mut lost) = (0u64, 0u64, 0u64);
    let mut hear = |event: Event<'_>| match event {
        Event::Open(_) => opened += 1,
        Event::Close(..) => closed += 1,
        Event::Hole(hole) => lost += hole.length,
        _ => {}
    };
    let mut first = true;
    for port in 0..3000u16 {
        let mut talk = Talk::new();
        talk.ends[0].1 = 10_000 + port;
        talk.segment(0, -1, None, SYN, b"");
        talk.up(100, 0, &[b'x'; 1000]);
        let file = talk.file();
        capture.push(if first { &file } else { &file[24..] }, &mut hear).expect("whole");
        first = false;
        assert!(capture.connections_held() <= 100 && capture.held_bytes() <= 1 << 20);
    }
    capture.finish(&mut hear).expect("whole");
    let counts = capture.counts();
    assert_eq!((opened, closed, lost), (3000, 2900, 300_000));
    assert_eq!((counts.connections, counts.forgotten), (3000, 2900));
}

#[test]
fn a_hole_that_is_never_filled_holds_bounded_memory() {
    let options = CaptureOptions { connections_max: 10, held_bytes_max: 100_000 };
    let mut talk = Talk::begun();
    for part in 0..2000 {
        talk.up(10 + part * 1000, 0, &[b'x'; 1000]);
    }
    let heard = hear_in(&talk.file(), 4096, options);
    assert!(heard.held_bytes_max <= 102_000, "{} bytes held", heard.held_bytes_max);
    assert_eq!((heard.up().len(), heard.counts.lost_bytes, heard.counts.bounds_hit), (2_000_010, 10, 1));
}

#[test]
fn acknowledgements_of_what_nobody_sent_are_a_hole_that_costs_nothing() {
    let mut talk = Talk::begun();
    talk.up(0, 0, b"abc");
    for turn in 1..50u64 {
        talk.down(0, turn * 0x3fff_ffff, b"");
        talk.wait(100);
    }
    let mut capture = Capture::new(CaptureOptions::default());
    let mut lost = 0u64;
    let mut hear = |event: Event<'_>| {
        if let Event::Hole(hole) = event {
            lost += hole.length;
        }
    };
    capture.push(&talk.file(), &mut hear).expect("whole");
    assert!(capture.held_bytes() < 10_000);
    capture.finish(&mut hear).expect("whole");
    assert_eq!(lost, 49 * 0x3fff_ffff - 3);
}
