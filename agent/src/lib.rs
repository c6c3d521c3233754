//! agent

pub mod worker;
