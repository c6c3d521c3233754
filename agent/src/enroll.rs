//! `custody-agent enroll TOKEN`: makes this host's keys, gets its id and certificate from the sink, writes all
//! of it at once.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use custody_ledger::HostKey;
use custody_ledger::wire::{self, ChainRegistration, EnrolRequest, EnrolResponse, JoinToken};
use hyper::Method;
use zeroize::Zeroizing;

use crate::files;
use crate::identity::{Facts, Identity};
use crate::sink_client::{self, Client, Credentials};

const TIMEOUT: Duration = Duration::from_secs(30);

/// Enrols this host; returns what it is from now on.
pub async fn enroll(token: &str, state_directory: &Path) -> Result<Facts> {
    let token: JoinToken = token.parse()?;
    let folder = Identity::folder(state_directory);
    files::make_private_folder(state_directory)?;
    if folder.exists() {
        bail!(
            "this host is enrolled already: move {} away to enrol it anew (its old chain then ends)",
            folder.display()
        );
    }
    let (host_key, host_key_bytes) = HostKey::generate()?;
    let certificate_key = rcgen::KeyPair::generate()?;
    let request = rcgen::CertificateParams::default().serialize_request(&certificate_key)?;
    let request = request.der().to_vec();
    let chain = ChainRegistration { key: host_key.public(), proof: host_key.prove_enrolment(&request) };
    let message = EnrolRequest {
        secret: token.secret.to_vec(),
        certificate_request: request,
        name: Some(rustix::system::uname().nodename().to_string_lossy().into_owned()),
        chain: Some(chain),
    };
    let body = Bytes::from(wire::encode(&message)?);
    let mut client = Client::joining(&token.url, token.ca, TIMEOUT)?;
    let answer = client.send(Method::POST, wire::ENROL_PATH, wire::CONTENT_TYPE, body).await?;
    let response: EnrolResponse = sink_client::read(&answer).context("the sink did not enrol this host")?;
    let Some(host) = response.host else {
        bail!(NotOfHosts(response.identity));
    };
    let identity = Identity {
        facts: Facts { host, sink_url: token.url.clone(), sink: response.sink },
        certificate: response.certificate,
        certificate_key: Zeroizing::new(certificate_key.serialize_pem()),
        authority: response.ca,
        host_key: host_key_bytes,
        line: Vec::new(),
    };
    // Before anything is written: what came must be usable.
    Credentials::of(&identity).context("the sink gave an identity that cannot be used")?;
    identity.store(state_directory)?;
    Ok(identity.facts)
}

/// The token enrols a person.
#[derive(Debug, thiserror::Error)]
#[error("this token makes {0}, not a host: get one by `custody-sink enroll --host`")]
pub struct NotOfHosts(String);
