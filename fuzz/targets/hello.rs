//! `cargo xtask fuzz hello`: the body lies beside the reader of TLS hellos.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| custody_decoders::hello_fuzz::body(data));
