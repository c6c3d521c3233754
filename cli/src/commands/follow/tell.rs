//! How looks are told: one line for each that found something new.

use std::path::Path;

use custody_record::text::{self, Style as Paint, escape};
use serde::Serialize;

use super::Kept;
use crate::args::{Format, VerifyArgs};
use crate::outcome::Failure;
use crate::output::{Lines, Style, now};
use crate::profile::Profile;

/// One look that holds, as it is told.
#[derive(Debug, Default, Serialize)]
pub(super) struct Told {
    /// Unix ns.
    pub(super) at: i64,
    /// Records under the newest checkpoint, and under the one before.
    pub(super) size: u64,
    pub(super) before: u64,
    /// Records whose leaves were compared so far.
    pub(super) compared: u64,
    /// Checkpoints that hosts echo in them and that are of this log; in this look.
    pub(super) echoes: u64,
    /// Those that are not, in words; in this look.
    pub(super) contradictions: Vec<String>,
}

/// How looks are told.
pub(super) struct Teller<'p> {
    style: Style,
    json: bool,
    profile: &'p Profile,
}

impl<'p> Teller<'p> {
    pub(super) fn new(arguments: &VerifyArgs, profile: &'p Profile) -> Self {
        let json = arguments.output.format == Format::Json;
        Teller { style: Style::of(&arguments.output), json, profile }
    }

    /// Beside the output, which is one line for each look that found something new.
    pub(super) fn begin(&self, path: &Path, kept: Option<&Kept>, witness: Option<&str>) {
        let Profile { url, .. } = self.profile;
        let from = match kept {
            None => "for the first time: the first checkpoint is believed".to_owned(),
            Some(kept) => format!("from {} records on", text::count(kept.witness.checkpoint().size)),
        };
        eprintln!(
            "following {} as {}, {from}; kept in {}",
            escape(url),
            escape(&self.profile.who()),
            path.display()
        );
        if let Some(witness) = witness {
            eprintln!(
                "each checkpoint that holds, and that the sink offers, is cosigned as {}",
                escape(witness)
            );
        }
        if !self.profile.is_auditor() {
            eprintln!(
                "a reader follows checkpoints; what leaves hold, and what hosts echo in them, is shown to auditors"
            );
        }
    }

    pub(super) fn tell(&self, told: &Told, lines: &mut Lines) -> Result<(), Failure> {
        if self.json {
            lines.json(told)?;
            return lines.flush();
        }
        let Style { palette, .. } = &self.style;
        let mark = if told.contradictions.is_empty() {
            palette.paint(Paint::Good, "✔")
        } else {
            palette.paint(Paint::Bad, "✘")
        };
        let before = if told.before == 0 {
            String::new()
        } else {
            format!(", goes on from {}", text::count(told.before))
        };
        let leaves = if self.profile.is_auditor() {
            format!(
                "; {} compared, {} new checkpoints of hosts are of it",
                text::count(told.compared),
                text::count(told.echoes)
            )
        } else {
            String::new()
        };
        lines.put(&format!(
            "{} {mark} {} records{before}{leaves}",
            self.style.clock(told.at),
            text::count(told.size)
        ))?;
        for words in &told.contradictions {
            lines.put(&format!("    {}", escape(words)))?;
        }
        lines.flush()
    }

    /// A checkpoint over so many records was cosigned and handed in; so many are witnessed by enough then.
    pub(super) fn cosigned(&self, size: u64, witnessed: u64, lines: &mut Lines) -> Result<(), Failure> {
        if self.json {
            lines.json(&serde_json::json!({ "at": now(), "cosigned": size, "witnessed": witnessed }))?;
            return lines.flush();
        }
        let mark = self.style.palette.paint(Paint::Good, "✔");
        let (size, witnessed) = (text::count(size), text::count(witnessed));
        let at = self.style.clock(now());
        lines.put(&format!("{at} {mark} cosigned {size} records; {witnessed} are witnessed"))?;
        lines.flush()
    }

    pub(super) fn alarm(&self, words: &str, lines: &mut Lines) -> Result<(), Failure> {
        if self.json {
            lines.json(&serde_json::json!({ "at": now(), "alarm": words }))?;
        } else {
            let mark = self.style.palette.paint(Paint::Bad, "✘");
            let keep = "what was seen before is kept, and proves it: do not remove it";
            lines.put(&format!("{} {mark} {}; {keep}", self.style.clock(now()), escape(words)))?;
        }
        lines.flush()
    }
}
