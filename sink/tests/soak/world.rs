//! The sink and the hosts as processes: starts them, ends them, starts them again when they ended, and counts what was done
//! to them. What to do when is for [`crate::schedule`].

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use custody_agent::identity::Identity;
use custody_ledger::HostId;
use custody_ledger::wire::JoinToken;
use custody_tests::disk::{Disk, Fault, How, KINDS};
use custody_tests::random::Random;

use crate::host;
use crate::line::{Far, Line};
use crate::seen::Seen;
use crate::support::Sink;

/// The last call of each kind of [`KINDS`] at which a fault is set: what a start comes to in its time.
const ORDINALS: [usize; 10] = [120, 150, 100, 60, 8, 8, 40, 6, 200, 4];
/// A wall clock goes so far wrong at hosts, s.
const HOST_CLOCK: usize = 100_000;
/// And at the sink, whose certificates begin an hour before they are made.
const SINK_CLOCK: usize = 3_000;
/// From the end of a process to its next start; a service manager waits as well.
const AGAIN_AFTER: Duration = Duration::from_millis(500);

/// One process on a state directory of a host: the host itself, or a clone of it.
pub(crate) struct Body {
    pub(crate) folder: PathBuf,
    child: Option<Child>,
    hazard: Hazard,
    again_at: Option<Instant>,
}

/// What is set to go wrong in one start.
#[derive(Default)]
struct Hazard {
    fault: Option<Fault>,
    /// Where the layer writes that it came to it.
    log: PathBuf,
}

impl Hazard {
    /// What was hit, told once.
    fn hit(&mut self) -> Option<String> {
        let is_hit = std::fs::read(&self.log).is_ok_and(|log| !log.is_empty());
        let fault = self.fault.filter(|_| is_hit)?;
        self.fault = None;
        Some(format!("{:?} at {}", fault.how, fault.kind))
    }
}

/// A host.
pub(crate) struct Host {
    pub(crate) id: Option<HostId>,
    pub(crate) body: Body,
    pub(crate) line: Line,
    /// With the moment of its end.
    pub(crate) clone: Option<(Body, Instant)>,
    /// Epoch counter of the copy that is kept of its state.
    pub(crate) snapshot: Option<u64>,
    /// How often an older state, or a second one, was started.
    pub(crate) went_back: usize,
    /// The sink had acknowledged what the older state does not know.
    pub(crate) must_be_named: bool,
}

/// All of it.
pub(crate) struct World {
    pub(crate) sink: Sink,
    pub(crate) hosts: Vec<Host>,
    pub(crate) seen: Arc<Mutex<Seen>>,
    pub(crate) injected: BTreeMap<String, usize>,
    /// Processes that ended though nothing was done to them.
    pub(crate) ended: Vec<String>,
    pub(crate) sink_away_until: Option<Instant>,
    pub(crate) starts: u64,
    /// Faults of files and clocks are set at starts.
    pub(crate) is_hostile: bool,
    disk: Disk,
    seed: u64,
    sink_hazard: Hazard,
    folder: PathBuf,
}

impl World {
    /// Starts a sink and enrols hosts, each by its own process.
    pub(crate) fn new(folder: &Path, hosts: usize, seed: u64) -> Result<Self> {
        let store = "disk_reserve_bytes = 0\nsegment_bytes_max = 4194304";
        let mut sink = Sink::configured(&format!("[store]\n{store}"));
        sink.spawn();
        let seen = Arc::new(Mutex::new(Seen::default()));
        let far = Far::of(&sink, Arc::clone(&seen))?;
        let mut token = sink.token(&["--host", "--uses", &hosts.to_string()]);
        let mut made = Vec::new();
        for number in 0..hosts {
            let folder = folder.join(format!("host-{number}"));
            let line = set_up(&folder, &far, &mut token)?;
            let body = Body::of(&folder);
            made.push(Host {
                id: None,
                body,
                line,
                clone: None,
                snapshot: None,
                went_back: 0,
                must_be_named: false,
            });
        }
        let mut world = World {
            sink_hazard: Hazard::default(),
            sink,
            hosts: made,
            seen,
            injected: BTreeMap::new(),
            ended: Vec::new(),
            sink_away_until: None,
            starts: 0,
            is_hostile: false,
            disk: Disk::build(folder)?,
            seed,
            folder: folder.to_owned(),
        };
        for number in 0..hosts {
            world.start_host(number)?;
        }
        Ok(world)
    }

    pub(crate) fn count(&mut self, what: &str) {
        *self.injected.entry(what.to_owned()).or_default() += 1;
    }

    /// What may go wrong in this start follows from the seed and its number alone.
    fn hazard(&mut self, command: &mut Command, root: &Path, clock: usize) -> Hazard {
        let mut random = Random::of(self.seed.wrapping_mul(31).wrapping_add(self.starts));
        let mut hazard = Hazard { fault: None, log: self.folder.join(format!("hit-{}", self.starts)) };
        if !self.is_hostile {
            return hazard;
        }
        if random.below(2) == 0 {
            let kind = random.below(KINDS.len());
            let how = *random.one(&[How::Eio, How::Enospc, How::Kill]);
            let fault = Fault { kind: KINDS[kind], ordinal: 1 + random.below(ORDINALS[kind]), how };
            self.disk.failing(command, root, &hazard.log, &fault);
            hazard.fault = Some(fault);
        }
        if random.below(4) == 0 {
            let ahead = random.below(2 * clock) as i64 - clock as i64;
            self.disk.at_another_time(command, ahead);
            self.count("a start with another wall clock");
        }
        hazard
    }

    pub(crate) fn start_host(&mut self, number: usize) -> Result<()> {
        self.start(number, false)
    }

    fn start(&mut self, number: usize, is_clone: bool) -> Result<()> {
        self.starts += 1;
        let start = self.starts;
        let folder = match &self.hosts[number].clone {
            Some((clone, _)) if is_clone => clone.folder.clone(),
            _ => self.hosts[number].body.folder.clone(),
        };
        let mut command = host::command(&folder, start)?;
        // Enrolling is tried elsewhere; it is not taken up where it was broken off.
        let mut hazard = Hazard::default();
        if Identity::folder(&folder.join("state")).exists() {
            hazard = self.hazard(&mut command, &folder.join("state"), HOST_CLOCK);
        }
        let child = command.spawn().context("a host")?;
        let host = &mut self.hosts[number];
        let body = match &mut host.clone {
            Some((clone, _)) if is_clone => clone,
            _ => &mut host.body,
        };
        (body.child, body.hazard, body.again_at) = (Some(child), hazard, None);
        Ok(())
    }

    /// Ends a host as a crash would, and starts it when it is due.
    pub(crate) fn kill_host(&mut self, number: usize) {
        let hit = self.hosts[number].body.kill();
        self.note_hit("host", hit);
    }

    /// Ends a host in order. It may take some seconds.
    pub(crate) fn stop_host(&mut self, number: usize) -> Result<()> {
        let body = &mut self.hosts[number].body;
        let Some(mut child) = body.child.take() else { return Ok(()) };
        drop(child.stdin.take());
        let status = child.wait()?;
        let hit = body.hazard.hit();
        body.again_at = Some(Instant::now());
        if !status.success() && hit.is_none() {
            self.ended.push(format!("host {number} did not stop in order: {status}"));
        }
        self.note_hit("host", hit);
        Ok(())
    }

    fn note_hit(&mut self, whose: &str, hit: Option<String>) {
        if let Some(what) = hit {
            self.count(&format!("{whose}: {what}"));
        }
    }

    /// Starts the state of a host a second time, until then.
    pub(crate) fn clone_host(&mut self, number: usize, until: Instant) -> Result<()> {
        self.kill_host(number);
        let folder = self.folder.join(format!("clone-{}-{number}", self.starts));
        configure(&folder)?;
        let body = Body::of(&folder);
        copy(&self.hosts[number].body.state(), &body.state())?;
        let host = &mut self.hosts[number];
        host.went_back += 1;
        host.clone = Some((body, until));
        self.start(number, true)
    }

    /// Ends it as a crash would, for good.
    pub(crate) fn end_clone(&mut self, number: usize) {
        let hit = self.hosts[number].clone.take().and_then(|(mut clone, _)| clone.kill());
        self.note_hit("host", hit);
    }

    /// Keeps a copy of the state as a crash leaves it.
    pub(crate) fn snapshot(&mut self, number: usize) -> Result<()> {
        self.kill_host(number);
        let body = &self.hosts[number].body;
        let kept = body.folder.join("snapshot");
        if kept.exists() {
            std::fs::remove_dir_all(&kept)?;
        }
        copy(&body.state(), &kept)?;
        let epoch = body.epoch()?;
        self.hosts[number].snapshot = Some(epoch);
        Ok(())
    }

    /// Puts it in the place of the state, which is kept for whoever looks for what was in it.
    pub(crate) fn restore(&mut self, number: usize) -> Result<()> {
        self.kill_host(number);
        let starts = self.starts;
        let host = &mut self.hosts[number];
        let epoch = host.snapshot.take().context("there is no snapshot")?;
        std::fs::rename(host.body.state(), host.body.folder.join(format!("discarded-{starts}")))?;
        std::fs::rename(host.body.folder.join("snapshot"), host.body.state())?;
        host.went_back += 1;
        let seen = self.seen.lock().unwrap();
        let acknowledged = host.id.and_then(|id| seen.epochs.get(&id)).copied();
        host.must_be_named |= acknowledged > Some(epoch);
        Ok(())
    }

    /// Ends the sink as a crash would; it is started again at that moment.
    pub(crate) fn kill_sink(&mut self, again_at: Instant) {
        self.sink.kill();
        self.sink_away_until = Some(again_at);
        let hit = self.sink_hazard.hit();
        self.note_hit("sink", hit);
    }

    /// Starts the sink again, with what goes wrong in this start; one that ends at once is started without.
    pub(crate) fn start_sink(&mut self) -> Result<()> {
        self.starts += 1;
        let mut command = self.sink_command()?;
        let root = self.sink.state();
        self.sink_hazard = self.hazard(&mut command, &root, SINK_CLOCK);
        if self.sink.try_spawn_as(command).is_ok() {
            return Ok(());
        }
        let hit = self.sink_hazard.hit();
        ensure!(hit.is_some(), "the sink does not start, and nothing was done to it: {}", self.sink_said());
        self.note_hit("sink", hit);
        self.sink.kill();
        let command = self.sink_command()?;
        self.sink.try_spawn_as(command).map_err(|error| anyhow::anyhow!("{error}: {}", self.sink_said()))
    }

    fn sink_command(&self) -> Result<Command> {
        let said = File::options().create(true).append(true).open(self.folder.join("sink-said"))?;
        let mut command = self.sink.command();
        command.args(["run", "--allow-root"]).stderr(said);
        Ok(command)
    }

    fn sink_said(&self) -> String {
        std::fs::read_to_string(self.folder.join("sink-said")).unwrap_or_default()
    }

    /// Starts again what has ended, and ends what is over.
    pub(crate) fn look_after(&mut self) -> Result<()> {
        let now = Instant::now();
        if self.sink_away_until.is_none_or(|until| now >= until) && !self.sink.is_alive() {
            let was_ended = self.sink_away_until.take().is_some();
            let hit = self.sink_hazard.hit();
            if hit.is_none() && !was_ended {
                self.ended.push("the sink ended".to_owned());
            }
            self.note_hit("sink", hit);
            self.start_sink()?;
        }
        for number in 0..self.hosts.len() {
            let host = &mut self.hosts[number];
            if host.id.is_none() {
                host.id = Identity::load(&host.body.state()).ok().map(|identity| identity.facts.host);
            }
            if host.clone.as_ref().is_some_and(|(_, until)| now >= *until) {
                self.end_clone(number);
            }
            if let Some((status, hit)) = self.hosts[number].body.ended()? {
                if hit.is_none() {
                    self.ended.push(format!("host {number} ended: {status}"));
                }
                self.note_hit("host", hit);
            }
            let again_at = self.hosts[number].body.again_at;
            if again_at.is_some_and(|again_at| now >= again_at + AGAIN_AFTER) {
                self.start_host(number)?;
            }
        }
        Ok(())
    }
}

impl Body {
    fn of(folder: &Path) -> Self {
        Body { folder: folder.to_owned(), child: None, hazard: Hazard::default(), again_at: None }
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.folder.join("state")
    }

    fn epoch(&self) -> Result<u64> {
        let text = std::fs::read_to_string(self.state().join("epoch"))?;
        Ok(text.trim().parse()?)
    }

    fn kill(&mut self) -> Option<String> {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
            self.again_at = Some(Instant::now());
        }
        self.hazard.hit()
    }

    /// How it ended by itself, and what was done to it.
    fn ended(&mut self) -> Result<Option<(ExitStatus, Option<String>)>> {
        let Some(child) = &mut self.child else { return Ok(None) };
        let Some(status) = child.try_wait()? else { return Ok(None) };
        (self.child, self.again_at) = (None, Some(Instant::now()));
        Ok(Some((status, self.hazard.hit())))
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Makes the folder of a host with what it needs to begin, and its line.
pub(crate) fn set_up(folder: &Path, far: &Far, token: &mut JoinToken) -> Result<Line> {
    configure(folder)?;
    let line = Line::open(far.clone(), folder.join("state").join("identity"))?;
    token.url = format!("https://localhost:{}", line.port);
    std::fs::write(folder.join("token"), token.to_string())?;
    Ok(line)
}

fn configure(folder: &Path) -> Result<()> {
    std::fs::create_dir(folder)?;
    // The least reserve: a table of a thousand hosts would hold sixteen times as much of the disk otherwise.
    let config = format!(
        "config_version = 1\nstate_directory = \"{0}/state\"\nruntime_directory = \"{0}/run\"\n\
         [spool]\nsegment_bytes = 1048576\nreserve_bytes = 1048576\n\
         [forward]\ntimeout_seconds = 5\nbackoff_seconds_max = 5\n",
        folder.display()
    );
    Ok(std::fs::write(folder.join("agent.toml"), config)?)
}

pub(crate) fn copy(from: &Path, to: &Path) -> Result<()> {
    let status = Command::new("cp").arg("-a").arg(from).arg(to).status()?;
    ensure!(status.success(), "cp -a {} {}: {status}", from.display(), to.display());
    Ok(())
}
