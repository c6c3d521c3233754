//! Through the whole pipeline: however a conversation is cut, ordered and repeated, it says the same.

use std::collections::BTreeMap;

use custody_record::{Kind, Record, names};
use proptest::prelude::*;

use super::*;
use crate::pipeline::{Pipeline, PipelineOptions};

fn records(file: &[u8]) -> Vec<Record> {
    let mut pipeline = Pipeline::new(PipelineOptions::default());
    let mut records = Vec::new();
    let mut capture = Capture::new(CaptureOptions::default());
    let mut hear = |event: Event<'_>| pipeline.feed(event, &mut |record| records.push(record.get().clone()));
    capture.push(file, &mut hear).expect("whole");
    capture.finish(&mut hear).expect("whole");
    pipeline.finish(&mut |record| records.push(record.get().clone()));
    records
}

/// Exchanges with all tellings of one joined, without times.
fn exchanges(records: &[Record]) -> BTreeMap<u64, BTreeMap<String, String>> {
    let mut exchanges: BTreeMap<u64, BTreeMap<String, String>> = BTreeMap::new();
    for record in records.iter().filter(|record| record.exchange.is_some()) {
        let joined = exchanges.entry(record.exchange.unwrap_or(0)).or_default();
        for (name, value) in &record.fields {
            if name != names::DURATION && !name.starts_with("custody.bytes") {
                joined.insert(name.clone().into_owned(), value.display().into_owned());
            }
        }
    }
    exchanges
}

/// Requests and answers, in turn.
fn conversation(turns: u64) -> Vec<[Vec<u8>; 2]> {
    (0..turns)
        .map(|turn| {
            let body = format!("{{\"turn\":{turn},\"text\":\"{}\"}}", "lorem ".repeat(turn as usize * 9));
            let request = format!("POST /turn/{turn} HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody");
            let head = format!("HTTP/1.1 20{} OK\r\nContent-Length: {}\r\n\r\n", turn % 2, body.len());
            [request.into_bytes(), (head + &body).into_bytes()]
        })
        .collect()
}

/// How a message is sent: where it is cut, in which order the pieces come, which of them come twice.
#[derive(Clone, Debug)]
struct Sending {
    cuts: Vec<prop::sample::Index>,
    order: Vec<u64>,
    twice: Vec<bool>,
}

fn sending() -> impl Strategy<Value = Sending> {
    let cuts = prop::collection::vec(any::<prop::sample::Index>(), 0..6);
    let order = prop::collection::vec(any::<u64>(), 8);
    (cuts, order, prop::collection::vec(any::<bool>(), 8)).prop_map(|(cuts, order, twice)| Sending {
        cuts,
        order,
        twice,
    })
}

/// The conversation as packets; each message complete before it is answered, as TCP has it.
fn sent(turns: &[[Vec<u8>; 2]], sendings: &[[Sending; 2]], initial: [u32; 2]) -> Talk {
    let mut talk = Talk::new();
    talk.initial = initial;
    talk.handshake();
    let mut at = [0u64; 2];
    for (turn, sendings) in turns.iter().zip(sendings) {
        for who in [0, 1] {
            let (message, sending) = (&turn[who], &sendings[who]);
            let mut cuts: Vec<usize> = sending.cuts.iter().map(|cut| cut.index(message.len())).collect();
            cuts.extend([0, message.len()]);
            cuts.sort_unstable();
            cuts.dedup();
            let mut pieces: Vec<(u64, usize, usize)> = Vec::new();
            for (index, cut) in cuts.windows(2).enumerate() {
                pieces.push((sending.order[index], cut[0], cut[1]));
                if sending.twice[index] {
                    // Again, and what follows with it.
                    let end = (cut[1] + 10).min(message.len());
                    pieces.push((sending.order[index].wrapping_mul(31), cut[0], end));
                }
            }
            pieces.sort_unstable();
            for (_, start, end) in pieces {
                let place = (at[who] + start as u64) as i64;
                talk.segment(who, place, Some(at[1 - who]), 0, &message[start..end]);
            }
            at[who] += message.len() as u64;
            talk.segment(1 - who, at[1 - who] as i64, Some(at[who]), 0, b"");
        }
    }
    talk
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn any_segmentation_order_and_repetition_says_the_same(
        sendings in prop::collection::vec([sending(), sending()], 5),
        initial in any::<[u32; 2]>(),
    ) {
        let turns = conversation(5);
        let plain = Sending { cuts: Vec::new(), order: vec![0; 8], twice: vec![false; 8] };
        let whole = records(&sent(&turns, &vec![[plain.clone(), plain]; 5], [1, 2]).file());
        let found = records(&sent(&turns, &sendings, initial).file());
        prop_assert_eq!(exchanges(&whole).len(), 5);
        prop_assert_eq!(exchanges(&found), exchanges(&whole));
        prop_assert!(found.iter().all(|record| record.kind != Kind::Gap));
    }

    #[test]
    fn packets_that_change_places_in_the_capture_say_the_same(
        sendings in prop::collection::vec([sending(), sending()], 4),
        shifts in prop::collection::vec(0u64..4, 400),
    ) {
        let turns = conversation(4);
        let talk = sent(&turns, &sendings, [7, u32::MAX - 3]);
        let whole = records(&talk.file());
        let mut mixed = talk.clone();
        let mut order: Vec<(u64, usize)> =
            shifts.iter().cycle().zip(0..talk.packets.len()).map(|(shift, at)| (at as u64 + shift, at)).collect();
        order.sort_unstable();
        for (slot, (_, at)) in order.into_iter().enumerate() {
            mixed.packets[slot] = (talk.packets[slot].0, talk.packets[at].1.clone());
        }
        let found = records(&mixed.file());
        prop_assert_eq!(exchanges(&found), exchanges(&whole));
        prop_assert!(found.iter().all(|record| record.kind != Kind::Gap));
    }

    #[test]
    fn a_capture_without_some_packets_tells_the_size_of_what_is_missing(
        sendings in prop::collection::vec([sending(), sending()], 4),
        missing in prop::collection::vec(prop::bool::weighted(0.1), 400),
    ) {
        let talk = sent(&conversation(4), &sendings, [7, 9]);
        let whole = talk.heard();
        let mut lossy = talk.clone();
        let mut index = 0;
        lossy.packets.retain(|_| { index += 1; index <= 3 || !missing[index] });
        // Both ends said at the end how much they had.
        let last = [Flow::Ingress, Flow::Egress].map(|flow| whole.text(flow).len() as u64);
        lossy.segment(0, last[0] as i64, Some(last[1]), FIN, b"");
        lossy.segment(1, last[1] as i64, Some(last[0] + 1), FIN, b"");
        lossy.segment(0, last[0] as i64 + 1, Some(last[1] + 1), 0, b"");
        let heard = lossy.heard();
        for flow in [Flow::Ingress, Flow::Egress] {
            let (found, expected) = (heard.text(flow), whole.text(flow));
            prop_assert_eq!(found.len(), expected.len());
            let differs = found.bytes().zip(expected.bytes()).any(|(one, two)| one != two && one != b'_');
            prop_assert!(!differs);
        }
        let lost = heard.streams[&1].iter().flat_map(|stream| &stream.holes).map(|hole| hole.1).sum::<u64>();
        prop_assert_eq!(lost, heard.counts.lost_bytes);
    }
}

#[test]
fn fragments_of_ip_are_one_segment() {
    let mut talk = Talk::begun();
    talk.up(0, 0, b"GET /a HTTP/1.1\r\nHost: fragmented\r\n\r\n");
    talk.down(0, 37, b"HTTP/1.1 204 No Content\r\n\r\n");
    let whole = exchanges(&records(&talk.file()));
    let (time_ns, packet) = talk.packets[3].clone();
    let fragments = [(0, 24), (24, 48), (48, packet.len() - 20)].map(|(start, end)| {
        let mut fragment = packet[..20].to_vec();
        let total = (20 + end - start) as u16;
        fragment[2..4].copy_from_slice(&total.to_be_bytes());
        let more = if end < packet.len() - 20 { 0x2000 } else { 0 };
        fragment[6..8].copy_from_slice(&(more | (start as u16 / 8)).to_be_bytes());
        fragment.extend_from_slice(&packet[20 + start..20 + end]);
        (time_ns, fragment)
    });
    talk.packets.splice(3..4, fragments);
    assert_eq!(whole.len(), 1);
    assert_eq!(exchanges(&records(&talk.file())), whole);
}

#[test]
fn answers_between_holes_that_end_all_at_once_are_told_each() {
    let mut talk = Talk::new();
    let answer = b"HTTP/1.1 204 No Content\r\nServer: a\r\n\r\n";
    for turn in 0..6u64 {
        talk.down((turn * 1000) as i64, turn * 50, answer);
        talk.wait(1000);
    }
    let records = records(&talk.file());
    let told = records.iter().filter(|record| record.fields.contains_key(names::HTTP_STATUS)).count();
    assert_eq!(told, 6);
}
