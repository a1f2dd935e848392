//! Functions of libc and of the C++ library that this library replaces, because the original ones
//! cannot tell the fibers of a thread apart.

pub(crate) mod pthread_exit;
pub(crate) mod static_guard;
pub(crate) mod thread_state;
