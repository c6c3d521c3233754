//! One file per command. A command gets its data from the sink or from a folder, and renders it.

pub(crate) mod decode;
pub(crate) mod explain;
pub(crate) mod export;
pub(crate) mod follow;
pub(crate) mod hosts;
pub(crate) mod login;
pub(crate) mod search;
pub(crate) mod sessions;
pub(crate) mod show;
pub(crate) mod stats;
pub(crate) mod tail;
pub(crate) mod timeline;
pub(crate) mod verify;

use anyhow::anyhow;
use custody_record::view::SessionView;
use custody_record::{Filter, SessionPrefix, Sessions};

use crate::client::Client;
use crate::folder::Damage;
use crate::outcome::{Exit, Failure};
use crate::profile::Profile;

/// The sink of the profile.
fn sink() -> Result<(Client, Profile), Failure> {
    let profile = Profile::load().map_err(Failure::usage)?;
    let client = Client::new(&profile).map_err(Failure::usage)?;
    Ok((client, profile))
}

/// A path with a query, each value encoded.
fn path(base: &str, query: &[(&str, Option<String>)]) -> String {
    let pairs: Vec<String> = query
        .iter()
        .filter_map(|(name, value)| value.as_ref().map(|value| format!("{name}={}", percent(value))))
        .collect();
    if pairs.is_empty() { base.to_owned() } else { format!("{base}?{}", pairs.join("&")) }
}

/// Percent-encodes all but RFC 3986's unreserved characters.
fn percent(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(byte.into());
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// Sessions that are named when a prefix begins several.
const NAMED_MAX: usize = 6;

/// The one session whose id begins so.
fn the_session(sessions: &Sessions, prefix: &SessionPrefix) -> Result<SessionView, Failure> {
    match &sessions.find(prefix, NAMED_MAX)[..] {
        [] => Err(Failure::negative(anyhow!("there is no session {} here", prefix.as_str()))),
        [one] => Ok((*one).clone()),
        several => {
            let ids: Vec<&str> = several.iter().map(|row| row.session_id.as_str()).collect();
            let ids = ids.join(", ");
            Err(Failure::negative(anyhow!("{} begins several sessions: {ids}", prefix.as_str())))
        }
    }
}

/// Says that a folder was read whole: it holds no index.
fn tell_walk(looked: u64) {
    eprintln!(
        "custody: there is no index in a copy of a store: all of its {} entries were read",
        custody_record::text::count(looked)
    );
}

/// The filter of this text; none of an empty one.
fn parsed(filter: &str) -> Result<Option<Filter>, Failure> {
    (!filter.is_empty()).then(|| filter.parse().map_err(Failure::usage)).transpose()
}

/// Says what of a folder could not be read. A torn end of the newest segment is how a running sink looks.
fn tell_damage(damages: &[Damage]) -> Exit {
    for damage in damages {
        let place = if damage.tail { " (the newest segment: a sink may be writing it)" } else { "" };
        eprintln!("custody: {}{place}: {}", damage.file.display(), damage.error);
    }
    if damages.is_empty() { Exit::Ok } else { Exit::Incomplete }
}
