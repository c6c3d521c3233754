//! What a kernel may lack. Tests of it are skipped and say so, except where continuous integration runs: there
//! everything in [`REQUIRED`] must be, so that nothing goes untested unnoticed.

use crate::raw::call;

/// What the kernel of continuous integration must have.
const REQUIRED: [Feature; 3] = [Feature::IoUring, Feature::Mptcp, Feature::ZeroCopy];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Feature {
    IoUring,
    Mptcp,
    ZeroCopy,
    KernelTls,
}

/// Whether `result` of the first call of a feature lets its test go on: an error, negative, says that the
/// kernel lacks it.
pub(crate) fn is_there(feature: Feature, result: i64) -> bool {
    if result >= 0 {
        return true;
    }
    let error = rustix::io::Errno::from_raw_os_error(i32::try_from(-result).unwrap());
    let required = std::env::var_os("CI").is_some() && REQUIRED.contains(&feature);
    assert!(!required, "this kernel must have {feature:?}: {error}");
    eprintln!("skipped: this kernel has no {feature:?}: {error}");
    false
}

/// `setsockopt`.
pub(crate) fn set_option(socket: u64, level: u64, name: u64, value: &[u8]) -> i64 {
    call(54, [socket, level, name, value.as_ptr() as u64, value.len() as u64, 0])
}
