//! The stage with events as the kernel side writes them.

use super::super::parse::tests::bytes_of;
use super::*;
use custody_abi::kind;

const SOCKET: abi::SocketKey = abi::SocketKey { sock: 4096, generation: 1 };

fn data(flags: u16, time_ns: u64, position: u64, payload: &[u8]) -> Vec<u8> {
    let header = abi::Header { kind: kind::DATA, flags, len: payload.len() as u32, time_ns, seq: 0 };
    bytes_of(&abi::Data { header, socket: SOCKET, position, ..abi::Data::default() }, payload)
}

#[test]
fn an_urgent_byte_read_before_what_stands_before_it_does_not_spoil_the_stream() {
    let mut stage = Stage::new(&config::Limits::default(), Masker::default(), 0, link::Canary::default());
    let open = abi::SocketOpen {
        header: abi::Header { kind: kind::SOCKET_OPEN, time_ns: 1, ..abi::Header::default() },
        socket: SOCKET,
        transport: abi::transport::TCP,
        role: abi::role::SERVER,
        ..abi::SocketOpen::default()
    };
    stage.event(&bytes_of(&open, b""));
    stage.event(&data(flag::OUT_OF_BAND, 2, 0, b"!"));
    stage.event(&data(0, 3, 0, b"GET /needle HTTP/1.1\r\nHost: example\r\n\r\n"));
    stage.tick(0, u64::MAX / 2);
    stage.finish();
    assert!(stage.out.windows(7).any(|window| window == b"/needle"), "the request was not recognised");
    assert_eq!(stage.figures.bytes_unused, 1);
}
