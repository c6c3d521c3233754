//! Dates, times and spans out of their binary formats: days from 2000-01-01, and microseconds.

/// Days from 1970 to 2000, where PostgreSQL's times begin.
const EPOCH_DAYS: i64 = 10_957;
pub(super) const DAY_MICROS: i64 = 86_400_000_000;

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

pub(super) fn date(days: i32) -> String {
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

pub(super) fn time_of_day(micros: i64) -> Option<String> {
    (0..=DAY_MICROS).contains(&micros).then(|| clock(micros))
}

pub(super) fn time_with_zone(bytes: &[u8]) -> Option<String> {
    let (micros, west) = bytes.split_first_chunk::<8>()?;
    let west = i32::from_be_bytes(west.try_into().ok()?);
    let (sign, away) = if west <= 0 { ('+', west.unsigned_abs()) } else { ('-', west.unsigned_abs()) };
    let zone = match (away / 3600, away / 60 % 60) {
        (hours, 0) => format!("{sign}{hours:02}"),
        (hours, minutes) => format!("{sign}{hours:02}:{minutes:02}"),
    };
    Some(time_of_day(i64::from_be_bytes(*micros))? + &zone)
}

pub(super) fn timestamp(micros: i64, zone: &str) -> String {
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
pub(super) fn interval(bytes: &[u8]) -> Option<String> {
    let (micros, left) = bytes.split_first_chunk::<8>()?;
    let (days, months) = left.split_first_chunk::<4>()?;
    let micros = i64::from_be_bytes(*micros);
    let (days, months) = (i32::from_be_bytes(*days), i32::from_be_bytes(months.try_into().ok()?));
    match (months, days, micros) {
        (i32::MAX, i32::MAX, i64::MAX) => return Some("infinity".to_owned()),
        (i32::MIN, i32::MIN, i64::MIN) => return Some("-infinity".to_owned()),
        _ => {}
    }
    let sign = if micros < 0 { "-" } else { "" };
    let micros = micros.unsigned_abs();
    let (seconds, fraction) = (micros / 1_000_000, micros % 1_000_000);
    Some(format!("P{months}M{days}DT{sign}{seconds}.{fraction:06}S"))
}
