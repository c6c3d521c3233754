//! Any bytes as any class of value, with any name: masked without a failure inside, twice the same, and no secret
//! stands in what comes out.
//!
//! Input: fields of a class byte, a length of the name, two bytes of length of the value, name and value.
#![no_main]

use std::sync::LazyLock;

use custody_decoders::item::{Class, Dialect, Field, Rows};
use custody_decoders::mask::{Draft, Masker};
use custody_record::{Kind, Times, Value, names};
use libfuzzer_sys::fuzz_target;

static MASKER: LazyLock<Masker> = LazyLock::new(Masker::default);

/// Shorter ones may stand in a mask's own words.
const SECRET_BYTES_MIN: usize = 12;

fuzz_target!(|data: &[u8]| {
    let mut fields = Vec::new();
    let mut rows = Rows::default();
    let mut secrets = Vec::new();
    let mut rest = data;
    while let [class, name_length, high, low, after @ ..] = rest {
        let (name, after) = split(after, usize::from(*name_length));
        let (value, after) = split(after, usize::from(u16::from_be_bytes([*high, *low])));
        rest = after;
        let name = String::from_utf8_lossy(name).into_owned();
        let text = String::from_utf8_lossy(value).into_owned();
        if class & 0xf == 15 {
            rows.columns.push(name);
            rows.rows.push(vec![Some(Value::Text(text)), None]);
            continue;
        }
        let class_of = class_of(class & 0xf, name);
        if matches!(class_of, Class::Secret(_)) && value.len() >= SECRET_BYTES_MIN {
            secrets.push(text.clone());
        }
        let value = match class >> 4 & 3 {
            0 | 1 => Value::Text(text),
            2 => Value::Bytes(value.to_vec()),
            _ => Value::List(vec![Some(Value::Text(text)), None]),
        };
        let name = match class & 0x80 {
            0 => names::DB_QUERY_TEXT.to_owned(),
            _ => format!("http.request.header.{}", fields.len()),
        };
        fields.push(Field::new(name, value, class_of).cut_by(u64::from(class & 0x40)));
    }
    // A field that says the same in the open would be shown: one secret at a time.
    secrets.retain(|_| fields.len() == 1 && rows.rows.is_empty());
    let draft = Draft {
        kind: Kind::Exchange,
        session: None,
        exchange: None,
        times: Times::default(),
        fields,
        rows: (!rows.rows.is_empty()).then_some(rows),
        anomalies: Vec::new(),
    };
    let masked = MASKER.mask(draft.clone());
    assert!(!masked.get().anomalies.iter().any(|code| code == "mask_failed"), "masking panicked inside");
    assert_eq!(
        format!("{:?}", masked.get()),
        format!("{:?}", MASKER.mask(draft).get()),
        "twice, and not the same"
    );
    let told = format!("{:?}", masked.get().fields);
    for secret in secrets {
        let quoted = format!("{secret:?}");
        assert!(!told.contains(quoted.trim_matches('"')), "a secret stands in the record");
    }
});

fn split(bytes: &[u8], at: usize) -> (&[u8], &[u8]) {
    bytes.split_at(at.min(bytes.len()))
}

fn class_of(number: u8, name: String) -> Class {
    match number {
        0 => Class::Structure,
        1 => Class::Identifier,
        2 => Class::Text,
        3 => Class::Statement(Dialect::Postgres),
        4 => Class::Value { name },
        5 => Class::Keyed { key: name, field: String::new() },
        6 => Class::Keyed { key: String::new(), field: name },
        7 => Class::Header { name: name.to_ascii_lowercase() },
        8 => Class::Query,
        9 => Class::Body { media_type: "application/json".into(), coding: String::new() },
        10 => Class::Body { media_type: "application/x-www-form-urlencoded".into(), coding: String::new() },
        11 => Class::Body { media_type: name, coding: String::new() },
        12 => Class::Arguments,
        13 => Class::Secret("password"),
        _ => Class::Opaque,
    }
}
