//! Revocations as statements of the store: what is new in the folder, and what went away from it, is stated within a second
//! by the running sink, or at its next start. Refusing stays with the folder; this only makes its changes evidence.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use custody_ledger::Statement;
use custody_ledger::statement::Stated;

use super::Revocations;
use crate::clock::now_ns;
use crate::http;
use crate::identity::Identity;
use crate::store::Store;

/// How often the folder is looked at.
const LOOK: Duration = Duration::from_millis(500);
/// It is read whole this often, also when it did not change: two changes may bear the same time.
const WHOLE: Duration = Duration::from_secs(30);

/// States what changes, again and again.
pub async fn state_for_ever(services: http::State) {
    let mut seen: (Option<SystemTime>, Instant) = (None, Instant::now());
    loop {
        tokio::time::sleep(LOOK).await;
        let changed = services.revocations.changed();
        if changed.is_some() && changed == seen.0 && seen.1.elapsed() < WHOLE {
            continue;
        }
        let now = Instant::now();
        if state(Arc::clone(&services)).await {
            seen = (changed, now);
        }
    }
}

/// States what differs between folder and store; whether nothing is left to be stated.
pub async fn state(services: http::State) -> bool {
    let stated = tokio::task::spawn_blocking(move || {
        // Where the store takes nothing now, it is stated later.
        services.store.check_ready()?;
        for (identity, what) in differences(&services.revocations, &services.store)? {
            services.acceptor.state_revocation(&identity, what)?;
        }
        anyhow::Ok(())
    });
    match stated.await {
        Ok(Ok(())) => true,
        Ok(Err(error)) => {
            tracing::error!(%error, "revocations could not be stated");
            false
        }
        Err(error) => {
            tracing::error!(%error, "revocations could not be stated");
            false
        }
    }
}

fn differences(revocations: &Revocations, store: &Store) -> anyhow::Result<Vec<(Identity, Stated)>> {
    let listed = revocations.list()?;
    let stated = store.revoked()?;
    let is_new = |one: &super::Revocation| stated.get(&one.identity.to_string()) != Some(&one.until_s);
    let new = listed.into_iter().filter(is_new).map(|one| {
        let identity = one.identity.to_string();
        (one.identity, Stated::Revoked { identity, until_s: one.until_s, reason: one.reason })
    });
    let mut all: Vec<_> = new.collect();
    for name in stated.into_keys() {
        // Only this sink's own words stand there, so each is an identity.
        let Ok(identity) = name.parse::<Identity>() else { continue };
        if !revocations.has(&identity) {
            all.push((identity, Stated::Reinstated { identity: name }));
        }
    }
    Ok(all)
}

/// The statement about an identity, made now.
pub fn statement(identity: &Identity, what: Stated) -> Statement {
    let host = match identity {
        Identity::Host(host) => Some(*host),
        Identity::Person { .. } => None,
    };
    Statement { host, at_ns: now_ns(), what }
}
