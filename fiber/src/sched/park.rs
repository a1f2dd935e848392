//! Parking: the wait queue inside every blocking object, and how a fiber leaves it.
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

use crate::clock::{Instant, NEVER};
use crate::errno::Errno;
use crate::launch::fork;
use crate::record::fiber::{Fiber, Waits};
use crate::sched::switching as sched;
use crate::worker::state::Worker;
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
    ends_early: bool,
    /// The result of the wait.
    ended: Cell<Result<(), Errno>>,
    /// Data of the object about this waiter: whether it is a reader or a writer.
    pub tag: u8,
    /// The fork epoch when the wait began. In a forked child, nodes of earlier epochs belong to
    /// fibers that do not exist there.
    epoch: u32,
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
        // SAFETY: the fiber of a queued node is parked, so the stack that holds the node exists; we
        // hold the lock.
        match unsafe { last.as_ref() } {
            Some(last) => last.next.set(waiter),
            None => queue.head.set(waiter),
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
            if waiter.epoch == fork::epoch() {
                return Some(waiter);
            }
            self.unlink(waiter);
        }
    }

    /// Unlinks a node for a waker. Once it is out, its timer no longer touches the queue.
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

    /// Makes the fiber ready. Do not call this while holding the queue's lock: the object may be
    /// freed as soon as the fiber runs.
    #[inline]
    pub(crate) fn wake(self) {
        // SAFETY: the fiber is parked, and taking it out of the queue made us its only waker.
        unsafe { sched::make_ready(self.0) };
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

    /// Makes all fibers ready. Do not call this while holding the queue's lock.
    pub(crate) fn wake(self) {
        let mut at = self.first;
        while let Some(waiter) = at {
            // Read the link first: the node is gone as soon as its fiber runs.
            // SAFETY: the links of a chain are nodes of fibers that are still parked.
            at = unsafe { waiter.next.get().as_ref() };
            Woken(waiter.fiber).wake();
        }
    }
}

/// Parks the running fiber in the locked queue until it is woken. Returns `ETIMEDOUT` if `until`
/// passes first. At a cancellation point, returns `ECANCELED` if the fiber is cancelled.
///
/// Calls `between` when the fiber is queued and the queue is unlocked, before switching away.
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

/// Ends the wait of `fiber`, whose timer expired, unless a waker was faster. Runs on the worker of
/// `fiber`.
pub(crate) fn time_out(fiber: &Fiber) {
    // SAFETY: the pointer is set only while the fiber is parked, and the node lies on its stack.
    let waiter = unsafe { fiber.waiter.get().as_ref() };
    if waiter.is_none_or(|waiter| take_out(waiter, Errno::ETIMEDOUT)) {
        // SAFETY: the fiber is parked. Either we took it out of its queue or it was in none, so we
        // are its only waker.
        unsafe { sched::make_ready(fiber) };
    }
}

/// Ends the wait of `fiber` with `ECANCELED`. The wait must allow an early end. Runs on the worker
/// of `fiber`.
pub(crate) fn cancel(fiber: &Fiber) {
    // SAFETY: the pointer is set only while the fiber is parked, and the node lies on its stack.
    if let Some(waiter) = unsafe { fiber.waiter.get().as_ref() }
        && take_out(waiter, Errno::ECANCELED)
    {
        // SAFETY: the fiber is parked and we took it out of its queue. If its timer expires before
        // the fiber runs, the timer finds that it is in no queue.
        unsafe { sched::make_ready(fiber) };
    }
}

/// Takes a node out of its queue with the result `why`. Returns false if a waker was faster.
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
