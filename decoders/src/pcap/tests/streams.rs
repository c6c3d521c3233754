//! What TCP does to a stream, and what is told of it.

use super::*;
use crate::anomaly;

#[test]
fn a_conversation_with_its_beginning_and_end() {
    let mut talk = Talk::begun();
    talk.up(0, 0, b"ask");
    talk.down(0, 3, b"answer");
    talk.segment(0, 3, Some(6), FIN, b"");
    talk.segment(1, 6, Some(4), FIN, b"");
    talk.up(4, 7, b"");
    let heard = talk.heard();
    assert_eq!(
        heard.log,
        ["1 open", "1 Ingress ask", "1 Egress answer", "1 close [Some(3), Some(6)]"],
        "{heard:?}"
    );
    let socket = &heard.sockets[0];
    assert_eq!((socket.role, socket.existing), (Role::Server, false));
    assert_eq!(socket.local.map(|end| end.port), Some(80));
    assert_eq!(heard.counts.lost_holes, 0);
}

#[test]
fn segments_out_of_order_wait_for_as_long_as_it_takes() {
    let mut talk = Talk::begun();
    talk.up(3, 0, b"def");
    talk.wait(60_000);
    talk.up(6, 0, b"ghi");
    talk.down(0, 0, b"");
    talk.wait(60_000);
    talk.up(0, 0, b"abc");
    let heard = talk.heard();
    assert_eq!((heard.up().as_str(), heard.counts.lost_holes), ("abcdefghi", 0));
}

#[test]
fn what_was_acknowledged_and_never_came_is_a_hole_of_its_size() {
    let mut talk = Talk::begun();
    talk.up(0, 0, b"abc");
    talk.up(10, 0, b"klm");
    talk.down(0, 13, b"");
    talk.wait(100);
    talk.up(13, 0, b"nop");
    let heard = talk.heard();
    assert_eq!(heard.up(), "abc_______klmnop");
    assert_eq!((heard.counts.lost_holes, heard.counts.lost_bytes), (1, 7));
}

#[test]
fn a_tail_that_only_an_acknowledgement_knows_is_a_hole() {
    let mut talk = Talk::begun();
    talk.up(0, 0, b"abc");
    talk.down(0, 9, b"");
    assert_eq!(talk.heard().up(), "abc______");
}

#[test]
fn a_repeated_segment_is_told_once() {
    let mut talk = Talk::begun();
    talk.up(0, 0, b"abc");
    talk.up(0, 0, b"abc");
    talk.up(1, 0, b"bcde");
    talk.up(0, 0, b"abcdefg");
    let heard = talk.heard();
    assert_eq!((heard.up().as_str(), heard.counts.repeated_bytes), ("abcdefg", 3 + 2 + 5));
    assert!(heard.odd.is_empty());
}

#[test]
fn of_two_copies_that_differ_the_one_handed_on_stands_and_it_is_said() {
    let mut talk = Talk::begun();
    talk.up(0, 0, b"GET /good");
    talk.up(0, 0, b"GET /evil");
    let heard = talk.heard();
    assert_eq!((heard.up().as_str(), heard.odd.as_slice()), ("GET /good", &[anomaly::TCP_OVERLAP][..]));
    let mut talk = Talk::begun();
    talk.up(5, 0, b"good");
    talk.up(5, 0, b"evil");
    talk.up(0, 0, b"GET /");
    let heard = talk.heard();
    assert_eq!((heard.up().as_str(), heard.odd.as_slice()), ("GET /____", &[anomaly::TCP_OVERLAP][..]));
}

#[test]
fn a_copy_that_differs_far_behind_what_was_handed_on_is_said_to() {
    let first = [&b"GET /good"[..], &[b'x'; 3000]].concat();
    let second = [&b"GET /evil"[..], &[b'x'; 3000]].concat();
    for copy in [&second, &[&second[..], b" and more"].concat()] {
        let mut talk = Talk::begun();
        talk.up(0, 0, &first);
        talk.up(3009, 0, &[b'y'; 1000]);
        talk.up(0, 0, &first);
        assert!(talk.heard().odd.is_empty());
        talk.up(0, 0, copy);
        let heard = talk.heard();
        assert!(heard.up().starts_with("GET /good"));
        assert_eq!(heard.odd, [anomaly::TCP_OVERLAP], "{} bytes", copy.len());
    }
}

#[test]
fn the_unseen_direction_of_a_one_sided_capture_has_its_size() {
    let mut talk = Talk::new();
    talk.segment(0, -1, None, SYN, b"");
    talk.up(0, 0, b"ask");
    talk.up(3, 100, b"again");
    talk.up(8, 250, b"");
    talk.segment(0, 8, Some(251), FIN, b"");
    talk.segment(0, 9, Some(251), 0, b"");
    let heard = talk.heard();
    assert_eq!(heard.up(), "askagain");
    assert_eq!(heard.down().len(), 250, "the number of the unseen end is no byte");
    assert_eq!(heard.log[1..4], ["1 Ingress ask", "1 Egress hole 100", "1 Ingress again"]);
}

#[test]
fn without_a_handshake_who_asks_is_a_guess_and_told_so() {
    let mut talk = Talk::new();
    talk.down(5000, 700, b"answer");
    talk.up(700, 5006, b"ask");
    let heard = talk.heard();
    let socket = &heard.sockets[0];
    assert_eq!((socket.role, socket.existing), (Role::Unknown, true));
    assert_eq!(socket.local.map(|end| end.port), Some(80), "the known port is the server's");
    assert_eq!(heard.odd, [anomaly::ENDS_GUESSED]);
    assert_eq!((heard.down().as_str(), heard.up().as_str()), ("answer", "ask"));
    assert_eq!(heard.counts.lost_holes, 0);
}

#[test]
fn an_answer_to_a_syn_says_who_asked() {
    let mut talk = Talk::new();
    talk.ends = [([10, 0, 0, 1], 80), ([10, 0, 0, 2], 40_000)];
    talk.segment(1, -1, Some(0), SYN, b"");
    talk.up(0, 0, b"ask");
    let heard = talk.heard();
    assert_eq!(heard.sockets[0].local.map(|end| end.port), Some(40_000));
    assert_eq!((heard.up().as_str(), heard.odd.len()), ("ask", 0));
}

#[test]
fn ports_used_again_are_another_connection() {
    for ends in ["in order", "by reset", "not at all"] {
        let mut talk = Talk::begun();
        talk.up(0, 0, b"first");
        match ends {
            "in order" => {
                talk.segment(0, 5, Some(0), FIN, b"");
                talk.segment(1, 0, Some(6), FIN, b"");
            }
            "by reset" => talk.segment(1, 0, Some(5), RST, b""),
            _ => {}
        }
        talk.initial = [500_000, 700_000];
        talk.handshake();
        talk.up(0, 0, b"second");
        let heard = talk.heard();
        let told = [1, 2].map(|number| heard.text_of(number, Flow::Ingress));
        assert_eq!(told, ["first", "second"], "{ends}");
        assert_eq!(heard.counts.connections, 2, "{ends}");
    }
}

#[test]
fn a_forged_syn_does_not_break_a_connection_off() {
    let mut talk = Talk::begun();
    talk.up(0, 0, b"before ");
    let initial = talk.initial;
    talk.initial[0] = 77_777;
    talk.segment(0, -1, None, SYN, b"");
    talk.initial = initial;
    talk.up(7, 0, b"after");
    let heard = talk.heard();
    assert_eq!((heard.up().as_str(), heard.counts.connections), ("before after", 1));
}

#[test]
fn what_a_reset_carries_is_no_part_of_the_stream() {
    let mut talk = Talk::begun();
    talk.up(0, 0, b"ask");
    talk.segment(1, 0, Some(3), RST, b"go away");
    talk.up(3, 0, b"late");
    let heard = talk.heard();
    assert_eq!(heard.log, ["1 open", "1 Ingress ask", "1 reset Egress", "1 close [None, None]"]);
    assert_eq!(heard.counts.after_end_bytes, 4);
}

#[test]
fn a_refused_connection_is_told() {
    let mut talk = Talk::new();
    talk.segment(0, -1, None, SYN, b"");
    talk.segment(1, -1, Some(0), RST, b"");
    assert_eq!(talk.heard().log, ["1 open", "1 reset Egress", "1 close [None, None]"]);
}

#[test]
fn bytes_of_a_syn_are_the_first_ones() {
    let mut talk = Talk::new();
    talk.segment(0, -1, None, SYN, b"fast");
    talk.segment(1, -1, Some(4), SYN, b"open");
    talk.up(4, 4, b"er");
    let heard = talk.heard();
    assert_eq!((heard.up().as_str(), heard.down().as_str()), ("faster", "open"));
    // The server took none of it, so it comes again.
    let mut talk = Talk::new();
    talk.segment(0, -1, None, SYN, b"fast");
    talk.segment(1, -1, Some(0), SYN, b"");
    talk.up(0, 0, b"fast");
    talk.up(4, 0, b"er");
    assert_eq!(talk.heard().up(), "faster");
}

#[test]
fn probes_that_keep_a_connection_alive_add_nothing() {
    let mut talk = Talk::begun();
    talk.up(-1, 0, b"");
    talk.up(0, 0, b"abc");
    talk.down(0, 3, b"");
    for _ in 0..3 {
        talk.wait(60_000);
        talk.up(2, 0, b"\0");
        talk.up(2, 0, b"");
        talk.down(-1, 3, b"");
    }
    talk.up(3, 0, b"def");
    let heard = talk.heard();
    assert_eq!((heard.up().as_str(), heard.odd.len(), heard.counts.keep_alives), ("abcdef", 0, 10));
}

#[test]
fn a_probe_of_a_closed_window_is_a_byte_of_the_stream() {
    let mut talk = Talk::begun();
    talk.up(0, 0, b"abc");
    talk.down(0, 3, b"");
    talk.up(3, 0, b"d");
    talk.down(0, 3, b"");
    talk.up(3, 0, b"def");
    let heard = talk.heard();
    assert_eq!((heard.up().as_str(), heard.odd.len()), ("abcdef", 0));
}

#[test]
fn sequence_numbers_that_wrap_go_on() {
    let mut talk = Talk::new();
    talk.initial = [u32::MAX - 4, u32::MAX];
    talk.handshake();
    talk.up(0, 0, b"abc");
    talk.down(0, 3, b"uvw");
    talk.up(6, 3, b"ghi");
    talk.up(3, 3, b"def");
    talk.down(3, 9, b"xyz");
    let heard = talk.heard();
    assert_eq!((heard.up().as_str(), heard.down().as_str()), ("abcdefghi", "uvwxyz"));
}

#[test]
fn a_stream_of_more_than_four_gibibytes_keeps_its_places() {
    let mut talk = Talk::begun();
    let step = 1u64 << 29;
    talk.up(0, 0, b"first");
    for turn in 1..=20 {
        talk.down(0, turn * step, b"");
        talk.wait(100);
        talk.up((turn * step) as i64, 0, b"x");
    }
    let mut bytes = 0;
    let mut capture = Capture::new(CaptureOptions::default());
    let mut last = 0;
    let mut add = |event: Event<'_>| match event {
        Event::Chunk(chunk) => {
            last = chunk.position;
            bytes += chunk.bytes.len() as u64;
        }
        Event::Hole(hole) => bytes += hole.length,
        _ => {}
    };
    capture.push(&talk.file(), &mut add).expect("whole");
    capture.finish(&mut add).expect("whole");
    assert_eq!((last, bytes), (20 * step, 20 * step + 1));
}

#[test]
fn two_that_ask_each_other_at_once_are_one_connection() {
    let mut talk = Talk::new();
    talk.segment(0, -1, None, SYN, b"");
    talk.segment(1, -1, None, SYN, b"");
    talk.segment(0, -1, Some(0), SYN, b"");
    talk.segment(1, -1, Some(0), SYN, b"");
    talk.up(0, 0, b"one");
    talk.down(0, 3, b"two");
    let heard = talk.heard();
    assert_eq!((heard.up().as_str(), heard.down().as_str(), heard.counts.connections), ("one", "two", 1));
}

#[test]
fn bytes_behind_the_end_are_none() {
    let mut talk = Talk::begun();
    talk.segment(0, 0, Some(0), FIN, b"abc");
    talk.up(3, 0, b"more");
    let heard = talk.heard();
    assert_eq!((heard.up().as_str(), heard.counts.after_end_bytes), ("abc", 4));
}

#[test]
fn a_segment_without_sense_moves_nothing() {
    let mut talk = Talk::begun();
    talk.up(0, 0, b"abc");
    talk.up(0x7fff_0000, 0, b"far");
    talk.up(3, 0x6000_0000, b"def");
    let heard = talk.heard();
    assert_eq!(heard.up(), "abcdef");
    assert_eq!((heard.counts.implausible_segments, heard.down().as_str()), (1, ""));
}

#[test]
fn what_the_capture_cut_off_is_a_hole_and_no_bytes() {
    let mut talk = Talk::begun();
    talk.up(0, 0, b"abcdefgh");
    talk.up(8, 0, b"ijk");
    let mut file = pcap(&talk.packets[..3]);
    for (index, (_, packet)) in talk.packets[3..].iter().enumerate() {
        let kept = if index == 0 { packet.len() - 5 } else { packet.len() };
        for number in [1_700_000_000, 9, kept as u32, packet.len() as u32] {
            file.extend(number.to_le_bytes());
        }
        file.extend_from_slice(&packet[..kept]);
    }
    let heard = hear(&file);
    assert_eq!(heard.up(), "abc~~~~~ijk");
    assert_eq!((heard.counts.cut_holes, heard.counts.cut_bytes, heard.counts.lost_holes), (1, 5, 0));
}

#[test]
fn a_forged_acknowledgement_does_not_make_a_hole_of_what_follows() {
    let mut talk = Talk::begun();
    talk.up(0, 0, b"abc");
    talk.down(0, 3, b"");
    talk.down(0, 1_000_000, b"forged");
    talk.up(3, 0, b"def");
    talk.down(0, 6, b"");
    talk.wait(100);
    talk.up(6, 0, b"ghi");
    talk.wait(100);
    talk.up(9, 0, b"jkl");
    let heard = talk.heard();
    assert_eq!((heard.up().as_str(), heard.counts.lost_holes), ("abcdefghijkl", 0));
}

#[test]
fn a_server_that_answers_each_syn_with_another_number_is_followed() {
    for late in [false, true] {
        let mut talk = Talk::new();
        talk.segment(0, -1, None, SYN, b"fast");
        for initial in [9_000, 4_000_000_000, 2_000_000_000] {
            talk.initial[1] = initial;
            talk.segment(1, -1, Some(0), SYN, b"");
            talk.segment(0, -1, None, SYN, b"");
        }
        if late {
            talk.initial[1] = 600_000_000;
        }
        talk.up(0, 0, b"fast");
        talk.down(0, 4, b"open");
        let heard = talk.heard();
        assert_eq!((heard.up().as_str(), heard.down().as_str()), ("fast", "open"), "late: {late}");
        assert_eq!((heard.counts.connections, heard.counts.lost_holes), (1, 0), "late: {late}");
    }
}
