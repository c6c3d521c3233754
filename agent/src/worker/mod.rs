//! The unprivileged half of the agent: from the events of the rings to masked records.

pub mod tls;
