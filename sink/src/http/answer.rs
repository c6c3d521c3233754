//! How answers are written: MessagePack with field names, refusals with their status.

use axum::body::Body;
use axum::http::{HeaderValue, Response, StatusCode, header};
use axum::response::IntoResponse;
use custody_ledger::wire::{self, ErrorResponse, Refusal, RefusalCode};
use serde::Serialize;

/// A request that was refused whole.
#[derive(Clone, Debug)]
pub struct Refused(pub Box<Refusal>);

impl Refused {
    /// `detail` is one sentence for people, without payload.
    pub fn new(code: RefusalCode, detail: impl Into<String>) -> Self {
        Refused(Box::new(Refusal { code, detail: detail.into(), head: None }))
    }

    /// For trouble inside the sink; the cause goes to the log, not to the caller.
    pub fn internal(error: &dyn std::error::Error) -> Self {
        tracing::error!(%error, "a request failed inside the sink");
        Refused::new(RefusalCode::Unavailable, "the sink cannot answer now; its log says why")
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response<Body> {
        let code = self.0.code;
        message(code, &ErrorResponse { refusal: *self.0 })
    }
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
