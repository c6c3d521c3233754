//! A host's own routes: append, and ask for the head. Who it is comes first: nothing is read for strangers.

use axum::body::Body;
use axum::extract::{Path, State as Shared};
use axum::http::Response;
use custody_ledger::HostId;
use custody_ledger::statement::DenialReason;
use custody_ledger::wire::{APPEND_BYTES_MAX, AppendResponse};

use super::answer::{denied, message, ok};
use super::{Caller, Refused, Services, State, intake};
use crate::identity::Identity;

pub(super) async fn append(
    Shared(services): Shared<State>,
    caller: Result<Caller, Refused>,
    Path(id): Path<String>,
    body: Body,
) -> Response<Body> {
    let (answer, reason) = match take(&services, caller, &id, body).await {
        Ok(answer) => (answer, None),
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
    let turn = match services.acceptor.turn(host) {
        Ok(turn) => turn,
        Err(refused) => {
            // A connection that is cut while the host sends would take the answer with it.
            intake::discard(body, APPEND_BYTES_MAX).await;
            return Err(refused);
        }
    };
    let (body, _room) = services.appends.read(body, APPEND_BYTES_MAX).await?;
    Ok(services.acceptor.append(turn, body).await)
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
