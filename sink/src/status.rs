//! `custody-sink status`: asks the running sink over its own port, trusting its own authority only.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::authority;
use crate::config::Config;

const ANSWER_MAX: Duration = Duration::from_secs(5);
const METRICS_BYTES_MAX: usize = 1024 * 1024;

/// How the sink is.
pub struct Status {
    /// For people.
    pub text: String,
    /// Whether it takes batches.
    pub is_ready: bool,
}

/// Asks.
pub fn ask(config: &Config) -> anyhow::Result<Status> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start")?;
    let asked = runtime.block_on(async { tokio::time::timeout(ANSWER_MAX, ask_both(config)).await });
    asked.context("the sink did not answer in time")?
}

async fn ask_both(config: &Config) -> anyhow::Result<Status> {
    let (code, ready) = get(config, "/readyz").await?;
    let (_, metrics) = get(config, "/metrics").await?;
    let lines = metrics.lines().filter(|line| !line.starts_with('#'));
    let counters: String =
        lines.map(|line| format!("  {}\n", line.trim_start_matches("custody_sink_"))).collect();
    let is_ready = code == StatusCode::OK;
    let state = if is_ready { "ready" } else { ready.trim() };
    Ok(Status { text: format!("{}  {state}\n{counters}", config.public_url()), is_ready })
}

async fn get(config: &Config, path: &str) -> anyhow::Result<(StatusCode, String)> {
    let mut roots = RootCertStore::empty();
    roots
        .add(authority::read_ca(&config.state_directory)?)
        .context("the sink's own certificate is damaged")?;
    let tls = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    let name = config.server_names.first().cloned().unwrap_or_default();
    let name = ServerName::try_from(name).context("server_names begins with what is no name")?;
    let address = reachable(config.listen);
    let stream =
        TcpStream::connect(address).await.with_context(|| format!("no sink answers at {address}"))?;
    let stream = TlsConnector::from(Arc::new(tls)).connect(name, stream).await.context("TLS failed")?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake::<_, Empty<Bytes>>(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let request = Request::get(path).header(hyper::header::HOST, "custody-sink").body(Empty::new())?;
    let response = sender.send_request(request).await?;
    let status = response.status();
    let Ok(body) = Limited::new(response.into_body(), METRICS_BYTES_MAX).collect().await else {
        bail!("the sink's answer broke off");
    };
    Ok((status, String::from_utf8_lossy(&body.to_bytes()).into_owned()))
}

/// Who listens on all addresses is reached on the loopback.
fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}
