//! exec, fork and exit as the kernel side tells them.

use crate::observe::Observer;
use custody_abi::flag;
use custody_agent::probes::{Backend, path_of_names};
use std::os::unix::fs::MetadataExt;
use std::process::Command;

/// Runs a program and returns its exec's event and four strings.
fn run(observer: &mut Observer, command: &mut Command) -> (custody_abi::Exec, [Vec<u8>; 4]) {
    let mut child = command.spawn().unwrap();
    let pid = child.id();
    let status = child.wait().unwrap();
    let told = observer.until("its exit", |told| told.exits.iter().any(|exit| exit.task.pid == pid));
    let exit = told.exits.iter().find(|exit| exit.task.pid == pid).unwrap();
    assert_eq!(exit.status >> 8, status.code().unwrap().cast_unsigned());
    let fork = told.forks.iter().find(|fork| fork.child.pid == pid).unwrap();
    assert_eq!(fork.parent.pid, std::process::id());
    let (exec, strings) = told.execs.iter().find(|(exec, _)| exec.task.pid == pid).unwrap();
    assert_eq!((exec.task.start_ns, exit.task.start_ns), (fork.child.start_ns, fork.child.start_ns));
    let (exe, rest) = strings.split_at(exec.exe_len as usize);
    let (cwd, rest) = rest.split_at(exec.cwd_len as usize);
    let (cgroup, argv) = rest.split_at(exec.cgroup_len as usize);
    (*exec, [path_of_names(exe), path_of_names(cwd), path_of_names(cgroup), argv.to_vec()])
}

#[test]
fn a_program_is_told_with_all_that_it_is() {
    let mut observer = Observer::start(Backend::Sockets);
    let folder = tempfile::tempdir().unwrap();
    let cwd = folder.path().canonicalize().unwrap();
    let (exec, [exe, working, _, argv]) =
        run(&mut observer, Command::new("/bin/sh").args(["-c", "exit 7", "", "last"]).current_dir(&cwd));
    let file = std::fs::canonicalize("/bin/sh").unwrap();
    assert_eq!(exe, file.as_os_str().as_encoded_bytes());
    assert_eq!(working, cwd.as_os_str().as_encoded_bytes());
    assert_eq!(argv, b"/bin/sh\0-c\0exit 7\0\0last\0");
    assert_eq!(exec.argv_total, argv.len() as u64);
    assert_eq!(exec.parent.pid, std::process::id());
    assert_eq!(exec.exe_inode, file.metadata().unwrap().ino());
    let own = std::fs::metadata("/proc/self").unwrap();
    assert_eq!((exec.uid, exec.euid), (own.uid(), own.uid()));
    let namespace = std::fs::metadata("/proc/self/ns/pid").unwrap().ino();
    assert_eq!(u64::from(exec.pid_namespace), namespace);
    let login: u32 =
        std::fs::read_to_string("/proc/self/loginuid").map_or(u32::MAX, |text| text.trim().parse().unwrap());
    assert_eq!(exec.login_uid, login);
}

#[test]
fn the_control_group_is_the_one_that_procfs_names() {
    let mut observer = Observer::start(Backend::Sockets);
    let (_, [_, _, cgroup, _]) = run(&mut observer, Command::new("/bin/sh").args(["-c", "exit 0"]));
    let table = std::fs::read_to_string("/proc/self/cgroup").unwrap();
    let of = |wanted: &str| {
        table.lines().find_map(|line| {
            let mut fields = line.splitn(3, ':').skip(1);
            (fields.next() == Some(wanted)).then(|| fields.next().unwrap().to_owned())
        })
    };
    let unified = of("").unwrap();
    let expected = if unified == "/" { of("memory").unwrap_or(unified) } else { unified };
    assert_eq!(String::from_utf8(cgroup).unwrap(), expected);
}

#[test]
fn arguments_are_whole_up_to_64_kib_and_cut_beyond() {
    let mut observer = Observer::start(Backend::Sockets);
    for length in [900, 5_000, 60_000] {
        let long = "x".repeat(length);
        let (exec, [_, _, _, argv]) = run(&mut observer, Command::new("/bin/true").arg(&long));
        assert_eq!(argv, [b"/bin/true\0", long.as_bytes(), b"\0"].concat());
        assert_eq!(exec.header.flags & flag::CUT, 0);
    }
    let long = "y".repeat(100_000);
    let (exec, [_, _, _, argv]) = run(&mut observer, Command::new("/bin/true").arg(&long));
    assert_eq!((argv.len(), exec.argv_total), (65_536, 100_011));
    assert_ne!(exec.header.flags & flag::CUT, 0);
}
