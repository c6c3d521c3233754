//! Any bytes as a bundle, against the policy of the vectors, and as a policy. What is read is written again as the same;
//! what passes says nothing but what the vectors' hosts signed.
#![no_main]

use std::sync::LazyLock;

use custody_ledger::bundle::{Opening, Part, Reader, Writer, verify};
use custody_ledger::tlog::Policy;
use libfuzzer_sys::fuzz_target;

static POLICY: LazyLock<Policy> = LazyLock::new(|| {
    include_str!("../../ledger/tests/vectors/bundle/policy.txt").parse().expect("the vectors' policy")
});

fuzz_target!(|data: &[u8]| {
    if let Some(again) = written_again(data) {
        assert!(again == data, "a bundle says something else the second time");
    }
    let mut each = |entry: &custody_ledger::batch::EntryView<'_>| {
        let (seq, epoch) = (entry.header.seq, entry.header.epoch.counter);
        let said = format!("body {seq} of epoch {epoch}");
        let forged = entry.body.is_some_and(|body| body.bytes != said.as_bytes());
        assert!(!forged, "a body was accepted that nobody signed");
    };
    if let Ok(report) = verify(data, &POLICY, &mut each) {
        assert_eq!(report.name_claimed, "web-1");
        assert!(report.verified + report.redacted + report.expired > 0, "a bundle of nothing was accepted");
    }
    if let Ok(policy) = std::str::from_utf8(data).unwrap_or_default().parse::<Policy>() {
        assert_eq!(policy.to_string().parse(), Ok(policy), "a policy says something else the second time");
    }
});

/// The bundle out of its pieces; `None` of bytes that are none.
fn written_again(data: &[u8]) -> Option<Vec<u8>> {
    let (mut reader, opening) = Reader::open(data).ok()?;
    let Opening { expired, range, checkpoint, enrolment, place } = opening;
    let writer = Writer::begin(Vec::new(), &range, &checkpoint, &enrolment, &place, expired);
    let mut writer = writer.expect("what was read is within the limits");
    loop {
        let put = match reader.part().ok()? {
            Part::Way(head) => writer.way(&head),
            Part::Anchor(head, place) => writer.anchor(&head, &place),
            Part::Statement(payload, place) => writer.statement(&payload, &place),
            Part::Batch(frame, place) => writer.batch(&frame, &place),
            Part::End => return writer.end().ok(),
        };
        put.expect("what was read is within the limits");
    }
}
