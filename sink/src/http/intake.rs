//! How request bodies are read: a bounded number at once, of bounded length, in bounded time.

use std::time::Duration;

use axum::body::{Body, Bytes, to_bytes};
use custody_ledger::wire::RefusalCode;
use http_body_util::BodyExt;
use tokio::sync::{Semaphore, SemaphorePermit};

use super::Refused;

/// A request waits this long for its turn.
const TURN_MAX: Duration = Duration::from_secs(10);
/// A body has this long to arrive.
const BODY_MAX: Duration = Duration::from_secs(30);

/// Room for so many bodies at once.
pub struct Intake {
    room: Semaphore,
}

impl Intake {
    /// Room for `bodies_max`.
    pub fn new(bodies_max: usize) -> Self {
        Intake { room: Semaphore::new(bodies_max) }
    }

    /// Reads a body; its room is taken until the permit is dropped.
    pub(super) async fn read(
        &self,
        body: Body,
        bytes_max: usize,
    ) -> Result<(Bytes, SemaphorePermit<'_>), Refused> {
        let busy = |detail: &str| Refused::new(RefusalCode::Busy, detail);
        let turn = tokio::time::timeout(TURN_MAX, self.room.acquire()).await;
        let Ok(Ok(room)) = turn else {
            return Err(busy("the sink reads as many requests as it may: try again later"));
        };
        match tokio::time::timeout(BODY_MAX, to_bytes(body, bytes_max)).await {
            Ok(Ok(bytes)) => Ok((bytes, room)),
            Ok(Err(error)) if is_too_long(&error) => Err(Refused::new(
                RefusalCode::TooLarge,
                format!("the request is longer than {bytes_max} bytes"),
            )),
            Ok(Err(_)) => Err(busy("the request's body ended early")),
            Err(_) => Err(busy("the request's body took too long")),
        }
    }
}

/// Throws a body away as it comes: takes nobody's room.
pub(super) async fn discard(mut body: Body, bytes_max: usize) {
    let thrown_away = async {
        let mut left = bytes_max;
        while let Some(Ok(frame)) = body.frame().await {
            let bytes = frame.data_ref().map_or(0, Bytes::len);
            let Some(rest) = left.checked_sub(bytes) else { return };
            left = rest;
        }
    };
    // Elapsed is no error: then the connection is cut.
    let _ = tokio::time::timeout(BODY_MAX, thrown_away).await;
}

fn is_too_long(error: &axum::Error) -> bool {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if error.is::<http_body_util::LengthLimitError>() {
            return true;
        }
        cause = error.source();
    }
    false
}
