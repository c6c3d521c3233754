//! The sink's own certificate authority: made at the first start, signs the server's certificate and those of
//! hosts and people. Names in a request are ignored; the identity comes from the token.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use custody_ledger::tree::hash_of;
use custody_ledger::{Hash, SinkKey};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType, date_time_ymd,
};
use rustls::RootCertStore;
use rustls::ServerConfig;
use rustls::server::WebPkiClientVerifier;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, CertificateSigningRequestDer, PrivateKeyDer, PrivatePkcs8KeyDer};

use crate::clock::now_ns;
use crate::files::{self, FileError, failed};
use crate::identity::Subject;

/// Validity of the authority's own certificate, days.
const AUTHORITY_DAYS: u64 = 3650;
/// Certificates are valid from a little before now, for clients whose clock is behind.
const BACKDATED: Duration = Duration::from_secs(3600);

const CA_CERTIFICATE: &str = "ca.pem";
const CA_KEY: &str = "ca.key";
const RECEIPT_KEY: &str = "receipt.key";

/// Trouble with keys or certificates.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// A file operation failed.
    #[error(transparent)]
    File(#[from] FileError),
    /// A key file does not hold a key.
    #[error("{path} is damaged: {detail}; restore it from a copy, a new one would be a new identity")]
    Damaged {
        /// Which file.
        path: String,
        /// What is wrong.
        detail: String,
    },
    /// Only a part of the keys is there.
    #[error(
        "{present} is there and {missing} is not: restore it from a copy, a new one would be a new identity"
    )]
    Incomplete {
        /// What is there.
        present: &'static str,
        /// What is not.
        missing: &'static str,
    },
    /// A certificate cannot be made.
    #[error("cannot make a certificate: {0}")]
    Certificate(#[from] rcgen::Error),
    /// The TLS configuration does not come together.
    #[error("cannot set TLS up: {0}")]
    Tls(#[from] rustls::Error),
    /// The system's random generator gave nothing.
    #[error(transparent)]
    Key(#[from] custody_ledger::keys::KeyError),
}

/// The authority of one sink.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    ca: CertificateDer<'static>,
    ca_pem: String,
    client_days: u64,
}

impl Authority {
    /// Loads the authority and the receipt key, or makes both at the first start.
    pub fn open(state_directory: &Path, client_days: u64) -> Result<(Self, SinkKey), AuthorityError> {
        let [certificate, key, receipt] =
            [CA_CERTIFICATE, CA_KEY, RECEIPT_KEY].map(|name| state_directory.join(name));
        // The certificate is written last: while it is missing, nothing was ever signed.
        if !certificate.exists() {
            if state_directory.join("index.redb").exists() {
                return Err(AuthorityError::Incomplete { present: "index.redb", missing: CA_CERTIFICATE });
            }
            create(&certificate, &key, &receipt)?;
        }
        let ca = read_certificate(&certificate)?;
        let ca_pem = fs::read_to_string(&certificate).map_err(failed("read", &certificate))?;
        let key_pem = fs::read_to_string(&key).map_err(failed("read", &key))?;
        let pair = KeyPair::from_pem(&key_pem).map_err(|error| damaged(&key, &error))?;
        let issuer = Issuer::from_ca_cert_der(&ca, pair).map_err(|error| damaged(&certificate, &error))?;
        let pkcs8 = fs::read(&receipt).map_err(failed("read", &receipt))?;
        let sink_key = SinkKey::from_pkcs8(&pkcs8).map_err(|error| damaged(&receipt, &error))?;
        Ok((Authority { issuer, ca, ca_pem, client_days }, sink_key))
    }

    /// The authority's certificate.
    pub fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    /// Signs a certificate for this subject over the request's key. Answers PEM.
    pub fn issue(&self, subject: &Subject, request: &[u8]) -> Result<String, AuthorityError> {
        // Checks the request's own signature: who asks holds the key.
        let request =
            CertificateSigningRequestParams::from_der(&CertificateSigningRequestDer::from(request))?;
        let mut params = leaf(&subject.identity.to_string(), self.client_days);
        params.subject_alt_names = vec![SanType::URI(subject.to_string().as_str().try_into()?)];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        Ok(params.signed_by(&request.public_key, &self.issuer)?.pem())
    }

    /// TLS 1.3 for the server, with a certificate made for this run. Client certificates are optional here;
    /// routes ask for what they need.
    pub fn server_config(&self, names: &[String]) -> Result<Arc<ServerConfig>, AuthorityError> {
        let key = KeyPair::generate()?;
        let mut params = leaf("custody-sink", AUTHORITY_DAYS);
        params.subject_alt_names = CertificateParams::new(names.to_vec())?.subject_alt_names;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let certificate = params.signed_by(&key, &self.issuer)?;
        let mut roots = RootCertStore::empty();
        roots.add(self.ca.clone())?;
        let verifier = WebPkiClientVerifier::builder(Arc::new(roots))
            .allow_unauthenticated()
            .build()
            .map_err(|error| rustls::Error::General(error.to_string()))?;
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        // The chain ends with the authority, so that who joins can compare it with the token's hash.
        let chain = vec![certificate.der().clone(), self.ca.clone()];
        let mut config = ServerConfig::builder_with_protocol_versions(&[&rustls::version::TLS13])
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain, key)?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }
}

/// When a certificate was issued whose validity begins then, both in seconds since 1970.
pub const fn issued_s(not_before_s: i64) -> i64 {
    not_before_s.saturating_add(BACKDATED.as_secs().cast_signed())
}

/// SHA-256 of the authority's certificate, as it stands in join tokens.
pub fn fingerprint(state_directory: &Path) -> Result<Hash, AuthorityError> {
    Ok(hash_of(&read_certificate(&state_directory.join(CA_CERTIFICATE))?))
}

/// The authority's certificate.
pub fn read_ca(state_directory: &Path) -> Result<CertificateDer<'static>, AuthorityError> {
    read_certificate(&state_directory.join(CA_CERTIFICATE))
}

fn read_certificate(path: &Path) -> Result<CertificateDer<'static>, AuthorityError> {
    let pem = fs::read(path).map_err(failed("read", path))?;
    CertificateDer::from_pem_slice(&pem).map_err(|error| damaged(path, &error))
}

fn damaged(path: &Path, error: &dyn std::fmt::Display) -> AuthorityError {
    AuthorityError::Damaged { path: path.display().to_string(), detail: error.to_string() }
}

fn create(certificate: &Path, key: &Path, receipt: &Path) -> Result<(), AuthorityError> {
    let pair = KeyPair::generate()?;
    let mut params = CertificateParams::default();
    params.distinguished_name = common_name("Custody sink authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    set_validity(&mut params, AUTHORITY_DAYS);
    let ca = params.self_signed(&pair)?;
    let (_, pkcs8) = SinkKey::generate()?;
    files::replace(key, pair.serialize_pem().as_bytes(), 0o600)?;
    files::replace(receipt, &pkcs8, 0o600)?;
    Ok(files::replace(certificate, ca.pem().as_bytes(), 0o644)?)
}

fn leaf(name: &str, days: u64) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = common_name(name);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.use_authority_key_identifier_extension = true;
    set_validity(&mut params, days);
    params
}

fn common_name(name: &str) -> DistinguishedName {
    let mut names = DistinguishedName::new();
    names.push(DnType::CommonName, name);
    names
}

fn set_validity(params: &mut CertificateParams, days: u64) {
    let now = date_time_ymd(1970, 1, 1) + Duration::from_nanos(now_ns());
    params.not_before = now - BACKDATED;
    params.not_after = now + Duration::from_secs(days * 24 * 3600);
}
