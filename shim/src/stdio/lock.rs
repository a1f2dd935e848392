//! A stream's own lock: recursive, and owned by the OS thread, whichever fiber took it.
//!
//! A fiber that parks inside a stream gives it back, all of its recursions, and takes as many when
//! it goes on.

use super::layout::{File, flags, flags2};
use super::libc_stdio;

/// Gives back all that this thread holds of `file`'s lock: how many times it had been taken.
///
/// # Safety
/// The stream is open.
pub unsafe fn release(file: *mut File) -> u32 {
    let mut times = 0;
    // SAFETY: the caller's promise; a lock of ours cannot be taken by others meanwhile.
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

/// Takes `file`'s lock so many times. Waits while another thread has it: one inside the stream,
/// which parks only after giving it back.
///
/// # Safety
/// The stream is open.
pub unsafe fn take(file: *mut File, times: u32) {
    // SAFETY: the caller's promise.
    unsafe {
        // flockfile makes getc and putc of a process with one thread take the lock from then on:
        // that it shall not do.
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
    // SAFETY: the caller's promise.
    unsafe { (&raw const (*file).flags2).read_volatile() & flags2::NEEDS_LOCK != 0 }
}

/// Takes the lock, once, of a stream that was entered without, in a process that has got its second
/// thread since: whether that was so.
///
/// # Safety
/// The stream is open; it `needed_lock` when it was entered, or not.
pub unsafe fn make_up(file: *mut File, needed_lock: bool) -> bool {
    // SAFETY: the caller's promise.
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

/// Gives the lock back once.
///
/// # Safety
/// The stream is open, and its lock this thread's.
pub unsafe fn give_back(file: *mut File) {
    // SAFETY: the caller's promise.
    unsafe { (libc_stdio().unlock)(file.cast()) }
}
