//! `custody timeline`: all that concerns a session, an exchange, or some hosts for a while, in order.

use anyhow::anyhow;
use custody_record::search::timeline::{ENTRIES_MAX, arrange};
use custody_record::search::{Hit, Subject, TimelinePage};
use custody_record::{Id, SessionPrefix, Sessions, View};

use super::{parsed, path, sink, tell_damage, tell_walk, the_session};
use crate::args::{Format, TimelineArgs};
use crate::folder::{Folder, Placed};
use crate::outcome::{Exit, Failure, Outcome};
use crate::output::{Lines, Style, now};
use crate::{render, select};

pub(crate) async fn run(arguments: &TimelineArgs) -> Outcome {
    let id: Option<Id> = arguments.id.as_ref().map(|id| id.parse()).transpose().map_err(Failure::usage)?;
    let window = select::Window::of(&arguments.selection.traffic, now())?;
    if id.is_none() && window.since.is_none() {
        return Err(Failure::usage(anyhow!(
            "a timeline is of a session (b81x), an exchange (b81x.3), or of hosts with --since"
        )));
    }
    let mut filter = if id.is_some() { String::new() } else { select::filter(&arguments.selection, true)? };
    if id.is_none() && !arguments.all {
        let and = if filter.is_empty() { "" } else { " and " };
        filter.push_str(&format!("{and}type != heartbeat"));
    }
    let (page, mut exit) = match &arguments.selection.from {
        Some(directory) => {
            let folder = Folder::open(directory).map_err(Failure::usage)?;
            match &id {
                Some(Id::Session(prefix)) => of_session(&folder, prefix, None)?,
                Some(Id::Exchange(prefix, exchange)) => of_session(&folder, prefix, Some(*exchange))?,
                Some(Id::Entry(_)) => {
                    return Err(Failure::usage(anyhow!(
                        "a timeline is of a session (b81x) or an exchange (b81x.3)"
                    )));
                }
                None => of_hosts(&folder, &filter, window)?,
            }
        }
        None => {
            let query = [
                ("id", arguments.id.clone()),
                ("where", Some(filter).filter(|filter| !filter.is_empty())),
                ("since", window.since.map(|time| time.to_string())),
                ("until", window.until.map(|time| time.to_string())),
            ];
            (sink()?.0.get(&path("/v1/timeline", &query)).await?, Exit::Ok)
        }
    };
    if !page.limits.is_empty() || page.entries.iter().any(|hit| !hit.evidence.verified) {
        exit = Exit::Incomplete;
    }
    let mut lines = Lines::new();
    if arguments.output.format == Format::Json {
        lines.json(&page)?;
    } else {
        let style = Style::of(&arguments.output);
        render::found::timeline(&page, &style).iter().try_for_each(|line| lines.put(line))?;
    }
    lines.flush()?;
    if page.entries.is_empty() && exit == Exit::Ok {
        return Err(Failure::negative(anyhow!("nothing is there")));
    }
    Ok(exit)
}

fn of_hosts(folder: &Folder, filter: &str, window: select::Window) -> Result<(TimelinePage, Exit), Failure> {
    let filter = parsed(filter)?;
    gather(folder, |view| {
        window.has(view.received) && filter.as_ref().is_none_or(|filter| filter.matches(view))
    })
}

/// Two walks: the first finds the session, the second what concerns it.
fn of_session(
    folder: &Folder,
    prefix: &SessionPrefix,
    exchange: Option<u64>,
) -> Result<(TimelinePage, Exit), Failure> {
    let mut sessions = Sessions::default();
    let mut span: Option<(i64, i64)> = None;
    folder.views(|view| -> Result<(), Failure> {
        if view.session_id.is_some_and(|id| prefix.matches(&id)) {
            sessions.fold(&view);
            if exchange.is_none() || view.exchange == exchange {
                let (first, last) = span.unwrap_or((view.received, view.received));
                span = Some((first.min(view.received), last.max(view.received)));
            }
        }
        Ok(())
    })?;
    let session = the_session(&sessions, prefix)?;
    let Some((first, last)) = span else {
        let number = exchange.unwrap_or(0);
        return Err(Failure::negative(anyhow!("session {} has no exchange {number} here", prefix.as_str())));
    };
    let subject = Subject::new(&session, exchange, first, last);
    let (page, exit) = gather(folder, |view| subject.concerns(view))?;
    Ok((TimelinePage { session: Some(session), ..page }, exit))
}

fn gather(folder: &Folder, concerns: impl Fn(&View) -> bool) -> Result<(TimelinePage, Exit), Failure> {
    let mut page = TimelinePage { session: None, entries: Vec::new(), looked: 0, limits: Vec::new() };
    let mut more = false;
    let damages = folder.checked(|placed: Placed| -> Result<(), Failure> {
        page.looked += 1;
        if !concerns(&placed.view) {
            return Ok(());
        }
        if page.entries.len() < ENTRIES_MAX {
            let id = placed.view.citation().to_string();
            page.entries.push(Hit { id, evidence: placed.evidence, entry: placed.view });
        } else {
            more = true;
        }
        Ok(())
    })?;
    if more {
        page.limits.push(format!("more than {ENTRIES_MAX} entries concern it: later ones are not here"));
    }
    arrange(&mut page.entries);
    tell_walk(page.looked);
    Ok((page, tell_damage(&damages)))
}
