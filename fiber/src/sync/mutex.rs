//! Mutex: `fiber_mutex_t` and [`Mutex<T>`].
//!
//! The word is the owner's handle, or 0 if the mutex is free, so an uncontended lock or unlock is
//! one compare-and-swap.
//!
//! On one worker, an unlock hands the lock to the first waiter, so an owner that unlocks and locks
//! again in a loop cannot keep the others out. A fiber of that worker holds a mutex across a switch
//! only if it parks while holding it, and in that case the others have to wait anyway.
//!
//! With several workers, a lock that is handed to a fiber stays locked until the fiber's worker
//! runs it, and meanwhile the fibers of all workers queue up behind it. Therefore an unlock there
//! makes the mutex free and wakes the first waiter, which tries again. If another fiber is faster,
//! the waiter returns to the front of the queue, and the next unlock hands the lock to it: each
//! waiter is overtaken at most once after it has come first. A fiber also spins for the time of a
//! short critical section before it waits, because its owner probably runs on another CPU.

use super::{Forever, Until, misuse};
use crate::errno::Errno;
use crate::record::wait_queue::{LOCKED, Place, Queue, WAITERS};
use crate::record::wait_reason::WaitReason;
use crate::sched::wait;
use crate::worker::current::on_fiber;
use core::cell::UnsafeCell;
use core::fmt;
use core::marker::PhantomData;
use core::ops::{Deref, DerefMut};
use core::sync::atomic::{AtomicU32, Ordering};

/// The reaction to relocking.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub(crate) enum Kind {
    Normal = 0,
    Recursive = 1,
    ErrorCheck = 2,
}

impl Kind {
    pub(crate) fn of(raw: i32) -> Option<Kind> {
        [Kind::Normal, Kind::Recursive, Kind::ErrorCheck]
            .into_iter()
            .find(|&k| k as i32 == raw)
    }
}

/// `fiber_mutex_t`.
#[repr(C)]
pub(crate) struct RawMutex {
    queue: Queue,
    kind: AtomicU32,
    /// How many more times the owner has locked it. Only the owner touches it.
    depth: AtomicU32,
    reserved: u64,
}

const OWNER: u64 = !(LOCKED | WAITERS);

/// The tag of a waiter that was overtaken by another fiber after it had come first.
const OVERTAKEN: u8 = true as u8;

/// How often a fiber looks whether the mutex has become free before it waits: about a microsecond.
const SPINS: u32 = 32;

impl RawMutex {
    pub(crate) const fn new(kind: Kind) -> RawMutex {
        RawMutex {
            queue: Queue::new(0),
            kind: AtomicU32::new(kind as u32),
            depth: AtomicU32::new(0),
            reserved: 0,
        }
    }

    /// Returns `EBUSY` while it is locked.
    pub(crate) fn destroy(&self) -> Result<(), Errno> {
        if self.queue.word.load(Ordering::Acquire) != 0 {
            Err(Errno::EBUSY)
        } else {
            Ok(())
        }
    }

    #[inline(always)]
    fn take_free(&self, me: u64) -> bool {
        self.queue
            .word
            .compare_exchange(0, me, Ordering::Acquire, Ordering::Relaxed)
            .is_ok()
    }

    #[inline(always)]
    pub(crate) fn lock(&self, until: impl Until) -> Result<(), Errno> {
        let worker = on_fiber()?;
        let me = worker.running().handle().0;
        if self.take_free(me) {
            Ok(())
        } else {
            self.lock_contended(me, until)
        }
    }

    #[cold]
    #[inline(never)]
    fn lock_contended(&self, me: u64, until: impl Until) -> Result<(), Errno> {
        let worker = on_fiber()?;
        if self.queue.word.load(Ordering::Relaxed) & OWNER == me {
            match self.kind.load(Ordering::Relaxed) {
                k if k == Kind::Recursive as u32 => return self.deepen(),
                k if k == Kind::ErrorCheck as u32 => return Err(Errno::EDEADLK),
                _ => {}
            }
        }
        let until = until.instant()?;
        if worker.runtime().spins_before_sleep() && self.spin(me) {
            return Ok(());
        }
        let mut queue = self.queue.lock();
        let mut overtaken = false;
        loop {
            if queue.word & OWNER == 0 {
                queue.word = me;
                return Ok(());
            }
            let place = if overtaken { Place::First } else { Place::Last };
            wait::wait_at(
                place,
                worker,
                queue,
                WaitReason::Mutex,
                overtaken.into(),
                until,
                || (),
            )?;
            if self.queue.word.load(Ordering::Acquire) & OWNER == me {
                return Ok(());
            }
            overtaken = true;
            queue = self.queue.lock();
        }
    }

    /// Waits for the time of a short critical section for the owner to unlock. Returns whether the
    /// fiber `me` has got the lock.
    fn spin(&self, me: u64) -> bool {
        for _ in 0..SPINS {
            core::hint::spin_loop();
            if self.queue.word.load(Ordering::Relaxed) == 0 && self.take_free(me) {
                return true;
            }
        }
        false
    }

    fn deepen(&self) -> Result<(), Errno> {
        let depth = self
            .depth
            .load(Ordering::Relaxed)
            .checked_add(1)
            .ok_or(Errno::EAGAIN)?;
        self.depth.store(depth, Ordering::Relaxed);
        Ok(())
    }

    /// Returns `EBUSY` if it is locked.
    pub(crate) fn try_lock(&self) -> Result<(), Errno> {
        let me = on_fiber()?.running().handle().0;
        if self.take_free(me) {
            return Ok(());
        }
        let word = self.queue.word.load(Ordering::Relaxed);
        if word & OWNER == me && self.kind.load(Ordering::Relaxed) == Kind::Recursive as u32 {
            return self.deepen();
        }
        Err(Errno::EBUSY)
    }

    /// Returns `EPERM` if the caller does not own it.
    #[inline(always)]
    pub(crate) fn unlock(&self) -> Result<(), Errno> {
        let me = on_fiber()?.running().handle().0;
        if self.queue.word.load(Ordering::Relaxed) & OWNER != me {
            return Err(Errno::EPERM);
        }
        let depth = self.depth.load(Ordering::Relaxed);
        if depth > 0 {
            self.depth.store(depth - 1, Ordering::Relaxed);
            return Ok(());
        }
        if self
            .queue
            .word
            .compare_exchange(me, 0, Ordering::Release, Ordering::Relaxed)
            .is_err()
        {
            self.hand_over();
        }
        Ok(())
    }

    #[cold]
    #[inline(never)]
    fn hand_over(&self) {
        let mut queue = self.queue.lock();
        let one_worker = on_fiber().is_ok_and(|worker| worker.runtime().is_single());
        let hands_over = one_worker || queue.first_tag() == Some(OVERTAKEN);
        let next = queue.pop();
        queue.word = match &next {
            Some(next) if hands_over => next.fiber().handle().0,
            _ => 0,
        };
        drop(queue);
        if let Some(next) = next {
            next.wake();
        }
    }

    /// Unlocks it completely, even if it is locked several times. Returns the depth for
    /// [`relock`](Self::relock). The caller must own it.
    pub(super) fn release(&self) -> u32 {
        let depth = self.depth.swap(0, Ordering::Relaxed);
        let _ = self.unlock();
        depth
    }

    pub(super) fn relock(&self, depth: u32) {
        let _ = self.lock(Forever);
        self.depth.store(depth, Ordering::Relaxed);
    }

    /// Returns `EPERM` if the running fiber does not own it.
    pub(super) fn check_owned(&self) -> Result<(), Errno> {
        let me = on_fiber()?.running().handle().0;
        if self.queue.word.load(Ordering::Relaxed) & OWNER == me {
            Ok(())
        } else {
            Err(Errno::EPERM)
        }
    }
}

/// A value that one fiber at a time may use. Waiting fibers get the lock in the order of their
/// arrival.
///
/// There is no poisoning: a panic in a fiber unlocks the mutex.
pub struct Mutex<T: ?Sized> {
    pub(super) raw: RawMutex,
    value: UnsafeCell<T>,
}

// SAFETY: the lock gives one fiber at a time access to the value.
unsafe impl<T: ?Sized + Send> Sync for Mutex<T> {}
// SAFETY: a mutex that is not in use can be moved like its value.
unsafe impl<T: ?Sized + Send> Send for Mutex<T> {}

impl<T> Mutex<T> {
    /// Creates an unlocked mutex.
    pub const fn new(value: T) -> Self {
        Mutex {
            raw: RawMutex::new(Kind::ErrorCheck),
            value: UnsafeCell::new(value),
        }
    }

    /// Returns the value.
    pub fn into_inner(self) -> T {
        self.value.into_inner()
    }
}

impl<T: ?Sized> Mutex<T> {
    /// Locks the mutex. May park.
    ///
    /// # Panics
    /// Panics off a fiber, and if the caller already holds the mutex.
    #[inline]
    #[track_caller]
    pub fn lock(&self) -> MutexGuard<'_, T> {
        match self.raw.lock(Forever) {
            Ok(()) => MutexGuard {
                mutex: self,
                _on_this_fiber: PhantomData,
            },
            Err(e) => misuse("Mutex::lock", e),
        }
    }

    /// Locks the mutex if it is free.
    ///
    /// # Panics
    /// Panics off a fiber.
    #[track_caller]
    pub fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        match self.raw.try_lock() {
            Ok(()) => Some(MutexGuard {
                mutex: self,
                _on_this_fiber: PhantomData,
            }),
            Err(Errno::EBUSY) => None,
            Err(e) => misuse("Mutex::try_lock", e),
        }
    }

    /// Returns the value without locking, because the mutex is borrowed exclusively.
    pub fn get_mut(&mut self) -> &mut T {
        self.value.get_mut()
    }
}

impl<T: Default> Default for Mutex<T> {
    fn default() -> Self {
        Mutex::new(T::default())
    }
}

impl<T: ?Sized> fmt::Debug for Mutex<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mutex").finish_non_exhaustive()
    }
}

/// Unlocks its mutex when dropped. It stays on the fiber that locked the mutex.
#[must_use]
pub struct MutexGuard<'a, T: ?Sized> {
    pub(super) mutex: &'a Mutex<T>,
    _on_this_fiber: PhantomData<*const ()>,
}

// SAFETY: a shared guard gives shared access to the value.
unsafe impl<T: ?Sized + Sync> Sync for MutexGuard<'_, T> {}

impl<T: ?Sized> Deref for MutexGuard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        // SAFETY: this guard holds the lock.
        unsafe { &*self.mutex.value.get() }
    }
}

impl<T: ?Sized> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: this guard holds the lock and is borrowed exclusively.
        unsafe { &mut *self.mutex.value.get() }
    }
}

impl<T: ?Sized> Drop for MutexGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        let _ = self.mutex.raw.unlock();
    }
}
