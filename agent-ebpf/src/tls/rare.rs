//! The rarer ways of OpenSSL's callers: data before the handshake is done (0-RTT), and files that the kernel
//! sends. The library may call its usual functions for the same bytes inside these; then those are no traffic
//! of their own.

use aya_ebpf::{
    helpers::bpf_get_current_pid_tgid,
    macros::{uprobe, uretprobe},
    programs::{ProbeContext, RetProbeContext},
};
use custody_abi::{Header, TlsBind, cause, direction, flag, kind, source};

use super::state::{self, Frame, call};
use super::{
    emit, frame, observed, plaintext, read_done, read_entry, read_length, returning, settle, write_entry,
};
use crate::{kernel, rings};

/// `SSL_write_early_data(ssl, buffer, length, &written)`: 1 when it was taken.
#[uprobe]
pub fn ssl_write_early_data(ctx: ProbeContext) -> u32 {
    write_entry(&ctx, call::WRITE_EARLY, ctx.arg::<u64>(2).unwrap_or(0))
}

#[uretprobe]
pub fn ssl_write_early_data_return(ctx: RetProbeContext) -> u32 {
    let Some(frame) = returning(&ctx, call::WRITE_EARLY) else { return 0 };
    let accepted = if ctx.ret::<i32>() == 1 { read_length(frame.out, frame.length) } else { 0 };
    settle(&frame, accepted);
    early(&frame, accepted)
}

/// `SSL_read_early_data(ssl, buffer, length, &read)`: 0 for not now, 1 for bytes, 2 when no more come.
#[uprobe]
pub fn ssl_read_early_data(ctx: ProbeContext) -> u32 {
    read_entry(&ctx, call::READ_EARLY, ctx.arg::<u64>(2).unwrap_or(0))
}

#[uretprobe]
pub fn ssl_read_early_data_return(ctx: RetProbeContext) -> u32 {
    let Some(frame) = returning(&ctx, call::READ_EARLY) else { return 0 };
    let read = if ctx.ret::<i32>() == 1 { read_length(frame.out, frame.length) } else { 0 };
    read_done(&frame, read);
    early(&frame, read)
}

/// Says of the object's socket that these bytes can be repeated by whoever has seen them.
#[inline(always)]
fn early(frame: &Frame, bytes: u64) -> u32 {
    let task = kernel::current_key();
    if let Some(object) = state::object(&task, frame.ssl)
        && bytes != 0
        && object.socket.generation != 0
    {
        emit::record(
            kind::TLS_BIND,
            object.header_flags() | flag::EARLY,
            TlsBind {
                header: Header::default(),
                socket: object.socket,
                task,
                tls: object.id,
                provenance: object.provenance as u8,
                reserved: [0; 7],
            },
        );
    }
    0
}

/// `SSL_sendfile(ssl, fd, offset, size, flags)`: bytes that no process has.
#[uprobe]
pub fn ssl_sendfile(ctx: ProbeContext) -> u32 {
    if observed().is_none() {
        return 0;
    }
    let Some(frame) = frame(&ctx, call::SENDFILE, ctx.arg::<u64>(3).unwrap_or(0)) else { return 0 };
    state::custody_tls_push(bpf_get_current_pid_tgid(), &raw const frame);
    0
}

#[uretprobe]
pub fn ssl_sendfile_return(ctx: RetProbeContext) -> u32 {
    let Some(frame) = returning(&ctx, call::SENDFILE) else { return 0 };
    let sent = ctx.ret::<i64>();
    if sent <= 0 {
        return 0;
    }
    let sent = (sent as u64).min(frame.length);
    let task = kernel::current_key();
    rings::count(source::PLAINTEXT, rings::Fate::Lost, sent);
    let Some(object) = state::object_or_new(&task, frame.ssl, 0) else { return 0 };
    let position = object.positions[direction::EGRESS as usize];
    object.positions[direction::EGRESS as usize] = position + sent;
    object.calls += 1;
    let data = plaintext(&task, object, direction::EGRESS, position, object.calls, 0);
    emit::gap(&data, 0, sent, cause::NO_PAYLOAD);
    0
}
