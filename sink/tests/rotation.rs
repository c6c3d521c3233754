//! The real program over real sockets: a host goes on with another key and another certificate, and nobody does so in its
//! place.

#![expect(clippy::unwrap_used, reason = "a test ends at what it did not expect")]

#[expect(dead_code, reason = "shared with the tests of appending, which use the rest")]
mod support;

use custody_ledger::line::HandOver;
use custody_ledger::statement::{DenialReason, Stated};
use custody_ledger::tree::hash_of;
use custody_ledger::verify::Finding;
use custody_ledger::wire::{self, ErrorResponse, RefusalCode, RenewRequest, RenewResponse};
use custody_ledger::{BootId, Chain, HostId, HostKey, Resume, SignedBatch};
use hyper::Method;
use rcgen::{CertificateParams, KeyPair};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use support::{Credentials, Host, Sink, batch};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

fn key() -> HostKey {
    HostKey::generate().unwrap().0
}

/// An epoch that goes on from this batch, certified by the key at the end of the line.
fn epoch(host: &Host, key: &HostKey, line: &[HandOver], counter: u64, last: &SignedBatch) -> Chain {
    let resume = Resume { local: Some(last.position), ..Default::default() };
    let chain = Chain::start(key, host.id, BootId([1; 16]), counter, Some(resume)).unwrap();
    chain.in_line(line.to_vec())
}

async fn refused(sink: &Sink, host: &Host, chain: &mut Chain) -> RefusalCode {
    sink.append(host, &[&batch(chain, "refused")]).await.refusal.unwrap().code
}

#[tokio::test]
async fn after_a_rotation_the_old_key_opens_nothing_and_no_other_key_does() {
    let mut sink = Sink::start();
    let (host, other) = (sink.enrol().await, sink.enrol().await);
    let (next, foreign) = (key(), key());
    let first = batch(&mut host.epoch(1, None), "by the enrolled key");
    assert_eq!(sink.append(&host, &[&first]).await.receipts.len(), 1);
    for line in [
        vec![],
        vec![foreign.hand_over(host.id, &foreign.public())],
        vec![other.key.hand_over(host.id, &foreign.public())],
        vec![host.key.hand_over(other.id, &foreign.public())],
    ] {
        let mut chain = epoch(&host, &foreign, &line, 2, &first);
        assert_eq!(refused(&sink, &host, &mut chain).await, RefusalCode::Signature);
    }
    let line = [host.key.hand_over(host.id, &next.public())];
    let mut chain = epoch(&host, &next, &line, 2, &first);
    let (second, third) = (batch(&mut chain, "by the next key"), batch(&mut chain, "and on"));
    assert_eq!(sink.append(&host, &[&second, &third]).await.receipts.len(), 2);
    // What knows the rotation is in the segments: it is built again.
    sink.stop();
    std::fs::remove_file(sink.state().join("index.redb")).unwrap();
    sink.spawn();
    let fork = [host.key.hand_over(host.id, &foreign.public())];
    for (key, line) in [(&host.key, &[][..]), (&host.key, &line[..]), (&foreign, &fork[..])] {
        let mut chain = epoch(&host, key, line, 3, &third);
        assert_eq!(refused(&sink, &host, &mut chain).await, RefusalCode::Signature);
    }
    let mut chain = epoch(&host, &next, &line, 3, &third);
    assert_eq!(sink.append(&host, &[&batch(&mut chain, "the next start")]).await.receipts.len(), 1);
    sink.stop();
    let rotated = Finding::KeyRotated { from: host.key.public(), to: next.public() };
    let found = sink
        .statements()
        .into_iter()
        .filter(|statement| matches!(&statement.what, Stated::Found { finding, .. } if *finding == rotated));
    assert_eq!(found.count(), 1, "a rotation is told once, and who it leads from and to");
}

/// A request for another certificate, and the key of it.
fn request(id: HostId, key: &HostKey, line: &[HandOver]) -> (Vec<u8>, KeyPair) {
    let pair = KeyPair::generate().unwrap();
    let csr = CertificateParams::default().serialize_request(&pair).unwrap().der().to_vec();
    let proof = key.prove_renewal(id, &csr);
    (wire::encode(&RenewRequest { certificate_request: csr, line: line.to_vec(), proof }).unwrap(), pair)
}

async fn renew(sink: &Sink, host: &Host, body: Vec<u8>) -> Result<CertificateDer<'static>, RefusalCode> {
    let path = wire::certificate_path(host.id);
    let (status, answer) = sink.request(Some(&host.credentials), Method::POST, &path, body).await.unwrap();
    if status != 200 {
        return Err(wire::decode::<ErrorResponse>(&answer).unwrap().refusal.code);
    }
    let answer: RenewResponse = wire::decode(&answer).unwrap();
    Ok(CertificateDer::from_pem_slice(answer.certificate.as_bytes()).unwrap())
}

#[tokio::test]
async fn a_certificate_is_renewed_for_who_has_the_newest_key_of_the_chain_and_nobody_else() {
    let mut sink = Sink::start();
    let (mut host, other) = (sink.enrol().await, sink.enrol().await);
    let thief = request(host.id, &key(), &[]).0;
    assert_eq!(renew(&sink, &host, thief).await, Err(RefusalCode::Forbidden), "the TLS key alone");
    let replayed = request(other.id, &host.key, &[]).0;
    assert_eq!(renew(&sink, &host, replayed).await, Err(RefusalCode::Forbidden), "a proof for another host");
    let stranger = Host { id: other.id, ..sink.enrol().await };
    let body = request(other.id, &other.key, &[]).0;
    assert_eq!(renew(&sink, &stranger, body).await, Err(RefusalCode::Forbidden), "another host's path");
    // The host's newest key may be one that the sink has not seen yet.
    let next = key();
    let line = [host.key.hand_over(host.id, &next.public())];
    let (body, pair) = request(host.id, &next, &line);
    let certificate = renew(&sink, &host, body.clone()).await.unwrap();
    assert_eq!(renew(&sink, &host, body).await, Err(RefusalCode::Busy), "none may fill the disk with them");
    let renewed = hash_of(&certificate);
    let tls_key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(pair.serialize_der()));
    host.credentials = Credentials { certificate, key: tls_key };
    let first = batch(&mut host.epoch(1, None), "over the new certificate");
    assert_eq!(sink.append(&host, &[&first]).await.receipts.len(), 1);
    let id = host.id.to_string();
    assert!(sink.run_to_end(&["revoke", "--host", &id]).status.success());
    assert_eq!(sink.append(&host, &[&first]).await.refusal.unwrap().code, RefusalCode::Forbidden);
    sink.stop();
    let statements = sink.statements();
    let stated = statements.iter().filter_map(|statement| match &statement.what {
        Stated::Renewed { certificate, .. } => Some((statement.host, *certificate)),
        _ => None,
    });
    assert_eq!(stated.collect::<Vec<_>>(), [(Some(host.id), renewed)]);
    let denied = statements.iter().filter_map(|statement| match &statement.what {
        Stated::Denied(denied) if denied.reason == DenialReason::ChainKey => Some(denied.count),
        _ => None,
    });
    assert_eq!(denied.sum::<u64>(), 2);
}

#[tokio::test]
async fn a_certificate_that_is_asked_for_while_its_host_is_revoked_does_not_outlive_the_revocation() {
    let mut sink = Sink::start();
    let host = sink.enrol().await;
    let (id, body) = (host.id.to_string(), request(host.id, &host.key, &[]).0);
    let mut stream = sink.stream(Some(&host.credentials)).await.unwrap();
    let head = format!(
        "POST {} HTTP/1.1\r\nhost: localhost\r\nexpect: 100-continue\r\ncontent-length: {}\r\n\r\n",
        wire::certificate_path(host.id),
        body.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = vec![0; 25];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(answer, b"HTTP/1.1 100 Continue\r\n\r\n", "it is let in, and its body is waited for");
    assert!(sink.run_to_end(&["revoke", "--host", &id]).status.success());
    stream.write_all(&body).await.unwrap();
    let mut answer = vec![0; 12];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(answer, b"HTTP/1.1 403");
    sink.stop();
    let renewed = |what: &Stated| matches!(what, Stated::Renewed { .. });
    assert!(!sink.statements().iter().any(|statement| renewed(&statement.what)));
}
