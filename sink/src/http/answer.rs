//! How answers are written: MessagePack with field names, refusals with their status.

use axum::body::Body;
use axum::http::{Extensions, HeaderValue, Response, StatusCode, header};
use axum::response::IntoResponse;
use custody_ledger::statement::DenialReason;
use custody_ledger::wire::{self, ErrorResponse, Refusal, RefusalCode};
use serde::Serialize;

/// A request that was refused whole.
#[derive(Clone, Debug)]
pub struct Refused {
    /// What the caller is told.
    pub refusal: Box<Refusal>,
    /// Set when somebody was not let in: the connection has it stated ([`crate::denied`]).
    pub denied: Option<DenialReason>,
}

impl Refused {
    /// `detail` is one sentence for people, without payload.
    pub fn new(code: RefusalCode, detail: impl Into<String>) -> Self {
        Refused {
            refusal: Box::new(Refusal { code, detail: detail.into(), head: None, retry_after_ms: None }),
            denied: None,
        }
    }

    /// For who is not let in.
    pub fn denied(reason: DenialReason, detail: impl Into<String>) -> Self {
        let code = if reason == DenialReason::Token { RefusalCode::Token } else { RefusalCode::Forbidden };
        Refused { denied: Some(reason), ..Refused::new(code, detail) }
    }

    /// For trouble inside the sink; the cause goes to the log, not to the caller.
    pub fn internal(error: &dyn std::error::Error) -> Self {
        tracing::error!(%error, "a request failed inside the sink");
        Refused::new(RefusalCode::Unavailable, "the sink cannot answer now; its log says why")
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response<Body> {
        let code = self.refusal.code;
        let mut response = message(code, &ErrorResponse { refusal: *self.refusal });
        response.extensions_mut().extend(denied(self.denied));
        response
    }
}

/// What tells the connection that an answer lets somebody not in.
pub(super) fn denied(reason: Option<DenialReason>) -> Extensions {
    let mut extensions = Extensions::new();
    if let Some(reason) = reason {
        extensions.insert(reason);
    }
    extensions
}

/// A message with the status of `code`.
pub(super) fn message<T: Serialize>(code: RefusalCode, body: &T) -> Response<Body> {
    with_status(StatusCode::from_u16(code.http_status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), body)
}

/// A message with status 200.
pub(super) fn ok<T: Serialize>(body: &T) -> Response<Body> {
    with_status(StatusCode::OK, body)
}

fn with_status<T: Serialize>(status: StatusCode, body: &T) -> Response<Body> {
    let bytes = match wire::encode(body) {
        Ok(bytes) => bytes,
        Err(error) => {
            tracing::error!(%error, "an answer cannot be written");
            return StatusCode::INTERNAL_SERVER_ERROR.into_response();
        }
    };
    let mut response = Response::new(Body::from(bytes));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(wire::CONTENT_TYPE));
    response
}
