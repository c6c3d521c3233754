//! What readers and joiners send to the sink: the body lies beside the code.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| custody_sink::fuzz::body(data));
