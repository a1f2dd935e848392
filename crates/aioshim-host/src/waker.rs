//! Wakes an attached thread from any thread.
//!
//! Invariant: the handle is used only between `open` and `close`, and `close` waits for the callers
//! that are using it. There is no lock, because a waker may be used in a signal handler.

use crate::table::{RawThread, functions};
use std::ptr::null_mut;
use std::sync::Arc;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

/// Ends the sleep of an attached thread, or makes its next one return at once. Does nothing after
/// the thread was detached.
#[derive(Clone)]
pub struct Waker(pub(crate) Arc<Target>);

impl Waker {
    /// Wakes the thread. May be called from any thread, and in a signal handler.
    pub fn wake(&self) {
        self.0.wake();
    }
}

/// The attached thread, as wakers see it.
#[derive(Default)]
pub(crate) struct Target {
    thread: AtomicPtr<RawThread>,
    callers: AtomicUsize,
}

impl Target {
    pub(crate) fn open(&self, thread: *mut RawThread) {
        self.thread.store(thread, Ordering::SeqCst);
    }

    pub(crate) fn wake(&self) {
        self.callers.fetch_add(1, Ordering::SeqCst);
        let thread = self.thread.load(Ordering::SeqCst);
        if let Some(functions) = functions().filter(|_| !thread.is_null()) {
            (functions.wake)(thread);
        }
        self.callers.fetch_sub(1, Ordering::SeqCst);
    }

    /// Call before the thread is detached.
    pub(crate) fn close(&self) {
        self.thread.store(null_mut(), Ordering::SeqCst);
        while self.callers.load(Ordering::SeqCst) > 0 {
            std::thread::yield_now();
        }
    }
}
