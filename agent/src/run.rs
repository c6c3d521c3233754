//! `custody-agent run`: joins the parts. Order matters: the spool is recovered before anything is recorded, the
//! sink's connections are left out before the first is made, facts are read after the probes are attached, and
//! the agent leaves itself out after its canary was seen.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use custody_decoders::level::Level;
use custody_ledger::EntryType;
use rustix::process::{DumpableBehavior, Resource, Rlimit};
use sd_notify::NotifyState;
use tokio::signal::unix::{SignalKind, signal};

use crate::attribution::users;
use crate::canary::Canary;
use crate::capture::{Capture, Seen};
use crate::chain::Input;
use crate::config::Config;
use crate::evidence::{DRAIN_PATIENCE, Evidence, wait_for};
use crate::in_force::{self, InForce};
use crate::link::ToWorker;
use crate::shared::lock;
use crate::sink_client::Address;
use crate::status;
use crate::worker::isolate::Account;
use crate::workers::{Downlink, Orders, RingFd, Workers};
use crate::{events, files, privileges};

mod readiness;

use readiness::Readiness;

/// How often readiness is looked at, and the canary sings until it is seen.
const READY_LOOK: Duration = Duration::from_millis(200);

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
    let evidence = Evidence::open(&config)?;
    evidence.shared.status().configuration = format!("loaded {}", config_path.display());
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let _entered = runtime.enter();
    let agent = Agent::start(config, config_path, evidence)?;
    let result = runtime.block_on(agent.live());
    runtime.shutdown_timeout(Duration::from_secs(1));
    result
}

/// Everything that runs.
struct Agent {
    config: Config,
    config_path: PathBuf,
    in_force: InForce,
    evidence: Evidence,
    canary: Canary,
    capture: Sender<Seen>,
    capturing: JoinHandle<()>,
    downlink: Arc<Downlink>,
    working: JoinHandle<()>,
    orders: Arc<Mutex<Orders>>,
    status: status::Server,
}

impl Agent {
    fn start(config: Config, config_path: &Path, mut evidence: Evidence) -> Result<Self> {
        let own_program = std::env::current_exe().context("finding the agent's own program")?;
        let account = account(&config)?;
        let canary = Canary::listen()?;
        let address = Address::parse(&evidence.identity.facts.sink_url)?;
        let (shared, inputs) = (Arc::clone(&evidence.shared), evidence.inputs.clone());
        let sink = address.resolve().unwrap_or_else(|error| {
            // It is tried again before each connection.
            events::sink_unreachable(&error, Duration::ZERO);
            Vec::new()
        });
        let sink = sink.into_iter().map(|known| (known, address.port)).collect();
        let capture = Capture::load(&config.capture, &own_program, sink, canary.port(), Arc::clone(&shared))?;
        let in_force = InForce::of(&capture.probes().programs())?;
        let loaded = in_force.facts(&config, in_force::Outcome::Loaded, None)?;
        inputs.send(Input::Fact(EntryType::Config, loaded))?;
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
        evidence.forward(&config, capture_sender.clone())?;
        files::make_private_folder(&config.runtime_directory)?;
        let status =
            status::Server::listen(&config.runtime_directory, shared, Arc::clone(&downlink), traces)?;
        Ok(Agent {
            config,
            config_path: config_path.to_owned(),
            in_force,
            evidence,
            canary,
            capture: capture_sender,
            capturing,
            downlink,
            working,
            orders,
            status,
        })
    }

    async fn live(mut self) -> Result<()> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut hangup = signal(SignalKind::hangup())?;
        let mut look = tokio::time::interval(READY_LOOK);
        let mut readiness = Readiness::new();
        let mut level = None;
        loop {
            tokio::select! {
                _ = terminate.recv() => break,
                _ = interrupt.recv() => break,
                _ = hangup.recv() => self.reload()?,
                _ = look.tick() => {
                    if self.evidence.has_ended() {
                        break;
                    }
                    readiness.look(&self)?;
                    self.tell_level(&mut level);
                    self.evidence.shared.sample_spool();
                }
            }
        }
        self.stop().await
    }

    /// To the worker, which is not told by the chain's thread: that one must never wait for a worker that waits for it.
    fn tell_level(&self, told: &mut Option<Level>) {
        let now = self.evidence.shared.status().level.in_force;
        // Without a worker it is tried again; the next one begins with the level of then.
        if *told != Some(now) && self.downlink.send(&ToWorker::Level(now)) {
            *told = Some(now);
        }
    }

    /// The last good configuration stays when the new one is bad; the attempt is recorded either way.
    fn reload(&mut self) -> Result<()> {
        notify(&[NotifyState::Reloading]);
        let (outcome, state) = match Config::load(&self.config_path) {
            Ok(config) => {
                let outcome = in_force::Outcome::of_reload(&self.config, &config);
                *lock(&self.orders) =
                    Orders { limits: config.limits.clone(), masking: config.masking.clone() };
                self.evidence.shared.status().level.configure(config.capture.level);
                self.config = config;
                // Limits and masks are the worker's: the next one takes them over.
                self.downlink.send(&ToWorker::Finish);
                let state = match outcome {
                    in_force::Outcome::ReloadedInPart => {
                        "reloaded; what changed beside limits, masking and level waits for the next start"
                    }
                    _ => "reloaded",
                };
                (outcome, state.to_owned())
            }
            Err(error) => (in_force::Outcome::Refused, format!("refused, the last good one stays: {error}")),
        };
        events::configuration(&state);
        // The refusal may quote the file, which is no payload but may hold names: only the file's hash is recorded.
        let refused = (outcome == in_force::Outcome::Refused).then_some(self.config_path.as_path());
        let facts = self.in_force.facts(&self.config, outcome, refused)?;
        self.evidence.inputs.send(Input::Fact(EntryType::Config, facts))?;
        self.evidence.shared.status().configuration = state;
        notify(&[NotifyState::Ready]);
        Ok(())
    }

    async fn stop(self) -> Result<()> {
        notify(&[NotifyState::Stopping]);
        self.downlink.finish();
        wait_for(DRAIN_PATIENCE, || self.working.is_finished()).await;
        drop(self.capture.send(Seen::Stop));
        wait_for(DRAIN_PATIENCE, || self.capturing.is_finished()).await;
        let result = self.evidence.stop().await;
        drop(self.status);
        result
    }
}

/// Tells systemd; without one there is nobody to tell.
fn notify(state: &[NotifyState<'_>]) {
    drop(sd_notify::notify(state));
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
