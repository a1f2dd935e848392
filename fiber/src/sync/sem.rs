//! Semaphore: `fiber_sem_t` and [`Semaphore`].
//!
//! A post that finds a waiter hands its unit directly to it, so the count is positive only while no
//! fiber waits. Any thread may post and try.

use super::{Forever, Until, misuse};
use crate::errno::Errno;
use crate::record::wait_queue::{LOCKED, Queue, STATE_SHIFT, WAITERS};
use crate::record::wait_reason::WaitReason;
use crate::sched::cancel_point;
use crate::sched::wait;
use crate::worker::current::on_fiber;
use core::sync::atomic::Ordering;
use std::time::Duration;

const ONE: u64 = 1 << STATE_SHIFT;

/// `fiber_sem_t`.
#[repr(C)]
pub(crate) struct RawSem {
    queue: Queue,
    reserved: u64,
}

impl RawSem {
    /// `FIBER_SEM_VALUE_MAX`.
    pub(crate) const VALUE_MAX: u32 = 0x7fff_ffff;

    pub(crate) const fn new(value: u32) -> RawSem {
        RawSem {
            queue: Queue::new(value as u64),
            reserved: 0,
        }
    }

    /// Returns `EBUSY` while fibers wait.
    pub(crate) fn destroy(&self) -> Result<(), Errno> {
        if self.queue.lock().is_empty() {
            Ok(())
        } else {
            Err(Errno::EBUSY)
        }
    }

    /// Takes a unit in one step. Fails if there is none or if the queue is locked.
    #[inline(always)]
    fn take(&self) -> bool {
        let mut word = self.queue.word.load(Ordering::Relaxed);
        while word >= ONE && word & LOCKED == 0 {
            match self.queue.word.compare_exchange_weak(
                word,
                word - ONE,
                Ordering::Acquire,
                Ordering::Relaxed,
            ) {
                Ok(_) => return true,
                Err(now) => word = now,
            }
        }
        false
    }

    #[inline(always)]
    pub(crate) fn wait(&self, until: impl Until) -> Result<(), Errno> {
        let worker = on_fiber()?;
        worker.running().cancellation.check()?;
        if self.take() {
            return Ok(());
        }
        let until = until.instant()?;
        let mut queue = self.queue.lock();
        if queue.word >= ONE {
            queue.word -= ONE;
            return Ok(());
        }
        wait::wait(worker, queue, WaitReason::Semaphore, 0, until, || ())
    }

    /// Returns `EAGAIN` if the count is zero.
    pub(crate) fn try_wait(&self) -> Result<(), Errno> {
        if self.take() {
            return Ok(());
        }
        let mut queue = self.queue.lock();
        if queue.word < ONE {
            return Err(Errno::EAGAIN);
        }
        queue.word -= ONE;
        Ok(())
    }

    /// Returns `EOVERFLOW` if the count is at its maximum.
    #[inline(always)]
    pub(crate) fn post(&self) -> Result<(), Errno> {
        let mut word = self.queue.word.load(Ordering::Relaxed);
        while word & (LOCKED | WAITERS) == 0 && word < (Self::VALUE_MAX as u64) << STATE_SHIFT {
            match self.queue.word.compare_exchange_weak(
                word,
                word + ONE,
                Ordering::Release,
                Ordering::Relaxed,
            ) {
                // Do not touch the semaphore again: the fiber that got the unit may have destroyed
                // it.
                Ok(_) => return Ok(()),
                Err(now) => word = now,
            }
        }
        self.post_slowly()
    }

    #[cold]
    #[inline(never)]
    fn post_slowly(&self) -> Result<(), Errno> {
        let mut queue = self.queue.lock();
        let Some(first) = queue.pop() else {
            if queue.word >= (Self::VALUE_MAX as u64) << STATE_SHIFT {
                return Err(Errno::EOVERFLOW);
            }
            queue.word += ONE;
            return Ok(());
        };
        drop(queue);
        first.wake();
        Ok(())
    }

    pub(crate) fn value(&self) -> u32 {
        (self.queue.word.load(Ordering::Relaxed) >> STATE_SHIFT) as u32
    }
}

/// A count of units. Fibers take units, and any thread may add them.
pub struct Semaphore {
    raw: RawSem,
}

impl Semaphore {
    /// Creates a semaphore with `value` units.
    ///
    /// # Panics
    /// Panics if `value` is greater than 2^31 - 1.
    pub const fn new(value: u32) -> Self {
        assert!(
            value <= RawSem::VALUE_MAX,
            "more units than a semaphore can hold"
        );
        Semaphore {
            raw: RawSem::new(value),
        }
    }

    /// Takes a unit, and waits for one if there is none. May park.
    ///
    /// # Panics
    /// Panics off a fiber.
    #[track_caller]
    pub fn wait(&self) {
        if let Err(e) = cancel_point::unwinding(|| self.raw.wait(Forever)) {
            misuse("Semaphore::wait", e);
        }
    }

    /// Takes a unit, and waits for one no longer than `limit`. Returns whether it got one. May
    /// park.
    ///
    /// # Panics
    /// Panics off a fiber.
    #[track_caller]
    pub fn wait_timeout(&self, limit: Duration) -> bool {
        match cancel_point::unwinding(|| self.raw.wait(limit)) {
            Ok(()) => true,
            Err(Errno::ETIMEDOUT) => false,
            Err(e) => misuse("Semaphore::wait_timeout", e),
        }
    }

    /// Takes a unit if there is one. Returns whether it got one. Callable from any thread.
    pub fn try_wait(&self) -> bool {
        self.raw.try_wait().is_ok()
    }

    /// Adds a unit. Callable from any thread.
    ///
    /// # Panics
    /// Panics if the count is at its maximum of 2^31 - 1.
    #[track_caller]
    pub fn post(&self) {
        if let Err(e) = self.raw.post() {
            misuse("Semaphore::post", e);
        }
    }

    /// Returns the current number of units.
    pub fn value(&self) -> u32 {
        self.raw.value()
    }
}
