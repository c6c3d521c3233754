//! The real program and its log: what is stored is committed, hosts can prove it, and neither a killed process nor a
//! changed disk passes unseen.

#![expect(clippy::unwrap_used, reason = "a test ends at what it did not expect")]

#[expect(dead_code, reason = "shared with the tests of appending, which use the rest")]
mod support;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use custody_ledger::segment::Reader;
use custody_ledger::statement::{Signed, Stated};
use custody_ledger::tlog::proof;
use custody_ledger::tlog::tile::{self, TileKind};
use custody_ledger::tlog::{Alarm, Awaited, BatchLeaf, Checkpoint, NoteKey, Tile, TileNodes, Witness, leaf};
use custody_ledger::verify::{Finding, LogDifference};
use custody_ledger::wire::{self, CommittedQuery, CommittedResponse};
use custody_ledger::{Chain, Draft, Echo, EntryType, SignedBatch, Statement, tree};
use hyper::Method;
use support::{Host, Sink, batch};

async fn ask(sink: &Sink, host: &Host, query: CommittedQuery) -> CommittedResponse {
    let path = wire::committed_path(host.id, &query);
    let (status, answer) =
        sink.request(Some(&host.credentials), Method::GET, &path, Vec::new()).await.unwrap();
    assert_eq!(status, 200);
    wire::decode(&answer).unwrap()
}

fn query(awaited: &Awaited, kept: Option<&Witness>) -> CommittedQuery {
    CommittedQuery {
        epoch: awaited.batch.epoch.counter,
        number: awaited.batch.number.0,
        size: kept.map_or(0, |kept| kept.checkpoint().size),
        wait_ms: 20_000,
        ..CommittedQuery::default()
    }
}

/// As an agent does it: asks until all are committed, and believes nothing.
async fn commit(
    sink: &Sink,
    host: &Host,
    kept: Option<Witness>,
    awaited: &[Awaited],
) -> Result<Witness, Alarm> {
    let (mut kept, mut done) = (kept, 0);
    while done < awaited.len() {
        let answer = ask(sink, host, query(&awaited[done], kept.as_ref())).await;
        let seen = Witness::see(kept.as_ref(), &host.sink, &answer, &awaited[done..])?;
        done += seen.committed;
        kept = Some(seen.witness);
    }
    Ok(kept.unwrap())
}

fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for item in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
        if item.file_type().unwrap().is_dir() {
            found.extend(files(&item.path()));
        } else {
            found.insert(item.path(), std::fs::read(item.path()).unwrap());
        }
    }
    found
}

fn copy(from: &Path, to: &Path) {
    let status = std::process::Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap();
    assert!(status.success());
}

fn log_key(sink: &Sink) -> NoteKey {
    let text = std::fs::read_to_string(sink.state().join("log/key.pub")).unwrap();
    text.lines().next().unwrap().parse().unwrap()
}

/// Reads the log as a static file server would show it, and compares it with the segments, leaf by leaf.
fn read_log(sink: &Sink) -> Checkpoint {
    let folder = sink.state().join("log");
    let note = std::fs::read_to_string(folder.join("checkpoint")).unwrap();
    let checkpoint = Checkpoint::open_text(&note, &log_key(sink)).unwrap();
    let read = |tile: Tile| std::fs::read(folder.join(tile.path()));
    let nodes = TileNodes::new(checkpoint.size, read);
    assert_eq!(proof::root(&nodes, checkpoint.size).unwrap(), checkpoint.root);
    let mut segments: Vec<_> = files(&sink.state().join("segments")).into_values().collect();
    let records = segments
        .drain(..)
        .flat_map(|bytes| Reader::open(bytes.as_slice()).unwrap().map(Result::unwrap).collect::<Vec<_>>());
    let leaves: Vec<Vec<u8>> = records.map(|record| leaf::of_record(&record).unwrap()).collect();
    let bundles = Tile::all_in_tree(checkpoint.size).filter(|tile| tile.kind == TileKind::Entries);
    let mut published = Vec::new();
    for bundle in bundles {
        let bytes = read(bundle).unwrap();
        published.extend(tile::entries(&bytes, bundle.width).unwrap().into_iter().map(<[u8]>::to_vec));
    }
    assert_eq!(published.as_slice(), &leaves[..published.len()]);
    assert_eq!(published.len() as u64, checkpoint.size);
    assert_eq!(
        checkpoint.root,
        tree::root(&leaves[..published.len()].iter().map(|leaf| tree::leaf(leaf)).collect::<Vec<_>>())
    );
    checkpoint
}

fn chain_of(chain: &mut Chain, count: usize) -> Vec<SignedBatch> {
    (0..count).map(|number| batch(chain, &format!("batch {number}"))).collect()
}

#[tokio::test]
async fn what_is_stored_is_committed_and_the_folder_is_a_log_for_any_file_server() {
    let mut sink = Sink::start();
    let host = sink.enrol().await;
    let batches = chain_of(&mut host.epoch(1, None), 600);
    let mut kept = None;
    for run in batches.chunks(150) {
        let awaited = sink.store(&host, &run.iter().collect::<Vec<_>>()).await;
        kept = Some(commit(&sink, &host, kept, &awaited).await.unwrap());
    }
    let checkpoint = read_log(&sink);
    assert_eq!(checkpoint.reference(), *kept.as_ref().unwrap().checkpoint());
    // The enrolment is a leaf too.
    assert_eq!(checkpoint.size, 601);
    sink.stop();
    assert_eq!(read_log(&sink), checkpoint);
    assert!(!sink.state().join("log/tile/0/000.p").exists(), "partial tiles go once there is a full one");
}

#[tokio::test]
async fn hosts_ask_for_their_own_batches_and_people_read_the_log() {
    let sink = Sink::start();
    let (host, other) = (sink.enrol().await, sink.enrol().await);
    let person = sink.enrol_with(&sink.token(&["--role", "auditor", "--name", "dana@corp"])).await.unwrap();
    let first = batch(&mut host.epoch(1, None), "a");
    let awaited = sink.store(&host, &[&first]).await;
    commit(&sink, &host, None, &awaited).await.unwrap();
    let get = async |who: &Host, path: &str| {
        sink.request(Some(&who.credentials), Method::GET, path, Vec::new()).await.unwrap()
    };
    let (status, note) = get(&person, "/v1/log/checkpoint").await;
    let published = Checkpoint::open_text(&String::from_utf8(note).unwrap(), &log_key(&sink)).unwrap();
    assert_eq!((status, published.size), (200, 4));
    let (status, bundle) = get(&person, "/v1/log/tile/entries/000.p/4").await;
    assert_eq!(status, 200);
    let leaves = tile::entries(&bundle, 4).unwrap();
    assert_eq!(tree::leaf(leaves[3]), awaited[0].leaf);
    for path in ["/v1/log/tile/0/001", "/v1/log/tile/0/..%2f..%2fcheckpoint", "/v1/log/tile/../log.key"] {
        assert_eq!(get(&person, path).await.0, 404, "{path}");
    }
    // Bundles show the headers of every host.
    for path in ["/v1/log/checkpoint", "/v1/log/tile/entries/000.p/4"] {
        assert_eq!(get(&host, path).await.0, 403, "{path}");
    }
    let path = wire::committed_path(host.id, &query(&awaited[0], None));
    assert_eq!(get(&other, &path).await.0, 403);
    assert_eq!(get(&person, &path).await.0, 403);
    let path = format!("/v1/hosts/{}/committed?epoch=x", host.id);
    assert_eq!(get(&host, &path).await.0, 422);
}

/// Kills of one sink.
const ROUNDS: u32 = 30;

#[tokio::test]
async fn every_checkpoint_that_was_shown_outlives_kill_minus_nine() {
    let mut sink = Sink::start();
    let host = sink.enrol().await;
    let mut chain = host.epoch(1, None);
    let (mut kept, mut waiting): (Option<Witness>, Vec<SignedBatch>) = (None, Vec::new());
    for round in 0..ROUNDS {
        waiting.extend(chain_of(&mut chain, 6));
        // The kill comes at another moment of each round.
        let kill_after = std::time::Duration::from_micros(u64::from(round) * 1500);
        let working = async {
            for one in &waiting {
                let Ok(answer) = sink.try_append(&host, host.id, &[one]).await else { return };
                let received = answer.receipts[0].verify(&host.sink).unwrap().received_ns;
                let leaf = BatchLeaf::of_frame(&one.frame, received).unwrap().hash();
                let awaited = [Awaited { batch: one.position, leaf }];
                let path = wire::committed_path(host.id, &query(&awaited[0], kept.as_ref()));
                let asked = sink.request(Some(&host.credentials), Method::GET, &path, Vec::new()).await;
                let Ok((200, answer)) = asked else { return };
                let answer = wire::decode(&answer).unwrap();
                kept = Some(Witness::see(kept.as_ref(), &host.sink, &answer, &awaited).unwrap().witness);
            }
        };
        let _ = tokio::time::timeout(kill_after, working).await;
        sink.kill();
        sink.spawn();
    }
    let awaited = sink.store(&host, &waiting.iter().collect::<Vec<_>>()).await;
    commit(&sink, &host, kept, &awaited).await.unwrap();
    sink.stop();
    read_log(&sink);
}

#[tokio::test]
async fn a_store_without_a_log_gets_one_from_its_segments() {
    let mut sink = Sink::start();
    let host = sink.enrol().await;
    let batches = chain_of(&mut host.epoch(1, None), 300);
    let awaited = sink.store(&host, &batches.iter().collect::<Vec<_>>()).await;
    sink.stop();
    let before = read_log(&sink);
    // Only the database is gone: the same tree under the same checkpoint.
    std::fs::remove_file(sink.state().join("tree.redb")).unwrap();
    sink.spawn();
    let kept = commit(&sink, &host, None, &awaited).await.unwrap();
    assert_eq!(*kept.checkpoint(), before.reference());
    sink.stop();
    // All of it is gone, as in a store of an older version: another log over the same leaves.
    for name in ["tree.redb", "log.key"] {
        std::fs::remove_file(sink.state().join(name)).unwrap();
    }
    std::fs::remove_dir_all(sink.state().join("log")).unwrap();
    sink.spawn();
    let other = commit(&sink, &host, None, &awaited).await.unwrap();
    assert_eq!((other.checkpoint().size, other.checkpoint().root), (before.size, before.root));
    let answer = ask(&sink, &host, query(&awaited[0], Some(&kept))).await;
    assert_eq!(Witness::see(Some(&kept), &host.sink, &answer, &awaited), Err(Alarm::OtherLog));
}

/// The whole state directory comes back from an old copy: nothing in it contradicts anything else, and only who was
/// shown more can know.
#[tokio::test]
async fn a_sink_that_was_restored_from_an_old_copy_is_found_by_its_hosts() {
    let mut sink = Sink::start();
    let host = sink.enrol().await;
    let mut chain = host.epoch(1, None);
    let first = batch(&mut chain, "a");
    let awaited = sink.store(&host, &[&first]).await;
    let kept = commit(&sink, &host, None, &awaited).await.unwrap();
    sink.stop();
    copy(&sink.state(), &sink.folder.path().join("old"));
    sink.spawn();
    let lost = batch(&mut chain, "b");
    let awaited = sink.store(&host, &[&lost]).await;
    let kept = commit(&sink, &host, Some(kept), &awaited).await.unwrap();
    assert_eq!(kept.checkpoint().size, 3);
    sink.stop();
    std::fs::remove_dir_all(sink.state()).unwrap();
    copy(&sink.folder.path().join("old"), &sink.state());
    sink.spawn();
    let answer = ask(&sink, &host, query(&awaited[0], Some(&kept))).await;
    let alarm = Witness::see(Some(&kept), &host.sink, &answer, &awaited);
    assert_eq!(alarm, Err(Alarm::RolledBack { held: 3, shown: 2 }));
    // The host says so in what it signs, and the sink writes it down.
    let resume = custody_ledger::Resume { local: Some(lost.position), ..Default::default() };
    let mut next = host.epoch(2, Some(resume));
    next.append(&Draft::new(EntryType::Heartbeat, b"b")).unwrap();
    let echo = Echo { last_receipt: None, checkpoint: Some(kept.checkpoint().clone()) };
    let told = next.close_batch(BTreeMap::new(), echo).unwrap();
    assert_eq!(sink.append(&host, &[&told]).await.refusal, None);
    sink.stop();
    let stated = files(&sink.state().join("segments"))
        .into_values()
        .flat_map(|bytes| Reader::open(bytes.as_slice()).unwrap().map(Result::unwrap).collect::<Vec<_>>());
    let found: Vec<Finding> = stated
        .filter_map(|record| Signed::open::<Statement>(&record.payload).ok())
        .filter_map(|(statement, _)| match statement.what {
            Stated::Found { finding, .. } => Some(finding),
            _ => None,
        })
        .collect();
    let echoed = kept.checkpoint().clone();
    assert!(found.contains(&Finding::OtherLog { echoed, difference: LogDifference::Smaller }), "{found:?}");
}

/// Starts a sink that must refuse to, and gives what it said.
fn refused(sink: &Sink) -> String {
    let output = sink.run_to_end(&["run", "--allow-root"]);
    assert_eq!(output.status.code(), Some(1));
    String::from_utf8(output.stderr).unwrap()
}

#[tokio::test]
async fn a_log_whose_segments_were_cut_or_changed_stops_the_sink() {
    let mut sink = Sink::start();
    let host = sink.enrol().await;
    let mut chain = host.epoch(1, None);
    sink.store(&host, &[&batch(&mut chain, "a")]).await;
    sink.stop();
    let (segments, old) = (sink.state().join("segments"), sink.folder.path().join("old"));
    copy(&segments, &old);
    copy(&sink.state().join("index.redb"), &sink.folder.path().join("old.redb"));
    sink.spawn();
    sink.store(&host, &[&batch(&mut chain, "b")]).await;
    sink.stop();
    let whole = read_log(&sink);
    // Segments and index of yesterday, the log of today.
    std::fs::remove_dir_all(&segments).unwrap();
    copy(&old, &segments);
    copy(&sink.folder.path().join("old.redb"), &sink.state().join("index.redb"));
    std::fs::remove_file(sink.state().join("tree.redb")).unwrap();
    let said = refused(&sink);
    assert!(said.contains("names 3 records, and the segments hold 2"), "{said}");
    let note = std::fs::read_to_string(sink.state().join("log/checkpoint")).unwrap();
    assert_eq!(
        Checkpoint::open_text(&note, &log_key(&sink)).unwrap(),
        whole,
        "the checkpoint was moved back"
    );
}

#[tokio::test]
async fn a_flipped_bit_in_a_tile_of_the_edge_stops_the_sink() {
    let mut sink = Sink::start();
    let host = sink.enrol().await;
    sink.store(&host, &[&batch(&mut host.epoch(1, None), "a")]).await;
    sink.stop();
    for name in ["tile/0/000.p/2", "tile/entries/000.p/2"] {
        let path = sink.state().join("log").join(name);
        let bytes = std::fs::read(&path).unwrap();
        let mut flipped = bytes.clone();
        flipped[40] ^= 1;
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, &flipped).unwrap();
        let said = refused(&sink);
        assert!(said.contains("the log is damaged") && said.contains(name), "{said}");
        assert_eq!(std::fs::read(&path).unwrap(), flipped, "evidence was changed");
        std::fs::write(&path, &bytes).unwrap();
    }
    sink.spawn();
    sink.stop();
}
