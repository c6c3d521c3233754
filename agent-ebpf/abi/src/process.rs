//! Events about processes: exec, fork and exit. Layout as [the crate](crate) lays down.

use crate::{Header, TaskKey};

/// A program started. The strings follow: exe, cwd, cgroup, then argv as it stands in memory. The first three
/// are paths as the kernel walks them: names from the last to the first, each ended by NUL.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Exec {
    /// Kind [`crate::kind::EXEC`]; [`crate::flag::CUT`] when argv was longer than its limit.
    pub header: Header,
    /// The process.
    pub task: TaskKey,
    /// Its parent.
    pub parent: TaskKey,
    /// Real user id.
    pub uid: u32,
    /// Effective user id.
    pub euid: u32,
    /// Login uid, `u32::MAX` when unset.
    pub login_uid: u32,
    /// Audit session, `u32::MAX` when unset.
    pub audit_session: u32,
    /// Terminal: `MKDEV(major, minor)` of the controlling tty, 0 without.
    pub tty: u32,
    /// Inode of the pid namespace.
    pub pid_namespace: u32,
    /// Id of the cgroup (v2).
    pub cgroup: u64,
    /// Device and inode of the executable.
    pub exe_device: u64,
    /// Inode of the executable.
    pub exe_inode: u64,
    /// Bytes of exe, cwd, cgroup path and argv among the strings.
    pub exe_len: u32,
    /// Bytes of the working directory.
    pub cwd_len: u32,
    /// Bytes of the cgroup's path.
    pub cgroup_len: u32,
    /// Bytes of argv, arguments separated by NUL.
    pub argv_len: u32,
    /// Bytes that argv had in memory.
    pub argv_total: u64,
}

/// A process was made (not: a thread).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Fork {
    /// Kind [`crate::kind::FORK`].
    pub header: Header,
    /// Who forked.
    pub parent: TaskKey,
    /// The new process.
    pub child: TaskKey,
}

/// A process ended.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Exit {
    /// Kind [`crate::kind::EXIT`].
    pub header: Header,
    /// The process.
    pub task: TaskKey,
    /// As wait(2) tells it.
    pub status: u32,
    /// Padding.
    pub reserved: u32,
}

const _: () = {
    assert!(size_of::<Exec>() == 128);
    assert!(size_of::<Fork>() == 56);
    assert!(size_of::<Exit>() == 48);
};
