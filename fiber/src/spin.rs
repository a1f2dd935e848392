//! A lock for a few instructions: used where a fiber may not park and a plain thread may come too.
//!
//! Invariant: whoever holds it neither parks nor calls back, so it is free again soon unless the
//! kernel took the CPU away; waiting therefore spins briefly and then gives the CPU back.

use core::cell::UnsafeCell;
use core::ops::{Deref, DerefMut};
use core::sync::atomic::{AtomicBool, Ordering};

/// How long a wait has lasted.
#[derive(Default)]
pub(crate) struct Backoff(u32);

impl Backoff {
    /// Waits a little: on the CPU at first, then by letting other threads have it.
    #[cold]
    pub(crate) fn relax(&mut self) {
        self.0 += 1;
        if self.0 < 64 {
            core::hint::spin_loop();
        } else {
            rustix::thread::sched_yield();
        }
    }
}

/// A value behind a spinning lock.
pub(crate) struct SpinLock<T> {
    held: AtomicBool,
    value: UnsafeCell<T>,
}

// SAFETY: the lock hands the value to one thread at a time.
unsafe impl<T: Send> Sync for SpinLock<T> {}

impl<T> SpinLock<T> {
    pub(crate) const fn new(value: T) -> Self {
        SpinLock {
            held: AtomicBool::new(false),
            value: UnsafeCell::new(value),
        }
    }

    pub(crate) fn lock(&self) -> SpinGuard<'_, T> {
        self.acquire();
        SpinGuard { lock: self }
    }

    /// Takes the lock without a guard: for `fork`, which must find it free in the child.
    pub(crate) fn acquire(&self) {
        let mut backoff = Backoff::default();
        while self.held.swap(true, Ordering::Acquire) {
            backoff.relax();
        }
    }

    /// Gives back what [`acquire`](Self::acquire) took.
    pub(crate) fn release(&self) {
        self.held.store(false, Ordering::Release);
    }
}

/// Gives the lock back when dropped.
pub(crate) struct SpinGuard<'a, T> {
    lock: &'a SpinLock<T>,
}

impl<T> Deref for SpinGuard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        // SAFETY: this guard holds the lock.
        unsafe { &*self.lock.value.get() }
    }
}

impl<T> DerefMut for SpinGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: this guard holds the lock, and is borrowed alone.
        unsafe { &mut *self.lock.value.get() }
    }
}

impl<T> Drop for SpinGuard<'_, T> {
    fn drop(&mut self) {
        self.lock.release();
    }
}

#[cfg(test)]
mod tests {
    use super::SpinLock;

    #[test]
    fn counts_right_from_many_threads() {
        let sum = SpinLock::new(0u64);
        std::thread::scope(|s| {
            for _ in 0..4 {
                s.spawn(|| (0..10_000).for_each(|_| *sum.lock() += 1));
            }
        });
        assert_eq!(*sum.lock(), 40_000);
    }
}
