//! The processes that were there before the agent, read from `/proc`. A process that goes away while it is
//! read gives nothing, which is no error. Arguments may hold secrets: they go to the worker, which masks
//! them, and nowhere else.

use std::io::Read;
use std::path::Path;

use custody_decoders::event::Process;

use super::users::Users;

/// Bytes of arguments that are kept, as the kernel side does.
const ARGUMENT_BYTES_MAX: u64 = 64 << 10;
/// Bytes of any other file of one process.
const FILE_BYTES_MAX: u64 = 64 << 10;

/// All processes below `root` (`/proc` on a live host), by pid. `ticks` is the host's clock ticks per second.
pub fn read_all(root: &Path, ticks: u64, users: &Users) -> Vec<Process> {
    let Ok(entries) = std::fs::read_dir(root) else { return Vec::new() };
    let mut pids: Vec<u32> =
        entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    pids.sort_unstable();
    pids.into_iter().filter_map(|pid| read(root, pid, ticks, users)).collect()
}

/// One process.
pub fn read(root: &Path, pid: u32, ticks: u64, users: &Users) -> Option<Process> {
    let folder = root.join(pid.to_string());
    let stat = Stat::parse(&text(&folder.join("stat"))?)?;
    let status = text(&folder.join("status"))?;
    let (user_id, user_name) = uid(&status, users)?;
    let login_uid = number(&folder.join("loginuid")).filter(|&uid| uid != u32::MAX);
    let (arguments, arguments_cut) = arguments(&folder.join("cmdline"));
    Some(Process {
        pid,
        start_ns: u64::try_from(u128::from(stat.start_ticks) * 1_000_000_000 / u128::from(ticks.max(1)))
            .ok()?,
        parent_pid: stat.parent,
        executable: link(&folder.join("exe")),
        arguments,
        working_directory: link(&folder.join("cwd")),
        user_id,
        user_name,
        login_uid,
        login_name: login_uid.and_then(|uid| users.get(&uid).cloned()).unwrap_or_default(),
        audit_session: number(&folder.join("sessionid")).filter(|&session| session != u32::MAX),
        tty: tty_name(stat.tty),
        cgroup: cgroup(&folder.join("cgroup")),
        arguments_cut,
    })
}

struct Stat {
    parent: u32,
    tty: u32,
    start_ticks: u64,
}

impl Stat {
    /// Fields after the last `)`: a command's name may hold anything, parentheses and newlines included.
    fn parse(text: &str) -> Option<Self> {
        let fields: Vec<&str> = text.get(text.rfind(')')? + 1..)?.split_ascii_whitespace().collect();
        let tty: i32 = fields.get(4)?.parse().ok()?;
        Some(Stat {
            parent: fields.get(1)?.parse().ok()?,
            tty: tty.cast_unsigned(),
            start_ticks: fields.get(19)?.parse().ok()?,
        })
    }
}

/// Name of a terminal's device number as the kernel encodes it for user space.
pub fn tty_name(device: u32) -> String {
    let (major, minor) = ((device >> 8) & 0xfff, (device & 0xff) | ((device >> 12) & 0xfff00));
    match major {
        0 => String::new(),
        4 if minor < 64 => format!("tty{minor}"),
        4 => format!("ttyS{}", minor - 64),
        5 => "console".to_owned(),
        136..=143 => format!("pts/{}", (major - 136) * 256 + minor),
        _ => format!("{major}:{minor}"),
    }
}

fn uid(status: &str, users: &Users) -> Option<(u32, String)> {
    let line = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
    let uid: u32 = line.split_ascii_whitespace().next()?.parse().ok()?;
    Some((uid, users.get(&uid).cloned().unwrap_or_default()))
}

fn arguments(path: &Path) -> (Vec<Vec<u8>>, u64) {
    let Ok(file) = std::fs::File::open(path) else { return (Vec::new(), 0) };
    let mut bytes = Vec::new();
    if file.take(ARGUMENT_BYTES_MAX + 1).read_to_end(&mut bytes).is_err() {
        return (Vec::new(), 0);
    }
    // procfs does not tell the whole length; one byte more than the limit says that there is more.
    let cut = u64::from(bytes.len() as u64 > ARGUMENT_BYTES_MAX);
    bytes.truncate(ARGUMENT_BYTES_MAX as usize);
    (split_arguments(&bytes), cut)
}

/// Arguments as they stand in memory, each ended by NUL.
pub fn split_arguments(bytes: &[u8]) -> Vec<Vec<u8>> {
    let bytes = bytes.strip_suffix(&[0]).unwrap_or(bytes);
    if bytes.is_empty() {
        return Vec::new();
    }
    bytes.split(|&byte| byte == 0).map(<[u8]>::to_vec).collect()
}

/// The path in the v2 hierarchy (`0::/…`), else that of systemd's own v1 hierarchy.
fn cgroup(path: &Path) -> String {
    let Some(text) = text(path) else { return String::new() };
    let v1 = || text.lines().find_map(|line| line.split_once(":name=systemd:").map(|(_, path)| path));
    text.lines()
        .find_map(|line| line.strip_prefix("0::"))
        .filter(|path| *path != "/")
        .or_else(v1)
        .unwrap_or("/")
        .to_owned()
}

fn text(path: &Path) -> Option<String> {
    let mut bytes = Vec::new();
    std::fs::File::open(path).ok()?.take(FILE_BYTES_MAX).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

fn number(path: &Path) -> Option<u32> {
    text(path)?.trim().parse().ok()
}

fn link(path: &Path) -> String {
    std::fs::read_link(path).map(|path| path.to_string_lossy().into_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recorded(name: &str, cmdline: &[u8]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("4711");
        std::fs::create_dir(&folder).unwrap();
        let stat =
            format!("4711 ({name}) S 880 4711 880 34818 4711 4194304 1 0 0 0 0 0 0 0 20 0 1 0 12345 0 0\n");
        std::fs::write(folder.join("stat"), stat).unwrap();
        std::fs::write(folder.join("status"), "Name:\tx\nUid:\t1000\t0\t0\t0\n").unwrap();
        std::fs::write(folder.join("cmdline"), cmdline).unwrap();
        std::fs::write(folder.join("loginuid"), "1000").unwrap();
        std::fs::write(folder.join("sessionid"), "4294967295").unwrap();
        std::fs::write(folder.join("cgroup"), "1:name=systemd:/old\n0::/system.slice/x.service\n").unwrap();
        std::os::unix::fs::symlink("/usr/bin/psql", folder.join("exe")).unwrap();
        std::os::unix::fs::symlink("/home/alice", folder.join("cwd")).unwrap();
        root
    }

    #[test]
    fn a_recorded_process_is_read_whole() {
        let root = recorded("psql", b"psql\0-d\0ledger\0");
        let users = Users::from([(1000, "alice".to_owned())]);
        let processes = read_all(root.path(), 100, &users);
        assert_eq!(
            processes,
            [Process {
                pid: 4711,
                start_ns: 123_450_000_000,
                parent_pid: 880,
                executable: "/usr/bin/psql".into(),
                arguments: vec![b"psql".to_vec(), b"-d".to_vec(), b"ledger".to_vec()],
                working_directory: "/home/alice".into(),
                user_id: 1000,
                user_name: "alice".into(),
                login_uid: Some(1000),
                login_name: "alice".into(),
                audit_session: None,
                tty: "pts/2".into(),
                cgroup: "/system.slice/x.service".into(),
                arguments_cut: 0,
            }]
        );
    }

    #[test]
    fn a_command_name_with_parentheses_does_not_shift_the_fields() {
        let root = recorded("a) R 1 (b", b"x\0");
        assert_eq!(read(root.path(), 4711, 100, &Users::new()).unwrap().parent_pid, 880);
    }

    #[test]
    fn arguments_over_the_limit_are_cut_and_said() {
        let root = recorded("x", &[b'a'; 100_000]);
        let process = read(root.path(), 4711, 100, &Users::new()).unwrap();
        assert_eq!(process.arguments[0].len() as u64, ARGUMENT_BYTES_MAX);
        assert!(process.arguments_cut > 0);
    }

    #[test]
    fn a_process_that_went_away_gives_nothing() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(read(root.path(), 1, 100, &Users::new()), None);
    }
}
