//! The fuzz body of this decoder: any bytes in any pieces, both ways.

use super::Http1;

/// Must not panic, and must account for each byte.
pub fn body(data: &[u8]) {
    crate::harness::fuzz::body(&Http1, data);
}
