//! A model of a disk that loses power: what a program did to its files, call by call, and the states that a crash may
//! leave of it. What was not synced may be there, may be missing, in any order, and torn.
//!
//! - Writes, truncations and modes of a file are durable with its own sync. Before that any of them may be missing,
//!   whatever the others, and one may be torn at any byte.
//! - Names are durable with the sync of their folder. Before that those of one folder are there in the order in which
//!   they were made, up to some point of its own for each folder. A new file's sync does not make its name durable.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, Result};

use super::Call;
use crate::random::Random;

/// What a file went through since its last sync.
#[derive(Clone, Debug)]
enum Change {
    Write { offset: usize, bytes: Vec<u8> },
    Length(usize),
    Mode(u32),
}

#[derive(Clone, Debug, Default)]
struct Node {
    is_folder: bool,
    mode: u32,
    /// What is durable, and what is not yet.
    bytes: Vec<u8>,
    changes: Vec<Change>,
}

/// A change of the names of one folder.
#[derive(Clone, Debug)]
enum Name {
    Put(String, usize),
    Removed(String),
    Moved(String, String, usize),
}

impl Name {
    fn folder(&self) -> &str {
        let (Name::Put(path, _) | Name::Removed(path) | Name::Moved(_, path, _)) = self;
        parent(path)
    }

    fn apply(&self, names: &mut BTreeMap<String, usize>) {
        match self {
            Name::Put(path, node) => drop(names.insert(path.clone(), *node)),
            Name::Removed(path) => drop(names.remove(path)),
            Name::Moved(from, to, node) => {
                names.remove(from);
                names.insert(to.clone(), *node);
            }
        }
    }
}

/// A disk as one program sees it, and as it would be without power.
#[derive(Clone, Debug)]
pub struct Volume {
    nodes: Vec<Node>,
    names: BTreeMap<String, usize>,
    durable: BTreeMap<String, usize>,
    pending: Vec<Name>,
}

fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or(".", |(folder, _)| folder)
}

impl Volume {
    /// All of a folder, durable.
    pub fn of(folder: &Path) -> Result<Volume> {
        let root = Node { is_folder: true, mode: 0o700, ..Node::default() };
        let names = BTreeMap::from([(".".to_owned(), 0)]);
        let mut volume = Volume { nodes: vec![root], names, durable: BTreeMap::new(), pending: Vec::new() };
        volume.load(folder, "")?;
        volume.durable = volume.names.clone();
        Ok(volume)
    }

    fn load(&mut self, root: &Path, below: &str) -> Result<()> {
        for item in fs::read_dir(root.join(below))? {
            let item = item?;
            let name = item.file_name().into_string().ok().context("a name that is no text")?;
            let path = if below.is_empty() { name } else { format!("{below}/{name}") };
            let is_folder = item.file_type()?.is_dir();
            let bytes = if is_folder { Vec::new() } else { fs::read(item.path())? };
            let mode = item.metadata()?.permissions().mode() & 0o777;
            self.nodes.push(Node { is_folder, mode, bytes, changes: Vec::new() });
            self.names.insert(path.clone(), self.nodes.len() - 1);
            if is_folder {
                self.load(root, &path)?;
            }
        }
        Ok(())
    }

    fn name(&mut self, name: Name) {
        name.apply(&mut self.names);
        self.pending.push(name);
    }

    /// What one call does.
    pub fn take(&mut self, call: &Call) -> Result<()> {
        let node = self.names.get(&call.path).copied();
        let known = || node.with_context(|| format!("{} of an unknown file {}", call.what, call.path));
        match call.what.as_str() {
            "create" | "mkdir" => {
                let is_folder = call.what == "mkdir";
                let mode = if is_folder { 0o700 } else { 0o600 };
                self.nodes.push(Node { is_folder, mode, ..Node::default() });
                let name = Name::Put(call.path.clone(), self.nodes.len() - 1);
                self.name(name);
            }
            "link" => {
                let name = Name::Put(call.other.clone(), known()?);
                self.name(name);
            }
            "rename" => {
                let name = Name::Moved(call.path.clone(), call.other.clone(), known()?);
                self.name(name);
            }
            "unlink" => {
                known()?;
                self.name(Name::Removed(call.path.clone()));
            }
            "write" => {
                let change = Change::Write { offset: call.number as usize, bytes: call.bytes.clone() };
                self.nodes[known()?].changes.push(change);
            }
            "empty" => self.nodes[known()?].changes.push(Change::Length(0)),
            "truncate" => self.nodes[known()?].changes.push(Change::Length(call.number as usize)),
            "chmod" => self.nodes[known()?].changes.push(Change::Mode(call.number as u32)),
            "sync" => self.sync(known()?, &call.path),
            _ => {}
        }
        Ok(())
    }

    fn sync(&mut self, index: usize, path: &str) {
        let node = &mut self.nodes[index];
        if !node.is_folder {
            for change in std::mem::take(&mut node.changes) {
                change.apply(node);
            }
            return;
        }
        let (durable, rest) = self.pending.drain(..).partition(|name| name.folder() == path);
        self.pending = rest;
        let durable: Vec<Name> = durable;
        durable.iter().for_each(|name| name.apply(&mut self.durable));
    }

    /// One of the states that a loss of power may leave, written to a new folder.
    pub fn lose_power(&self, random: &mut Random, into: &Path) -> Result<()> {
        let mut names = self.durable.clone();
        let mut kept: BTreeMap<&str, usize> = BTreeMap::new();
        for name in &self.pending {
            let of_folder = self.pending.iter().filter(|other| other.folder() == name.folder()).count();
            let left = kept
                .entry(name.folder())
                .or_insert_with(|| *random.one(&[0, of_folder, random.clone().below(of_folder + 1)]));
            if *left > 0 {
                *left -= 1;
                name.apply(&mut names);
            }
        }
        fs::create_dir_all(into)?;
        // Nobody finds a name whose folder has none. Folders sort before what is in them.
        let mut found: Vec<&str> = Vec::new();
        for (path, index) in names.iter().filter(|(path, _)| *path != ".") {
            if parent(path) != "." && !found.contains(&parent(path)) {
                continue;
            }
            let mut node = self.nodes[*index].clone();
            let target = into.join(path);
            if node.is_folder {
                found.push(path);
                fs::create_dir_all(&target)?;
                continue;
            }
            node.lose_power(random);
            fs::write(&target, &node.bytes)?;
            fs::set_permissions(&target, Permissions::from_mode(node.mode))?;
        }
        Ok(())
    }
}

impl Change {
    fn apply(&self, node: &mut Node) {
        match self {
            Change::Mode(mode) => node.mode = *mode,
            Change::Length(length) => node.bytes.resize(*length, 0),
            Change::Write { offset, bytes } => {
                let end = offset + bytes.len();
                if node.bytes.len() < end {
                    node.bytes.resize(end, 0);
                }
                node.bytes[*offset..end].copy_from_slice(bytes);
            }
        }
    }
}

impl Node {
    /// Some of what was not synced is there: none, all, those up to some point, or any; the last one may be torn.
    fn lose_power(&mut self, random: &mut Random) {
        let mut changes = std::mem::take(&mut self.changes);
        match random.below(4) {
            0 => changes.clear(),
            1 => {}
            2 => changes.truncate(random.below(changes.len() + 1)),
            _ => changes.retain(|_| random.below(2) == 0),
        }
        if let Some(Change::Write { bytes, .. }) = changes.last_mut()
            && random.below(2) == 0
        {
            bytes.truncate(random.below(bytes.len() + 1));
        }
        changes.iter().for_each(|change| change.apply(self));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(what: &str, path: &str, other: &str, bytes: &[u8]) -> Call {
        let (what, path, other) = (what.to_owned(), path.to_owned(), other.to_owned());
        Call { what, path, other, number: 0, bytes: bytes.to_vec(), end: 0 }
    }

    /// The contents of a file over many losses of power; `None` where it is not there.
    fn seen(calls: &[Call], name: &str) -> std::collections::BTreeSet<Option<Vec<u8>>> {
        let empty = tempfile::tempdir().unwrap();
        let mut volume = Volume::of(empty.path()).unwrap();
        calls.iter().for_each(|call| volume.take(call).unwrap());
        let state = |seed| {
            let folder = tempfile::tempdir().unwrap();
            volume.lose_power(&mut Random::of(seed), folder.path()).unwrap();
            fs::read(folder.path().join(name)).ok()
        };
        (0..200).map(state).collect()
    }

    #[test]
    fn what_is_not_synced_may_be_missing_or_torn_and_what_is_synced_is_there() {
        let mut calls = vec![call("create", "a", "", b""), call("write", "a", "", b"xyz")];
        let (whole, torn) = (Some(b"xyz".to_vec()), Some(b"xy".to_vec()));
        let states = seen(&calls, "a");
        assert!(states.contains(&None) && states.contains(&whole) && states.contains(&torn));
        calls.push(call("sync", "a", "", b""));
        assert_eq!(seen(&calls, "a"), [None, whole.clone()].into(), "its name is not durable yet");
        calls.push(call("sync", ".", "", b""));
        assert_eq!(seen(&calls, "a"), [whole.clone()].into());
        calls.push(call("create", "b", "", b""));
        calls.push(call("rename", "b", "a", b""));
        assert_eq!(seen(&calls, "a"), [Some(Vec::new()), whole].into());
    }
}
