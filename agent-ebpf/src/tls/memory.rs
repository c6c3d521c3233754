//! TLS over memory: the library writes its ciphertext into a buffer, and the program sends it later, in a call of
//! its own. The head of each record that an unbound object writes is remembered, and the socket on which the
//! same process sends the same bytes is the object's.
//!
//! Compared are the header and what follows it, byte by byte, never a length. Only records that no other
//! connection can have are remembered: hellos, by their random, and encrypted ones. Two objects with one record
//! (an export cipher that encrypts nothing, say) make that record useless for both.

use aya_ebpf::{
    helpers::{bpf_get_current_pid_tgid, generated::bpf_probe_read_user},
    macros::{map, uprobe},
    maps::LruHashMap,
    programs::ProbeContext,
};
use custody_abi::{SocketKey, TaskKey, provenance};

use super::{bind, is_record_header, state};
use crate::maps::SOCKETS;
use crate::payload::first_address;
use crate::{kernel, rings, sockets};

/// Bytes of a record that are compared: header and 32, or header and 16 of one that is shorter than that.
const LONG: usize = 5 + 32;
const SHORT: usize = 5 + 16;

const HANDSHAKE: u8 = 22;
const APPLICATION_DATA: u8 = 23;
const CLIENT_HELLO: u8 = 1;
const SERVER_HELLO: u8 = 2;
/// Where the random of a hello begins: behind the headers of record and message and the version.
const RANDOM: usize = 5 + 4 + 2;
/// The "random" of every HelloRetryRequest begins so (RFC 8446 4.1.3).
const RETRY_RANDOM: [u8; 4] = [0xcf, 0x21, 0xad, 0x74];

/// A record that a process wrote.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Record {
    start_ns: u64,
    pid: u32,
    length: u32,
    head: [u8; 40],
}

/// Who wrote it: the library's pointer, and the object's number, 0 when there were two.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Author {
    ssl: u64,
    id: u64,
}

/// Records that were written and not sent yet. Those that never are give way to newer ones.
#[map]
static TLS_RECORDS: LruHashMap<Record, Author> = LruHashMap::with_max_entries(8_192, 0);

/// `write(bio, buffer, length)` of a transport that is memory.
#[uprobe]
pub fn bio_write(ctx: ProbeContext) -> u32 {
    let stack = state::stack_pointer(aya_ebpf::EbpfContext::as_ptr(&ctx));
    let Some(ssl) = state::inside_above(bpf_get_current_pid_tgid(), stack) else { return 0 };
    let task = kernel::current_key();
    let Some(object) = state::object(&task, ssl) else { return 0 };
    if object.socket.generation != 0 {
        return 0;
    }
    let (buffer, length) = (ctx.arg::<u64>(1).unwrap_or(0), ctx.arg::<i32>(2).unwrap_or(0));
    let Some(record) = record(&task, buffer, length as i64 as u64) else { return 0 };
    let mut author = Author { ssl, id: object.id };
    if let Some(other) = TLS_RECORDS.get_ptr(&record) {
        // SAFETY: a map's value, alive while the program runs.
        if unsafe { (*other).id } != author.id {
            author.id = 0;
        }
    }
    let _ = TLS_RECORDS.insert(&record, &author, 0);
    if let Some(shared) = rings::shared() {
        // SAFETY: a word of a map's value, alive while the program runs; only ever set.
        unsafe { (*shared).tls_over_memory = 1 };
    }
    0
}

/// Whether any process wrote such records, so that what others send must be looked at.
#[inline(always)]
pub fn is_used() -> bool {
    // SAFETY: a word of a map's value, alive while the program runs.
    rings::shared().is_some_and(|shared| unsafe { (*shared).tls_over_memory } != 0)
}

/// A process sent `length` bytes, from `offset` of a [`crate::payload::Origin`], outside of the library's calls: binds
/// the object that wrote them. Exported, so that the verifier checks it once and by itself.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn custody_tls_sent(sock: u64, form: u32, address: u64, offset: u64, length: u64) -> u32 {
    let Some(entry) = SOCKETS.get_ptr_mut(&sock) else { return 0 };
    let Some(address) = first_address(form, address, offset) else { return 0 };
    let (task, socket) = (kernel::current_key(), sockets::key(sock, entry));
    let Some(record) = record(&task, address, length) else { return 0 };
    let Some(author) = TLS_RECORDS.get_ptr(&record) else { return 0 };
    // SAFETY: a map's value, alive while the program runs.
    let author = unsafe { *author };
    let _ = TLS_RECORDS.remove(&record);
    found(&task, socket, author);
    1
}

#[inline(always)]
fn found(task: &TaskKey, socket: SocketKey, author: Author) {
    let Some(object) = state::object(task, author.ssl) else { return };
    if object.id == author.id && object.socket.generation == 0 && socket.generation != 0 {
        bind(task, object, socket, provenance::CIPHERTEXT);
    }
}

/// The record at `address`, if there is one that no other connection can have.
#[inline(always)]
fn record(task: &TaskKey, address: u64, length: u64) -> Option<Record> {
    if (length as i64) < SHORT as i64 {
        return None;
    }
    let head: [u8; 5] = kernel::read_user(address).ok()?;
    if !is_record_header(&head) || (head[0] != HANDSHAKE && head[0] != APPLICATION_DATA) {
        return None;
    }
    let body = u64::from(head[3]) << 8 | u64::from(head[4]);
    let mut record = Record { start_ns: task.start_ns, pid: task.pid, length: 0, head: [0; 40] };
    let target = record.head.as_mut_ptr().cast();
    // SAFETY: both lengths are constants that fit into the array.
    let failed = unsafe {
        if body >= (LONG - 5) as u64 && length >= LONG as u64 {
            record.length = LONG as u32;
            bpf_probe_read_user(target, LONG as u32, address as *const _)
        } else if body >= (SHORT - 5) as u64 && body < (LONG - 5) as u64 {
            record.length = SHORT as u32;
            bpf_probe_read_user(target, SHORT as u32, address as *const _)
        } else {
            -1
        }
    };
    if failed != 0 {
        return None;
    }
    let random =
        [record.head[RANDOM], record.head[RANDOM + 1], record.head[RANDOM + 2], record.head[RANDOM + 3]];
    let is_hello = record.head[5] == CLIENT_HELLO || record.head[5] == SERVER_HELLO;
    let is_own =
        head[0] == APPLICATION_DATA || (record.length == LONG as u32 && is_hello && random != RETRY_RANDOM);
    is_own.then_some(record)
}
