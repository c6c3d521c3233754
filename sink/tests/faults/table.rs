//! The tables, whatever they are of: each call of one run goes wrong once, each in all ways, and power is lost between any
//! two of them. What the sink does in a run, and what must hold afterwards, is the caller's.

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use custody_tests::disk::power::Volume;
use custody_tests::disk::{self, Call, Disk, Fault};
use custody_tests::random::{self, Random};

use crate::support::Sink;

/// Tried at once.
const WORKERS: usize = 2;
/// After so many of a long table is said how far it is.
const SAID_EACH: usize = 100;

/// What all runs of one table begin from.
pub(crate) struct Table {
    folder: tempfile::TempDir,
    disk: Disk,
    settings: &'static str,
}

/// The command that runs a sink; what it logs is kept.
pub(crate) fn run_command(sink: &Sink) -> Command {
    let said =
        std::fs::File::options().create(true).append(true).open(sink.folder.path().join("said")).unwrap();
    let mut command = sink.command();
    command.args(["run", "--allow-root"]).stderr(Stdio::from(said));
    command
}

/// What its runs logged.
pub(crate) fn said(sink: &Sink) -> String {
    std::fs::read_to_string(sink.folder.path().join("said")).unwrap_or_default()
}

/// The log of calls of a run on the layer.
pub(crate) fn log(sink: &Sink) -> PathBuf {
    sink.folder.path().join("calls")
}

impl Table {
    /// With these settings of the sink.
    pub(crate) fn of(settings: &'static str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let disk = Disk::build(folder.path()).unwrap();
        Table { folder, disk, settings }
    }

    /// Where the state lies that all runs begin from. Without one, each begins from nothing.
    pub(crate) fn base(&self) -> PathBuf {
        self.folder.path().join("base")
    }

    fn sink(&self) -> Sink {
        let sink = Sink::prepare(self.settings);
        if self.base().exists() {
            let status = Command::new("cp").arg("-a").arg(self.base()).arg(sink.state()).status().unwrap();
            assert!(status.success());
        }
        sink
    }

    /// The calls of a run in which nothing goes wrong.
    pub(crate) async fn clean_run(&self, work: impl AsyncFnOnce(&mut Sink)) -> Vec<Call> {
        let mut sink = self.sink();
        let mut command = run_command(&sink);
        self.disk.under(&mut command, &sink.state(), &log(&sink));
        sink.spawn_as(command);
        work(&mut sink).await;
        sink.stop();
        disk::read(&std::fs::read(log(&sink)).unwrap())
    }

    /// Each of these calls goes wrong once, or as many of them as the ordinary test tries. `work` gets the sink, and whether
    /// it started: a start that fails is one way to be hit. It answers how many receipts were given, or what is wrong.
    pub(crate) fn whatever_goes_wrong(
        &self,
        calls: &[Call],
        ordinary: usize,
        work: impl AsyncFn(&mut Sink, bool) -> Result<usize, String> + Sync,
    ) {
        let counts = disk::counts(calls);
        println!("calls of a run: {counts:?}");
        let faults = disk::faults(&counts, ordinary);
        let tried = at_once(faults.len(), async |index| {
            let mut sink = self.sink();
            let mut command = run_command(&sink);
            self.disk.failing(&mut command, &sink.state(), &log(&sink), &faults[index]);
            let started = sink.try_spawn_as(command).is_ok();
            let outcome = work(&mut sink, started).await;
            let was_hit = std::fs::read(log(&sink)).is_ok_and(|log| !log.is_empty());
            outcome.map(|receipts| (was_hit, receipts)).map_err(|error| format!("{}: {error}", faults[index]))
        });
        report(&faults, &tried);
    }

    /// Power is lost between two of these calls, many times: what was not synced is gone, torn, or there in another order.
    /// `work` gets a sink on what is left, and the last call.
    pub(crate) fn whenever_power_is_lost(
        &self,
        calls: &[Call],
        ordinary: usize,
        work: impl AsyncFn(&mut Sink, &Call) -> Result<(), String> + Sync,
    ) {
        let whole = Volume::of(&self.base()).unwrap();
        let (seed, losses) = (random::seed(), random::count("CUSTODY_POWER", ordinary));
        let tried = at_once(losses, async |loss| {
            let mut random = Random::of(seed.wrapping_add(loss as u64));
            let crash = 1 + random.below(calls.len());
            let mut volume = whole.clone();
            calls[..crash].iter().for_each(|call| volume.take(call).unwrap());
            let mut sink = Sink::prepare(self.settings);
            volume.lose_power(&mut random, &sink.state()).unwrap();
            let call = &calls[crash - 1];
            work(&mut sink, call).await.map_err(|error| {
                format!("loss {loss} after call {crash} ({} {}): {error}", call.what, call.path)
            })
        });
        let wrong: Vec<_> = tried.iter().filter_map(|outcome| outcome.as_ref().err()).collect();
        println!("{} calls, {losses} losses of power, wrong {}", calls.len(), wrong.len());
        assert!(wrong.is_empty(), "{wrong:#?}");
    }
}

/// Does this for each number below `count`, some at once, and answers what came of each. What is wrong is told at once, for
/// a long table need not come to its end.
fn at_once<T: Send>(
    count: usize,
    work: impl AsyncFn(usize) -> Result<T, String> + Sync,
) -> Vec<Result<T, String>> {
    let (next, done) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    if index >= count {
                        return;
                    }
                    // What a test did not expect ends this one alone; the panic has said where.
                    let tried = std::panic::catch_unwind(AssertUnwindSafe(|| runtime.block_on(work(index))));
                    let outcome = tried.unwrap_or_else(|_| Err(format!("the test itself ended at {index}")));
                    if let Err(error) = &outcome {
                        println!("{error}");
                    }
                    let mut done = done.lock().unwrap();
                    done.push((index, outcome));
                    if done.len().is_multiple_of(SAID_EACH) {
                        println!("{} of {count} tried", done.len());
                    }
                }
            });
        }
    });
    let mut done = done.into_inner().unwrap();
    done.sort_unstable_by_key(|(index, _)| *index);
    done.into_iter().map(|(_, outcome)| outcome).collect()
}

fn report(faults: &[Fault], tried: &[Result<(bool, usize), String>]) {
    let (mut injected, mut not_reached, mut receipts) = (BTreeMap::<_, usize>::new(), 0, 0);
    let mut wrong = Vec::new();
    for (fault, outcome) in faults.iter().zip(tried) {
        match outcome {
            Ok((true, given)) => {
                *injected.entry((fault.how, fault.kind)).or_default() += 1;
                receipts += given;
            }
            Ok((false, _)) => not_reached += 1,
            Err(error) => wrong.push(error),
        }
    }
    let total: usize = injected.values().sum();
    println!(
        "injected {total} ({injected:?}), not reached {not_reached}, receipts given {receipts}, wrong {}",
        wrong.len()
    );
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(total > 0, "no fault was reached");
    println!("injected {total}, lost 0, invented 0");
}
