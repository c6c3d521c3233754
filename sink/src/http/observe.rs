//! What watches the sink: metrics, liveness, readiness. Open to all who reach the port: counters, no records.

use std::sync::Arc;

use axum::extract::State as Shared;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;

use super::State;

pub(super) async fn metrics(Shared(services): Shared<State>) -> impl IntoResponse {
    let asked = Arc::clone(&services);
    // Without an answer the figures of before stay.
    if let Ok(Some(figures)) = tokio::task::spawn_blocking(move || asked.tree.witnessing().figures()).await {
        services.metrics.witnessed(figures);
    }
    let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, content_type)], services.metrics.text())
}

pub(super) async fn livez(Shared(services): Shared<State>) -> (StatusCode, &'static str) {
    if services.has_failed() {
        (StatusCode::SERVICE_UNAVAILABLE, "store or log has failed; a restart recovers it\n")
    } else if services.hangs() {
        (StatusCode::SERVICE_UNAVAILABLE, "the disk does not answer\n")
    } else {
        (StatusCode::OK, "ok\n")
    }
}

pub(super) async fn readyz(Shared(services): Shared<State>) -> (StatusCode, String) {
    match services.store.check_ready() {
        Ok(()) => (StatusCode::OK, "ok\n".to_owned()),
        Err(error) => (StatusCode::SERVICE_UNAVAILABLE, format!("{error}\n")),
    }
}
