//! What `custody verify` found in a store, in words. Decides nothing.

use custody_ledger::statement;
use custody_ledger::verify::{ExpiredBodies, Fault, Finding, Unexplained, Verdict};
use custody_record::text::{self, Style as Paint, escape};

use super::log::LogPart;
use super::{Report, Word};
use crate::output::Style;

/// All that was found, line by line, the verdict last.
pub(super) fn words(report: &Report, style: &Style) -> Vec<String> {
    let palette = style.palette;
    let mut lines = Vec::new();
    for host in &report.hosts {
        let (mark, paint) = match host.report.verdict() {
            Verdict::Verified => ("✔", Paint::Good),
            Verdict::Incomplete => ("…", Paint::Warn),
            Verdict::Altered => ("✘", Paint::Bad),
        };
        let epochs = host.report.epochs.len();
        lines.push(format!(
            "{} {}  {} entries in {} batches, {epochs} start{} of the agent",
            palette.paint(paint, mark),
            palette.paint(Paint::Strong, &escape(&host.name)),
            text::count(host.report.entries()),
            text::count(host.report.batches()),
            if epochs == 1 { "" } else { "s" },
        ));
        lines.extend(host.report.faults.iter().map(|fault| format!("    {}", fault_words(fault))));
        lines.extend(host.report.findings.iter().map(|finding| format!("    {}", finding_words(finding))));
        lines.extend(host.statements.iter().map(|words| format!("    {}", escape(words))));
        for (more, word) in [
            (host.report.faults_more, "faults"),
            (host.report.findings_more, "findings"),
            (host.statements_more, "statements of the sink"),
        ] {
            if more > 0 {
                lines.push(format!("    and {} more {word}", text::count(more)));
            }
        }
        if host.expired.bodies > 0 {
            lines.extend(expired_words(&host.expired));
        }
        // Of bodies that are gone without a reason the store's lines tell.
        let withheld = host.report.withheld.saturating_sub(host.expired.bodies + host.unexplained);
        if withheld > 0 {
            lines.push(format!(
                "    {} bodies are withheld; the chain holds without them",
                text::count(withheld)
            ));
        }
    }
    lines.extend(report.statements.iter().map(|words| format!("· {}", escape(words))));
    if report.statements_more > 0 {
        lines.push(format!("· and {} more statements of the sink", text::count(report.statements_more)));
    }
    lines.extend(log_words(&report.log, style));
    lines.extend(
        report.store.iter().map(|fault| format!("{} {}", palette.paint(Paint::Bad, "✘"), escape(fault))),
    );
    if report.torn_tail {
        lines.push(format!(
            "{} the newest segment ends inside a record: the sink was writing when the copy was made",
            palette.paint(Paint::Warn, "…")
        ));
    }
    lines.push(match (report.sink_key, report.sink_key_expected) {
        (Some(key), Some(true)) => format!("the sink's key is the one expected: {key}"),
        (Some(key), _) => format!("the sink's key, taken from the store itself: {key}; compare it with one that you hold (--sink-key)"),
        (None, _) => "no host was ever enrolled here".to_owned(),
    });
    let (word, paint) = match report.verdict {
        Word::Verified => {
            ("VERIFIED: nothing was changed, reordered or taken out since it was recorded.", Paint::Good)
        }
        Word::Incomplete => (
            "INCOMPLETE: what is here holds, but something is missing; the lines above say what.",
            Paint::Warn,
        ),
        Word::Forked => (
            "FORKED: what is here holds by itself, and somebody holds a signed checkpoint that contradicts it; the lines \
             above say who.",
            Paint::Bad,
        ),
        Word::Altered => {
            ("ALTERED: at least one check does not hold; the lines above say which.", Paint::Bad)
        }
    };
    lines.push(palette.paint(paint, word).into_owned());
    lines
}

fn expired_words(expired: &ExpiredBodies) -> [String; 2] {
    let (bodies, batches) = (text::count(expired.bodies), text::count(expired.batches));
    [
        format!(
            "    expired by policy: the content of {bodies} entries in {batches} batches was removed when it was {} old, and",
            age_words(expired.age_s)
        ),
        "    the sink signed that before; that these entries were there, when, of what type and how long is still verified"
            .to_owned(),
    ]
}

/// `90 days`, `36 hours`, `10 s`.
pub(super) fn age_words(seconds: u64) -> String {
    for (unit, word) in [(86_400, "days"), (3_600, "hours"), (60, "minutes")] {
        if seconds >= 2 * unit && seconds.is_multiple_of(unit) {
            return format!("{} {word}", text::count(seconds / unit));
        }
    }
    format!("{} s", text::count(seconds))
}

/// Bodies that are gone for no good reason.
pub(super) fn unexplained_words(gone: &Unexplained, name: Option<&str>) -> String {
    let Unexplained { host, reason, batches, bodies, first } = gone;
    let name = name.map_or_else(|| host.to_string(), str::to_owned);
    format!(
        "the content of {} entries of {name} is gone, in {} batches from {first} on, and {reason}",
        text::count(*bodies),
        text::count(*batches)
    )
}

fn log_words(log: &LogPart, style: &Style) -> Vec<String> {
    let palette = style.palette;
    let bad = |sentence: &String| format!("{} {}", palette.paint(Paint::Bad, "✘"), escape(sentence));
    let mut lines: Vec<String> = log.faults.iter().chain(&log.forks).map(bad).collect();
    let Some(origin) = &log.origin else {
        let missing =
            "there is no log with a checkpoint here: nothing shows that the newest records are all here";
        lines.push(format!("{} {missing}", palette.paint(Paint::Warn, "…")));
        return lines;
    };
    let mark =
        if lines.is_empty() { palette.paint(Paint::Good, "✔") } else { palette.paint(Paint::Bad, "✘") };
    lines.push(format!(
        "{mark} {}  {} records under its signed checkpoint, {} checkpoints that hosts hold are of it",
        palette.paint(Paint::Strong, &escape(origin)),
        text::count(log.size),
        text::count(log.echoes as u64),
    ));
    if log.uncommitted > 0 {
        lines.push(format!("    stored and not under a checkpoint yet: {}", text::count(log.uncommitted)));
    }
    lines
}

fn fault_words(fault: &Fault) -> String {
    escape(&fault.to_string()).into_owned()
}

/// `None` for what the verifier finds itself.
pub(super) fn statement_words(what: &statement::Stated) -> Option<String> {
    match what {
        // The verifier does not know the log as it was then: it may have been put right since.
        statement::Stated::Found { batch, finding: finding @ Finding::OtherLog { .. } } => {
            Some(format!("{} ({batch})", finding_words(finding)))
        }
        // There may be thousands; what they are about is told of the hosts.
        statement::Stated::Found { .. } | statement::Stated::Retention(_) => None,
        statement::Stated::Equivocation { accepted, signed: true, .. } => Some(format!(
            "the host signed another {accepted} than the one that is here (a restored snapshot or a clone); the sink \
             keeps both"
        )),
        statement::Stated::Equivocation { accepted, signed: false, .. } => Some(format!(
            "another {accepted} came than the one that is here, without a signature of the host that holds; the \
             sink keeps both"
        )),
        statement::Stated::Denied(denied) => Some(denied.to_string()),
        statement::Stated::OverQuota { quota, limit, used } => Some(format!(
            "the host came over its quota ({quota}): {} of {}",
            text::count(*used),
            text::count(*limit)
        )),
        statement::Stated::Admitted { identity } => Some(format!("{identity} was enrolled")),
        statement::Stated::Revoked { identity, reason: Some(reason), .. } => {
            Some(format!("{identity} was revoked: {reason}"))
        }
        statement::Stated::Revoked { identity, reason: None, .. } => Some(format!("{identity} was revoked")),
        statement::Stated::Reinstated { identity } => {
            Some(format!("the revocation of {identity} was taken away"))
        }
        statement::Stated::Renewed { identity, certificate } => {
            Some(format!("{identity} got another certificate: {certificate}"))
        }
        statement::Stated::Refused { fault } => Some(format!("the sink refused a batch: {fault}")),
    }
}

pub(super) fn finding_words(finding: &Finding) -> String {
    match finding {
        Finding::Missing { from: Some(from), to } => format!("missing: batches after {from} up to {to}"),
        Finding::Missing { from: None, to } => format!("missing: all batches up to {to}"),
        Finding::RolledBack { claimed: Some(claimed), head } => {
            format!(
                "the host came back older than it was: it says {claimed}, it was at {head} (a restored snapshot or a clone)"
            )
        }
        Finding::RolledBack { claimed: None, head } => {
            format!("the host came back without a memory; it was at {head} (a restored snapshot or a clone)")
        }
        Finding::Forked { claimed, head } => {
            format!("the host held another {claimed} than the {head} that is here")
        }
        Finding::Quarantined { batch } => format!("the host keeps {batch} aside, which the sink had refused"),
        Finding::CounterWentBack { source } => format!("a counter of {} went back", escape(source)),
        Finding::OtherLog { echoed, .. } => format!(
            "the host holds a checkpoint over {} records of {} that is none of the sink's log",
            echoed.size,
            escape(&echoed.origin)
        ),
        Finding::KeyRotated { from, to } => {
            format!("the host went on from its key {from} to {to}, which the one before signed")
        }
        Finding::NotConserved { source } => {
            format!("counters of {} do not add up: produced is not what became of it", escape(source))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn findings_are_whole_sentences() {
        let words = finding_words(&Finding::NotConserved { source: "ring\u{1b}".into() });
        assert_eq!(words, "counters of ring\\x1b do not add up: produced is not what became of it");
    }
}
