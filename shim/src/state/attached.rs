//! The number of attached threads.

use crate::context;
use std::sync::atomic::{AtomicUsize, Ordering};

/// With only one, no other task can run between two steps of a fiber that does not park.
static ATTACHED: AtomicUsize = AtomicUsize::new(0);

pub fn note_attach() {
    ATTACHED.fetch_add(1, Ordering::SeqCst);
}

pub fn note_detach() {
    ATTACHED.fetch_sub(1, Ordering::SeqCst);
}

/// In the child of a fork, with `threads` attached threads left.
pub fn note_fork(threads: usize) {
    ATTACHED.store(threads, Ordering::SeqCst);
}

/// Whether exactly one thread is attached.
#[inline(always)]
pub fn is_single() -> bool {
    ATTACHED.load(Ordering::Relaxed) == 1
}

/// Whether more than one thread is attached.
pub fn other_threads() -> bool {
    ATTACHED.load(Ordering::Relaxed) > 1
}

/// Whether a thread other than the calling one is attached, assuming that the caller is on a fiber;
/// off a fiber, whether any is.
#[inline(always)]
pub fn others_are_attached() -> bool {
    match ATTACHED.load(Ordering::Relaxed) {
        0 => false,
        1 => context::active().is_null(),
        _ => true,
    }
}
