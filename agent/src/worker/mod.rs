//! The unprivileged half of the agent: from the events of the rings to masked records. One thread. It gets
//! two rings and one socket by file descriptor, and gives every other right up before it reads a byte.

mod codes;
pub mod ingest;
pub mod isolate;
pub mod parse;
pub mod serve;
pub mod stage;
pub mod table;
pub mod tls;
