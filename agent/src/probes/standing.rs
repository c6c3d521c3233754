//! Sockets whose beginning and end no hook tells (unix, UDP): which of them are older than the agent, and which
//! of the kernel side's entries are of sockets that are gone.
//!
//! Must not: take an entry away that may be of a living socket.

use std::path::{Path, PathBuf};

use aya::Ebpf;
use aya::maps::{HashMap, MapData};
use custody_abi::{Socket, SocketKey, transport};

use super::{ProbeError, take};
use crate::attribution::sockets::living;

/// A socket that is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gone {
    /// Its name in events.
    pub socket: SocketKey,
    /// Where its streams ended, ingress and egress.
    pub ends: [u64; 2],
}

#[repr(transparent)]
#[derive(Clone, Copy)]
struct Entry(Socket);

#[expect(unsafe_code, reason = "a map's value is read as the kernel side wrote it")]
// SAFETY: `#[repr(C)]`, fixed-width integers only, without padding of the compiler's (its size is asserted).
unsafe impl aya::Pod for Entry {}

/// The kernel side's table of sockets.
pub(super) struct Standing {
    sockets: HashMap<MapData, u64, Entry>,
    proc: PathBuf,
    sockets_max: usize,
}

impl Standing {
    pub(super) fn new(ebpf: &mut Ebpf, proc: &Path, sockets_max: u32) -> Result<Self, ProbeError> {
        let sockets = take(ebpf, "SOCKETS")?;
        Ok(Self { sockets, proc: proc.to_owned(), sockets_max: sockets_max as usize })
    }

    /// Lists what is there now, after everything is attached: what is made from now on is seen from its first
    /// byte. Without room for all, the list stays incomplete, and every such socket counts as older.
    pub(super) fn list_existing(&self, ebpf: &mut Ebpf) -> Result<(), ProbeError> {
        // Borrowed, not taken: programs that are loaded later (TLS) name the map, so it must stay open.
        let map = ebpf.map_mut("EXISTING").ok_or_else(|| ProbeError::Object("no map EXISTING".to_owned()))?;
        let mut existing: HashMap<&mut MapData, u64, u8> = HashMap::try_from(map)
            .map_err(|source| ProbeError::Map { map: "EXISTING".to_owned(), source })?;
        let failed = |source| ProbeError::Map { map: "EXISTING".to_owned(), source };
        for inode in living(&self.proc).into_values().flatten() {
            if existing.insert(inode, 1, 0).is_err() {
                return Ok(());
            }
        }
        existing.insert(0, 1, 0).map_err(failed)
    }

    /// Takes away the entries of sockets that are gone, and names them. What stood in the table before the lists
    /// were read and is in none of its namespace's is gone for sure.
    pub(super) fn sweep(&mut self) -> Result<Vec<Gone>, ProbeError> {
        let failed = |source| ProbeError::Map { map: "SOCKETS".to_owned(), source };
        let mut before = Vec::new();
        // A table that changes under the walk may begin anew: the walk is bounded.
        for entry in self.sockets.iter().take(self.sockets_max * 2) {
            let (sock, Entry(socket)) = entry.map_err(failed)?;
            let listed = matches!(
                socket.transport,
                transport::UNIX_STREAM | transport::UNIX_DATAGRAM | transport::UDP
            );
            if listed && socket.inode != 0 {
                before.push((sock, socket));
            }
        }
        let mut gone = Vec::new();
        if before.is_empty() {
            return Ok(gone);
        }
        let living = living(&self.proc);
        for (sock, socket) in before {
            let lives = living.get(&socket.netns).is_none_or(|inodes| inodes.contains(&socket.inode));
            if lives {
                continue;
            }
            // The address may serve another socket by now, under another generation.
            let Ok(Entry(now)) = self.sockets.get(&sock, 0) else { continue };
            if now.generation == socket.generation && self.sockets.remove(&sock).is_ok() {
                let socket = SocketKey { sock, generation: now.generation };
                gone.push(Gone { socket, ends: now.next });
            }
        }
        Ok(gone)
    }
}
