//! What the other verbs need on the machine: Debian packages and the BPF linker. It says what is missing and
//! why, asks, installs, and changes nothing else.

use std::io::{IsTerminal, Write};
use std::process::Command;

use anyhow::{Context, Result, bail};

/// A Debian package and why it is wanted.
pub(crate) type Package = (&'static str, &'static str);

/// To build the kernel object without a rustup nightly that has rust-src.
pub(crate) const KERNEL_BUILD: &[Package] = &[
    ("rustc-web", "a rustc whose LLVM matches Debian's: builds the kernel object"),
    ("cargo-web", "its cargo"),
    ("rust-web-src", "its core library, built for the BPF target"),
    ("llvm-22-dev", "what bpf-linker links against"),
    ("libpolly-22-dev", "named by llvm-22's own configuration"),
];

/// The real servers and clients that demo and tests set up for themselves. Debian starts nginx and PostgreSQL
/// as services when it installs them; those are not used and may be stopped.
pub(crate) const SERVERS: &[Package] = &[
    ("nginx-light", "a web server; Debian starts it on port 80, which is not used here"),
    ("postgresql", "a database server with psql and pgbench; Debian starts it on port 5432, not used here"),
    ("openssl", "makes the servers' certificates"),
    ("curl", "an HTTP client"),
    ("python3", "an HTTP client library"),
];

/// What the tests want beyond that.
pub(crate) const TESTS: &[Package] = &[
    ("wrk", "load on the web server"),
    ("python3-psycopg", "a second client library of PostgreSQL"),
    ("python3-asyncpg", "a third one, which binds and copies in binary"),
    ("redis-server", "a key-value server; Debian starts it on port 6379, not used here"),
    ("redis-tools", "its command line and its load generator"),
    ("python3-redis", "a client library of Redis"),
    ("python3-cryptography", "Ed25519 for the second verifier of evidence bundles"),
    ("tcpdump", "makes captures for `custody decode`"),
    ("wget", "a client whose TLS is GnuTLS, which is not read"),
    ("gnutls-bin", "a server whose TLS is GnuTLS, which is not read"),
    (
        "gcc",
        "makes small libraries that tests look for functions in, and the layer that fails a program's files",
    ),
    ("python3-pip", "brings a Python package with an OpenSSL of its own"),
    ("haproxy", "a TLS server whose transport is its own, over a socket"),
    ("nodejs", "a TLS server whose transport is its own, in memory"),
    ("zstd", "compresses what a web server sends, independently of our own library"),
    ("gdb", "takes memory dumps, which must hold no secret"),
];

/// What the bench compares with, beside tcpdump, which the tests want too: the cheapest observer there is.
pub(crate) const BENCH: &[Package] = &[
    ("bpftrace", "what an engineer would observe with today"),
    ("strace", "the dearest observer there is"),
    ("nghttp2-client", "h2load: a load at a given rate"),
    ("redis-server", "a server under load; Debian starts it on port 6379, which is not used here"),
    ("redis-tools", "redis-benchmark: its load"),
];

/// What reads capture files, too.
pub(crate) const BENCH_DECODE: &[Package] = &[("tshark", "the reader of capture files that people know")];

/// Installs those of `packages` that are missing, after asking unless `yes`.
pub(crate) fn packages(packages: &[&[Package]], yes: bool) -> Result<()> {
    let missing: Vec<&Package> =
        packages.iter().flat_map(|group| group.iter()).filter(|(name, _)| !installed(name)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    println!("These Debian packages are missing:");
    for (name, why) in &missing {
        println!("  {name:20} {why}");
    }
    if which("apt-get").is_none() {
        bail!("this system has no apt-get; install the packages above by its own means, then try again");
    }
    confirm("Install them now?", yes)?;
    apt(&["update", "-q"])?;
    let mut arguments = vec!["install", "-q", "-y", "--no-install-recommends"];
    arguments.extend(missing.iter().map(|(name, _)| *name));
    apt(&arguments)
}

/// Makes a system account without a shell when it is missing.
pub(crate) fn account(name: &str, why: &str, yes: bool) -> Result<()> {
    if Command::new("id").arg(name).output().is_ok_and(|output| output.status.success()) {
        return Ok(());
    }
    println!("The system account {name} is missing: {why}.");
    confirm("Make it now?", yes)?;
    run(Command::new("useradd").args(["--system", "--no-create-home", "--shell", "/usr/sbin/nologin", name]))
}

/// Installs bpf-linker from its crate when it is missing.
pub(crate) fn bpf_linker(yes: bool) -> Result<()> {
    if which("bpf-linker").is_some() {
        return Ok(());
    }
    println!(
        "bpf-linker is missing: it turns compiled code into the kernel object (crates.io, about a minute)."
    );
    confirm("Install it with cargo?", yes)?;
    run(cargo().env("LLVM_PREFIX", "/usr/lib/llvm-22").env("LLVM_SYS_221_PREFIX", "/usr/lib/llvm-22").args([
        "install",
        "bpf-linker",
        "--version",
        "^0.13",
        "--no-default-features",
        "--features",
        "llvm-22",
    ]))
}

/// cargo as a person would start it. What the cargo that runs xtask has set for xtask would otherwise look like
/// a change of the environment, and crates with build scripts would be built again at each change of hands.
pub(crate) fn cargo() -> Command {
    let mut cargo = Command::new("cargo");
    let set_by_cargo = ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_", "CARGO_PRIMARY_"];
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(|name| set_by_cargo.iter().any(|prefix| name.starts_with(prefix))) {
            cargo.env_remove(name);
        }
    }
    cargo
}

/// Runs a command and fails with its name when it fails.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let name = words.map(std::ffi::OsStr::to_string_lossy).collect::<Vec<_>>().join(" ");
    let status = command.status().with_context(|| format!("cannot start {name}"))?;
    if !status.success() {
        bail!("{name} ended with {status}");
    }
    Ok(())
}

/// Where a program lies in `PATH`.
pub(crate) fn which(program: &str) -> Option<std::path::PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(program)).find(|file| file.is_file())
}

fn installed(package: &str) -> bool {
    Command::new("dpkg-query")
        .args(["-W", "-f=${Status}", package])
        .output()
        .is_ok_and(|output| output.stdout.starts_with(b"install ok installed"))
}

fn apt(arguments: &[&str]) -> Result<()> {
    run(Command::new("apt-get").env("DEBIAN_FRONTEND", "noninteractive").args(arguments))
}

fn confirm(question: &str, yes: bool) -> Result<()> {
    if yes {
        return Ok(());
    }
    if !std::io::stdin().is_terminal() {
        bail!("nobody is here to ask ({question}); give --yes to agree beforehand");
    }
    print!("{question} [Y/n] ");
    std::io::stdout().flush()?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    match answer.trim() {
        "" | "y" | "Y" | "yes" => Ok(()),
        _ => bail!("not installed, so stopped here"),
    }
}
