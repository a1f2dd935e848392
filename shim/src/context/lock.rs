//! Critical sections: code of the shim on a fiber during which no signal handler and no other fiber
//! of the thread may run. Also the locks that are held in them.
//!
//! std's mutexes wait with syscall(2), and crossbeam-channel's senders with sched_yield(2). Both
//! are hooks of the shim: called on a fiber, they would let other fibers run while the shim's data
//! is half changed. In a critical section every hook passes through to libc.
//!
//! std waits with libc's syscall(2), which may set errno. A call that succeeds must not change
//! errno, so the waits here preserve it.
//!
//! Invariant: every lock of the shim is one of these, and channels are used only inside a critical
//! section or off a fiber.

use crate::runtime::thread::Thread;
use crate::tls;
use std::ops::{Deref, DerefMut};
use std::ptr::null;
use std::sync::{PoisonError, TryLockError};
use std::time::Duration;
use sys::errno;

/// A critical section, which ends when this is dropped. Sections nest.
pub struct Section {
    /// Null if this code was off every fiber already.
    thread: *const Thread,
    /// The section is part of a call, during which signal handlers are deferred.
    of_call: bool,
}

/// Begins a critical section.
pub fn enter() -> Section {
    let thread = tls::here();
    // SAFETY: a thread stays attached while code of its fibers runs.
    let of_call = unsafe { thread.as_ref() }.is_some_and(|thread| thread.signals().enter());
    tls::set_here(null());
    Section { thread, of_call }
}

impl Drop for Section {
    fn drop(&mut self) {
        // SAFETY: a thread stays attached while code of its fibers runs.
        let Some(thread) = (unsafe { self.thread.as_ref() }) else {
            return;
        };
        tls::set_here(self.thread);
        let_handlers_run(thread, self.of_call);
    }
}

/// Defers signal handlers until it is dropped. Hooks still work as usual, so the fiber may park in
/// that time.
pub struct Quiet<'a> {
    thread: &'a Thread,
    /// Handlers were deferred before, because a call is in progress.
    of_call: bool,
}

/// Defers signal handlers.
pub fn quiet(thread: &Thread) -> Quiet<'_> {
    let of_call = thread.signals().enter();
    Quiet { thread, of_call }
}

impl Drop for Quiet<'_> {
    fn drop(&mut self) {
        let_handlers_run(self.thread, self.of_call);
    }
}

/// Runs the deferred handlers, unless a call is in progress. On a scheduler's stack they stay
/// deferred until a fiber runs.
fn let_handlers_run(thread: &Thread, of_call: bool) {
    if thread.signals().leave(of_call) && !of_call && !thread.host().running().is_null() {
        thread.handle_signals(None);
    }
}

/// Runs an application callback from inside a shim call. Signals are not deferred while it runs,
/// and the calls it makes count as top-level calls.
pub fn in_program<R>(thread: &Thread, code: impl FnOnce() -> R) -> R {
    let of_call = thread.signals().is_critical();
    if thread.signals().leave(false) {
        thread.handle_signals(None);
    }
    let result = code();
    if of_call {
        thread.signals().enter();
    }
    result
}

/// How long a fork waits for a lock. Locks are normally held for microseconds.
const GIVE_UP_FORKING_NS: u64 = 1_000_000_000;

/// A mutex that is held in a critical section. A panic of its holder does not poison it.
pub struct Mutex<T>(std::sync::Mutex<T>);

/// The fields are dropped in this order: the lock is released before the section ends.
pub struct MutexGuard<'a, T> {
    guard: std::sync::MutexGuard<'a, T>,
    section: Section,
}

impl<T> Mutex<T> {
    pub const fn new(value: T) -> Self {
        Self(std::sync::Mutex::new(value))
    }

    pub fn lock(&self) -> MutexGuard<'_, T> {
        let section = enter();
        let guard = match self.0.try_lock() {
            Ok(guard) => guard,
            Err(TryLockError::Poisoned(guard)) => guard.into_inner(),
            Err(TryLockError::WouldBlock) => self.wait(),
        };
        MutexGuard { guard, section }
    }

    #[cold]
    fn wait(&self) -> std::sync::MutexGuard<'_, T> {
        let _errno = errno::Kept::now();
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
        let _errno = errno::Kept::now();
        let guard = self.0.wait(guard).unwrap_or_else(PoisonError::into_inner);
        MutexGuard { guard, section }
    }

    /// Like `wait`, but for at most `time`; it may return early.
    pub fn wait_for<'a, T>(&self, guard: MutexGuard<'a, T>, time: Duration) -> MutexGuard<'a, T> {
        let MutexGuard { guard, section } = guard;
        let (guard, _) = self
            .0
            .wait_timeout(guard, time)
            .unwrap_or_else(PoisonError::into_inner);
        MutexGuard { guard, section }
    }

    pub fn notify_one(&self) {
        let _section = enter();
        self.0.notify_one();
    }

    pub fn notify_all(&self) {
        let _section = enter();
        self.0.notify_all();
    }
}
