//! Certificates that are no longer believed: one file per identity under `revoked/`, so that `custody-sink revoke`
//! works while the sink runs. Asked at each request; nothing is kept in memory that could be out of date.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use custody_ledger::tree::hash_of;

use crate::clock::now_ns;
use crate::files::{self, FileError, failed};
use crate::identity::Identity;

/// The folder of revocations.
pub struct Revocations {
    folder: PathBuf,
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
    pub fn revoke(&self, identity: &Identity) -> Result<(), FileError> {
        let path = self.path(identity);
        // The name is for people who look into the folder.
        let text = format!("{} {identity}\n", now_ns() / 1_000_000_000);
        files::replace(&path, text.as_bytes(), 0o600)
    }

    /// Whether a certificate that was issued then, seconds since 1970, is revoked. One of the very second of the
    /// revocation is. What cannot be read counts as revoked: nobody is let in by a damaged file.
    pub fn is_revoked(&self, identity: &Identity, issued_s: i64) -> bool {
        let path = self.path(identity);
        match fs::read_to_string(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => false,
            Err(error) => {
                tracing::error!(path = %path.display(), %error, "a revocation cannot be read");
                true
            }
            Ok(text) => {
                let since = text.split_once(' ').and_then(|(seconds, _)| seconds.parse::<i64>().ok());
                since.is_none_or(|since| issued_s <= since)
            }
        }
    }

    fn path(&self, identity: &Identity) -> PathBuf {
        self.folder.join(hash_of(identity.to_string().as_bytes()).to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::Role;

    #[test]
    fn what_was_issued_before_is_revoked_and_what_comes_after_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let revocations = Revocations::open(folder.path()).unwrap();
        let dana = |role| Identity::Person { role, name: "dana@corp".to_owned() };
        let now = i64::try_from(now_ns() / 1_000_000_000).unwrap();
        assert!(!revocations.is_revoked(&dana(Role::Reader), now));
        revocations.revoke(&dana(Role::Reader)).unwrap();
        assert!(revocations.is_revoked(&dana(Role::Reader), now));
        assert!(!revocations.is_revoked(&dana(Role::Reader), now + 3600));
        assert!(!revocations.is_revoked(&dana(Role::Auditor), now), "another credential");
    }

    #[test]
    fn a_damaged_revocation_lets_nobody_in() {
        let folder = tempfile::tempdir().unwrap();
        let revocations = Revocations::open(folder.path()).unwrap();
        let host = Identity::Host(custody_ledger::HostId::from_bytes([1; 16]));
        fs::write(revocations.path(&host), "nonsense").unwrap();
        assert!(revocations.is_revoked(&host, i64::MAX));
    }
}
