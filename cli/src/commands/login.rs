//! `custody login TOKEN`: a key that never leaves this machine, a certificate for it, and which sink gave it.

use std::io::Read;
use std::sync::Arc;

use anyhow::{Context, anyhow};
use custody_ledger::Hash;
use custody_ledger::tree;
use custody_ledger::wire::{self, EnrolRequest, EnrolResponse, JoinToken};
use rcgen::{CertificateParams, KeyPair};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::{CertificateError, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use crate::args::LoginArgs;
use crate::client::{Client, builder};
use crate::outcome::{Exit, Failure, Outcome};
use crate::profile::Profile;

/// Longest token that is read from standard input, bytes.
const TOKEN_BYTES_MAX: u64 = 4096;

pub(crate) async fn run(arguments: &LoginArgs) -> Outcome {
    let token: JoinToken = read_token(&arguments.token)?.parse().map_err(Failure::usage)?;
    let verifier =
        Arc::new(PinnedRoot { root: token.ca, provider: Arc::new(rustls::crypto::ring::default_provider()) });
    let tls = builder()
        .map_err(Failure::usage)?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    let client = Client::with_tls(&token.url, tls).map_err(Failure::usage)?;
    let key = KeyPair::generate().context("cannot make a key").map_err(Failure::usage)?;
    let request = CertificateParams::default()
        .serialize_request(&key)
        .context("cannot make a certificate request")
        .map_err(Failure::usage)?;
    let request = EnrolRequest {
        secret: token.secret.to_vec(),
        certificate_request: request.der().to_vec(),
        name: None,
        chain: None,
    };
    let body = wire::encode(&request).map_err(Failure::usage)?;
    let response: EnrolResponse = client.post(wire::ENROL_PATH, body).await?;
    if !response.identity.starts_with("custody:person:") {
        return Err(Failure::usage(anyhow!(
            "this token enrols a host, not a person: give it to custody-agent, and ask for one of \
             `custody-sink enroll --role reader --name NAME`"
        )));
    }
    let profile = Profile {
        url: token.url.clone(),
        identity: response.identity,
        sink_key: response.sink.to_string(),
        ca: response.ca,
        certificate: response.certificate,
        key: key.serialize_pem(),
    };
    let path = profile.save().map_err(Failure::usage)?;
    println!("logged in at {} as {}; kept in {}", profile.url, profile.who(), path.display());
    Ok(Exit::Ok)
}

fn read_token(argument: &str) -> Result<String, Failure> {
    if argument != "-" {
        return Ok(argument.to_owned());
    }
    let mut text = String::new();
    std::io::stdin()
        .take(TOKEN_BYTES_MAX)
        .read_to_string(&mut text)
        .context("cannot read the token from standard input")
        .map_err(Failure::usage)?;
    Ok(text)
}

/// Trusts one root: the certificate of the server's own chain whose hash stands in the token. All else is as
/// usual: the chain must lead to it, and carry the name that was dialled.
#[derive(Debug)]
struct PinnedRoot {
    root: Hash,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for PinnedRoot {
    fn verify_server_cert(
        &self,
        server: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let unknown = || rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer);
        let root = chain.iter().find(|one| tree::hash_of(one) == self.root).ok_or_else(unknown)?;
        let mut roots = RootCertStore::empty();
        roots.add(root.clone().into_owned())?;
        WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&self.provider))
            .build()
            .map_err(|_| unknown())?
            .verify_server_cert(server, chain, name, ocsp, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
