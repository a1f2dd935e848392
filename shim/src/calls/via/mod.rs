//! The ways in which a call that the engines do not know is made without blocking the thread.
//!
//! - [`offload`]: by a pool thread;
//! - [`adaptive`]: inline if recent calls of its kind were fast, otherwise by a pool thread;
//! - [`blocking_retry`]: by a pool thread that may block without limit; without such a thread, the
//!   call is retried from time to time.

pub mod adaptive;
pub mod blocking_retry;
pub mod offload;
