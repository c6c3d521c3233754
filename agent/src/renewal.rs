//! Other keys for the same host: the certificate, renewed over the still valid one before its time is over, and the key
//! that certifies epochs, which hands over to a new one. Nothing that works is given up before its successor is on disk.
//! Must not enrol, and must not open an epoch.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use custody_decoders::item::Field;
use custody_ledger::line::LINE_MAX;
use custody_ledger::wire::{self, RenewRequest, RenewResponse};
use custody_ledger::{EntryType, HostKey, PublicKey, tree};
use custody_record::names;
use hyper::Method;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use x509_parser::prelude::{FromDer, X509Certificate};
use zeroize::Zeroizing;

use crate::chain::Input;
use crate::clock;
use crate::events;
use crate::identity::Identity;
use crate::sink_client::{self, Client, Credentials};

/// How often the certificate is looked at.
const LOOK: Duration = Duration::from_secs(3600);
/// One request waits this long for its answer where a person waits too.
const TIMEOUT: Duration = Duration::from_secs(30);
/// A certificate is renewed when this part of its time is over, in thirds.
const THIRDS_BEFORE: i64 = 2;

/// The time of a certificate, seconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Validity {
    from_s: i64,
    until_s: i64,
}

impl Validity {
    fn of(der: &[u8]) -> Result<Self> {
        let (_, certificate) = X509Certificate::from_der(der).context("the host's certificate is damaged")?;
        let validity = certificate.validity();
        Ok(Validity { from_s: validity.not_before.timestamp(), until_s: validity.not_after.timestamp() })
    }

    fn is_due(&self, now_s: i64) -> bool {
        now_s >= self.from_s + (self.until_s - self.from_s) / 3 * THIRDS_BEFORE
    }
}

/// Renews the certificate of the running agent when it is due, and takes over one that a person had renewed.
pub struct Renewer {
    /// Where the identity lies.
    pub state_directory: PathBuf,
    /// What the agent's connections show.
    pub credentials: Arc<Credentials>,
    /// A connection of its own.
    pub client: Client,
    /// Another certificate is recorded.
    pub recorder: SyncSender<Input>,
}

impl Renewer {
    /// Looks at the certificate until it is dropped.
    pub async fn run(mut self) {
        loop {
            if let Err(error) = self.look().await {
                events::certificate_not_renewed(&error);
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn look(&mut self) -> Result<()> {
        let mut identity = Identity::load(&self.state_directory)?;
        let now_s = i64::try_from(clock::wall_ns() / 1_000_000_000).unwrap_or(i64::MAX);
        if Validity::of(&der(&identity.certificate)?)?.is_due(now_s) {
            identity = renew(identity, &self.state_directory, &mut self.client).await?;
        }
        if !self.credentials.take(&identity)? {
            return Ok(());
        }
        let hash = tree::hash_of(&der(&identity.certificate)?).to_string();
        events::certificate_renewed(&hash);
        let fact = Input::Fact(EntryType::Key, vec![Field::structure(names::AGENT_CERTIFICATE, hash)]);
        let recorder = self.recorder.clone();
        let told = tokio::task::spawn_blocking(move || recorder.send(fact).is_ok());
        ensure!(told.await.context("recording another certificate")?, "the recorder ended");
        Ok(())
    }
}

/// Gets another certificate now; answers its hash.
pub async fn renew_certificate(state_directory: &Path) -> Result<String> {
    let identity = Identity::load(state_directory)?;
    let mut client = Client::enrolled(&identity, &Credentials::of(&identity)?, TIMEOUT)?;
    let renewed = renew(identity, state_directory, &mut client).await?;
    Ok(tree::hash_of(&der(&renewed.certificate)?).to_string())
}

/// Asks over the certificate of today; the new one is stored when the sink has answered to it.
async fn renew(identity: Identity, state_directory: &Path, client: &mut Client) -> Result<Identity> {
    let host = identity.facts.host;
    let key = rcgen::KeyPair::generate()?;
    let request = rcgen::CertificateParams::default().serialize_request(&key)?.der().to_vec();
    let proof = identity.host_key()?.prove_renewal(host, &request);
    let message = RenewRequest { certificate_request: request, line: identity.line.clone(), proof };
    let body = Bytes::from(wire::encode(&message)?);
    let answer = client.send(Method::POST, &wire::certificate_path(host), wire::CONTENT_TYPE, body).await?;
    let RenewResponse { certificate } =
        sink_client::read(&answer).context("the sink gave no other certificate")?;
    let renewed = Identity { certificate, certificate_key: Zeroizing::new(key.serialize_pem()), ..identity };
    let mut with_it = Client::enrolled(&renewed, &Credentials::of(&renewed)?, TIMEOUT)?;
    let answer = with_it.send(Method::GET, &wire::head_path(host), wire::CONTENT_TYPE, Bytes::new()).await?;
    ensure!(answer.status == 200, sink_client::refusal(&answer).context("the new certificate does not work"));
    renewed.store_certificate(state_directory)?;
    Ok(renewed)
}

fn der(certificate: &str) -> Result<CertificateDer<'static>> {
    CertificateDer::from_pem_slice(certificate.as_bytes()).context("the host's certificate is damaged")
}

/// Hands the host's epochs over to a new key, from the next start of the agent on. The old key is overwritten; the sink is
/// not asked, for the next epoch says it all. Answers the old and the new key.
pub fn rotate_host_key(state_directory: &Path) -> Result<(PublicKey, PublicKey)> {
    let _only_one = Identity::lock(state_directory)?;
    let identity = Identity::load(state_directory)?;
    let old = identity.host_key()?;
    let (new, bytes) = HostKey::generate()?;
    let mut line = identity.line.clone();
    if line.len() >= LINE_MAX {
        bail!("this host has used up its {LINE_MAX} rotations: enrol it anew");
    }
    line.push(old.hand_over(identity.facts.host, &new.public()));
    Identity { line, host_key: bytes, ..identity }.store_host_key(state_directory)?;
    Ok((old.public(), new.public()))
}

#[cfg(test)]
mod tests {
    use custody_ledger::{HostId, line};

    use super::*;
    use crate::identity::Facts;

    fn enrolled(folder: &Path) -> PublicKey {
        let (key, host_key) = HostKey::generate().unwrap();
        let facts = Facts {
            host: HostId::from_bytes([7; 16]),
            sink_url: "https://localhost:1".to_owned(),
            sink: key.public(),
        };
        let identity = Identity {
            facts,
            certificate: "certificate".to_owned(),
            certificate_key: Zeroizing::new("key".to_owned()),
            authority: String::new(),
            host_key,
            line: Vec::new(),
        };
        identity.store(folder).unwrap();
        key.public()
    }

    #[test]
    fn each_rotation_goes_on_from_the_key_before_and_the_line_leads_from_the_enrolled_one() {
        let folder = tempfile::tempdir().unwrap();
        let enrolled = enrolled(folder.path());
        let mut newest = enrolled;
        for rotations in 1..=LINE_MAX {
            let (old, new) = rotate_host_key(folder.path()).unwrap();
            assert_eq!(old, newest);
            newest = new;
            let identity = Identity::load(folder.path()).unwrap();
            assert_eq!(identity.line.len(), rotations);
            assert_eq!(identity.host_key().unwrap().public(), new);
            assert_eq!(line::follow(identity.facts.host, &enrolled, &old, &identity.line), Ok(new));
        }
        let refused = rotate_host_key(folder.path()).unwrap_err().to_string();
        assert!(refused.contains("enrol it anew"), "{refused}");
    }

    #[test]
    fn a_rotation_that_was_cut_off_before_its_key_was_there_leaves_the_old_one() {
        let folder = tempfile::tempdir().unwrap();
        let enrolled = enrolled(folder.path());
        let host_key = Identity::folder(folder.path()).join("host.key");
        let before = std::fs::read(&host_key).unwrap();
        rotate_host_key(folder.path()).unwrap();
        // The line was written, and not the key.
        std::fs::write(&host_key, before).unwrap();
        let identity = Identity::load(folder.path()).unwrap();
        assert_eq!((identity.host_key().unwrap().public(), identity.line.len()), (enrolled, 0));
        let (old, _) = rotate_host_key(folder.path()).unwrap();
        assert_eq!((old, Identity::load(folder.path()).unwrap().line.len()), (enrolled, 1));
    }

    #[test]
    fn a_renewed_certificate_comes_with_its_key_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        enrolled(folder.path());
        let pair = rcgen::KeyPair::generate().unwrap();
        let certificate = rcgen::CertificateParams::default().self_signed(&pair).unwrap();
        let identity = Identity::load(folder.path()).unwrap();
        let renewed = Identity {
            certificate: certificate.pem(),
            certificate_key: Zeroizing::new(pair.serialize_pem()),
            ..identity
        };
        renewed.store_certificate(folder.path()).unwrap();
        let loaded = Identity::load(folder.path()).unwrap();
        assert_eq!(der(&loaded.certificate).unwrap(), *certificate.der());
        let credentials = Credentials::of(&loaded).unwrap();
        assert!(!credentials.take(&loaded).unwrap(), "it is the same one");
    }

    #[test]
    fn a_certificate_is_due_while_a_third_of_its_time_is_left() {
        let validity = Validity { from_s: 1_000, until_s: 4_000 };
        assert!(!validity.is_due(2_999));
        assert!(validity.is_due(3_000) && validity.is_due(5_000));
    }
}
