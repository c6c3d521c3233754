//! A target with a bug in it, so that the lane can be seen to fail: whoever runs the targets demands that this one
//! is found. It must never be repaired.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let [b'c', b'a', b'n', b'a', b'r', b'y', length, rest @ ..] = data {
        assert!(usize::from(*length) <= rest.len(), "the planted bug: a length that is believed");
    }
});
