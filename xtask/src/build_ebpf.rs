//! `cargo xtask build-ebpf`: builds the kernel side into `target/bpf/custody.o`, with whichever of the two
//! compilers that can build `core` for BPF is on this machine. It installs nothing.

mod stack;

use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::process::Command;

const TARGET: &str = "bpfel-unknown-none";
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";
const DEBIAN_CARGO: &str = "/usr/bin/cargo";

/// A compiler with the source of `core` beside it.
struct Toolchain {
    name: String,
    rustc: PathBuf,
    cargo: PathBuf,
}

/// Builds the object and returns where it lies.
pub(crate) fn run(root: &Path) -> Result<PathBuf> {
    let toolchain = choose()?;
    println!("build-ebpf: compiler is {}", toolchain.name);
    let linker = find_linker()?;
    let target_directory = root.join("target/bpf-build");
    let flags = [
        format!("-Clinker={}", linker.display()),
        "-Cdebuginfo=2".to_owned(),
        "-Clink-arg=--btf".to_owned(),
        // Small copies as loads and stores: a call to memcpy goes byte by byte, and has a frame of its own.
        "-Clink-arg=--disable-expand-memcpy-in-order".to_owned(),
        "-Ctarget-cpu=v3".to_owned(),
        // No path of the machine that built it belongs in the object.
        format!("--remap-path-prefix={}=custody", root.display()),
    ];
    let status = Command::new(&toolchain.cargo)
        .current_dir(root.join("agent-ebpf"))
        .args(["build", "--release", "--locked", "-Zbuild-std=core", "--target", TARGET, "--target-dir"])
        .arg(&target_directory)
        .env("RUSTC", &toolchain.rustc)
        .env("RUSTC_BOOTSTRAP", "1")
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\u{1f}"))
        // What the outer `cargo run` set for its own toolchain would lead this one astray.
        .env_remove("CARGO")
        .env_remove("RUSTUP_TOOLCHAIN")
        .env_remove("RUSTFLAGS")
        .status()
        .with_context(|| format!("cannot start {}", toolchain.cargo.display()))?;
    if !status.success() {
        bail!("the kernel side does not compile with {}", toolchain.name);
    }
    let object = root.join("target/bpf/custody.o");
    std::fs::create_dir_all(root.join("target/bpf"))?;
    let built = target_directory.join(TARGET).join("release/custody");
    stack::check(&std::fs::read(&built).with_context(|| format!("cannot read {}", built.display()))?)?;
    copy_if_changed(&built, &object)?;
    println!("build-ebpf: {}", object.display());
    Ok(object)
}

/// The agent embeds the object, so an equal one must not look new to cargo.
fn copy_if_changed(from: &Path, to: &Path) -> Result<()> {
    let bytes = std::fs::read(from).with_context(|| format!("cannot read {}", from.display()))?;
    if std::fs::read(to).is_ok_and(|old| old == bytes) {
        return Ok(());
    }
    let partial = to.with_extension("o.partial");
    std::fs::write(&partial, bytes).with_context(|| format!("cannot write {}", partial.display()))?;
    std::fs::rename(&partial, to).with_context(|| format!("cannot write {}", to.display()))
}

fn choose() -> Result<Toolchain> {
    let refused_rustup = match rustup_nightly() {
        Ok(toolchain) => return Ok(toolchain),
        Err(why) => why,
    };
    println!("build-ebpf: not taken: rustup nightly, because {refused_rustup}");
    let refused_debian = match debian() {
        Ok(toolchain) => return Ok(toolchain),
        Err(why) => why,
    };
    bail!(
        "no compiler can build the kernel side. rustup nightly: {refused_rustup}. Debian: {refused_debian}.\n\
         Do one of these:\n  rustup toolchain install nightly --component rust-src\n  \
         apt-get install rustc-web cargo-web rust-web-src"
    )
}

fn rustup_nightly() -> std::result::Result<Toolchain, String> {
    let rustc = output("rustup", &["which", "--toolchain", "nightly", "rustc"])
        .map_err(|why| format!("there is none ({why})"))?;
    let sysroot = output(&rustc, &["--print", "sysroot"])?;
    let source = Path::new(&sysroot).join("lib/rustlib/src/rust/library/Cargo.lock");
    if !source.exists() {
        return Err(format!("{sysroot} has no component rust-src"));
    }
    let cargo = output("rustup", &["which", "--toolchain", "nightly", "cargo"])?;
    let version = output(&rustc, &["--version"])?;
    Ok(Toolchain { name: format!("rustup nightly, {version}"), rustc: rustc.into(), cargo: cargo.into() })
}

fn debian() -> std::result::Result<Toolchain, String> {
    let sysroot = output(DEBIAN_RUSTC, &["--print", "sysroot"])?;
    if !Path::new(DEBIAN_CARGO).exists() {
        return Err(format!("no {DEBIAN_CARGO} (package cargo-web)"));
    }
    if !Path::new(&sysroot).join("lib/rustlib/src/rust/library/Cargo.lock").exists() {
        return Err("no source of core (package rust-web-src)".to_owned());
    }
    let version = output(DEBIAN_RUSTC, &["--version"])?;
    Ok(Toolchain {
        name: format!("Debian's, {version}"),
        rustc: DEBIAN_RUSTC.into(),
        cargo: DEBIAN_CARGO.into(),
    })
}

fn find_linker() -> Result<PathBuf> {
    let in_path = std::env::var_os("PATH").and_then(|path| {
        std::env::split_paths(&path).map(|folder| folder.join("bpf-linker")).find(|file| file.exists())
    });
    in_path.context(
        "no bpf-linker in PATH. Install it: `cargo install bpf-linker`, or with Debian's LLVM: \
         `apt-get install llvm-22-dev`, then `LLVM_PREFIX=/usr/lib/llvm-22 LLVM_SYS_221_PREFIX=/usr/lib/llvm-22 \
         cargo install bpf-linker --no-default-features --features llvm-22`",
    )
}

fn output(program: &str, arguments: &[&str]) -> std::result::Result<String, String> {
    let output = Command::new(program)
        .args(arguments)
        .env_remove("RUSTUP_TOOLCHAIN")
        .output()
        .map_err(|error| format!("{program}: {error}"))?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr)
            .trim()
            .lines()
            .next()
            .unwrap_or("failed")
            .to_owned());
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
