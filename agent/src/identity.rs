//! Who this host is to its sink: key, certificate, host id, and the sink's own key. One folder that enrolment
//! makes whole or not at all.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use custody_ledger::{HandOver, HostId, HostKey, PublicKey};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::files;

/// Folder below the state directory.
pub const FOLDER: &str = "identity";
const FACTS: &str = "identity.toml";
const CERTIFICATE: &str = "certificate.pem";
const CERTIFICATE_KEY: &str = "certificate.key";
const AUTHORITY: &str = "ca.pem";
/// Another certificate with its key, in one file so that neither is there without the other. It stands for both.
const RENEWED: &str = "renewed.pem";
const HOST_KEY: &str = "host.key";
/// Written before the key that it leads to: what goes beyond that key is not there yet.
const LINE: &str = "host.line.json";

/// What is no secret.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Facts {
    /// Given by the sink.
    pub host: HostId,
    /// `https://host:port`.
    pub sink_url: String,
    /// Signs receipts.
    pub sink: PublicKey,
}

/// The identity as it lies on disk.
pub struct Identity {
    /// What is no secret.
    pub facts: Facts,
    /// Client certificate, PEM.
    pub certificate: String,
    /// Its key, PEM.
    pub certificate_key: Zeroizing<String>,
    /// The sink's authority, PEM.
    pub authority: String,
    /// PKCS#8 of the key that certifies this host's epochs.
    pub host_key: Zeroizing<Vec<u8>>,
    /// From the enrolled key to that one; empty while it is the enrolled one.
    pub line: Vec<HandOver>,
}

impl Identity {
    /// Where it lies.
    pub fn folder(state_directory: &Path) -> PathBuf {
        state_directory.join(FOLDER)
    }

    /// Reads it, or says that the host must be enrolled.
    pub fn load(state_directory: &Path) -> Result<Self> {
        let folder = Self::folder(state_directory);
        if !folder.try_exists().with_context(|| format!("cannot look into {}", state_directory.display()))? {
            bail!(
                "this host is not enrolled: {} does not exist; get a token by `custody-sink enroll --host` \
                 on the sink and run `custody-agent enroll TOKEN`",
                folder.display()
            );
        }
        let read = |name: &str| {
            let path = folder.join(name);
            std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))
        };
        let text = |name: &str| {
            String::from_utf8(read(name)?)
                .map_err(|_| anyhow::anyhow!("{}/{name} is no text", folder.display()))
        };
        let facts = toml::from_str(&text(FACTS)?)
            .with_context(|| format!("{}/{FACTS} is damaged", folder.display()))?;
        let is_there = |name: &str| {
            folder.join(name).try_exists().with_context(|| format!("cannot look into {}", folder.display()))
        };
        let [certificate, key] =
            if is_there(RENEWED)? { [RENEWED, RENEWED] } else { [CERTIFICATE, CERTIFICATE_KEY] };
        let line = if is_there(LINE)? {
            serde_json::from_slice(&read(LINE)?)
                .with_context(|| format!("{}/{LINE} is damaged", folder.display()))?
        } else {
            Vec::new()
        };
        let mut identity = Identity {
            facts,
            certificate: text(certificate)?,
            certificate_key: Zeroizing::new(text(key)?),
            authority: text(AUTHORITY)?,
            host_key: Zeroizing::new(read(HOST_KEY)?),
            line,
        };
        if !identity.line.is_empty() {
            let newest = identity.host_key()?.public();
            let length = identity.line.iter().rposition(|step| step.key == newest).map_or(0, |last| last + 1);
            identity.line.truncate(length);
        }
        Ok(identity)
    }

    /// Nobody else changes the keys while the answer lives.
    pub fn lock(state_directory: &Path) -> Result<std::fs::File> {
        let folder = Self::folder(state_directory);
        let opened = std::fs::File::open(&folder);
        let file = opened.with_context(|| format!("cannot open {}: enrol this host", folder.display()))?;
        rustix::fs::flock(&file, rustix::fs::FlockOperation::LockExclusive)?;
        Ok(file)
    }

    /// Replaces certificate and TLS key, both or neither.
    pub fn store_certificate(&self, state_directory: &Path) -> Result<()> {
        let _only_one = Self::lock(state_directory)?;
        let both = Zeroizing::new(format!("{}{}", self.certificate, self.certificate_key.as_str()));
        files::replace(&Self::folder(state_directory).join(RENEWED), both.as_bytes())
    }

    /// Replaces the key that certifies epochs, after the line that leads to it.
    pub fn store_host_key(&self, state_directory: &Path) -> Result<()> {
        let folder = Self::folder(state_directory);
        files::replace(&folder.join(LINE), &serde_json::to_vec(&self.line)?)?;
        files::replace(&folder.join(HOST_KEY), &self.host_key)
    }

    /// The key that certifies epochs.
    pub fn host_key(&self) -> Result<HostKey> {
        HostKey::from_pkcs8(&self.host_key).context("the host key is damaged; enrol this host anew")
    }

    /// Writes it. The folder appears whole, by one rename.
    pub fn store(&self, state_directory: &Path) -> Result<()> {
        let folder = Self::folder(state_directory);
        let temporary = state_directory.join("identity.new");
        if temporary.exists() {
            std::fs::remove_dir_all(&temporary)
                .with_context(|| format!("cannot remove {}", temporary.display()))?;
        }
        files::make_private_folder(&temporary)?;
        let facts = toml::to_string(&self.facts)?;
        for (name, bytes) in [
            (FACTS, facts.as_bytes()),
            (CERTIFICATE, self.certificate.as_bytes()),
            (CERTIFICATE_KEY, self.certificate_key.as_bytes()),
            (AUTHORITY, self.authority.as_bytes()),
            (HOST_KEY, &self.host_key),
        ] {
            let path = temporary.join(name);
            files::write_new(&path, bytes).with_context(|| format!("cannot write {}", path.display()))?;
        }
        files::sync_folder(&temporary)?;
        std::fs::rename(&temporary, &folder)
            .with_context(|| format!("cannot put the identity into place as {}", folder.display()))?;
        files::sync_folder(state_directory)
    }
}
