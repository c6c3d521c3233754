//! The record schema `custody/1`: what a record holds, what its fields are called, how people name, filter
//! and read it. Pure: no I/O, no clock.
//!
//! In flow order: [`value`], [`fields`] and [`record`] (the shape), [`names`] (the one table of field names), [`view`]
//! (an entry as people get it), [`assemble`] and [`sessions`] (views out of stored entries), [`id`] (how they name it), [`filter`] (how they choose it), [`search`] (how they find and count it), [`text`] (how it
//! reaches a terminal).
#![forbid(unsafe_code)]

pub mod assemble;
pub mod fields;
pub mod filter;
pub mod id;
pub mod names;
pub mod record;
pub mod search;
pub mod sessions;
pub mod text;
pub mod value;
pub mod view;

pub use assemble::{Assembler, Facts};
pub use fields::Fields;
pub use filter::Filter;
pub use id::{Citation, Id, SessionId, SessionPrefix};
pub use record::{Kind, MaskedField, Record, Times};
pub use sessions::Sessions;
pub use value::Value;
pub use view::{Status, View};
