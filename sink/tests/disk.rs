//! The real program on a disk that is full: what is refused, what is said, and that nothing half-written stays.

#![expect(clippy::unwrap_used, reason = "a test ends at what it did not expect")]

#[expect(dead_code, reason = "shared with the tests of appending, which use the rest")]
mod support;

use std::process::{Command, Stdio};

use custody_ledger::wire::RefusalCode;
use hyper::Method;
use support::{Sink, batch, batch_of};

/// More than any disk has.
const RESERVE: &str = "9000000000000000000";

#[tokio::test]
async fn below_the_reserve_everything_is_refused_in_words_and_goes_on_when_there_is_room() {
    let mut sink = Sink::start();
    let host = sink.enrol().await;
    let mut chain = host.epoch(1, None);
    let batches = [batch(&mut chain, "a"), batch(&mut chain, "b")];
    assert_eq!(sink.append(&host, &[&batches[0]]).await.refusal, None);
    sink.stop();
    let path = sink.folder.path().join("sink.toml");
    let config = std::fs::read_to_string(&path).unwrap();
    let reserved = config.replace("disk_reserve_bytes = 0", &format!("disk_reserve_bytes = {RESERVE}"));
    std::fs::write(&path, reserved).unwrap();
    sink.spawn();
    let answer = sink.append(&host, &[&batches[1]]).await;
    let refusal = answer.refusal.unwrap();
    assert_eq!((answer.receipts.len(), refusal.code), (0, RefusalCode::Unavailable));
    assert!(refusal.detail.contains("disk of the state directory is full"), "{}", refusal.detail);
    let token = sink.token(&["--host"]);
    assert_eq!(sink.enrol_with(&token).await.err().unwrap().code, RefusalCode::Unavailable);
    let (status, said) = sink.request(None, Method::GET, "/readyz", Vec::new()).await.unwrap();
    assert_eq!(status, 503);
    assert!(String::from_utf8(said).unwrap().contains("full"));
    assert_eq!(sink.head(&host).await.head, Some(batches[0].position), "reading goes on");
    sink.stop();
    std::fs::write(&path, config).unwrap();
    sink.spawn();
    assert_eq!(sink.append(&host, &[&batches[1]]).await.refusal, None);
    assert!(sink.enrol_with(&token).await.is_ok(), "the refused enrolment used the token up");
}

/// Bytes that do not compress (xorshift64).
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[4]
    };
    (0..length).map(|_| next()).collect()
}

/// A limit on the length of files is a disk that is full in the middle of a write.
#[tokio::test]
async fn a_write_that_the_disk_refuses_gives_no_receipt_and_leaves_nothing_half_written() {
    let mut sink = Sink::prepare("");
    let mut command = Command::new("sh");
    command
        .args(["-c", "trap '' XFSZ; ulimit -f 16384; exec \"$@\"", "sh", env!("CARGO_BIN_EXE_custody-sink")])
        .arg("--config")
        .arg(sink.folder.path().join("sink.toml"))
        .args(["run", "--allow-root"])
        .stderr(Stdio::piped());
    sink.spawn_as(command);
    let host = sink.enrol().await;
    let mut chain = host.epoch(1, None);
    let body = noise(200_000);
    let mut receipts = Vec::new();
    let refused = loop {
        let next = batch_of(&mut chain, &body);
        match sink.try_append(&host, host.id, &[&next]).await {
            Ok(answer) if answer.refusal.is_none() => receipts.extend(answer.receipts),
            Ok(answer) => {
                assert_eq!(answer.receipts.len(), 0);
                assert_eq!(answer.refusal.unwrap().code, RefusalCode::Unavailable);
                break next;
            }
            Err(_) => break next,
        }
        assert!(receipts.len() < 1000, "the limit is not in force");
    };
    assert!(!receipts.is_empty());
    let (code, said) = sink.ended();
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("cannot write") && said.contains(".seg"), "{said}");
    // There is room again: what was promised is there, and the batch that got no receipt goes on from it.
    sink.spawn();
    let head = sink.head(&host).await.head.unwrap();
    assert_eq!(Some(head.hash), receipts.last().map(|last| last.verify(&host.sink).unwrap().batch.hash));
    assert_eq!(sink.append(&host, &[&refused]).await.refusal, None);
    sink.stop();
    let doctor = sink.run_to_end(&["doctor"]);
    assert!(doctor.status.success(), "{}", String::from_utf8_lossy(&doctor.stdout));
}
