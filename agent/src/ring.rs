//! Reads a BPF ring buffer that another process filled the kernel's map for: from a file descriptor and a
//! size, by `mmap` alone, so that the unprivileged worker needs neither `bpf(2)` nor a capability.
//!
//! Must not: interpret events, wait without a bound, trust a length in shared memory.
//!
//! Layout (kernel/bpf/ringbuf.c): one page with the consumer's position, writable; one with the
//! producer's, read-only; the data, mapped twice in a row, so that an event never wraps.
#![expect(unsafe_code, reason = "maps and reads memory that the kernel writes")]

use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

const BUSY: u32 = 1 << 31;
const DISCARDED: u32 = 1 << 30;
const HEADER_BYTES: u64 = 8;

/// Why a ring cannot be read any further.
#[derive(Debug, thiserror::Error)]
pub enum RingError {
    /// The size is no power of two of at least one page.
    #[error("a ring of {0} bytes cannot be: it must be a power of two of at least one page")]
    Size(usize),
    /// The descriptor cannot be mapped.
    #[error("cannot map the ring: {0}")]
    Map(#[source] rustix::io::Errno),
    /// The kernel's positions and lengths disagree: the memory is not what it should be.
    #[error("the ring is damaged at position {position}: an event of {length} bytes, {available} available")]
    Damaged {
        /// Consumer's position.
        position: u64,
        /// Length in the event's header.
        length: u64,
        /// Bytes up to the producer's position.
        available: u64,
    },
}

/// One mapped part of the ring.
struct Mapping {
    start: NonNull<u8>,
    bytes: usize,
}

impl Mapping {
    fn new(fd: BorrowedFd<'_>, bytes: usize, offset: u64, protection: ProtFlags) -> Result<Self, RingError> {
        // SAFETY: a fresh mapping at an address of the kernel's choice aliases nothing of ours.
        let start = unsafe { mmap(std::ptr::null_mut(), bytes, protection, MapFlags::SHARED, fd, offset) }
            .map_err(RingError::Map)?;
        NonNull::new(start.cast()).map(|start| Self { start, bytes }).ok_or(RingError::Size(bytes))
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: start and bytes are those of a mapping that only this value owns.
        let _ = unsafe { munmap(self.start.as_ptr().cast(), self.bytes) };
    }
}

/// The consumer's end of a ring. There must be one per ring.
pub struct Ring {
    fd: OwnedFd,
    consumer: Mapping,
    producer: Mapping,
    page: usize,
    mask: u64,
}

// SAFETY: the mappings are shared memory that is only accessed through atomics and through &mut self.
unsafe impl Send for Ring {}

impl AsFd for Ring {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Ring {
    /// Maps the ring buffer map `fd` of `size` bytes (its `max_entries`).
    ///
    /// # Errors
    /// When the size cannot be one of a ring, or the kernel refuses to map it.
    pub fn new(fd: OwnedFd, size: usize) -> Result<Self, RingError> {
        let page = rustix::param::page_size();
        if !size.is_power_of_two() || size < page || size > 1 << 31 {
            return Err(RingError::Size(size));
        }
        let consumer = Mapping::new(fd.as_fd(), page, 0, ProtFlags::READ | ProtFlags::WRITE)?;
        let producer = Mapping::new(fd.as_fd(), page + 2 * size, page as u64, ProtFlags::READ)?;
        Ok(Self { fd, consumer, producer, page, mask: size as u64 - 1 })
    }

    /// Up to where the kernel has reserved. What was submitted before this call lies below it.
    pub fn producer_position(&self) -> u64 {
        // SAFETY: the first word of the producer's page, aligned, alive as long as the mapping.
        unsafe { &*self.producer.start.as_ptr().cast::<AtomicU64>() }.load(Ordering::Acquire)
    }

    /// Up to where events were consumed.
    pub fn consumer_position(&self) -> u64 {
        self.consumer_word().load(Ordering::Relaxed)
    }

    /// Gives each event below `until` to `consume`, and its room back to the kernel. Returns how many there
    /// were. Stops early at an event that is still being written: the next drain continues there.
    ///
    /// To see sockets opened before their data: take the data ring's position, drain the control ring to
    /// its own, then drain the data ring to the position taken.
    ///
    /// # Errors
    /// When a header's length does not fit what the producer reserved. The ring is of no use afterwards.
    pub fn drain(&mut self, until: u64, mut consume: impl FnMut(&[u8])) -> Result<u64, RingError> {
        let mut position = self.consumer_position();
        let until = until.min(self.producer_position());
        let mut events = 0;
        while position < until {
            let available = until - position;
            let header = self.header(position);
            if header & BUSY != 0 {
                break;
            }
            let length = u64::from(header & !(BUSY | DISCARDED));
            let stride = (length + HEADER_BYTES).next_multiple_of(8);
            if stride > available || available > self.mask + 1 {
                return Err(RingError::Damaged { position, length, available });
            }
            if header & DISCARDED == 0 {
                consume(self.payload(position, length));
                events += 1;
            }
            position += stride;
            self.consumer_word().store(position, Ordering::Release);
        }
        Ok(events)
    }

    fn consumer_word(&self) -> &AtomicU64 {
        // SAFETY: the first word of the consumer's page, aligned, alive as long as the mapping.
        unsafe { &*self.consumer.start.as_ptr().cast::<AtomicU64>() }
    }

    fn header(&self, position: u64) -> u32 {
        let offset = self.page + (position & self.mask) as usize;
        // SAFETY: the masked position lies in the data, which is mapped twice behind the first page; positions
        // are multiples of eight, because `drain` only advances by such.
        let word = unsafe { &*self.producer.start.as_ptr().add(offset & !7).cast::<AtomicU32>() };
        word.load(Ordering::Acquire)
    }

    fn payload(&self, position: u64, length: u64) -> &[u8] {
        let offset = self.page + (position & self.mask) as usize + HEADER_BYTES as usize;
        // SAFETY: `drain` checked that header and payload fit in one ring size from here, and the data is
        // mapped twice; the kernel does not write here until the consumer's position passes it.
        unsafe { std::slice::from_raw_parts(self.producer.start.as_ptr().add(offset), length as usize) }
    }
}

#[cfg(test)]
mod tests;
