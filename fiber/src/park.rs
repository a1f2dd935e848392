//! Parking: the wait queue every blocking object begins with, and how a fiber leaves it.
//!
//! A waiter is a node on the waiting fiber's own stack, so waiting never allocates. The queue's
//! word holds a lock bit, a bit that says whether anyone waits, and above them the object's own
//! state: an object changes state and finds that nobody waits in one atomic step, and touches
//! nothing afterwards. That matters, for its memory may be gone by then (a semaphore is often
//! destroyed by the one that waited for it).
//!
//! Invariant: a node is taken out of its queue under the lock, by exactly one: a waker, the fiber's
//! timer or whoever cancels it, on the fiber's worker as the timer is. Whoever took it makes the
//! fiber ready once, after unlocking. The fiber runs on its own worker only, and only after it has
//! switched away, so nothing is lost when the waker is faster than the park.
//!
//! A timer comes from the node to the object, and the object may be gone as soon as a waker has
//! taken the node. So the timer first holds the node (QUEUED to EXPIRING), which keeps wakers from
//! taking it and thus the object in existence, and then only tries the queue's lock: a waker that
//! holds that one and wants the node goes first.

use crate::errno::Errno;
use crate::fiber::{Fiber, Waits};
use crate::fork;
use crate::sched;
use crate::spin::Backoff;
use crate::timer::{Instant, NEVER};
use crate::worker::Worker;
use core::cell::Cell;
use core::ptr::null;
use core::sync::atomic::{AtomicU8, AtomicU64, Ordering};

/// Somebody is changing the queue.
pub(crate) const LOCKED: u64 = 1;
/// The queue is not empty.
pub(crate) const WAITERS: u64 = 2;
/// Where an object's own state begins.
pub(crate) const STATE_SHIFT: u32 = 2;

/// Waiting fibers in order, and the object's state. All zero is an empty queue in state 0.
#[repr(C)]
pub(crate) struct Queue {
    pub word: AtomicU64,
    head: Cell<*const Waiter>,
    tail: Cell<*const Waiter>,
}

// SAFETY: the cells are only used under the lock bit.
unsafe impl Sync for Queue {}
// SAFETY: as above; nodes are reached from any thread, and `Waiter` says what each may touch.
unsafe impl Send for Queue {}

/// One fiber's wait.
pub(crate) struct Waiter {
    fiber: *const Fiber,
    queue: *const Queue,
    prev: Cell<*const Waiter>,
    next: Cell<*const Waiter>,
    place: AtomicU8,
    /// A timer may end the wait, or a cancellation.
    ends_early: bool,
    /// How it ended.
    ended: Cell<Result<(), Errno>>,
    /// What an object wants to know of a waiter: reader or writer.
    pub tag: u8,
    /// The process that waits: a forked child's copy of the queue names fibers that do not exist
    /// there.
    epoch: u32,
}

/// In no queue.
const OUT: u8 = 0;
/// In its queue.
const QUEUED: u8 = 1;
/// In its queue, and its timer is about to take it out.
const EXPIRING: u8 = 2;

impl Queue {
    pub(crate) const fn new(state: u64) -> Queue {
        Queue {
            word: AtomicU64::new(state << STATE_SHIFT),
            head: Cell::new(null()),
            tail: Cell::new(null()),
        }
    }

    /// Locks the queue.
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

/// A locked queue. Unlocking publishes [`Locked::word`] and whether anyone waits.
pub(crate) struct Locked<'a> {
    queue: &'a Queue,
    /// The object's state, the two low bits zero.
    pub word: u64,
}

impl Locked<'_> {
    pub(crate) fn is_empty(&self) -> bool {
        self.queue.head.get().is_null()
    }

    /// The object's state.
    pub(crate) fn state(&self) -> u64 {
        self.word >> STATE_SHIFT
    }

    pub(crate) fn set_state(&mut self, state: u64) {
        self.word = state << STATE_SHIFT;
    }

    fn push(&mut self, waiter: &Waiter) {
        let queue = self.queue;
        let last = queue.tail.replace(waiter);
        waiter.prev.set(last);
        waiter.next.set(null());
        waiter.place.store(QUEUED, Ordering::Relaxed);
        // SAFETY: a queued node's fiber is parked, so the stack it lies on stays; the lock is held.
        match unsafe { last.as_ref() } {
            Some(last) => last.next.set(waiter),
            None => queue.head.set(waiter),
        }
    }

    fn unlink(&mut self, waiter: &Waiter) {
        let queue = self.queue;
        let (prev, next) = (waiter.prev.get(), waiter.next.get());
        // SAFETY: a queued node's fiber is parked, so the stack it lies on stays; the lock is held.
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

    /// The tag of the first in the queue.
    pub(crate) fn first_tag(&mut self) -> Option<u8> {
        self.first().map(|w| w.tag)
    }

    /// The first in the queue that still exists.
    fn first(&mut self) -> Option<&'static Waiter> {
        loop {
            // SAFETY: as in `unlink`; in a forked child the stacks of fibers left behind stay
            // mapped.
            let waiter = unsafe { self.queue.head.get().as_ref() }?;
            if waiter.epoch == fork::epoch() {
                return Some(waiter);
            }
            self.unlink(waiter);
        }
    }

    /// Unlinks a node for a waker: once it is out, its timer leaves the queue alone.
    fn take_out(&mut self, waiter: &Waiter) {
        let mut backoff = Backoff::default();
        while waiter.ends_early
            && waiter
                .place
                .compare_exchange(QUEUED, OUT, Ordering::Acquire, Ordering::Relaxed)
                .is_err()
        {
            backoff.relax();
        }
        self.unlink(waiter);
    }

    /// Takes the first out of the queue: the caller makes it ready after unlocking.
    pub(crate) fn pop(&mut self) -> Option<Woken> {
        let waiter = self.first()?;
        self.take_out(waiter);
        Some(Woken(waiter.fiber))
    }

    /// Takes all out of the queue.
    pub(crate) fn pop_all(&mut self) -> Chain {
        let mut chain = Chain::default();
        while let Some(waiter) = self.first() {
            self.take_out(waiter);
            chain.push(waiter);
        }
        chain
    }

    /// Takes the first out of the queue and adds it to `chain`.
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

/// A fiber taken out of a queue, not yet ready.
#[must_use]
pub(crate) struct Woken(*const Fiber);

impl Woken {
    pub(crate) fn fiber(&self) -> &'static Fiber {
        // SAFETY: records are never unmapped.
        unsafe { &*self.0 }
    }

    /// Makes it ready. Not under the queue's lock: the object may be gone as soon as the fiber
    /// runs.
    #[inline]
    pub(crate) fn wake(self) {
        // SAFETY: the fiber is parked, and taking it out of the queue made us its only waker.
        unsafe { sched::make_ready(self.0) };
    }
}

/// Fibers taken out of a queue, in order, linked through their nodes.
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

    /// Makes all of them ready. Not under the queue's lock.
    pub(crate) fn wake(self) {
        let mut at = self.first;
        while let Some(waiter) = at {
            // The node is gone as soon as its fiber runs.
            // SAFETY: links of a chain are nodes of fibers still parked.
            at = unsafe { waiter.next.get().as_ref() };
            Woken(waiter.fiber).wake();
        }
    }
}

/// Parks the running fiber in the locked queue until it is taken out, `until` has come
/// (`ETIMEDOUT`) or, at a cancellation point, the fiber is cancelled (`ECANCELED`).
///
/// `between` runs after the fiber is queued and the queue unlocked, before it switches away.
#[inline]
pub(crate) fn wait(
    worker: &Worker,
    mut queue: Locked<'_>,
    what: Waits,
    tag: u8,
    until: Instant,
    between: impl FnOnce(),
) -> Result<(), Errno> {
    let me = worker.running();
    let is_point = matches!(what, Waits::Cond | Waits::Semaphore);
    let waiter = Waiter {
        fiber: me,
        queue: queue.queue,
        prev: Cell::new(null()),
        next: Cell::new(null()),
        place: AtomicU8::new(OUT),
        ends_early: until != NEVER || is_point,
        ended: Cell::new(Ok(())),
        tag,
        epoch: fork::epoch(),
    };
    me.set_waits(what, (&raw const *queue.queue).cast());
    queue.push(&waiter);
    drop(queue);
    if until == NEVER {
        me.waiter.set(&waiter);
        between();
        sched::park(worker);
        me.waiter.set(null());
        return waiter.ended.get();
    }
    me.waiter.set(&waiter);
    worker.timers.borrow_mut().set(me, until);
    between();
    sched::park(worker);
    worker.timers.borrow_mut().cancel(me);
    me.waiter.set(null());
    waiter.ended.get()
}

/// The timer of `fiber` went off on its worker: ends its wait, unless a waker was faster.
pub(crate) fn time_out(fiber: &Fiber) {
    // SAFETY: set while the fiber is parked, and the node lies on its stack.
    let waiter = unsafe { fiber.waiter.get().as_ref() };
    if waiter.is_none_or(|waiter| take_out(waiter, Errno::ETIMEDOUT)) {
        // SAFETY: parked; out of its queue by our hand or in none, so we are its only waker.
        unsafe { sched::make_ready(fiber) };
    }
}

/// Ends the wait of `fiber`, which can be ended early, with `ECANCELED`. On its worker.
pub(crate) fn cancel(fiber: &Fiber) {
    // SAFETY: as in `time_out`.
    if let Some(waiter) = unsafe { fiber.waiter.get().as_ref() }
        && take_out(waiter, Errno::ECANCELED)
    {
        // SAFETY: as in `time_out`; a timer that goes off before the fiber runs finds it out of its
        // queue.
        unsafe { sched::make_ready(fiber) };
    }
}

/// Takes a node out of its queue for a reason; false if a waker was faster.
fn take_out(waiter: &Waiter, why: Errno) -> bool {
    let mut backoff = Backoff::default();
    loop {
        if waiter.place.load(Ordering::Relaxed) == OUT
            || waiter
                .place
                .compare_exchange(QUEUED, EXPIRING, Ordering::Acquire, Ordering::Relaxed)
                .is_err()
        {
            return false;
        }
        // SAFETY: no waker can take the node now, and an object with a node in its queue is not
        // destroyed.
        if let Some(mut queue) = unsafe { &*waiter.queue }.try_lock() {
            queue.unlink(waiter);
            waiter.place.store(OUT, Ordering::Relaxed);
            waiter.ended.set(Err(why));
            return true;
        }
        waiter.place.store(QUEUED, Ordering::Release);
        backoff.relax();
    }
}
