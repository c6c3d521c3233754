//! `custody search`: entries by their words, newest first, from the sink's index or from a walk through a store.

use std::collections::VecDeque;
use std::path::Path;

use anyhow::anyhow;
use custody_record::search::{Found, Hit, Query, SearchPage};

use super::{parsed, path, sink, tell_damage, tell_walk};
use crate::args::{Format, SearchArgs};
use crate::folder::Folder;
use crate::outcome::{Exit, Failure, Outcome};
use crate::output::{Lines, Style, now};
use crate::{render, select};

pub(crate) async fn run(arguments: &SearchArgs) -> Outcome {
    let words = words(&arguments.words);
    let query: Query = words.parse().map_err(Failure::usage)?;
    let filter = select::filter(&arguments.selection, true)?;
    let window = select::Window::of(&arguments.selection.traffic, now())?;
    let (page, mut exit) = match &arguments.selection.from {
        Some(directory) => from_folder(directory, arguments, &query, &filter, window)?,
        None => {
            let asked = [
                ("q", Some(words).filter(|words| !words.is_empty())),
                ("where", Some(filter).filter(|filter| !filter.is_empty())),
                ("since", window.since.map(|time| time.to_string())),
                ("until", window.until.map(|time| time.to_string())),
                ("n", Some(arguments.hits.to_string())),
                ("cursor", arguments.cursor.map(|cursor| cursor.to_string())),
            ];
            (sink()?.0.get(&path("/v1/search", &asked)).await?, Exit::Ok)
        }
    };
    let doubtful = |found: &Found| match found {
        Found::Hit(hit) => !hit.evidence.verified,
        Found::Missing(_) => true,
    };
    if !page.limits.is_empty() || page.answers_to.is_some() || page.found.iter().any(doubtful) {
        exit = Exit::Incomplete;
    }
    let mut lines = Lines::new();
    if arguments.output.format == Format::Json {
        page.found.iter().try_for_each(|found| lines.json(found))?;
        let rest = SearchPage { found: Vec::new(), ..page.clone() };
        lines.json(&serde_json::json!({ "page": rest }))?;
    } else {
        let style = Style::of(&arguments.output);
        render::found::page(&page, &style).iter().try_for_each(|line| lines.put(line))?;
    }
    lines.flush()?;
    if page.found.is_empty() && exit == Exit::Ok {
        return Err(Failure::negative(anyhow!("nothing matched")));
    }
    Ok(exit)
}

/// Arguments to one query: what the shell took the quotes from is a phrase all the same.
fn words(arguments: &[String]) -> String {
    let quoted = |word: &String| {
        let is_phrase = word.trim().contains(char::is_whitespace) && !word.contains(['"', '*']);
        if is_phrase { format!("\"{word}\"") } else { word.clone() }
    };
    arguments.iter().map(quoted).collect::<Vec<_>>().join(" ")
}

fn from_folder(
    directory: &Path,
    arguments: &SearchArgs,
    query: &Query,
    filter: &str,
    window: select::Window,
) -> Result<(SearchPage, Exit), Failure> {
    let folder = Folder::open(directory).map_err(Failure::usage)?;
    let filter = parsed(filter)?;
    let hits = usize::from(arguments.hits);
    let mut page = SearchPage::default();
    let mut newest = VecDeque::new();
    let mut more = false;
    let damages = folder.checked(|placed| -> Result<(), Failure> {
        page.looked += 1;
        let fits = arguments.cursor.is_none_or(|cursor| placed.place < cursor)
            && window.has(placed.view.received)
            && filter.as_ref().is_none_or(|filter| filter.matches(&placed.view))
            && query.matches(&placed.view);
        if fits {
            newest.push_front(placed);
            more |= newest.len() > hits;
            newest.truncate(hits);
        }
        Ok(())
    })?;
    page.next = newest.back().filter(|_| more).map(|placed| placed.place);
    page.found = newest
        .into_iter()
        .map(|placed| {
            let id = placed.view.citation().to_string();
            Found::Hit(Box::new(Hit { id, evidence: placed.evidence, entry: placed.view }))
        })
        .collect();
    tell_walk(page.looked);
    Ok((page, tell_damage(&damages)))
}

#[cfg(test)]
mod tests {
    use super::words;

    #[test]
    fn an_argument_of_several_words_is_a_phrase() {
        let query =
            |arguments: &[&str]| words(&arguments.iter().map(|&word| word.to_owned()).collect::<Vec<_>>());
        assert_eq!(query(&["refund", "card declined", "no_such*"]), "refund \"card declined\" no_such*");
        assert_eq!(query(&["a \"b c\"", "d* e"]), "a \"b c\" d* e");
        assert_eq!(query(&[]), "");
    }
}
