//! The line between a host and the sink, on loopback: it ends TLS towards the host with a certificate of the sink's own
//! authority, goes on to the sink as that host, and so sees each frame and each receipt. It can be cut and stalled.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock};

use anyhow::{Context, Result, anyhow, bail};
use custody_ledger::HostId;
use custody_ledger::wire;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::SendRequest;
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::seen::Seen;
use crate::support::Sink;

/// How a line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// It carries.
    Open,
    /// Connections are reset, and new ones too.
    Cut,
    /// Connections stay, and nothing comes through: requests on their way there wait, and answers on their way back.
    Stalled,
    /// A connection ends at a request of more than [`NARROW_BYTES`].
    Narrow,
}

/// Two or three batches of these hosts.
const NARROW_BYTES: usize = 10 << 10;

/// Towards the sink.
#[derive(Clone)]
pub(crate) struct Far {
    port: u16,
    roots: Arc<RootCertStore>,
    near: Arc<ServerConfig>,
    seen: Arc<Mutex<Seen>>,
}

impl Far {
    /// To a sink that was started once, so that its authority is there.
    pub(crate) fn of(sink: &Sink, seen: Arc<Mutex<Seen>>) -> Result<Self> {
        let [ca, key] = ["ca.pem", "ca.key"].map(|name| std::fs::read(sink.state().join(name)));
        let (ca, key) = (ca?, String::from_utf8(key?)?);
        let ca = CertificateDer::from_pem_slice(&ca).map_err(|error| anyhow!("the authority: {error:?}"))?;
        let mut roots = RootCertStore::empty();
        roots.add(ca.clone())?;
        let roots = Arc::new(roots);
        let issuer = rcgen::Issuer::from_ca_cert_der(&ca, rcgen::KeyPair::from_pem(&key)?)?;
        let pair = rcgen::KeyPair::generate()?;
        let mut params = rcgen::CertificateParams::new(vec!["localhost".to_owned()])?;
        params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
        let certificate = params.signed_by(&pair, &issuer)?.der().clone();
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(pair.serialize_der()));
        let hosts = WebPkiClientVerifier::builder(Arc::clone(&roots)).allow_unauthenticated().build()?;
        let near = ServerConfig::builder()
            .with_client_cert_verifier(hosts)
            .with_single_cert(vec![certificate, ca], key)?;
        Ok(Far { port: sink.port(), roots, near: Arc::new(near), seen })
    }
}

/// One host's line. It carries on when this is dropped.
pub(crate) struct Line {
    /// Where it listens.
    pub(crate) port: u16,
    mode: watch::Sender<Mode>,
}

struct Carrier {
    far: Far,
    /// Where the host's certificate lies once it is enrolled.
    identity: PathBuf,
    credentials: OnceLock<(CertificateDer<'static>, PrivateKeyDer<'static>)>,
    mode: watch::Receiver<Mode>,
}

impl Line {
    /// Listens, on the runtime that is entered.
    pub(crate) fn open(far: Far, identity: PathBuf) -> Result<Self> {
        let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
        listener.set_nonblocking(true)?;
        let port = listener.local_addr()?.port();
        let listener = TcpListener::from_std(listener)?;
        let (mode, watched) = watch::channel(Mode::Open);
        let carrier = Arc::new(Carrier { far, identity, credentials: OnceLock::new(), mode: watched });
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let _ = stream.set_zero_linger();
                tokio::spawn(Arc::clone(&carrier).until_cut(stream));
            }
        });
        Ok(Line { port, mode })
    }

    /// From now on.
    pub(crate) fn set(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }
}

impl Carrier {
    async fn until_cut(self: Arc<Self>, stream: TcpStream) {
        let mut mode = self.mode.clone();
        let cut = async {
            if mode.wait_for(|mode| *mode == Mode::Cut).await.is_err() {
                // Nobody is left who could cut it.
                std::future::pending().await
            }
        };
        tokio::select! {
            // Dropped, which resets it.
            () = cut => {}
            // What went wrong on the way, the host sees as a connection that ended.
            _ = Arc::clone(&self).carry(stream) => {}
        }
    }

    async fn carry(self: Arc<Self>, stream: TcpStream) -> Result<()> {
        self.not_stalled().await;
        let near = TlsAcceptor::from(Arc::clone(&self.far.near)).accept(stream).await?;
        let is_host = near.get_ref().1.peer_certificates().is_some();
        let further = tokio::sync::Mutex::new(None);
        let service = service_fn(async |request| {
            let mut further = further.lock().await;
            self.pass(request, &mut further, is_host).await
        });
        hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(near), service).await?;
        Ok(())
    }

    async fn not_stalled(&self) {
        // An error: nobody stalls lines any more.
        let _ = self.mode.clone().wait_for(|mode| *mode != Mode::Stalled).await;
    }

    async fn pass(
        &self,
        request: Request<Incoming>,
        further: &mut Option<SendRequest<Full<Bytes>>>,
        is_host: bool,
    ) -> Result<Response<Full<Bytes>>> {
        let (head, body) = request.into_parts();
        let body = body.collect().await?.to_bytes();
        let path = head.uri.path().to_owned();
        let host = path.split('/').nth(3).and_then(|id| id.parse::<HostId>().ok());
        let appends = host.filter(|host| head.method == Method::POST && path == wire::batches_path(*host));
        if appends.is_some() {
            self.seen().sends(&body);
        }
        if *self.mode.borrow() == Mode::Narrow && body.len() > NARROW_BYTES {
            bail!("too long for this line");
        }
        self.not_stalled().await;
        let mut to = match further.take().filter(|to| !to.is_closed()) {
            Some(to) => to,
            None => self.connect(is_host).await?,
        };
        to.ready().await?;
        let answer = to.send_request(Request::from_parts(head, Full::new(body.clone()))).await?;
        *further = Some(to);
        let (head, answer) = answer.into_parts();
        let answer = answer.collect().await?.to_bytes();
        if let Some(host) = appends {
            self.seen().answered(host, &body, &answer)?;
        } else if let Some(host) = host.filter(|_| path.ends_with("/committed") && head.status == 200) {
            self.seen().committed(host, &answer)?;
        }
        self.not_stalled().await;
        Ok(Response::from_parts(head, Full::new(answer)))
    }

    fn seen(&self) -> std::sync::MutexGuard<'_, Seen> {
        self.far.seen.lock().unwrap()
    }

    async fn connect(&self, is_host: bool) -> Result<SendRequest<Full<Bytes>>> {
        let builder = ClientConfig::builder().with_root_certificates(Arc::clone(&self.far.roots));
        let tls = if is_host {
            let (certificate, key) = self.credentials()?;
            builder.with_client_auth_cert(vec![certificate.clone()], key.clone_key())?
        } else {
            builder.with_no_client_auth()
        };
        let stream = TcpStream::connect(("127.0.0.1", self.far.port)).await?;
        let name = ServerName::try_from("localhost")?;
        let stream = TlsConnector::from(Arc::new(tls)).connect(name, stream).await?;
        let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(sender)
    }

    fn credentials(&self) -> Result<&(CertificateDer<'static>, PrivateKeyDer<'static>)> {
        if let Some(known) = self.credentials.get() {
            return Ok(known);
        }
        let read = |name: &str| std::fs::read(self.identity.join(name)).context("the host's identity");
        let certificate = CertificateDer::from_pem_slice(&read("certificate.pem")?)
            .map_err(|error| anyhow!("the host's certificate: {error:?}"))?;
        let key = PrivateKeyDer::from_pem_slice(&read("certificate.key")?)
            .map_err(|error| anyhow!("the host's key: {error:?}"))?;
        Ok(self.credentials.get_or_init(|| (certificate, key)))
    }
}
