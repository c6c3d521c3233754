//! What a request asks for, checked. Nothing is read from the store here.

use axum::extract::Query;
use custody_ledger::wire::RefusalCode;
use custody_record::{Filter, View};
use serde::Deserialize;

use super::views;
use crate::http::Refused;
use crate::store::HostRow;

/// Rows or lines that one request may ask for.
const LINES_MAX: usize = 1_000_000;

/// The query of a URL as it comes.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Parameters {
    #[serde(rename = "where")]
    filter: Option<String>,
    since: Option<i64>,
    until: Option<i64>,
    n: Option<usize>,
    follow: bool,
    open: bool,
    exchange: Option<u64>,
}

/// What is wanted.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    pub(super) filter: Option<Filter>,
    /// Received at this time or later, Unix ns.
    pub(super) since: Option<i64>,
    /// Received before this time, Unix ns.
    pub(super) until: Option<i64>,
    /// The newest so many.
    pub(super) lines: Option<usize>,
    /// What comes later, too.
    pub(super) follow: bool,
    /// Only sessions that are open.
    pub(super) open: bool,
    /// Only this exchange.
    pub(super) exchange: Option<u64>,
}

impl Wanted {
    /// # Errors
    /// A query that cannot be read, or a filter that is none.
    pub(crate) fn of(
        query: Result<Query<Parameters>, axum::extract::rejection::QueryRejection>,
    ) -> Result<Self, Refused> {
        let malformed = |detail: String| Refused::new(RefusalCode::Malformed, detail);
        let Query(parameters) = query.map_err(|error| malformed(error.body_text()))?;
        let filter = parameters.filter.map(|text| text.parse::<Filter>()).transpose();
        let lines = parameters.n;
        if lines.is_some_and(|lines| lines > LINES_MAX) {
            return Err(malformed(format!("n is at most {LINES_MAX}")));
        }
        Ok(Wanted {
            filter: filter.map_err(|error| malformed(error.to_string()))?,
            since: parameters.since,
            until: parameters.until,
            lines,
            follow: parameters.follow,
            open: parameters.open,
            exchange: parameters.exchange,
        })
    }

    /// What was received between these times and passes the filter.
    pub(super) fn past(filter: Option<Filter>, since: Option<i64>, until: Option<i64>) -> Self {
        Wanted { filter, since, until, lines: None, follow: false, open: false, exchange: None }
    }

    /// Whether the entry is wanted.
    pub(super) fn has(&self, view: &View) -> bool {
        self.until.is_none_or(|until| view.received < until)
            && self.since.is_none_or(|since| view.received >= since)
            && self.fits(view)
    }

    /// Whether the filter lets it through.
    pub(super) fn fits(&self, view: &View) -> bool {
        self.filter.as_ref().is_none_or(|filter| filter.matches(view))
    }

    /// Whether entries of this host can be wanted.
    pub(super) fn admits(&self, host: &HostRow) -> bool {
        self.filter.as_ref().is_none_or(|filter| filter.admits_host(&views::of_host(host)))
    }
}
