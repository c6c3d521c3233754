//! Which network a packet belongs to: the ids that its VLAN tags and tunnels bear, from the outside in. Equal
//! addresses in two networks are two hosts.
//!
//! Labels of MPLS and keys of GRE are none of them: they differ by direction as a rule. Of a tap each direction comes by
//! an interface of its own. Where VLANs differ by direction, `table` puts a conversation together by its numbers.

use std::hash::{Hash, Hasher};

/// Ids that one packet may bear: two VLANs outside of a tunnel, its network, a VLAN within it.
const IDS_MAX: usize = 4;
/// Tells ids of tunnels from those of VLANs.
const TUNNEL: u32 = 1 << 24;

/// The ids of a packet; none where it bears none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tags {
    ids: [u32; IDS_MAX],
    count: u8,
}

/// It bears more ids than are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TooDeep;

/// Most packets bear none: then there is one byte to hash.
impl Hash for Tags {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u8(self.count);
        self.ids.iter().take(usize::from(self.count)).for_each(|id| state.write_u32(*id));
    }
}

impl Tags {
    /// A tag of IEEE 802.1Q with this control information. Id 0 says priority, and no VLAN.
    pub(super) fn vlan(&mut self, control: u16) -> Result<(), TooDeep> {
        match control & 0xfff {
            0 => Ok(()),
            id => self.push(id.into()),
        }
    }

    /// The network (VNI, 24 bits) of a tunnel.
    pub(super) fn tunnel(&mut self, network: u32) -> Result<(), TooDeep> {
        self.push(TUNNEL | network)
    }

    fn push(&mut self, id: u32) -> Result<(), TooDeep> {
        let place = self.ids.get_mut(usize::from(self.count)).ok_or(TooDeep)?;
        *place = id;
        self.count += 1;
        Ok(())
    }
}
