//! Reports for people: the list of fibers, deadlocks and stack overflows.

pub(crate) mod deadlock;
pub(crate) mod dump;
pub(crate) mod overflow;
