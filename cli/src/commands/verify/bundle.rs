//! A bundle against a policy, in words: what is shown, what was left out, what is missing, and what nobody vouches for.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use anyhow::{Context, anyhow};
use custody_ledger::batch::EntryView;
use custody_ledger::bundle::{self, KeyChain, MAGIC, Policy, Rejected, Report, VerifyError};
use custody_ledger::{EntryType, segment};
use custody_record::text::{self, Style as Paint, escape};
use custody_record::{Record, names};
use serde::Serialize;

use super::finding_words;
use crate::args::{Format, VerifyArgs};
use crate::outcome::{Exit, Failure, Outcome};
use crate::output::{Lines, Style};
use crate::progress::{Progress, Told};

/// Gaps that are told one by one.
const GAPS_MAX: usize = 20;
/// Longest policy that is read, bytes.
const POLICY_BYTES_MAX: u64 = 64 << 10;

pub(super) fn run(file: &Path, arguments: &VerifyArgs) -> Outcome {
    let shown = || format!("cannot read {}", file.display());
    let mut magic = Vec::new();
    let source = File::open(file).with_context(shown).map_err(Failure::usage)?;
    let bytes = source.metadata().with_context(shown).map_err(Failure::usage)?.len();
    (&source).take(MAGIC.len() as u64).read_to_end(&mut magic).with_context(shown).map_err(Failure::usage)?;
    if magic != MAGIC {
        let what =
            if magic == segment::MAGIC { "a segment: name the folder of its store" } else { "no bundle" };
        return Err(Failure::usage(anyhow!("{} is {what}", file.display())));
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
        File::open(file)?.take(POLICY_BYTES_MAX + 1).read_to_string(&mut text)?;
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
    /// The first gaps in words.
    gaps: &'a [String],
    /// What nobody vouches for.
    claims: [&'static str; 3],
}

/// What stands in a bundle and is only said.
const CLAIMS: [&str; 3] = [
    "the name of the host: what it calls itself",
    "times by the host's clock, and times of receipt by the sink's",
    "that what the host recorded is what happened: from the moment that somebody else ruled it, it may have lied",
];

fn tell(result: Result<Report, Rejected>, gaps: Vec<String>, arguments: &VerifyArgs) -> Outcome {
    let (verdict, exit) = match &result {
        Ok(report) if report.is_whole() => ("verified", Exit::Ok),
        Ok(_) => ("incomplete", Exit::Incomplete),
        Err(_) => ("altered", Exit::Negative),
    };
    let mut lines = Lines::new();
    if arguments.output.format == Format::Json {
        let rejected = result.as_ref().err();
        lines.json(&Printed {
            verdict,
            check: rejected.map(Rejected::name),
            detail: rejected.map(|rejected| rejected.detail.as_str()),
            report: result.as_ref().ok(),
            gaps: if result.is_ok() { &gaps } else { &[] },
            claims: CLAIMS,
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
    let word = "ALTERED: nothing in this bundle can be relied on under this policy.";
    vec![
        format!("{} {}", style.palette.paint(Paint::Bad, "✘"), escape(&rejected.to_string())),
        "  either the bundle was changed since it was written, or the policy is that of another sink"
            .to_owned(),
        style.palette.paint(Paint::Bad, word).into_owned(),
    ]
}

/// `1 entry`, `2 entries`.
fn entries(number: u64) -> String {
    format!("{} {}", text::count(number), if number == 1 { "entry" } else { "entries" })
}

fn shown(report: &Report, gaps: &[String], arguments: &VerifyArgs, style: &Style) -> Vec<String> {
    let palette = style.palette;
    let whole = report.is_whole();
    let (mark, paint) = if whole { ("✔", Paint::Good) } else { ("…", Paint::Warn) };
    let date = |ns: u64| style.date(i64::try_from(ns).unwrap_or(i64::MAX));
    let name = escape(&report.name_claimed);
    let mut lines = vec![format!(
        "{} {}  entries {}/{} to {}/{} of host {}, {} start{} of its agent",
        palette.paint(paint, mark),
        palette.paint(Paint::Strong, &name),
        report.first.epoch.counter,
        report.first.seq,
        report.last.epoch.counter,
        report.last.seq,
        report.host,
        report.epochs,
        if report.epochs == 1 { "" } else { "s" },
    )];
    let mut say = |word: &str, sentence: String| lines.push(format!("  {word:9} {sentence}"));
    say(
        "verified",
        format!(
            "{} with content: as the host signed them, in its order, and nothing in between was left out",
            entries(report.verified)
        ),
    );
    if let Some(session) = &report.session {
        let end = if session.closed { "its end is here" } else { "its end is not here: it may have gone on" };
        say(
            "session",
            format!(
                "{} belong to the session that begins at {}; {end}",
                entries(session.entries),
                session.seq
            ),
        );
    }
    if report.redacted > 0 {
        say(
            "redacted",
            format!(
                "{} without content: left out by who made this bundle, or expired before. That they were there, when, and how \
             long they were is verified; what they said is not here",
                entries(report.redacted)
            ),
        );
    }
    if let Some(session) = report.session.filter(|session| session.redacted > 0) {
        say("missing", format!("the content of {} of the session itself", entries(session.redacted)));
    }
    for finding in &report.findings {
        say("missing", finding_words(finding));
    }
    if report.gaps > 0 {
        say("gaps", format!("{} say that something was not seen:", entries(report.gaps)));
    }
    for gap in gaps {
        say("", format!("  {gap}"));
    }
    if report.gaps > gaps.len() as u64 {
        say("", format!("  and {} more", text::count(report.gaps - gaps.len() as u64)));
    }
    if report.around > 0 {
        say(
            "around",
            format!("{} before and behind the range, which share its batches", entries(report.around)),
        );
    }
    say(
        "keys",
        match report.keys {
            KeyChain::Enrolled => "each signature since the key with which the host was enrolled".to_owned(),
            KeyChain::Anchored(number) => format!(
                "each signature since batch {number}; that the host's enrolled key led up to there is the log's word, which \
             `custody verify` of the whole store checks"
            ),
        },
    );
    say(
        "log",
        format!(
            "all of it is under one checkpoint of {} over {} records",
            escape(&report.origin),
            text::count(report.size)
        ),
    );
    say(
        "claims",
        format!(
            "not verified by anybody: the name {name}; the host's clock ({} to {}); the time at which the sink says that it \
         received ({} to {}); and that the host told the truth",
            date(report.first_wall_claimed_ns),
            date(report.last_wall_claimed_ns),
            date(report.first_received_ns),
            date(report.last_received_ns),
        ),
    );
    let policy = arguments.policy.as_deref().map(|file| file.display().to_string()).unwrap_or_default();
    say(
        "policy",
        format!(
            "{}: if it came from the same hand as the bundle, both may be made up, and this shows much less",
            escape(&policy)
        ),
    );
    let word = if whole {
        "VERIFIED: this is what the host recorded; nothing was changed, reordered or taken out."
    } else {
        "INCOMPLETE: what is here holds, but something is missing; the lines above say what."
    };
    lines.push(palette.paint(paint, word).into_owned());
    lines
}

/// What a gap says, as far as it can be read.
fn gap_words(entry: &EntryView<'_>) -> String {
    let seq = entry.header.seq;
    let Some(body) = entry.body else { return format!("entry {seq}: its content was left out") };
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
