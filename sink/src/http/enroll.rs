//! Enrolment: a join token and a certificate request in, an identity out.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State as Shared;
use axum::http::Response;
use custody_ledger::statement::{DenialReason, Enrolment, Signed, Stated, Statement};
use custody_ledger::wire::{self, ENROL_BYTES_MAX, EnrolRequest, EnrolResponse, RefusalCode};
use custody_ledger::{HostId, keys};
use uuid::Uuid;

use super::answer::ok;
use super::{Refused, Services, State};
use crate::identity::{Identity, Scope, Subject};
use crate::token::{Grant, TokenError};

/// Longest name that a host may give itself, characters.
const HOST_NAME_MAX: usize = 253;

pub(super) async fn enroll(Shared(services): Shared<State>, body: Body) -> Result<Response<Body>, Refused> {
    let (body, room) = services.enrolments.read(body, ENROL_BYTES_MAX).await?;
    let blocking = Arc::clone(&services);
    let answer = tokio::task::spawn_blocking(move || enrol(&blocking, &body))
        .await
        .map_err(|error| Refused::internal(&error))??;
    drop(room);
    Ok(ok(&answer))
}

fn enrol(services: &Services, body: &[u8]) -> Result<EnrolResponse, Refused> {
    let malformed = |detail: &str| Refused::new(RefusalCode::Malformed, detail);
    let request: EnrolRequest = wire::decode(body).map_err(|_| malformed("this is no enrolment request"))?;
    let grant = services.tokens.look_up(&request.secret).map_err(refuse_token)?;
    // Kept until the host counts as one of them: those who enrol at the same time must not all be the last one.
    let mut _place = None;
    let subject = match &grant {
        Grant::Host { .. } => {
            let full = || {
                let detail = "the sink has as many hosts as it may: raise limits.hosts_max";
                Refused::new(RefusalCode::TooLarge, detail)
            };
            _place = Some(services.acceptor.reserve(services.hosts_max).ok_or_else(full)?);
            let chain = request.chain.ok_or_else(|| malformed("a host enrols with its chain key"))?;
            if !keys::is_enrolment_proof(&chain.key, &request.certificate_request, &chain.proof) {
                return Err(malformed("the chain key's proof does not hold"));
            }
            Identity::Host(HostId::from_uuid(Uuid::now_v7())).into()
        }
        Grant::Person { role, name, labels } => Subject {
            identity: Identity::Person { role: *role, name: name.clone() },
            scope: Scope::of(labels.clone()),
        },
    };
    let certificate = services
        .authority
        .issue(&subject, &request.certificate_request)
        .map_err(|_| malformed("the certificate request is damaged, or its key is of a kind unknown here"))?;
    // A token is not used up for an enrolment that could not be kept.
    if let Err(error) = services.store.check_ready() {
        return Err(Refused::new(RefusalCode::Unavailable, error.to_string()));
    }
    // Nothing fails after this but the store: a damaged request costs no use of the token.
    services.tokens.use_once(&request.secret).map_err(refuse_token)?;
    let host = match (&subject.identity, grant) {
        (Identity::Host(host), Grant::Host { labels }) => {
            let enrolment = Enrolment {
                host: *host,
                key: request.chain.ok_or_else(|| malformed("a host enrols with its chain key"))?.key,
                name: shown_name(request.name.as_deref()),
                labels,
                enrolled_ns: crate::clock::now_ns(),
            };
            let payload = Signed::seal(services.acceptor.key(), &enrolment)
                .map_err(|error| Refused::internal(&error))?;
            services.store.enrol(&enrolment, &payload).map_err(|error| Refused::internal(&error))?;
            services.acceptor.add(enrolment);
            Some(*host)
        }
        _ => {
            let what = Stated::Admitted { identity: subject.to_string() };
            let statement = Statement { host: None, at_ns: crate::clock::now_ns(), what };
            services
                .store
                .state(services.acceptor.key(), &[statement])
                .map_err(|error| Refused::internal(&error))?;
            None
        }
    };
    services.metrics.enrolled();
    tracing::info!(%subject, "enrolled");
    Ok(EnrolResponse {
        identity: subject.to_string(),
        host,
        certificate,
        ca: services.authority.ca_pem().to_owned(),
        sink: services.acceptor.key().public(),
    })
}

/// A host's name for itself, without what could play tricks on a terminal. A name that is an id is dropped: people find
/// hosts by either, and it could be another host's.
fn shown_name(name: Option<&str>) -> String {
    let harmless = |c: &char| c.is_ascii_alphanumeric() || "._-".contains(*c);
    let name: String = name.unwrap_or_default().chars().filter(harmless).take(HOST_NAME_MAX).collect();
    if Uuid::try_parse(&name).is_ok() { String::new() } else { name }
}

fn refuse_token(error: TokenError) -> Refused {
    match error {
        TokenError::Unknown | TokenError::Expired | TokenError::UsedUp => {
            Refused::denied(DenialReason::Token, error.to_string())
        }
        TokenError::File(_) | TokenError::TooMany | TokenError::Random => Refused::internal(&error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_that_calls_itself_by_another_ones_id_hid_that_one() {
        for id in ["0190a0b0-0000-7000-8000-000000000001", "0190A0B0000070008000000000000001"] {
            assert_eq!(shown_name(Some(id)), "");
        }
        assert_eq!(shown_name(Some("web-1\u{1b}[2J.example")), "web-12J.example");
    }
}
