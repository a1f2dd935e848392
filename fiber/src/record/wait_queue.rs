//! The wait queue inside every blocking object. How a fiber parks in it is in sched/wait.rs.
//!
//! A waiter is a node on the stack of the waiting fiber, so waiting never allocates. The word of
//! the queue holds a lock bit, a bit that says whether there are waiters, and above them the
//! object's own state. In one atomic step, an object changes its state and finds out that there are
//! no waiters. It touches nothing afterwards, because its memory may already be freed (the fiber
//! that waited for a semaphore often destroys it).
//!
//! Invariant: exactly one party takes a node out of its queue, under the lock: a waker, the fiber's
//! timer or a cancellation. Timers and cancellations run on the fiber's worker. The party that took
//! the node makes the fiber ready once, after unlocking. The fiber runs only on its own worker, and
//! only after it has switched away. Therefore no wake-up is lost if the waker is faster than the
//! park.
//!
//! A timer goes from the node to the object, but the object may be freed as soon as a waker has
//! taken the node. Therefore the timer first claims the node (QUEUED to EXPIRING). Wakers cannot
//! take a claimed node, so the object continues to exist. The timer then only tries to take the
//! queue's lock. If a waker holds it, the timer releases the node again, because that waker may
//! want the node.

use super::epoch::epoch;
use super::fiber::Fiber;
use crate::errno::Errno;
use core::cell::Cell;
use core::ptr::null;
use core::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use queue::Backoff;

/// The queue is locked.
pub(crate) const LOCKED: u64 = 1;
/// The queue is not empty.
pub(crate) const WAITERS: u64 = 2;
/// The position of the object's own state in the word.
pub(crate) const STATE_SHIFT: u32 = 2;

/// The waiting fibers in order, and the object's state. All zeros mean an empty queue in state 0.
#[repr(C)]
pub(crate) struct Queue {
    pub word: AtomicU64,
    head: Cell<*const Waiter>,
    tail: Cell<*const Waiter>,
}

// SAFETY: the cells are used only under the lock bit.
unsafe impl Sync for Queue {}
// SAFETY: the cells are used only under the lock bit. Nodes are reached from any thread, and the
// module's invariant says which thread may touch a node.
unsafe impl Send for Queue {}

/// One fiber's wait.
pub(crate) struct Waiter {
    fiber: *const Fiber,
    queue: *const Queue,
    prev: Cell<*const Waiter>,
    next: Cell<*const Waiter>,
    place: AtomicU8,
    /// Whether a timer or a cancellation may end the wait.
    may_end_early: bool,
    /// The result of the wait.
    ended: Cell<Result<(), Errno>>,
    /// Data of the object about this waiter: whether it is a reader or a writer.
    pub tag: u8,
    /// The fork epoch when the wait began. In a forked child, nodes of earlier epochs belong to
    /// fibers that do not exist there.
    epoch: u32,
}

/// Where a waiter joins a queue.
#[derive(Clone, Copy)]
pub(crate) enum Place {
    First,
    Last,
}

/// The node is in no queue.
const OUT: u8 = 0;
/// The node is in its queue.
const QUEUED: u8 = 1;
/// The node is in its queue, and a timer or a cancellation is about to take it out.
const EXPIRING: u8 = 2;

impl Queue {
    pub(crate) const fn new(state: u64) -> Queue {
        Queue {
            word: AtomicU64::new(state << STATE_SHIFT),
            head: Cell::new(null()),
            tail: Cell::new(null()),
        }
    }

    #[inline]
    pub(crate) fn lock(&self) -> Locked<'_> {
        let mut backoff = Backoff::default();
        loop {
            match self.try_lock() {
                Some(locked) => return locked,
                None => backoff.relax(),
            }
        }
    }

    fn try_lock(&self) -> Option<Locked<'_>> {
        let word = self.word.load(Ordering::Relaxed);
        if word & LOCKED != 0 {
            return None;
        }
        self.word
            .compare_exchange(word, word | LOCKED, Ordering::Acquire, Ordering::Relaxed)
            .ok()?;
        Some(Locked {
            queue: self,
            word: word & !WAITERS,
        })
    }
}

/// A locked queue. Unlocking stores [`Locked::word`] and whether there are waiters.
pub(crate) struct Locked<'a> {
    queue: &'a Queue,
    /// The object's state; the two low bits are zero.
    pub word: u64,
}

impl Locked<'_> {
    pub(crate) fn is_empty(&self) -> bool {
        self.queue.head.get().is_null()
    }

    /// The address of the queue, which is that of the object.
    pub(crate) fn address(&self) -> *const () {
        (&raw const *self.queue).cast()
    }

    /// The object's state.
    pub(crate) fn state(&self) -> u64 {
        self.word >> STATE_SHIFT
    }

    pub(crate) fn set_state(&mut self, state: u64) {
        self.word = state << STATE_SHIFT;
    }

    #[inline(always)]
    pub(crate) fn push(&mut self, waiter: &Waiter, place: Place) {
        let queue = self.queue;
        let (prev, next) = match place {
            Place::Last => (queue.tail.get(), null()),
            Place::First => (null(), queue.head.get()),
        };
        waiter.prev.set(prev);
        waiter.next.set(next);
        waiter.place.store(QUEUED, Ordering::Relaxed);
        // SAFETY: the fiber of a queued node is parked, so the stack that holds the node exists; we
        // hold the lock.
        unsafe {
            match prev.as_ref() {
                Some(prev) => prev.next.set(waiter),
                None => queue.head.set(waiter),
            }
            match next.as_ref() {
                Some(next) => next.prev.set(waiter),
                None => queue.tail.set(waiter),
            }
        }
    }

    fn unlink(&mut self, waiter: &Waiter) {
        let queue = self.queue;
        let (prev, next) = (waiter.prev.get(), waiter.next.get());
        // SAFETY: the fiber of a queued node is parked, so the stack that holds the node exists; we
        // hold the lock.
        unsafe {
            match prev.as_ref() {
                Some(prev) => prev.next.set(next),
                None => queue.head.set(next),
            }
            match next.as_ref() {
                Some(next) => next.prev.set(prev),
                None => queue.tail.set(prev),
            }
        }
    }

    /// Returns the tag of the first waiter.
    pub(crate) fn first_tag(&mut self) -> Option<u8> {
        self.first().map(|w| w.tag)
    }

    /// Returns the first waiter whose fiber exists in this process.
    fn first(&mut self) -> Option<&'static Waiter> {
        loop {
            // SAFETY: the fiber of a queued node is parked, so the stack that holds the node
            // exists. In a forked child, the stacks of the parent's other fibers stay mapped.
            let waiter = unsafe { self.queue.head.get().as_ref() }?;
            if waiter.epoch == epoch() {
                return Some(waiter);
            }
            self.unlink(waiter);
        }
    }

    /// Unlinks a node for a waker. Once it is out, its timer no longer touches the queue.
    fn take_out(&mut self, waiter: &Waiter) {
        let mut backoff = Backoff::default();
        while waiter.may_end_early
            && waiter
                .place
                .compare_exchange(QUEUED, OUT, Ordering::Acquire, Ordering::Relaxed)
                .is_err()
        {
            backoff.relax();
        }
        self.unlink(waiter);
    }

    /// Takes the first waiter out of the queue. The caller must make it ready after unlocking.
    pub(crate) fn pop(&mut self) -> Option<Woken> {
        let waiter = self.first()?;
        self.take_out(waiter);
        Some(Woken(waiter.fiber))
    }

    /// Takes all waiters out of the queue.
    pub(crate) fn pop_all(&mut self) -> Chain {
        let mut chain = Chain::default();
        while let Some(waiter) = self.first() {
            self.take_out(waiter);
            chain.push(waiter);
        }
        chain
    }

    /// Takes the first waiter out of the queue and adds it to `chain`.
    pub(crate) fn pop_into(&mut self, chain: &mut Chain) {
        if let Some(waiter) = self.first() {
            self.take_out(waiter);
            chain.push(waiter);
        }
    }
}

impl Drop for Locked<'_> {
    #[inline]
    fn drop(&mut self) {
        let waiters = if self.is_empty() { 0 } else { WAITERS };
        self.queue
            .word
            .store(self.word | waiters, Ordering::Release);
    }
}

/// A fiber that was taken out of a queue and is not ready yet.
#[must_use]
pub(crate) struct Woken(*const Fiber);

impl Woken {
    pub(crate) fn fiber(&self) -> &'static Fiber {
        // SAFETY: records are never unmapped.
        unsafe { &*self.0 }
    }
}

/// Fibers that were taken out of a queue, in order, linked through their nodes.
#[derive(Default)]
#[must_use]
pub(crate) struct Chain {
    first: Option<&'static Waiter>,
    last: Option<&'static Waiter>,
}

impl Chain {
    fn push(&mut self, waiter: &'static Waiter) {
        waiter.next.set(null());
        match self.last {
            Some(last) => last.next.set(waiter),
            None => self.first = Some(waiter),
        }
        self.last = Some(waiter);
    }

    /// Takes the first fiber out of the chain.
    #[inline]
    pub(crate) fn pop(&mut self) -> Option<Woken> {
        let waiter = self.first?;
        // Read the link now: the node is gone as soon as its fiber runs.
        // SAFETY: the links of a chain are nodes of fibers that are still parked.
        self.first = unsafe { waiter.next.get().as_ref() };
        Some(Woken(waiter.fiber))
    }
}

impl Waiter {
    /// A wait of `fiber` in `queue`. If `may_end_early`, a timer or a cancellation may end it.
    #[inline(always)]
    pub(crate) fn new(fiber: &Fiber, queue: &Locked<'_>, tag: u8, may_end_early: bool) -> Waiter {
        Waiter {
            fiber,
            queue: queue.queue,
            prev: Cell::new(null()),
            next: Cell::new(null()),
            place: AtomicU8::new(OUT),
            may_end_early,
            ended: Cell::new(Ok(())),
            tag,
            epoch: epoch(),
        }
    }

    /// The result of the wait, once it has ended.
    #[inline(always)]
    pub(crate) fn result(&self) -> Result<(), Errno> {
        self.ended.get()
    }

    /// Takes the node out of its queue with the result `why`. Returns false if a waker was faster.
    /// Call it on the worker of the waiting fiber.
    pub(crate) fn end_early(&self, why: Errno) -> bool {
        let mut backoff = Backoff::default();
        loop {
            if self.place.load(Ordering::Relaxed) == OUT
                || self
                    .place
                    .compare_exchange(QUEUED, EXPIRING, Ordering::Acquire, Ordering::Relaxed)
                    .is_err()
            {
                return false;
            }
            // SAFETY: no waker can take the node now, and an object with a node in its queue is not
            // destroyed.
            if let Some(mut queue) = unsafe { &*self.queue }.try_lock() {
                queue.unlink(self);
                self.place.store(OUT, Ordering::Relaxed);
                self.ended.set(Err(why));
                return true;
            }
            self.place.store(QUEUED, Ordering::Release);
            backoff.relax();
        }
    }
}
