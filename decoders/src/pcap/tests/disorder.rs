//! Packets that the capture did not keep in the order in which they were sent.

use super::*;

#[test]
fn a_request_whose_bytes_are_lost_stays_before_its_answer() {
    let mut talk = Talk::begun();
    for turn in 0..4u64 {
        let at = turn * 3;
        if turn != 1 {
            talk.up(at as i64, at, b"ask");
        }
        talk.down(at as i64, at + 3, b"say");
    }
    let heard = talk.heard();
    assert_eq!(heard.up(), "ask___askask");
    let order: Vec<&str> = heard.log[1..].iter().map(|line| line.split_once(' ').unwrap().1).collect();
    let expected = ["Ingress ask", "Egress say", "Ingress hole 3", "Egress say"];
    assert_eq!(order, [expected, ["Ingress ask", "Egress say", "Ingress ask", "Egress say"]].concat());
}

#[test]
fn an_answer_that_was_captured_before_its_request_waits_for_it() {
    let mut talk = Talk::begun();
    talk.up(0, 0, b"ask");
    talk.down(0, 3, b"say");
    let length = talk.packets.len();
    let times = [talk.packets[length - 2].0, talk.packets[length - 1].0];
    talk.packets.swap(length - 2, length - 1);
    for (packet, time_ns) in talk.packets[length - 2..].iter_mut().zip(times) {
        packet.0 = time_ns;
    }
    let heard = talk.heard();
    assert_eq!(heard.log, ["1 open", "1 Ingress ask", "1 Egress say"]);
    assert_eq!(heard.counts.lost_holes, 0);
}

#[test]
fn a_handshake_out_of_order_is_still_one() {
    let mut whole = Talk::begun();
    whole.up(0, 0, b"ask");
    whole.down(0, 3, b"say");
    for order in [[1, 0, 2], [2, 1, 0], [2, 0, 1], [0, 2, 1], [1, 2, 0]] {
        let mut talk = whole.clone();
        talk.packets = order.into_iter().chain([3, 4]).map(|index| whole.packets[index].clone()).collect();
        let heard = talk.heard();
        assert_eq!(heard.log, ["1 open", "1 Ingress ask", "1 Egress say"], "{order:?}");
        assert_eq!((heard.sockets[0].role, heard.odd.len()), (Role::Server, 0), "{order:?}");
    }
}

#[test]
fn an_end_is_told_behind_what_came_before_it() {
    let mut talk = Talk::begun();
    talk.segment(0, 3, Some(0), FIN, b"def");
    talk.segment(1, 0, Some(0), FIN, b"");
    talk.up(0, 1, b"abc");
    let heard = talk.heard();
    assert_eq!(heard.log, ["1 open", "1 Ingress abc", "1 Ingress def", "1 close [Some(6), Some(0)]"]);
}

#[test]
fn a_reset_tells_what_waited() {
    let mut talk = Talk::begun();
    talk.up(3, 0, b"def");
    talk.down(0, 6, b"say");
    talk.segment(0, 6, Some(3), RST, b"");
    let heard = talk.heard();
    assert_eq!(heard.up(), "___def");
    assert_eq!(heard.down(), "say");
    assert_eq!(heard.log.last().map(String::as_str), Some("1 close [None, None]"));
}

#[test]
fn one_packet_from_the_future_does_not_stop_the_clock() {
    let mut talk = Talk::begun();
    talk.up(0, 0, b"abc");
    talk.down(0, 9, b"");
    let mut other = talk.packets[0].1.clone();
    other[12] = 99;
    talk.packets.push((4_000_000_000_000_000_000, other));
    talk.wait(100);
    talk.up(9, 0, b"def");
    for _ in 0..20 {
        talk.wait(100);
        talk.up(12, 0, b"");
    }
    let (mut ticks, mut hole_at) = (0, None);
    let mut capture = Capture::new(CaptureOptions::default());
    let mut hear = |event: Event<'_>| match event {
        Event::Tick(_) => ticks += 1,
        Event::Hole(_) => hole_at = Some(ticks),
        _ => {}
    };
    capture.push(&talk.file(), &mut hear).expect("whole");
    assert_eq!(capture.counts().clock_steps, 1);
    assert!(ticks > 20, "{ticks} ticks");
    assert!(hole_at.is_some_and(|at| at < 6), "the hole is told when it is due: {hole_at:?}");
}

#[test]
fn a_large_window_behind_a_lost_segment_waits_for_it() {
    let mut talk = Talk::begun();
    for part in 1..5000 {
        talk.up(part * 10, 0, b"0123456789");
    }
    talk.up(0, 0, b"0123456789");
    let heard = talk.heard();
    assert_eq!((heard.up().len(), heard.counts.lost_holes), (50_000, 0));
}
