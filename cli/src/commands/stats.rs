//! `custody stats`: exchanges counted by what they have in common.

use anyhow::anyhow;
use custody_record::search::{Stats, StatsPage};

use super::{parsed, path, sink, tell_damage, tell_walk};
use crate::args::{Format, StatsArgs};
use crate::folder::Folder;
use crate::outcome::{Exit, Failure, Outcome};
use crate::output::{Lines, Style, now};
use crate::{render, select};

/// How far back a sink is asked when nobody says, ns.
const SINCE_NS: i64 = 3_600_000_000_000;

pub(crate) async fn run(arguments: &StatsArgs) -> Outcome {
    let filter = select::exchanges(&arguments.selection)?;
    let now = now();
    let window = select::Window::of(&arguments.selection.traffic, now)?;
    let (page, mut exit) = match &arguments.selection.from {
        Some(directory) => {
            let folder = Folder::open(directory).map_err(Failure::usage)?;
            let mut stats = Stats::new(arguments.by.clone(), parsed(&filter)?);
            let mut looked = 0;
            let damages = folder.views(|view| -> Result<(), Failure> {
                looked += 1;
                if window.has(view.received) {
                    stats.take(view);
                }
                Ok(())
            })?;
            tell_walk(looked);
            (stats.page(usize::from(arguments.rows)), tell_damage(&damages))
        }
        None => {
            let until = window.until.unwrap_or(now);
            let since = window.since.unwrap_or_else(|| until.saturating_sub(SINCE_NS));
            let query = [
                ("by", Some(arguments.by.to_string())),
                ("where", Some(filter).filter(|filter| !filter.is_empty())),
                ("since", Some(since.to_string())),
                ("until", window.until.map(|time| time.to_string())),
                ("n", Some(arguments.rows.to_string())),
            ];
            let page: StatsPage = sink()?.0.get(&path("/v1/stats", &query)).await?;
            (page, Exit::Ok)
        }
    };
    if !page.limits.is_empty() {
        exit = Exit::Incomplete;
    }
    if page.rows.is_empty() && exit == Exit::Ok {
        return Err(Failure::negative(anyhow!("no exchange matched")));
    }
    let mut lines = Lines::new();
    if arguments.output.format == Format::Json {
        lines.json(&page)?;
    } else {
        let style = Style::of(&arguments.output);
        render::stats::table(&page, &style).iter().try_for_each(|line| lines.put(line))?;
    }
    lines.flush()?;
    Ok(exit)
}
