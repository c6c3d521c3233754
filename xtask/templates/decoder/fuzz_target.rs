//! `cargo xtask fuzz __name__`: the body lies beside the decoder.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| custody_decoders::__name__::fuzz::body(data));
