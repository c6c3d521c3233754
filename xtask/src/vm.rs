//! `cargo xtask vm`: the probes' tests on kernels that hosts run, each in a virtual machine that lives for one run.
//!
//! The machine has Debian's kernel, the test program and nothing else; its processor is emulated, so that this works
//! without rights on the host's. What is said of time in there means nothing.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use custody_tests::process::{Running, eventually, output};
use rustix::process::Signal;

use crate::{build_ebpf, setup};

/// On which kernels, and what.
#[derive(Args)]
#[command(after_help = "Examples:
  cargo xtask vm                        both kernels, the tests that fit each
  cargo xtask vm --kernel 6.1           one of them
  cargo xtask vm --kernel 6.12 calls::  only tests whose name holds this")]
pub(crate) struct Options {
    /// Install what is missing without asking.
    #[arg(long, short)]
    yes: bool,
    /// Kernel; may be given several times. Without it all that are known.
    #[arg(long = "kernel", value_name = "VERSION")]
    kernels: Vec<String>,
    /// Tests whose name holds one of these; without it those that each kernel is known to pass.
    filters: Vec<String>,
}

impl Options {
    /// As CI does it: that the probes load and tell a connection's bytes, on each kernel.
    pub(crate) fn all(yes: bool) -> Self {
        Options { yes, kernels: Vec::new(), filters: Vec::new() }
    }
}

/// A kernel of Debian's, by the beginning of its package's name, and the tests that it must pass.
struct Kernel {
    version: &'static str,
    tests: &'static [&'static str],
}

/// 6.1 has no tracepoints of sockets: there the system calls are observed. 6.12 has both ways.
const KERNELS: [Kernel; 2] = [
    Kernel { version: "6.1", tests: &["calls::tcp_by_system_calls"] },
    Kernel { version: "6.12", tests: &["calls::tcp_over_ipv4", "calls::tcp_by_system_calls"] },
];

/// What the virtual machines want.
const PACKAGES: &[setup::Package] = &[
    ("qemu-system-x86", "emulates a machine for each kernel"),
    ("busybox-static", "the few commands that such a machine needs"),
    ("cpio", "packs its files"),
    ("binutils", "takes debug information out of the test program"),
];

/// For the start of a machine and all tests in it. A test loads the probes, which takes an emulated processor half a
/// minute.
const PATIENCE: Duration = Duration::from_secs(900);
const MEMORY_MIB: &str = "1536";
/// Lines of a failed machine's console that are printed.
const LINES_TOLD: usize = 40;
/// What the machine prints last, before the exit code of the tests.
const VERDICT: &str = "TESTS ENDED WITH ";

/// Runs the tests on each kernel.
pub(crate) fn run(root: &Path, options: &Options) -> Result<()> {
    if let Some(unknown) =
        options.kernels.iter().find(|wanted| KERNELS.iter().all(|kernel| kernel.version != wanted.as_str()))
    {
        bail!(
            "no kernel {unknown} is known here; there are {}",
            KERNELS.map(|kernel| kernel.version).join(", ")
        );
    }
    setup::packages(&[setup::KERNEL_BUILD, PACKAGES], options.yes)?;
    setup::bpf_linker(options.yes)?;
    build_ebpf::run(root)?;
    let tests = test_program()?;
    let folder = root.join("target/vm");
    let mut failed = Vec::new();
    for kernel in KERNELS {
        if !options.kernels.is_empty() && !options.kernels.iter().any(|wanted| wanted == kernel.version) {
            continue;
        }
        let filters: Vec<&str> = match options.filters.as_slice() {
            [] => kernel.tests.to_vec(),
            given => given.iter().map(String::as_str).collect(),
        };
        let place = folder.join(kernel.version);
        eprintln!("vm: kernel {}, {}", kernel.version, filters.join(" "));
        let image = image(&place, kernel.version)?;
        let files = pack(&place, &tests, &filters)?;
        let console = boot(&place, &image, &files)?;
        for line in console.lines().filter(|line| line.starts_with("test ")) {
            println!("{:6} {line}", kernel.version);
        }
        if !is_passed(&console) {
            for line in last_lines(&console) {
                eprintln!("{:6} {line}", kernel.version);
            }
            failed.push(format!(
                "{}: what it printed is in {}",
                kernel.version,
                place.join("console").display()
            ));
        }
    }
    ensure!(failed.is_empty(), "tests failed on {} kernels:\n  {}", failed.len(), failed.join("\n  "));
    Ok(())
}

/// What a machine said last, in order: where its console file is gone with the machine that ran this, it still tells why.
fn last_lines(console: &str) -> impl Iterator<Item = &str> {
    let lines: Vec<&str> = console.lines().collect();
    let first = lines.len().saturating_sub(LINES_TOLD);
    lines.into_iter().skip(first)
}

/// The tests of the probes, which hold the kernel object.
fn test_program() -> Result<PathBuf> {
    let mut build = setup::cargo();
    build.args(["test", "-p", "custody-agent", "--test", "sockets", "--no-run", "--message-format=json"]);
    let text = build.stderr(Stdio::inherit()).output().context("cannot start cargo")?;
    ensure!(text.status.success(), "the tests of the probes do not compile");
    let messages = String::from_utf8_lossy(&text.stdout);
    messages.lines().find_map(executable).context("cargo names no test program")
}

/// The test program, if this message of cargo's names it: the agent itself, which the tests want too, has one as well.
fn executable(message: &str) -> Option<PathBuf> {
    let message: serde_json::Value = serde_json::from_str(message).ok()?;
    let is_test = message["target"]["name"] == "sockets";
    message["executable"].as_str().filter(|_| is_test).map(PathBuf::from)
}

/// Debian's newest kernel of this version, fetched once.
fn image(place: &Path, version: &str) -> Result<PathBuf> {
    let names = output(Command::new("apt-cache").args(["pkgnames", &format!("linux-image-{version}.")]))?;
    let mut names: Vec<&str> = names.lines().filter(|name| name.ends_with("-cloud-amd64")).collect();
    names.sort_by_key(|name| numbers(name));
    let name = names.last().with_context(|| {
        format!("this system's package lists have no kernel {version}; `apt-get update` may bring it")
    })?;
    let unpacked = place.join(name);
    let image = unpacked.join("boot").join(name.replacen("linux-image-", "vmlinuz-", 1));
    if !image.exists() {
        let fetched = place.join("fetched");
        std::fs::create_dir_all(&fetched)?;
        setup::run(Command::new("apt-get").current_dir(&fetched).args(["download", "-q", name]))?;
        let package = std::fs::read_dir(&fetched)?.next().context("apt-get fetched nothing")??.path();
        setup::run(Command::new("dpkg-deb").arg("-x").arg(package).arg(&unpacked))?;
        std::fs::remove_dir_all(&fetched)?;
    }
    Ok(image)
}

/// The numbers in a name, so that 6.1.0-56 is newer than 6.1.0-9.
fn numbers(name: &str) -> Vec<u64> {
    name.split(|c: char| !c.is_ascii_digit()).filter_map(|digits| digits.parse().ok()).collect()
}

/// The machine's files: a shell, the tests with their libraries, and what is run first.
fn pack(place: &Path, tests: &Path, filters: &[&str]) -> Result<PathBuf> {
    let root = place.join("root");
    if root.exists() {
        std::fs::remove_dir_all(&root)?;
    }
    for folder in ["bin", "dev", "proc", "sys", "tmp", "var/tmp"] {
        std::fs::create_dir_all(root.join(folder))?;
    }
    std::fs::copy("/bin/busybox", root.join("bin/busybox")).context("busybox-static is not installed")?;
    for command in ["sh", "mount", "ip", "true", "mkdir", "poweroff"] {
        std::os::unix::fs::symlink("busybox", root.join("bin").join(command))?;
    }
    setup::run(Command::new("objcopy").arg("--strip-debug").arg(tests).arg(root.join("bin/tests")))?;
    for library in libraries(tests)? {
        let copy = root.join(library.strip_prefix("/")?);
        std::fs::create_dir_all(copy.parent().context("a library has a folder")?)?;
        std::fs::copy(&library, copy)?;
    }
    let init = include_str!("vm/init.sh").replace("FILTERS", &filters.join(" ")).replace("VERDICT", VERDICT);
    std::fs::write(root.join("init"), init)?;
    setup::run(Command::new("chmod").arg("+x").arg(root.join("init")))?;
    let files = place.join("files.cpio");
    let pack = "find . | cpio --create --format=newc --quiet";
    let packed = std::fs::File::create(&files)?;
    setup::run(Command::new("sh").args(["-c", pack]).current_dir(&root).stdout(packed))?;
    Ok(files)
}

/// The libraries that a program loads, the loader included.
fn libraries(program: &Path) -> Result<BTreeSet<PathBuf>> {
    let listed = output(Command::new("ldd").arg(program))?;
    Ok(listed.split_whitespace().filter(|word| word.starts_with('/')).map(PathBuf::from).collect())
}

/// Starts the machine, waits until it is off, and gives what it printed.
fn boot(place: &Path, image: &Path, files: &Path) -> Result<String> {
    let (image, files) = (image.display().to_string(), files.display().to_string());
    let command = [
        "qemu-system-x86_64",
        "-accel",
        "tcg,thread=multi",
        "-cpu",
        "max",
        "-smp",
        "2",
        "-m",
        MEMORY_MIB,
        "-nographic",
        "-no-reboot",
        "-kernel",
        &image,
        "-initrd",
        &files,
        "-append",
        "console=ttyS0 quiet panic=-1 lsm=lockdown,capability,bpf",
    ];
    let mut machine = Running::start("qemu", &command, None, &place.join("console"), Signal::TERM)?;
    eventually(PATIENCE, "the end of the tests in the machine", || Ok((!machine.alive()).then_some(())))?;
    Ok(machine.log().replace('\r', ""))
}

/// Whether the machine came to its end, and at least one test ran and none failed.
fn is_passed(console: &str) -> bool {
    let ended = console.lines().find_map(|line| line.strip_prefix(VERDICT)?.trim().parse::<i32>().ok());
    let passed = console.lines().find_map(|line| line.strip_prefix("test result: ok. ")?.split(' ').next());
    ended == Some(0) && passed.is_some_and(|count| count != "0")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_that_does_not_come_to_its_end_or_runs_nothing_is_no_success() {
        let told = |passed: u8, code: u8| {
            format!(
                "boot\ntest result: ok. {passed} passed; 0 failed; 0 ignored\n\nTESTS ENDED WITH {code}\n"
            )
        };
        assert!(is_passed(&told(2, 0)));
        assert!(!is_passed(&told(0, 0)), "no test has such a name");
        assert!(!is_passed(&told(1, 101)));
        assert!(!is_passed("test a ... ok\nKernel panic"));
    }

    #[test]
    fn the_program_of_the_tests_is_not_the_agent() {
        let of = |name| format!(r#"{{"target":{{"name":"{name}"}},"executable":"/target/{name}"}}"#);
        assert_eq!(executable(&of("custody-agent")), None);
        assert_eq!(executable(&of("sockets")), Some("/target/sockets".into()));
    }

    #[test]
    fn the_newest_kernel_is_the_one_with_the_highest_numbers() {
        let mut names = ["linux-image-6.1.0-56-cloud-amd64", "linux-image-6.1.0-9-cloud-amd64"];
        names.sort_by_key(|name| numbers(name));
        assert_eq!(names[1], "linux-image-6.1.0-56-cloud-amd64");
    }
}
