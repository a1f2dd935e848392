//! Reports.

pub(crate) mod deadlock;
pub(crate) mod dump;
pub(crate) mod overflow;
