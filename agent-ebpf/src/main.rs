//! The kernel side of Custody: copies bytes and facts into two rings and decides nothing else.
//!
//! Order of the modules is the order of the flow: a hook (`socket_hooks`, `syscall_hooks`, `process`) knows
//! who moved how much on which socket, `sockets` knows where in the stream that was, `rules` whether it is
//! wanted, `payload` copies it, `rings` hands it over and counts.
//!
//! Must not: stage payload anywhere but in the ring's own memory (programs are preemptible), name a socket
//! by its file descriptor at a call's end, or call anything that is not there on a kernel of 5.15.
#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]

mod exec;
mod kernel;
mod lives;
mod maps;
mod payload;
mod process;
mod rings;
mod rules;
mod sequences;
mod socket_hooks;
mod sockets;
mod syscall_hooks;
mod syscalls;
mod tls;
mod transfer;
mod twins;

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // Never reached: the verifier refuses a program that could.
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 4] = *b"GPL\0";

/// Checked by the loader, so that an object of another layout is refused.
#[unsafe(no_mangle)]
static ABI: u32 = custody_abi::ABI_VERSION;
