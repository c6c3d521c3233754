//! `custody-agent run`: joins the parts. Order matters: the spool is recovered before anything is recorded, the
//! sink's connections are left out before the first is made, facts are read after the probes are attached, and
//! the agent leaves itself out after its canary was seen.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use custody_decoders::item::Field;
use custody_decoders::mask::Masker;
use custody_ledger::tlog::{Policy, Witness};
use custody_ledger::{BootId, EntryType, PublicKey};
use custody_record::names;
use rustix::fs::FlockOperation;
use rustix::process::{DumpableBehavior, Resource, Rlimit};
use sd_notify::NotifyState;
use tokio::signal::unix::{SignalKind, signal};

use crate::attribution::users;
use crate::canary::Canary;
use crate::capture::{Capture, Seen};
use crate::chain::{Input, Recorder, Signer};
use crate::config::Config;
use crate::forward::Forwarder;
use crate::identity::Identity;
use crate::shared::{Shared, lock};
use crate::sink_client::{Address, Client};
use crate::spool::Spool;
use crate::status;
use crate::witness::{self, Watcher};
use crate::worker::isolate::Account;
use crate::workers::{Downlink, Orders, RingFd, Workers};
use crate::{events, files, privileges};

mod readiness;

use readiness::Readiness;

/// Inputs that wait for the chain; then the worker's reader waits, then the worker, then the rings fill.
const INPUTS_MAX: usize = 1024;
/// How often readiness is looked at, and the canary sings until it is seen.
const READY_LOOK: Duration = Duration::from_millis(200);
/// How long the last records may take to come out of worker and spool at an orderly stop.
const DRAIN_PATIENCE: Duration = Duration::from_secs(5);

/// Runs until a signal ends it.
pub fn run(config_path: &Path) -> Result<()> {
    let config = Config::load(config_path)?;
    privileges::check_for_run()?;
    // Before anything is written: a host that cannot be observed would fill its spool with starts.
    crate::probes::able::check(Path::new("/sys"))?;
    for (capability, cost) in privileges::missing_for_all() {
        events::capability_missing(&capability.to_string(), cost);
    }
    harden()?;
    let identity = Identity::load(&config.state_directory)?;
    let _only_one = lock_state(&config.state_directory)?;
    let (spool, recovery) = Spool::open(&config.state_directory, &config.spool)?;
    events::spool_opened(&recovery, spool.waiting());
    let aside = spool.aside();
    let shared = Arc::new(Shared::new(spool));
    lock(&shared.refused).waiting.extend(recovery.stranded.iter().chain(&aside.unnamed));
    {
        let mut status = shared.status();
        status.host = identity.facts.host.to_string();
        status.spool.bytes_max = config.spool.bytes_max;
        status.spool.free_at = config.spool.free_at;
        status.aside.batches = aside.batches;
        status.configuration = format!("loaded {}", config_path.display());
    }
    let policy = config.spool.policy()?;
    if policy.as_ref().is_some_and(|policy| policy.sink != identity.facts.sink) {
        bail!("the policy {} is that of another sink than this host's", config.spool.policy.display());
    }
    let kept = witness::load(&config.state_directory)?;
    if let Some(kept) = &kept {
        shared.checkpoint_kept(kept.checkpoint());
    }
    let signer = Signer {
        host: identity.facts.host,
        key: identity.host_key()?,
        boot: boot_id()?,
        state_directory: config.state_directory.clone(),
    };
    let recorder = Recorder::open(signer, Arc::clone(&shared), recovery.last)?;
    let (inputs, taken) = sync_channel(INPUTS_MAX);
    let failed = Arc::new(AtomicBool::new(false));
    let recording = {
        let failed = Arc::clone(&failed);
        thread("recorder", move || {
            let result = recorder.run(&taken);
            failed.store(result.is_err(), Ordering::SeqCst);
            result
        })?
    };
    tell_start(&inputs, &config, &recovery)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let _entered = runtime.enter();
    let agent = Agent::start(config, config_path, identity, (kept, policy), shared, inputs, failed)?;
    let result = runtime.block_on(agent.live(recording));
    runtime.shutdown_timeout(Duration::from_secs(1));
    result
}

fn tell_start(inputs: &SyncSender<Input>, config: &Config, recovery: &crate::spool::Recovery) -> Result<()> {
    let kernel = rustix::system::uname().release().to_string_lossy().into_owned();
    let mut facts = vec![
        Field::structure(names::AGENT_VERSION, env!("CARGO_PKG_VERSION")),
        Field::structure(names::AGENT_KERNEL, kernel),
    ];
    facts.extend(
        crate::probes::object_hash()
            .map(|hash| Field::structure(names::AGENT_OBJECT_HASH, hex::encode(hash))),
    );
    inputs.send(Input::Fact(EntryType::AgentStart, facts))?;
    inputs.send(Input::Fact(EntryType::Config, config_facts(config, "loaded")?))?;
    if recovery.torn_bytes > 0 {
        inputs.send(Input::Gap("spool_torn", None))?;
    }
    if !recovery.damaged.is_empty() {
        inputs.send(Input::Gap("spool_damaged", None))?;
    }
    // What stood in the rings when the agent before this one ended, in order or not, is not known.
    if recovery.last.is_some() {
        inputs.send(Input::Gap("agent_restart", None))?;
    }
    Ok(())
}

fn config_facts(config: &Config, state: &str) -> Result<Vec<Field>> {
    let masks = Masker::new(config.masking.clone())?.rules_hash();
    Ok(vec![
        Field::structure(names::AGENT_CONFIG_HASH, hex::encode(config.hash())),
        Field::structure(names::AGENT_MASK_HASH, hex::encode(masks)),
        Field::structure(names::AGENT_CONFIG_STATE, state),
    ])
}

/// Everything that runs.
struct Agent {
    config: Config,
    config_path: PathBuf,
    shared: Arc<Shared>,
    inputs: SyncSender<Input>,
    failed: Arc<AtomicBool>,
    canary: Canary,
    capture: Sender<Seen>,
    capturing: JoinHandle<()>,
    downlink: Arc<Downlink>,
    working: JoinHandle<()>,
    orders: Arc<Mutex<Orders>>,
    status: status::Server,
    sink_key: PublicKey,
}

impl Agent {
    fn start(
        config: Config,
        config_path: &Path,
        identity: Identity,
        (kept, policy): (Option<Witness>, Option<Policy>),
        shared: Arc<Shared>,
        inputs: SyncSender<Input>,
        failed: Arc<AtomicBool>,
    ) -> Result<Self> {
        let own_program = std::env::current_exe().context("finding the agent's own program")?;
        let account = account(&config)?;
        let canary = Canary::listen()?;
        let address = Address::parse(&identity.facts.sink_url)?;
        let sink = address.resolve().unwrap_or_else(|error| {
            // It is tried again before each connection.
            events::sink_unreachable(&error, Duration::ZERO);
            Vec::new()
        });
        let sink = sink.into_iter().map(|known| (known, address.port)).collect();
        let capture = Capture::load(&config.capture, &own_program, sink, canary.port(), Arc::clone(&shared))?;
        let rings = capture.probes().rings();
        let copy = |ring: crate::probes::RingHandle<'_>| -> Result<RingFd> {
            Ok(RingFd { fd: ring.fd.try_clone_to_owned()?, bytes: ring.bytes })
        };
        let (data, control) = (copy(rings.data)?, copy(rings.control)?);
        let (capture_sender, seen) = channel();
        let downlink = Arc::new(Downlink::default());
        let capturing = {
            let (downlink, recorder) = (Arc::clone(&downlink), inputs.clone());
            thread("capture", move || capture.run(&seen, &downlink, &recorder))?
        };
        let traces = tokio::sync::broadcast::Sender::new(1024);
        let orders =
            Arc::new(Mutex::new(Orders { limits: config.limits.clone(), masking: config.masking.clone() }));
        let workers = Workers {
            account,
            data,
            control,
            canary: crate::link::Canary { port: canary.port(), pid: std::process::id() },
            leaves_out_unbound: config.capture.exclude.has_addresses()
                || config.capture.include.has_addresses(),
            orders: Arc::clone(&orders),
            program: own_program,
            shared: Arc::clone(&shared),
            recorder: inputs.clone(),
            capture: capture_sender.clone(),
            traces: traces.clone(),
            downlink: Arc::clone(&downlink),
        };
        let working = thread("workers", move || workers.run())?;
        let forwarder = Forwarder {
            host: identity.facts.host,
            sink: identity.facts.sink,
            client: Client::enrolled(&identity, Duration::from_secs(config.forward.timeout_seconds))?,
            address,
            capture: capture_sender.clone(),
            shared: Arc::clone(&shared),
            recorder: inputs.clone(),
            backoff_max: Duration::from_secs(config.forward.backoff_seconds_max),
            sink_epoch: 0,
        };
        let sink_key = identity.facts.sink;
        tokio::spawn(forwarder.run());
        let watcher = Watcher {
            host: identity.facts.host,
            sink: identity.facts.sink,
            client: Client::enrolled(&identity, Duration::from_secs(config.forward.timeout_seconds))?,
            wait: Duration::from_secs(config.forward.timeout_seconds) / 2,
            shared: Arc::clone(&shared),
            recorder: inputs.clone(),
            state_directory: config.state_directory.clone(),
            backoff_max: Duration::from_secs(config.forward.backoff_seconds_max),
            kept,
            policy,
        };
        tokio::spawn(watcher.run());
        files::make_private_folder(&config.runtime_directory)?;
        let status = status::Server::listen(
            &config.runtime_directory,
            Arc::clone(&shared),
            Arc::clone(&downlink),
            traces,
        )?;
        Ok(Agent {
            config,
            config_path: config_path.to_owned(),
            shared,
            inputs,
            failed,
            canary,
            capture: capture_sender,
            capturing,
            downlink,
            working,
            orders,
            status,
            sink_key,
        })
    }

    async fn live(mut self, recording: JoinHandle<Result<()>>) -> Result<()> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut hangup = signal(SignalKind::hangup())?;
        let mut look = tokio::time::interval(READY_LOOK);
        let mut readiness = Readiness::new();
        loop {
            tokio::select! {
                _ = terminate.recv() => break,
                _ = interrupt.recv() => break,
                _ = hangup.recv() => self.reload()?,
                _ = look.tick() => {
                    if recording.is_finished() {
                        break;
                    }
                    readiness.look(&self)?;
                }
            }
        }
        self.stop(recording).await
    }

    /// The last good configuration stays when the new one is bad; the attempt is recorded either way.
    fn reload(&mut self) -> Result<()> {
        notify(&[NotifyState::Reloading]);
        let state = match Config::load(&self.config_path) {
            Ok(config) => {
                *lock(&self.orders) =
                    Orders { limits: config.limits.clone(), masking: config.masking.clone() };
                self.config = config;
                // Limits and masks are the worker's: the next one takes them over.
                self.downlink.send(&crate::link::ToWorker::Finish);
                "reloaded".to_owned()
            }
            Err(error) => format!("refused, the last good one stays: {error}"),
        };
        events::configuration(&state);
        // The refusal may quote the file, which is no payload but may hold names: only the fact is recorded.
        let recorded = if state == "reloaded" { "reloaded" } else { "refused" };
        self.inputs.send(Input::Fact(EntryType::Config, config_facts(&self.config, recorded)?))?;
        self.shared.status().configuration = state;
        notify(&[NotifyState::Ready]);
        Ok(())
    }

    async fn stop(self, recording: JoinHandle<Result<()>>) -> Result<()> {
        notify(&[NotifyState::Stopping]);
        self.downlink.finish();
        let (shared, inputs) = (Arc::clone(&self.shared), self.inputs.clone());
        wait_for(DRAIN_PATIENCE, || self.working.is_finished()).await;
        drop(self.capture.send(Seen::Stop));
        wait_for(DRAIN_PATIENCE, || self.capturing.is_finished()).await;
        if !self.failed.load(Ordering::SeqCst) {
            let (done, finished) = sync_channel(1);
            if inputs.send(Input::Stop(done)).is_ok() {
                tokio::task::spawn_blocking(move || finished.recv()).await?.ok();
            }
        }
        drop(inputs);
        // What is in the spool is safe; what the sink can have now, it gets now.
        wait_for(DRAIN_PATIENCE, || lock(&shared.spool).waiting() == 0).await;
        drop(self.status);
        match recording.join() {
            Ok(result) => result.context("recording ended; the next start recovers"),
            Err(_) => bail!("the recorder panicked; the next start recovers"),
        }
    }
}

/// Tells systemd; without one there is nobody to tell.
fn notify(state: &[NotifyState<'_>]) {
    drop(sd_notify::notify(state));
}

async fn wait_for(patience: Duration, mut done: impl FnMut() -> bool) {
    let began = Instant::now();
    while !done() && began.elapsed() < patience {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn thread<T: Send + 'static>(name: &str, body: impl FnOnce() -> T + Send + 'static) -> Result<JoinHandle<T>> {
    std::thread::Builder::new().name(name.to_owned()).spawn(body).with_context(|| format!("starting {name}"))
}

/// Keys and payload must not end in a core file.
fn harden() -> Result<()> {
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    rustix::process::setrlimit(Resource::Core, none).context("forbidding core dumps")?;
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable).context("forbidding dumps")
}

fn lock_state(state_directory: &Path) -> Result<std::fs::File> {
    let path = state_directory.join("lock");
    let file = std::fs::File::create(&path).with_context(|| format!("cannot make {}", path.display()))?;
    if rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        bail!("another custody-agent runs on {}: two would make two chains", state_directory.display());
    }
    Ok(file)
}

fn boot_id() -> Result<BootId> {
    let path = "/proc/sys/kernel/random/boot_id";
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {path}"))?;
    let uuid = uuid::Uuid::try_parse(text.trim()).with_context(|| format!("{path} holds no id"))?;
    Ok(BootId(*uuid.as_bytes()))
}

fn account(config: &Config) -> Result<Account> {
    let name = &config.worker_user;
    let Some((uid, gid)) = users::account(Path::new("/"), name) else {
        bail!("worker_user `{name}` is not in /etc/passwd: name an account without rights");
    };
    if uid == 0 || gid == 0 {
        bail!("worker_user `{name}` is root: the worker reads hostile bytes and must have no rights");
    }
    Ok(Account { uid, gid })
}
