//! The unprivileged half of the agent: from the events of the rings to masked records.

pub mod ingest;
pub mod isolate;
pub mod parse;
pub mod tls;
