//! Captured chunks in, masked records out. Pure: no I/O, no clock, no logging, no async; times come with the
//! bytes.
//!
//! In flow order: [`event`] (what comes in; [`pcap`] makes it of capture files) → `session` (who talks, which end is read) → [`streams`] (order, gaps) → [`driver`] (frames, pairing, limits)
//! → one folder per [`protocol`], with `content` (codings of bodies) → [`item`] (what a decoder found) → [`level`] (how much of it is told) → [`mask`] (the only constructor of
//! [`mask::Masked`]) → [`pipeline`] (all of it behind one call).
#![forbid(unsafe_code)]

pub mod anomaly;
pub mod case;
mod content;
pub mod driver;
pub mod event;
#[cfg(any(test, feature = "harness"))]
pub mod harness;
pub mod http1;
pub mod item;
pub mod level;
pub mod mask;
pub mod pcap;
pub mod pipeline;
pub mod postgres;
pub mod protocol;
pub mod redis;
pub mod registry;
mod related;
#[cfg(feature = "harness")]
#[doc(hidden)]
pub use session::fuzz as hello_fuzz;
mod session;
pub mod streams;
mod work;
