//! The worker from inside and from outside: it holds no right. Needs root, because only root can give rights
//! up; fails clearly without.

use std::process::{Command, Stdio};

const PROGRAM: &str = env!("CARGO_BIN_EXE_custody-agent");
const NOBODY: &str = "65534";

fn need_root() {
    assert!(rustix::process::geteuid().is_root(), "this test needs root: only root can give rights up");
}

#[test]
fn a_worker_finds_every_door_shut() {
    need_root();
    let output = Command::new(PROGRAM)
        .args(["worker", "--inspect", "--uid", NOBODY, "--gid", NOBODY])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let told = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{told} {}", String::from_utf8_lossy(&output.stderr));
    let inside: serde_json::Value = serde_json::from_str(&told).unwrap();
    for door in [
        "open_file",
        "make_file",
        "make_socket",
        "start_program",
        "executable_memory",
        "become_root",
        "trace_parent",
        "bpf",
    ] {
        assert_eq!(inside[door], "denied", "{door}");
    }
    assert!(!std::path::Path::new("/tmp/custody-worker-was-here").exists());
}

#[test]
fn the_doors_are_open_before_the_worker_shuts_them() {
    // Otherwise the test above could not fail.
    assert!(std::fs::File::open("/etc/passwd").is_ok());
    assert!(std::net::UdpSocket::bind("127.0.0.1:0").is_ok());
    assert!(Command::new("/bin/true").status().is_ok());
}

#[test]
fn a_worker_refuses_to_stay_root() {
    need_root();
    let output =
        Command::new(PROGRAM).args(["worker", "--inspect", "--uid", "0", "--gid", "0"]).output().unwrap();
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("must not be root"));
}
