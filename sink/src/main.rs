//! sink
fn main() {}
