//! Captured chunks in, masked records out. Pure: no I/O, no clock, no logging, no async; times come with the
//! bytes.
//!
//! In flow order: [`event`] (what comes in) → `streams` (order, gaps) → `driver` (frames, pairing, limits)
//! → one folder per [`protocol`] → [`item`] (what a decoder found) → [`mask`] (the only constructor of
//! [`mask::Masked`]) → [`pipeline`] (all of it behind one call).
#![forbid(unsafe_code)]

pub mod event;
pub mod item;
pub mod mask;
pub mod postgres;
pub mod protocol;
