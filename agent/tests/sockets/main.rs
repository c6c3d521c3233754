//! The probes in the real kernel: real system calls, read back from the rings and compared byte by byte.
//!
//! Needs root and the kernel object (`cargo xtask build-ebpf`). One test at a time: each loads the probes.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod calls;
mod ends;
mod features;
mod foreign;
mod io_uring;
mod observe;
mod oddities;
mod processes;
mod raw;
mod sharing;
mod traps;
mod twins;
mod uring;
mod wakes;
mod ways;
