//! Hosts and sessions as rows.

use std::borrow::Cow;

use custody_record::names;
use custody_record::text::{self, Style as Paint, escape};
use custody_record::view::{HostView, SessionView};

use crate::output::Style;

/// One row per host.
pub(crate) fn hosts(hosts: &[HostView], style: &Style) -> Vec<String> {
    let names_width =
        hosts.iter().map(|host| text::width(&escape(&host.name))).max().unwrap_or(0).clamp(4, 40);
    let mut lines = vec![format!(
        "{} {:8} {:20} {:>12} {}",
        text::pad("HOST", names_width),
        "STATE",
        "LAST ENTRY",
        "LOST",
        "LABELS"
    )];
    for host in hosts {
        let (state, paint) = match (&host.last_seen, host.silent) {
            _ if host.over_quota.is_some() => ("OVER", Paint::Bad),
            (None, _) => ("never", Paint::Warn),
            (Some(_), true) => ("SILENT", Paint::Bad),
            (Some(_), false) => ("heard", Paint::Good),
        };
        let head = host.head.map_or_else(|| "-".to_owned(), |head| format!("{}/{}", head.epoch, head.seq));
        let labels: Vec<String> = host.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
        let ago = host.last_seen.map(|seen| {
            format!("{} ago", text::duration(u64::try_from(style.now.saturating_sub(seen)).unwrap_or(0)))
        });
        lines.push(
            format!(
                "{} {} {:20} {:>12} {}",
                text::pad(&escape(&host.name), names_width),
                style.palette.paint(paint, &text::pad(state, 8)),
                format!("{head} {}", ago.unwrap_or_default()).trim_end(),
                text::count(host.lost),
                escape(&labels.join(" ")),
            )
            .trim_end()
            .to_owned(),
        );
        let over = host.over_quota.iter();
        lines.extend(over.map(|over| format!("  {} {}", style.palette.paint(Paint::Bad, "!"), escape(over))));
        for (code, noted) in &host.noted {
            let ago = u64::try_from(style.now.saturating_sub(noted.last)).unwrap_or(0);
            lines.push(format!(
                "  {} {}: {}, last {} ago",
                style.palette.paint(Paint::Warn, "!"),
                noted_words(code),
                text::count(noted.count),
                text::duration(ago),
            ));
        }
        if style.wide {
            lines.push(format!("  id {}", escape(&host.id)));
            for (source, counters) in &host.counters {
                let counters: Vec<String> = counters
                    .iter()
                    .map(|(name, count)| format!("{}={}", escape(name), text::count(*count)))
                    .collect();
                lines.push(format!("  {}: {}", escape(source), counters.join(" ")));
            }
        }
    }
    lines
}

/// What has to be known of a host, by its code at the sink; a code that is newer than this reader as it is.
fn noted_words(code: &str) -> Cow<'_, str> {
    Cow::Borrowed(match code {
        "missing" => "batches that it held are missing here",
        "rolled_back" => "came back older than it was",
        "forked" => "held another batch than the one that is here",
        "quarantined" => "keeps batches aside that were refused",
        "counter_went_back" => "batches in which a counter went back",
        "not_conserved" => "batches whose counters do not add up",
        "other_log" => "holds a checkpoint that is none of the sink's log",
        "level_step" => "steps of how much it records, as its spool filled and drained",
        "equivocation" => "other batches for a place that is taken",
        "refused" => "batches refused",
        "denied" => "attempts denied",
        "over_quota" => "times that it came over a quota",
        "key_rotated" => "times that it went on to another key",
        "revoked" => "times that it was revoked",
        "reinstated" => "times that its revocation was taken away",
        code => return escape(code),
    })
}

/// One row per session.
pub(crate) fn sessions(sessions: &[SessionView], style: &Style) -> Vec<String> {
    let mut lines = vec![format!(
        "{:6} {:8} {:23} {:9} {:34} {:5} {:>7} {:>6} {:>9} {:>11}",
        "ID", "HOST", "OPENED", "STATE", "WHO", "PROTO", "ASKED", "ERRORS", "UP", "DOWN"
    )];
    for session in sessions {
        let view = as_view(session);
        let number = |name: &str| session.fields.get(name).and_then(|value| value.as_unsigned());
        let state = match (session.closed, session.waiting) {
            (Some(_), _) => "closed".to_owned(),
            (None, 0) => "open".to_owned(),
            (None, waiting) => format!("waits {waiting}"),
        };
        let protocol = view.text(names::PROTOCOL_NAME).unwrap_or_default().into_owned();
        let fit = |text: String, columns: usize| if style.wide { text } else { text::pad(&text, columns) };
        lines.push(format!(
            "{} {} {:23} {:9} {} {} {:>7} {:>6} {:>9} {:>11}",
            style.palette.paint(Paint::Strong, session.session_id.short()),
            fit(escape(&session.host_name).into_owned(), 8),
            style.date(session.opened),
            state,
            fit(super::line::ends(&view), 34),
            fit(escape(&protocol).into_owned(), 5),
            text::count(session.exchanges),
            text::count(session.errors),
            number(names::BYTES_UP).map_or_else(|| "-".to_owned(), text::count),
            number(names::BYTES_DOWN).map_or_else(|| "-".to_owned(), text::count),
        ));
    }
    lines
}

/// The session as an entry without a record, so that one code tells its ends.
pub(crate) fn as_view(session: &SessionView) -> custody_record::View {
    custody_record::View {
        host: session.host.clone(),
        host_name: session.host_name.clone(),
        epoch: session.epoch,
        seq: session.seq,
        entry_type: "session.open".to_owned(),
        session_id: Some(session.session_id),
        exchange: None,
        received: session.received,
        wall: session.opened,
        status: custody_record::Status::Stored,
        record: None,
        session: session.fields.clone(),
        labels: session.labels.clone(),
        unreadable: false,
        expired: false,
    }
}

#[cfg(test)]
mod tests {
    use custody_record::view::NotedView;

    use super::*;
    use crate::args::OutputArgs;

    #[test]
    fn a_host_over_its_quota_looked_merely_silent() {
        let host = HostView {
            id: "0190a0b0-0000-7000-8000-000000000001".to_owned(),
            name: "web-1".to_owned(),
            labels: [("env".to_owned(), "prod".to_owned())].into(),
            head: None,
            last_seen: Some(1),
            counters: std::collections::BTreeMap::new(),
            lost: 0,
            silent: true,
            over_quota: Some("it has sent 9 bytes today\u{1b}".to_owned()),
            noted: [
                ("not_conserved".to_owned(), NotedView { count: 7, last: 2 }),
                ("new\u{1b}er".to_owned(), NotedView { count: 1, last: 2 }),
            ]
            .into(),
        };
        let style = Style { now: 2_000_000_002, ..Style::of(&OutputArgs::default()) };
        let lines = hosts(&[host], &style);
        assert!(lines[1].contains("OVER") && !lines[1].contains("SILENT"), "{}", lines[1]);
        assert_eq!(lines[2], "  ! it has sent 9 bytes today\\x1b");
        assert_eq!(lines[3], "  ! new\\x1ber: 1, last 2.00 s ago");
        assert_eq!(lines[4], "  ! batches whose counters do not add up: 7, last 2.00 s ago");
    }
}
