//! `cargo xtask fuzz postgres`: the body lies beside the decoder.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| custody_decoders::postgres::fuzz::body(data));
