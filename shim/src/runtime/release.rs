//! What happens before the program closes or replaces a descriptor: whatever uses the number gets
//! out of its way.

use crate::engine::{self, pool};
use crate::state::{attached, descriptors, holds};
use std::ffi::c_int;

/// Prepares `fd` for being closed or replaced and forgets it: operations that hold it or are queued
/// on it get a duplicate, and this waits for the jobs that refer to its number. Returns true if the
/// descriptor belongs to the shim and must stay open: the program is closing a range of numbers or
/// all of them.
#[cold]
pub fn release(fd: c_int) -> bool {
    if release_here(fd) {
        return true;
    }
    engine::redirect_queued(fd, fd);
    false
}

/// Like [`release`], but ignores operations that other threads have queued.
fn release_here(fd: c_int) -> bool {
    let Some(users) = descriptors::users(fd) else {
        return false;
    };
    if users.is_shim_owned {
        return true;
    }
    if users.is_held {
        holds::redirect(fd);
    }
    // Again, because another thread may have started a job in that time.
    if descriptors::users(fd).is_some_and(|users| users.is_pool_in_use) {
        pool::await_jobs(fd);
    }
    descriptors::clear(fd);
    false
}

/// Forgets the descriptors from `first` to `last`, both included, and calls `own`, in order, for
/// the descriptors that belong to the shim.
pub fn release_range(first: u32, last: u32, mut own: impl FnMut(u32)) {
    for fd in first..descriptors::end_of_remembered().min(last.saturating_add(1)) {
        if release_here(fd as c_int) {
            own(fd);
        }
    }
    if first <= last && attached::others_are_attached() {
        let bound = |number: u32| c_int::try_from(number).unwrap_or(c_int::MAX);
        engine::redirect_queued(bound(first), bound(last));
    }
}
