//! `custody sessions`.

use anyhow::anyhow;
use custody_record::view::SessionView;
use custody_record::{Filter, Sessions};

use super::{path, sink, tell_damage};
use crate::args::{Format, SessionsArgs};
use crate::folder::Folder;
use crate::outcome::{Exit, Failure, Outcome};
use crate::output::{Lines, Style, now};
use crate::{render, select};

pub(crate) async fn run(arguments: &SessionsArgs) -> Outcome {
    let mut selection = arguments.selection.clone();
    let open = std::mem::take(&mut selection.open);
    let filter = select::filter(&selection, true)?;
    let select::Window { since, until } = select::Window::of(&selection.traffic, now())?;
    let mut exit = Exit::Ok;
    let sessions = match &selection.from {
        Some(directory) => {
            let folder = Folder::open(directory).map_err(Failure::usage)?;
            let filter = if filter.is_empty() {
                None
            } else {
                Some(filter.parse::<Filter>().map_err(Failure::usage)?)
            };
            let mut sessions = Sessions::default();
            let mut wanted = std::collections::HashSet::new();
            let damages = folder.views(|view| -> Result<(), Failure> {
                sessions.fold(&view);
                if filter.as_ref().is_none_or(|filter| filter.matches(&view)) {
                    wanted.extend(view.session_id);
                }
                Ok(())
            })?;
            exit = tell_damage(&damages);
            let fits = |row: &&SessionView| {
                wanted.contains(&row.session_id)
                    && !(open && row.closed.is_some())
                    && since.is_none_or(|since| row.received >= since)
                    && until.is_none_or(|until| row.opened < until)
            };
            let mut rows: Vec<SessionView> =
                sessions.iter().rev().filter(fits).take(arguments.lines).cloned().collect();
            rows.reverse();
            rows
        }
        None => {
            let query = [
                ("where", Some(filter).filter(|filter| !filter.is_empty())),
                ("open", Some(open.to_string())),
                ("since", since.map(|time| time.to_string())),
                ("until", until.map(|time| time.to_string())),
                ("n", Some(arguments.lines.to_string())),
            ];
            sink()?.0.get(&path("/v1/sessions", &query)).await?
        }
    };
    if sessions.is_empty() && exit == Exit::Ok {
        return Err(Failure::negative(anyhow!("no session fits")));
    }
    let mut lines = Lines::new();
    if arguments.output.format == Format::Json {
        sessions.iter().try_for_each(|session| lines.json(session))?;
    } else {
        let style = Style::of(&arguments.output);
        render::table::sessions(&sessions, &style).iter().try_for_each(|line| lines.put(line))?;
    }
    lines.flush()?;
    Ok(exit)
}
