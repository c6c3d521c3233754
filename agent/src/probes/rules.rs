//! What is observed and what is not, as the kernel side's tables.
//!
//! Must not: know names or pids, which any program can choose.

use super::{ProbeError, take};
use aya::Ebpf;
use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{Array, HashMap, MapData, MapError};
use std::net::IpAddr;

/// One rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Includes; otherwise excludes, which is stronger. Where there are include rules at load time, what
    /// none of them names is left out.
    pub include: bool,
    /// What it is about.
    pub matches: Match,
}

/// What a rule is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Match {
    /// Processes in the cgroup (v2) of this id, that is its folder's inode.
    Cgroup(u64),
    /// Processes that run this file; device and inode as `stat(2)` tells.
    Executable {
        /// `st_dev`.
        device: u64,
        /// `st_ino`.
        inode: u64,
    },
    /// Connections with this port at one of their ends.
    Port(u16),
    /// Connections with such an address at one of their ends.
    Network {
        /// Its address.
        address: IpAddr,
        /// Length of its prefix.
        prefix: u8,
    },
    /// Connections with exactly this address and port at one of their ends.
    Endpoint {
        /// Address.
        address: IpAddr,
        /// Port.
        port: u16,
    },
}

impl Match {
    /// Whether it looks at connections, and not at processes.
    pub(super) fn is_address(&self) -> bool {
        matches!(self, Match::Port(_) | Match::Network { .. } | Match::Endpoint { .. })
    }
}

/// The tables.
pub(super) struct Rules {
    cgroups: HashMap<MapData, u64, u32>,
    executables: HashMap<MapData, [u64; 2], u32>,
    ports: HashMap<MapData, u32, u32>,
    endpoints: HashMap<MapData, [u8; 24], u32>,
    networks: LpmTrie<MapData, [u8; 16], u32>,
    epoch: Array<MapData, u64>,
    count: u32,
}

const AF_INET: u16 = 2;
const AF_INET6: u16 = 10;

impl Rules {
    pub(super) fn new(ebpf: &mut Ebpf) -> Result<Self, ProbeError> {
        Ok(Self {
            cgroups: take(ebpf, "RULE_CGROUP")?,
            executables: take(ebpf, "RULE_EXECUTABLE")?,
            ports: take(ebpf, "RULE_PORT")?,
            endpoints: take(ebpf, "RULE_ENDPOINT")?,
            networks: take(ebpf, "RULE_CIDR")?,
            epoch: take(ebpf, "RULES_EPOCH")?,
            count: 0,
        })
    }

    /// How many rules there are; their counters begin at [`custody_abi::rule::FIRST`].
    pub(super) fn count(&self) -> u32 {
        self.count
    }

    pub(super) fn add(&mut self, rule: &Rule) -> Result<(), ProbeError> {
        use custody_abi::rule::{COUNT, FIRST};
        let index = FIRST + self.count;
        if index >= COUNT {
            return Err(ProbeError::TooManyRules(COUNT - FIRST));
        }
        let value = if rule.include { index | custody_abi::rule::INCLUDE } else { index };
        self.insert(&rule.matches, value)
            .and_then(|()| self.epoch.set(0, u64::from(index), 0))
            .map_err(|source| ProbeError::Map { map: "of rules".to_owned(), source })?;
        self.count += 1;
        Ok(())
    }

    fn insert(&mut self, matches: &Match, value: u32) -> Result<(), MapError> {
        match *matches {
            Match::Cgroup(id) => self.cgroups.insert(id, value, 0),
            Match::Executable { device, inode } => {
                self.executables.insert([kernel_device(device), inode], value, 0)
            }
            Match::Port(port) => self.ports.insert(u32::from(port), value, 0),
            Match::Network { address, prefix } => {
                let (bytes, shift) = match address {
                    IpAddr::V4(v4) => (v4.to_ipv6_mapped().octets(), 96),
                    IpAddr::V6(v6) => (v6.octets(), 0),
                };
                self.networks.insert(&Key::new((u32::from(prefix) + shift).min(128), bytes), value, 0)
            }
            Match::Endpoint { address, port } => {
                self.endpoints.insert(endpoint(address, port), value, 0)?;
                if let IpAddr::V4(v4) = address {
                    // A socket of both families names the same peer by its mapped address.
                    self.endpoints.insert(endpoint(IpAddr::V6(v4.to_ipv6_mapped()), port), value, 0)?;
                }
                Ok(())
            }
        }
    }
}

/// `custody_abi::Endpoint`, as bytes.
fn endpoint(address: IpAddr, port: u16) -> [u8; 24] {
    let mut bytes = [0; 24];
    let family = match address {
        IpAddr::V4(v4) => {
            bytes[..4].copy_from_slice(&v4.octets());
            AF_INET
        }
        IpAddr::V6(v6) => {
            bytes[..16].copy_from_slice(&v6.octets());
            AF_INET6
        }
    };
    bytes[16..18].copy_from_slice(&port.to_ne_bytes());
    bytes[18..20].copy_from_slice(&family.to_ne_bytes());
    bytes
}

/// `s_dev` of the kernel (major in the upper 12 bits of 32) from `st_dev`.
fn kernel_device(device: u64) -> u64 {
    u64::from(rustix::fs::major(device)) << 20 | u64::from(rustix::fs::minor(device))
}
