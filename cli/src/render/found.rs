//! What a search found, as lines of `tail` with a mark for what vouches for each.

use custody_record::search::{Found, SearchPage};
use custody_record::text::{Style as Paint, escape};

use super::line;
use crate::output::Style;

/// A page, and what has to be known of it.
pub(crate) fn page(page: &SearchPage, style: &Style) -> Vec<String> {
    let palette = style.palette;
    // The mark takes two columns of each line.
    let style = &Style { columns: style.columns.map(|columns| columns.saturating_sub(2)), ..style.clone() };
    let mut lines = Vec::new();
    let mut day = style.day(style.now);
    for found in &page.found {
        let received = match found {
            Found::Hit(hit) => hit.entry.wall,
            Found::Missing(missing) => missing.received,
        };
        let own_day = style.day(received);
        if own_day != day {
            lines.push(palette.paint(Paint::Dim, &own_day).into_owned());
            day = own_day;
        }
        match found {
            Found::Hit(hit) => {
                let (mark, paint) =
                    if hit.evidence.verified { ("✔", Paint::Good) } else { ("✘", Paint::Bad) };
                let mut entry = line::render(&hit.entry, style).into_iter();
                lines.extend(entry.next().map(|line| format!("{} {line}", palette.paint(paint, mark))));
                lines.extend(entry.map(|line| format!("  {line}")));
                if let Some(reason) = &hit.evidence.reason {
                    let told = format!("  NOT VERIFIED {}: {}", escape(&hit.id), escape(reason));
                    lines.push(palette.paint(Paint::Bad, &told).into_owned());
                }
            }
            Found::Missing(missing) => {
                let told = format!(
                    "✘ MISSING {} was received at {} and is not in the store: {}",
                    escape(&missing.id),
                    style.date(missing.received),
                    escape(&missing.reason)
                );
                lines.push(palette.paint(Paint::Bad, &told).into_owned());
            }
        }
    }
    lines.extend(notes(page, style).iter().map(|note| palette.paint(Paint::Warn, note).into_owned()));
    if let Some(next) = page.next {
        lines.push(palette.paint(Paint::Dim, &format!("… older ones: --cursor {next}")).into_owned());
    }
    lines
}

fn notes(page: &SearchPage, style: &Style) -> Vec<String> {
    let mut notes: Vec<String> =
        page.limits.iter().map(|limit| format!("… not the whole answer: {}", escape(limit))).collect();
    if let Some(to) = page.answers_to {
        let to = if to == 0 {
            "nothing yet".to_owned()
        } else {
            format!("what was stored up to {}", style.date(to))
        };
        notes.push(format!("… the index is being built: this answers for {to}"));
    }
    notes
}
