//! Fibers that have not started yet: they have no stack and belong to no thread, so any
//! worker may take them.
//!
//! Invariant: no fiber in this queue has ever run. Both its owner and thieves take the oldest fiber
//! first. A fiber may be taken out of order only if there are no thieves. A fiber of `own` that is
//! not the first one knows the fiber before it ([`Fiber::previous`]).

use crate::record::fiber::Fiber;
use crate::record::list::List;
use core::cell::Cell;
use core::ptr::null_mut;
use crossbeam_deque::{Steal, Stealer, Worker as Deque};

/// An unstarted fiber that moves between workers.
#[derive(Clone, Copy)]
pub(crate) struct Unstarted(pub *mut Fiber);

// SAFETY: a fiber that has not started belongs to the one that holds its address.
unsafe impl Send for Unstarted {}

/// The unstarted fibers of one worker.
pub(crate) struct UnstartedQueue {
    /// Fibers that no other worker may take. With one worker these are all unstarted fibers, which
    /// saves the cost of atomics. Otherwise these are the fibers that must stay on this worker, and
    /// those that were put back because no stack was available.
    own: List,
    shared: Option<Deque<Unstarted>>,
    /// Whether the queue may be non-empty. Thieves do not clear it.
    may_have_any: Cell<bool>,
}

impl UnstartedQueue {
    pub(crate) fn new(shared: bool) -> UnstartedQueue {
        UnstartedQueue {
            own: List::new(),
            shared: shared.then(Deque::new_fifo),
            may_have_any: Cell::new(false),
        }
    }

    /// The end of the queue that other workers steal from.
    pub(crate) fn stealer(&self) -> Option<Stealer<Unstarted>> {
        self.shared.as_ref().map(Deque::stealer)
    }

    /// Returns whether the queue may be non-empty.
    #[inline(always)]
    pub(crate) fn may_have_any(&self) -> bool {
        self.may_have_any.get()
    }

    pub(crate) fn len(&self) -> usize {
        self.own.len() + self.shared.as_ref().map_or(0, Deque::len)
    }

    /// Appends a fiber. If `pinned` is true, no other worker may take it.
    ///
    /// # Safety
    /// The fiber has never run and is in no list.
    #[inline(always)]
    pub(crate) unsafe fn push(&self, fiber: *mut Fiber, pinned: bool) {
        self.may_have_any.set(true);
        match &self.shared {
            Some(shared) if !pinned => shared.push(Unstarted(fiber)),
            // SAFETY: the caller guarantees that the fiber is in no list; records are never
            // unmapped.
            _ => unsafe {
                (*fiber).set_previous(self.own.last());
                self.own.push(fiber);
            },
        }
    }

    /// Takes the next fiber, or returns null if there is none.
    #[inline(always)]
    pub(crate) fn pop(&self) -> *mut Fiber {
        let mut fiber = self.own.pop();
        if fiber.is_null()
            && let Some(shared) = &self.shared
        {
            fiber = shared.pop().map_or(null_mut(), |f| f.0);
        }
        if fiber.is_null() || (self.shared.is_none() && self.own.head().is_null()) {
            self.may_have_any.set(false);
        }
        fiber
    }

    /// Takes `fiber` out of order.
    ///
    /// # Safety
    /// The fiber is in this queue, and was pushed when there was no other worker.
    pub(crate) unsafe fn take_out(&self, fiber: *mut Fiber) {
        if fiber == self.own.head() {
            self.pop();
            return;
        }
        // SAFETY: this is not the first fiber, so the one before it is still in the list. Records
        // are never unmapped.
        unsafe {
            let before = (*fiber).previous();
            if let Some(next) = self.own.remove_after(before).as_ref() {
                next.set_previous(before);
            }
        }
    }

    /// Takes up to `most` fibers from `from`; `most` must not be 0. Returns whether it took any.
    pub(crate) fn steal(&self, from: &Stealer<Unstarted>, most: usize) -> bool {
        let Some(shared) = &self.shared else {
            return false;
        };
        loop {
            match from.steal_batch_with_limit(shared, most) {
                Steal::Success(()) => {
                    self.may_have_any.set(true);
                    return true;
                }
                Steal::Empty => return false,
                Steal::Retry => core::hint::spin_loop(),
            }
        }
    }

    /// In a forked child: drops all fibers.
    pub(crate) fn forget(&self) {
        self.own.clear();
        while self.shared.as_ref().is_some_and(|s| s.pop().is_some()) {}
        self.may_have_any.set(false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unstarted_fibers_leave_in_order_or_out_of_order() {
        let fibers: Vec<_> = (0..5).map(|_| Box::new(Fiber::free())).collect();
        let at = |i: usize| (&raw const *fibers[i]).cast_mut();
        let queue = UnstartedQueue::new(false);
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
            (queue.pop(), queue.pop(), queue.may_have_any()),
            (at(4), at(2), false)
        );
        assert!(queue.pop().is_null());
        // SAFETY: none of them runs, and the queue is empty.
        unsafe {
            queue.push(at(3), true);
            queue.take_out(at(3));
        }
        assert_eq!((queue.may_have_any(), queue.len()), (false, 0));
    }
}
