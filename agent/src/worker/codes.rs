//! What the kernel side's codes mean to the decoders: directions, causes, provenances. A code that this build does not
//! know means the least that can be said.

use custody_abi as abi;
use custody_decoders::event::{Binding, Cause, Flow};

pub(super) fn flow(direction: u8) -> Flow {
    if direction == abi::direction::INGRESS { Flow::Ingress } else { Flow::Egress }
}

pub(super) fn cause(cause: u8) -> Cause {
    match cause {
        abi::cause::RING_FULL => Cause::RingFull,
        abi::cause::PAGE_FAULT => Cause::PageFault,
        abi::cause::NO_PAYLOAD => Cause::NoPayload,
        abi::cause::MAP_FULL => Cause::TableFull,
        abi::cause::CALL_LIMIT => Cause::Limit,
        abi::cause::CIPHERTEXT => Cause::Ciphertext,
        abi::cause::RULE => Cause::Rule,
        _ => Cause::Unseen,
    }
}

pub(super) fn binding(provenance: u8) -> Binding {
    match provenance {
        abi::provenance::FD => Binding::Fd,
        abi::provenance::BIO => Binding::Bio,
        abi::provenance::NESTED => Binding::Nested,
        abi::provenance::CIPHERTEXT => Binding::Ciphertext,
        _ => Binding::Unknown,
    }
}
