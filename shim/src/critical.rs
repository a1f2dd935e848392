//! Critical sections: what the shim does on a fiber where no signal handler and no other fiber of
//! its thread may come in between; and the locks that are held in them.
//!
//! std's mutexes wait by syscall(2), and crossbeam-channel's senders by sched_yield(2). Both are
//! hooks of ours: from a fiber they would let others run, with what is being changed half changed.
//! In a critical section all hooks are libc's.
//!
//! std waits by libc's syscall(2), which may set errno: a call that succeeds must not, so the waits
//! here keep it.
//!
//! Invariant: every lock of the shim's own is one of these, and every channel is used in such a
//! section, or off a fiber.

use crate::thread::Thread;
use crate::{errno, sys, tls};
use std::ops::{Deref, DerefMut};
use std::ptr::null;
use std::sync::{PoisonError, TryLockError};
use std::time::Duration;

/// A critical section, until it is dropped. They nest: one that began later ends sooner.
pub struct Section {
    /// Null where this code is off every fiber already.
    thread: *const Thread,
    /// It is part of a call, which handlers wait for.
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
        // SAFETY: as in `enter`.
        let Some(thread) = (unsafe { self.thread.as_ref() }) else {
            return;
        };
        tls::set_here(self.thread);
        let_handlers_run(thread, self.of_call);
    }
}

/// Handlers wait, until it is dropped; hooks stay what they are, so that the fiber may park
/// meanwhile.
pub struct Quiet<'a> {
    thread: &'a Thread,
    /// They waited before, for a call.
    of_call: bool,
}

/// Has handlers wait.
pub fn quiet(thread: &Thread) -> Quiet<'_> {
    let of_call = thread.signals().enter();
    Quiet { thread, of_call }
}

impl Drop for Quiet<'_> {
    fn drop(&mut self) {
        let_handlers_run(self.thread, self.of_call);
    }
}

/// Those that waited run now, unless a call is under way. A scheduler does not run them: a fiber
/// will.
fn let_handlers_run(thread: &Thread, of_call: bool) {
    if thread.signals().leave(of_call) && !of_call && !thread.host().running().is_null() {
        thread.handle_signals(None);
    }
}

/// Runs code of the program's that a call of ours leads to: handlers do not wait for it, and its
/// calls are nobody's inner ones.
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

/// How long a fork waits for a lock that is held for microseconds.
const GIVE_UP_FORKING_NS: u64 = 1_000_000_000;

/// A mutex, held in a critical section. One whose holder panicked is as good as any.
pub struct Mutex<T>(std::sync::Mutex<T>);

/// Dropped in this order: the lock is free before the section ends.
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

    /// Locks it for the forking thread, which runs no handler until it unlocks. Not by a wait of
    /// std's, which is a hook. None if its holder does not let go: it is this thread, in code that
    /// a handler interrupted to fork.
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

/// A condition variable of such mutexes: who waits blocks the OS thread.
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

    /// The same for `time` at most; it may end early.
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
