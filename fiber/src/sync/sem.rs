//! Semaphore: `fiber_sem_t`, and [`Semaphore`].
//!
//! A post that finds a waiter passes its unit straight on, so the count is positive only while
//! nobody waits. Posting and trying are legal from any thread.

use super::{Forever, Until, misuse, on_fiber};
use crate::cancel;
use crate::errno::Errno;
use crate::fiber::Waits;
use crate::park::{self, LOCKED, Queue, STATE_SHIFT, WAITERS};
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

    /// `EBUSY` while fibers wait.
    pub(crate) fn destroy(&self) -> Result<(), Errno> {
        if self.queue.lock().is_empty() {
            Ok(())
        } else {
            Err(Errno::EBUSY)
        }
    }

    /// Takes a unit in one step; whether there was one, and nobody in the way.
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
        cancel::check(worker.running())?;
        if self.take() {
            return Ok(());
        }
        let until = until.instant()?;
        let mut queue = self.queue.lock();
        if queue.word >= ONE {
            queue.word -= ONE;
            return Ok(());
        }
        park::wait(worker, queue, Waits::Semaphore, 0, until, || ())
    }

    /// `EAGAIN` when the count is zero.
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

    /// `EOVERFLOW` at the maximum.
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
                // Not touched again: whoever got the unit may have destroyed it.
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

/// A count of units that fibers take and anybody gives back.
pub struct Semaphore {
    raw: RawSem,
}

impl Semaphore {
    /// A semaphore with `value` units.
    ///
    /// # Panics
    /// Past 2^31 - 1.
    pub const fn new(value: u32) -> Self {
        assert!(
            value <= RawSem::VALUE_MAX,
            "more units than a semaphore holds"
        );
        Semaphore {
            raw: RawSem::new(value),
        }
    }

    /// Takes a unit, waiting for one. May park.
    ///
    /// # Panics
    /// Off a fiber.
    #[track_caller]
    pub fn wait(&self) {
        if let Err(e) = cancel::unwinding(|| self.raw.wait(Forever)) {
            misuse("Semaphore::wait", e);
        }
    }

    /// Takes a unit, waiting no longer than `limit`; whether it got one.
    ///
    /// # Panics
    /// Off a fiber.
    #[track_caller]
    pub fn wait_timeout(&self, limit: Duration) -> bool {
        match cancel::unwinding(|| self.raw.wait(limit)) {
            Ok(()) => true,
            Err(Errno::ETIMEDOUT) => false,
            Err(e) => misuse("Semaphore::wait_timeout", e),
        }
    }

    /// Takes a unit if there is one. From any thread.
    pub fn try_wait(&self) -> bool {
        self.raw.try_wait().is_ok()
    }

    /// Gives a unit. From any thread.
    ///
    /// # Panics
    /// At the maximum of 2^31 - 1.
    #[track_caller]
    pub fn post(&self) {
        if let Err(e) = self.raw.post() {
            misuse("Semaphore::post", e);
        }
    }

    /// The units there are now.
    pub fn value(&self) -> u32 {
        self.raw.value()
    }
}
