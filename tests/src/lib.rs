//! The stand that end-to-end tests and the demo share: Custody's programs as users run them, and real servers
//! and clients around them. It imports nothing of Custody: what it knows, it knows from outside.
#![forbid(unsafe_code)]

pub mod attacks;
pub mod disk;
pub mod gnutls;
pub mod https;
pub mod leftover;
pub mod npm;
pub mod observed;
pub mod openssl11;
pub mod postgres_log;
pub mod process;
pub mod random;
pub mod redis;
pub mod servers;
pub mod small_disk;
pub mod spelling;
pub mod stand;
