//! Hostile bytes: nothing panics, memory stays bounded, leftovers are never the next header.

use proptest::prelude::*;

use super::*;

#[test]
fn leftovers_in_a_frame_are_an_anomaly_and_never_a_message() {
    let mut talk = Talk::joined();
    let forged = [b"select 1\0".to_vec(), query("drop table forged")].concat();
    talk.up(message(b'Q', &forged)).down([error("08P01", "invalid"), ready(b'I')].concat());
    assert_eq!(talk.told.exchanges.len(), 1);
    assert_eq!(talk.exchange(1).text("db.query.text"), "select 1");
    assert_eq!(talk.exchange(1).anomalies, ["postgres_leftover"]);
}

#[test]
fn a_message_that_says_nothing_takes_its_place_all_the_same() {
    let mut talk = Talk::joined();
    let bad_bind = message(b'B', b"\0\0\xff\xff\0\0\0\0");
    talk.up([parse("", "select 1", &[]), bad_bind, execute(""), sync()].concat());
    talk.down([bare(b'1'), error("08P01", "bind"), ready(b'I')].concat());
    let told = talk.exchange(1);
    assert_eq!(told.text("db.response.status_code"), "08P01");
    assert_eq!(told.outcome, Some(Outcome::Error));
}

/// A whole conversation of many message types, by direction.
fn conversation() -> Vec<(Direction, Vec<u8>)> {
    use Direction::{Down, Up};
    let key = message(b'K', b"\0\0\x01\0keyk");
    let text = [0, 0, 1, 0, 0];
    vec![
        (Up, startup(80_877_103, b"")),
        (Down, b"N".to_vec()),
        (Up, startup(3 << 16, b"user\0alice\0database\0shop\0options\0-c x=1\0\0")),
        (Down, authentication(10, b"SCRAM-SHA-256\0\0")),
        (Up, message(b'p', b"SCRAM-SHA-256\0\0\0\0\x03abc")),
        (Down, [authentication(12, b"v=x"), authentication(0, b""), key, ready(b'I')].concat()),
        (Up, query("select a, b from t; select 1")),
        (Down, [columns(&[("a", 23, 0), ("b", 25, 0)]), row(&[Some(b"1"), None])].concat()),
        (
            Down,
            [
                complete("SELECT 1"),
                message(b'N', b"SNOTICE\0C00000\0Mx\0\0"),
                complete("SELECT 1"),
                ready(b'I'),
            ]
            .concat(),
        ),
        (Up, [parse("s", "insert into t (a) values ($1)", &[1009]), describe('S', "s"), sync()].concat()),
        (Down, [bare(b'1'), message(b't', &[0, 1, 0, 0, 3, 0xf1]), bare(b'n'), ready(b'I')].concat()),
        (Up, [bind("p", "s", 1, &[Some(&[0; 12])], 1), describe('P', "p"), execute("p"), sync()].concat()),
        (Down, [bare(b'2'), bare(b'n'), error("23505", "dup"), ready(b'E')].concat()),
        (Up, query("copy t from stdin")),
        (Down, message(b'G', &text)),
        (Up, [message(b'd', b"1\n"), bare(b'c')].concat()),
        (Down, [complete("COPY 1"), message(b'A', b"\0\0\0\x07c\0p\0"), ready(b'I')].concat()),
        (Up, bare(b'X')),
    ]
}

/// Feeds bytes as a driver does: frames that are whole, resync where nothing frames.
fn feed(
    decoder: &mut dyn Decoder,
    told: &mut Told,
    direction: Direction,
    mut bytes: &[u8],
    most: &mut usize,
) {
    while !bytes.is_empty() {
        let frame = |bytes| Frame { direction, position: 0, time_ns: 1, bytes };
        bytes = match decoder.framing(direction, bytes) {
            Framing::NeedMore(_) => return,
            Framing::Frame(length) => {
                let kept = length.min(bytes.len());
                decoder.on_frame(frame(&bytes[..kept]), (length - kept) as u64, told);
                &bytes[kept..]
            }
            Framing::Streamed { head, body } => {
                decoder.on_frame(frame(&bytes[..head]), 0, told);
                let kept = (bytes.len() - head).min(body as usize);
                let piece = Body {
                    direction,
                    time_ns: 1,
                    bytes: &bytes[head..head + kept],
                    last: kept as u64 == body,
                };
                decoder.on_body(piece, told);
                &bytes[head + kept..]
            }
            Framing::Foreign(length) => &bytes[length.min(bytes.len())..],
            Framing::Unframed => match decoder.resync(direction, &bytes[1..]) {
                Some(skipped) => &bytes[1 + skipped..],
                None => return,
            },
        };
        *most = (*most).max(decoder.held_bytes());
    }
}

fn run(conversation: &[(Direction, Vec<u8>)], gap_at: usize) -> usize {
    let mut decoder = Postgres.open(&Limits::default(), false);
    let (mut told, mut most) = (Told::default(), 0);
    for (at, (direction, bytes)) in conversation.iter().enumerate() {
        if at == gap_at {
            decoder.on_gap(*direction, 10, &mut told);
        }
        feed(&mut *decoder, &mut told, *direction, bytes, &mut most);
    }
    decoder.on_end(Direction::Up, &mut told);
    decoder.on_end(Direction::Down, &mut told);
    most
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn changed_bytes_never_panic(
        changes in prop::collection::vec((0usize..18, any::<prop::sample::Index>(), any::<u8>()), 1..12),
        gap_at in 0usize..30,
    ) {
        let mut said = conversation();
        for (at, index, byte) in changes {
            let bytes = &mut said[at].1;
            let index = index.index(bytes.len());
            bytes[index] = byte;
        }
        prop_assert!(run(&said, gap_at) < 1 << 20);
    }

    #[test]
    fn removed_and_repeated_messages_never_panic(order in prop::collection::vec(0usize..18, 0..60), gap_at in 0usize..60) {
        let said = conversation();
        let said: Vec<_> = order.iter().map(|at| said[*at].clone()).collect();
        prop_assert!(run(&said, gap_at) < 1 << 20);
    }

    #[test]
    fn random_bodies_never_panic(kind in any::<u8>(), body in prop::collection::vec(any::<u8>(), 0..200), cut in any::<bool>()) {
        let _ = super::super::parse::from_client(kind, &body, cut);
        let _ = super::super::parse::from_server(kind, &body, cut);
        let _ = super::super::parse::startup(&body);
        let _ = super::super::probe::resync(Direction::Down, &body);
        let _ = super::super::value::decode(1009, true, &body);
        let _ = super::super::value::decode(1700, true, &body);
        let _ = super::super::statement::Facts::of(&String::from_utf8_lossy(&body));
    }

    #[test]
    fn random_statements_never_panic(text in "[a-zA-Z0-9$'\"\\\\ (),;.=:é/*-]{0,80}") {
        let _ = super::super::statement::Facts::of(&text);
    }
}
