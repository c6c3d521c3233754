//! `custody show ID`: a session, an exchange, an entry.

use anyhow::anyhow;
use custody_record::view::SessionPage;
use custody_record::{Id, SessionPrefix, Sessions, View};

use super::{path, sink, tell_damage, the_session};
use crate::args::{Format, ShowArgs};
use crate::folder::Folder;
use crate::outcome::{Exit, Failure, Outcome};
use crate::output::{Lines, Style};
use crate::render;

/// Entries of a session that one page holds.
const ENTRIES_MAX: usize = 10_000;

pub(crate) async fn run(arguments: &ShowArgs) -> Outcome {
    let id: Id = arguments.id.parse().map_err(Failure::usage)?;
    let folder = arguments.from.as_deref().map(Folder::open).transpose().map_err(Failure::usage)?;
    let found = match &folder {
        Some(folder) => from_folder(folder, &id)?,
        None => from_sink(&id).await?,
    };
    let mut lines = Lines::new();
    let style = Style::of(&arguments.output);
    let json = arguments.output.format == Format::Json;
    let mut exit = found.exit;
    match found.what {
        What::Page(page, None) => {
            if page.truncated {
                exit = Exit::Incomplete;
            }
            if json {
                lines.json(&page)?;
            } else {
                render::page::session(&page, &style).iter().try_for_each(|line| lines.put(line))?;
            }
        }
        What::Page(page, Some(number)) => {
            let entries: Vec<&View> =
                page.entries.iter().filter(|entry| entry.exchange == Some(number)).collect();
            if entries.is_empty() {
                let session = page.session.session_id.short();
                return Err(Failure::negative(anyhow!("session {session} has no exchange {number} here")));
            }
            entries.into_iter().try_for_each(|entry| print(entry, json, &style, &mut lines))?;
        }
        What::Entry(view) => print(&view, json, &style, &mut lines)?,
    }
    lines.flush()?;
    Ok(exit)
}

fn print(view: &View, json: bool, style: &Style, lines: &mut Lines) -> Result<(), Failure> {
    if json {
        return lines.view(view);
    }
    render::page::entry(view, style).iter().try_for_each(|line| lines.put(line))
}

struct Found {
    what: What,
    exit: Exit,
}

enum What {
    Page(Box<SessionPage>, Option<u64>),
    Entry(Box<View>),
}

async fn from_sink(id: &Id) -> Result<Found, Failure> {
    let (client, _) = sink()?;
    let what = match id {
        Id::Session(session) => {
            What::Page(client.get(&path(&format!("/v1/sessions/{}", session.as_str()), &[])).await?, None)
        }
        Id::Exchange(session, number) => {
            let query = [("exchange", Some(number.to_string()))];
            What::Page(
                client.get(&path(&format!("/v1/sessions/{}", session.as_str()), &query)).await?,
                Some(*number),
            )
        }
        Id::Entry(citation) => What::Entry(client.get(&format!("/v1/entries/{citation}")).await?),
    };
    Ok(Found { what, exit: Exit::Ok })
}

fn from_folder(folder: &Folder, id: &Id) -> Result<Found, Failure> {
    match id {
        Id::Session(session) => page(folder, session, None),
        Id::Exchange(session, number) => page(folder, session, Some(*number)),
        Id::Entry(citation) => {
            let mut found = None;
            let damages = folder.views(|view| -> Result<(), Failure> {
                let host = view.host == citation.host || view.host_name == citation.host;
                if host && (view.epoch, view.seq) == (citation.epoch, citation.seq) {
                    found = Some(Box::new(view));
                }
                Ok(())
            })?;
            let exit = tell_damage(&damages);
            let entry =
                found.ok_or_else(|| Failure::negative(anyhow!("there is no entry {citation} here")))?;
            Ok(Found { what: What::Entry(entry), exit })
        }
    }
}

fn page(folder: &Folder, prefix: &SessionPrefix, exchange: Option<u64>) -> Result<Found, Failure> {
    let mut sessions = Sessions::default();
    let mut entries = Vec::new();
    let mut truncated = false;
    let damages = folder.views(|view| -> Result<(), Failure> {
        if view.session_id.is_none_or(|id| !prefix.matches(&id)) {
            return Ok(());
        }
        sessions.fold(&view);
        if exchange.is_some() && view.exchange != exchange {
            return Ok(());
        }
        if entries.len() < ENTRIES_MAX {
            entries.push(view);
        } else {
            truncated = true;
        }
        Ok(())
    })?;
    let exit = tell_damage(&damages);
    let session = the_session(&sessions, prefix)?;
    Ok(Found { what: What::Page(Box::new(SessionPage { session, entries, truncated }), exchange), exit })
}
