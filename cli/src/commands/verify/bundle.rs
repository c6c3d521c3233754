//! A bundle against a policy, in words: what is shown, what was left out, what is missing, and what nobody vouches for.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use anyhow::{Context, anyhow};
use custody_ledger::batch::EntryView;
use custody_ledger::bundle::{
    self, BundleCheck, KeyChain, MAGIC, MAGIC_EXPIRED, Rejected, Report, VerifyError,
};
use custody_ledger::tlog::Policy;
use custody_ledger::tlog::policy::POLICY_BYTES_MAX;
use custody_ledger::{EntryType, segment};
use custody_record::text::{self, Style as Paint, escape};
use custody_record::{Record, names};
use serde::Serialize;

use super::words::{age_words, finding_words};
use crate::args::{Format, VerifyArgs};
use crate::commands::export::session_of;
use crate::outcome::{Exit, Failure, Outcome};
use crate::output::{Lines, Style};
use crate::progress::{Progress, Told};

/// Gaps that are told one by one.
const GAPS_MAX: usize = 20;
/// Statements about what expired that are told one by one; all that are kept stand in the JSON form.
const EXPIRIES_MAX: usize = 5;

pub(super) fn run(file: &Path, arguments: &VerifyArgs) -> Outcome {
    let shown = || format!("cannot read {}", file.display());
    let mut magic = Vec::new();
    let source = File::open(file).with_context(shown).map_err(Failure::usage)?;
    let bytes = source.metadata().with_context(shown).map_err(Failure::usage)?.len();
    (&source).take(MAGIC.len() as u64).read_to_end(&mut magic).with_context(shown).map_err(Failure::usage)?;
    if magic != MAGIC && magic != MAGIC_EXPIRED {
        let version = MAGIC.len() - 1;
        let what = match magic.as_slice() {
            magic if magic == segment::MAGIC => "a segment: name the folder of its store",
            magic if magic.starts_with(&MAGIC[..version]) => {
                "a bundle of a version that this custody does not know"
            }
            _ => "no bundle",
        };
        return Err(Failure::usage(anyhow!("{} is {what}", file.display())));
    }
    if arguments.sink_key.is_some() || arguments.checkpoint.is_some() {
        return Err(Failure::usage(anyhow!(
            "--sink-key and --checkpoint are for a store; a bundle has --policy"
        )));
    }
    let policy = policy(arguments.policy.as_deref())?;
    let source = BufReader::new(File::open(file).with_context(shown).map_err(Failure::usage)?);
    let told = Told::new(source, Progress::new("verifying", Some(bytes)));
    let mut gaps = Vec::new();
    let mut each = |entry: &EntryView<'_>| {
        if entry.header.entry_type == EntryType::Gap && gaps.len() < GAPS_MAX {
            gaps.push(gap_words(entry));
        }
    };
    let result = match bundle::verify(told, &policy, &mut each) {
        Ok(report) => Ok(report),
        Err(VerifyError::Rejected(rejected)) => Err(rejected),
        Err(VerifyError::Io(error)) => {
            return Err(Failure::usage(anyhow::Error::new(error).context(shown())));
        }
    };
    tell(result, gaps, arguments)
}

fn policy(file: Option<&Path>) -> Result<Policy, Failure> {
    let file = file.context(
        "a bundle is checked against a policy, the public keys that you believe: --policy FILE. The owner of the sink \
         writes one with `custody export --policy-out FILE`; get it by another way than the bundle",
    );
    let file = file.map_err(Failure::usage)?;
    let read = || -> anyhow::Result<Policy> {
        let mut text = String::new();
        File::open(file)?.take(POLICY_BYTES_MAX as u64 + 1).read_to_string(&mut text)?;
        Ok(text.parse()?)
    };
    read().with_context(|| format!("the policy {}", file.display())).map_err(Failure::usage)
}

/// What is printed as JSON.
#[derive(Serialize)]
struct Printed<'a> {
    verdict: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    check: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    report: Option<&'a Report>,
    /// Of a bundle of a session: its id.
    #[serde(skip_serializing_if = "Option::is_none")]
    session_id: Option<String>,
    /// The first gaps in words.
    gaps: &'a [String],
    /// What nobody vouches for.
    claims: Vec<&'static str>,
}

/// What stands in a bundle and is only said.
const CLAIMS: [&str; 3] = [
    "the name of the host: what it calls itself",
    "times by the host's clock, and times of receipt by the sink's",
    "that what the host recorded is what happened: from the moment that somebody else ruled it, it may have lied",
];

/// The same, where something expired.
const CLAIM_OF_RETENTION: &str =
    "that what expired is gone everywhere, and that its age was agreed: the sink's word";

fn tell(result: Result<Report, Rejected>, gaps: Vec<String>, arguments: &VerifyArgs) -> Outcome {
    let (verdict, exit) = match &result {
        Ok(report) if report.is_whole() => ("verified", Exit::Ok),
        Ok(_) => ("incomplete", Exit::Incomplete),
        Err(rejected) if rejected.check == BundleCheck::Witnesses => ("not_witnessed", Exit::Negative),
        Err(_) => ("altered", Exit::Negative),
    };
    let mut lines = Lines::new();
    if arguments.output.format == Format::Json {
        let rejected = result.as_ref().err();
        let expired = result.as_ref().is_ok_and(|report| report.expired > 0);
        let of_retention = expired.then_some(CLAIM_OF_RETENTION);
        lines.json(&Printed {
            verdict,
            check: rejected.map(Rejected::name),
            detail: rejected.map(|rejected| rejected.detail.as_str()),
            report: result.as_ref().ok(),
            session_id: result.as_ref().ok().and_then(session_of).map(|id| id.as_str().to_owned()),
            gaps: if result.is_ok() { &gaps } else { &[] },
            claims: CLAIMS.into_iter().chain(of_retention).collect(),
        })?;
    } else {
        let style = Style::of(&arguments.output);
        let said = match &result {
            Ok(report) => shown(report, &gaps, arguments, &style),
            Err(rejected) => refused(rejected, &style),
        };
        said.iter().try_for_each(|line| lines.put(line))?;
    }
    lines.flush()?;
    Ok(exit)
}

fn refused(rejected: &Rejected, style: &Style) -> Vec<String> {
    let (reason, word) = match rejected.check {
        BundleCheck::Witnesses => (
            "  nobody whom the policy asks for says that this is the log that others were shown: ask for a bundle under a \
             newer checkpoint, or the witnesses why they do not cosign",
            "NOT WITNESSED: this bundle shows nothing to who demands these witnesses.",
        ),
        BundleCheck::Retention(_) => (
            "  what the sink states of bodies that go by age does not fit to what is here: either the bundle was changed since it \
             was written, or the sink let them go otherwise than it says",
            "ALTERED: nothing in this bundle can be relied on under this policy.",
        ),
        _ => (
            "  either the bundle was changed since it was written, or the policy is that of another sink",
            "ALTERED: nothing in this bundle can be relied on under this policy.",
        ),
    };
    vec![
        format!("{} {}", style.palette.paint(Paint::Bad, "✘"), escape(&rejected.to_string())),
        reason.to_owned(),
        style.palette.paint(Paint::Bad, word).into_owned(),
    ]
}

/// `1 entry`, `2 entries`.
fn entries(number: u64) -> String {
    format!("{} {}", text::count(number), if number == 1 { "entry" } else { "entries" })
}

fn shown(report: &Report, gaps: &[String], arguments: &VerifyArgs, style: &Style) -> Vec<String> {
    let palette = style.palette;
    let (mark, paint, word) = if report.is_whole() {
        let word = match report.expired {
            0 => "VERIFIED: this is what the host recorded; nothing was changed, reordered or taken out.",
            _ => {
                "VERIFIED: this is what the host recorded; nothing was changed, reordered or taken out, but for content that \
                 expired by policy."
            }
        };
        ("✔", Paint::Good, word)
    } else {
        (
            "…",
            Paint::Warn,
            "INCOMPLETE: what is here holds, but something is missing; the lines above say what.",
        )
    };
    let mut lines = vec![format!(
        "{} {}  entries {}/{} to {}/{} of host {}, {} start{} of its agent",
        palette.paint(paint, mark),
        palette.paint(Paint::Strong, &escape(&report.name_claimed)),
        report.first.epoch.counter,
        report.first.seq,
        report.last.epoch.counter,
        report.last.seq,
        report.host,
        report.epochs,
        if report.epochs == 1 { "" } else { "s" },
    )];
    let told = here(report).into_iter().chain(expired(report, style)).chain(not_here(report, gaps));
    let told = told.chain(believed(report, arguments, style));
    lines.extend(told.map(|(word, sentence)| format!("  {word:9} {sentence}")));
    lines.push(palette.paint(paint, word).into_owned());
    lines
}

/// A word, and what stands behind it; further lines of it have no word.
type Line = (&'static str, String);

fn here(report: &Report) -> Vec<Line> {
    let lost = !report.findings.is_empty() || report.findings_more > 0;
    let between = if lost { "" } else { ", and nothing in between was left out" };
    let content = entries(report.verified);
    let mut told =
        vec![("verified", format!("{content} with content, as the host signed them, in its order{between}"))];
    if let (Some(session), Some(id)) = (&report.session, session_of(report)) {
        let end = if session.closed { "its end is here" } else { "its end is not here: it may have gone on" };
        told.push(("session", format!("{}: {} belong to it; {end}", id.short(), entries(session.entries))));
    }
    if report.redacted > 0 {
        let number = entries(report.redacted);
        told.extend([
            ("redacted", format!("{number} without content, left out by who made this bundle")),
            ("", "  verified of them: that they are there, when, of what type and how long".to_owned()),
        ]);
    }
    if report.around > 0 {
        let number = entries(report.around);
        told.push((
            "around",
            format!("{number} before or behind the range, in the batches that it begins and ends in"),
        ));
    }
    told
}

/// What went by age. That is not missing: the sink had said so before, where everybody can see it.
fn expired(report: &Report, style: &Style) -> Vec<Line> {
    let bodies =
        |number: u64| format!("{} {}", text::count(number), if number == 1 { "body" } else { "bodies" });
    let date = |ns: u64| style.date(i64::try_from(ns).unwrap_or(i64::MAX));
    let mut told = Vec::new();
    for (index, one) in report.expiries.iter().take(EXPIRIES_MAX).enumerate() {
        let by = format!(
            "by policy: {}, by the statement of {}, bodies older than {}",
            bodies(one.bodies),
            date(one.stated_ns),
            age_words(one.age_s)
        );
        told.push((if index == 0 { "expired" } else { "" }, by));
    }
    let more = report.expiries.len().saturating_sub(EXPIRIES_MAX) as u64 + report.expiries_more;
    if more > 0 {
        let all = bodies(report.expired);
        told.push(("", format!("and by {} more statements; {all} in all", text::count(more))));
    }
    if report.expired > 0 {
        told.extend([
            (
                "",
                "  the sink signed that into its log before they went: nobody can get them from it any more"
                    .to_owned(),
            ),
            ("", "  verified of them: that they were there, when, of what type and how long".to_owned()),
        ]);
    }
    told
}

fn not_here(report: &Report, gaps: &[String]) -> Vec<Line> {
    let mut told = Vec::new();
    if let Some(session) = report.session.filter(|session| session.redacted > 0) {
        told.push(("lost", format!("the content of {} of the session itself", entries(session.redacted))));
    }
    told.extend(report.findings.iter().map(|finding| ("lost", finding_words(finding))));
    if report.findings_more > 0 {
        told.push(("", format!("and {} more such findings", text::count(report.findings_more))));
    }
    if report.gaps > 0 {
        let verb = if report.gaps == 1 { "says" } else { "say" };
        told.push(("gaps", format!("{} {verb} that something was not seen:", entries(report.gaps))));
        told.extend(gaps.iter().map(|gap| ("", format!("  {gap}"))));
        let more = report.gaps - gaps.len() as u64;
        told.extend((more > 0).then(|| ("", format!("  and {} more", text::count(more)))));
    }
    told
}

fn believed(report: &Report, arguments: &VerifyArgs, style: &Style) -> Vec<Line> {
    let date = |ns: u64| style.date(i64::try_from(ns).unwrap_or(i64::MAX));
    let during = |first, last| format!("{} to {}", date(first), date(last));
    let keys = match report.keys {
        KeyChain::Enrolled => vec![("keys", "each signature since the key with which the host was enrolled".to_owned())],
        KeyChain::Anchored(number) => vec![
            ("keys", format!("each signature since batch {number} of its start")),
            ("", "  that the host's enrolled key led up to there is the log's word; `custody verify` of the store".to_owned()),
            ("", "  checks that".to_owned()),
        ],
    };
    let log = format!(
        "one checkpoint of {} over {} records has all of it",
        escape(&report.origin),
        text::count(report.size)
    );
    let policy = arguments.policy.as_deref().map(|file| file.display().to_string()).unwrap_or_default();
    let clock = during(report.first_wall_claimed_ns, report.last_wall_claimed_ns);
    let received = during(report.first_received_ns, report.last_received_ns);
    let witnesses = report.cosigned.iter().map(|one| {
        let at = date(one.at_s.saturating_mul(1_000_000_000));
        ("witness", format!("{}: cosigned that checkpoint at {at}, by its own clock", escape(&one.witness)))
    });
    let claims = [
        ("claims", "not verified by anybody:".to_owned()),
        ("", format!("  the name {}: what the host calls itself", escape(&report.name_claimed))),
        ("", format!("  the host's clock: {clock}")),
        ("", format!("  when the sink received, as it says itself: {received}")),
        ("", "  that the host told the truth".to_owned()),
    ];
    let trusted = [
        (
            "policy",
            format!("{}: if it came from the same hand as the bundle, both may be made up,", escape(&policy)),
        ),
        ("", "  and this shows much less".to_owned()),
    ];
    let age =
        "  that what expired is gone everywhere, and that this age was agreed: the sink's word".to_owned();
    let age = (report.expired > 0).then_some(("", age));
    keys.into_iter().chain([("log", log)]).chain(witnesses).chain(claims).chain(age).chain(trusted).collect()
}

/// What a gap says, as far as it can be read.
fn gap_words(entry: &EntryView<'_>) -> String {
    let seq = entry.header.seq;
    let Some(body) = entry.body else { return format!("entry {seq}: its content is not here") };
    let Ok(record) = Record::decode(body.bytes) else { return format!("entry {seq}: it cannot be read") };
    let field = |name: &str| record.fields.get(name).map(|value| value.display().into_owned());
    let parts = [
        field(names::BYTES_LOST).map(|bytes| format!("{bytes} bytes lost")),
        field(names::BYTES_SKIPPED).map(|bytes| format!("{bytes} bytes not read")),
        field(names::GAP_EVENTS).map(|events| format!("{events} events lost")),
        field(names::GAP_CAUSE).map(|cause| format!("({cause})")),
    ];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    format!("entry {seq}: {}", escape(&parts.join(" ")))
}
