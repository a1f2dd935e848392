//! Waits for streams that a fiber is parked inside.

use super::layout::File;
use super::parked::{self, is_marked};
use super::{libc_stdio, lock};
use crate::context;
use crate::runtime::thread::Thread;
use std::ptr::null_mut;

/// Waits until no fiber is parked inside `file`. If this thread owns its lock, the lock is released
/// for that time. Returns false if the stream must not be touched.
///
/// # Safety
/// The stream is open.
#[cold]
#[inline(never)]
pub unsafe fn await_free(file: *mut File) -> bool {
    while is_marked(file) {
        // SAFETY: our caller makes the same promise.
        let locked = unsafe { lock::release(file) };
        let free = await_unmarked(file);
        // SAFETY: our caller makes the same promise: the stream is open.
        unsafe { lock::take(file, locked) };
        if !free {
            return false;
        }
    }
    true
}

/// Waits until the mark of `file`, if there is one, is removed. After that the stream may be marked
/// again, or freed. Returns false, with EDEADLK, to callers that would wait for ever: a scheduler
/// or a signal handler on the thread of the parked fiber, and all callers while the program exits.
pub fn await_unmarked(file: *const File) -> bool {
    let Some(thread) = Thread::current() else {
        return parked::await_unmarked(file, null_mut(), None, || ());
    };
    let _deferred = context::shim(thread.slot());
    let fiber = thread.host().running();
    parked::await_unmarked(file, fiber, Some(thread.remote()), || thread.await_unpark())
}

/// Locks and returns the next stream with pending output that is not in `except`; None if there is
/// no other. Waits for a stream that a fiber is parked inside.
///
/// As in libc, a stream is locked while the list of streams is, so it cannot be closed in between.
pub fn lock_next_pending(except: &[*mut File]) -> Option<*mut File> {
    let libc = libc_stdio();
    loop {
        let mut marked = None;
        let mut found = None;
        // SAFETY: libc's own functions; streams in the list are open while the list is locked.
        unsafe {
            (libc.list_lock)();
            let (mut at, end) = ((libc.list_begin)(), (libc.list_end)());
            while at != end && found.is_none() {
                let file = (libc.list_file)(at).cast::<File>();
                if is_pending(file) && !except.contains(&file) {
                    if is_marked(file) {
                        marked = Some(file);
                    } else {
                        (libc.lock)(file.cast());
                        found = Some(file);
                    }
                }
                at = (libc.list_next)(at);
            }
            (libc.list_unlock)();
        }
        match (found, marked) {
            // The mark was removed, so search again. If the wait was refused, give up on this
            // stream.
            (None, Some(file)) if await_unmarked(file) => {}
            (found, _) => return found,
        }
    }
}

/// Whether `file` has output that is not yet written.
///
/// # Safety
/// The stream is open.
unsafe fn is_pending(file: *mut File) -> bool {
    // SAFETY: our caller makes the same promise; a stream of wide characters has areas for them.
    let areas = unsafe {
        if (*file).mode > 0 && !(*file).wide.is_null() {
            &(*(*file).wide).areas
        } else {
            &(*file).areas
        }
    };
    areas.write_ptr > areas.write_base
}
