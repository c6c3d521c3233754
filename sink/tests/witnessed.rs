//! The real sink with real witnesses (`custody verify --follow --cosign`): what enough of them cosigned is witnessed and
//! stays it, what nobody checked is not, and a bundle under it convinces who demands them, offline.

#![expect(clippy::unwrap_used, reason = "a test ends at what it did not expect")]

#[expect(dead_code, reason = "shared with the tests of appending, which use the rest")]
mod support;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use custody_ledger::statement::{DenialReason, Stated};
use custody_ledger::tlog::checkpoint::cosign;
use custody_ledger::tlog::{Awaited, Checkpoint, Note, NoteKey, Policy, Witness};
use custody_ledger::wire::{
    self, CANDIDATE_PATH, COSIGNATURES_PATH, CommittedQuery, CommittedResponse, CosignatureResponse,
    WITNESSED_PATH,
};
use custody_ledger::{LogKey, SignedBatch};
use hyper::Method;
use support::person::{Person, in_folder, program, second_verifier, text};
use support::{Host, Sink, batch};

/// A sink that collects cosignatures of these keys.
fn sink_with(keys: &[String], quorum: usize) -> Sink {
    let keys: Vec<String> = keys.iter().map(|key| format!("\"{key}\"")).collect();
    Sink::prepare(&format!("[witnesses]\nkeys = [{}]\nquorum = {quorum}", keys.join(", ")))
}

/// A witness: its key, and the process while it runs.
struct Follower {
    key_file: PathBuf,
    public: String,
    person: Option<Person>,
    running: Option<Child>,
}

impl Follower {
    fn new(folder: &Path, name: &str) -> Self {
        let key_file = folder.join(format!("{name}.key"));
        let mut command = Command::new(program());
        command.arg("witness-key").arg(&key_file).args(["--name", &format!("{name}.example/w1")]);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
        let public = text(&output.stdout).trim().to_owned();
        Follower { key_file, public, person: None, running: None }
    }

    fn arguments(&self, more: &str) -> Vec<String> {
        let key = self.key_file.to_str().unwrap();
        let arguments = ["verify", "--follow", "--cosign", key].map(str::to_owned).into_iter();
        arguments.chain(more.split(' ').map(str::to_owned)).collect()
    }

    fn log_in(&mut self, sink: &Sink, name: &str) {
        self.person = Some(Person::log_in(sink, name));
    }

    fn start(&mut self) {
        let arguments = self.arguments("--every 100ms");
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let mut command = self.person.as_ref().unwrap().command(&arguments);
        self.running = Some(command.stdout(Stdio::null()).spawn().unwrap());
    }

    fn kill(&mut self) {
        if let Some(mut child) = self.running.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// One look; what it says when it ends with this code.
    #[track_caller]
    fn once(&self, code: i32) -> String {
        let arguments = self.arguments("--once");
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        self.person.as_ref().unwrap().says(code, &arguments)
    }

    fn signed(&self) -> String {
        std::fs::read_to_string(format!("{}.signed", self.key_file.display())).unwrap()
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.kill();
    }
}

/// What the sink shows a host that waits for this batch to be committed, and for that one to be witnessed.
async fn ask(
    sink: &Sink,
    host: &Host,
    kept: Option<&Witness>,
    committed: u64,
    witnessed: u64,
    wait_ms: u64,
) -> CommittedResponse {
    let query = CommittedQuery {
        epoch: 1,
        number: committed,
        size: kept.map_or(0, |kept| kept.checkpoint().size),
        wait_ms,
        witnessed_epoch: Some(1),
        witnessed_number: Some(witnessed),
    };
    let path = wire::committed_path(host.id, &query);
    let (status, answer) =
        sink.request(Some(&host.credentials), Method::GET, &path, Vec::new()).await.unwrap();
    assert_eq!(status, 200);
    wire::decode(&answer).unwrap()
}

/// As an agent does it that frees at `witnessed`: asks until all of these are, and believes nothing.
async fn witness(
    sink: &Sink,
    host: &Host,
    mut kept: Option<Witness>,
    awaited: &[Awaited],
    policy: &Policy,
) -> Witness {
    let (mut committed, mut witnessed) = (0, 0);
    while witnessed < awaited.len() {
        let next = awaited.get(committed).map_or(u64::MAX, |one| one.batch.number.0);
        let answer = ask(sink, host, kept.as_ref(), next, awaited[witnessed].batch.number.0, 20_000).await;
        let seen = Witness::see(kept.as_ref(), &host.sink, &answer, &awaited[committed..]).unwrap();
        committed += seen.committed;
        if let Some(shown) = &answer.witnessed {
            witnessed += seen.witness.see_witnessed(policy, shown, &awaited[witnessed..]).unwrap();
        }
        kept = Some(seen.witness);
    }
    kept.unwrap()
}

async fn get(sink: &Sink, who: &Host, path: &str) -> (u16, String) {
    let (status, body) = sink.request(Some(&who.credentials), Method::GET, path, Vec::new()).await.unwrap();
    (status, text(&body))
}

async fn hand_in(sink: &Sink, who: Option<&Host>, note: &str) -> (u16, Vec<u8>) {
    let who = who.map(|who| &who.credentials);
    sink.request(who, Method::POST, COSIGNATURES_PATH, note.as_bytes().to_vec()).await.unwrap()
}

fn log_key(sink: &Sink) -> NoteKey {
    let text = std::fs::read_to_string(sink.state().join("log/key.pub")).unwrap();
    text.lines().next().unwrap().parse().unwrap()
}

/// Leaves of the checkpoint that stands beside the log's own.
fn witnessed_size(sink: &Sink) -> u64 {
    let note = std::fs::read_to_string(sink.state().join("log/checkpoint.witnessed")).unwrap();
    Checkpoint::open_text(&note, &log_key(sink)).unwrap().size
}

fn policy_text(sink: &Sink, host: &Host, keys: &[&str]) -> String {
    let witnesses: String =
        keys.iter().enumerate().map(|(at, key)| format!("witness w{at} {key}\n")).collect();
    let names: String = (0..keys.len()).map(|at| format!(" w{at}")).collect();
    format!("sink {}\nlog {}\n{witnesses}group all all{names}\nquorum all\n", host.sink, log_key(sink))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_two_witnesses_cosigned_is_witnessed_survives_all_and_convinces_an_outsider() {
    let folder = tempfile::tempdir().unwrap();
    let mut witnesses = [Follower::new(folder.path(), "audit"), Follower::new(folder.path(), "board")];
    let keys: Vec<String> = witnesses.iter().map(|one| one.public.clone()).collect();
    let mut sink = sink_with(&keys, 2);
    sink.spawn();
    for (one, name) in witnesses.iter_mut().zip(["ada@corp", "bob@corp"]) {
        one.log_in(&sink, name);
        one.start();
    }
    let host = sink.enrol().await;
    let text_of_policy = policy_text(&sink, &host, &[&keys[0], &keys[1]]);
    let policy: Policy = text_of_policy.parse().unwrap();
    let mut chain = host.epoch(1, None);
    let mut batches: Vec<SignedBatch> = (0..3).map(|_| batch(&mut chain, "a")).collect();
    let awaited = sink.store(&host, &batches.iter().collect::<Vec<_>>()).await;
    let kept = witness(&sink, &host, None, &awaited, &policy).await;

    // One of two is gone: what is stored is committed, and no more.
    witnesses[1].kill();
    batches.push(batch(&mut chain, "b"));
    let later = sink.store(&host, &[&batches[3]]).await;
    let answer = ask(&sink, &host, Some(&kept), 3, 3, 20_000).await;
    let seen = Witness::see(Some(&kept), &host.sink, &answer, &later).unwrap();
    assert_eq!((seen.committed, &answer.witnessed), (1, &None));
    assert_eq!(ask(&sink, &host, Some(&seen.witness), 4, 3, 300).await.witnessed, None);
    let before = witnessed_size(&sink);
    // It comes back.
    witnesses[1].start();
    let kept = witness(&sink, &host, Some(seen.witness), &later, &policy).await;
    assert!(witnessed_size(&sink) > before);
    witnesses.iter_mut().for_each(Follower::kill);

    // What was witnessed is that for ever: killed, and with the tree built again.
    let size = witnessed_size(&sink);
    let reader = sink.enrol_with(&sink.token(&["--role", "reader", "--name", "dana@corp"])).await.unwrap();
    for rebuilt in [false, true] {
        sink.kill();
        if rebuilt {
            std::fs::remove_file(sink.state().join("tree.redb")).unwrap();
        }
        sink.spawn();
        let (status, note) = get(&sink, &reader, WITNESSED_PATH).await;
        assert_eq!((status, Checkpoint::open_text(&note, &log_key(&sink)).unwrap().size), (200, size));
        let answer = ask(&sink, &host, Some(&kept), 4, 0, 0).await;
        let shown = answer.witnessed.unwrap();
        let seen =
            Witness::see(Some(&kept), &host.sink, &CommittedResponse { witnessed: None, ..answer }, &[]);
        assert_eq!(seen.unwrap().witness.see_witnessed(&policy, &shown, &awaited), Ok(3));
    }

    // A bundle is under it, and says so to who demands both.
    let auditor = Person::log_in(&sink, "eve@corp");
    let file = in_folder(&sink);
    let (bundle, demanding, other) = (file("b.bundle"), file("demanding.txt"), file("other.txt"));
    auditor.says(0, &["export", &format!("{}/1/0-3", host.id), "-o", &bundle]);
    let stranger = Follower::new(folder.path(), "stranger");
    std::fs::write(&demanding, &text_of_policy).unwrap();
    std::fs::write(&other, policy_text(&sink, &host, &[&keys[0], &stranger.public])).unwrap();
    let state = sink.state();
    sink.stop();
    let outsider = Person { program: program(), home: folder.path().join("nobody") };
    let said = outsider.says(0, &["verify", &bundle, "--policy", &demanding]);
    assert!(said.contains("audit.example/w1: cosigned") && said.contains("board.example/w1"), "{said}");
    let said = outsider.says(1, &["verify", &bundle, "--policy", &other]);
    assert!(said.contains("NOT WITNESSED"), "{said}");
    second_verifier("verified verified=4", &bundle, &demanding);
    second_verifier("rejected witnesses", &bundle, &other);
    // A copy of the store gives the same bytes, and all of it holds.
    let again = file("again.bundle");
    let from = state.to_str().unwrap();
    auditor.says(0, &["export", &format!("{}/1/0-3", host.id), "-o", &again, "--from", from]);
    assert!(std::fs::read(&again).unwrap() == std::fs::read(&bundle).unwrap(), "two makers, two bundles");
    outsider.says(0, &["verify", from]);
}

#[tokio::test]
async fn a_cosignature_that_no_witness_made_is_refused_and_stated() {
    let (witness, stranger) = (LogKey::generate().unwrap().0, LogKey::generate().unwrap().0);
    let name = "audit.example/w1";
    let mut unread: Note = "x\n1\ny\n\n— x AAAAAAA=\n".parse().unwrap();
    let public = cosign(&mut unread, name, &witness, 1).unwrap();
    let mut sink = sink_with(&[public.to_string()], 1);
    sink.spawn();
    let host = sink.enrol().await;
    let auditor = sink.enrol_with(&sink.token(&["--role", "auditor", "--name", "ada@corp"])).await.unwrap();
    let reader = sink.enrol_with(&sink.token(&["--role", "reader", "--name", "dana@corp"])).await.unwrap();
    assert_eq!(get(&sink, &reader, WITNESSED_PATH).await.0, 404);
    let (status, offered) = get(&sink, &auditor, CANDIDATE_PATH).await;
    assert_eq!(status, 200);
    let signed = |note: &str, name: &str, key: &LogKey| -> String {
        let mut note: Note = note.parse().unwrap();
        cosign(&mut note, name, key, 1_800_000_000).unwrap();
        note.to_string()
    };
    let good = signed(&offered, name, &witness);
    // By a stranger, by a stranger in its name, without any, over another checkpoint than it was made for.
    let line = good.lines().last().unwrap().to_owned();
    let moved = offered.replacen("custody-log", "custody-lag", 1) + &line + "\n";
    for forged in [
        signed(&offered, "eve.example", &stranger),
        signed(&offered, name, &stranger),
        offered.clone(),
        moved,
    ] {
        assert_eq!(hand_in(&sink, Some(&auditor), &forged).await.0, 403, "{forged}");
    }
    for (who, status) in [(None, 403), (Some(&reader), 403), (Some(&host), 403)] {
        assert_eq!(hand_in(&sink, who, &good).await.0, status);
    }
    for malformed in ["", "x", &good[..good.len() - 9]] {
        assert_eq!(hand_in(&sink, Some(&auditor), malformed).await.0, 422, "{malformed}");
    }
    assert_eq!(hand_in(&sink, Some(&auditor), &"x".repeat(9_000)).await.0, 413);
    // Made by the witness, over what this log never said.
    let elsewhere = signed(&offered.replacen("custody-log", "custody-lag", 1), name, &witness);
    assert_eq!(hand_in(&sink, Some(&auditor), &elsewhere).await.0, 404);
    assert_eq!(get(&sink, &reader, WITNESSED_PATH).await.0, 404, "nothing was witnessed by all that");

    let answer = hand_in(&sink, Some(&auditor), &good).await;
    assert_eq!(answer.0, 200);
    let size = Checkpoint::open_text(&offered, &log_key(&sink)).unwrap().size;
    assert_eq!(wire::decode::<CosignatureResponse>(&answer.1).unwrap().witnessed, size);
    assert_eq!(get(&sink, &reader, WITNESSED_PATH).await, (200, good.clone()));
    // Once more is no harm, and a time of its own does not make it another witness.
    assert_eq!(hand_in(&sink, Some(&auditor), &good).await.0, 200);
    assert_eq!(witnessed_size(&sink), size);
    let (_, metrics) = get(&sink, &reader, "/metrics").await;
    for line in
        [format!("custody_sink_witnessed_leaves {size}"), "custody_sink_unwitnessed_leaves ".to_owned()]
    {
        assert!(metrics.contains(&line), "{line} is not in {metrics}");
    }
    assert!(
        metrics.contains("custody_sink_witness_seen_seconds{witness=\"audit.example/w1\"} 1"),
        "{metrics}"
    );
    sink.stop();
    let denied: Vec<_> = sink
        .statements()
        .into_iter()
        .filter_map(|statement| match statement.what {
            Stated::Denied(denied) => Some((denied.reason, denied.count)),
            _ => None,
        })
        .collect();
    let of = |reason| denied.iter().filter(|(one, _)| *one == reason).map(|(_, count)| count).sum::<u64>();
    assert_eq!((of(DenialReason::Cosignature), of(DenialReason::Role)), (4, 2), "{denied:?}");
    assert_eq!(of(DenialReason::NoCertificate), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sink_that_rolled_back_or_forked_its_log_is_not_cosigned() {
    let folder = tempfile::tempdir().unwrap();
    let mut follower = Follower::new(folder.path(), "audit");
    let mut sink = sink_with(std::slice::from_ref(&follower.public), 1);
    sink.spawn();
    follower.log_in(&sink, "ada@corp");
    assert!(follower.once(0).contains("cosigned"));
    let aside = folder.path().join("aside");
    let copy = |from: &Path, to: &Path| {
        let _ = std::fs::remove_dir_all(to);
        assert!(Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap().success());
    };
    sink.stop();
    copy(&sink.state(), &aside);
    sink.spawn();
    for _ in 0..3 {
        sink.enrol().await;
    }
    // The next checkpoint comes in a moment.
    for _ in 0..100 {
        follower.once(0);
        if follower.signed().contains("\"size\":4") {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let signed = follower.signed();
    assert!(signed.contains("\"size\":4"), "{signed}");
    sink.stop();
    copy(&aside, &sink.state());
    sink.spawn();
    let follow = follower.person.as_ref().unwrap().home.join("follow");
    let refuses = |words: &str| {
        let said = follower.once(5);
        assert!(said.contains(words) && !said.contains("✔ cosigned"), "{said}");
        // Nor when it was made to forget what it saw: the key remembers what it signed.
        copy(&follow, &folder.path().join("follow"));
        std::fs::remove_dir_all(&follow).unwrap();
        let said = follower.once(5);
        assert!(said.contains(words) && !said.contains("✔ cosigned"), "{said}");
        copy(&folder.path().join("follow"), &follow);
    };
    refuses("rolled back");
    for _ in 0..5 {
        sink.enrol().await;
    }
    for _ in 0..100 {
        if sink.checkpoint().size >= 6 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    refuses("forked");
    assert_eq!(follower.signed(), signed, "something was signed");
    assert!(witnessed_size(&sink) < 4);
}

#[tokio::test]
async fn a_witnessed_checkpoint_that_the_segments_do_not_give_stops_the_sink() {
    let key = LogKey::generate().unwrap().0;
    let mut unread: Note = "x\n1\ny\n\n— x AAAAAAA=\n".parse().unwrap();
    let public = cosign(&mut unread, "audit.example/w1", &key, 1).unwrap();
    let mut sink = sink_with(&[public.to_string()], 1);
    sink.spawn();
    sink.enrol().await;
    let auditor = sink.enrol_with(&sink.token(&["--role", "auditor", "--name", "ada@corp"])).await.unwrap();
    let mut note: Note = get(&sink, &auditor, CANDIDATE_PATH).await.1.parse().unwrap();
    cosign(&mut note, "audit.example/w1", &key, 1_800_000_000).unwrap();
    assert_eq!(hand_in(&sink, Some(&auditor), &note.to_string()).await.0, 200);
    sink.stop();
    let path = sink.state().join("log/checkpoint.witnessed");
    let refuses = |words: &str| {
        let output = sink.run_to_end(&["run", "--allow-root"]);
        let said = text(&output.stderr);
        assert!(output.status.code() == Some(1) && said.contains(words), "{said}");
    };
    std::fs::write(&path, "nothing").unwrap();
    refuses("log/checkpoint.witnessed");
    // The log's own key signs a tree that is not this one.
    let log = LogKey::from_pkcs8(&std::fs::read(sink.state().join("log.key")).unwrap()).unwrap();
    let (origin, root) = (log_key(&sink).name().to_owned(), custody_ledger::Hash([9; 32]));
    for size in [1, 99] {
        let other = Checkpoint { origin: origin.clone(), size, root };
        std::fs::write(&path, other.sign(&log).to_string()).unwrap();
        refuses("that these segments do not give");
    }
}

/// Lets the one witness sign until the log's own checkpoint is witnessed.
fn until_witnessed(sink: &Sink, follower: &Follower) {
    let is_there = || sink.state().join("log/checkpoint.witnessed").exists();
    while !is_there() || witnessed_size(sink) < sink.checkpoint().size {
        follower.once(0);
    }
}

/// The witnesses' newest checkpoint may be of before the sink stated that bodies go: it shows nothing of that.
#[tokio::test(flavor = "multi_thread")]
async fn a_bundle_of_what_expired_is_witnessed_when_the_statement_is() {
    let folder = tempfile::tempdir().unwrap();
    let mut follower = Follower::new(folder.path(), "audit");
    let key = follower.public.clone();
    let witnesses = format!("[witnesses]\nkeys = [\"{key}\"]\nquorum = 1");
    let mut sink = Sink::prepare(&format!("{witnesses}\n[retention]\nbodies = \"forever\""));
    sink.spawn();
    follower.log_in(&sink, "ada@corp");
    let host = sink.enrol().await;
    let auditor = Person::log_in(&sink, "eve@corp");
    sink.store(&host, &[&batch(&mut host.epoch(1, None), "a")]).await;
    let file = in_folder(&sink);
    let (plain, demanding) = (file("plain.txt"), file("demanding.txt"));
    auditor.says(0, &["export", "--policy-out", &plain]);
    std::fs::write(&demanding, policy_text(&sink, &host, &[&key])).unwrap();
    until_witnessed(&sink, &follower);
    let range = format!("{}/1/0-0", host.id);
    let (whole, unwitnessed, witnessed) =
        (file("whole.bundle"), file("unwitnessed.bundle"), file("witnessed.bundle"));
    auditor.says(0, &["export", &range, "-o", &whole]);
    second_verifier("verified verified=1", &whole, &demanding);

    sink.stop();
    let configuration = sink.folder.path().join("sink.toml");
    let text = std::fs::read_to_string(&configuration).unwrap();
    std::fs::write(&configuration, text.replace("\"forever\"", "\"1s\"")).unwrap();
    sink.spawn();
    while sink.metric("bodies_expired").await.unwrap() < 1 {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    auditor.says(0, &["export", &range, "-o", &unwitnessed]);
    second_verifier("verified verified=0 redacted=0", &unwitnessed, &plain);
    second_verifier("rejected witnesses", &unwitnessed, &demanding);
    until_witnessed(&sink, &follower);
    auditor.says(0, &["export", &range, "-o", &witnessed]);
    let said = auditor.says(0, &["verify", &witnessed, "--policy", &demanding]);
    assert!(said.contains("by policy: 1 body") && said.contains("audit.example/w1: cosigned"), "{said}");
    second_verifier("verified verified=0 redacted=0", &witnessed, &demanding);
    sink.stop();
    let again = file("again.bundle");
    auditor.says(0, &["export", &range, "-o", &again, "--from", sink.state().to_str().unwrap()]);
    assert!(std::fs::read(&again).unwrap() == std::fs::read(&witnessed).unwrap(), "two makers, two bundles");
}
