//! Counters of the sink, as `/metrics` shows them. Labels come from fixed sets: nobody outside can add a series.

use custody_ledger::statement::DenialReason;
use custody_ledger::verify::{Check, Finding};
use custody_ledger::wire::RefusalCode;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::tree::Figures;

type Labelled = Family<Vec<(&'static str, String)>, Counter>;

/// All counters.
pub struct Metrics {
    registry: Registry,
    batches: Counter,
    entries: Counter,
    bytes: Counter,
    repeated: Counter,
    equivocations: Counter,
    enrolments: Counter,
    statements_dropped: Counter,
    quotas_crossed: Counter,
    refusals: Labelled,
    faults: Labelled,
    findings: Labelled,
    denials: Labelled,
    connections: Gauge,
    connections_refused: Counter,
    handshakes_failed: Counter,
    revoked: Counter,
    search: SearchMetrics,
    bodies_expired: Gauge,
    body_bytes_expired: Gauge,
    oldest_body: Gauge,
    witnessed: WitnessMetrics,
}

/// Of the index of words and those who use it.
#[derive(Default)]
struct SearchMetrics {
    ready: Gauge,
    batches: Gauge,
    segment: Gauge,
    forgotten: Gauge,
    rebuilds: Counter,
    unreadable: Counter,
    searches: Counter,
    limits: Counter,
    missing: Counter,
}

impl SearchMetrics {
    fn register(registry: &mut Registry) -> Self {
        let search = SearchMetrics::default();
        let mut gauge = |name: &str, help: &str, gauge: &Gauge| registry.register(name, help, gauge.clone());
        gauge("search_ready", "1 when the index of words has all that is stored", &search.ready);
        gauge("search_batches", "Batches in the index of words", &search.batches);
        gauge("search_segment", "Segment up to which the index of words is built", &search.segment);
        gauge(
            "search_forgotten_segment",
            "Segment up to which words of expired bodies have left the index of words",
            &search.forgotten,
        );
        let mut counter =
            |name: &str, help: &str, counter: &Counter| registry.register(name, help, counter.clone());
        counter("search_rebuilds", "Times that the index of words was thrown away", &search.rebuilds);
        counter("search_unreadable", "Parts of the store that could not be indexed", &search.unreadable);
        counter("searches", "Searches, timelines and statistics asked for", &search.searches);
        counter("search_limits", "Answers that a limit ended early", &search.limits);
        counter(
            "search_missing",
            "Entries that the index knows and the store lacks, as told",
            &search.missing,
        );
        search
    }
}

/// Of the log's witnesses, as they stand when the page is asked for.
#[derive(Default)]
struct WitnessMetrics {
    leaves: Gauge,
    leaves_waiting: Gauge,
    age_s: Gauge,
    seen: Family<Vec<(&'static str, String)>, Gauge>,
}

impl WitnessMetrics {
    fn register(registry: &mut Registry) -> Self {
        let witnessed = WitnessMetrics::default();
        let mut gauge = |name: &str, help: &str, gauge: &Gauge| registry.register(name, help, gauge.clone());
        gauge("witnessed_leaves", "Leaves of the log that are witnessed", &witnessed.leaves);
        gauge(
            "unwitnessed_leaves",
            "Leaves of the log that are committed and not witnessed; 0 where nobody is to witness",
            &witnessed.leaves_waiting,
        );
        gauge(
            "witnessed_age_seconds",
            "Time since the newest cosignature of the newest witnessed checkpoint; -1 before the first",
            &witnessed.age_s,
        );
        let help =
            "When a cosignature of this witness was last taken, seconds since 1970; 0 in this run never";
        registry.register("witness_seen_seconds", help, witnessed.seen.clone());
        witnessed
    }
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("custody_sink");
        let mut counter = |name: &str, help: &str| {
            let counter = Counter::default();
            registry.register(name, help, counter.clone());
            counter
        };
        let batches = counter("batches", "Batches accepted");
        let entries = counter("entries", "Entries in accepted batches");
        let bytes = counter("bytes", "Bytes of accepted frames");
        let repeated = counter("batches_repeated", "Batches that came again and got their receipt again");
        let equivocations = counter("equivocations", "Other batches for a place that is taken");
        let enrolments = counter("enrolments", "Identities given");
        let statements_dropped =
            counter("statements_dropped", "Statements over the limit of one host, counted only");
        let quotas_crossed = counter("quotas_crossed", "Times that a host came over a quota");
        let connections_refused = counter("connections_refused", "Connections over the limit");
        let handshakes_failed = counter("handshakes_failed", "TLS handshakes that failed or took too long");
        let revoked = counter("certificates_revoked_used", "Requests with a revoked certificate");
        let mut labelled = |name: &str, help: &str| {
            let family = Labelled::default();
            registry.register(name, help, family.clone());
            family
        };
        let refusals = labelled("refusals", "Requests refused, by code");
        let faults = labelled("faults", "Batches that failed a check, by check");
        let findings = labelled("findings", "What has to be known of accepted batches, by kind");
        let denials = labelled("denials", "Attempts that were denied, by reason");
        let connections = Gauge::default();
        registry.register("connections", "Connections open", connections.clone());
        let mut gauge = |name: &str, help: &str| {
            let gauge = Gauge::default();
            registry.register(name, help, gauge.clone());
            gauge
        };
        let bodies_expired =
            gauge("bodies_expired", "Bodies that expired by policy, since the store was made");
        let body_bytes_expired = gauge("body_bytes_expired", "Bytes of these bodies");
        let oldest_body = gauge(
            "oldest_body_received_seconds",
            "When the oldest body came that is kept in a sealed segment, s since 1970; 0 without any",
        );
        let search = SearchMetrics::register(&mut registry);
        let witnessed = WitnessMetrics::register(&mut registry);
        Metrics {
            registry,
            batches,
            entries,
            bytes,
            repeated,
            equivocations,
            enrolments,
            statements_dropped,
            quotas_crossed,
            refusals,
            faults,
            findings,
            denials,
            connections,
            connections_refused,
            handshakes_failed,
            revoked,
            search,
            bodies_expired,
            body_bytes_expired,
            oldest_body,
            witnessed,
        }
    }
}

impl Metrics {
    /// OpenMetrics text.
    pub fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a string does not fail; should it, an empty page is a visible answer.
        if encode(&mut text, &self.registry).is_err() {
            text.clear();
        }
        text
    }

    pub(crate) fn accepted(&self, entries: u64, bytes: u64) {
        self.batches.inc();
        self.entries.inc_by(entries);
        self.bytes.inc_by(bytes);
    }
    pub(crate) fn repeated(&self) {
        self.repeated.inc();
    }
    pub(crate) fn equivocation(&self) {
        self.equivocations.inc();
    }
    pub(crate) fn enrolled(&self) {
        self.enrolments.inc();
    }
    pub(crate) fn statement_dropped(&self) {
        self.statements_dropped.inc();
    }
    pub(crate) fn quota_crossed(&self) {
        self.quotas_crossed.inc();
    }
    pub(crate) fn refused(&self, code: RefusalCode) {
        self.refusals.get_or_create(&vec![("code", format!("{code:?}"))]).inc();
    }
    pub(crate) fn faulty(&self, check: Check) {
        self.faults.get_or_create(&vec![("check", check.to_string())]).inc();
    }
    pub(crate) fn found(&self, finding: &Finding) {
        self.findings.get_or_create(&vec![("kind", finding.code().to_owned())]).inc();
    }
    pub(crate) fn denied(&self, reason: DenialReason) {
        self.denials.get_or_create(&vec![("reason", reason.code().to_owned())]).inc();
    }
    pub(crate) fn expired(&self, bodies: u64, bytes: u64, oldest_s: u64) {
        let shown = |value| i64::try_from(value).unwrap_or(i64::MAX);
        self.bodies_expired.set(shown(bodies));
        self.body_bytes_expired.set(shown(bytes));
        self.oldest_body.set(shown(oldest_s));
    }
    pub(crate) fn connection_opened(&self) {
        self.connections.inc();
    }
    pub(crate) fn connection_closed(&self) {
        self.connections.dec();
    }
    pub(crate) fn connection_refused(&self) {
        self.connections_refused.inc();
    }
    pub(crate) fn revoked(&self) {
        self.revoked.inc();
    }
    pub(crate) fn handshake_failed(&self) {
        self.handshakes_failed.inc();
    }

    /// Names are those of the configuration: nobody outside can add one.
    pub(crate) fn witnessed(&self, figures: Figures) {
        let gauge = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        self.witnessed.leaves.set(gauge(figures.leaves));
        self.witnessed.leaves_waiting.set(gauge(figures.leaves_waiting));
        self.witnessed.age_s.set(figures.age_s.map_or(-1, gauge));
        for (name, seen) in figures.seen {
            self.witnessed.seen.get_or_create(&vec![("witness", name)]).set(gauge(seen));
        }
    }

    pub(crate) fn search_ready(&self, ready: bool) {
        self.search.ready.set(i64::from(ready));
    }
    pub(crate) fn search_reached(&self, batches: u64, segment: u64, forgotten: u64) {
        self.search.forgotten.set(i64::try_from(forgotten).unwrap_or(i64::MAX));
        self.search.batches.set(i64::try_from(batches).unwrap_or(i64::MAX));
        self.search.segment.set(i64::try_from(segment).unwrap_or(i64::MAX));
    }
    pub(crate) fn search_rebuilt(&self) {
        self.search.rebuilds.inc();
    }
    pub(crate) fn search_unreadable(&self) {
        self.search.unreadable.inc();
    }
    pub(crate) fn searched(&self, limits: usize, missing: usize) {
        self.search.searches.inc();
        self.search.limits.inc_by(limits as u64);
        self.search.missing.inc_by(missing as u64);
    }
}
