//! io_uring: bytes move without a system call of their own. They are payload, or a gap of the exact length; what
//! lies in the buffers of an unrelated call is never taken for them.
#![expect(unsafe_code, reason = "the rings are memory that the kernel shares")]

use crate::calls::{inode, tcp, unix};
use crate::features::{Feature, is_there};
use crate::observe::Observer;
use crate::raw::{Message, call, segment};
use custody_abi::cause;
use custody_abi::direction::{EGRESS, INGRESS};
use custody_agent::probes::Backend;
use rustix::fd::{AsRawFd, OwnedFd};
use rustix::net::{SendFlags, send};
use std::sync::atomic::{AtomicU32, Ordering};

const SETUP: u64 = 425;
const ENTER: u64 = 426;
const ENTRIES: u64 = 8;
const SUBMISSIONS_AT: u64 = 0x1000_0000;
const GETEVENTS: u64 = 1;
/// A worker thread is to do it.
const ASYNC: u8 = 1 << 4;

/// What a submission asks for.
#[derive(Clone, Copy, Debug)]
enum Operation {
    ReadVector = 1,
    WriteVector = 2,
    SendMessage = 9,
    ReceiveMessage = 10,
    Read = 22,
    Write = 23,
    Send = 26,
    Receive = 27,
}

/// One pair of rings, used for one submission at a time.
struct Uring {
    number: u64,
    rings: u64,
    submissions: u64,
    /// `struct io_uring_params`.
    parameters: [u32; 30],
}

impl Uring {
    fn new() -> Option<Self> {
        let parameters = [0_u32; 30];
        let made = call(SETUP, [ENTRIES, parameters.as_ptr() as u64, 0, 0, 0, 0]);
        if !is_there(Feature::IoUring, made) {
            return None;
        }
        let parameters = std::hint::black_box(parameters);
        let number = made.cast_unsigned();
        let bytes = (parameters[16] + parameters[0] * 4).max(parameters[25] + parameters[1] * 16);
        // READ | WRITE, SHARED | POPULATE
        let map = |length: u64, at: u64| {
            let mapped = call(9, [0, length, 3, 0x8001, number, at]);
            assert!(mapped > 0, "mmap: {mapped}");
            mapped.cast_unsigned()
        };
        let submissions = map(ENTRIES * 64, SUBMISSIONS_AT);
        Some(Self { number, rings: map(u64::from(bytes), 0), submissions, parameters })
    }

    fn word(&self, parameter: usize) -> &AtomicU32 {
        // SAFETY: the kernel says where in the mapping, which is never given back, its words stand.
        unsafe { &*((self.rings + u64::from(self.parameters[parameter])) as *const AtomicU32) }
    }

    /// Hands one submission over, without waiting for it.
    fn submit(&self, operation: Operation, flags: u8, socket: &OwnedFd, address: u64, length: u64) {
        let tail = self.word(11).load(Ordering::Acquire);
        let index = tail & self.word(12).load(Ordering::Relaxed);
        let head = u64::from(operation as u8) | u64::from(flags) << 8 | (socket.as_raw_fd() as u64) << 32;
        let at_no_offset = u64::MAX;
        let offset = if matches!(operation as u8, 1 | 2 | 22 | 23) { at_no_offset } else { 0 };
        let entry = [head, offset, address, length, 0, 0, 0, 0];
        // SAFETY: the index is below the number of entries, of 64 bytes each; the kernel reads it in the call.
        unsafe {
            *((self.submissions + u64::from(index) * 64) as *mut [u64; 8]) = entry;
            let array = self.rings + u64::from(self.parameters[16]) + u64::from(index) * 4;
            *(array as *mut u32) = index;
        }
        self.word(11).store(tail + 1, Ordering::Release);
        assert_eq!(call(ENTER, [self.number, 1, 0, 0, 0, 0]), 1);
    }

    /// Waits for the one that is under way; its result.
    fn wait(&self) -> i32 {
        let head = self.word(20).load(Ordering::Acquire);
        while self.word(21).load(Ordering::Acquire) == head {
            let waited = call(ENTER, [self.number, 0, 1, GETEVENTS, 0, 0]);
            assert!(waited >= 0, "io_uring_enter: {waited}");
        }
        let index = head & self.word(22).load(Ordering::Relaxed);
        let at = self.rings + u64::from(self.parameters[25]) + u64::from(index) * 16;
        // SAFETY: a completion that the kernel has published.
        let result = unsafe { (*(at as *const [i32; 4]))[2] };
        self.word(20).store(head + 1, Ordering::Release);
        result
    }
}

impl Drop for Uring {
    fn drop(&mut self) {
        call(3, [self.number, 0, 0, 0, 0, 0]);
    }
}

/// Each operation, done at once and by a worker thread.
fn every_operation(mut observer: Observer, uring: &Uring, a: OwnedFd, b: OwnedFd) {
    use Operation::{ReadVector, Receive, ReceiveMessage, Send, SendMessage, Write, WriteVector};
    let mut expected = Vec::new();
    for flags in [0, ASYNC] {
        for (out, into) in [
            (Write, Operation::Read),
            (Send, Receive),
            (SendMessage, ReceiveMessage),
            (WriteVector, ReadVector),
        ] {
            let text = format!("{out:?} with flags {flags}. ");
            let stale = [b'?'; 64];
            let (from, to) = ([segment(text.as_bytes())], [segment(&stale)]);
            let (message, room) = (Message::of(&from), Message::of(&to));
            let (from, to) = match out {
                SendMessage => ([&raw const message as u64, 1], [&raw const room as u64, 1]),
                WriteVector => ([from.as_ptr() as u64, 1], [to.as_ptr() as u64, 1]),
                _ => (from[0], to[0]),
            };
            uring.submit(out, flags, &a, from[0], from[1]);
            assert_eq!(uring.wait(), text.len() as i32, "{text}");
            uring.submit(into, flags, &b, to[0], to[1]);
            assert_eq!(uring.wait(), text.len() as i32, "{text}");
            expected.extend_from_slice(text.as_bytes());
        }
    }
    let (sender, receiver) = (inode(&a), inode(&b));
    let whole = expected.len() as u64;
    let told = observer.until("all", |told| told.accounted(receiver, INGRESS) >= whole);
    for (end, direction) in [(sender, EGRESS), (receiver, INGRESS)] {
        assert_eq!(told.accounted(end, direction), whole);
        let own = told.open(end).unwrap().socket;
        let mut places: Vec<_> =
            told.gaps(end, direction).iter().map(|gap| (gap.position, gap.length)).collect();
        for chunk in told.chunks.iter().filter(|chunk| chunk.data.socket == own) {
            let at = chunk.data.position as usize;
            let seen = String::from_utf8_lossy(&chunk.bytes);
            assert_eq!(seen, String::from_utf8_lossy(&expected[at..at + chunk.bytes.len()]));
            places.push((chunk.data.position, chunk.bytes.len() as u64));
        }
        places.sort_unstable();
        let mut next = 0;
        for (position, length) in places {
            assert_eq!(position, next, "each byte once");
            next = position + length;
        }
    }
    assert!(told.gaps.iter().all(|gap| gap.cause == cause::NO_PAYLOAD), "{:?}", told.gaps);
    let captured = told.chunks.iter().map(|chunk| chunk.bytes.len() as u64).sum::<u64>();
    eprintln!("io_uring: {captured} of {} bytes with their content, the others as gaps", 2 * whole);
}

#[test]
fn io_uring_over_tcp_is_payload_or_a_gap_of_the_exact_length() {
    let observer = Observer::start(Backend::Sockets);
    let Some(uring) = Uring::new() else { return };
    let (a, b) = tcp("127.0.0.1:0");
    every_operation(observer, &uring, a.into(), b.into());
}

#[test]
fn io_uring_over_tcp_without_the_hook_under_the_lock_is_a_gap_of_the_exact_length() {
    let options =
        custody_agent::probes::ProbeOptions { locked_sends: false, ..crate::observe::only_this_program() };
    let observer = Observer::with(options);
    let Some(uring) = Uring::new() else { return };
    let (a, b) = tcp("127.0.0.1:0");
    every_operation(observer, &uring, a.into(), b.into());
}

#[test]
fn io_uring_over_unix_streams_is_payload_or_a_gap_of_the_exact_length() {
    let observer = Observer::start(Backend::Sockets);
    let Some(uring) = Uring::new() else { return };
    let (a, b) = unix();
    every_operation(observer, &uring, a, b);
}

/// What io_uring waited for is done when the thread leaves its next system call, whose registers still stand.
#[test]
fn what_io_uring_receives_at_the_end_of_a_read_never_shows_the_buffer_of_that_read() {
    let mut observer = Observer::start(Backend::Sockets);
    let Some(uring) = Uring::new() else { return };
    let (a, b) = unix();
    let (out, into) = rustix::pipe::pipe().unwrap();
    let (received, secret) = ([0_u8; 32], *b"stale memory of the other read!!");
    let number = u64::try_from(out.as_raw_fd()).unwrap();
    uring.submit(Operation::Receive, 0, &b, received.as_ptr() as u64, 32);
    let other = std::thread::spawn(move || {
        std::thread::sleep(std::time::Duration::from_millis(100));
        send(&a, b"for the ring", SendFlags::empty()).unwrap();
        std::thread::sleep(std::time::Duration::from_millis(100));
        rustix::io::write(&into, b"x").unwrap();
        a
    });
    assert_eq!(call(0, [number, secret.as_ptr() as u64, 32, 0, 0, 0]), 1);
    assert_eq!(uring.wait(), 12);
    let _a = other.join().unwrap();
    let receiver = inode(&b);
    let told = observer.until("it", |told| told.accounted(receiver, INGRESS) >= 12);
    let seen = told.stream(receiver, INGRESS, 0);
    assert!(seen.is_empty() || seen == b"for the ring", "{:?}", String::from_utf8_lossy(&seen));
    assert_eq!(told.accounted(receiver, INGRESS), 12);
}

/// The same from an interrupt: the thread is in no system call at all.
#[test]
fn what_io_uring_receives_while_a_program_computes_never_shows_its_memory() {
    let mut observer = Observer::start(Backend::Sockets);
    let Some(uring) = Uring::new() else { return };
    let (a, b) = unix();
    let received = [0_u8; 32];
    uring.submit(Operation::Receive, 0, &b, received.as_ptr() as u64, 32);
    let head = uring.word(21).load(Ordering::Acquire);
    let other = std::thread::spawn(move || {
        std::thread::sleep(std::time::Duration::from_millis(100));
        send(&a, b"for the ring", SendFlags::empty()).unwrap();
        a
    });
    while uring.word(21).load(Ordering::Acquire) == head {
        std::hint::spin_loop();
    }
    assert_eq!(uring.wait(), 12);
    let _a = other.join().unwrap();
    let receiver = inode(&b);
    let told = observer.until("it", |told| told.accounted(receiver, INGRESS) >= 12);
    let gaps = told.gaps(receiver, INGRESS);
    let gaps: Vec<_> = gaps.iter().map(|gap| (gap.position, gap.length, gap.cause)).collect();
    assert_eq!(gaps, [(0, 12, cause::NO_PAYLOAD)]);
    assert!(told.stream(receiver, INGRESS, 0).is_empty());
}
