//! The formats that the shim writes and the command and the tests read.

#![forbid(unsafe_code)]

mod statistics;

pub use statistics::{Call, Malformed, Stats};
