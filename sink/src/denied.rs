//! Attempts that were denied become signed statements of the store. An attacker must not fill the disk with them: those of
//! one caller for one reason are summed, the first is stated at once and the sum of what follows once per interval, and
//! callers that are told apart are bounded. No attempt goes uncounted while the sink runs.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use custody_ledger::Statement;
use custody_ledger::statement::{DenialReason, Denied, Stated};
use hyper::Method;

use crate::clock::now_ns;
use crate::http;
use crate::identity::Identity;
use crate::metrics::Metrics;

/// Least time between two statements about one caller and one reason.
const INTERVAL: Duration = Duration::from_secs(60);
/// How often is looked for what is to be stated.
const LOOK: Duration = Duration::from_millis(500);
/// Callers, each with a reason, that are told apart in one interval; those of others are summed by reason alone.
const CALLERS_MAX: usize = 1_024;
/// Stands for those others. No certificate can say this.
const OTHERS: &str = "others";
/// Longest text of a caller or a request that is kept, bytes.
const TEXT_BYTES_MAX: usize = 256;

/// One attempt.
pub struct Attempt {
    who: Option<String>,
    reason: DenialReason,
    address: IpAddr,
    request: String,
}

impl Attempt {
    /// A request. Of its path nothing behind the `?` is kept: what people look for is nobody's business.
    pub fn of(
        reason: DenialReason,
        who: Option<String>,
        address: IpAddr,
        method: &Method,
        path: &str,
    ) -> Self {
        Attempt { who, reason, address, request: shown(&format!("{method} {path}")) }
    }

    /// A connection whose certificate does not hold. What it says is then nobody's word.
    pub fn at_handshake(address: IpAddr) -> Self {
        Attempt { who: None, reason: DenialReason::Certificate, address, request: String::new() }
    }
}

/// A text from outside: cut, and with all but printable ASCII escaped.
pub fn shown(text: &str) -> String {
    let mut out = String::new();
    for piece in text.chars().map(|c| c.escape_default()) {
        if out.len() + piece.len() > TEXT_BYTES_MAX {
            return out + "…";
        }
        out.extend(piece);
    }
    out
}

/// What is to be stated of one caller and one reason.
struct Sum {
    /// Not stated yet.
    count: u64,
    since_ns: u64,
    address: IpAddr,
    request: String,
    /// Not stated before then.
    due: Instant,
}

/// Attempts that are still to be stated.
pub struct Denials {
    sums: Mutex<HashMap<(Option<String>, DenialReason), Sum>>,
    metrics: Arc<Metrics>,
}

impl Denials {
    /// None so far.
    pub fn new(metrics: Arc<Metrics>) -> Self {
        Denials { sums: Mutex::default(), metrics }
    }

    /// Counts an attempt.
    pub fn note(&self, attempt: Attempt) {
        self.metrics.denied(attempt.reason);
        let mut sums = self.sums.lock().unwrap_or_else(PoisonError::into_inner);
        let mut key = (attempt.who, attempt.reason);
        if !sums.contains_key(&key) && sums.len() >= CALLERS_MAX {
            key.0 = Some(OTHERS.to_owned());
        }
        let fresh = || Sum {
            count: 0,
            since_ns: 0,
            address: attempt.address,
            request: String::new(),
            due: Instant::now(),
        };
        let sum = sums.entry(key).or_insert_with(fresh);
        if sum.count == 0 {
            (sum.since_ns, sum.address, sum.request) = (now_ns(), attempt.address, attempt.request);
        }
        sum.count = sum.count.saturating_add(1);
    }

    /// Takes what is due; with `all` everything.
    fn take(&self, now: Instant, all: bool) -> Vec<Statement> {
        let mut sums = self.sums.lock().unwrap_or_else(PoisonError::into_inner);
        let mut statements = Vec::new();
        sums.retain(|(who, reason), sum| {
            if now < sum.due && !all {
                return true;
            }
            if sum.count == 0 {
                return false;
            }
            let denied = Denied {
                who: who.clone(),
                reason: *reason,
                count: std::mem::take(&mut sum.count),
                since_ns: sum.since_ns,
                address: sum.address.to_canonical().to_string(),
                request: std::mem::take(&mut sum.request),
            };
            let host = match who.as_deref().and_then(|who| who.parse().ok()) {
                Some(Identity::Host(host)) => Some(host),
                _ => None,
            };
            statements.push(Statement { host, at_ns: now_ns(), what: Stated::Denied(denied) });
            sum.due = now + INTERVAL;
            true
        });
        statements
    }
}

/// States what is due, again and again.
pub async fn state_for_ever(services: http::State) {
    loop {
        tokio::time::sleep(LOOK).await;
        state(Arc::clone(&services), false).await;
    }
}

/// States what is due, or all. Where the store takes nothing now, it is summed on.
pub async fn state(services: http::State, all: bool) {
    let stated = tokio::task::spawn_blocking(move || {
        if services.store.check_ready().is_err() {
            return;
        }
        let statements = services.denials.take(Instant::now(), all);
        if statements.is_empty() {
            return;
        }
        if let Err(error) = services.store.state(services.acceptor.key(), &statements) {
            tracing::error!(%error, statements = statements.len(), "denied attempts could not be stated");
        }
    });
    if let Err(error) = stated.await {
        tracing::error!(%error, "denied attempts could not be stated");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attempt(who: usize) -> Attempt {
        let who = Some(format!("custody:person:reader:{who}"));
        Attempt::of(DenialReason::Role, who, IpAddr::from([192, 0, 2, 7]), &Method::GET, "/v1/log")
    }

    fn counts(statements: &[Statement]) -> Vec<u64> {
        let mut counts: Vec<u64> = statements
            .iter()
            .map(|statement| match &statement.what {
                Stated::Denied(denied) => denied.count,
                other => panic!("{other:?}"),
            })
            .collect();
        counts.sort_unstable();
        counts
    }

    #[test]
    fn a_hammering_caller_fills_no_disk_and_each_attempt_is_counted() {
        let denials = Denials::new(Arc::default());
        let now = Instant::now() + LOOK;
        denials.note(attempt(1));
        assert_eq!(counts(&denials.take(now, false)), [1], "the first is told at once");
        (0..10_000).for_each(|_| denials.note(attempt(1)));
        assert_eq!(counts(&denials.take(now + INTERVAL / 2, false)), [0; 0]);
        assert_eq!(counts(&denials.take(now + INTERVAL, false)), [10_000]);
        denials.note(attempt(1));
        assert_eq!(counts(&denials.take(now + INTERVAL, true)), [1], "a sink that stops tells all");
        assert_eq!(counts(&denials.take(now + INTERVAL * 3, false)), [0; 0]);
        assert!(denials.sums.lock().unwrap().is_empty(), "who is quiet is forgotten");
    }

    #[test]
    fn callers_without_number_are_counted_together() {
        let denials = Denials::new(Arc::default());
        (0..CALLERS_MAX + 500).for_each(|who| denials.note(attempt(who)));
        let counts = counts(&denials.take(Instant::now() + LOOK, false));
        assert_eq!((counts.len(), counts.last()), (CALLERS_MAX + 1, Some(&500)));
    }

    #[test]
    fn a_path_cannot_play_tricks_on_a_terminal_and_is_cut() {
        assert_eq!(shown("GET /\u{1b}[2J\u{202e}"), "GET /\\u{1b}[2J\\u{202e}");
        assert!(shown(&"x".repeat(10_000)).len() <= TEXT_BYTES_MAX + "…".len());
    }
}
