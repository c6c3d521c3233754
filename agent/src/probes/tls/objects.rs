//! Forgets the TLS objects of programs that ended without freeing them: the kernel side keeps an object until
//! `SSL_free`, which a killed program never calls. Reads keys only, never what an object carries.

use aya::Ebpf;
use aya::maps::{HashMap, MapData, MapError};

const MAP: &str = "TLS_OBJECTS";

/// Start of the process, the library's pointer, and the pid in the lower half.
type Key = [u64; 3];
/// Not looked at.
type Object = [u64; 7];

/// Removes the objects of processes that ended; returns how many. Asks only after the objects were listed, so
/// that a program that starts meanwhile keeps its own.
pub(super) fn forget_dead(kernel: &mut Ebpf, is_alive: &dyn Fn(u32) -> bool) -> Result<u64, MapError> {
    let Some(map) = kernel.map_mut(MAP) else { return Err(MapError::InvalidName { name: MAP.to_owned() }) };
    let mut objects: HashMap<&mut MapData, Key, Object> = HashMap::try_from(map)?;
    let keys: Vec<Key> = objects.keys().filter_map(Result::ok).collect();
    let mut removed = 0;
    for key in keys {
        let pid = u32::try_from(key[2] & u64::from(u32::MAX)).unwrap_or(0);
        if is_alive(pid) {
            continue;
        }
        match objects.remove(&key) {
            Ok(()) => removed += 1,
            // Freed meanwhile.
            Err(MapError::KeyNotFound) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(removed)
}
