//! Fibers that have not started: they have no stack and belong to no thread yet, so any worker may
//! take them.
//!
//! Invariant: a fiber in here has never run. Its owner takes the oldest first; thieves take the
//! oldest too. Only where there are no thieves may one be taken out of its turn. A fiber of `own`
//! that is not the first knows the one before it ([`Fiber::before`]).

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
    /// Fibers nobody else may take: all of them when there is one worker, which need not pay for
    /// atomics; and those put back for want of a stack.
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
            // SAFETY: the caller's promise; records are never unmapped.
            _ => unsafe {
                (*fiber).set_before(self.own.last());
                self.own.push(fiber);
            },
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

    /// Takes `fiber` out of its turn.
    ///
    /// # Safety
    /// It is in here, and was pushed when there was no other worker.
    pub(crate) unsafe fn take_out(&self, fiber: *mut Fiber) {
        if fiber == self.own.head() {
            self.pop();
            return;
        }
        // SAFETY: not the first one, so the one before it is in the list still. Records are never
        // unmapped.
        unsafe {
            let before = (*fiber).before();
            if let Some(next) = self.own.take_behind(before).as_ref() {
                next.set_before(before);
            }
        }
    }

    /// Takes up to `most` of what `from` has, which is not 0. Whether it got any.
    pub(crate) fn steal(&self, from: &Stealer<Fresh>, most: usize) -> bool {
        let Some(shared) = &self.shared else {
            return false;
        };
        loop {
            match from.steal_batch_with_limit(shared, most) {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fresh_ones_leave_in_turn_or_out_of_it() {
        let fibers: Vec<_> = (0..5).map(|_| Box::new(Fiber::free())).collect();
        let at = |i: usize| (&raw const *fibers[i]).cast_mut();
        let queue = FreshQueue::new(false);
        // SAFETY: none of them runs, and each is in the queue at most once.
        unsafe {
            (0..5).for_each(|i| queue.push(at(i), true));
            queue.take_out(at(1));
            queue.take_out(at(2));
            assert_eq!(queue.pop(), at(0));
            queue.take_out(at(3));
            queue.push(at(0), true);
            queue.push(at(1), true);
            queue.take_out(at(1));
            queue.push(at(2), true);
            queue.take_out(at(0));
        }
        assert_eq!(
            (queue.pop(), queue.pop(), queue.any()),
            (at(4), at(2), false)
        );
        assert!(queue.pop().is_null());
        // SAFETY: as above.
        unsafe {
            queue.push(at(3), true);
            queue.take_out(at(3));
        }
        assert_eq!((queue.any(), queue.len()), (false, 0));
    }
}
