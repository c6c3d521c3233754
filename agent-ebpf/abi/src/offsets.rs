//! Which members of which kernel structs the probes read. The one list: the kernel side declares a
//! read-only global for each line, the loader looks the member up in the running kernel's BTF and sets it.
//! Members that were renamed are given as alternatives, the newest first.

/// The value of an offset that this kernel does not have.
pub const ABSENT: u32 = u32::MAX;

/// Calls `$use!` with lines `NAME = "struct", ["member", …]`.
#[macro_export]
macro_rules! kernel_offsets {
    ($use:ident) => {
        $use! {
            REGS_ARG0 = "pt_regs", ["di", "regs[0]"];
            SK_DADDR = "sock", ["__sk_common.skc_daddr"];
            SK_RCV_SADDR = "sock", ["__sk_common.skc_rcv_saddr"];
            SK_DPORT = "sock", ["__sk_common.skc_dport"];
            SK_NUM = "sock", ["__sk_common.skc_num"];
            SK_FAMILY = "sock", ["__sk_common.skc_family"];
            SK_PROT = "sock", ["__sk_common.skc_prot"];
            SK_FLAGS = "sock", ["__sk_common.skc_flags"];
            SK_NET = "sock", ["__sk_common.skc_net"];
            SK_V6_DADDR = "sock", ["__sk_common.skc_v6_daddr"];
            SK_V6_RCV_SADDR = "sock", ["__sk_common.skc_v6_rcv_saddr"];
            SK_PROTOCOL = "sock", ["sk_protocol"];
            SK_TYPE = "sock", ["sk_type"];
            SK_SOCKET = "sock", ["sk_socket"];
            NET_INUM = "net", ["ns.inum"];
            SOCKET_INODE = "socket_alloc", ["vfs_inode.i_ino"];
            SOCKET_SK = "socket", ["sk"];
            TCP_WRITE_SEQ = "tcp_sock", ["write_seq"];
            TCP_COPIED_SEQ = "tcp_sock", ["copied_seq"];
            TCP_RCV_NXT = "tcp_sock", ["rcv_nxt"];
            TCP_SND_NXT = "tcp_sock", ["snd_nxt"];
            TCP_BYTES_SENT = "tcp_sock", ["bytes_sent"];
            TCP_BYTES_RETRANS = "tcp_sock", ["bytes_retrans"];
            TCP_BYTES_RECEIVED = "tcp_sock", ["bytes_received"];
            TCP_IS_MPTCP = "tcp_sock", ["is_mptcp"];
            ICSK_ULP_OPS = "inet_connection_sock", ["icsk_ulp_ops"];
            UNIX_PEER = "unix_sock", ["peer"];
            UNIX_ADDR = "unix_sock", ["addr"];
            MSG_ITER = "msghdr", ["msg_iter"];
            MSG_FLAGS = "msghdr", ["msg_flags"];
            ITER_TYPE = "iov_iter", ["iter_type"];
            ITER_OFFSET = "iov_iter", ["iov_offset"];
            ITER_COUNT = "iov_iter", ["count"];
            ITER_IOV = "iov_iter", ["__iov", "iov"];
            ITER_SEGMENTS = "iov_iter", ["nr_segs"];
            TASK_TGID = "task_struct", ["tgid"];
            TASK_PID = "task_struct", ["pid"];
            TASK_START = "task_struct", ["start_boottime"];
            TASK_LEADER = "task_struct", ["group_leader"];
            TASK_PARENT = "task_struct", ["real_parent"];
            TASK_MM = "task_struct", ["mm"];
            TASK_FS = "task_struct", ["fs"];
            TASK_FILES = "task_struct", ["files"];
            TASK_CRED = "task_struct", ["cred"];
            TASK_SIGNAL = "task_struct", ["signal"];
            TASK_LOGINUID = "task_struct", ["loginuid"];
            TASK_SESSIONID = "task_struct", ["sessionid"];
            TASK_THREAD_PID = "task_struct", ["thread_pid"];
            TASK_CGROUPS = "task_struct", ["cgroups"];
            TASK_EXIT_CODE = "task_struct", ["exit_code"];
            TASK_COMPAT_STATUS = "task_struct", ["thread_info.status"];
            SIGNAL_TTY = "signal_struct", ["tty"];
            SIGNAL_LIVE = "signal_struct", ["live"];
            TTY_INDEX = "tty_struct", ["index"];
            TTY_DRIVER = "tty_struct", ["driver"];
            DRIVER_MAJOR = "tty_driver", ["major"];
            DRIVER_MINOR = "tty_driver", ["minor_start"];
            CRED_UID = "cred", ["uid"];
            CRED_EUID = "cred", ["euid"];
            PID_LEVEL = "pid", ["level"];
            PID_NUMBERS = "pid", ["numbers"];
            PIDNS_INUM = "pid_namespace", ["ns.inum"];
            CSS_SET_DEFAULT = "css_set", ["dfl_cgrp"];
            CSS_SET_SUBSYS = "css_set", ["subsys"];
            CSS_CGROUP = "cgroup_subsys_state", ["cgroup"];
            CGROUP_KN = "cgroup", ["kn"];
            KERNFS_PARENT = "kernfs_node", ["__parent", "parent"];
            KERNFS_NAME = "kernfs_node", ["name"];
            KERNFS_ID = "kernfs_node", ["id"];
            MM_ARG_START = "mm_struct", ["arg_start"];
            MM_ARG_END = "mm_struct", ["arg_end"];
            MM_EXE_FILE = "mm_struct", ["exe_file"];
            FILE_INODE = "file", ["f_inode"];
            FILE_PATH = "file", ["f_path"];
            FILE_PRIVATE = "file", ["private_data"];
            INODE_NUMBER = "inode", ["i_ino"];
            INODE_MODE = "inode", ["i_mode"];
            INODE_SUPER = "inode", ["i_sb"];
            SUPER_DEVICE = "super_block", ["s_dev"];
            FS_PWD = "fs_struct", ["pwd"];
            PATH_MOUNT = "path", ["mnt"];
            PATH_DENTRY = "path", ["dentry"];
            MOUNT_MNT = "mount", ["mnt"];
            MOUNT_PARENT = "mount", ["mnt_parent"];
            MOUNT_POINT = "mount", ["mnt_mountpoint"];
            VFSMOUNT_ROOT = "vfsmount", ["mnt_root"];
            DENTRY_PARENT = "dentry", ["d_parent"];
            DENTRY_NAME = "dentry", ["d_name.name"];
            FILES_FDT = "files_struct", ["fdt"];
            FDT_MAX = "fdtable", ["max_fds"];
            FDT_FD = "fdtable", ["fd"];
            REGS_NUMBER = "pt_regs", ["orig_ax", "syscallno"];
            REGS_ARG1 = "pt_regs", ["si", "regs[1]"];
            REGS_ARG2 = "pt_regs", ["dx", "regs[2]"];
            REGS_ARG3 = "pt_regs", ["r10", "regs[3]"];
            REGS_ARG4 = "pt_regs", ["r8", "regs[4]"];
            REGS_RESULT = "pt_regs", ["ax"];
            REGS_BX = "pt_regs", ["bx"];
            REGS_CX = "pt_regs", ["cx"];
        }
    };
}
