//! A host's own routes: append, and ask for the head.

use axum::body::{Body, Bytes};
use axum::extract::rejection::BytesRejection;
use axum::extract::{Path, State as Shared};
use axum::http::Response;
use custody_ledger::HostId;
use custody_ledger::wire::{AppendResponse, Refusal, RefusalCode};

use super::answer::{message, ok};
use super::{Caller, Refused, State};
use crate::identity::Identity;

pub(super) async fn append(
    Shared(services): Shared<State>,
    caller: Result<Caller, Refused>,
    Path(id): Path<String>,
    body: Result<Bytes, BytesRejection>,
) -> Response<Body> {
    let answer = match own_host(caller, &id) {
        Err(refused) => AppendResponse { receipts: Vec::new(), refusal: Some(*refused.0) },
        Ok(host) => match body {
            Ok(body) => services.acceptor.append(host, body).await,
            Err(rejection) => AppendResponse { receipts: Vec::new(), refusal: Some(unread(&rejection)) },
        },
    };
    match &answer.refusal {
        None => ok(&answer),
        Some(refusal) => {
            services.metrics.refused(refusal.code);
            message(refusal.code, &answer)
        }
    }
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
fn own_host(caller: Result<Caller, Refused>, id: &str) -> Result<HostId, Refused> {
    match caller?.0 {
        Identity::Host(host) if host.to_string() == id => Ok(host),
        Identity::Host(host) => Err(Refused::new(
            RefusalCode::Forbidden,
            format!("the certificate stands for host {host}, and only for it"),
        )),
        Identity::Person { .. } => {
            Err(Refused::new(RefusalCode::Forbidden, "people do not append; this needs a host's certificate"))
        }
    }
}

fn unread(rejection: &BytesRejection) -> Refusal {
    let (code, detail) = if rejection.status().as_u16() == 413 {
        (RefusalCode::TooLarge, "the request is longer than 8 MiB")
    } else {
        (RefusalCode::Busy, "the request's body ended early")
    };
    Refusal { code, detail: detail.to_owned(), head: None }
}
