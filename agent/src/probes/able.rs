//! Whether this host can be observed at all, asked before anything is written: a kernel that describes its types,
//! and that lets us use bpf(2). Must not: change anything.

use std::path::Path;

use aya::maps::MapType;

use super::ProbeError;

/// Asks. `sys` is where `/sys` is mounted.
///
/// # Errors
/// What is missing, what it costs, what to do.
pub fn check(sys: &Path) -> Result<(), ProbeError> {
    types(sys)?;
    bpf()
}

/// The kernel's own description of its types.
///
/// # Errors
/// [`ProbeError::Btf`].
pub fn types(sys: &Path) -> Result<u64, ProbeError> {
    let path = sys.join("kernel/btf/vmlinux");
    let refused = |source| ProbeError::Btf { path: path.display().to_string(), source };
    let file = std::fs::File::open(&path).map_err(refused)?;
    Ok(file.metadata().map_err(refused)?.len())
}

/// Makes the smallest map of the kind that the rings are, and gives it back.
///
/// # Errors
/// [`ProbeError::Permission`], or [`ProbeError::NoRings`].
pub fn bpf() -> Result<(), ProbeError> {
    match aya::sys::is_map_supported(MapType::RingBuf) {
        Ok(true) => Ok(()),
        Ok(false) => Err(ProbeError::NoRings),
        Err(error) => Err(ProbeError::Permission(error.io_error.to_string())),
    }
}
