//! HTTPS to the sink with the certificate of the profile: one connection per request, answers read in pieces.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow};
use bytes::Bytes;
use custody_ledger::wire::{self, ErrorResponse, RefusalCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::{Method, Request, Response, Uri};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::RootCertStore;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use serde::de::DeserializeOwned;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::outcome::{Exit, Failure};
use crate::profile::Profile;

/// How long a connection and the head of an answer may take.
const ANSWER_WAIT: Duration = Duration::from_secs(30);
/// Longest answer that is read whole, bytes.
const ANSWER_BYTES_MAX: usize = 256 << 20;
/// Longest file that is read, bytes: a bundle of 256 leaves of 65,535 bytes.
const FILE_BYTES_MAX: usize = 17 << 20;
/// Longest refusal that is read, bytes.
const REFUSAL_BYTES_MAX: usize = 64 << 10;
/// Longest line of a stream, bytes: an entry's body grown by JSON's escapes.
const LINE_BYTES_MAX: usize = 8 << 20;

/// A sink, and how it is spoken to.
pub(crate) struct Client {
    url: Uri,
    tls: Arc<ClientConfig>,
}

impl Client {
    /// With the certificate of the profile.
    pub(crate) fn new(profile: &Profile) -> anyhow::Result<Self> {
        let damaged = "the profile is damaged: run `custody login TOKEN` again";
        let mut roots = RootCertStore::empty();
        roots
            .add(CertificateDer::from_pem_slice(profile.ca.as_bytes()).context(damaged)?)
            .context(damaged)?;
        let chain: Result<Vec<_>, _> =
            CertificateDer::pem_slice_iter(profile.certificate.as_bytes()).collect();
        let key = PrivateKeyDer::from_pem_slice(profile.key.as_bytes()).context(damaged)?;
        let tls =
            builder()?.with_root_certificates(roots).with_client_auth_cert(chain.context(damaged)?, key);
        Client::with_tls(&profile.url, tls.context(damaged)?)
    }

    /// With a TLS configuration of the caller's.
    pub(crate) fn with_tls(url: &str, tls: ClientConfig) -> anyhow::Result<Self> {
        let url: Uri = url.parse().with_context(|| format!("`{url}` is no URL"))?;
        Ok(Client { url, tls: Arc::new(tls) })
    }

    /// `GET` with a JSON answer.
    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        let response = self.send(Method::GET, path, None).await?;
        let body = self.whole(response, ANSWER_BYTES_MAX).await?;
        serde_json::from_slice(&body)
            .map_err(|error| self.broken(anyhow::Error::new(error).context("its answer cannot be read")))
    }

    /// `GET` of a file; `None` when there is none.
    pub(crate) async fn file(&self, path: &str) -> Result<Option<Bytes>, Failure> {
        match self.send(Method::GET, path, None).await {
            Ok(response) => self.whole(response, FILE_BYTES_MAX).await.map(Some),
            Err(Failure::Because(Exit::Negative, _)) => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    /// `POST` of a wire message with a wire message as answer.
    pub(crate) async fn post<T: DeserializeOwned>(&self, path: &str, body: Vec<u8>) -> Result<T, Failure> {
        let response = self.send(Method::POST, path, Some(body)).await?;
        let body = self.whole(response, REFUSAL_BYTES_MAX).await?;
        wire::decode(&body)
            .map_err(|error| self.broken(anyhow::Error::new(error).context("its answer cannot be read")))
    }

    /// `GET` with an answer of lines.
    pub(crate) async fn lines(&self, path: &str) -> Result<LineStream, Failure> {
        let response = self.send(Method::GET, path, None).await?;
        Ok(LineStream {
            body: response.into_body(),
            pending: Vec::new(),
            scanned: 0,
            url: self.url.to_string(),
        })
    }

    /// `GET` of a short text.
    pub(crate) async fn text(&self, path: &str) -> Result<String, Failure> {
        let response = self.send(Method::GET, path, None).await?;
        let body = self.whole(response, REFUSAL_BYTES_MAX).await?;
        String::from_utf8(body.into()).map_err(|error| self.broken(error.into()))
    }

    /// `GET` with an answer of bytes, as they come.
    pub(crate) async fn pieces(&self, path: &str) -> Result<Pieces, Failure> {
        let response = self.send(Method::GET, path, None).await?;
        Ok(Pieces { body: response.into_body(), url: self.url.to_string() })
    }

    fn broken(&self, error: anyhow::Error) -> Failure {
        Failure::unreachable(error.context(format!("the sink at {} does not answer as it should", self.url)))
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<Vec<u8>>,
    ) -> Result<Response<Incoming>, Failure> {
        let answer = tokio::time::timeout(ANSWER_WAIT, self.exchange(method, path, body)).await;
        let response = match answer {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => {
                return Err(Failure::unreachable(
                    error.context(format!("cannot reach the sink at {}", self.url)),
                ));
            }
            Err(_) => {
                let seconds = ANSWER_WAIT.as_secs();
                return Err(Failure::unreachable(anyhow!(
                    "the sink at {} gave no answer in {seconds} s",
                    self.url
                )));
            }
        };
        if response.status().is_success() {
            return Ok(response);
        }
        Err(self.refused(response).await)
    }

    async fn exchange(
        &self,
        method: Method,
        path: &str,
        body: Option<Vec<u8>>,
    ) -> anyhow::Result<Response<Incoming>> {
        let host = self.url.host().context("the sink's URL has no host")?;
        let name = host.trim_start_matches('[').trim_end_matches(']');
        let port = self.url.port_u16().unwrap_or(443);
        let socket = TcpStream::connect((name, port)).await?;
        let server = ServerName::try_from(name.to_owned())?;
        let stream = TlsConnector::from(Arc::clone(&self.tls)).connect(server, socket).await?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        let mut request =
            Request::builder().method(method).uri(path).header("host", format!("{host}:{port}"));
        if body.is_some() {
            request = request.header("content-type", wire::CONTENT_TYPE);
        }
        let request = request.body(Full::new(Bytes::from(body.unwrap_or_default())))?;
        Ok(sender.send_request(request).await?)
    }

    async fn whole(&self, response: Response<Incoming>, limit: usize) -> Result<Bytes, Failure> {
        let body = http_body_util::Limited::new(response.into_body(), limit).collect().await;
        body.map(|body| body.to_bytes()).map_err(|error| self.broken(anyhow!("{error}")))
    }

    async fn refused(&self, response: Response<Incoming>) -> Failure {
        let status = response.status();
        let body = self.whole(response, REFUSAL_BYTES_MAX).await.unwrap_or_default();
        let Ok(ErrorResponse { refusal }) = wire::decode(&body) else {
            return Failure::unreachable(anyhow!("the sink at {} answered {status}", self.url));
        };
        let error = anyhow!("{}", refusal.detail);
        match refusal.code {
            RefusalCode::Malformed | RefusalCode::TooLarge => Failure::usage(error),
            _ if status == hyper::StatusCode::NOT_FOUND => Failure::negative(error),
            _ => Failure::unreachable(error.context("the sink says no")),
        }
    }
}

/// TLS with ring, before roots and client certificate are chosen.
pub(crate) fn builder() -> anyhow::Result<rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier>> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    Ok(ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?)
}

/// Bytes of an answer as they come.
pub(crate) struct Pieces {
    body: Incoming,
    url: String,
}

impl Pieces {
    /// The next bytes; `None` at the end.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, Failure> {
        loop {
            match self.body.frame().await {
                None => return Ok(None),
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        return Ok(Some(data));
                    }
                }
                Some(Err(error)) => return Err(cut(&self.url, error.into())),
            }
        }
    }
}

fn cut(url: &str, error: anyhow::Error) -> Failure {
    Failure::unreachable(error.context(format!("the connection to the sink at {url} broke")))
}

/// Lines of an answer as they come.
pub(crate) struct LineStream {
    body: Incoming,
    pending: Vec<u8>,
    /// Bytes of `pending` without a line end.
    scanned: usize,
    url: String,
}

impl LineStream {
    /// Whether a whole line is here already, so that output need not be flushed before it.
    pub(crate) fn has_line(&self) -> bool {
        self.pending[self.scanned..].contains(&b'\n')
    }

    /// The next line; `None` at the end. Safe to drop while it waits.
    pub(crate) async fn next(&mut self) -> Result<Option<Vec<u8>>, Failure> {
        loop {
            if let Some(end) = self.pending[self.scanned..].iter().position(|byte| *byte == b'\n') {
                let rest = self.pending.split_off(self.scanned + end + 1);
                let mut line = std::mem::replace(&mut self.pending, rest);
                self.scanned = 0;
                line.pop();
                return Ok(Some(line));
            }
            self.scanned = self.pending.len();
            if self.scanned > LINE_BYTES_MAX {
                return Err(self.failed(anyhow!("it sent a line without an end")));
            }
            match self.body.frame().await {
                None => return Ok(None),
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.pending.extend_from_slice(&data);
                    }
                }
                Some(Err(error)) => return Err(self.failed(error.into())),
            }
        }
    }

    fn failed(&self, error: anyhow::Error) -> Failure {
        cut(&self.url, error)
    }
}
