//! Flags to one filter, which the sink evaluates, and times to Unix ns.

use anyhow::{Context, anyhow, bail};
use custody_record::Filter;
use custody_record::filter::quote;
use jiff::{SignedDuration, Timestamp};

use crate::args::{HostSelection, Selection, Traffic};
use crate::outcome::Failure;

/// Types that `tail` leaves out unless asked for: they tell of the record, not of the traffic.
const QUIET: &[&str] = &["session.open", "heartbeat", "config", "key", "exit"];
/// Types that flags never hide.
const NOTICES: &str = "type = gap or type = silence or type = equivocation";

/// The filter of these flags; empty when everything is wanted.
pub(crate) fn filter(selection: &Selection, all_types: bool) -> Result<String, Failure> {
    let own = match &selection.traffic.filter {
        Some(text) => Some(text.parse::<Filter>().map_err(Failure::usage)?),
        None => None,
    };
    let mut parts = hosts(&selection.hosts)?;
    let traffic = traffic(selection)?;
    if !traffic.is_empty() {
        let traffic = traffic.join(" and ");
        parts.push(if own.is_some() { traffic } else { format!("({traffic} or {NOTICES})") });
    }
    let names_types = own.as_ref().is_some_and(|own| own.mentions("type") || own.mentions("seq"));
    if !all_types && !names_types {
        parts.extend(QUIET.iter().map(|name| format!("type != {name}")));
    }
    parts.extend(own.map(|own| format!("({})", own.source())));
    let text = parts.join(" and ");
    if !text.is_empty() {
        text.parse::<Filter>().map_err(Failure::usage)?;
    }
    Ok(text)
}

/// The filter of these flags for exchanges alone: gaps are no exchanges, and are not let through for being told.
pub(crate) fn exchanges(selection: &Selection) -> Result<String, Failure> {
    let own = selection.traffic.filter.as_ref().map(|text| text.parse::<Filter>()).transpose();
    let mut parts = hosts(&selection.hosts)?;
    parts.extend(traffic(selection)?);
    parts.extend(own.map_err(Failure::usage)?.map(|own| format!("({})", own.source())));
    let text = parts.join(" and ");
    if !text.is_empty() {
        text.parse::<Filter>().map_err(Failure::usage)?;
    }
    Ok(text)
}

/// The part that chooses hosts.
pub(crate) fn hosts(selection: &HostSelection) -> Result<Vec<String>, Failure> {
    let mut parts = Vec::new();
    let names: Vec<String> = selection.host.iter().map(|host| format!("host = {}", quote(host))).collect();
    if !names.is_empty() {
        parts.push(format!("({})", names.join(" or ")));
    }
    for label in &selection.label {
        let Some((key, value)) = label.split_once('=').filter(|(key, _)| !key.is_empty()) else {
            return Err(Failure::usage(anyhow!(
                "--label wants KEY=VALUE, such as env=prod; `{label}` is none"
            )));
        };
        parts.push(format!("label.{key} = {}", quote(value)));
    }
    Ok(parts)
}

fn traffic(selection: &Selection) -> Result<Vec<String>, Failure> {
    let mut parts = Vec::new();
    let named = [
        ("service", &selection.service),
        ("process", &selection.process),
        ("user", &selection.user),
        ("login", &selection.login),
        ("protocol", &selection.traffic.protocol),
    ];
    for (field, value) in named {
        parts.extend(value.as_ref().map(|value| format!("{field} = {}", quote(value))));
    }
    if selection.traffic.errors {
        parts.push("error".to_owned());
    }
    if selection.open {
        parts.push("open".to_owned());
    }
    if let Some(slow) = &selection.traffic.slow {
        let nanoseconds = duration(slow).context("--slow").map_err(Failure::usage)?.as_nanos();
        parts.push(format!("duration >= {nanoseconds}"));
    }
    Ok(parts)
}

/// From when to when, Unix ns.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Window {
    /// The first time that is in it.
    pub(crate) since: Option<i64>,
    /// The first one that is not.
    pub(crate) until: Option<i64>,
}

impl Window {
    /// `--since` and `--until`, seen from now.
    pub(crate) fn of(traffic: &Traffic, now: i64) -> Result<Self, Failure> {
        let time = |text: &Option<String>, flag: &'static str| {
            text.as_ref().map(|text| time(text, now).context(flag)).transpose().map_err(Failure::usage)
        };
        Ok(Window { since: time(&traffic.since, "--since")?, until: time(&traffic.until, "--until")? })
    }

    pub(crate) fn has(&self, time: i64) -> bool {
        self.since.is_none_or(|since| time >= since) && self.until.is_none_or(|until| time < until)
    }
}

/// A time as people type it, to Unix ns: a length of time before now, or a date.
fn time(text: &str, now: i64) -> anyhow::Result<i64> {
    if let Ok(ago) = duration(text) {
        return Ok(now.saturating_sub(i64::try_from(ago.as_nanos()).unwrap_or(i64::MAX)));
    }
    if let Ok(time) = text.parse::<Timestamp>() {
        return Ok(i64::try_from(time.as_nanosecond())?);
    }
    let local = text.parse::<jiff::civil::DateTime>().with_context(|| {
        format!("`{text}` is no time: say 10m, 2h, 2026-01-31T12:00:00Z or 2026-01-31T12:00 (local time)")
    })?;
    Ok(i64::try_from(local.to_zoned(jiff::tz::TimeZone::system())?.timestamp().as_nanosecond())?)
}

pub(crate) fn duration(text: &str) -> anyhow::Result<SignedDuration> {
    let starts_with_digit = text.starts_with(|c: char| c.is_ascii_digit());
    if !starts_with_digit || !text.ends_with(|c: char| c.is_ascii_alphabetic()) || text.contains(['-', ':']) {
        bail!("`{text}` is no length of time: say 500ms, 30s, 10m, 2h or 1d");
    }
    if let Some(days) = text.strip_suffix('d').and_then(|days| days.parse::<i64>().ok()) {
        return Ok(SignedDuration::from_hours(days.checked_mul(24).context("too many days")?));
    }
    text.parse().with_context(|| format!("`{text}` is no length of time: say 500ms, 30s, 10m, 2h or 1d"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filtered(text: &str) -> Selection {
        let traffic = Traffic { filter: Some(text.into()), ..Traffic::default() };
        Selection { traffic, ..Selection::default() }
    }

    #[test]
    fn flags_become_one_filter() {
        let selection = Selection {
            hosts: HostSelection { host: vec!["db-7".into()], label: vec!["env=prod".into()] },
            process: Some("o'brien".into()),
            traffic: Traffic { errors: true, slow: Some("500ms".into()), ..Traffic::default() },
            ..Selection::default()
        };
        let filter = filter(&selection, true).unwrap();
        assert_eq!(
            filter,
            "(host = 'db-7') and label.env = 'prod' and (process = 'o\\'brien' and error and duration >= 500000000 \
             or type = gap or type = silence or type = equivocation)"
        );
        assert!(filter.parse::<Filter>().is_ok());
    }

    #[test]
    fn a_filter_cannot_end_the_flags_beside_it() {
        assert!(filter(&filtered("type = a) or (type = b"), true).is_err());
    }

    #[test]
    fn quiet_types_are_shown_when_named() {
        let quiet = |text: &str| filter(&filtered(text), false).unwrap().contains("heartbeat");
        assert!(quiet("error") && !quiet("not type = exec"));
    }

    #[test]
    fn times_as_people_type_them() {
        let now = 1_800_000_000_000_000_000;
        assert_eq!(time("10m", now).unwrap(), now - 600_000_000_000);
        assert_eq!(time("1d", now).unwrap(), now - 86_400_000_000_000);
        assert_eq!(time("2026-01-31T12:00:00Z", now).unwrap(), 1_769_860_800_000_000_000);
        for wrong in ["", "yesterday", "10", "-5m", "m"] {
            assert!(time(wrong, now).is_err(), "{wrong}");
        }
    }
}
