//! Plaintext of OpenSSL's callers, and which socket it belongs to.
//!
//! Entry and return probes on the library's functions. A frame per call lies on a small stack per thread, so
//! that the socket hooks can ask "inside which TLS object's call am I?" ([`on_socket_bytes`]). A TLS object
//! gets a number of its own at first sight: the library's pointer is reused after `SSL_free`, and a forked
//! child has the same one.
//!
//! Where no socket call nests in the library's, because its transport is memory, [`memory`] finds the socket.
//!
//! Writes are copied at entry as tentative data and settled at return; reads are copied at return. Nothing is
//! matched by length, and two sockets for one object are both told: userspace judges.

mod emit;
mod memory;
mod rare;
mod state;

use aya_ebpf::{
    EbpfContext,
    helpers::bpf_get_current_pid_tgid,
    macros::{uprobe, uretprobe},
    programs::{ProbeContext, RetProbeContext},
};
use custody_abi::{
    Data, Header, SocketKey, TaskKey, TlsBind, TlsClose, TlsSettle, direction, flag, kind, layer, provenance,
    source,
};

use crate::{kernel, rings, rules, sockets};
pub use memory::{custody_tls_sent, is_used as is_over_memory};
pub use state::on_thread_exit;
use state::{Frame, Object, call};

/// Type 20 to 23, version 03 00 to 03 04, a length that a record may have (RFC 8446 5.2, RFC 5246 6.2.3).
#[inline(always)]
pub fn is_record_header(head: &[u8; 5]) -> bool {
    let length = (head[3] as u16) << 8 | head[4] as u16;
    head[0] >= 20
        && head[0] <= 23
        && head[1] == 3
        && head[2] <= 4
        && length != 0
        && length <= (1 << 14) + 2048
}

/// A handshake record: the only type that begins a TLS connection.
#[inline(always)]
pub fn is_handshake(head: &[u8; 5]) -> bool {
    head[0] == 22 && is_record_header(head)
}

/// Whether this thread is in a call of a TLS library.
#[inline(always)]
pub fn is_inside() -> bool {
    state::inside(bpf_get_current_pid_tgid()).is_some()
}

/// To be called by every hook that sees bytes of a stream socket, with the first five of the call: binds the
/// TLS object in whose call this thread is to the socket, if the bytes are a TLS record.
#[inline(always)]
pub fn on_socket_bytes(task: &TaskKey, socket: SocketKey, head: &[u8; 5]) {
    if socket.generation == 0 || !is_record_header(head) {
        return;
    }
    let Some(ssl) = state::inside(bpf_get_current_pid_tgid()) else { return };
    let Some(object) = state::object(task, ssl) else { return };
    if is_handshake(head) && object.positions[0] | object.positions[1] == 0 {
        object.flags |= state::FRESH;
    }
    bind(task, object, socket, provenance::NESTED);
}

/// Whether the plaintext of what this thread's TLS call moves on the socket is told: then its ciphertext says
/// nothing that is missed. Not before the first plaintext, for the handshake tells that there is TLS at all.
#[inline(always)]
pub fn is_read(task: &TaskKey, socket: SocketKey) -> bool {
    let Some(ssl) = state::inside(bpf_get_current_pid_tgid()) else { return false };
    let Some(object) = state::object(task, ssl) else { return false };
    object.calls != 0
        && object.flags & state::DISPUTED == 0
        && object.socket == socket
        && socket.generation != 0
}

#[inline(always)]
fn bind(task: &TaskKey, object: &mut Object, socket: SocketKey, provenance: u8) {
    if object.socket.generation == 0 {
        object.socket = socket;
        object.provenance = provenance as u32;
    } else if object.socket == socket || object.flags & state::DISPUTED != 0 {
        return;
    } else {
        object.flags |= state::DISPUTED;
    }
    emit::record(
        kind::TLS_BIND,
        object.header_flags(),
        TlsBind {
            header: Header::default(),
            socket,
            task: *task,
            tls: object.id,
            provenance,
            reserved: [0; 7],
        },
    );
}

// --- writes

#[uprobe]
pub fn ssl_write(ctx: ProbeContext) -> u32 {
    write_entry(&ctx, call::WRITE, ctx.arg::<i32>(2).unwrap_or(0) as i64 as u64)
}

#[uprobe]
pub fn ssl_write_ex(ctx: ProbeContext) -> u32 {
    write_entry(&ctx, call::WRITE_EX, ctx.arg::<u64>(2).unwrap_or(0))
}

#[inline(always)]
fn write_entry(ctx: &ProbeContext, call: u32, length: u64) -> u32 {
    let Some(task) = observed() else { return 0 };
    let Some(mut frame) = frame(ctx, call, length) else { return 0 };
    let Some(object) = state::object_or_new(&task, frame.ssl, 0) else {
        rings::count(source::PLAINTEXT, rings::Fate::Lost, (length as i64).max(0) as u64);
        return 0;
    };
    object.calls += 1;
    frame.call = object.calls;
    frame.position = object.positions[direction::EGRESS as usize];
    frame.id = object.id;
    let (buffer, position, number) = (frame.buffer, frame.position, frame.call);
    if state::custody_tls_push(bpf_get_current_pid_tgid(), &raw const frame) == 0 || length as i64 <= 0 {
        return 0;
    }
    let data = plaintext(&task, object, direction::EGRESS, position, number, flag::TENTATIVE);
    emit::user_bytes(data, buffer, length);
    0
}

#[uretprobe]
pub fn ssl_write_return(ctx: RetProbeContext) -> u32 {
    let Some(frame) = returning(&ctx, call::WRITE) else { return 0 };
    let accepted = ctx.ret::<i32>().max(0) as u64;
    settle(&frame, accepted)
}

#[uretprobe]
pub fn ssl_write_ex_return(ctx: RetProbeContext) -> u32 {
    let Some(frame) = returning(&ctx, call::WRITE_EX) else { return 0 };
    let accepted = if ctx.ret::<i32>() == 1 { read_length(frame.out, frame.length) } else { 0 };
    settle(&frame, accepted)
}

#[inline(always)]
fn settle(frame: &Frame, accepted: u64) -> u32 {
    let task = kernel::current_key();
    if let Some(object) = state::object(&task, frame.ssl)
        && object.id == frame.id
    {
        object.positions[direction::EGRESS as usize] = frame.position + accepted;
    }
    let (tls, call, position) = (frame.id, frame.call, frame.position);
    emit::record(
        kind::TLS_SETTLE,
        0,
        TlsSettle { header: Header::default(), task, tls, call, position, accepted },
    );
    0
}

// --- reads

#[uprobe]
pub fn ssl_read(ctx: ProbeContext) -> u32 {
    read_entry(&ctx, call::READ, ctx.arg::<i32>(2).unwrap_or(0) as i64 as u64)
}

#[uprobe]
pub fn ssl_read_ex(ctx: ProbeContext) -> u32 {
    read_entry(&ctx, call::READ_EX, ctx.arg::<u64>(2).unwrap_or(0))
}

/// A handshake carries no plaintext, but its records tell the socket before the first byte of plaintext.
#[uprobe]
pub fn ssl_do_handshake(ctx: ProbeContext) -> u32 {
    read_entry(&ctx, call::HANDSHAKE, 0)
}

#[inline(always)]
fn read_entry(ctx: &ProbeContext, call: u32, length: u64) -> u32 {
    let Some(task) = observed() else { return 0 };
    let Some(mut frame) = frame(ctx, call, length) else { return 0 };
    if let Some(object) = state::object_or_new(&task, frame.ssl, 0) {
        frame.id = object.id;
    }
    state::custody_tls_push(bpf_get_current_pid_tgid(), &raw const frame);
    0
}

#[uretprobe]
pub fn ssl_read_return(ctx: RetProbeContext) -> u32 {
    let Some(frame) = returning(&ctx, call::READ) else { return 0 };
    let read = ctx.ret::<i32>().max(0) as u64;
    read_done(&frame, read)
}

#[uretprobe]
pub fn ssl_read_ex_return(ctx: RetProbeContext) -> u32 {
    let Some(frame) = returning(&ctx, call::READ_EX) else { return 0 };
    let read = if ctx.ret::<i32>() == 1 { read_length(frame.out, frame.length) } else { 0 };
    read_done(&frame, read)
}

#[uretprobe]
pub fn ssl_do_handshake_return(ctx: RetProbeContext) -> u32 {
    returning(&ctx, call::HANDSHAKE);
    0
}

#[inline(always)]
fn read_done(frame: &Frame, read: u64) -> u32 {
    if read == 0 {
        return 0;
    }
    let task = kernel::current_key();
    let Some(object) = state::object(&task, frame.ssl) else {
        rings::count(source::PLAINTEXT, rings::Fate::Lost, read);
        return 0;
    };
    let position = object.positions[direction::INGRESS as usize];
    object.positions[direction::INGRESS as usize] = position + read;
    object.calls += 1;
    let data = plaintext(&task, object, direction::INGRESS, position, object.calls, 0);
    emit::user_bytes(data, frame.buffer, read);
    0
}

// --- life of an object

/// `SSL_set_fd`, `SSL_set_rfd`, `SSL_set_wfd`.
#[uprobe]
pub fn ssl_set_fd(ctx: ProbeContext) -> u32 {
    let Some(task) = observed() else { return 0 };
    let (ssl, fd) = (ctx.arg::<u64>(0).unwrap_or(0), ctx.arg::<i32>(1).unwrap_or(-1));
    let socket = socket_of_fd(fd);
    if let Some(object) = state::object(&task, ssl)
        && object.positions[0] | object.positions[1] != 0
        && object.socket != socket
    {
        close(&task, ssl);
    }
    let Some(object) = state::object_or_new(&task, ssl, state::FRESH) else { return 0 };
    if socket.generation != 0 {
        bind(&task, object, socket, provenance::FD);
    }
    0
}

/// Another transport for the object: what moved before belongs to the old one.
#[uprobe]
pub fn ssl_set_bio(ctx: ProbeContext) -> u32 {
    let Some(task) = observed() else { return 0 };
    let ssl = ctx.arg::<u64>(0).unwrap_or(0);
    if let Some(object) = state::object(&task, ssl)
        && object.positions[0] | object.positions[1] != 0
    {
        close(&task, ssl);
    }
    state::object_or_new(&task, ssl, state::FRESH);
    0
}

#[uprobe]
pub fn ssl_free(ctx: ProbeContext) -> u32 {
    let Some(task) = observed() else { return 0 };
    close(&task, ctx.arg::<u64>(0).unwrap_or(0));
    0
}

/// The object keeps its transport and begins a new connection.
#[uprobe]
pub fn ssl_clear(ctx: ProbeContext) -> u32 {
    let Some(task) = observed() else { return 0 };
    let ssl = ctx.arg::<u64>(0).unwrap_or(0);
    close(&task, ssl);
    state::object_or_new(&task, ssl, state::FRESH);
    0
}

#[inline(always)]
fn close(task: &TaskKey, ssl: u64) {
    let Some(object) = state::object(task, ssl) else { return };
    let (tls, [ingress_position, egress_position]) = (object.id, object.positions);
    state::forget(task, ssl);
    emit::record(
        kind::TLS_CLOSE,
        0,
        TlsClose { header: Header::default(), task: *task, tls, ingress_position, egress_position },
    );
}

// --- parts

/// Who calls, unless rules leave the process out.
#[inline(always)]
fn observed() -> Option<TaskKey> {
    rules::is_wanted().then(kernel::current_key)
}

/// The socket that a file descriptor of this process names now, told if it was not before.
#[inline(always)]
fn socket_of_fd(fd: i32) -> SocketKey {
    let unknown = SocketKey { sock: 0, generation: 0 };
    let Ok(sock) = sockets::sock_of_fd(fd) else { return unknown };
    let Some(socket) = sockets::find(sock, [0; 2]) else { return unknown };
    if rules::excluded(socket).is_some() {
        return unknown;
    }
    sockets::tell(sock, socket);
    sockets::key(sock, socket)
}

#[inline(always)]
fn frame(ctx: &ProbeContext, call: u32, length: u64) -> Option<Frame> {
    Some(Frame {
        ssl: ctx.arg(0)?,
        buffer: ctx.arg(1)?,
        length,
        out: ctx.arg(3)?,
        stack: state::stack_pointer(ctx.as_ptr()),
        position: 0,
        call: 0,
        id: 0,
        kind: call,
        reserved: 0,
    })
}

#[inline(always)]
fn returning(ctx: &RetProbeContext, call: u32) -> Option<Frame> {
    let mut frame = Frame::NONE;
    let stack = state::stack_pointer(ctx.as_ptr());
    (state::custody_tls_pop(bpf_get_current_pid_tgid(), stack, call, &raw mut frame) != 0).then_some(frame)
}

/// The out-parameter of the `_ex` functions; never more than the buffer that the caller named.
#[inline(always)]
fn read_length(out: u64, length: u64) -> u64 {
    kernel::read_user::<u64>(out).unwrap_or(0).min(length)
}

#[inline(always)]
fn plaintext(task: &TaskKey, object: &Object, direction: u8, position: u64, call: u64, flags: u16) -> Data {
    Data {
        header: Header {
            kind: kind::DATA,
            flags: flags | object.header_flags() | flag::POSITION_EXACT,
            time_ns: rings::now(),
            ..Header::default()
        },
        socket: object.socket,
        task: *task,
        tls: object.id,
        position,
        call,
        direction,
        layer: layer::PLAINTEXT,
        provenance: object.provenance as u8,
        reserved: 0,
        padding: 0,
    }
}
