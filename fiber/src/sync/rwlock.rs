//! Read-write lock: `fiber_rwlock_t` and [`RwLock<T>`].
//!
//! The lock is granted in the order of arrival: a reader that arrives after a waiting writer waits
//! behind it, so writers do not starve. An unlock hands the lock to the first waiter. If that is a
//! reader, the readers right behind it get the lock too.

use super::{Forever, Until, misuse};
use crate::errno::Errno;
use crate::record::wait_queue::{Chain, LOCKED, Locked, Queue, STATE_SHIFT, WAITERS};
use crate::record::wait_reason::WaitReason;
use crate::sched::wait;
use crate::worker::current::on_fiber;
use core::cell::UnsafeCell;
use core::fmt;
use core::marker::PhantomData;
use core::ops::{Deref, DerefMut};
use core::sync::atomic::{AtomicU64, Ordering};

/// State bit: the lock is held for writing. The bits above it are the number of readers.
const WRITER: u64 = 1 << STATE_SHIFT;
const READER: u64 = WRITER << 1;

const READS: u8 = 0;
const WRITES: u8 = 1;

/// `fiber_rwlock_t`.
#[repr(C)]
pub(crate) struct RawRwLock {
    queue: Queue,
    /// The handle of the writer, if any.
    writer: AtomicU64,
    reserved: [u64; 2],
}

impl RawRwLock {
    pub(crate) const fn new() -> RawRwLock {
        RawRwLock {
            queue: Queue::new(0),
            writer: AtomicU64::new(0),
            reserved: [0; 2],
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

    fn is_writer(&self, me: u64) -> bool {
        self.writer.load(Ordering::Relaxed) == me
    }

    /// Adds a reader in one step. Fails if there is a writer or a waiter, or if the queue is
    /// locked.
    #[inline(always)]
    fn take_read(&self) -> bool {
        let mut word = self.queue.word.load(Ordering::Relaxed);
        while word & (WRITER | WAITERS | LOCKED) == 0 {
            match self.queue.word.compare_exchange_weak(
                word,
                word + READER,
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
    fn take_write(&self, me: u64) -> bool {
        let taken = self
            .queue
            .word
            .compare_exchange(0, WRITER, Ordering::Acquire, Ordering::Relaxed)
            .is_ok();
        if taken {
            self.writer.store(me, Ordering::Relaxed);
        }
        taken
    }

    /// Returns `EDEADLK` if the caller holds it for writing.
    #[inline]
    pub(crate) fn read(&self, until: impl Until) -> Result<(), Errno> {
        let worker = on_fiber()?;
        if self.take_read() {
            return Ok(());
        }
        if self.is_writer(worker.running().handle().0) {
            return Err(Errno::EDEADLK);
        }
        let until = until.instant()?;
        let mut queue = self.queue.lock();
        if queue.word & WRITER == 0 && queue.is_empty() {
            queue.word += READER;
            return Ok(());
        }
        wait::wait(worker, queue, WaitReason::ReadLock, READS, until, || ())
    }

    /// Returns `EDEADLK` if the caller holds it for writing.
    #[inline]
    pub(crate) fn write(&self, until: impl Until) -> Result<(), Errno> {
        let worker = on_fiber()?;
        let me = worker.running().handle().0;
        if self.take_write(me) {
            return Ok(());
        }
        if self.is_writer(me) {
            return Err(Errno::EDEADLK);
        }
        let until = until.instant()?;
        let mut queue = self.queue.lock();
        if queue.word == 0 && queue.is_empty() {
            queue.word = WRITER;
            self.writer.store(me, Ordering::Relaxed);
            return Ok(());
        }
        let woken = wait::wait(worker, queue, WaitReason::WriteLock, WRITES, until, || ());
        if woken.is_err() {
            // Some readers may have waited only because this writer was ahead of them.
            self.grant(self.queue.lock());
        }
        woken
    }

    /// Returns `EBUSY` if a writer holds it or any fiber waits for it.
    pub(crate) fn try_read(&self) -> Result<(), Errno> {
        on_fiber()?;
        if self.take_read() {
            return Ok(());
        }
        let mut queue = self.queue.lock();
        if queue.word & WRITER != 0 || !queue.is_empty() {
            return Err(Errno::EBUSY);
        }
        queue.word += READER;
        Ok(())
    }

    /// Returns `EBUSY` if it is held.
    pub(crate) fn try_write(&self) -> Result<(), Errno> {
        let me = on_fiber()?.running().handle().0;
        if self.take_write(me) {
            return Ok(());
        }
        let mut queue = self.queue.lock();
        if queue.word != 0 || !queue.is_empty() {
            return Err(Errno::EBUSY);
        }
        queue.word = WRITER;
        self.writer.store(me, Ordering::Relaxed);
        Ok(())
    }

    /// Returns `EPERM` if it is not locked, or if another fiber holds it for writing.
    pub(crate) fn unlock(&self) -> Result<(), Errno> {
        let me = on_fiber()?.running().handle().0;
        let mut queue = self.queue.lock();
        if queue.word & WRITER != 0 {
            if !self.is_writer(me) {
                return Err(Errno::EPERM);
            }
            self.writer.store(0, Ordering::Relaxed);
            queue.word -= WRITER;
        } else if queue.word >= READER {
            queue.word -= READER;
        } else {
            return Err(Errno::EPERM);
        }
        self.grant(queue);
        Ok(())
    }

    /// Hands the lock to the waiters at the head of the queue that may have it now, and unlocks the
    /// queue.
    fn grant(&self, mut queue: Locked<'_>) {
        let mut chain = Chain::default();
        if queue.first_tag() == Some(WRITES) {
            if queue.word == 0
                && let Some(writer) = queue.pop()
            {
                queue.word = WRITER;
                self.writer
                    .store(writer.fiber().handle().0, Ordering::Relaxed);
                drop(queue);
                return writer.wake();
            }
        } else if queue.word & WRITER == 0 {
            while queue.first_tag() == Some(READS) {
                queue.pop_into(&mut chain);
                queue.word += READER;
            }
        }
        drop(queue);
        chain.wake();
    }
}

/// A value that many fibers may read at once or one fiber may change. The lock is granted in the
/// order of arrival.
pub struct RwLock<T: ?Sized> {
    raw: RawRwLock,
    value: UnsafeCell<T>,
}

// SAFETY: the lock gives access to one writer, or to readers that share the value.
unsafe impl<T: ?Sized + Send + Sync> Sync for RwLock<T> {}
// SAFETY: a lock that is not in use can be moved like its value.
unsafe impl<T: ?Sized + Send> Send for RwLock<T> {}

impl<T> RwLock<T> {
    /// Creates an unlocked lock.
    pub const fn new(value: T) -> Self {
        RwLock {
            raw: RawRwLock::new(),
            value: UnsafeCell::new(value),
        }
    }

    /// Returns the value.
    pub fn into_inner(self) -> T {
        self.value.into_inner()
    }
}

impl<T: ?Sized> RwLock<T> {
    /// Locks it for reading. May park.
    ///
    /// # Panics
    /// Panics off a fiber, and if the caller holds it for writing.
    #[track_caller]
    pub fn read(&self) -> RwLockReadGuard<'_, T> {
        match self.raw.read(Forever) {
            Ok(()) => RwLockReadGuard {
                lock: self,
                _on_this_fiber: PhantomData,
            },
            Err(e) => misuse("RwLock::read", e),
        }
    }

    /// Locks it for writing. May park.
    ///
    /// # Panics
    /// Panics off a fiber, and if the caller already holds it for writing.
    #[track_caller]
    pub fn write(&self) -> RwLockWriteGuard<'_, T> {
        match self.raw.write(Forever) {
            Ok(()) => RwLockWriteGuard {
                lock: self,
                _on_this_fiber: PhantomData,
            },
            Err(e) => misuse("RwLock::write", e),
        }
    }

    /// Locks it for reading if that is possible without waiting.
    pub fn try_read(&self) -> Option<RwLockReadGuard<'_, T>> {
        self.raw.try_read().is_ok().then(|| RwLockReadGuard {
            lock: self,
            _on_this_fiber: PhantomData,
        })
    }

    /// Locks it for writing if that is possible without waiting.
    pub fn try_write(&self) -> Option<RwLockWriteGuard<'_, T>> {
        self.raw.try_write().is_ok().then(|| RwLockWriteGuard {
            lock: self,
            _on_this_fiber: PhantomData,
        })
    }
}

impl<T: ?Sized> fmt::Debug for RwLock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RwLock").finish_non_exhaustive()
    }
}

/// Releases the lock for reading when dropped.
#[must_use]
pub struct RwLockReadGuard<'a, T: ?Sized> {
    lock: &'a RwLock<T>,
    _on_this_fiber: PhantomData<*const ()>,
}

impl<T: ?Sized> Deref for RwLockReadGuard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        // SAFETY: this guard holds the lock for reading.
        unsafe { &*self.lock.value.get() }
    }
}

impl<T: ?Sized> Drop for RwLockReadGuard<'_, T> {
    fn drop(&mut self) {
        let _ = self.lock.raw.unlock();
    }
}

/// Releases the lock for writing when dropped.
#[must_use]
pub struct RwLockWriteGuard<'a, T: ?Sized> {
    lock: &'a RwLock<T>,
    _on_this_fiber: PhantomData<*const ()>,
}

impl<T: ?Sized> Deref for RwLockWriteGuard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        // SAFETY: this guard holds the lock for writing.
        unsafe { &*self.lock.value.get() }
    }
}

impl<T: ?Sized> DerefMut for RwLockWriteGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: this guard holds the lock for writing and is borrowed exclusively.
        unsafe { &mut *self.lock.value.get() }
    }
}

impl<T: ?Sized> Drop for RwLockWriteGuard<'_, T> {
    fn drop(&mut self) {
        let _ = self.lock.raw.unlock();
    }
}
