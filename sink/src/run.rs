//! `custody-sink run`: puts the parts together, tells systemd, and stops in order.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use rustix::process::{DumpableBehavior, Resource, Rlimit};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Semaphore, watch};

use crate::accept::Acceptor;
use crate::authority::Authority;
use crate::config::Config;
use crate::denied::{self, Denials};
use crate::http::{self, Intake, Services, server};
use crate::metrics::Metrics;
use crate::retention::{self, Keeper};
use crate::revocation::{Revocations, statements};
use crate::search::Search;
use crate::store::{Recovered, Store};
use crate::token::Tokens;
use crate::tree::Tree;

/// Enrolments that are read at once.
const ENROLMENTS_MAX: usize = 8;
/// Searches that run at once: each may take a core for as long as its limit of time.
const SEARCHES_MAX: usize = 4;
/// How often the store is asked whether it has failed.
const HEALTH_INTERVAL: Duration = Duration::from_millis(500);

/// Runs until a signal or a failure of the store.
pub fn run(config: &Config, allow_root: bool) -> anyhow::Result<()> {
    if rustix::process::geteuid().is_root() && !allow_root {
        bail!(
            "the sink needs no rights and refuses to run as root: start it as its own user \
             (the packaged unit uses custody-sink), or say --allow-root"
        );
    }
    let _ = rustls::crypto::ring::default_provider().install_default();
    // Evidence and keys are for this user alone, whatever the shell's umask is.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    forbid_dumps()?;
    create_state_directory(&config.state_directory)?;
    let (authority, key) = Authority::open(&config.state_directory, config.certificate_days)?;
    let tokens = Tokens::open(&config.state_directory)?;
    let revocations = Revocations::open(&config.state_directory)?;
    let (store, recovered) = Store::open(&config.state_directory, config.store_limits())?;
    report(&recovered);
    let store = Arc::new(store);
    let metrics = Arc::new(Metrics::default());
    let witnesses =
        config.witnesses.witnesses().context("the witnesses of the configuration are no witnesses")?;
    let interval = config.checkpoint_interval();
    let tree = Tree::open(&config.state_directory, Arc::clone(&store), &key, interval, witnesses)
        .context("the log cannot be opened")?;
    let tree = Arc::new(tree);
    let search =
        Search::start(Arc::clone(&store), config.state_directory.join("search"), Arc::clone(&metrics))
            .context("cannot start the thread that fills the index of words")?;
    let acceptor = Arc::new(Acceptor::new(
        Arc::clone(&store),
        Arc::clone(&tree),
        Arc::new(key),
        Arc::clone(&metrics),
        config.quota,
    )?);
    let tls = authority.server_config(&config.server_names)?;
    let hosts_max = config.limits.hosts_max;
    let (stop, stopping) = watch::channel(false);
    let services = Arc::new(Services {
        store: Arc::clone(&store),
        tree: Arc::clone(&tree),
        acceptor: Arc::clone(&acceptor),
        authority,
        tokens,
        revocations,
        denials: Arc::new(Denials::new(Arc::clone(&metrics))),
        metrics: Arc::clone(&metrics),
        appends: Intake::new(config.limits.appends_max),
        enrolments: Intake::new(ENROLMENTS_MAX),
        readers: Arc::new(Semaphore::new(config.limits.readers_max)),
        search,
        searches: Arc::new(Semaphore::new(SEARCHES_MAX)),
        stopping,
        hosts_max,
    });
    let retention = Keeper::start(retention::Parts {
        store: Arc::clone(&store),
        tree: Arc::clone(&tree),
        acceptor,
        metrics: Arc::clone(&metrics),
        age: config.retention.bodies,
    });
    let retention = retention.context("cannot start the thread that lets bodies expire")?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start")?;
    let served = runtime.block_on(serve(config, tls, Arc::clone(&services), metrics, stop));
    retention.stop();
    services.search.stop();
    drop(services);
    served?;
    // Ends tasks that still hold the store, so that its last commit is the last.
    runtime.shutdown_timeout(Duration::from_secs(1));
    if tree.has_failed() {
        tree.close().context("the log has failed; a restart recovers it")?;
    }
    if store.has_failed() {
        store.close().context("the store has failed; a restart recovers it")?;
        bail!("the store has failed; a restart recovers it");
    }
    store.close().context("the store could not be closed in order; the next start recovers it")?;
    tree.close().context("the log could not be closed in order; the next start recovers it")
}

async fn serve(
    config: &Config,
    tls: Arc<rustls::ServerConfig>,
    services: http::State,
    metrics: Arc<Metrics>,
    stop_readers: watch::Sender<bool>,
) -> anyhow::Result<()> {
    let listener = TcpListener::bind(config.listen)
        .await
        .with_context(|| format!("cannot listen on {}", config.listen))?;
    let address = listener.local_addr().context("cannot ask for the own address")?;
    tracing::info!(%address, hosts = services.acceptor.hosts(), "ready");
    // Without systemd there is nobody to tell, and that is fine.
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
    let mut terminate = signal(SignalKind::terminate()).context("cannot wait for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot wait for SIGINT")?;
    let working = Arc::clone(&services);
    let stop = async move {
        tokio::select! {
            _ = terminate.recv() => tracing::info!("told to stop"),
            _ = interrupt.recv() => tracing::info!("told to stop"),
            () = failure(&working) => tracing::error!("store or log has failed: stopping, a restart recovers it"),
        }
        let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
        // Nobody follows: then there is nobody to tell.
        let _ = stop_readers.send(true);
    };
    // What changed while no sink ran is stated before anybody is answered.
    statements::state(Arc::clone(&services)).await;
    let stating = tokio::spawn(denied::state_for_ever(Arc::clone(&services)));
    let revoking = tokio::spawn(statements::state_for_ever(Arc::clone(&services)));
    let router = http::router(Arc::clone(&services));
    let counted = (metrics, Arc::clone(&services.denials));
    server::serve(listener, tls, router, counted, config.limits.connections_max, stop).await;
    stating.abort();
    revoking.abort();
    statements::state(Arc::clone(&services)).await;
    denied::state(services, true).await;
    Ok(())
}

/// Done when store or log has failed. While they work, systemd's watchdog is fed; a disk that hangs cannot be stopped
/// from inside, so that is left to systemd.
async fn failure(services: &http::Services) {
    let mut interval = tokio::time::interval(HEALTH_INTERVAL);
    let mut hung = false;
    while !services.has_failed() {
        let hangs = services.hangs();
        if hangs && !hung {
            tracing::error!(
                "the disk of the state directory does not answer: nothing is accepted, and the watchdog is not fed"
            );
        }
        hung = hangs;
        if !hangs {
            let _ = sd_notify::notify(&[sd_notify::NotifyState::Watchdog]);
        }
        interval.tick().await;
    }
}

/// Keys and what hosts said stand in this process's memory: no core of it is written, no debugger reads it.
fn forbid_dumps() -> anyhow::Result<()> {
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    rustix::process::setrlimit(Resource::Core, none).context("forbidding core dumps")?;
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable).context("forbidding dumps")
}

fn create_state_directory(path: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(path).with_context(|| {
        format!(
            "cannot create the state directory {}: create it and give it to the sink's user",
            path.display()
        )
    })
}

fn report(recovered: &Recovered) {
    if recovered.records > 0 || recovered.torn_bytes > 0 {
        tracing::warn!(
            records = recovered.records,
            torn_bytes = recovered.torn_bytes,
            "the last run did not end in order: the store is recovered"
        );
    }
}
