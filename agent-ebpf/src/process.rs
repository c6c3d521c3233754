//! exec, fork and exit.

use crate::exec;
use crate::kernel::{current, current_key, key_of, load, offset, read};
use crate::maps::{CALLS, SENDS};
use crate::rings::{control, now};
use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use aya_ebpf::macros::raw_tracepoint;
use aya_ebpf::programs::RawTracePointContext;
use custody_abi::{Exit, Fork, kind, source};

/// `sched_process_exec(task, old_pid, bprm)`: the new program's memory is in place.
#[raw_tracepoint]
pub fn sched_process_exec(_ctx: RawTracePointContext) -> i32 {
    exec::tell();
    0
}

/// `sched_process_fork(parent, child)`: threads too, which are no processes.
#[raw_tracepoint]
pub fn sched_process_fork(ctx: RawTracePointContext) -> i32 {
    let Ok(child) = key_of(ctx.arg(1)) else { return 0 };
    if child.pid == child.tid {
        let parent = current_key();
        control(kind::FORK, 0, now(), source::PROCESS, |header| Fork { header, parent, child });
    }
    0
}

/// `sched_process_exit(task)`: each thread; the process ends with its last one.
#[raw_tracepoint]
pub fn sched_process_exit(_ctx: RawTracePointContext) -> i32 {
    let task = current();
    let thread: u32 = load(task, offset::TASK_PID());
    let _ = SENDS.remove(&thread);
    let _ = CALLS.remove(&thread);
    crate::tls::on_thread_exit(bpf_get_current_pid_tgid());
    let signal: u64 = load(task, offset::TASK_SIGNAL());
    if read::<u32>(signal + offset::SIGNAL_LIVE() as u64) == Ok(0) {
        let status: u32 = load(task, offset::TASK_EXIT_CODE());
        let task = current_key();
        control(kind::EXIT, 0, now(), source::PROCESS, |header| Exit { header, task, status, reserved: 0 });
    }
    0
}
