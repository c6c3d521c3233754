//! A host's own routes: append, and ask for the head. Who it is comes first: nothing is read for strangers.

use axum::body::Body;
use axum::extract::{Path, State as Shared};
use axum::http::Response;
use custody_ledger::HostId;
use custody_ledger::statement::DenialReason;
use custody_ledger::wire::{APPEND_BYTES_MAX, AppendResponse, RefusalCode};

use super::answer::{denied, message, ok};
use super::{Caller, Refused, Services, State};
use crate::identity::Identity;

pub(super) async fn append(
    Shared(services): Shared<State>,
    caller: Result<Caller, Refused>,
    Path(id): Path<String>,
    body: Body,
) -> Response<Body> {
    let (answer, reason) = match take(&services, caller, &id, body).await {
        Ok(answer) => {
            // The one thing that a host with its own certificate and path is not let in for.
            let stranger = answer.refusal.as_ref().is_some_and(|r| r.code == RefusalCode::Forbidden);
            (answer, stranger.then_some(DenialReason::NotEnrolled))
        }
        Err(Refused { refusal, denied }) => {
            (AppendResponse { receipts: Vec::new(), refusal: Some(*refusal) }, denied)
        }
    };
    let Some(refusal) = &answer.refusal else { return ok(&answer) };
    services.metrics.refused(refusal.code);
    let mut response = message(refusal.code, &answer);
    response.extensions_mut().extend(denied(reason));
    response
}

async fn take(
    services: &Services,
    caller: Result<Caller, Refused>,
    id: &str,
    body: Body,
) -> Result<AppendResponse, Refused> {
    let host = own_host(caller, id)?;
    let (body, _room) = services.appends.read(body, APPEND_BYTES_MAX).await?;
    Ok(services.acceptor.append(host, body).await)
}

pub(super) async fn head(
    Shared(services): Shared<State>,
    caller: Result<Caller, Refused>,
    Path(id): Path<String>,
) -> Result<Response<Body>, Refused> {
    let host = own_host(caller, &id)?;
    Ok(ok(&services.acceptor.head(host).await?))
}

/// The host of the path, if it is the one that the certificate names.
pub(super) fn own_host(caller: Result<Caller, Refused>, id: &str) -> Result<HostId, Refused> {
    match caller?.subject.identity {
        Identity::Host(host) if host.to_string() == id => Ok(host),
        Identity::Host(host) => Err(Refused::denied(
            DenialReason::OtherHost,
            format!("the certificate stands for host {host}, and only for it"),
        )),
        Identity::Person { .. } => {
            Err(Refused::denied(DenialReason::Role, "people do not append; this needs a host's certificate"))
        }
    }
}
