//! fork(2): the child goes on on the current fiber, with a fresh engine; the parent notices nothing.
//!
//! Only the forking thread exists in the child. Locks that another thread held at that moment stay locked for ever, so
//! the child does not lock what was shared: it replaces it.

use crate::calls::locks;
use crate::critical::Mutex;
use crate::thread::Thread;
use crate::{calls, escapes, pool, position, stall, start, stats, stdio, tls, trace};
use std::cell::UnsafeCell;

/// A static that the child of a fork can replace.
pub struct Renewable<T>(UnsafeCell<T>);

// SAFETY: shared as T is; `renew` is only called where no other thread exists.
unsafe impl<T: Sync> Sync for Renewable<T> {}

impl<T> Renewable<T> {
    pub const fn new(value: T) -> Self {
        Self(UnsafeCell::new(value))
    }

    pub fn get(&self) -> &T {
        // SAFETY: only `renew` writes, and its caller vouches that no reference is live.
        unsafe { &*self.0.get() }
    }

    /// Puts `value` in place, and leaks what was there: it may be half changed.
    ///
    /// # Safety
    /// The process has one thread, and it holds no reference from `get`.
    pub unsafe fn renew(&self, value: T) {
        // SAFETY: vouched for by the caller.
        unsafe { self.0.get().write(value) };
    }
}

struct Attached(*mut Thread);

// SAFETY: the pointer is only followed by its own thread, or in the child of a fork, where that thread is gone.
unsafe impl Send for Attached {}

/// The attached threads, for the child.
static THREADS: Renewable<Mutex<Vec<Attached>>> = Renewable::new(Mutex::new(Vec::new()));

pub fn attached(thread: *mut Thread) {
    THREADS.get().lock().push(Attached(thread));
}

pub fn detached(thread: *mut Thread) {
    THREADS.get().lock().retain(|attached| attached.0 != thread);
}

/// Runs in each child from now on.
pub fn watch() {
    // SAFETY: `child` is a function that stays.
    unsafe { libc::pthread_atfork(None, None, Some(child)) };
}

extern "C" fn child() {
    // SAFETY: a fork's child has one thread, and it is in none of the functions that read these.
    unsafe {
        stats::forget_all();
        trace::forget_all();
        escapes::forget_all();
        stall::renew();
        pool::renew();
        calls::system::renew();
        start::renew();
        stdio::monitor::renew();
        locks::renew();
    }
    // In a handler the thread is off its fiber, and is to be back on it afterwards.
    let (here, attached) = (tls::here(), tls::attached().cast_mut());
    tls::set_here(std::ptr::null());
    // A lock that was held when the parent forked stays so: then descriptors stay open, until exec closes them.
    if let Some(threads) = THREADS.get().try_lock() {
        for Attached(thread) in threads.iter() {
            // SAFETY: its thread does not exist here, or is this one, which is in none of the functions that borrow it.
            unsafe { &mut **thread }.abandon();
        }
    }
    position::renew(usize::from(!attached.is_null()));
    // SAFETY: one thread, and the guard above is gone.
    unsafe { THREADS.renew(Mutex::new(Vec::new())) };
    if attached.is_null() {
        return;
    }
    // SAFETY: this thread's own, alive while attached.
    let host = *unsafe { &*attached }.host();
    // Without an eventfd to be had the child's fibers go on as if never attached.
    if let Ok(fresh) = Thread::new(host) {
        // SAFETY: this thread's own, alive while attached.
        fresh.files().inherit(unsafe { &*attached }.files(), host.running());
        // SAFETY: the old value is leaked, not dropped: its engine and eventfd are abandoned already.
        unsafe { attached.write(fresh) };
        self::attached(attached);
        tls::set_here(here);
    }
}
