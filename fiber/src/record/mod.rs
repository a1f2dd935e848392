//! The record of a fiber and the data it refers to. This layer knows nothing of workers and the
//! scheduler.
//!
//! [`fiber`] is the record itself, and [`slab`] its memory. The other files hold what a record
//! refers to: its [`stack`], its [`timer`], its values under each [`key`], its [`name`], and the
//! [`wait_queue`] in which it waits.

pub(crate) mod cancellation;
pub(crate) mod epoch;
pub(crate) mod fiber;
pub(crate) mod key;
pub(crate) mod list;
pub(crate) mod name;
pub(crate) mod slab;
pub(crate) mod stack;
pub(crate) mod timer;
pub(crate) mod unwind;
pub(crate) mod wait_queue;
pub(crate) mod wait_reason;
