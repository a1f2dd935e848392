//! Scheduling.

pub(crate) mod cancel;
pub(crate) mod idle;
pub(crate) mod join;
pub(crate) mod park;
pub(crate) mod switching;
