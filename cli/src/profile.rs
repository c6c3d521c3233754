//! What `login` leaves: which sink, whose certificate. Private files in a private folder.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};
use serde::{Deserialize, Serialize};

const FILE: &str = "profile.toml";
const CHECKPOINTS: &str = "checkpoints";

/// One sink and who we are to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Profile {
    /// `https://host:port`.
    pub(crate) url: String,
    /// As in the certificate, such as `custody:person:reader:dana@corp`.
    pub(crate) identity: String,
    /// The key that signs the sink's receipts, hexadecimal.
    pub(crate) sink_key: String,
    /// The sink's CA certificate, PEM.
    pub(crate) ca: String,
    /// Our certificate, PEM.
    pub(crate) certificate: String,
    /// Our private key, PEM.
    pub(crate) key: String,
}

impl Profile {
    /// Reads the profile of this user.
    pub(crate) fn load() -> anyhow::Result<Self> {
        Profile::load_from(&folder()?)
    }

    fn load_from(folder: &Path) -> anyhow::Result<Self> {
        let path = folder.join(FILE);
        let text = fs::read_to_string(&path).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => anyhow!(
                "you are not logged in at a sink: get a token from `custody-sink enroll` and run `custody login TOKEN`, \
                 or read a store's folder with --from DIR"
            ),
            _ => anyhow::Error::new(error).context(format!("cannot read {}", path.display())),
        })?;
        toml::from_str(&text).map_err(|error| {
            // The parser's own message quotes the line, which may hold the key.
            anyhow!("{} is damaged ({}): run `custody login TOKEN` again", path.display(), error.message())
        })
    }

    /// Replaces the profile of this user, whole or not at all.
    pub(crate) fn save(&self) -> anyhow::Result<PathBuf> {
        let folder = folder()?;
        self.save_to(&folder)?;
        Ok(folder.join(FILE))
    }

    fn save_to(&self, folder: &Path) -> anyhow::Result<()> {
        let failed = || format!("cannot write the profile in {}", folder.display());
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).with_context(failed)?;
        let draft = folder.join(format!(".{FILE}.{}", std::process::id()));
        let write = || -> std::io::Result<()> {
            let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
            file.write_all(toml::to_string(self).map_err(std::io::Error::other)?.as_bytes())?;
            file.sync_all()?;
            fs::rename(&draft, folder.join(FILE))
        };
        write().inspect_err(|_| drop(fs::remove_file(&draft))).with_context(failed)
    }

    /// Whether it shows the whole log, and not a reader's part.
    pub(crate) fn is_auditor(&self) -> bool {
        !self.identity.starts_with("custody:person:reader:")
    }

    /// The role, its scope and the name in the identity, for people.
    pub(crate) fn who(&self) -> String {
        match self.identity.strip_prefix("custody:person:").and_then(|rest| rest.split_once(':')) {
            Some((role, subject)) => match subject.split_once(';') {
                Some((name, scope)) => format!("{name} ({role} of {})", scope.replace(';', " ")),
                None => format!("{subject} ({role})"),
            },
            None => self.identity.clone(),
        }
    }
}

/// Where `custody verify --follow` keeps what it saw of a sink.
pub(crate) fn follow_file(sink_key: &str) -> anyhow::Result<PathBuf> {
    Ok(folder()?.join("follow").join(format!("{}.json", file_name(sink_key))))
}

/// The newest checkpoint of a log that this user has seen.
pub(crate) fn checkpoint(origin: &str) -> Option<String> {
    fs::read_to_string(folder().ok()?.join(CHECKPOINTS).join(file_name(origin))).ok()
}

/// Keeps the newest one.
pub(crate) fn keep_checkpoint(origin: &str, note: &str) -> anyhow::Result<()> {
    let folder = folder()?.join(CHECKPOINTS);
    fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
    let draft = folder.join(format!(".draft.{}", std::process::id()));
    fs::write(&draft, note)?;
    Ok(fs::rename(&draft, folder.join(file_name(origin)))?)
}

/// An origin as a file's name: it comes from outside.
fn file_name(origin: &str) -> String {
    origin.bytes().map(|byte| if byte.is_ascii_alphanumeric() { byte as char } else { '-' }).collect()
}

/// `$CUSTODY_HOME`, else `$XDG_CONFIG_HOME/custody`, else `~/.config/custody`.
fn folder() -> anyhow::Result<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    set("CUSTODY_HOME")
        .or_else(|| set("XDG_CONFIG_HOME").map(|folder| folder.join("custody")))
        .or_else(|| set("HOME").map(|home| home.join(".config/custody")))
        .context("neither CUSTODY_HOME nor HOME is set, so there is no place for the profile")
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_profile_is_private_and_reads_back() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("new");
        let profile = Profile {
            url: "https://localhost:7443".into(),
            identity: "custody:person:reader:dana@corp".into(),
            sink_key: "00".repeat(32),
            ca: "ca".into(),
            certificate: "certificate".into(),
            key: "SECRET".into(),
        };
        profile.save_to(&folder).unwrap();
        profile.save_to(&folder).unwrap();
        assert_eq!(Profile::load_from(&folder).unwrap(), profile);
        assert_eq!(profile.who(), "dana@corp (reader)");
        let scoped = "custody:person:reader:dana@corp;env=prod;team=db".to_owned();
        assert_eq!(
            Profile { identity: scoped, ..profile.clone() }.who(),
            "dana@corp (reader of env=prod team=db)"
        );
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&folder), mode(&folder.join(FILE))), (0o700, 0o600));
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);
    }

    #[test]
    fn a_damaged_profile_shows_no_key() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(FILE), "key = 'SECRET' oops").unwrap();
        let error = format!("{:#}", Profile::load_from(folder.path()).unwrap_err());
        assert!(error.contains("damaged") && !error.contains("SECRET"), "{error}");
    }
}
