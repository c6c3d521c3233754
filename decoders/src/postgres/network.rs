//! Addresses of networks and of their hardware, as the text that PostgreSQL writes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Families of an address (`PGSQL_AF_INET` and `PGSQL_AF_INET6` of the server).
const FAMILIES: [(u8, u8, usize); 2] = [(2, 32, 4), (3, 128, 16)];

/// inet or cidr: family, bits of the network, whether it is a cidr, length, address.
pub(super) fn address(bytes: &[u8]) -> Option<String> {
    let ([family, bits, is_network, length], address) = bytes.split_first_chunk::<4>()?;
    let (_, bits_max, bytes_expected) = FAMILIES.iter().find(|(known, ..)| known == family)?;
    if bits > bits_max || usize::from(*length) != *bytes_expected || address.len() != *bytes_expected {
        return None;
    }
    let address = match <[u8; 4]>::try_from(address) {
        Ok(four) => IpAddr::V4(Ipv4Addr::from(four)),
        Err(_) => IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(address).ok()?)),
    };
    let host = *is_network == 0 && bits == bits_max;
    Some(if host { address.to_string() } else { format!("{address}/{bits}") })
}

/// macaddr or macaddr8.
pub(super) fn hardware_address(type_oid: u32, bytes: &[u8]) -> Option<String> {
    let length = if type_oid == 829 { 6 } else { 8 };
    let parts: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    (bytes.len() == length).then(|| parts.join(":"))
}
