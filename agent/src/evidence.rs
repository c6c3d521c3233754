//! The half of the agent that keeps and sends: spool, chain, forwarder, witness and its own certificate, put together from a state directory.
//! What is to be recorded comes in as [`Input`]. Must not know who observes it: it runs as well without probes.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Sender, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use custody_decoders::item::Field;
use custody_ledger::tlog::{Policy, Witness};
use custody_ledger::{BootId, EntryType};
use custody_record::names;
use rustix::fs::FlockOperation;

use crate::capture::Seen;
use crate::chain::{Input, Recorder, Signer};
use crate::config::Config;
use crate::events;
use crate::forward::{Forwarder, Run};
use crate::identity::Identity;
use crate::renewal::Renewer;
use crate::shared::{Shared, lock};
use crate::sink_client::{Address, Client, Credentials};
use crate::spool::{Recovery, Spool};
use crate::witness::{self, Watcher};

/// Inputs that wait for the chain; then the worker's reader waits, then the worker, then the rings fill.
const INPUTS_MAX: usize = 1024;
/// How long the last records may take to come out of worker and spool at an orderly stop.
pub const DRAIN_PATIENCE: Duration = Duration::from_secs(5);

/// A host's evidence in the making.
pub struct Evidence {
    /// Spool and figures.
    pub shared: Arc<Shared>,
    /// What is to be recorded.
    pub inputs: SyncSender<Input>,
    /// Who this host is.
    pub identity: Identity,
    recording: JoinHandle<Result<()>>,
    kept: Option<Witness>,
    policy: Option<Policy>,
    /// Held as long as this lives.
    _only_one: std::fs::File,
}

impl Evidence {
    /// Recovers the spool, opens the epoch of this start, and records that it began. Nothing is sent yet.
    pub fn open(config: &Config) -> Result<Self> {
        let directory = &config.state_directory;
        let identity = Identity::load(directory)?;
        let only_one = lock_state(directory)?;
        let (spool, recovery) = Spool::open(directory, &config.spool)?;
        events::spool_opened(&recovery, spool.waiting());
        let aside = spool.aside();
        let shared = Arc::new(Shared::new(spool));
        lock(&shared.refused).waiting.extend(recovery.stranded.iter().chain(&aside.unnamed));
        {
            let mut status = shared.status();
            status.host = identity.facts.host.to_string();
            status.spool.bytes_max = config.spool.bytes_max;
            status.spool.free_at = config.spool.free_at;
            status.level.configure(config.capture.level);
            status.aside.batches = aside.batches;
        }
        let policy = config.spool.policy()?;
        if policy.as_ref().is_some_and(|policy| policy.sink != identity.facts.sink) {
            bail!("the policy {} is that of another sink than this host's", config.spool.policy.display());
        }
        let kept = witness::load(directory)?;
        if let Some(kept) = &kept {
            shared.checkpoint_kept(kept.checkpoint());
        }
        let signer = Signer {
            host: identity.facts.host,
            key: identity.host_key()?,
            line: identity.line.clone(),
            boot: boot_id()?,
            state_directory: directory.clone(),
        };
        let recorder = Recorder::open(signer, Arc::clone(&shared), recovery.last)?;
        let (inputs, taken) = sync_channel(INPUTS_MAX);
        let recording = std::thread::Builder::new()
            .name("recorder".to_owned())
            .spawn(move || recorder.run(&taken))
            .context("starting recorder")?;
        tell_start(&inputs, &recovery)?;
        if !identity.line.is_empty() {
            inputs.send(Input::Fact(EntryType::Key, key_facts(&identity)?))?;
        }
        Ok(Evidence { shared, inputs, identity, recording, kept, policy, _only_one: only_one })
    }

    /// Starts to send and to watch the sink's log, on the runtime that is entered. `capture` hears of the sink's addresses
    /// before each connection.
    pub fn forward(&mut self, config: &Config, capture: Sender<Seen>) -> Result<()> {
        let timeout = Duration::from_secs(config.forward.timeout_seconds);
        let backoff_max = Duration::from_secs(config.forward.backoff_seconds_max);
        let facts = &self.identity.facts;
        let credentials = Credentials::of(&self.identity)?;
        let client = || Client::enrolled(&self.identity, &credentials, timeout);
        let forwarder = Forwarder {
            host: facts.host,
            sink: facts.sink,
            client: client()?,
            address: Address::parse(&facts.sink_url)?,
            capture,
            shared: Arc::clone(&self.shared),
            recorder: self.inputs.clone(),
            backoff_max,
            sink_epoch: 0,
            run: Run::default(),
        };
        tokio::spawn(forwarder.run());
        let watcher = Watcher {
            host: facts.host,
            sink: facts.sink,
            client: client()?,
            wait: timeout / 2,
            shared: Arc::clone(&self.shared),
            recorder: self.inputs.clone(),
            state_directory: config.state_directory.clone(),
            backoff_max,
            kept: self.kept.take(),
            policy: self.policy.take(),
        };
        tokio::spawn(watcher.run());
        let renewer = Renewer {
            state_directory: config.state_directory.clone(),
            client: client()?,
            credentials: Arc::clone(&credentials),
            recorder: self.inputs.clone(),
        };
        tokio::spawn(renewer.run());
        Ok(())
    }

    /// Whether the recorder takes nothing any more: a write went wrong, and the next start recovers.
    pub fn has_ended(&self) -> bool {
        self.recording.is_finished()
    }

    /// Ends the epoch in order, and lets the sink have what it can have now. An error: the next start recovers.
    pub async fn stop(self) -> Result<()> {
        let (done, finished) = sync_channel(1);
        let inputs = self.inputs;
        // Both fail when the recorder has ended by itself; its own result says why.
        let told = tokio::task::spawn_blocking(move || inputs.send(Input::Stop(done)).is_ok());
        if told.await? {
            tokio::task::spawn_blocking(move || finished.recv()).await?.ok();
        }
        // What is in the spool is safe; what the sink can have now, it gets now.
        wait_for(DRAIN_PATIENCE, || lock(&self.shared.spool).waiting() == 0).await;
        match self.recording.join() {
            Ok(result) => result.context("recording ended; the next start recovers"),
            Err(_) => bail!("the recorder panicked; the next start recovers"),
        }
    }
}

/// Waits until something is done, or for so long.
pub async fn wait_for(patience: Duration, mut done: impl FnMut() -> bool) {
    let began = Instant::now();
    while !done() && began.elapsed() < patience {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn tell_start(inputs: &SyncSender<Input>, recovery: &Recovery) -> Result<()> {
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

fn key_facts(identity: &Identity) -> Result<Vec<Field>> {
    Ok(vec![
        Field::structure(names::AGENT_HOST_KEY, identity.host_key()?.public().to_string()),
        Field::structure(names::AGENT_HOST_KEY_ROTATIONS, identity.line.len() as u64),
    ])
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
