//! The listener: TLS, who is on the other end, and the connection's way into the router.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use custody_ledger::statement::DenialReason;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use super::{Caller, Peer};
use crate::authority::issued_s;
use crate::denied::{Attempt, Denials, shown};
use crate::metrics::Metrics;

/// A handshake that takes longer is ended.
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);
/// Headers that take longer end the connection.
const HEADERS_MAX: Duration = Duration::from_secs(30);
/// How long open requests may go on once the sink is told to stop.
const DRAIN_MAX: Duration = Duration::from_secs(10);
/// Pause after a failed accept, so that a shortage of file descriptors does not become a busy loop.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves until `stop` is done, then lets open requests end.
pub async fn serve(
    listener: TcpListener,
    tls: Arc<ServerConfig>,
    router: Router,
    (metrics, denials): (Arc<Metrics>, Arc<Denials>),
    connections_max: usize,
    stop: impl Future<Output = ()>,
) {
    let tls = TlsAcceptor::from(tls);
    let room = Arc::new(Semaphore::new(connections_max));
    let graceful = GracefulShutdown::new();
    let mut stop = std::pin::pin!(stop);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = &mut stop => break,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Ok(permit) = Arc::clone(&room).try_acquire_owned() else {
            metrics.connection_refused();
            continue;
        };
        let (tls, router) = (tls.clone(), router.clone());
        let (metrics, denials) = (Arc::clone(&metrics), Arc::clone(&denials));
        let watcher = graceful.watcher();
        tokio::spawn(async move {
            metrics.connection_opened();
            connection(stream, peer, tls, router, (&metrics, denials), watcher).await;
            metrics.connection_closed();
            drop(permit);
        });
    }
    drop(listener);
    if tokio::time::timeout(DRAIN_MAX, graceful.shutdown()).await.is_err() {
        tracing::warn!("some connections did not end in time and are cut");
    }
}

async fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    tls: TlsAcceptor,
    router: Router,
    (metrics, denials): (&Metrics, Arc<Denials>),
    watcher: hyper_util::server::graceful::Watcher,
) {
    // Small receipts must not wait for more to send.
    let _ = stream.set_nodelay(true);
    let stream = match tokio::time::timeout(HANDSHAKE_MAX, tls.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            metrics.handshake_failed();
            if is_of_certificate(&error) {
                denials.note(Attempt::at_handshake(peer.ip()));
            }
            tracing::info!(%peer, %error, "a TLS handshake failed");
            return;
        }
        Err(_) => {
            metrics.handshake_failed();
            return;
        }
    };
    let certificate = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
    let caller = certificate.map_or(Peer::Nobody, |certificate| peer_of(certificate));
    let service = service_fn(move |mut request: hyper::Request<Incoming>| {
        request.extensions_mut().insert(caller.clone());
        let (router, caller, denials) = (router.clone(), caller.clone(), Arc::clone(&denials));
        async move {
            let (method, uri) = (request.method().clone(), request.uri().clone());
            let answer = router.oneshot(request.map(Body::new)).await.unwrap_or_else(|e| match e {});
            if let Some(reason) = answer.extensions().get::<DenialReason>() {
                denials.note(Attempt::of(*reason, caller.name(), peer.ip(), &method, uri.path()));
            }
            Ok::<_, Infallible>(answer)
        }
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEADERS_MAX);
    builder.http2().timer(TokioTimer::new()).keep_alive_interval(HEADERS_MAX).max_concurrent_streams(32);
    let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service).into_owned();
    if let Err(error) = watcher.watch(connection).await {
        tracing::debug!(%peer, %error, "a connection ended with an error");
    }
}

/// Whether a handshake failed because the client's certificate does not hold.
fn is_of_certificate(error: &std::io::Error) -> bool {
    let cause = error.get_ref().and_then(|cause| cause.downcast_ref::<rustls::Error>());
    matches!(cause, Some(rustls::Error::InvalidCertificate(_)))
}

/// Who a certificate stands for, whose chain rustls has verified: its one custody identity.
fn peer_of(certificate: &[u8]) -> Peer {
    let (uris, issued_s) = uris_of(certificate).unwrap_or_default();
    // Two names in one certificate would leave open who asks.
    match &uris[..] {
        [uri] => match uri.parse() {
            Ok(subject) => Peer::Caller(Caller { subject, issued_s }),
            Err(_) => Peer::Unreadable(shown(uri)),
        },
        uris => Peer::Unreadable(format!("a certificate with {} names", uris.len())),
    }
}

/// The URIs in a certificate, and when it was issued.
fn uris_of(certificate: &[u8]) -> Option<(Vec<String>, i64)> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    let names = certificate.subject_alternative_name().ok()??;
    let uris = names.value.general_names.iter().filter_map(|name| match name {
        GeneralName::URI(uri) => Some((*uri).to_owned()),
        _ => None,
    });
    Some((uris.collect(), issued_s(certificate.validity().not_before.timestamp())))
}
