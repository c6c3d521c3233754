//! The fuzz body of this decoder: any bytes in any pieces, both ways.

use super::Redis;

/// Must not panic, must hold little, and must account for each byte.
pub fn body(data: &[u8]) {
    crate::harness::fuzz::body(&Redis, data);
}
