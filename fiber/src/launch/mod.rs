//! The start of a runtime, its options, and what becomes of it in the child of a fork.

pub(crate) mod fork;
pub(crate) mod options;
mod run;

pub(crate) use run::{Setup, run};
