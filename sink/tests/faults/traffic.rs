//! Hosts that append while a call of the sink goes wrong: each sends its next batch until it has a receipt, asks for the
//! proof that it is committed, and believes nothing unchecked. Nobody here is stopped by a sink that dies.

use std::path::Path;
use std::time::Duration;

use custody_ledger::tlog::{Awaited, BatchLeaf, Witness};
use custody_ledger::wire::{self, CommittedQuery, CommittedResponse};
use custody_ledger::{Resume, SignedBatch};
use hyper::Method;

use crate::oracle::Oracle;
use crate::support::{Host, Sink, batch, batch_of};

/// Longest wait for one answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often a host asks after recovery: a disk that others keep busy may be slower than the sink waits for it.
const ATTEMPTS: usize = 3;
/// Batches of each host while a call goes wrong.
const BATCHES: usize = 6;

/// Two hosts with what they will send, and what was there before.
pub(crate) struct Hosts {
    hosts: [Host; 2],
    frames: [Vec<SignedBatch>; 2],
    /// What was promised of the state that all begin from.
    pub(crate) before: Oracle,
    token: custody_ledger::wire::JoinToken,
}

/// Makes the state that all runs begin from, at `base`: two hosts, some batches, a log of more than one tile's edge.
pub(crate) async fn make(base: &Path) -> Hosts {
    let mut sink = Sink::start();
    let hosts = [sink.enrol().await, sink.enrol().await];
    let token = sink.token(&["--host", "--uses", "100"]);
    let (mut frames, mut before) = (Vec::new(), Oracle::default());
    for host in &hosts {
        let mut chain = host.epoch(1, None);
        let first: Vec<_> = (0..3).map(|number| batch(&mut chain, &format!("before {number}"))).collect();
        let answer = sink.append(host, &first.iter().collect::<Vec<_>>()).await;
        let awaited: Vec<_> =
            first.iter().zip(&answer.receipts).map(|(one, receipt)| awaited(host, one, receipt)).collect();
        while !see(&sink, host, &awaited[2], &mut before).await.unwrap().unwrap() {}
        for (batch, receipt) in first.iter().zip(&answer.receipts) {
            before.sends(&batch.frame);
            before.promised(&batch.frame, receipt);
        }
        // The epoch ends, and the next one begins in the middle of what goes wrong.
        let mut more = vec![batch(&mut chain, "last of the epoch")];
        let resume = Resume { local: Some(more[0].position), ..Resume::default() };
        let mut chain = host.epoch(2, Some(resume));
        more.extend((1..BATCHES).map(|number| batch_of(&mut chain, &vec![number as u8; 200 * number])));
        frames.push(more);
    }
    sink.stop();
    std::fs::rename(sink.state(), base).unwrap();
    let frames = frames.try_into().unwrap_or_else(|_| unreachable!("one for each host"));
    Hosts { hosts, frames, before, token }
}

fn awaited(host: &Host, batch: &SignedBatch, receipt: &custody_ledger::SignedReceipt) -> Awaited {
    let receipt = receipt.verify(&host.sink).unwrap();
    assert_eq!((receipt.host, receipt.batch), (host.id, batch.position), "a receipt for something else");
    Awaited {
        batch: batch.position,
        leaf: BatchLeaf::of_frame(&batch.frame, receipt.received_ns).unwrap().hash(),
    }
}

/// Asks whether a batch is committed, and keeps the checkpoint. `Ok(None)`: nobody answered.
async fn see(
    sink: &Sink,
    host: &Host,
    awaited: &Awaited,
    oracle: &mut Oracle,
) -> Result<Option<bool>, String> {
    let query = CommittedQuery {
        epoch: awaited.batch.epoch.counter,
        number: awaited.batch.number.0,
        size: oracle.witness().map_or(0, |kept| kept.checkpoint().size),
        wait_ms: 2_000,
        ..CommittedQuery::default()
    };
    let path = wire::committed_path(host.id, &query);
    let asked = sink.request(Some(&host.credentials), Method::GET, &path, Vec::new());
    let Ok(Ok((200, answer))) = tokio::time::timeout(PATIENCE, asked).await else { return Ok(None) };
    let answer: CommittedResponse = wire::decode(&answer).map_err(|error| error.to_string())?;
    let seen = Witness::see(oracle.witness(), &host.sink, &answer, std::slice::from_ref(awaited))
        .map_err(|alarm| format!("ALARM: {alarm}"))?;
    oracle.keeps(seen.witness);
    Ok(Some(seen.committed == 1))
}

/// One batch; without a receipt, why.
async fn send(sink: &Sink, host: &Host, batch: &SignedBatch, oracle: &mut Oracle) -> Result<Awaited, String> {
    oracle.sends(&batch.frame);
    let sent = tokio::time::timeout(PATIENCE, sink.try_append(host, host.id, &[batch])).await;
    let answer = sent.map_err(|_| "no answer in time".to_owned())?.map_err(|error| error.to_string())?;
    let receipt = answer.receipts.first().ok_or_else(|| format!("{:?}", answer.refusal))?;
    let awaited = awaited(host, batch, receipt);
    oracle.promised(&batch.frame, receipt);
    Ok(awaited)
}

/// Appends as far as the sink lets it. An error is a promise that was broken.
pub(crate) async fn append(sink: &mut Sink, hosts: &Hosts, oracle: &mut Oracle) -> Result<(), String> {
    let mut next = [0; 2];
    // Each goes wrong once; a second attempt comes through, or the sink is gone.
    for _ in 0..BATCHES + 2 {
        for (index, host) in hosts.hosts.iter().enumerate() {
            let Some(batch) = hosts.frames[index].get(next[index]) else { continue };
            if let Ok(awaited) = send(sink, host, batch, oracle).await {
                next[index] += 1;
                see(sink, host, &awaited, oracle).await?;
            } else if !sink.is_alive() {
                return Ok(());
            }
        }
        if next[0] == 2 {
            // Enrolling writes too: a token's use and a record. It may fail, and nothing hangs on it.
            let _ = tokio::time::timeout(PATIENCE, sink.try_enrol_with(&hosts.token)).await;
        }
    }
    Ok(())
}

/// After recovery both hosts go on from where the sink says it stands, which is not before what it acknowledged, and
/// everything comes to be committed in a log that goes on from what they kept.
pub(crate) async fn went_on(sink: &Sink, hosts: &Hosts, oracle: &mut Oracle) -> Result<(), String> {
    for (host, frames) in hosts.hosts.iter().zip(&hosts.frames) {
        // All of them again: what is there is answered with its own receipt.
        for batch in frames {
            let mut sent = send(sink, host, batch, oracle).await;
            for _ in 1..ATTEMPTS {
                if let Err(why) = &sent {
                    // It passes, and why it was so shall be known.
                    println!("{} is asked for again: {why}", batch.position);
                    sent = send(sink, host, batch, oracle).await;
                }
            }
            let awaited =
                sent.map_err(|why| format!("{} is not taken after recovery: {why}", batch.position))?;
            while !see(sink, host, &awaited, oracle).await?.ok_or("nobody answers after recovery")? {}
        }
    }
    Ok(())
}
