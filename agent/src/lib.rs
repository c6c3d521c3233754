//! The daemon on each host (`custody-agent run`) and its unprivileged half (`custody-agent worker`).

pub mod attribution;
pub mod config;
pub mod ring;
pub mod worker;
