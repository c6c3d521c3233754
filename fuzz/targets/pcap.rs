//! `cargo xtask fuzz pcap`: the body lies beside the reader of capture files.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| custody_decoders::pcap::fuzz::body(data));
