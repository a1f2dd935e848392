//! Queues between threads, which neither allocate nor block on the side that wakes.
//!
//! - [`mpsc`] is a list that many threads push to and one thread takes as a whole.
//! - [`inbox`] adds the sleep of its owner to that list.
//! - [`wait_table`] holds the wait queues of locks, found by a lock's address.
//!
//! Invariant: no wake-up is lost. The models in `tests/` check this under loom, which tries every
//! order of all atomic steps; see their heads for the commands. With `--cfg loom` the crate uses
//! loom's atomics.

mod backoff;
pub mod inbox;
pub mod mpsc;
pub mod wait_table;

pub use backoff::Backoff;
pub use inbox::Inbox;
pub use mpsc::{Link, Mpsc};
pub use wait_table::WaitTable;

/// The atomics of the crate: loom's in a model, otherwise those of the language.
mod atomic {
    #[cfg(not(loom))]
    pub(crate) use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, Ordering, fence};
    #[cfg(loom)]
    pub(crate) use loom::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, Ordering, fence};
}
