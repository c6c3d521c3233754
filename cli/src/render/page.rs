//! What `show` prints: the page of a session, of an exchange, of one entry.

use custody_record::text::{self, Style as Paint, escape};
use custody_record::view::SessionPage;
use custody_record::{Value, View, names};

use super::{line, table};
use crate::output::Style;

const STATEMENT_COLUMNS: usize = 44;
/// Longest value on a page unless wide; `-o wide` and `-o json` show all of it.
const VALUE_COLUMNS: usize = 400;
const LABEL_COLUMNS: usize = 9;

/// A session.
pub(crate) fn session(page: &SessionPage, style: &Style) -> Vec<String> {
    let session = &page.session;
    let view = table::as_view(session);
    let transport = view.text(names::NETWORK_TRANSPORT).unwrap_or_default();
    let protocol = view.text(names::PROTOCOL_NAME).unwrap_or_else(|| "unknown".into());
    let state = match session.closed {
        Some(closed) => format!("{} to {}", style.date(session.opened), style.clock(closed)),
        None => format!("open since {}", style.date(session.opened)),
    };
    let status = page.entries.iter().map(|entry| entry.status).min();
    let mut lines = vec![
        format!(
            "SESSION {} {}, {}, {state}     {}",
            style.palette.paint(Paint::Strong, session.session_id.as_str()),
            escape(&protocol),
            escape(&transport),
            style.palette.paint(
                Paint::Good,
                &status.map(|status| format!("✔ {}", status.as_str())).unwrap_or_default()
            ),
        )
        .trim_end()
        .to_owned(),
    ];
    lines.extend(facts(page, &view));
    lines.extend(exchanges(page, style));
    let masks: usize =
        page.entries.iter().filter_map(|entry| entry.record.as_ref()).map(|r| r.masked.len()).sum();
    lines.push(label(
        "evidence",
        &format!(
            "{}/{}/{}–{} · {masks} fields masked",
            escape(&session.host_name),
            session.epoch,
            session.seq,
            session.last_seq
        ),
    ));
    if page.truncated {
        lines.push(
            style
                .palette
                .paint(Paint::Warn, " … more entries than fit here: custody tail --where 'session = …'")
                .into_owned(),
        );
    }
    lines
}

fn label(name: &str, value: &str) -> String {
    format!(" {} {value}", text::pad(name, LABEL_COLUMNS - 1))
}

fn facts(page: &SessionPage, view: &View) -> Vec<String> {
    let join = |pairs: &[(&str, &str)]| {
        let known = pairs.iter().filter_map(|(short, name)| {
            let value = view.text(name)?;
            Some(if short.is_empty() {
                escape(&value).into_owned()
            } else {
                format!("{short}={}", escape(&value))
            })
        });
        known.collect::<Vec<_>>().join(" ")
    };
    let mut lines = Vec::new();
    let mut put = |name: &str, value: String| {
        if !value.is_empty() {
            lines.push(label(name, &value));
        }
    };
    put("host", escape(&page.session.host_name).into_owned());
    put("ends", line::ends(view));
    put(
        "who",
        join(&[
            ("login", names::LOGIN_USER),
            ("as", names::USER_NAME),
            ("uid", names::USER_ID),
            ("tty", names::LOGIN_TTY),
        ]),
    );
    let arguments = join(&[("", names::PROCESS_ARGS)]);
    let place = join(&[
        ("cwd", names::PROCESS_CWD),
        ("unit", names::SERVICE_NAME),
        ("container", names::CONTAINER_ID),
    ]);
    put(
        "process",
        [join(&[("", names::PROCESS_EXECUTABLE), ("pid", names::PROCESS_PID)]), arguments, place]
            .iter()
            .filter(|part| !part.is_empty())
            .cloned()
            .collect::<Vec<_>>()
            .join("   "),
    );
    put("peer", join(&[("", names::PEER_EXECUTABLE), ("pid", names::PEER_PID)]));
    put(
        "inside",
        join(&[
            ("db", names::DB_NAMESPACE),
            ("user", names::DB_USER),
            ("app", names::DB_APPLICATION),
            ("tls", names::TLS),
            ("binding", names::BINDING),
            ("sides", names::SIDE),
        ]),
    );
    if page.session.closed.is_some() {
        let count = |name: &str| view.number(name).unwrap_or(0);
        let [up, down, lost, cut, skipped, unparsed] = [
            names::BYTES_UP,
            names::BYTES_DOWN,
            names::BYTES_LOST,
            names::BYTES_CUT,
            names::BYTES_SKIPPED,
            names::BYTES_UNPARSED,
        ]
        .map(count);
        let told = format!(
            "{} up + {} down; {} lost, {} cut",
            text::count(up),
            text::count(down),
            text::count(lost),
            text::count(cut)
        );
        let rest = [(skipped, "skipped by rule"), (unparsed, "not understood")];
        let rest: String = rest
            .iter()
            .filter(|(n, _)| *n > 0)
            .map(|(n, word)| format!(", {} {word}", text::count(*n)))
            .collect();
        put("bytes", told + &rest);
    }
    lines
}

/// The table of exchanges: what opened and closed in two entries is one row.
fn exchanges(page: &SessionPage, style: &Style) -> Vec<String> {
    let mut rows: Vec<(u64, View)> = Vec::new();
    for entry in &page.entries {
        let Some(number) = entry.exchange.filter(|_| entry.entry_type.starts_with("exchange")) else {
            continue;
        };
        match rows.iter_mut().rev().find(|(own, _)| *own == number) {
            None => rows.push((number, entry.clone())),
            Some((_, row)) => merge(row, entry),
        }
    }
    let mut lines = Vec::new();
    if !rows.is_empty() {
        let head = format!(
            "{:>4}  {:12}  {:9}  {} {:16} {}",
            "#",
            "time",
            "took",
            text::pad("asked", STATEMENT_COLUMNS),
            "outcome",
            "kinds returned"
        );
        lines.push(style.palette.paint(Paint::Dim, head.trim_end()).into_owned());
    }
    for (number, view) in &rows {
        let asked = escape(&line::summary(view)).into_owned();
        let asked = if style.wide { asked } else { text::pad(&asked, STATEMENT_COLUMNS) };
        let (outcome, paint) = line::status(view);
        let outcome = if outcome == "open" { "no answer yet".to_owned() } else { outcome };
        let took = match view.number(names::DURATION) {
            Some(duration) => text::duration(duration),
            None => format!(
                "open {}",
                text::duration(u64::try_from(style.now.saturating_sub(view.wall)).unwrap_or(0))
            ),
        };
        let kinds: Vec<String> = view
            .record
            .iter()
            .flat_map(|record| &record.kinds)
            .map(|(kind, n)| format!("{} {n}", escape(kind)))
            .collect();
        lines.push(
            format!(
                "{number:>4}  {}  {took:9}  {} {} {}",
                style.clock(view.wall),
                style.palette.record(&asked),
                style.palette.paint(paint, &text::pad(&outcome, 16)),
                kinds.join(", ")
            )
            .trim_end()
            .to_owned(),
        );
        for (number, value) in line::parameters(view) {
            let value = escape(&value).into_owned();
            lines.push(format!(
                "{:32}${number}={}",
                "",
                style.palette.record(&text::fit(&value, VALUE_COLUMNS))
            ));
        }
    }
    for entry in page.entries.iter().filter(|entry| entry.entry_type == "gap") {
        lines.extend(line::render(entry, style).into_iter().map(|line| format!("      {line}")));
    }
    lines
}

/// What an earlier entry of the exchange said, and what this one adds.
fn merge(row: &mut View, entry: &View) {
    row.entry_type.clone_from(&entry.entry_type);
    match (&mut row.record, &entry.record) {
        (Some(own), Some(more)) => {
            own.fields.extend(more.fields.clone());
            own.masked.extend(more.masked.iter().cloned());
            own.anomalies.extend(more.anomalies.iter().cloned());
            for (kind, count) in &more.kinds {
                *own.kinds.entry(kind.clone()).or_default() += count;
            }
        }
        (own @ None, more) => own.clone_from(more),
        (Some(_), None) => {}
    }
}

/// One entry with all its fields.
pub(crate) fn entry(view: &View, style: &Style) -> Vec<String> {
    let palette = style.palette;
    let mut lines = vec![format!(
        "{} {}  {}   {}",
        palette.paint(Paint::Strong, &view.entry_type.to_uppercase()),
        line::id(view),
        line::ends(view),
        palette.paint(Paint::Good, &format!("✔ {}", view.status.as_str())),
    )];
    let citation = view.citation().to_string();
    lines.push(label("evidence", &escape(&citation)));
    lines.push(label(
        "time",
        &format!("{} by the host, received {} by the sink", style.date(view.wall), style.date(view.received)),
    ));
    if view.unreadable {
        lines.push(label(
            "body",
            "of a version that is newer than this program; its hash is in the header above",
        ));
    }
    let Some(record) = &view.record else {
        if view.expired {
            let why =
                "expired: the sink let it go by age; `custody verify` says whether that was stated and when";
            lines.push(label("body", why));
        } else if !view.unreadable {
            lines.push(label("body", "this type of entry has no record"));
        }
        return lines;
    };
    let widest = record.fields.keys().chain(view.session.keys()).map(|name| text::width(&escape(name))).max();
    let widest = widest.unwrap_or(0).min(40);
    lines.extend(record.fields.iter().flat_map(|(name, value)| field(name, value, widest, style)));
    if !view.session.is_empty() {
        lines.push(palette.paint(Paint::Dim, " of its session").into_owned());
        lines.extend(view.session.iter().flat_map(|(name, value)| field(name, value, widest, style)));
    }
    for mask in &record.masked {
        lines.push(format!(
            "  masked {} ({}, {})",
            escape(&mask.path),
            escape(&mask.kind),
            escape(&mask.action)
        ));
    }
    for (kind, count) in &record.kinds {
        lines.push(format!("  returned {} × {}", text::count(*count), escape(kind)));
    }
    for code in &record.anomalies {
        let code = escape(code);
        lines
            .push(palette.paint(Paint::Warn, &format!("  ! {code}   (custody explain {code})")).into_owned());
    }
    lines
}

/// Rows of an answer stand one below the other; everything else is one line.
fn field(name: &str, value: &Value, widest: usize, style: &Style) -> Vec<String> {
    let shown = |value: &Value| {
        let text = escape(&value.display()).into_owned();
        let text = if style.wide { text } else { text::fit(&text, VALUE_COLUMNS).into_owned() };
        style.palette.record(&text)
    };
    let name = text::pad(&escape(name), widest);
    match value {
        Value::List(rows) if rows.iter().flatten().any(|row| matches!(row, Value::List(_))) => {
            let mut lines = vec![format!("  {name} {} rows", text::count(rows.len() as u64))];
            lines.extend(
                rows.iter().map(|row| format!("      {}", row.as_ref().map_or("NULL".into(), shown))),
            );
            lines
        }
        value => vec![format!("  {name} {}", shown(value))],
    }
}
