//! Functions of other libraries that this library replaces.

pub(crate) mod pthread_exit;
pub(crate) mod static_guard;
pub(crate) mod thread_state;
