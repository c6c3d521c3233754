//! The protocols that are decoded: one line each. Nothing else outside a protocol's folder names it.

use crate::protocol::Protocol;

/// Asked in this order.
pub static PROTOCOLS: &[&dyn Protocol] =
    &[&crate::http1::Http1, &crate::postgres::Postgres, &crate::redis::Redis];

/// Whether some protocol usually listens there.
pub(crate) fn is_known_port(port: u16) -> bool {
    PROTOCOLS.iter().any(|protocol| protocol.ports().contains(&port))
}
