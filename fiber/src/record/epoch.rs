//! Which process of a series of forks this is.
//!
//! In the child of a fork, wait queues still hold nodes of fibers that do not exist there. Such
//! nodes carry an earlier epoch.

use core::sync::atomic::{AtomicU32, Ordering};

/// The number of forks on fibers between the first process and this one.
static EPOCH: AtomicU32 = AtomicU32::new(0);

#[inline(always)]
pub(crate) fn epoch() -> u32 {
    EPOCH.load(Ordering::Relaxed)
}

/// Begins a new epoch, in the child of a fork.
pub(crate) fn advance() {
    EPOCH.fetch_add(1, Ordering::Relaxed);
}
