//! Counted exchanges as a table.

use custody_record::search::{StatsPage, StatsRow};
use custody_record::text::{self, Style as Paint, escape};

use super::found;
use crate::output::Style;

/// Columns of all numbers with the spaces before them.
const NUMBERS_COLUMNS: usize = 10 + 9 + 9 + 10 + 3 * 11;
/// Longest key unless wide.
const KEY_COLUMNS_MAX: usize = 60;
const KEY_COLUMNS_MIN: usize = 12;

/// One row per group, the largest first.
pub(crate) fn table(page: &StatsPage, style: &Style) -> Vec<String> {
    let palette = style.palette;
    let names: Vec<String> = page.by.split(',').map(str::to_uppercase).collect();
    let shown: Vec<Vec<String>> =
        page.rows.iter().map(|row| row.key.iter().map(|key| escape(key).into_owned()).collect()).collect();
    let room = style.columns.map_or(KEY_COLUMNS_MAX, |columns| {
        columns.saturating_sub(NUMBERS_COLUMNS + names.len()) / names.len().max(1)
    });
    let room = if style.wide { usize::MAX } else { room.clamp(KEY_COLUMNS_MIN, KEY_COLUMNS_MAX) };
    let widths: Vec<usize> = (0..names.len())
        .map(|column| {
            let keys = shown.iter().filter_map(|row| row.get(column)).map(|key| text::width(key));
            keys.chain([text::width(&names[column])]).max().unwrap_or(0).min(room)
        })
        .collect();
    let keys = |keys: &[String]| {
        let padded = keys.iter().zip(&widths).map(|(key, width)| text::pad(key, *width));
        padded.collect::<Vec<_>>().join(" ")
    };
    let head = format!(
        "{} {:>9} {:>8} {:>8} {:>9} {:>10} {:>10} {:>10}",
        keys(&names),
        "COUNT",
        "ERRORS",
        "WAITING",
        "PER S",
        "P50",
        "P99",
        "MAX"
    );
    let mut lines = vec![palette.paint(Paint::Dim, &head).into_owned()];
    lines.extend(page.rows.iter().zip(&shown).map(|(row, key)| {
        let numbers = numbers(row);
        let errors =
            palette.paint(if row.errors > 0 { Paint::Bad } else { Paint::Plain }, &numbers[1]).into_owned();
        format!("{} {} {errors} {}", palette.record(&keys(key)), numbers[0], numbers[2..].join(" "))
    }));
    if page.more > 0 {
        let told = format!("… {} more groups: -n", text::count(page.more));
        lines.push(palette.paint(Paint::Dim, &told).into_owned());
    }
    lines.extend(found::limits(&page.limits, style));
    if let Some((first, last)) = page.span {
        let told = format!("received from {} to {}", style.date(first), style.date(last));
        lines.push(palette.paint(Paint::Dim, &told).into_owned());
    }
    lines
}

fn numbers(row: &StatsRow) -> Vec<String> {
    let took = |time: Option<u64>| time.map_or_else(|| "-".to_owned(), text::duration);
    vec![
        format!("{:>9}", text::count(row.count)),
        format!("{:>8}", text::count(row.errors)),
        format!("{:>8}", text::count(row.waiting)),
        format!("{:>9.2}", row.rate),
        format!("{:>10}", took(row.p50)),
        format!("{:>10}", took(row.p99)),
        format!("{:>10}", took(row.max)),
    ]
}
