//! Binary formats of the common types, by the functions `typsend` of the server. What does not fit its type is
//! `None`. Nothing here trusts a count or a length.

use custody_record::Value;

/// Digits of a numeric that are written out; longer ones stay bytes.
const NUMERIC_DIGITS_MAX: i32 = 1_000;
/// Dimensions of an array (`MAXDIM` of the server).
const DIMENSIONS_MAX: usize = 6;
/// Seconds from 1970 to 2000, where PostgreSQL's times begin.
const EPOCH_DAYS: i64 = 10_957;
pub(super) const DAY_MICROS: i64 = 86_400_000_000;

/// The value, if the type is known and the bytes are what it says.
pub(super) fn binary_value(type_oid: u32, bytes: &[u8]) -> Option<Value> {
    Some(match type_oid {
        // bool
        16 => match bytes {
            [0] => Value::Bool(false),
            [1] => Value::Bool(true),
            _ => return None,
        },
        // bytea
        17 => Value::Bytes(bytes.to_vec()),
        // int8, int2, int4
        20 => Value::Signed(i64::from_be_bytes(bytes.try_into().ok()?)),
        21 => Value::Signed(i16::from_be_bytes(bytes.try_into().ok()?).into()),
        23 => Value::Signed(i32::from_be_bytes(bytes.try_into().ok()?).into()),
        // oid, xid, cid, regproc, regclass, regtype
        24 | 26 | 28 | 29 | 2205 | 2206 => Value::Unsigned(u32::from_be_bytes(bytes.try_into().ok()?).into()),
        // "char", name, text, json, xml, unknown, bpchar, varchar, cstring
        18 | 19 | 25 | 114 | 142 | 705 | 1042 | 1043 | 2275 => {
            Value::Text(std::str::from_utf8(bytes).ok()?.to_owned())
        }
        // float4, float8
        700 => float(f32::from_be_bytes(bytes.try_into().ok()?).into()),
        701 => float(f64::from_be_bytes(bytes.try_into().ok()?)),
        // date, time, timetz, timestamp, timestamptz, interval
        1082 => Value::Text(date(i32::from_be_bytes(bytes.try_into().ok()?))),
        1083 => Value::Text(time_of_day(i64::from_be_bytes(bytes.try_into().ok()?))?),
        1266 => Value::Text(time_with_zone(bytes)?),
        1114 => Value::Text(timestamp(i64::from_be_bytes(bytes.try_into().ok()?), "")),
        1184 => Value::Text(timestamp(i64::from_be_bytes(bytes.try_into().ok()?), "+00")),
        1186 => Value::Text(interval(bytes)?),
        1700 => Value::Text(numeric(bytes)?),
        2950 => Value::Text(uuid(bytes)?),
        // jsonb: a version before the text
        3802 => match bytes {
            [1, json @ ..] => Value::Text(std::str::from_utf8(json).ok()?.to_owned()),
            _ => return None,
        },
        oid if ARRAYS.contains(&oid) => array(bytes)?,
        _ => return None,
    })
}

/// Array types whose elements are read above.
const ARRAYS: &[u32] = &[
    143, 199, 1000, 1001, 1002, 1003, 1005, 1007, 1009, 1011, 1012, 1014, 1015, 1016, 1021, 1022, 1028, 1115,
    1182, 1183, 1185, 1187, 1231, 1263, 1270, 2951, 3807,
];

fn float(number: f64) -> Value {
    match number {
        finite if finite.is_finite() => Value::Float(finite),
        f64::INFINITY => Value::Text("Infinity".to_owned()),
        f64::NEG_INFINITY => Value::Text("-Infinity".to_owned()),
        _ => Value::Text("NaN".to_owned()),
    }
}

/// Year, month and day of a day number counted from 1970-01-01, in the proleptic Gregorian calendar.
fn civil(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

/// `2024-02-29`, with ` BC` for years before 1.
fn calendar(days: i64, then: &str) -> String {
    let (year, month, day) = civil(days + EPOCH_DAYS);
    match year {
        1.. => format!("{year:04}-{month:02}-{day:02}{then}"),
        _ => format!("{:04}-{month:02}-{day:02}{then} BC", 1 - year),
    }
}

fn date(days: i32) -> String {
    match days {
        i32::MAX => "infinity".to_owned(),
        i32::MIN => "-infinity".to_owned(),
        days => calendar(days.into(), ""),
    }
}

fn clock(micros: i64) -> String {
    let (seconds, fraction) = (micros / 1_000_000, micros % 1_000_000);
    let clock = format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60);
    match fraction {
        0 => clock,
        fraction => format!("{clock}.{fraction:06}").trim_end_matches('0').to_owned(),
    }
}

fn time_of_day(micros: i64) -> Option<String> {
    (0..=DAY_MICROS).contains(&micros).then(|| clock(micros))
}

fn time_with_zone(bytes: &[u8]) -> Option<String> {
    let (micros, west) = bytes.split_first_chunk::<8>()?;
    let west = i32::from_be_bytes(west.try_into().ok()?);
    let (sign, away) = if west <= 0 { ('+', west.unsigned_abs()) } else { ('-', west.unsigned_abs()) };
    let zone = match (away / 3600, away / 60 % 60) {
        (hours, 0) => format!("{sign}{hours:02}"),
        (hours, minutes) => format!("{sign}{hours:02}:{minutes:02}"),
    };
    Some(time_of_day(i64::from_be_bytes(*micros))? + &zone)
}

fn timestamp(micros: i64, zone: &str) -> String {
    match micros {
        i64::MAX => "infinity".to_owned(),
        i64::MIN => "-infinity".to_owned(),
        micros => {
            let of_day = clock(micros.rem_euclid(DAY_MICROS));
            calendar(micros.div_euclid(DAY_MICROS), &format!(" {of_day}{zone}"))
        }
    }
}

/// `P1M2DT03:04:05.5`-like parts, as ISO 8601 has them.
fn interval(bytes: &[u8]) -> Option<String> {
    let (micros, left) = bytes.split_first_chunk::<8>()?;
    let (days, months) = left.split_first_chunk::<4>()?;
    let micros = i64::from_be_bytes(*micros);
    let (days, months) = (i32::from_be_bytes(*days), i32::from_be_bytes(months.try_into().ok()?));
    let sign = if micros < 0 { "-" } else { "" };
    let micros = micros.unsigned_abs();
    let (seconds, fraction) = (micros / 1_000_000, micros % 1_000_000);
    Some(format!("P{months}M{days}DT{sign}{seconds}.{fraction:06}S"))
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

fn array(bytes: &[u8]) -> Option<Value> {
    let mut left = bytes;
    let dimensions = usize::try_from(word(&mut left)?).ok().filter(|count| *count <= DIMENSIONS_MAX)?;
    let _has_nulls = word(&mut left)?;
    let element = word(&mut left)? as u32;
    let mut lengths = [0usize; DIMENSIONS_MAX];
    for length in &mut lengths[..dimensions] {
        *length = usize::try_from(word(&mut left)?).ok()?;
        let _lower_bound = word(&mut left)?;
    }
    let found = if dimensions == 0 {
        Value::List(Vec::new())
    } else {
        elements(&mut left, element, &lengths[..dimensions])?
    };
    left.is_empty().then_some(found)
}

/// One dimension. Each element takes four bytes at least, so a hostile count ends with the bytes.
fn elements(left: &mut &[u8], element: u32, lengths: &[usize]) -> Option<Value> {
    let (&length, inner) = lengths.split_first()?;
    if length > left.len() / 4 {
        return None;
    }
    let mut found = Vec::with_capacity(length);
    for _ in 0..length {
        if !inner.is_empty() {
            found.push(Some(elements(left, element, inner)?));
            continue;
        }
        let size = word(left)?;
        let Ok(size) = usize::try_from(size) else {
            found.push(None);
            continue;
        };
        let (value, after) = left.split_at_checked(size)?;
        *left = after;
        found.push(Some(scalar(element, value)?));
    }
    Some(Value::List(found))
}

/// An element; arrays of arrays do not exist, their dimensions do.
fn scalar(element: u32, bytes: &[u8]) -> Option<Value> {
    if ARRAYS.contains(&element) { None } else { binary_value(element, bytes) }
}

fn word(left: &mut &[u8]) -> Option<i32> {
    let (word, after) = left.split_first_chunk::<4>()?;
    *left = after;
    Some(i32::from_be_bytes(*word))
}
