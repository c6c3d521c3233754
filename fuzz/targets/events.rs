//! Any records of the two rings, through the whole worker: order, tables, TLS binding, decoders, masks.
//!
//! Input: records of a control byte, a length byte (in words of eight bytes) and the record, which gets a number that
//! follows unless the control byte says otherwise.
#![no_main]

use std::sync::LazyLock;

use custody_agent::config::Limits;
use custody_agent::link::Canary;
use custody_agent::worker::ingest::Ingest;
use custody_agent::worker::stage::Stage;
use custody_decoders::mask::Masker;
use libfuzzer_sys::fuzz_target;

static MASKER: LazyLock<Masker> = LazyLock::new(Masker::default);

/// What the worker may hold of an input of some kilobytes, whatever its numbers claim.
const HELD_BYTES_MAX: u64 = 16 << 20;
/// Where the number of an event stands in its header.
const NUMBER: std::ops::Range<usize> = 16..24;

fuzz_target!(|data: &[u8]| {
    let mut ingest = Ingest::new(true);
    let mut stage = Stage::new(&Limits::default(), MASKER.clone(), 0, Canary::default());
    let mut numbers = [0u64; 2];
    let mut now_ns = 0;
    let mut rest = data;
    while let [control, words, after @ ..] = rest {
        let (record, after) = after.split_at((usize::from(*words) * 8).min(after.len()));
        rest = after;
        let is_data = control & 1 != 0;
        let mut record = record.to_vec();
        if control & 2 == 0
            && let Some(number) = record.get_mut(NUMBER)
        {
            number.copy_from_slice(&numbers[usize::from(is_data)].to_ne_bytes());
            numbers[usize::from(is_data)] += 1;
        }
        if is_data {
            ingest.data(&record, &mut |event| stage.event(event));
        } else {
            ingest.control(&record);
        }
        if control & 12 == 12 {
            let lost = ingest.finish(&mut |event| stage.event(event));
            now_ns += u64::from(control >> 4) * 50_000_000;
            stage.tick(lost, now_ns);
            stage.out.clear();
        }
        let held = stage.figures().held_bytes;
        assert!(held <= HELD_BYTES_MAX, "the worker holds {held} bytes");
    }
    for _ in 0..2 {
        let lost = ingest.finish(&mut |event| stage.event(event));
        stage.tick(lost, now_ns);
    }
    stage.finish();
});
