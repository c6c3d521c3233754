//! The recorder against a real spool: sessions, numbers, epochs.

use std::sync::mpsc::sync_channel;

use custody_decoders::mask::link;
use custody_ledger::Batch;

use super::*;
use crate::config;
use crate::spool::Spool;

fn record(kind: Kind, session: Option<u64>) -> Input {
    let draft = MaskDraft {
        kind,
        session,
        exchange: None,
        times: Times { first_ns: 5, last_ns: 9 },
        fields: Vec::new(),
        rows: None,
        anomalies: Vec::new(),
    };
    let mut frame = Vec::new();
    link::encode(&Masker::default().mask(draft), &mut frame).unwrap();
    Input::Record(link::WorkerReader::at_the_socket().decode(&frame).unwrap().unwrap().0)
}

fn signer(folder: &Path) -> Signer {
    Signer {
        host: HostId::from_bytes([7; 16]),
        key: HostKey::generate().unwrap().0,
        line: Vec::new(),
        boot: BootId([1; 16]),
        state_directory: folder.to_owned(),
    }
}

/// Runs a recorder over inputs to its stop; returns all entries' (type, seq, session).
fn run(folder: &Path, limits: &config::Spool, inputs: Vec<Input>) -> Vec<(String, u64, Option<u64>)> {
    let (spool, recovery) = Spool::open(folder, limits).unwrap();
    let shared = Arc::new(Shared::new(spool));
    let recorder = Recorder::open(signer(folder), Arc::clone(&shared), recovery.last).unwrap();
    let (sender, receiver) = sync_channel(1024);
    inputs.into_iter().for_each(|input| sender.send(input).unwrap());
    drop(sender);
    recorder.run(&receiver).unwrap();
    let frames = lock(&shared.spool).unsent(usize::MAX, usize::MAX).unwrap();
    let mut entries = Vec::new();
    for (_, frame) in frames {
        for entry in Batch::decode(&frame).unwrap().entries {
            let header = entry.header;
            let session = header.session.map(|seq| seq.0);
            entries.push((header.entry_type.to_string(), header.seq.0, session));
        }
    }
    entries
}

fn is(entry_type: &str, seq: u64, session: Option<u64>) -> (String, u64, Option<u64>) {
    (entry_type.to_owned(), seq, session)
}

#[test]
fn records_name_the_entry_that_opened_their_session() {
    let folder = tempfile::tempdir().unwrap();
    let inputs = vec![
        record(Kind::SessionOpen, Some(40)),
        record(Kind::SessionOpen, Some(41)),
        record(Kind::Exchange, Some(40)),
        record(Kind::SessionClose, Some(40)),
        record(Kind::Exchange, Some(40)),
        record(Kind::Exec, None),
    ];
    let entries = run(folder.path(), &config::Spool::default(), inputs);
    assert_eq!(
        entries,
        [
            is("session.open", 0, None),
            is("session.open", 1, None),
            is("exchange", 2, Some(0)),
            is("session.close", 3, Some(0)),
            is("exchange", 4, None),
            is("exec", 5, None),
            is("agent.stop", 6, None),
        ]
    );
}

#[test]
fn a_new_worker_has_no_sessions_of_the_one_before() {
    let folder = tempfile::tempdir().unwrap();
    let inputs = vec![
        record(Kind::SessionOpen, Some(1)),
        Input::NewWorker,
        Input::Gap("worker_restart", None),
        record(Kind::Exchange, Some(1)),
    ];
    let entries = run(folder.path(), &config::Spool::default(), inputs);
    assert_eq!(entries[1..3], [is("gap", 1, None), is("exchange", 2, None)]);
}

#[test]
fn each_start_raises_the_epoch_and_resumes_the_one_before() {
    let folder = tempfile::tempdir().unwrap();
    run(folder.path(), &config::Spool::default(), vec![]);
    run(folder.path(), &config::Spool::default(), vec![]);
    let (spool, _) = Spool::open(folder.path(), &config::Spool::default()).unwrap();
    let frames = spool.unsent(usize::MAX, usize::MAX).unwrap();
    let headers: Vec<_> = frames.iter().map(|(_, frame)| Batch::decode_header(frame).unwrap().0).collect();
    assert_eq!(headers.iter().map(|header| header.epoch.counter).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(headers[0].opening.as_ref().unwrap().resume, None);
    let resume = headers[1].opening.as_ref().unwrap().resume.clone().unwrap();
    assert_eq!(resume.local, Some(frames[0].0));
}

#[test]
fn a_damaged_epoch_counter_is_refused_with_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("epoch"), "seven").unwrap();
    let error = format!("{:#}", raise_epoch(folder.path(), 0).unwrap_err());
    assert!(error.contains("custody hosts"), "{error}");
}

#[test]
fn a_restored_host_passes_the_sinks_epoch_in_one_step_and_no_absurd_one() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(raise_epoch(folder.path(), 0).unwrap(), 1);
    assert_eq!(raise_epoch(folder.path(), 40).unwrap(), 41);
    assert_eq!(raise_epoch(folder.path(), 7).unwrap(), 42);
    assert_eq!(raise_epoch(folder.path(), u64::MAX).unwrap(), 43);
}

#[test]
fn what_a_full_spool_cannot_take_is_counted_and_said() {
    let folder = tempfile::tempdir().unwrap();
    let limits =
        config::Spool { bytes_max: 10_000, reserve_bytes: 9_900, segment_bytes: 1000, ..Default::default() };
    let entries = run(folder.path(), &limits, (0..5).map(|_| record(Kind::Exec, None)).collect());
    assert_eq!(entries, [is("gap", 0, None), is("agent.stop", 1, None)]);
}

/// The spool of a sink that is away, and what the recorder does as it fills and drains.
#[test]
fn a_spool_that_filled_and_nobody_recorded_less_or_said_so() {
    let folder = tempfile::tempdir().unwrap();
    let limits = config::Spool {
        bytes_max: 40_000,
        reserve_bytes: 20_000,
        segment_bytes: 1000,
        ..config::Spool::default()
    };
    let (spool, recovery) = Spool::open(folder.path(), &limits).unwrap();
    let shared = Arc::new(Shared::new(spool));
    let mut recorder = Recorder::open(signer(folder.path()), Arc::clone(&shared), recovery.last).unwrap();
    let mut stands = Vec::new();
    let mut look = |recorder: &mut Recorder| {
        recorder.look_at_spool().unwrap();
        recorder.close_batch().unwrap();
        recorder.sync().unwrap();
        let level = shared.status().level.in_force;
        if stands.last() != Some(&level) {
            stands.push(level);
        }
    };
    while shared.status().counters.records_dropped == 0 {
        recorder.take(record(Kind::Exec, None)).unwrap();
        look(&mut recorder);
    }
    for (position, _) in {
        let spool = lock(&shared.spool);
        spool.unsent(usize::MAX, usize::MAX).unwrap()
    } {
        lock(&shared.spool).free(&position).unwrap();
        look(&mut recorder);
    }
    use custody_decoders::level::Level::{Counts, Statement, Summary};
    assert_eq!(stands, [Statement, Summary, Counts, Summary, Statement]);
    assert_eq!(shared.status().level.steps, 4);
}

#[test]
fn a_level_that_the_configuration_keeps_low_and_the_spool_raised() {
    use custody_decoders::level::Level::{Counts, Statement, Summary};
    let mut level = crate::ladder::LevelState::default();
    level.configure(Summary);
    assert_eq!((level.in_force, level.allow(Summary, 5)), (Summary, None));
    assert_eq!(level.allow(Counts, 6), Some((Summary, Counts)));
    assert_eq!(level.allow(Summary, 7), Some((Counts, Summary)));
    assert_eq!(level.allow(Statement, 8), None);
    assert_eq!((level.in_force, level.steps, level.stepped_wall_ns), (Summary, 2, 7));
    level.configure(Statement);
    assert_eq!(level.in_force, Statement);
}
