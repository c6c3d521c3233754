//! Conversations through the driver, by subject.
