//! A spin lock for short critical sections, used where a fiber may not park and plain threads may
//! need the lock too.
//!
//! Invariant: the holder neither parks nor calls back, so the lock is free again soon, unless the
//! kernel preempts the holder. For that reason a wait spins briefly and then yields the CPU.

use core::cell::UnsafeCell;
use core::ops::{Deref, DerefMut};
use core::sync::atomic::{AtomicBool, Ordering};
use queue::Backoff;

/// A value protected by a spin lock.
pub(crate) struct SpinLock<T> {
    held: AtomicBool,
    value: UnsafeCell<T>,
}

// SAFETY: the lock gives one thread at a time access to the value.
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

    /// Takes the lock without a guard, for `fork`: the handler releases it in the child.
    pub(crate) fn acquire(&self) {
        let mut backoff = Backoff::default();
        while self.held.swap(true, Ordering::Acquire) {
            backoff.relax();
        }
    }

    /// Releases a lock taken by [`acquire`](Self::acquire).
    pub(crate) fn release(&self) {
        self.held.store(false, Ordering::Release);
    }
}

/// Releases the lock when dropped.
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
        // SAFETY: this guard holds the lock and is borrowed exclusively.
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
    fn counts_are_exact_with_many_threads() {
        let sum = SpinLock::new(0u64);
        std::thread::scope(|s| {
            for _ in 0..4 {
                s.spawn(|| (0..10_000).for_each(|_| *sum.lock() += 1));
            }
        });
        assert_eq!(*sum.lock(), 40_000);
    }
}
