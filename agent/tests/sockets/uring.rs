//! An io_uring by its system calls, for the tests alone: one operation at a time.
#![expect(unsafe_code, reason = "the rings are memory that the kernel shares")]

use crate::raw::call;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicU32, Ordering};

const SETUP: u64 = 425;
const ENTER: u64 = 426;
const REGISTER: u64 = 427;
const ENTRIES: u64 = 8;

/// Operations.
pub(crate) mod operation {
    pub(crate) const READV: u8 = 1;
    pub(crate) const WRITEV: u8 = 2;
    pub(crate) const READ_FIXED: u8 = 4;
    pub(crate) const WRITE_FIXED: u8 = 5;
    pub(crate) const SENDMSG: u8 = 9;
    pub(crate) const RECVMSG: u8 = 10;
    pub(crate) const READ: u8 = 22;
    pub(crate) const WRITE: u8 = 23;
    pub(crate) const SEND: u8 = 26;
    pub(crate) const RECV: u8 = 27;
    pub(crate) const SEND_ZC: u8 = 47;
}

/// `IOSQE_ASYNC`: by a worker thread of the kernel.
pub(crate) const ASYNC: u8 = 1 << 4;
/// `IORING_SETUP_SQPOLL`: a thread of the kernel's takes the operations.
pub(crate) const POLLED: u32 = 1 << 1;
/// `IORING_CQE_F_MORE`: another completion follows.
const MORE: u32 = 1 << 1;

/// `struct io_uring_params`, as words.
type Parameters = [u32; 30];

/// One ring, of one thread.
pub(crate) struct Uring {
    fd: OwnedFd,
    rings: u64,
    entries: u64,
    parameters: Parameters,
}

fn map(fd: &OwnedFd, bytes: u64, offset: u64) -> u64 {
    // READ | WRITE, SHARED | POPULATE; never given back.
    let address = call(9, [0, bytes, 3, 0x8001, u64::from(fd.as_raw_fd().cast_unsigned()), offset]);
    assert!(address > 0, "mmap: {address}");
    address.cast_unsigned()
}

impl Uring {
    pub(crate) fn new(flags: u32) -> std::io::Result<Self> {
        let mut parameters: Parameters = [0; 30];
        (parameters[2], parameters[4]) = (flags, 10_000);
        let fd = call(SETUP, [ENTRIES, parameters.as_mut_ptr() as u64, 0, 0, 0, 0]);
        if fd < 0 {
            return Err(std::io::Error::from_raw_os_error(i32::try_from(-fd).unwrap()));
        }
        // SAFETY: the kernel has just given it, and nobody else has it.
        let fd = unsafe { OwnedFd::from_raw_fd(i32::try_from(fd).unwrap()) };
        assert!(parameters[5] & 1 != 0, "one mapping holds both rings since 5.4");
        // The array of the submission ring, and the completions, stand last.
        let bytes = (parameters[16] + parameters[0] * 4).max(parameters[25] + parameters[1] * 16);
        let rings = map(&fd, u64::from(bytes), 0);
        let entries = map(&fd, u64::from(parameters[0]) * 64, 0x1000_0000);
        Ok(Self { fd, rings, entries, parameters })
    }

    fn word(&self, offset: u32) -> &AtomicU32 {
        // SAFETY: an aligned word inside the mapping, which is never given back.
        unsafe { &*((self.rings + u64::from(offset)) as *const AtomicU32) }
    }

    /// Makes a buffer known to the ring, as number 0.
    pub(crate) fn register(&self, buffer: &[u8]) {
        let list = [buffer.as_ptr() as u64, buffer.len() as u64];
        let fd = u64::from(self.fd.as_raw_fd().cast_unsigned());
        assert_eq!(call(REGISTER, [fd, 0, list.as_ptr() as u64, 1, 0, 0]), 0);
    }

    /// Hands an operation over, and does not wait for it.
    pub(crate) fn submit(&self, operation: u8, flags: u8, on: &impl AsRawFd, address: u64, length: usize) {
        let (tail, mask) =
            (self.word(self.parameters[11]), self.word(self.parameters[12]).load(Ordering::Relaxed));
        let at = tail.load(Ordering::Relaxed);
        let slot = at & mask;
        let entry = [
            u64::from(operation) | u64::from(flags) << 8 | u64::from(on.as_raw_fd().cast_unsigned()) << 32,
            0,
            address,
            length as u64,
            0,
            0,
            0,
            0,
        ];
        // SAFETY: inside the mapping of the entries; the kernel looks at it only behind the tail.
        unsafe { ((self.entries + u64::from(slot) * 64) as *mut [u64; 8]).write_volatile(entry) };
        self.word(self.parameters[16] + slot * 4).store(slot, Ordering::Relaxed);
        tail.store(at.wrapping_add(1), Ordering::Release);
        let submitted = self.enter(1, 0);
        assert_eq!(submitted, 1);
    }

    fn enter(&self, submit: u64, wait: u64) -> i64 {
        // GETEVENTS, SQ_WAKEUP.
        let flags = 2 | u64::from(wait != 0);
        call(ENTER, [u64::from(self.fd.as_raw_fd().cast_unsigned()), submit, wait, flags, 0, 0])
    }

    /// A completion that is there, without a system call.
    pub(crate) fn done(&self) -> Option<i32> {
        let (head, tail) = (self.word(self.parameters[20]), self.word(self.parameters[21]));
        let at = head.load(Ordering::Relaxed);
        if at == tail.load(Ordering::Acquire) {
            return None;
        }
        let slot = at & self.word(self.parameters[22]).load(Ordering::Relaxed);
        let completion = self.parameters[25] + slot * 16;
        let result = self.word(completion + 8).load(Ordering::Relaxed).cast_signed();
        let flags = self.word(completion + 12).load(Ordering::Relaxed);
        head.store(at.wrapping_add(1), Ordering::Release);
        if flags & MORE != 0 {
            // Of a send without a copy: that the memory is free again is said by a second one.
            while self.done().is_none() {
                self.enter(0, 1);
            }
        }
        Some(result)
    }

    /// Waits for an operation, and gives its result.
    pub(crate) fn wait(&self) -> i32 {
        loop {
            if let Some(result) = self.done() {
                return result;
            }
            self.enter(0, 1);
        }
    }

    /// Hands an operation over and waits for it.
    pub(crate) fn run(
        &self,
        operation: u8,
        flags: u8,
        on: &impl AsRawFd,
        address: u64,
        length: usize,
    ) -> i32 {
        self.submit(operation, flags, on, address, length);
        self.wait()
    }
}
