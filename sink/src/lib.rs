//! The sink: accepts the chains of hosts, stores them write-once, and answers those who may read.
//!
//! It never links a decoder and never reads a body to decide about it. In flow order: [`config`], [`run`],
//! [`http`], [`identity`] and [`token`] and [`authority`] (who is who), [`denied`], [`quota`],
//! [`accept`], [`store`], [`tree`], [`retention`], [`search`], [`query`].
#![forbid(unsafe_code)]

pub mod accept;
pub mod age;
pub mod authority;
pub mod clock;
pub mod commands;
pub mod config;
mod databases;
pub mod denied;
pub mod doctor;
pub mod files;
#[cfg(any(test, feature = "harness"))]
pub mod fuzz;
pub mod http;
pub mod identity;
pub mod labels;
pub mod metrics;
pub mod query;
pub mod quota;
pub mod retention;
pub mod revocation;
pub mod run;
pub mod search;
pub mod status;
pub mod store;
pub mod token;
pub mod tree;
