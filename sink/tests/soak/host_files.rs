//! Every call of a host on its files goes wrong once (EIO, ENOSPC, killed), from its enrolment on: keys and certificate,
//! spool and cursor, epoch counter, and the checkpoint that it keeps. Each fault meets a host of its own, in its first start
//! or in a later one; the start after it goes on, and all that was durable comes to the sink. `CUSTODY_FAULTS=all` tries each
//! call, a number that many of them.

use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use custody_ledger::wire::JoinToken;
use custody_tests::disk::{self, Disk, Fault};

use crate::host;
use crate::judge::{Judgement, WentBack};
use crate::line::{Far, Line, Mode};
use crate::seen::Seen;
use crate::support::Sink;
use crate::world::set_up;

/// Faults of a first start, and of a later one, in the ordinary test.
const FAULTS: usize = 12;
/// Hosts at once.
const WORKERS: usize = 4;
/// Bursts of records in a start.
const BURSTS: &str = "4";
/// How long a start may take, whatever goes wrong in it.
const PATIENCE: Duration = Duration::from_secs(60);

/// What goes wrong in a start.
enum Layer<'a> {
    Nothing,
    /// All calls are written down there.
    Counted(&'a Path),
    Failing(&'a Path, &'a Fault),
}

struct Trials {
    folder: PathBuf,
    disk: Disk,
    far: Far,
    token: Mutex<JoinToken>,
    starts: AtomicU64,
}

impl Trials {
    fn new(folder: &Path, sink: &Sink, seen: &Arc<Mutex<Seen>>) -> Self {
        Trials {
            folder: folder.to_owned(),
            disk: Disk::build(folder).unwrap(),
            far: Far::of(sink, Arc::clone(seen)).unwrap(),
            token: Mutex::new(sink.token(&["--host", "--uses", "100000"])),
            starts: AtomicU64::new(1),
        }
    }

    fn host(&self, name: &str) -> Result<(PathBuf, Line)> {
        let folder = self.folder.join(format!("host-{name}"));
        let line = set_up(&folder, &self.far, &mut self.token.lock().unwrap())?;
        Ok((folder, line))
    }

    /// One start to its end.
    fn start(&self, folder: &Path, layer: &Layer<'_>) -> Result<ExitStatus> {
        let mut command = host::command(folder, self.starts.fetch_add(1, Ordering::Relaxed))?;
        command.env(host::BURSTS, BURSTS);
        let root = folder.join("state");
        match layer {
            Layer::Nothing => {}
            Layer::Counted(log) => self.disk.under(&mut command, &root, log),
            Layer::Failing(log, fault) => self.disk.failing(&mut command, &root, log, fault),
        }
        let mut child = command.spawn()?;
        let began = Instant::now();
        loop {
            // Not waited for: that would close its standard input, which is an order to stop.
            if let Some(status) = child.try_wait()? {
                return Ok(status);
            }
            if began.elapsed() > PATIENCE {
                child.kill()?;
                child.wait()?;
                bail!("it did not end: {}", std::fs::read_to_string(folder.join("said"))?);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn must_start(&self, folder: &Path, layer: &Layer<'_>) -> Result<()> {
        let status = self.start(folder, layer)?;
        if !status.success() {
            bail!("{status}: {}", std::fs::read_to_string(folder.join("said"))?);
        }
        Ok(())
    }

    /// One fault in the first or a later start of a host, and the start after it. Whether it was reached.
    fn try_one(&self, name: &str, is_later: bool, fault: &Fault) -> Result<bool> {
        let (folder, _line) = self.host(name)?;
        if is_later {
            self.must_start(&folder, &Layer::Nothing)?;
        }
        let log = folder.join("hit");
        let status = self.start(&folder, &Layer::Failing(&log, fault))?;
        let is_hit = std::fs::read(&log).is_ok_and(|log| !log.is_empty());
        if !is_hit && !status.success() {
            bail!("nothing went wrong, and it ended with {status}");
        }
        self.must_start(&folder, &Layer::Nothing)?;
        Ok(is_hit)
    }
}

#[test]
fn whatever_call_of_a_host_goes_wrong_the_next_start_goes_on_and_nothing_durable_is_lost() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let _entered = runtime.enter();
    let folder = tempfile::tempdir().unwrap();
    let mut sink = Sink::start();
    let seen = Arc::new(Mutex::new(Seen::default()));
    let trials = Trials::new(folder.path(), &sink, &seen);
    let (clean, _line) = trials.host("clean").unwrap();
    let mut faults = Vec::new();
    for is_later in [false, true] {
        let log = clean.join(format!("calls-{is_later}"));
        trials.must_start(&clean, &Layer::Counted(&log)).unwrap();
        let counts = disk::counts(&disk::read(&std::fs::read(log).unwrap()));
        println!("calls of a {} start: {counts:?}", if is_later { "later" } else { "first" });
        faults.extend(disk::faults(&counts, FAULTS).into_iter().map(|fault| (is_later, fault)));
    }
    let wrong = Mutex::new(Vec::new());
    let (next, injected) = (AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                let _entered = runtime.enter();
                while let Some((is_later, fault)) = faults.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let name = format!("{is_later}-{}-{}-{:?}", fault.kind, fault.ordinal, fault.how);
                    match trials.try_one(&name, *is_later, fault) {
                        Ok(is_hit) => {
                            injected.fetch_add(usize::from(is_hit), Ordering::Relaxed);
                        }
                        Err(error) => wrong.lock().unwrap().push(format!("{name}: {error:#}")),
                    }
                }
            });
        }
    });
    sink.stop();
    let judgement = judge(&sink, folder.path(), &seen);
    let mut wrong = wrong.into_inner().unwrap();
    wrong.extend(judgement.wrong);
    let injected = injected.into_inner();
    println!("injected {injected} of {}, {:?}, wrong {}", faults.len(), judgement.figures, wrong.len());
    assert!(wrong.is_empty() && injected > 0, "{}", wrong.join("\n"));
}

/// Nothing was done to any of these hosts that a record may be missing for.
fn judge(sink: &Sink, folder: &Path, seen: &Mutex<Seen>) -> Judgement {
    let hosts = std::fs::read_dir(folder).unwrap().map(|item| item.unwrap().path());
    let went_back =
        WentBack { untouched: hosts.filter(|path| path.is_dir()).collect(), ..WentBack::default() };
    Judgement::of(&sink.state(), folder, &seen.lock().unwrap(), &went_back).unwrap()
}

#[test]
fn a_line_that_carries_no_long_request_drains_the_spool_all_the_same() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let _entered = runtime.enter();
    let folder = tempfile::tempdir().unwrap();
    let mut sink = Sink::start();
    let seen = Arc::new(Mutex::new(Seen::default()));
    let trials = Trials::new(folder.path(), &sink, &seen);
    let (host, line) = trials.host("slow").unwrap();
    trials.must_start(&host, &Layer::Nothing).unwrap();
    line.set(Mode::Cut);
    // More than a line of this width carries at once.
    (0..3).for_each(|_| trials.must_start(&host, &Layer::Nothing).unwrap());
    assert!(waiting(&host) > 12, "{} batches wait", waiting(&host));
    line.set(Mode::Narrow);
    (0..4).for_each(|_| trials.must_start(&host, &Layer::Nothing).unwrap());
    sink.stop();
    assert_eq!(judge(&sink, folder.path(), &seen).wrong, Vec::<String>::new());
}

/// Batches that a host held when it said so last.
fn waiting(host: &Path) -> u64 {
    host::status(host).and_then(|status| status.pointer("/spool/batches")?.as_u64()).unwrap()
}
