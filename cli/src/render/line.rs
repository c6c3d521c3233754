//! One entry as a line of `tail`, with a second one for parameters.

use std::borrow::Cow;

use custody_record::text::{self, Style as Paint, escape};
use custody_record::view::Notice;
use custody_record::{Value, View, names};

use crate::output::Style;

const HOST_COLUMNS: usize = 8;
const ENDS_COLUMNS: usize = 36;
const PROTOCOL_COLUMNS: usize = 5;
const STATUS_COLUMNS: usize = 14;
const TOOK_COLUMNS: usize = 8;
const ID_COLUMNS: usize = 11;
/// Columns of all but the summary, spaces between them included.
const FIXED_COLUMNS: usize =
    12 + HOST_COLUMNS + ENDS_COLUMNS + PROTOCOL_COLUMNS + STATUS_COLUMNS + TOOK_COLUMNS + ID_COLUMNS + 7;
const SUMMARY_COLUMNS_MIN: usize = 24;
/// Where second lines begin.
const INDENT: usize = 13 + HOST_COLUMNS + 1;
/// Digits of a hash that tell two apart for people; `show` has all of it.
const HASH_COLUMNS: usize = 12;
/// Longest value on a second line unless wide.
const VALUE_COLUMNS: usize = 60;

/// The lines of an entry.
pub(crate) fn render(view: &View, style: &Style) -> Vec<String> {
    let palette = style.palette;
    let time = style.clock(view.wall);
    let host = escape(&view.host_name);
    if view.entry_type == "gap" {
        let line = format!("{time} GAP {host} {}", gap(view));
        return vec![palette.paint(Paint::Warn, &line).into_owned()];
    }
    let mut line = format!("{time} {} ", column(&host, HOST_COLUMNS, style));
    line.push_str(&column(&ends(view), ENDS_COLUMNS, style));
    line.push(' ');
    let protocol = view.text(names::PROTOCOL_NAME).unwrap_or(Cow::Borrowed("-"));
    line.push_str(
        &palette.paint(Paint::Dim, &column(short_protocol(&escape(&protocol)), PROTOCOL_COLUMNS, style)),
    );
    line.push(' ');
    let summary = escape(&summary(view)).into_owned();
    let summary_columns =
        style.columns.map(|columns| columns.saturating_sub(FIXED_COLUMNS).max(SUMMARY_COLUMNS_MIN));
    line.push_str(&palette.record(&match summary_columns {
        Some(columns) => text::pad(&summary, columns),
        None => summary,
    }));
    line.push(' ');
    let (status, paint) = status(view);
    line.push_str(&palette.paint(paint, &column(&status, STATUS_COLUMNS, style)));
    line.push(' ');
    line.push_str(&column(&took(view, style), TOOK_COLUMNS, style));
    line.push(' ');
    line.push_str(&palette.paint(Paint::Strong, &id(view)));
    let mut lines = vec![line.trim_end().to_owned()];
    lines.extend(details(view, style));
    lines
}

/// Something about the tail itself.
pub(crate) fn notice(notice: &Notice, style: &Style) -> Option<String> {
    let time = style.clock(style.now);
    let line = match notice {
        Notice::Hosts { .. } => return None,
        Notice::Missed(batches) => format!(
            "{time} MISSED {} batches: this reader was too slow; they are in the store (custody tail --since)",
            text::count(*batches)
        ),
        Notice::Silent { host_name, since, last } => {
            let quiet = u64::try_from(style.now.saturating_sub(*since)).unwrap_or(0);
            format!(
                "{time} SILENT {} no heartbeat for {}; last {}",
                escape(host_name),
                text::duration(quiet / 1_000_000_000 * 1_000_000_000),
                escape(last)
            )
        }
        Notice::Incomplete(scanned) => format!(
            "{time} INCOMPLETE the sink looked at {} entries, its limit; narrow it with --host, --since, --until",
            text::count(*scanned)
        ),
    };
    Some(style.palette.paint(Paint::Warn, &line).into_owned())
}

fn column<'a>(text: &'a str, columns: usize, style: &Style) -> Cow<'a, str> {
    match style.columns {
        Some(_) => Cow::Owned(text::pad(text, columns)),
        None => Cow::Borrowed(text),
    }
}

fn short_protocol(name: &str) -> &str {
    if name == "postgresql" { "pg" } else { name }
}

fn gap(view: &View) -> String {
    let mut parts = Vec::new();
    if let Some(bytes) = view.number(names::BYTES_LOST) {
        parts.push(format!("{} bytes lost", text::count(bytes)));
    }
    if let Some(bytes) = view.number(names::BYTES_SKIPPED) {
        parts.push(format!("{} bytes not read", text::count(bytes)));
    }
    if let Some(events) = view.number(names::GAP_EVENTS) {
        parts.push(format!("{} events lost", text::count(events)));
    }
    if parts.is_empty() {
        parts.push("something is missing".to_owned());
    }
    let mut out = parts.join(", ");
    if let Some(cause) = view.text(names::GAP_CAUSE) {
        let cause = escape(&cause).into_owned();
        out.push_str(&format!(": {}   (custody explain {cause})", cause.replace('_', " ")));
    }
    if view.session_id.is_some() {
        out.push_str(&format!("  {}  {}", ends(view), id(view)));
    }
    out
}

/// `psql[31337] → db-7:5432`, as far as it is known.
pub(crate) fn ends(view: &View) -> String {
    let program = |path: &str, pid: &str| {
        let path = view.text(path)?;
        let name = path.rsplit('/').next().unwrap_or(&path);
        let pid = view.number(pid).map(|pid| format!("[{pid}]")).unwrap_or_default();
        Some(format!("{}{pid}", escape(name)))
    };
    let own = program(names::PROCESS_EXECUTABLE, names::PROCESS_PID);
    let peer = program(names::PEER_EXECUTABLE, names::PEER_PID);
    if matches!(view.entry_type.as_str(), "exec" | "exit") {
        return own.unwrap_or_default();
    }
    if view.session_id.is_none() {
        return String::new();
    }
    let unix = view.text(names::NETWORK_TRANSPORT).is_some_and(|transport| transport.starts_with("unix"));
    let address = |address: &str, port: &str| match (view.text(address), view.number(port)) {
        (Some(address), Some(port)) if address.contains(':') => {
            Some(format!("[{}]:{port}", escape(&address)))
        }
        (Some(address), Some(port)) => Some(format!("{}:{port}", escape(&address))),
        _ => unix.then(|| "unix".to_owned()),
    };
    let client = address(names::CLIENT_ADDRESS, names::CLIENT_PORT);
    let server = address(names::SERVER_ADDRESS, names::SERVER_PORT);
    let with_port = |program: String| match view.number(names::SERVER_PORT) {
        Some(port) => format!("{program}:{port}"),
        None => program,
    };
    let unknown = || "?".to_owned();
    let side = view.text(names::SIDE);
    let (left, right) = match side.as_deref() {
        Some("server") => (peer.or(client), own.map(with_port).or(server)),
        Some("server+client") => (peer, own.map(with_port).or(server)),
        Some("client+server") => (own, peer.map(with_port).or(server)),
        _ => (own.or(client), server),
    };
    format!("{} → {}", left.unwrap_or_else(unknown), right.unwrap_or_else(unknown))
}

/// What was asked, in one line, not escaped yet.
pub(crate) fn summary(view: &View) -> String {
    if view.unreadable {
        return format!("{} of a version that is newer than this program", view.entry_type);
    }
    if view.expired {
        return format!("{} expired", view.entry_type);
    }
    let text = |name: &str| view.text(name).map(Cow::into_owned);
    let plain = match view.entry_type.as_str() {
        "exec" => match view.field(names::PROCESS_ARGS) {
            Some(Value::List(arguments)) => {
                let words: Vec<_> = arguments.iter().flatten().map(Value::display).collect();
                Some(words.join(" "))
            }
            _ => text(names::PROCESS_EXECUTABLE),
        },
        "exit" => Some(format!("exit {}", text(names::PROCESS_EXIT_STATUS).unwrap_or_default())),
        "coverage" => Some(format!(
            "TLS not read: {} ({}), {} connections, {} bytes so far",
            text(names::PROCESS_EXECUTABLE).unwrap_or_default(),
            text(names::TLS_LIBRARY).unwrap_or_default(),
            text::count(view.number(names::TLS_UNREAD_CONNECTIONS).unwrap_or(0)),
            text::count(view.number(names::BYTES_SKIPPED).unwrap_or(0))
        )),
        "config" => {
            let short =
                |name: &str| text(name).map(|hash| hash.chars().take(HASH_COLUMNS).collect::<String>());
            Some(format!(
                "configuration {}: {}, masks {}, agent {}, kernel {}",
                text(names::AGENT_CONFIG_STATE).unwrap_or_default().replace('_', " "),
                short(names::AGENT_CONFIG_HASH).unwrap_or_default(),
                short(names::AGENT_MASK_HASH).unwrap_or_default(),
                text(names::AGENT_VERSION).unwrap_or_default(),
                text(names::AGENT_KERNEL).unwrap_or_default()
            ))
        }
        "key" => Some(match text(names::AGENT_CERTIFICATE) {
            Some(certificate) => format!("another certificate: {certificate}"),
            None => format!(
                "key of the host: {}, after {} rotations",
                text(names::AGENT_HOST_KEY).unwrap_or_default(),
                view.number(names::AGENT_HOST_KEY_ROTATIONS).unwrap_or(0)
            ),
        }),
        "level" => Some(format!(
            "records {} instead of {}: spool {} of {} bytes",
            text(names::LEVEL).unwrap_or_default(),
            text(names::LEVEL_BEFORE).unwrap_or_default(),
            text::count(view.number(names::AGENT_SPOOL_BYTES).unwrap_or(0)),
            text::count(view.number(names::AGENT_SPOOL_LIMIT).unwrap_or(0))
        )),
        "session.open" => Some("opened".to_owned()),
        "session.close" => Some(match view.number(names::LEVEL_EXCHANGES) {
            Some(exchanges) => {
                format!("closed, {}, {} exchanges not told", bytes(view), text::count(exchanges))
            }
            None => format!("closed, {}", bytes(view)),
        }),
        kind if kind.starts_with("exchange") => {
            let http = text(names::HTTP_METHOD).map(|method| {
                let path = text(names::URL_PATH).unwrap_or_default();
                let query = text(names::URL_QUERY).map(|query| format!("?{query}")).unwrap_or_default();
                format!("{method} {path}{query}")
            });
            http.or_else(|| text(names::DB_QUERY_TEXT))
                .or_else(|| text(names::DB_QUERY_SUMMARY))
                .or_else(|| text(names::DB_OPERATION))
                .or_else(|| Some(bytes(view)))
        }
        other => Some(other.to_owned()),
    };
    let plain = plain.unwrap_or_else(|| view.entry_type.clone());
    // A statement over many lines reads as one; the whole one stands in `show`.
    plain.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn bytes(view: &View) -> String {
    let count = |name| text::count(view.number(name).unwrap_or(0));
    format!("{} up, {} down", count(names::BYTES_UP), count(names::BYTES_DOWN))
}

/// How it ended: `502`, `57014`, `ok`, `no answer yet`.
pub(crate) fn status(view: &View) -> (String, Paint) {
    let outcome = view.text(names::OUTCOME);
    let code = view.text(names::HTTP_STATUS).or_else(|| view.text(names::DB_RESPONSE_STATUS));
    let rows = view.number(names::DB_RETURNED_ROWS).map(|rows| format!("{} rows", text::count(rows)));
    let outcome = outcome.as_deref().unwrap_or_default();
    let words = match (view.entry_type.as_str(), code, outcome) {
        ("exchange.open", None, _) => "open".to_owned(),
        (
            "exchange.open" | "exchange" | "exchange.close" | "exchange.part",
            Some(code),
            "" | "ok" | "error",
        ) => escape(&code).into_owned(),
        (_, Some(code), outcome) => format!("{} {}", escape(&code), escape(outcome)),
        (_, None, "ok") => rows.unwrap_or_else(|| "ok".to_owned()),
        (_, None, outcome) => escape(outcome).replace('_', " "),
    };
    let paint = match view.entry_type.as_str() {
        _ if view.is_error() => Paint::Bad,
        "exchange.open" => Paint::Warn,
        _ => Paint::Plain,
    };
    (words, paint)
}

fn took(view: &View, style: &Style) -> String {
    if let Some(duration) = view.number(names::DURATION) {
        return text::duration(duration);
    }
    if view.entry_type == "exchange.open" {
        let since = u64::try_from(style.now.saturating_sub(view.wall)).unwrap_or(0);
        return text::duration(since);
    }
    String::new()
}

/// `b81x2k.3`, or the citation of what belongs to no session.
pub(crate) fn id(view: &View) -> String {
    match (&view.session_id, view.exchange) {
        (Some(id), Some(exchange)) => format!("{}.{exchange}", id.short()),
        (Some(id), None) => id.short().to_owned(),
        (None, _) => escape(&view.citation().to_string()).into_owned(),
    }
}

/// The second line: bound parameters, and who asked.
fn details(view: &View, style: &Style) -> Option<String> {
    let record = view.record.as_ref()?;
    let mut parts = Vec::new();
    let mut put = |name: &str, value: &str| {
        let value = escape(value);
        let value =
            if style.wide { value } else { Cow::Owned(text::fit(&value, VALUE_COLUMNS).into_owned()) };
        parts.push(format!("{name}={}", style.palette.record(&value)));
    };
    for (number, value) in parameters(view) {
        put(&format!("${number}"), &value);
    }
    let has_parameters = record.fields.keys().any(|name| name.starts_with(names::DB_QUERY_PARAMETER));
    if has_parameters || style.wide || (view.is_error() && view.entry_type.starts_with("exchange")) {
        let more: &[(&str, &str)] = &[
            ("db", names::DB_NAMESPACE),
            ("user", names::DB_USER),
            ("unit", names::SERVICE_NAME),
            ("error", names::ERROR_MESSAGE),
        ];
        let wide: &[(&str, &str)] = &[
            ("login", names::LOGIN_USER),
            ("tls", names::TLS),
            ("binding", names::BINDING),
            ("trace", names::TRACE_ID),
        ];
        for (short, name) in more.iter().chain(if style.wide { wide } else { &[] }) {
            if let Some(value) = view.text(name) {
                put(short, &value);
            }
        }
    }
    for code in &record.anomalies {
        parts.push(style.palette.paint(Paint::Warn, &format!("!{}", escape(code))).into_owned());
    }
    (!parts.is_empty()).then(|| format!("{:INDENT$}{}", "", parts.join(" ")))
}

/// Bound parameters by their numbers, NULL among them.
pub(crate) fn parameters(view: &View) -> Vec<(u64, String)> {
    let fields = view.record.iter().flat_map(|record| &record.fields);
    let mut found: Vec<(u64, String)> = fields
        .filter_map(|(name, value)| {
            let number = name.strip_prefix(names::DB_QUERY_PARAMETER)?.parse().ok()?;
            Some((number, value.display().into_owned()))
        })
        .collect();
    if let Some(Value::List(nulls)) =
        view.record.as_ref().and_then(|record| record.fields.get(names::DB_NULL_PARAMETERS))
    {
        found.extend(nulls.iter().filter_map(|number| match number {
            Some(Value::Unsigned(number)) => Some((*number, "NULL".to_owned())),
            _ => None,
        }));
    }
    found.sort();
    found
}
