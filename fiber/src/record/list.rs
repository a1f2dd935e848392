//! Lists of fibers: the ready fibers of a worker, and the unstarted ones.
//!
//! Invariant: a fiber is in one list at a time, and the list owns its link. Only the list's worker
//! uses the list.

use super::fiber::Fiber;
use core::cell::Cell;
use core::ptr::null_mut;

/// A queue of fibers linked through [`Fiber::next`]. A fiber is in one list at a time, so adding
/// one never allocates.
pub(crate) struct List {
    head: Cell<*mut Fiber>,
    tail: Cell<*mut Fiber>,
    len: Cell<usize>,
}

impl List {
    pub(crate) const fn new() -> List {
        List {
            head: Cell::new(null_mut()),
            tail: Cell::new(null_mut()),
            len: Cell::new(0),
        }
    }

    #[inline(always)]
    pub(crate) fn head(&self) -> *mut Fiber {
        self.head.get()
    }

    #[inline(always)]
    pub(crate) fn len(&self) -> usize {
        self.len.get()
    }

    /// Appends `fiber`.
    ///
    /// # Safety
    /// `fiber` is in no list.
    #[inline(always)]
    pub(crate) unsafe fn push(&self, fiber: *mut Fiber) {
        // SAFETY: records are never unmapped; this list owns the links of its fibers, and the
        // caller hands over the link of `fiber`.
        unsafe {
            (*fiber).next.set(null_mut());
            match self.tail.get() {
                tail if self.head.get().is_null() || tail.is_null() => self.head.set(fiber),
                tail => (*tail).next.set(fiber),
            }
        }
        self.tail.set(fiber);
        self.len.set(self.len.get() + 1);
    }

    /// Returns the last fiber, or null if there is none.
    #[inline(always)]
    pub(crate) fn last(&self) -> *mut Fiber {
        if self.head.get().is_null() {
            null_mut()
        } else {
            self.tail.get()
        }
    }

    /// Takes out the fiber behind `before`, and returns the fiber that is behind `before`
    /// afterwards.
    ///
    /// # Safety
    /// `before` is in this list, and is not the last one.
    pub(crate) unsafe fn remove_after(&self, before: *mut Fiber) -> *mut Fiber {
        // SAFETY: records are never unmapped, and this list owns the links of its fibers.
        unsafe {
            let next = (*(*before).next.get()).next.get();
            (*before).next.set(next);
            if next.is_null() {
                self.tail.set(before);
            }
            self.len.set(self.len.get() - 1);
            next
        }
    }

    /// Takes the first fiber, or returns null if there is none.
    #[inline(always)]
    pub(crate) fn pop(&self) -> *mut Fiber {
        let first = self.head.get();
        if !first.is_null() {
            // SAFETY: records are never unmapped, and this list owns the links of its fibers.
            self.head.set(unsafe { (*first).next.get() });
            self.len.set(self.len.get() - 1);
        }
        first
    }

    /// Appends `fiber` and takes the first fiber: a yield in one step.
    ///
    /// # Safety
    /// The list is not empty, and `fiber` is in no list.
    #[inline(always)]
    pub(crate) unsafe fn rotate(&self, fiber: *mut Fiber) -> *mut Fiber {
        let first = self.head.get();
        // SAFETY: the list is not empty, so it owns the links of its head and its tail; the caller
        // hands over the link of `fiber`.
        unsafe {
            (*fiber).next.set(null_mut());
            (*self.tail.get()).next.set(fiber);
            self.tail.set(fiber);
            self.head.set((*first).next.get());
        }
        first
    }

    pub(crate) fn clear(&self) {
        self.head.set(null_mut());
        self.tail.set(null_mut());
        self.len.set(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_first_in_first_out() {
        let fibers: Vec<_> = (0..3).map(|_| Box::new(Fiber::free())).collect();
        let at = |i: usize| (&raw const *fibers[i]).cast_mut();
        let list = List::new();
        assert!(list.pop().is_null());
        // SAFETY: each fiber is in the list at most once.
        unsafe {
            list.push(at(0));
            list.push(at(1));
            assert_eq!(list.rotate(at(2)), at(0));
            assert_eq!(list.pop(), at(1));
            assert_eq!(list.rotate(at(0)), at(2));
        }
        assert_eq!((list.pop(), list.len()), (at(0), 0));
        // SAFETY: the list is empty again.
        unsafe { list.push(at(1)) };
        assert_eq!(list.pop(), at(1));
        assert!(list.pop().is_null());
    }

    #[test]
    fn a_list_removes_the_fiber_after_another() {
        let fibers: Vec<_> = (0..3).map(|_| Box::new(Fiber::free())).collect();
        let at = |i: usize| (&raw const *fibers[i]).cast_mut();
        let list = List::new();
        assert!(list.last().is_null());
        // SAFETY: each fiber is in the list at most once, and the first one stays in it.
        unsafe {
            list.push(at(0));
            list.push(at(1));
            list.push(at(2));
            assert_eq!(list.remove_after(at(0)), at(2));
            assert!(list.remove_after(at(0)).is_null());
            assert_eq!((list.last(), list.len()), (at(0), 1));
            list.push(at(2));
        }
        assert_eq!(
            (list.pop(), list.pop(), list.last()),
            (at(0), at(2), null_mut())
        );
    }
}
