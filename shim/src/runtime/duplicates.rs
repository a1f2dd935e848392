//! Duplicates of descriptors that parked fibers wait on. With one, a fiber keeps its file when the
//! descriptor is closed, as a thread in a system call does.

use crate::state::descriptors;
use std::cell::RefCell;
use std::collections::HashSet;
use std::ffi::c_int;

/// The duplicates of one thread's fibers.
#[derive(Default)]
pub struct Duplicates(RefCell<HashSet<c_int>>);

impl Duplicates {
    /// Duplicates `fd`; None if no descriptor is free.
    pub fn make(&self, fd: c_int) -> Option<c_int> {
        let duplicate = sys::duplicate_to_wait_on(fd)?;
        descriptors::mark_shim_owned(duplicate, true);
        self.0.borrow_mut().insert(duplicate);
        Some(duplicate)
    }

    pub fn close(&self, duplicate: c_int) {
        // If a handler that the fiber ran has forked, the child has none of the parent's
        // duplicates.
        if self.0.borrow_mut().remove(&duplicate) {
            descriptors::disown(duplicate);
            let _ = sys::close(duplicate);
        }
    }
}
