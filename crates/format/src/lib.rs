//! The formats that the shim writes and the command and the tests read.

#![forbid(unsafe_code)]

pub mod options;
mod statistics;
pub mod trace;

pub use statistics::{Call, Malformed, Stats};
