//! Starting a runtime.

pub(crate) mod fork;
pub(crate) mod options;
pub(crate) mod runtime;
