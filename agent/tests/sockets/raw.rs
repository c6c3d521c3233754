//! System calls that no library offers safely, for the tests alone.
#![expect(unsafe_code, reason = "system calls by number, the 32-bit entry included")]

use std::os::fd::AsRawFd;

/// A 64-bit system call.
pub(crate) fn call(number: u64, arguments: [u64; 6]) -> i64 {
    let [a, b, c, d, e, f] = arguments;
    let result: i64;
    // SAFETY: the tests pass live buffers that outlast the call.
    unsafe {
        core::arch::asm!("syscall", inlateout("rax") number => result, in("rdi") a, in("rsi") b, in("rdx") c,
            in("r10") d, in("r8") e, in("r9") f, lateout("rcx") _, lateout("r11") _);
    }
    result
}

/// A system call of a 32-bit program, from this 64-bit one.
pub(crate) fn call_32(number: u32, [a, b, c]: [u32; 3]) -> i32 {
    let result: i32;
    // SAFETY: the tests pass live buffers below 4 GiB. LLVM keeps rbx for itself, so it is put back.
    unsafe {
        core::arch::asm!("xchg {b:r}, rbx", "int 0x80", "xchg {b:r}, rbx", b = inout(reg) u64::from(a) => _,
            inlateout("eax") number => result, in("ecx") b, in("edx") c, in("esi") 0, in("edi") 0,
            lateout("r8") _, lateout("r9") _, lateout("r10") _, lateout("r11") _);
    }
    result
}

/// `setsockopt(2)` with a value that no library offers.
pub(crate) fn set_option(socket: &impl AsRawFd, level: i32, name: i32, value: &[u8]) -> std::io::Result<()> {
    let arguments = [socket.as_raw_fd(), level, name].map(|number| u64::from(number.cast_unsigned()));
    let [fd, level, name] = arguments;
    match call(54, [fd, level, name, value.as_ptr() as u64, value.len() as u64, 0]) {
        0.. => Ok(()),
        error => Err(std::io::Error::from_raw_os_error(i32::try_from(-error).unwrap())),
    }
}

/// Runs `work` in a child that has nothing but this thread, waits for its end, and gives its number. The work may
/// make system calls and nothing else: locks that other threads held stay held in the child.
pub(crate) fn forked(work: impl FnOnce() -> bool) -> u32 {
    let child = call(57, [0; 6]);
    if child == 0 {
        let status = u64::from(!work());
        call(231, [status, 0, 0, 0, 0, 0]);
    }
    let mut status = 0_i32;
    let waited = call(61, [child.cast_unsigned(), (&raw mut status) as u64, 0, 0, 0, 0]);
    assert_eq!((waited, status), (child, 0), "the child failed");
    u32::try_from(child).unwrap()
}

/// A page below 4 GiB, never given back.
pub(crate) fn low_page() -> &'static mut [u8] {
    // mmap(0, 4096, READ | WRITE, PRIVATE | ANONYMOUS | 32BIT, -1, 0)
    let page = call(9, [0, 4096, 3, 0x62, u64::MAX, 0]);
    assert!(page > 0, "no page below 4 GiB: {page}");
    // SAFETY: a fresh mapping of one page, which nothing else refers to.
    unsafe { core::slice::from_raw_parts_mut(page as *mut u8, 4096) }
}

/// `struct mmsghdr`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(crate) struct Message {
    name: u64,
    name_length: u64,
    segments: u64,
    count: u64,
    control: u64,
    control_length: u64,
    flags: u64,
    pub(crate) length: u64,
}

impl Message {
    /// The same with room for control data.
    pub(crate) fn with_control(self, control: &[u64]) -> Self {
        Self { control: control.as_ptr() as u64, control_length: size_of_val(control) as u64, ..self }
    }

    /// A message of these iovecs.
    pub(crate) fn of(segments: &[[u64; 2]]) -> Self {
        Self { segments: segments.as_ptr() as u64, count: segments.len() as u64, ..Self::default() }
    }
}

/// An iovec.
pub(crate) fn segment(bytes: &[u8]) -> [u64; 2] {
    [bytes.as_ptr() as u64, bytes.len() as u64]
}
