//! A layer between a program and its files (`disk/layer.c`, loaded before libc): it counts the calls that reach the files
//! below one folder, fails one of them or kills the process at it, and writes down what was done.

pub mod power;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::process::output;
use crate::random::{self, Random};

/// Kinds of calls, as the layer names them.
pub const KINDS: &[&str] =
    &["open", "write", "sync", "rename", "link", "truncate", "unlink", "mkdir", "read", "chmod"];

/// What becomes of the call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum How {
    /// It fails with "input/output error".
    Eio,
    /// It fails with "no space left on device".
    Enospc,
    /// The process is killed before it; in the middle of it where it writes.
    Kill,
}

/// One call that goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Of which kind ([`KINDS`]).
    pub kind: &'static str,
    /// Which of that kind, from 1.
    pub ordinal: usize,
    /// What becomes of it.
    pub how: How,
}
impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} at {} {}", self.how, self.kind, self.ordinal)
    }
}

/// The layer, compiled.
#[derive(Debug)]
pub struct Disk {
    library: PathBuf,
}

impl Disk {
    /// Compiles it into `folder`.
    pub fn build(folder: &Path) -> Result<Disk> {
        let library = folder.join("disk.so");
        let source = folder.join("disk.c");
        std::fs::write(&source, include_str!("disk/layer.c"))?;
        let mut command = Command::new("gcc");
        command.args(["-O1", "-Wall", "-Werror", "-shared", "-fPIC", "-o"]).arg(&library).arg(&source);
        output(command.arg("-ldl")).context("compiling the layer between a program and its files (gcc)")?;
        Ok(Disk { library })
    }

    /// Puts a program on the layer: calls below `root` are counted and written to `log`.
    pub fn under(&self, command: &mut Command, root: &Path, log: &Path) {
        command.env("LD_PRELOAD", &self.library).env("DISK_ROOT", root).env("DISK_LOG", log);
    }

    /// Puts a program on the layer for its wall clock alone, which is so many seconds ahead, or behind below zero.
    pub fn at_another_time(&self, command: &mut Command, seconds: i64) {
        command.env("LD_PRELOAD", &self.library).env("DISK_CLOCK", seconds.to_string());
    }

    /// As [`Disk::under`], with one call that goes wrong; only that one is written to `log`.
    pub fn failing(&self, command: &mut Command, root: &Path, log: &Path, fault: &Fault) {
        self.under(command, root, log);
        let how = match fault.how {
            How::Eio => "EIO",
            How::Enospc => "ENOSPC",
            How::Kill => "KILL",
        };
        command.env("DISK_LOG_ONLY_HIT", "1").env("DISK_KIND", fault.kind).env("DISK_HOW", how);
        command.env("DISK_WHEN", fault.ordinal.to_string());
    }
}

/// A call as it was written down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// `create`, `empty`, `open` for what opens, `hit` for the one that went wrong, `none` for one that failed by
    /// itself (its kind is `other`), or the kind.
    pub what: String,
    /// Which file, below the root.
    pub path: String,
    /// Where a rename or link leads.
    pub other: String,
    /// Offset of a write, length of a truncation.
    pub number: u64,
    /// What was written.
    pub bytes: Vec<u8>,
    /// Where its line ends in the log: what is acknowledged later than that came after it.
    pub end: usize,
}

/// Reads a log, up to the first call that is not whole.
pub fn read(log: &[u8]) -> Vec<Call> {
    let mut calls = Vec::new();
    let mut at = 0;
    while let Some(length) = log[at..].iter().position(|byte| *byte == b'\n') {
        let line = String::from_utf8_lossy(&log[at..at + length]);
        let fields: Vec<&str> = line.split('\t').collect();
        let [what, path, other, number, size] = fields[..] else { break };
        let (number, size) = (number.parse().unwrap_or(0), size.parse::<usize>().unwrap_or(0));
        let start = at + length + 1;
        let Some(bytes) = log.get(start..start + size) else { break };
        at = start + size;
        calls.push(Call {
            what: what.to_owned(),
            path: path.to_owned(),
            other: other.to_owned(),
            number,
            bytes: bytes.to_vec(),
            end: at,
        });
    }
    calls
}

/// How many calls of each kind.
pub fn counts(calls: &[Call]) -> BTreeMap<&'static str, usize> {
    let mut counts = BTreeMap::new();
    for call in calls {
        // What opens is told by what it did.
        let kind = match call.what.as_str() {
            "create" | "empty" => "open",
            "none" => &call.other,
            what => what,
        };
        if let Some(kind) = KINDS.iter().find(|known| **known == kind) {
            *counts.entry(*kind).or_default() += 1;
        }
    }
    counts
}

/// Most calls of one kind of which each goes wrong in the long form.
const ORDINALS_MAX: usize = 600;

/// Which calls go wrong, each in all three ways: with `CUSTODY_FAULTS=all` each of these counts up to a bound, else that
/// many of them, or `ordinary`, at random.
pub fn faults(counts: &BTreeMap<&'static str, usize>, ordinary: usize) -> Vec<Fault> {
    let mut faults = Vec::new();
    for (&kind, &count) in counts {
        for ordinal in 1..=count.min(ORDINALS_MAX) {
            faults.extend([How::Eio, How::Enospc, How::Kill].map(|how| Fault { kind, ordinal, how }));
        }
    }
    let mut random = Random::of(random::seed());
    for at in 0..faults.len() {
        let other = at + random.below(faults.len() - at);
        faults.swap(at, other);
    }
    let said = std::env::var("CUSTODY_FAULTS").unwrap_or_default();
    if said != "all" {
        faults.truncate(said.parse().unwrap_or(ordinary));
    }
    faults
}
