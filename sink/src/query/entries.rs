//! `GET /v1/entries/HOST/EPOCH/SEQ`: one entry by its citation.

use axum::body::Body;
use axum::extract::{Path, State as Shared};
use axum::http::Response;
use custody_ledger::Seq;

use super::sight::Sight;
use super::views::Viewer;
use super::{blocking, json, not_found, store_trouble};
use crate::http::{Caller, Refused, State};

pub(super) async fn entry(
    Shared(services): Shared<State>,
    caller: Caller,
    Path((name, epoch, seq)): Path<(String, u64, u64)>,
) -> Result<Response<Body>, Refused> {
    let sight = Sight::of(&caller)?;
    tracing::info!(reader = sight.reader, host = ?name, epoch, seq, "entry read");
    let view = blocking(move || {
        let store = &services.store;
        let hosts = sight.hosts(store).map_err(store_trouble)?;
        let mut named = hosts
            .iter()
            .filter(|host| host.enrolment.name == name || host.enrolment.host.to_string() == name);
        let host = named.next().ok_or_else(|| not_found("there is no such host at this sink"))?;
        if named.next().is_some() {
            return Err(not_found("several hosts have this name: give the host's id instead"));
        }
        let entry = store.entry(host.enrolment.host, epoch, Seq(seq)).map_err(store_trouble)?;
        let entry =
            entry.ok_or_else(|| not_found(format!("this host has no entry {epoch}/{seq} at this sink")))?;
        Viewer::new(&services.tree).view(store, host, &entry).map(|(_, view)| view).map_err(store_trouble)
    });
    json(&view.await?)
}
