//! What rules of capture select by. Must not know what a rule does with it.

use std::net::IpAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Sockets and programs, by what they cannot choose for themselves.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Selectors {
    /// Executables, by path; the inode counts.
    pub executables: Vec<PathBuf>,
    /// Ports of either end.
    pub ports: Vec<u16>,
    /// Control groups, by path below the root of cgroup v2, with all below them.
    pub cgroups: Vec<PathBuf>,
    /// Networks of the peer.
    pub networks: Vec<Network>,
}

impl Selectors {
    /// Nothing is selected.
    pub fn is_empty(&self) -> bool {
        self == &Selectors::default()
    }

    /// Connections are selected by their addresses.
    pub fn has_addresses(&self) -> bool {
        !self.ports.is_empty() || !self.networks.is_empty()
    }
}

/// A network such as `10.0.0.0/8`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Network {
    /// Its address.
    pub address: IpAddr,
    /// Bits that count.
    pub prefix: u8,
}

impl TryFrom<String> for Network {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        let refusal = || format!("`{text}` is no network such as 10.0.0.0/8 or 2001:db8::/32");
        let (address, prefix) = text.split_once('/').ok_or_else(refusal)?;
        let address: IpAddr = address.parse().map_err(|_| refusal())?;
        let prefix: u8 = prefix.parse().map_err(|_| refusal())?;
        if prefix > if address.is_ipv4() { 32 } else { 128 } {
            return Err(refusal());
        }
        Ok(Network { address, prefix })
    }
}

impl From<Network> for String {
    fn from(network: Network) -> String {
        format!("{}/{}", network.address, network.prefix)
    }
}
