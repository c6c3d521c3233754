//! `cargo xtask fuzz http1`: the body lies beside the decoder.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| custody_decoders::http1::fuzz::body(data));
