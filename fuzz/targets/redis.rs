//! `cargo xtask fuzz redis`: the body lies beside the decoder.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| custody_decoders::redis::fuzz::body(data));
