//! What a kernel may lack, and what the kernel of continuous integration must not.
//!
//! Must not: let a test pass in silence because it did nothing.

use std::fmt;

/// Something that a kernel may be built without, or forbid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Feature {
    /// `io_uring_setup(2)`; `kernel.io_uring_disabled` may forbid it.
    IoUring,
    /// `SO_ZEROCOPY` on TCP.
    ZeroCopy,
    /// `IPPROTO_MPTCP`; `net.mptcp.enabled` may forbid it.
    Mptcp,
    /// `TCP_ULP` "tls": needs CONFIG_TLS, which small kernels leave out.
    KernelTls,
}

/// Without these the tests fail where the environment variable `CI` is "true".
const REQUIRED_IN_CI: [Feature; 3] = [Feature::IoUring, Feature::ZeroCopy, Feature::Mptcp];

/// Whether the kernel offers it, as `attempt` found; says so where it does not.
pub(crate) fn offered(feature: Feature, attempt: Result<(), impl fmt::Display>) -> bool {
    let Err(refusal) = attempt else { return true };
    let ci = std::env::var("CI").is_ok_and(|value| value == "true");
    assert!(!is_missed(feature, ci), "the kernel of CI must offer {feature:?}: {refusal}");
    eprintln!("skipped: this kernel does not offer {feature:?}: {refusal}");
    false
}

fn is_missed(feature: Feature, ci: bool) -> bool {
    ci && REQUIRED_IN_CI.contains(&feature)
}

#[test]
fn a_feature_that_ci_needs_is_never_skipped_there() {
    assert!(is_missed(Feature::IoUring, true) && !is_missed(Feature::IoUring, false));
    assert!(!is_missed(Feature::KernelTls, true), "the development kernels are built without it");
}
