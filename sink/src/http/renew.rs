//! Renewal: an enrolled host gets another certificate over its still valid one. It shows that it has the newest key of its
//! chain too, so that whoever has the TLS key alone cannot stay. Must not enrol anybody.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, State as Shared};
use axum::http::Response;
use custody_ledger::HostId;
use custody_ledger::statement::{Stated, Statement};
use custody_ledger::tree::hash_of;
use custody_ledger::wire::{self, ENROL_BYTES_MAX, RefusalCode, RenewRequest, RenewResponse};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use super::answer::ok;
use super::append::own_host;
use super::{Caller, Refused, Services, State};
use crate::clock::now_ns;
use crate::identity::Identity;

/// `POST /v1/hosts/{id}/certificate`
pub(super) async fn renew(
    Shared(services): Shared<State>,
    caller: Result<Caller, Refused>,
    Path(id): Path<String>,
    body: Body,
) -> Result<Response<Body>, Refused> {
    let host = own_host(caller.clone(), &id)?;
    let caller = caller?;
    let (body, room) = services.appends.read(body, ENROL_BYTES_MAX).await?;
    let blocking = Arc::clone(&services);
    let answer = tokio::task::spawn_blocking(move || certify(&blocking, &caller, host, &body))
        .await
        .map_err(|error| Refused::internal(&error))??;
    drop(room);
    Ok(ok(&answer))
}

fn certify(
    services: &Services,
    caller: &Caller,
    host: HostId,
    body: &[u8],
) -> Result<RenewResponse, Refused> {
    let malformed = |detail: &str| Refused::new(RefusalCode::Malformed, detail);
    let request: RenewRequest =
        wire::decode(body).map_err(|_| malformed("this is no request for another certificate"))?;
    services.acceptor.admit_renewal(host, &request)?;
    if let Err(error) = services.store.check_ready() {
        return Err(Refused::new(RefusalCode::Unavailable, error.to_string()));
    }
    let identity = Identity::Host(host);
    let certificate = services
        .authority
        .issue(&identity.clone().into(), &request.certificate_request)
        .map_err(|_| malformed("the certificate request is damaged, or its key is of a kind unknown here"))?;
    // A revocation that came since the request did would not hold for what was issued after it; one that comes later does.
    caller.demand_unrevoked(services)?;
    let der =
        CertificateDer::from_pem_slice(certificate.as_bytes()).map_err(|error| Refused::internal(&error))?;
    let what = Stated::Renewed { identity: identity.to_string(), certificate: hash_of(&der) };
    let statement = Statement { host: Some(host), at_ns: now_ns(), what };
    services.store.state(services.acceptor.key(), &[statement]).map_err(|error| Refused::internal(&error))?;
    tracing::info!(%host, "its certificate was renewed");
    Ok(RenewResponse { certificate })
}
