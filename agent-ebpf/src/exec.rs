//! What a program is at its start: file, folder, control group, arguments, and who runs it.
//!
//! Must not: build paths in order, which would need a second buffer; the reader turns the names around.

use crate::kernel::{current, current_key, key_of, load, memory_subsystem, offset, read};
use crate::maps::CONTROL;
use crate::rings::{Fate, control_flags, count, next_control_seq, now};
use aya_ebpf::helpers::generated::{bpf_probe_read_kernel_str, bpf_probe_read_user};
use custody_abi::{Exec, Header, flag, kind, offsets::ABSENT, source};

/// Names of the three paths; a path that does not fit ends early.
const NAMES: usize = 4096;
/// One name with its NUL.
const NAME: usize = 256;
const DEPTH: u32 = 32;
/// Classes of arguments; what is beyond the last one is cut, and said.
const ARGUMENTS: [usize; 3] = [1024, 8192, 65536];

/// Where names are written; the last may begin at the last byte of [`NAMES`].
#[repr(C)]
pub struct Names {
    bytes: [u8; NAMES + NAME],
}

/// A walk to the root. Integers only, as in `payload::Cursor`.
#[repr(C)]
pub struct Walk {
    /// `struct dentry`, or `struct kernfs_node`.
    node: u64,
    /// `struct vfsmount`.
    mount: u64,
    /// Where the next name goes.
    at: u64,
}

#[repr(C)]
struct Slot<const N: usize> {
    exec: Exec,
    names: Names,
    /// Room for arguments that begin at the end of the names.
    room: [u8; N],
}

/// Tells of the current task's new program.
#[inline(always)]
pub(crate) fn tell() {
    let mm: u64 = load(current(), offset::TASK_MM());
    let start: u64 = read(mm + offset::MM_ARG_START() as u64).unwrap_or(0);
    let end: u64 = read(mm + offset::MM_ARG_END() as u64).unwrap_or(0);
    let length = end.saturating_sub(start);
    if length <= ARGUMENTS[0] as u64 {
        tell_class::<{ ARGUMENTS[0] }>(mm, start, length);
    } else if length <= ARGUMENTS[1] as u64 {
        tell_class::<{ ARGUMENTS[1] }>(mm, start, length);
    } else {
        tell_class::<{ ARGUMENTS[2] }>(mm, start, length);
    }
}

#[inline(always)]
fn tell_class<const N: usize>(mm: u64, start: u64, total: u64) {
    let seq = next_control_seq();
    let Some(mut slot) = CONTROL.reserve::<Slot<N>>(0) else {
        count(source::PROCESS, Fate::Lost, 0);
        return;
    };
    let slot_pointer = slot.as_mut_ptr();
    let mut taken = if total > N as u64 { N as u64 } else { total };
    // SAFETY: all writes stay in the slot, which the verifier checks; the assembly keeps `taken` and `at` bounded
    // in its eyes, which the optimiser would take out as proven.
    unsafe {
        let exec = &raw mut (*slot_pointer).exec;
        let names = &raw mut (*slot_pointer).names;
        let strings: *mut u8 = names.cast();
        identity(exec);
        let mut at = paths(exec, names, mm);
        core::arch::asm!("{0} &= 4095", inout(reg) at);
        core::arch::asm!("if {0} <= {1} goto +1", "{0} = {1}", inout(reg) taken, const N);
        if bpf_probe_read_user(strings.add(at as usize).cast(), taken as u32, start as *const _) != 0 {
            taken = 0;
        }
        (*exec).argv_len = taken as u32;
        (*exec).argv_total = total;
        (*exec).header = Header {
            kind: kind::EXEC,
            flags: if taken < total { flag::CUT } else { 0 },
            len: at as u32 + taken as u32,
            time_ns: now(),
            seq,
        };
    }
    slot.submit(control_flags());
    count(source::PROCESS, Fate::Submitted, 0);
}

/// Who runs it.
#[inline(never)]
fn identity(exec: *mut Exec) -> u64 {
    let task = current();
    // SAFETY: the callers' slot, which the verifier checks.
    let exec = unsafe { &mut *exec };
    exec.task = current_key();
    let parent: u64 = load(task, offset::TASK_PARENT());
    exec.parent = key_of(parent).unwrap_or_default();
    let cred: u64 = load(task, offset::TASK_CRED());
    exec.uid = read(cred + offset::CRED_UID() as u64).unwrap_or(u32::MAX);
    exec.euid = read(cred + offset::CRED_EUID() as u64).unwrap_or(u32::MAX);
    exec.login_uid = member(task, offset::TASK_LOGINUID());
    exec.audit_session = member(task, offset::TASK_SESSIONID());
    exec.tty = tty(task).unwrap_or(0);
    exec.pid_namespace = pid_namespace(task).unwrap_or(0);
    0
}

/// A member that not every kernel has.
#[inline(always)]
fn member(task: *const u8, offset: usize) -> u32 {
    if offset == ABSENT as usize {
        return u32::MAX;
    }
    read(task as u64 + offset as u64).unwrap_or(u32::MAX)
}

#[inline(always)]
fn tty(task: *const u8) -> Result<u32, ()> {
    let signal: u64 = load(task, offset::TASK_SIGNAL());
    let tty: u64 = read(signal + offset::SIGNAL_TTY() as u64)?;
    if tty == 0 {
        return Ok(0);
    }
    let driver: u64 = read(tty + offset::TTY_DRIVER() as u64)?;
    let major: u32 = read(driver + offset::DRIVER_MAJOR() as u64)?;
    let minor: u32 = read(driver + offset::DRIVER_MINOR() as u64)?;
    let index: u32 = read(tty + offset::TTY_INDEX() as u64)?;
    Ok(major << 20 | (minor + index))
}

#[inline(always)]
fn pid_namespace(task: *const u8) -> Result<u32, ()> {
    const UPID_BYTES: u64 = 16;
    let pid: u64 = load(task, offset::TASK_THREAD_PID());
    let level: u32 = read(pid + offset::PID_LEVEL() as u64)?;
    let numbers = pid + offset::PID_NUMBERS() as u64 + u64::from(level) * UPID_BYTES;
    // `struct upid { int nr; struct pid_namespace *ns; }`
    let namespace: u64 = read(numbers + 8)?;
    read(namespace + offset::PIDNS_INUM() as u64)
}

/// Writes the three paths and returns how many bytes they are.
#[inline(never)]
fn paths(exec: *mut Exec, names: *mut Names, mm: u64) -> u64 {
    let task = current();
    // SAFETY: the callers' slot, which the verifier checks.
    let exec = unsafe { &mut *exec };
    let file: u64 = read(mm + offset::MM_EXE_FILE() as u64).unwrap_or(0);
    let inode: u64 = read(file + offset::FILE_INODE() as u64).unwrap_or(0);
    let superblock: u64 = read(inode + offset::INODE_SUPER() as u64).unwrap_or(0);
    exec.exe_device = u64::from(read::<u32>(superblock + offset::SUPER_DEVICE() as u64).unwrap_or(0));
    exec.exe_inode = read(inode + offset::INODE_NUMBER() as u64).unwrap_or(0);
    let exe = path(names, 0, file + offset::FILE_PATH() as u64);
    let folders: u64 = load(task, offset::TASK_FS());
    let cwd = path(names, exe, folders + offset::FS_PWD() as u64);
    let (node, id) = cgroup(task).unwrap_or((0, 0));
    exec.cgroup = id;
    let cgroup = group_path(names, cwd, node);
    exec.exe_len = exe as u32;
    exec.cwd_len = (cwd - exe) as u32;
    exec.cgroup_len = (cgroup - cwd) as u32;
    cgroup
}

/// Appends a name; a name that cannot be read or does not fit is left out.
#[inline(always)]
fn append(names: *mut Names, at: u64, name: u64) -> u64 {
    if at > (NAMES - 1) as u64 {
        return at;
    }
    let mut place = at;
    // SAFETY: the assembly keeps `place` below 4096 in the verifier's eyes; a name of 256 bytes fits behind it.
    let length = unsafe {
        core::arch::asm!("{0} &= 4095", inout(reg) place);
        let to: *mut u8 = names.cast();
        bpf_probe_read_kernel_str(to.add(place as usize).cast(), NAME as u32, name as *const _)
    };
    if length > 0 && length <= NAME as i64 { place + length as u64 } else { place }
}

/// The names of a `struct path`, last to first, across mounts.
#[inline(always)]
fn path(names: *mut Names, from: u64, path: u64) -> u64 {
    let mut walk = Walk {
        node: read(path + offset::PATH_DENTRY() as u64).unwrap_or(0),
        mount: read(path + offset::PATH_MOUNT() as u64).unwrap_or(0),
        at: from,
    };
    for _ in 0..DEPTH {
        if custody_path_step(&raw mut walk, names) == 0 {
            break;
        }
    }
    walk.at
}

/// One name, or one mount; 0 at the root. Exported for the verifier, as `payload::custody_copy_step`.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn custody_path_step(walk: *mut Walk, names: *mut Names) -> u32 {
    if walk.is_null() || names.is_null() {
        return 0;
    }
    // SAFETY: not null, and the verifier holds every caller to a whole Walk.
    let walk = unsafe { &mut *walk };
    if read::<u64>(walk.mount + offset::VFSMOUNT_ROOT() as u64) == Ok(walk.node) {
        // The top of a mount: go on where it is mounted, unless nowhere.
        let whole = walk.mount.wrapping_sub(offset::MOUNT_MNT() as u64);
        let above: u64 = read(whole + offset::MOUNT_PARENT() as u64).unwrap_or(whole);
        if above == whole {
            return 0;
        }
        walk.node = read(whole + offset::MOUNT_POINT() as u64).unwrap_or(0);
        walk.mount = above + offset::MOUNT_MNT() as u64;
        return 1;
    }
    let parent: u64 = read(walk.node + offset::DENTRY_PARENT() as u64).unwrap_or(walk.node);
    if parent == walk.node {
        return 0;
    }
    walk.at = append(names, walk.at, read(walk.node + offset::DENTRY_NAME() as u64).unwrap_or(0));
    walk.node = parent;
    1
}

/// The kernfs node of the control group, and the id of the group in the unified tree. Where that is the root
/// (hosts of the first version), the memory controller's group names the service.
#[inline(always)]
fn cgroup(task: *const u8) -> Result<(u64, u64), ()> {
    let set: u64 = load(task, offset::TASK_CGROUPS());
    let unified: u64 = read(set + offset::CSS_SET_DEFAULT() as u64)?;
    let node: u64 = read(unified + offset::CGROUP_KN() as u64)?;
    let id: u64 = read(node + offset::KERNFS_ID() as u64)?;
    let parent: u64 = read(node + offset::KERNFS_PARENT() as u64)?;
    if parent != 0 || memory_subsystem() == u32::MAX {
        return Ok((node, id));
    }
    let index = u64::from(memory_subsystem()) * 8;
    let state: u64 = read(set + offset::CSS_SET_SUBSYS() as u64 + index)?;
    let group: u64 = read(state + offset::CSS_CGROUP() as u64)?;
    Ok((read(group + offset::CGROUP_KN() as u64)?, id))
}

#[inline(always)]
fn group_path(names: *mut Names, from: u64, node: u64) -> u64 {
    let mut walk = Walk { node, mount: 0, at: from };
    for _ in 0..DEPTH {
        if custody_group_step(&raw mut walk, names) == 0 {
            break;
        }
    }
    walk.at
}

/// One name of a control group's path; 0 at the root.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn custody_group_step(walk: *mut Walk, names: *mut Names) -> u32 {
    if walk.is_null() || names.is_null() {
        return 0;
    }
    // SAFETY: not null, and the verifier holds every caller to a whole Walk.
    let walk = unsafe { &mut *walk };
    let parent = read::<u64>(walk.node + offset::KERNFS_PARENT() as u64).unwrap_or(0);
    if parent == 0 {
        return 0;
    }
    walk.at = append(names, walk.at, read(walk.node + offset::KERNFS_NAME() as u64).unwrap_or(0));
    walk.node = parent;
    1
}
