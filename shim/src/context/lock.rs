//! Locks that are held in a critical section.
//!
//! std's mutexes wait with syscall(2), and crossbeam-channel's senders with sched_yield(2). Both
//! are hooks of the shim: called on a fiber, they would let other fibers run while the shim's data
//! is half changed. In a critical section every hook passes through to libc.
//!
//! std waits with libc's syscall(2), which may set errno. A call that succeeds must not change
//! errno, so the waits here preserve it.
//!
//! Invariant: every lock of the shim is one of these, and channels are used only inside a critical
//! section or where hooks pass through anyway.

use super::{Critical, Entered, critical};
use std::ops::{Deref, DerefMut};
use std::sync::{PoisonError, TryLockError};
use sys::errno;

/// How long a fork waits for a lock. Locks are normally held for microseconds.
const GIVE_UP_FORKING_NS: u64 = 1_000_000_000;

/// A mutex that is held in a critical section. A panic of its holder does not poison it.
pub struct Mutex<T>(std::sync::Mutex<T>);

/// The fields are dropped in this order: the lock is released before the section ends.
pub struct MutexGuard<'a, T> {
    guard: std::sync::MutexGuard<'a, T>,
    section: Entered<'static, Critical>,
}

impl<T> Mutex<T> {
    pub const fn new(value: T) -> Self {
        Self(std::sync::Mutex::new(value))
    }

    pub fn lock(&self) -> MutexGuard<'_, T> {
        let section = critical();
        let guard = match self.0.try_lock() {
            Ok(guard) => guard,
            Err(TryLockError::Poisoned(guard)) => guard.into_inner(),
            Err(TryLockError::WouldBlock) => self.wait(),
        };
        MutexGuard { guard, section }
    }

    #[cold]
    fn wait(&self) -> std::sync::MutexGuard<'_, T> {
        let _errno = errno::Preserved::now();
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Locks the mutex for the forking thread, which runs no handler until it unlocks. This spins
    /// because std's wait is a hook. Returns None if the holder does not release the lock: then the
    /// holder is this thread, in code that was interrupted by the signal handler that forks.
    pub fn lock_before_fork(&self) -> Option<std::sync::MutexGuard<'_, T>> {
        let give_up = sys::now() + GIVE_UP_FORKING_NS;
        loop {
            match self.0.try_lock() {
                Ok(guard) => return Some(guard),
                Err(TryLockError::Poisoned(held)) => return Some(held.into_inner()),
                Err(TryLockError::WouldBlock) if sys::now() > give_up => return None,
                Err(TryLockError::WouldBlock) => rustix::thread::sched_yield(),
            }
        }
    }
}

impl<T> Deref for MutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.guard
    }
}

impl<T> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.guard
    }
}

/// A condition variable for these mutexes. A wait blocks the OS thread.
pub struct Condvar(std::sync::Condvar);

impl Condvar {
    pub const fn new() -> Self {
        Self(std::sync::Condvar::new())
    }

    pub fn wait<'a, T>(&self, guard: MutexGuard<'a, T>) -> MutexGuard<'a, T> {
        let MutexGuard { guard, section } = guard;
        let _errno = errno::Preserved::now();
        let guard = self.0.wait(guard).unwrap_or_else(PoisonError::into_inner);
        MutexGuard { guard, section }
    }

    pub fn notify_all(&self) {
        let _section = critical();
        self.0.notify_all();
    }
}
