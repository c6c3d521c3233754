//! How fast one core masks, without decoding: `cargo bench -p custody-decoders --bench mask`. Not a test: it
//! prints CPU time by text, in rounds that alternate, and asserts only that what is to be masked was.
//!
//! Texts are made here; each is a field of its own, as a decoder would hand it over.

use custody_decoders::item::{Class, Dialect, Field, Rows};
use custody_decoders::mask::{Draft, Masker};
use custody_record::{Kind, Times, Value};

/// Bytes that one round masks of each text, about.
const ROUND_BYTES: usize = 16 << 20;
const ROUNDS: usize = 7;

struct Text {
    name: &'static str,
    value: Value,
    class: Class,
    /// Values that are masked in it.
    hits: u64,
}

fn body(media_type: &str) -> Class {
    Class::Body { media_type: media_type.into(), coding: String::new() }
}

fn text(name: &'static str, value: String, class: Class, hits: u64) -> Text {
    Text { name, value: Value::Text(value), class, hits }
}

fn texts() -> Vec<Text> {
    let prose =
        "the quick brown fox jumps over the lazy dog, and nobody who saw it could say why it did so. ";
    let log = "2026-03-14T15:09:26.535Z web-7 app[4211]: order 1004711 took 18.204 ms, 3 of 17 items, id 550e8400-e29b-41d4-a716-446655440000\n";
    let person =
        "name: Ann, mail ann@example.org, card 4111 1111 1111 1111, account DE89370400440532013000\n";
    let json = |count: usize| {
        let item = "{\"id\":4711,\"sku\":\"A-100-XL\",\"price\":129.95,\"stock\":12,\"updated\":\"2026-03-14T15:09:26Z\",\"note\":\"lorem ipsum dolor sit amet\"}";
        format!("[{}]", vec![item; count].join(","))
    };
    let sql = "SELECT o.id, o.total FROM orders o JOIN items i ON i.order_id = o.id WHERE o.customer = 4711 AND o.state IN ('open', 'paid') AND o.created > '2026-03-14' LIMIT 100";
    vec![
        text("words, 16 KiB", prose.repeat(175), Class::Text, 0),
        text("log lines, 16 KiB", log.repeat(125), Class::Text, 0),
        text("persons, 16 KiB", person.repeat(180), Class::Text, 540),
        text("json, 16 KiB", json(130), body("application/json"), 0),
        text("json, 126 B", json(1), body("application/json"), 0),
        text("sql, 160 B", sql.into(), Class::Statement(Dialect::Postgres), 0),
        text(
            "header, 70 B",
            "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/126.0 Safari".into(),
            Class::Header { name: "user-agent".into() },
            0,
        ),
        text("digits, 16 KiB", "1004711 20260314 7 4812 100471122 ".repeat(480), Class::Text, 0),
    ]
}

fn draft(fields: Vec<Field>, rows: Option<Rows>) -> Draft {
    let times = Times::default();
    Draft { kind: Kind::Exchange, session: None, exchange: None, times, fields, rows, anomalies: vec![] }
}

/// CPU time of this thread, which is the only one, ns.
fn cpu_ns() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/schedstat").expect("the kernel counts CPU time");
    stat.split(' ').next().and_then(|ns| ns.parse().ok()).expect("a number")
}

/// One round over one text: bytes, and CPU time.
fn round(masker: &Masker, text: &Text) -> (usize, u64) {
    let Value::Text(value) = &text.value else { unreachable!("texts are made above") };
    let count = (ROUND_BYTES / value.len()).clamp(1, 200_000);
    let drafts: Vec<Draft> = (0..count.min(64))
        .map(|_| draft(vec![Field::new("field", text.value.clone(), text.class.clone())], None))
        .collect();
    let (mut spent, mut done) = (0, 0);
    while done < count {
        let drafts = drafts.clone();
        done += drafts.len();
        let begun = cpu_ns();
        for draft in drafts {
            let masked = masker.mask(draft);
            assert_eq!(masked.get().kinds.values().sum::<u64>(), text.hits, "{}", text.name);
        }
        spent += cpu_ns() - begun;
    }
    (done * value.len(), spent)
}

fn main() {
    let mut texts = texts();
    // `cargo bench … -- NAME` measures those alone whose name holds it.
    if let Some(wanted) = std::env::args().nth(1).filter(|word| !word.starts_with("--")) {
        texts.retain(|text| text.name.contains(&wanted));
    }
    let masker = Masker::default();
    let mut rounds = vec![Vec::new(); texts.len()];
    for _ in 0..ROUNDS {
        for (text, rounds) in texts.iter().zip(&mut rounds) {
            rounds.push(round(&masker, text));
        }
    }
    println!("masked per second of CPU time; median (least to most) of {ROUNDS} rounds");
    for (text, rounds) in texts.iter().zip(&mut rounds) {
        let mut speeds: Vec<f64> =
            rounds.iter().map(|(bytes, cpu_ns)| *bytes as f64 * 1e3 / *cpu_ns as f64).collect();
        speeds.sort_by(f64::total_cmp);
        let [least, median, most] = [speeds[0], speeds[ROUNDS / 2], speeds[ROUNDS - 1]];
        println!("  {:18} {median:7.1} MB/s ({least:.1} to {most:.1})", text.name);
    }
}
