//! What a search or a timeline found, as lines of `tail` with a mark for what vouches for each.

use std::collections::BTreeSet;

use custody_record::search::{Found, Hit, SearchPage, TimelinePage};
use custody_record::text::{Style as Paint, escape};

use super::{line, table};
use crate::output::Style;

/// A page, and what has to be known of it.
pub(crate) fn page(page: &SearchPage, style: &Style) -> Vec<String> {
    let palette = style.palette;
    let mut days = Days(style.day(style.now));
    let mut lines = Vec::new();
    for found in &page.found {
        match found {
            Found::Hit(hit) => {
                lines.extend(days.turn(hit.entry.wall, style));
                lines.extend(entry(hit, style));
            }
            Found::Missing(missing) => {
                lines.extend(days.turn(missing.received, style));
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
    lines.extend(limits(&page.limits, style));
    if let Some(to) = page.answers_to {
        let to = if to == 0 {
            "nothing yet".to_owned()
        } else {
            format!("what was stored up to {}", style.date(to))
        };
        let told = format!("… the index is being built: this answers for {to}");
        lines.push(palette.paint(Paint::Warn, &told).into_owned());
    }
    if let Some(next) = page.next {
        lines.push(palette.paint(Paint::Dim, &format!("… older ones: --cursor {next}")).into_owned());
    }
    lines
}

/// A timeline: what it is about, its entries, and how they are in order.
pub(crate) fn timeline(page: &TimelinePage, style: &Style) -> Vec<String> {
    let palette = style.palette;
    let mut lines = Vec::new();
    if let Some(session) = &page.session {
        let view = table::as_view(session);
        let id = palette.paint(Paint::Strong, session.session_id.as_str()).into_owned();
        lines.push(format!("SESSION {id} on {}, {}", escape(&session.host_name), line::ends(&view)));
    }
    let mut days = Days(String::new());
    let mut hosts = BTreeSet::new();
    for hit in &page.entries {
        hosts.insert(&hit.entry.host);
        lines.extend(days.turn(hit.entry.wall, style));
        lines.extend(entry(hit, style));
    }
    lines.extend(limits(&page.limits, style));
    let order = if hosts.len() > 1 {
        "in the order of each host's chain; across hosts as the sink received them; times are the hosts' own"
    } else {
        "in the order of the host's chain; times are the host's own"
    };
    lines.push(palette.paint(Paint::Dim, order).into_owned());
    lines
}

/// The day that stands above lines which tell only the time.
struct Days(String);

impl Days {
    /// A line when another day begins.
    fn turn(&mut self, time: i64, style: &Style) -> Option<String> {
        let day = style.day(time);
        (day != self.0).then(|| {
            self.0.clone_from(&day);
            style.palette.paint(Paint::Dim, &day).into_owned()
        })
    }
}

/// An entry as `tail` shows it, behind the mark for what vouches for it.
fn entry(hit: &Hit, style: &Style) -> Vec<String> {
    let palette = style.palette;
    // The mark takes two columns of each line.
    let style = Style { columns: style.columns.map(|columns| columns.saturating_sub(2)), ..style.clone() };
    let (mark, paint, word) = match &hit.evidence {
        evidence if evidence.verified => ("✔", Paint::Good, ""),
        evidence if evidence.header_only => ("…", Paint::Warn, "HEADER ONLY"),
        _ => ("✘", Paint::Bad, "NOT VERIFIED"),
    };
    let mut entry = line::render(&hit.entry, &style).into_iter();
    let mut lines: Vec<String> =
        entry.next().map(|line| format!("{} {line}", palette.paint(paint, mark))).into_iter().collect();
    lines.extend(entry.map(|line| format!("  {line}")));
    if let Some(reason) = &hit.evidence.reason {
        let told = format!("  {word} {}: {}", escape(&hit.id), escape(reason));
        lines.push(palette.paint(paint, &told).into_owned());
    }
    lines
}

/// What a limit left out.
pub(super) fn limits(limits: &[String], style: &Style) -> Vec<String> {
    let told = limits.iter().map(|limit| format!("… not the whole answer: {}", escape(limit)));
    told.map(|told| style.palette.paint(Paint::Warn, &told).into_owned()).collect()
}
