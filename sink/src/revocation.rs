//! Certificates that are no longer believed: one file per identity under `revoked/`, so that `custody-sink revoke`
//! works while the sink runs. Asked at each request; nothing is kept in memory that could be out of date. That a file came,
//! or went away, is stated in the store ([`statements`]).

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use custody_ledger::tree::hash_of;

use crate::clock::now_ns;
use crate::files::{self, FileError, failed};
use crate::identity::Identity;

pub mod statements;

/// Longest reason of a revocation, bytes.
pub const REASON_BYTES_MAX: usize = 256;

/// The folder of revocations.
pub struct Revocations {
    folder: PathBuf,
}

/// What one file of the folder says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revocation {
    /// Whose certificates.
    pub identity: Identity,
    /// Up to when they are believed no more, seconds since 1970.
    pub until_s: u64,
    /// Why, as the person said who revoked them.
    pub reason: Option<String>,
}

impl Revocation {
    fn parse(text: &str) -> Option<Self> {
        let (until_s, rest) = text.split_once(' ')?;
        let (identity, reason) = rest.split_once('\n')?;
        let (identity, until_s) = (identity.parse().ok()?, until_s.parse().ok()?);
        let reason = Some(reason.trim_end()).filter(|reason| !reason.is_empty());
        Some(Revocation { identity, until_s, reason: reason.map(crate::denied::shown) })
    }
}

impl Revocations {
    /// Opens the folder under the state directory.
    pub fn open(state_directory: &Path) -> Result<Self, FileError> {
        let folder = state_directory.join("revoked");
        fs::create_dir_all(&folder).map_err(failed("create", &folder))?;
        files::give_to_owner_of(state_directory, &folder)?;
        Ok(Revocations { folder })
    }

    /// From now on, no certificate that this identity was given so far is believed. Durable when it returns.
    pub fn revoke(&self, identity: &Identity, reason: Option<&str>) -> Result<(), FileError> {
        let path = self.path(identity);
        let reason = reason.map(|reason| format!("{reason}\n")).unwrap_or_default();
        let text = format!("{} {identity}\n{reason}", now_ns() / 1_000_000_000);
        files::replace(&path, text.as_bytes(), 0o600)
    }

    /// Whether a certificate that was issued then, seconds since 1970, is revoked. One of the very second of the
    /// revocation is, and each while a file of nonsense stands for its identity: nobody is let in by a damaged file. An
    /// error says that it cannot be known now: nobody is let in by it either, and nobody is called revoked.
    pub fn is_revoked(&self, identity: &Identity, issued_s: i64) -> Result<bool, FileError> {
        let path = self.path(identity);
        let text = match fs::read(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
            read => read.map_err(failed("read", &path))?,
        };
        let text = String::from_utf8_lossy(&text);
        let until = text.split_once(' ').and_then(|(seconds, _)| seconds.parse::<i64>().ok());
        Ok(until.is_none_or(|until| issued_s <= until))
    }

    /// When the folder changed last, as far as its file system tells moments apart.
    fn changed(&self) -> Option<SystemTime> {
        fs::metadata(&self.folder).and_then(|folder| folder.modified()).ok()
    }

    /// Every file of the folder that can be read and stands under its own name.
    fn list(&self) -> Result<Vec<Revocation>, FileError> {
        let mut all = Vec::new();
        for item in fs::read_dir(&self.folder).map_err(failed("read", &self.folder))? {
            let path = item.map_err(failed("read", &self.folder))?.path();
            let read = fs::read_to_string(&path).ok().and_then(|text| Revocation::parse(&text));
            all.extend(read.filter(|revocation| self.path(&revocation.identity) == path));
        }
        Ok(all)
    }

    /// Whether there is a file for this identity, whatever it says.
    fn has(&self, identity: &Identity) -> bool {
        !matches!(fs::symlink_metadata(self.path(identity)), Err(error) if error.kind() == ErrorKind::NotFound)
    }

    fn path(&self, identity: &Identity) -> PathBuf {
        self.folder.join(hash_of(identity.to_string().as_bytes()).to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::Role;

    fn dana(role: Role) -> Identity {
        Identity::Person { role, name: "dana@corp".to_owned() }
    }

    #[test]
    fn what_was_issued_before_is_revoked_and_what_comes_after_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let revocations = Revocations::open(folder.path()).unwrap();
        let now = i64::try_from(now_ns() / 1_000_000_000).unwrap();
        assert!(!revocations.is_revoked(&dana(Role::Reader), now).unwrap());
        revocations.revoke(&dana(Role::Reader), None).unwrap();
        assert!(revocations.is_revoked(&dana(Role::Reader), now).unwrap());
        assert!(!revocations.is_revoked(&dana(Role::Reader), now + 3600).unwrap());
        assert!(!revocations.is_revoked(&dana(Role::Auditor), now).unwrap(), "another credential");
    }

    #[test]
    fn a_damaged_revocation_lets_nobody_in_and_is_not_taken_for_one_that_went_away() {
        let folder = tempfile::tempdir().unwrap();
        let revocations = Revocations::open(folder.path()).unwrap();
        let host = Identity::Host(custody_ledger::HostId::from_bytes([1; 16]));
        fs::write(revocations.path(&host), b"nonsense \xff").unwrap();
        assert!(revocations.is_revoked(&host, i64::MAX).unwrap());
        assert!(revocations.list().unwrap().is_empty() && revocations.has(&host));
    }

    #[test]
    fn a_revocation_that_cannot_be_read_now_is_an_error_and_no_revocation() {
        let folder = tempfile::tempdir().unwrap();
        let revocations = Revocations::open(folder.path()).unwrap();
        fs::create_dir(revocations.path(&dana(Role::Reader))).unwrap();
        let error = revocations.is_revoked(&dana(Role::Reader), 0).unwrap_err();
        assert!(error.to_string().starts_with("cannot read"), "{error}");
    }

    #[test]
    fn a_reason_is_read_back_harmless_and_a_file_under_another_name_says_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let revocations = Revocations::open(folder.path()).unwrap();
        revocations.revoke(&dana(Role::Reader), Some("lost her laptop\u{1b}[2J")).unwrap();
        let listed = revocations.list().unwrap();
        assert_eq!(listed.len(), 1);
        assert_eq!(listed[0].reason.as_deref(), Some("lost her laptop\\u{1b}[2J"));
        fs::rename(revocations.path(&dana(Role::Reader)), revocations.path(&dana(Role::Auditor))).unwrap();
        assert_eq!(revocations.list().unwrap(), []);
    }
}
