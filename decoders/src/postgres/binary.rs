//! Binary formats of the built-in types, by the functions `typsend` of the server. What does not fit its type is
//! `None`. Nothing here trusts a count or a length; types made of others are in `array` and `range`.

use custody_record::Value;

use super::{array, geometry, moment, network, range};

/// Digits of a numeric that are written out; longer ones stay bytes.
const NUMERIC_DIGITS_MAX: i32 = 1_000;
/// Bits of a bit string that are written out; longer ones stay bytes.
const BITS_MAX: usize = 8_192;

/// The value, if the type is known and the bytes are what it says.
pub(super) fn binary_value(type_oid: u32, bytes: &[u8]) -> Option<Value> {
    if let Some(value) = simple_value(type_oid, bytes) {
        return value;
    }
    Some(match type_oid {
        oid if range::element(oid).is_some() => Value::Text(range::range(range::element(oid)?, bytes)?),
        oid if range::of_multirange(oid).is_some() => {
            Value::Text(range::multirange(range::of_multirange(oid)?, bytes)?)
        }
        oid if array::is_array(oid) => array::array(bytes)?,
        _ => return None,
    })
}

/// The value of a type that is not made of others; `None` when the type is no such one.
pub(super) fn simple_value(type_oid: u32, bytes: &[u8]) -> Option<Option<Value>> {
    let text = |found: Option<String>| found.map(Value::Text);
    Some(match type_oid {
        // bool
        16 => match bytes {
            [0] => Some(Value::Bool(false)),
            [1] => Some(Value::Bool(true)),
            _ => None,
        },
        // bytea
        17 => Some(Value::Bytes(bytes.to_vec())),
        // int8, and money in the smallest unit of its currency, which the bytes do not name
        20 | 790 => number(bytes, |word| Value::Signed(i64::from_be_bytes(word))),
        // int2, int4
        21 => number(bytes, |word| Value::Signed(i16::from_be_bytes(word).into())),
        23 => number(bytes, |word| Value::Signed(i32::from_be_bytes(word).into())),
        // oid, xid, cid, regproc, regclass, regtype
        24 | 26 | 28 | 29 | 2205 | 2206 => {
            number(bytes, |word| Value::Unsigned(u32::from_be_bytes(word).into()))
        }
        // xid8
        5069 => number(bytes, |word| Value::Unsigned(u64::from_be_bytes(word))),
        // "char", name, text, json, xml, unknown, bpchar, varchar, refcursor, cstring
        18 | 19 | 25 | 114 | 142 | 705 | 1042 | 1043 | 1790 | 2275 => utf8(bytes),
        // float4, float8
        700 => number(bytes, |word| float(f32::from_be_bytes(word).into())),
        701 => number(bytes, |word| float(f64::from_be_bytes(word))),
        // date, time, timetz, timestamp, timestamptz, interval
        1082 => number(bytes, |word| Value::Text(moment::date(i32::from_be_bytes(word)))),
        1083 => text(bytes.try_into().ok().and_then(|word| moment::time_of_day(i64::from_be_bytes(word)))),
        1266 => text(moment::time_with_zone(bytes)),
        1114 => number(bytes, |word| Value::Text(moment::timestamp(i64::from_be_bytes(word), ""))),
        1184 => number(bytes, |word| Value::Text(moment::timestamp(i64::from_be_bytes(word), "+00"))),
        1186 => text(moment::interval(bytes)),
        1700 => text(numeric(bytes)),
        2950 => text(uuid(bytes)),
        // jsonb, jsonpath: a version before the text
        3802 | 4072 => bytes.strip_prefix(&[1]).and_then(utf8),
        // pg_lsn
        3220 => number(bytes, |word: [u8; 8]| {
            let place = u64::from_be_bytes(word);
            Value::Text(format!("{:X}/{:X}", place >> 32, place & 0xffff_ffff))
        }),
        // bit, varbit
        1560 | 1562 => text(bits(bytes)),
        // inet and cidr, macaddr, macaddr8
        650 | 869 => text(network::address(bytes)),
        774 | 829 => text(network::hardware_address(type_oid, bytes)),
        // point, lseg, path, box, polygon, line, circle
        600..=604 | 628 | 718 => text(geometry::shape(type_oid, bytes)),
        _ => return None,
    })
}

/// A number of exactly `N` bytes.
fn number<const N: usize>(bytes: &[u8], read: impl FnOnce([u8; N]) -> Value) -> Option<Value> {
    bytes.try_into().ok().map(read)
}

fn utf8(bytes: &[u8]) -> Option<Value> {
    std::str::from_utf8(bytes).ok().map(|text| Value::Text(text.to_owned()))
}

fn float(number: f64) -> Value {
    match number {
        finite if finite.is_finite() => Value::Float(finite),
        f64::INFINITY => Value::Text("Infinity".to_owned()),
        f64::NEG_INFINITY => Value::Text("-Infinity".to_owned()),
        _ => Value::Text("NaN".to_owned()),
    }
}

/// A number as PostgreSQL writes it inside of shapes: the shortest that reads back the same.
pub(super) fn float_text(number: f64) -> String {
    let magnitude = number.abs();
    if number.is_nan() {
        "NaN".to_owned()
    } else if number.is_infinite() {
        if number > 0.0 { "Infinity" } else { "-Infinity" }.to_owned()
    } else if magnitude == 0.0 || (1e-4..1e15).contains(&magnitude) {
        number.to_string()
    } else {
        format!("{number:e}")
    }
}

/// A bit string: how many, then as many bytes as they need.
fn bits(bytes: &[u8]) -> Option<String> {
    let (count, packed) = bytes.split_first_chunk::<4>()?;
    let count = usize::try_from(i32::from_be_bytes(*count)).ok().filter(|count| *count <= BITS_MAX)?;
    (packed.len() == count.div_ceil(8)).then(|| {
        (0..count).map(|at| if packed[at / 8] >> (7 - at % 8) & 1 == 1 { '1' } else { '0' }).collect()
    })
}

/// Digits in base 10,000 with weight, sign and scale, as decimal text.
fn numeric(bytes: &[u8]) -> Option<String> {
    let (head, digits) = bytes.split_first_chunk::<8>()?;
    let word = |at: usize| u16::from_be_bytes([head[at], head[at + 1]]);
    let (count, weight, sign, scale) = (word(0), word(2) as i16, word(4), word(6));
    let sign = match sign {
        0 => "",
        0x4000 => "-",
        0xc000 => return Some("NaN".to_owned()),
        0xd000 => return Some("Infinity".to_owned()),
        0xf000 => return Some("-Infinity".to_owned()),
        _ => return None,
    };
    let (weight, scale) = (i32::from(weight), i32::from(scale));
    if digits.len() != usize::from(count) * 2
        || weight.abs() * 4 > NUMERIC_DIGITS_MAX
        || scale > NUMERIC_DIGITS_MAX
    {
        return None;
    }
    let digit = |place: i32| -> Option<u16> {
        let Some(at) = usize::try_from(weight - place).ok().filter(|at| *at < usize::from(count)) else {
            return Some(0);
        };
        Some(u16::from_be_bytes([digits[2 * at], digits[2 * at + 1]])).filter(|digit| *digit < 10_000)
    };
    let mut whole = String::new();
    for place in (0..=weight.max(0)).rev() {
        whole.push_str(&format!("{:04}", digit(place)?));
    }
    let trimmed = whole.trim_start_matches('0');
    let mut found = format!("{sign}{}", if trimmed.is_empty() { "0" } else { trimmed });
    if scale > 0 {
        let mut fraction = String::new();
        for place in 1..=(scale + 3) / 4 {
            fraction.push_str(&format!("{:04}", digit(-place)?));
        }
        found.push('.');
        found.push_str(&fraction[..scale as usize]);
    }
    Some(found)
}

fn uuid(bytes: &[u8]) -> Option<String> {
    let bytes: &[u8; 16] = bytes.try_into().ok()?;
    let text = hex::encode(bytes);
    Some(format!("{}-{}-{}-{}-{}", &text[..8], &text[8..12], &text[12..16], &text[16..20], &text[20..]))
}

/// A value as PostgreSQL writes it in text.
pub(super) fn as_text(value: &Value) -> String {
    match value {
        Value::Bool(truth) => if *truth { "t" } else { "f" }.to_owned(),
        Value::Unsigned(number) => number.to_string(),
        Value::Signed(number) => number.to_string(),
        Value::Float(number) => float_text(*number),
        Value::Text(text) => text.clone(),
        Value::Bytes(bytes) => format!("\\x{}", hex::encode(bytes)),
        Value::List(elements) => array::as_text(elements),
    }
}

/// A text inside of a larger one, in quotes if it is empty or holds one of these characters.
pub(super) fn quoted(text: &str, special: &[char]) -> String {
    let bare = !text.is_empty() && !text.contains(special) && !text.contains(['"', '\\', ' ', ',']);
    if bare { text.to_owned() } else { format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"")) }
}

/// The next four bytes as a number.
pub(super) fn word(left: &mut &[u8]) -> Option<i32> {
    let (word, after) = left.split_first_chunk::<4>()?;
    *left = after;
    Some(i32::from_be_bytes(*word))
}
