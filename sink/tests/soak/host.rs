//! A host in a process of its own: the agent's own half that keeps and sends, on a state directory, without probes. It
//! offers records until its standard input ends, or so many bursts of them, and writes down the hash of each before.

use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::time::Duration;

use anyhow::{Context, Result};
use custody_agent::chain::Input;
use custody_agent::config::Config;
use custody_agent::enroll::enroll;
use custody_agent::evidence::Evidence;
use custody_agent::identity::Identity;
use custody_decoders::item::Field;
use custody_decoders::mask::{Draft, Masker, link};
use custody_ledger::tree;
use custody_record::{Kind, Times, names};
use custody_tests::random::Random;

/// Names the folder of a host; without it the process plays none.
const FOLDER: &str = "CUSTODY_SOAK_HOST";
/// Which start of any host this is.
const START: &str = "CUSTODY_SOAK_START";
/// After so many bursts in quick succession it stops by itself.
pub(crate) const BURSTS: &str = "CUSTODY_SOAK_BURSTS";
/// Between two of those.
const QUICK: Duration = Duration::from_millis(300);
/// Longest wait between two bursts of records, and most records of one, of ordinary length.
const PAUSE_MS_MAX: usize = 1_500;
const BURST_MAX: usize = 12;
const FILLER_MAX: usize = 400;

/// How a host stands, for whoever watches it: `custody-agent status` would say it.
pub(crate) fn status(folder: &Path) -> Option<serde_json::Value> {
    serde_json::from_slice(&std::fs::read(folder.join("status.json")).ok()?).ok()
}

/// Starts one on what lies in `folder`; what it says goes to `said` there.
pub(crate) fn command(folder: &Path, start: u64) -> Result<Command> {
    let said = File::options().create(true).append(true).open(folder.join("said"))?;
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["--exact", "host::plays_a_host", "--nocapture"]).stdin(Stdio::piped());
    command.stdout(Stdio::null()).stderr(said);
    command.env(FOLDER, folder).env(START, start.to_string());
    Ok(command)
}

#[test]
fn plays_a_host() {
    let Some(folder) = std::env::var_os(FOLDER).map(PathBuf::from) else { return };
    let filter = tracing_subscriber::EnvFilter::new("warn");
    tracing_subscriber::fmt().with_env_filter(filter).with_ansi(false).with_writer(std::io::stderr).init();
    let start = std::env::var(START).unwrap().parse().unwrap();
    if let Err(error) = play(&folder, start) {
        eprintln!("start {start} ended: {error:#}");
        std::process::exit(3);
    }
}

fn play(folder: &Path, start: u64) -> Result<()> {
    let config = Config::load(&folder.join("agent.toml"))?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    if !Identity::folder(&config.state_directory).exists() {
        let token = std::fs::read_to_string(folder.join("token")).context("the token")?;
        runtime.block_on(enroll(&token, &config.state_directory))?;
    }
    let mut evidence = Evidence::open(&config)?;
    let _entered = runtime.enter();
    let (capture, _probes) = channel();
    evidence.forward(&config, capture)?;
    let told_to_stop = Arc::new(AtomicBool::new(false));
    let stop = Arc::clone(&told_to_stop);
    std::thread::spawn(move || {
        // Its end is the order, also when whoever started this process is gone.
        let _ = std::io::stdin().read(&mut [0]);
        stop.store(true, Ordering::SeqCst);
    });
    let mut offered = Offered::open(folder, start)?;
    let mut bursts_left = std::env::var(BURSTS).ok().map(|bursts| bursts.parse::<usize>()).transpose()?;
    while bursts_left != Some(0) && !told_to_stop.load(Ordering::SeqCst) && !evidence.has_ended() {
        if !folder.join("quiet").exists() && !offered.burst(&evidence)? {
            break;
        }
        let written = serde_json::to_vec(&evidence.shared.snapshot())?;
        std::fs::write(folder.join("status.new"), written)?;
        std::fs::rename(folder.join("status.new"), folder.join("status.json"))?;
        bursts_left = bursts_left.map(|bursts| bursts - 1);
        let pause = Duration::from_millis(100 + offered.random.below(PAUSE_MS_MAX) as u64);
        std::thread::sleep(if bursts_left.is_some() { QUICK } else { pause });
    }
    let stopped = runtime.block_on(evidence.stop());
    drop(_entered);
    runtime.shutdown_timeout(Duration::from_secs(1));
    stopped?;
    // Of this start nothing may be missing.
    File::create(folder.join(format!("stopped-{start}")))?;
    Ok(())
}

/// What this start offers.
struct Offered {
    start: u64,
    number: u64,
    file: File,
    masker: Masker,
    random: Random,
}

impl Offered {
    fn open(folder: &Path, start: u64) -> Result<Self> {
        let file = File::create(folder.join(format!("offered-{start}")))?;
        Ok(Offered { start, number: 0, file, masker: Masker::default(), random: Random::of(start) })
    }

    /// Some records at once; false when the recorder takes none any more.
    fn burst(&mut self, evidence: &Evidence) -> Result<bool> {
        let mut inputs = Vec::new();
        let mut lines = String::new();
        for _ in 0..=self.random.below(BURST_MAX) {
            let frame = self.record()?;
            let reader = link::WorkerReader::at_the_socket();
            let (body, _) = reader.decode(&frame)?.context("half a frame")?;
            lines.push_str(&format!("{}\n", tree::hash_of(&body.get().bytes)));
            inputs.push(Input::Record(body));
        }
        self.file.write_all(lines.as_bytes())?;
        Ok(inputs.into_iter().all(|input| evidence.inputs.send(input).is_ok()))
    }

    /// One that no other start and no other number has.
    fn record(&mut self) -> Result<Vec<u8>> {
        self.number += 1;
        let now = custody_agent::clock::boottime_ns();
        let letters = (0..self.random.below(FILLER_MAX)).map(|_| *self.random.one(b"abcdefgh ") as char);
        let filler: String = letters.collect();
        let draft = Draft {
            kind: Kind::Exchange,
            session: None,
            exchange: Some(self.number),
            times: Times { first_ns: now, last_ns: now },
            fields: vec![
                Field::structure(names::HTTP_METHOD, "GET"),
                Field::structure(names::URL_PATH, format!("/start/{}/number/{}", self.start, self.number)),
                Field::structure(names::SERVER_ADDRESS, filler),
            ],
            rows: None,
            anomalies: Vec::new(),
        };
        let mut frame = Vec::new();
        link::encode(&self.masker.mask(draft), &mut frame)?;
        Ok(frame)
    }
}
