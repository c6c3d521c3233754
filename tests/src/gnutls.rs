//! wget, which speaks TLS by GnuTLS: a client whose plaintext is not read, so that what a record holds of a
//! connection comes from the server's end.

use std::path::Path;
use std::process::Command;

use anyhow::Result;

use crate::process::output;

/// Fetches these paths over one connection, each a moment after the other; `certificate` is trusted.
pub fn fetch(port: u16, certificate: &Path, paths: &[&str]) -> Result<()> {
    let mut wget = Command::new("wget");
    wget.args([
        "--no-config",
        "--no-hsts",
        "-q",
        "-O",
        "/dev/null",
        "--tries=1",
        "--timeout=10",
        "--wait=0.2",
    ]);
    wget.arg("--ca-certificate").arg(certificate);
    wget.args(paths.iter().map(|path| format!("https://localhost:{port}{path}")));
    output(&mut wget).map(drop)
}
