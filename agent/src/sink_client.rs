//! HTTPS to the sink: one connection, kept while it works, HTTP/1.1, bounded answers. Knows nothing of batches.

use std::net::{IpAddr, ToSocketAddrs};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use bytes::Bytes;
use custody_ledger::Hash;
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1::SendRequest;
use hyper::header::{CONTENT_TYPE, DATE, HOST};
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ResolvesClientCert, WebPkiServerVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio::net::TcpStream;

use crate::identity::Identity;

/// Longest answer that is read, bytes: receipts of one append.
const ANSWER_BYTES_MAX: usize = 4 << 20;

/// Where the sink listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// Name or address.
    pub host: String,
    /// Port.
    pub port: u16,
}

impl Address {
    /// Reads `https://host[:port]`.
    pub fn parse(url: &str) -> Result<Self> {
        let uri: hyper::Uri = url.parse().with_context(|| format!("`{url}` is no URL"))?;
        let host = uri.host().with_context(|| format!("`{url}` names no host"))?;
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        Ok(Address { host, port: uri.port_u16().unwrap_or(443) })
    }
}

impl Address {
    /// Its addresses as they are now.
    pub fn resolve(&self) -> Result<Vec<IpAddr>> {
        let addresses = (self.host.as_str(), self.port).to_socket_addrs();
        let addresses =
            addresses.with_context(|| format!("cannot resolve the sink's name `{}`", self.host))?;
        Ok(addresses.map(|address| address.ip()).collect())
    }
}

/// One way to the sink.
pub struct Client {
    address: Address,
    tls: tokio_rustls::TlsConnector,
    timeout: Duration,
    connection: Option<SendRequest<Full<Bytes>>>,
}

/// The certificate that connections show, with its key. It may be exchanged while they are used: those that stand go on.
#[derive(Debug)]
pub struct Credentials(RwLock<Arc<CertifiedKey>>);

impl Credentials {
    /// Those of this identity.
    pub fn of(identity: &Identity) -> Result<Arc<Self>> {
        Ok(Arc::new(Credentials(RwLock::new(certified(identity)?))))
    }

    /// Takes over those of this identity; whether they are others.
    pub fn take(&self, identity: &Identity) -> Result<bool> {
        let new = certified(identity)?;
        let mut current = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let others = new.cert != current.cert;
        *current = new;
        Ok(others)
    }
}

fn certified(identity: &Identity) -> Result<Arc<CertifiedKey>> {
    let chain: Vec<_> = CertificateDer::pem_slice_iter(identity.certificate.as_bytes())
        .collect::<Result<_, _>>()
        .context("the host's certificate is damaged")?;
    let key = PrivateKeyDer::from_pem_slice(identity.certificate_key.as_bytes())
        .context("the key of the host's certificate is damaged")?;
    let certified = CertifiedKey::from_der(chain, key, &provider());
    certified.map(Arc::new).context("certificate and key of this host do not fit")
}

impl ResolvesClientCert for Credentials {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner)))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// What the sink said.
#[derive(Debug)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// Body.
    pub body: Bytes,
    /// The sink's wall clock, ns since 1970, where it told (the Date header).
    pub wall_ns: Option<u64>,
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

impl Client {
    /// As the enrolled host, which shows these credentials, whatever they are then, at each new connection.
    pub fn enrolled(identity: &Identity, credentials: &Arc<Credentials>, timeout: Duration) -> Result<Self> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(identity.authority.as_bytes()) {
            roots.add(certificate.context("the sink's authority is damaged")?)?;
        }
        let config = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_client_cert_resolver(Arc::clone(credentials) as Arc<dyn ResolvesClientCert>);
        Ok(Self::new(Address::parse(&identity.facts.sink_url)?, config, timeout))
    }

    /// As somebody who only knows the hash of the sink's authority.
    pub fn joining(url: &str, authority: Hash, timeout: Duration) -> Result<Self> {
        let verifier = Arc::new(PinnedAuthority { authority, provider: provider() });
        let config = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()?
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_no_client_auth();
        Ok(Self::new(Address::parse(url)?, config, timeout))
    }

    fn new(address: Address, mut config: ClientConfig, timeout: Duration) -> Self {
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Client { address, tls: Arc::new(config).into(), timeout, connection: None }
    }

    /// Sends one request and reads its answer. After an error the connection is gone, and the next call makes
    /// a new one; whether the sink took the request is then not known.
    pub async fn send(
        &mut self,
        method: Method,
        path: &str,
        content_type: &str,
        body: Bytes,
    ) -> Result<Answer> {
        let timeout = self.timeout;
        let exchange = self.exchange(method, path, content_type, body);
        let result = match tokio::time::timeout(timeout, exchange).await {
            Ok(result) => result,
            Err(_) => Err(anyhow!("the sink did not answer within {} s", self.timeout.as_secs())),
        };
        if result.is_err() {
            self.connection = None;
        }
        result.with_context(|| format!("sink {}:{}", self.address.host, self.address.port))
    }

    async fn exchange(
        &mut self,
        method: Method,
        path: &str,
        content_type: &str,
        body: Bytes,
    ) -> Result<Answer> {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, format!("{}:{}", self.address.host, self.address.port))
            .header(CONTENT_TYPE, content_type)
            .body(Full::new(body))?;
        let mut sender = match self.connection.take() {
            Some(sender) if !sender.is_closed() => sender,
            _ => self.connect().await?,
        };
        sender.ready().await.context("the connection ended")?;
        let response = sender.send_request(request).await.context("the request failed")?;
        let status = response.status().as_u16();
        let wall_ns = response.headers().get(DATE).and_then(|date| wall_of(date.to_str().ok()?));
        let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
        let body = body.map_err(|error| anyhow!("the answer could not be read: {error}"))?.to_bytes();
        self.connection = Some(sender);
        Ok(Answer { status, body, wall_ns })
    }

    async fn connect(&self) -> Result<SendRequest<Full<Bytes>>> {
        let Address { host, port } = &self.address;
        let stream = TcpStream::connect((host.as_str(), *port)).await.context("cannot connect")?;
        stream.set_nodelay(true)?;
        let name =
            ServerName::try_from(host.clone()).with_context(|| format!("`{host}` is no server name"))?;
        let stream = self.tls.connect(name, stream).await.context("the TLS handshake failed")?;
        let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        // Ends by itself with its sender or its peer; what went wrong is told to whoever waits for an answer.
        tokio::spawn(connection);
        Ok(sender)
    }
}

/// Takes as root that certificate of the server's chain whose SHA-256 is known from the join token.
#[derive(Debug)]
struct PinnedAuthority {
    authority: Hash,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for PinnedAuthority {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let refusal = |text: String| rustls::Error::General(text);
        let root = intermediates
            .iter()
            .find(|certificate| custody_ledger::tree::hash_of(certificate.as_ref()) == self.authority)
            .ok_or_else(|| refusal("the server does not show the authority that the token names".into()))?;
        let mut roots = RootCertStore::empty();
        roots.add(root.clone().into_owned())?;
        WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&self.provider))
            .build()
            .map_err(|error| refusal(error.to_string()))?
            .verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// Of an HTTP date (RFC 9110 section 5.6.7), in whole seconds.
fn wall_of(date: &str) -> Option<u64> {
    let seconds = jiff::fmt::rfc2822::parse(date).ok()?.timestamp().as_second();
    u64::try_from(seconds).ok()?.checked_mul(1_000_000_000)
}

/// The sink's refusal, or the bare status when it said nothing that can be read.
pub fn refusal(answer: &Answer) -> anyhow::Error {
    match custody_ledger::wire::decode::<custody_ledger::wire::ErrorResponse>(&answer.body) {
        Ok(response) => anyhow::Error::new(response.refusal),
        Err(_) => anyhow!("the sink answered with HTTP status {}", answer.status),
    }
}

/// The body of a good answer.
pub fn read<T: serde::de::DeserializeOwned>(answer: &Answer) -> Result<T> {
    if answer.status != 200 {
        bail!(refusal(answer));
    }
    custody_ledger::wire::decode(&answer.body).context("the sink's answer cannot be read")
}
