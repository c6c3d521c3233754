//! Any frames as the batches of a host, as the sink takes them and as `custody verify` reads them; and any bytes as a
//! segment file. Frames of an odd first byte are signed here, so that what lies behind the signature is reached.
#![no_main]

use std::sync::LazyLock;

use custody_ledger::keys::Context;
use custody_ledger::verify::{Head, Verifier, follow};
use custody_ledger::{Batch, HostId, HostKey, SinkKey, segment, tree, wire};
use libfuzzer_sys::fuzz_target;

/// Whose batches the seeds are.
const HOST: HostId = HostId::from_bytes([0x11; 16]);

static KEYS: LazyLock<(HostKey, SinkKey)> = LazyLock::new(|| {
    let keys = HostKey::generate().and_then(|host| Ok((host.0, SinkKey::generate()?.0)));
    keys.expect("the system gives random bytes")
});

fuzz_target!(|data: &[u8]| {
    let Some((first, body)) = data.split_first() else { return };
    if first & 2 != 0 {
        let records = segment::Reader::open(body).into_iter().flatten();
        let bytes: usize =
            records.map_while(Result::ok).map(|record| record.meta.len() + record.payload.len()).sum();
        // A record may be compressed, and says how long it was; it is believed up to the limit of a batch.
        assert!(bytes <= (body.len() / 16 + 1) * (4 << 20), "{bytes} bytes out of {}", body.len());
        return;
    }
    let host_key = KEYS.0.public();
    let mut head: Option<Head> = None;
    let mut verifier = Verifier::new(HOST, host_key);
    for frame in wire::frames(body) {
        let Some(frame) = frame else { break };
        let signed = if first & 1 != 0 { signed(frame) } else { None };
        let is_signed = signed.is_some();
        let frame = signed.unwrap_or_else(|| frame.to_vec());
        verifier.batch(&frame);
        if let Ok(step) = follow(HOST, &host_key, head.as_ref(), &frame) {
            assert!(is_signed, "a batch was accepted that nobody signed");
            head = Some(step.head);
        }
    }
    let report = verifier.finish();
    assert!(report.batches() == 0 || head.is_some(), "the reader holds what the sink would refuse");
});

/// The frame with our keys, its own root and count, and a signature.
fn signed(frame: &[u8]) -> Option<Vec<u8>> {
    let batch = Batch::decode(frame).ok()?;
    let mut header = batch.header.clone();
    let key = KEYS.1.public();
    header.next_key = key;
    header.count = u32::try_from(batch.entries.len()).ok()?;
    header.root =
        tree::root(&batch.entries.iter().map(|entry| tree::leaf(entry.header_bytes)).collect::<Vec<_>>());
    if let Some(opening) = &mut header.opening {
        opening.key = key;
        opening.certificate = KEYS.0.certify(header.host, header.boot, header.epoch, &key);
    }
    let bytes = header.encode().ok()?;
    let entries = &frame[4 + batch.header_bytes.len() + 64..];
    let mut again = Vec::new();
    wire::put_frame(&mut again, &bytes);
    again.extend_from_slice(&KEYS.1.sign(Context::Batch, &bytes).0);
    again.extend_from_slice(entries);
    Some(again)
}
