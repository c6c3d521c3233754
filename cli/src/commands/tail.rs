//! `custody tail`: what was said, and what is being said.

use std::collections::VecDeque;
use std::io::IsTerminal;

use custody_record::text::escape;
use custody_record::view::{Notice, TailLine};
use custody_record::{Filter, View};

use super::{path, sink, tell_damage};
use crate::args::{Format, TailArgs};
use crate::folder::Folder;
use crate::outcome::{Exit, Failure, Outcome};
use crate::output::{Lines, Style, now};
use crate::{render, select};

/// Lines of the past that are shown when neither a time nor a number was asked for.
const PAST_LINES: usize = 20;

pub(crate) async fn run(arguments: &TailArgs) -> Outcome {
    let filter = select::filter(&arguments.selection, arguments.shown.all)?;
    let window = select::Window::of(&arguments.selection.traffic, now())?;
    let style = Style::of(&arguments.shown.output);
    let mut printer =
        Printer { json: arguments.shown.output.format == Format::Json, style, lines: Lines::new(), seen: 0 };
    if let Some(directory) = &arguments.selection.from {
        let filter = if filter.is_empty() { None } else { Some(filter.parse().map_err(Failure::usage)?) };
        return from_folder(directory, &Wanted { filter, window }, arguments.shown.lines, &mut printer);
    }
    let lines = arguments.shown.lines.or_else(|| window.since.is_none().then_some(PAST_LINES));
    let follow = !arguments.no_follow && window.until.is_none();
    let query = [
        ("where", Some(filter).filter(|filter| !filter.is_empty())),
        ("since", window.since.map(|time| time.to_string())),
        ("until", window.until.map(|time| time.to_string())),
        ("n", lines.map(|lines| lines.to_string())),
        ("follow", Some(follow.to_string())),
    ];
    from_sink(&path("/v1/tail", &query), !follow, &mut printer).await
}

/// `ends`: nothing is followed, and an answer without entries says that there are none.
async fn from_sink(path: &str, ends: bool, printer: &mut Printer) -> Outcome {
    let (client, profile) = sink()?;
    let mut stream = client.lines(path).await?;
    let mut exit = Exit::Ok;
    loop {
        if !stream.has_line() {
            printer.lines.flush()?;
        }
        let line = tokio::select! {
            line = stream.next() => line?,
            _ = tokio::signal::ctrl_c() => None,
        };
        let Some(line) = line else { break };
        if line.is_empty() {
            continue; // The sink says that it lives.
        }
        match serde_json::from_slice::<TailLine>(&line) {
            Ok(TailLine::Entry(view)) => printer.entry(&view)?,
            Ok(TailLine::Notice(notice)) => {
                if matches!(notice, Notice::Missed(_) | Notice::Incomplete(_)) {
                    exit = Exit::Incomplete;
                }
                printer.notice(&notice, &profile.url, &profile.who())?;
            }
            Err(_) => {
                eprintln!(
                    "custody: the sink sent a line that this version cannot read; it is newer than this program"
                );
                exit = Exit::Incomplete;
            }
        }
    }
    printer.lines.flush()?;
    Ok(if ends { printer.end(exit) } else { exit })
}

struct Wanted {
    filter: Option<Filter>,
    window: select::Window,
}

impl Wanted {
    fn has(&self, view: &View) -> bool {
        self.window.has(view.received) && self.filter.as_ref().is_none_or(|filter| filter.matches(view))
    }
}

fn from_folder(
    directory: &std::path::Path,
    wanted: &Wanted,
    last: Option<usize>,
    printer: &mut Printer,
) -> Outcome {
    let folder = Folder::open(directory).map_err(Failure::usage)?;
    let mut kept = VecDeque::new();
    let damages = folder.views(|view| {
        if !wanted.has(&view) {
            return Ok(());
        }
        let Some(last) = last else { return printer.entry(&view) };
        kept.push_back(view);
        if kept.len() > last {
            kept.pop_front();
        }
        Ok(())
    })?;
    kept.iter().try_for_each(|view| printer.entry(view))?;
    printer.lines.flush()?;
    Ok(printer.end(tell_damage(&damages)))
}

struct Printer {
    json: bool,
    style: Style,
    lines: Lines,
    seen: u64,
}

impl Printer {
    /// How a tail ends that follows nothing: without an entry the answer is no.
    fn end(&self, exit: Exit) -> Exit {
        if self.seen == 0 && exit == Exit::Ok { Exit::Negative } else { exit }
    }

    fn entry(&mut self, view: &View) -> Result<(), Failure> {
        self.seen += 1;
        if self.json {
            return self.lines.view(view);
        }
        self.style.now = now();
        render::line::render(view, &self.style).iter().try_for_each(|line| self.lines.put(line))
    }

    fn notice(&mut self, notice: &Notice, url: &str, who: &str) -> Result<(), Failure> {
        if self.json {
            return self.lines.json(notice);
        }
        self.style.now = now();
        if let (Notice::Hosts { shown, known }, true) = (notice, std::io::stdout().is_terminal()) {
            let header = format!("{} · {} · {shown} of {known} hosts", escape(url), escape(who));
            let header = self.style.palette.paint(custody_record::text::Style::Dim, &header).into_owned();
            return self.lines.put(&header);
        }
        match render::line::notice(notice, &self.style) {
            Some(line) => self.lines.put(&line),
            None => Ok(()),
        }
    }
}
