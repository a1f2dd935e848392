//! Fibers that have not started: they have no stack and belong to no thread yet, so any worker may take them.
//!
//! Invariant: a fiber in here has never run. Its owner takes the oldest first; thieves take the oldest too.

use crate::fiber::{Fiber, List};
use core::cell::Cell;
use core::ptr::null_mut;
use crossbeam_deque::{Steal, Stealer, Worker as Deque};

/// A fresh fiber on its way between workers.
#[derive(Clone, Copy)]
pub(crate) struct Fresh(pub *mut Fiber);

// SAFETY: a fiber that has not started belongs to whoever holds its address.
unsafe impl Send for Fresh {}

/// A worker's fresh fibers.
pub(crate) struct FreshQueue {
    /// Fibers nobody else may take: all of them when there is one worker, which need not pay for atomics; and those put
    /// back for want of a stack.
    own: List,
    shared: Option<Deque<Fresh>>,
    /// Whether there may be any. Thieves do not clear it.
    any: Cell<bool>,
}

impl FreshQueue {
    pub(crate) fn new(shared: bool) -> FreshQueue {
        FreshQueue {
            own: List::new(),
            shared: shared.then(Deque::new_fifo),
            any: Cell::new(false),
        }
    }

    /// Where others take from.
    pub(crate) fn stealer(&self) -> Option<Stealer<Fresh>> {
        self.shared.as_ref().map(Deque::stealer)
    }

    /// Whether there may be any.
    #[inline(always)]
    pub(crate) fn any(&self) -> bool {
        self.any.get()
    }

    pub(crate) fn len(&self) -> usize {
        self.own.len() + self.shared.as_ref().map_or(0, Deque::len)
    }

    /// Appends a fiber. `alone` says that there is no other worker.
    ///
    /// # Safety
    /// It has never run and is in no list.
    #[inline(always)]
    pub(crate) unsafe fn push(&self, fiber: *mut Fiber, alone: bool) {
        self.any.set(true);
        match &self.shared {
            Some(shared) if !alone => shared.push(Fresh(fiber)),
            // SAFETY: the caller's promise.
            _ => unsafe { self.own.push(fiber) },
        }
    }

    /// Takes one; null when there is none.
    #[inline(always)]
    pub(crate) fn pop(&self) -> *mut Fiber {
        let mut fiber = self.own.pop();
        if fiber.is_null()
            && let Some(shared) = &self.shared
        {
            fiber = shared.pop().map_or(null_mut(), |f| f.0);
        }
        if fiber.is_null() || (self.shared.is_none() && self.own.head().is_null()) {
            self.any.set(false);
        }
        fiber
    }

    /// Takes about half of what `from` has. Whether it got any.
    pub(crate) fn steal(&self, from: &Stealer<Fresh>) -> bool {
        let Some(shared) = &self.shared else { return false };
        loop {
            match from.steal_batch(shared) {
                Steal::Success(()) => {
                    self.any.set(true);
                    return true;
                }
                Steal::Empty => return false,
                Steal::Retry => core::hint::spin_loop(),
            }
        }
    }

    /// In a forked child: nobody is here.
    pub(crate) fn forget(&self) {
        self.own.clear();
        while self.shared.as_ref().is_some_and(|s| s.pop().is_some()) {}
        self.any.set(false);
    }
}
