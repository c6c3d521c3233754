//! The daemon on each host (`custody-agent run`) and its unprivileged half (`custody-agent worker`).

pub mod attribution;
pub mod canary;
pub mod capture;
pub mod chain;
pub mod clock;
pub mod command;
pub mod config;
pub mod coverage;
pub mod doctor;
pub mod enroll;
pub mod events;
pub mod files;
pub mod forward;
pub mod identity;
pub mod link;
pub mod privileges;
pub mod probes;
pub mod ring;
pub mod run;
pub mod shared;
pub mod sink_client;
pub mod spool;
pub mod status;
pub mod worker;
pub mod workers;
