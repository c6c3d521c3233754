//! The record schema `custody/1`: what a record holds, what its fields are called, how people name, filter
//! and read it. Pure: no I/O, no clock.
//!
//! In flow order: [`value`] and [`record`] (the shape), [`names`] (the one table of field names).
#![forbid(unsafe_code)]

pub mod names;
pub mod record;
pub mod value;

pub use record::{Kind, MaskedField, Record, Times};
pub use value::Value;
