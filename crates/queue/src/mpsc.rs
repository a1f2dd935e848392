//! A list that many threads push to and one thread takes as a whole.
//!
//! The list is a stack linked through the nodes themselves, so pushing never allocates and never
//! fails. A channel could not guarantee that, for example for `fiber_sem_post` or for a wake-up in
//! a signal handler.
//!
//! Invariant: a node is in one list at a time, and the list owns its link until it is taken.

use crate::atomic::{AtomicPtr, Ordering};
use core::ptr::null_mut;

/// A node that can be in one list at a time.
pub trait Link {
    fn next(&self) -> *mut Self;
    fn set_next(&self, next: *mut Self);
}

/// The nodes that other threads have pushed for one owner.
pub struct Mpsc<N> {
    top: AtomicPtr<N>,
}

impl<N> Default for Mpsc<N> {
    fn default() -> Self {
        Mpsc {
            top: AtomicPtr::new(null_mut()),
        }
    }
}

impl<N: Link> Mpsc<N> {
    /// Adds `node`. Callable from any thread.
    ///
    /// # Safety
    /// The node stays valid until it is taken, and no other code uses its link.
    #[inline]
    pub unsafe fn push(&self, node: *mut N) {
        let mut top = self.top.load(Ordering::Relaxed);
        loop {
            // SAFETY: the caller hands the node's link over to us.
            unsafe { (*node).set_next(top) };
            match self
                .top
                .compare_exchange_weak(top, node, Ordering::SeqCst, Ordering::Relaxed)
            {
                Ok(_) => return,
                Err(now) => top = now,
            }
        }
    }

    /// Returns whether the list is empty.
    #[inline(always)]
    pub fn is_empty(&self) -> bool {
        self.top.load(Ordering::Acquire).is_null()
    }

    /// Takes all nodes and passes each to `each` in the order in which they were pushed. Only the
    /// owner may call this.
    #[inline]
    pub fn take(&self, mut each: impl FnMut(*mut N)) {
        let mut node = self.top.swap(null_mut(), Ordering::Acquire);
        let mut first = null_mut();
        // SAFETY: taken nodes are ours until we pass them on, and the threads that pushed them keep
        // them valid.
        unsafe {
            while !node.is_null() {
                let next = (*node).next();
                (*node).set_next(first);
                first = node;
                node = next;
            }
            while !first.is_null() {
                let next = (*first).next();
                each(first);
                first = next;
            }
        }
    }

    /// In a forked child: drops all nodes.
    pub fn forget(&self) {
        self.top.store(null_mut(), Ordering::Relaxed);
    }
}
