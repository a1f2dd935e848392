//! A stream's own lock: recursive, and owned by the OS thread, whichever fiber took it.
//!
//! A fiber that parks inside a stream releases the lock completely, and takes it as many times when
//! it resumes.

use super::layout::{File, flags, flags2};
use super::libc_stdio;

/// Releases `file`'s lock completely, and returns how many times this thread had taken it.
///
/// # Safety
/// The stream is open.
pub unsafe fn release(file: *mut File) -> u32 {
    let mut times = 0;
    // SAFETY: our caller makes the same promise; other threads cannot take a lock that this thread
    // owns.
    unsafe {
        let lock = (*file).lock;
        if lock.is_null() {
            return 0;
        }
        let me = libc::pthread_self() as usize;
        while (&raw const (*lock).owner).read_volatile() as usize == me {
            (libc_stdio().unlock)(file.cast());
            times += 1;
        }
    }
    times
}

/// Takes `file`'s lock this many times. Blocks while another thread owns it; that thread is inside
/// the stream and releases the lock before it parks.
///
/// # Safety
/// The stream is open.
pub unsafe fn take(file: *mut File, times: u32) {
    // SAFETY: our caller makes the same promise.
    unsafe {
        // flockfile makes getc and putc take the lock from then on, even in a single-threaded
        // process. Undo that.
        let needs_lock = needs_lock(file);
        for _ in 0..times {
            (libc_stdio().lock)(file.cast());
        }
        if !needs_lock {
            (*file).flags2 &= !flags2::NEEDS_LOCK;
        }
    }
}

/// Whether libc takes the lock in getc and putc, too.
///
/// # Safety
/// The stream is open.
pub unsafe fn needs_lock(file: *mut File) -> bool {
    // SAFETY: our caller makes the same promise.
    unsafe { (&raw const (*file).flags2).read_volatile() & flags2::NEEDS_LOCK != 0 }
}

/// Takes the lock once if libc did not take it before the fiber parked, but does so now because the
/// process has started its second thread. Returns whether that was so.
///
/// # Safety
/// The stream is open; `needed_lock` is the result of [`needs_lock`] before the fiber parked.
pub unsafe fn take_if_needed_now(file: *mut File, needed_lock: bool) -> bool {
    // SAFETY: our caller makes the same promise.
    unsafe {
        let late = !needed_lock
            && needs_lock(file)
            && !(*file).lock.is_null()
            && (*file).flags & flags::USER_LOCK == 0;
        if late {
            take(file, 1);
        }
        late
    }
}

/// Releases the lock once.
///
/// # Safety
/// The stream is open, and this thread owns its lock.
pub unsafe fn unlock(file: *mut File) {
    // SAFETY: our caller makes the same promise.
    unsafe { (libc_stdio().unlock)(file.cast()) }
}
