//! Which system calls move a socket's bytes, and how each names its buffers: the kernel side's table.

use super::ProbeError;
use aya::Ebpf;
use aya::maps::{Array, MapData};
use custody_abi::shape::{
    BUFFER, FLAGS, IOVEC, MESSAGE, MESSAGES, SENDFILE, SENDS, SOCKETCALL, SPLICE, TABLE,
};

#[cfg(target_arch = "x86_64")]
const CALLS: &[(u32, u8)] = &[
    (0, BUFFER),                  // read
    (1, BUFFER | SENDS),          // write
    (19, IOVEC),                  // readv
    (20, IOVEC | SENDS),          // writev
    (40, SENDFILE | SENDS),       // sendfile
    (44, BUFFER | FLAGS | SENDS), // sendto
    (45, BUFFER | FLAGS),         // recvfrom
    (46, MESSAGE | SENDS),        // sendmsg
    (47, MESSAGE),                // recvmsg
    (275, SPLICE),                // splice
    (299, MESSAGES),              // recvmmsg
    (307, MESSAGES | SENDS),      // sendmmsg
    (327, IOVEC),                 // preadv2
    (328, IOVEC | SENDS),         // pwritev2
];
#[cfg(target_arch = "x86_64")]
const COMPAT_CALLS: &[(u32, u8)] = &[
    (3, BUFFER),                   // read
    (4, BUFFER | SENDS),           // write
    (102, SOCKETCALL),             // socketcall
    (145, IOVEC),                  // readv
    (146, IOVEC | SENDS),          // writev
    (337, MESSAGES),               // recvmmsg
    (345, MESSAGES | SENDS),       // sendmmsg
    (369, BUFFER | FLAGS | SENDS), // sendto
    (370, MESSAGE | SENDS),        // sendmsg
    (371, BUFFER | FLAGS),         // recvfrom
    (372, MESSAGE),                // recvmsg
];

#[cfg(target_arch = "aarch64")]
const CALLS: &[(u32, u8)] = &[
    (63, BUFFER),                  // read
    (64, BUFFER | SENDS),          // write
    (65, IOVEC),                   // readv
    (66, IOVEC | SENDS),           // writev
    (71, SENDFILE | SENDS),        // sendfile
    (76, SPLICE),                  // splice
    (206, BUFFER | FLAGS | SENDS), // sendto
    (207, BUFFER | FLAGS),         // recvfrom
    (211, MESSAGE | SENDS),        // sendmsg
    (212, MESSAGE),                // recvmsg
    (243, MESSAGES),               // recvmmsg
    (269, MESSAGES | SENDS),       // sendmmsg
    (286, IOVEC),                  // preadv2
    (287, IOVEC | SENDS),          // pwritev2
];
#[cfg(target_arch = "aarch64")]
const COMPAT_CALLS: &[(u32, u8)] = &[];

pub(super) fn fill(ebpf: &mut Ebpf) -> Result<(), ProbeError> {
    let failed = |source| ProbeError::Map { map: "SHAPES".to_owned(), source };
    // Borrowed: the programs still name the map when they load.
    let map = ebpf.map_mut("SHAPES").ok_or_else(|| ProbeError::Object("no map SHAPES".to_owned()))?;
    let mut shapes: Array<&mut MapData, u8> = map.try_into().map_err(failed)?;
    let all =
        CALLS.iter().copied().chain(COMPAT_CALLS.iter().map(|&(number, shape)| (number + TABLE, shape)));
    for (number, shape) in all {
        shapes.set(number, shape, 0).map_err(failed)?;
    }
    Ok(())
}
