//! A table of wait queues, keyed by the address of a lock. Fibers park here, in order, while they
//! wait for the lock. The idea is that of the parking lot of WebKit and of the parking_lot crate.
//!
//! The lock itself remains in its own memory and format; the table only knows its waiters. A waiter
//! enqueues itself, tries the lock once more, and then parks. A task that releases a lock changes
//! its memory and then checks whether there are waiters. Each side has a full barrier between its
//! two steps, so at least one of them sees the other's change and no wake-up is lost.
//! tests/wait_table_model.rs checks this under loom.
//!
//! A wake never blocks, allocates no memory, and touches only the memory of the table and the
//! waiters, because sem_post(3) may be called in a signal handler and hooks may run inside a
//! preloaded malloc. If a waker finds a bucket locked, it sets a flag (`Bucket::missed`), and the
//! bucket's holder then wakes all waiters of the bucket. Therefore a waiter may be woken
//! spuriously, and must check its lock again.
//!
//! Invariant: a node is on its fiber's stack. It is linked from `enqueue` until it is unlinked
//! under the bucket's lock. The task that sets a node's claim first ends the wait; a node claimed
//! by a waker belongs to that waker until [`Wake::wake`] is called with it.

use crate::atomic::{AtomicBool, AtomicU32, Ordering, fence};
use crate::backoff::Backoff;
use crate::mpsc::Link;
use core::cell::Cell;
use core::ptr::null;

/// How to resume a waiter.
pub trait Wake: Sized {
    /// Ends the wait of `node`'s fiber. Called from any thread; does not block or allocate memory.
    ///
    /// # Safety
    /// The caller has set the node's claim and unlinked it from the table. The callee now owns its
    /// link.
    unsafe fn wake(node: *const Node<Self>);
}

/// One waiter.
pub struct Node<W> {
    key: usize,
    /// Bits that tell this waiter from others under the same key.
    mark: u32,
    claim: AtomicBool,
    queued: Cell<bool>,
    next: Cell<*const Node<W>>,
    previous: Cell<*const Node<W>>,
    /// How to find the waiting fiber again.
    pub fiber: W,
}

/// The mark of an ordinary waiter.
pub const ANY: u32 = u32::MAX;
/// The marks of waiters for a lock that several tasks may hold: shared, or exclusively.
pub const SHARED: u32 = 1;
pub const EXCLUSIVE: u32 = 2;

/// Which waiters to wake.
#[derive(Clone, Copy)]
pub enum Which {
    /// The first waiter.
    First,
    /// All waiters.
    All,
    /// The first waiter and, if it is [`SHARED`], all other shared ones.
    FirstOrShared,
    /// At most this many of the waiters that have a bit of this mark.
    Marked(usize, u32),
}

impl<W> Node<W> {
    /// A waiter for the lock at the address `key`.
    pub fn new(key: usize, mark: u32, fiber: W) -> Self {
        Self {
            key,
            mark,
            claim: AtomicBool::new(false),
            queued: Cell::new(false),
            next: Cell::new(null()),
            previous: Cell::new(null()),
            fiber,
        }
    }

    /// Set by the task that ends the wait.
    pub fn claim(&self) -> &AtomicBool {
        &self.claim
    }
}

/// The link of an unlinked node belongs to the task that unlinked it.
impl<W> Link for Node<W> {
    fn next(&self) -> *mut Self {
        self.next.get().cast_mut()
    }

    fn set_next(&self, next: *mut Self) {
        self.next.set(next);
    }
}

/// The waiters under all keys with the same hash.
#[repr(align(64))]
struct Bucket<W> {
    held: AtomicBool,
    /// A waker found the bucket locked; its holder must wake all waiters.
    missed: AtomicBool,
    /// The number of linked nodes.
    waiting: AtomicU32,
    first: Cell<*const Node<W>>,
    last: Cell<*const Node<W>>,
}

/// Nodes that are unlinked and claimed, in order, to be woken after the bucket is unlocked.
struct Chain<W> {
    first: *const Node<W>,
    last: *const Node<W>,
    len: usize,
}

#[cfg(not(loom))]
const BUCKETS: usize = 256;
#[cfg(loom)]
const BUCKETS: usize = 1;

/// The wait queues of all locks.
pub struct WaitTable<W>([Bucket<W>; BUCKETS]);

// SAFETY: the lists are only touched under their bucket's lock, and a node's claim decides which
// task may wake it.
unsafe impl<W> Sync for WaitTable<W> {}

impl<W: Wake> WaitTable<W> {
    /// Creates a table without waiters.
    #[cfg(not(loom))]
    #[expect(clippy::new_without_default, reason = "a table belongs in a static")]
    pub const fn new() -> Self {
        Self([const { Bucket::new() }; BUCKETS])
    }

    /// Creates a table without waiters.
    #[cfg(loom)]
    #[expect(clippy::new_without_default, reason = "a table belongs in a static")]
    pub fn new() -> Self {
        Self([Bucket::new()])
    }

    #[inline(always)]
    fn bucket(&self, key: usize) -> &Bucket<W> {
        let hash = (key as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56;
        &self.0[hash as usize % BUCKETS]
    }

    /// Whether there may be waiters under `key`. Call it after the change that they wait for and a
    /// full barrier.
    #[inline(always)]
    pub fn may_wait(&self, key: usize) -> bool {
        self.bucket(key).waiting.load(Ordering::Relaxed) != 0
    }

    /// Enqueues the node, at the head of the queue if `again`. Ends with a full barrier.
    ///
    /// # Safety
    /// The node stays in place until it is woken, or its wait is cancelled.
    pub unsafe fn enqueue(&self, node: &Node<W>, again: bool) {
        let bucket = self.bucket(node.key);
        bucket.lock();
        bucket.link(node, again);
        bucket.unlock();
        fence(Ordering::SeqCst);
    }

    /// Unlinks a node that need not wait any more. Returns false if a waker has claimed it; that
    /// waker will wake it.
    pub fn cancel_wait(&self, node: &Node<W>) -> bool {
        let bucket = self.bucket(node.key);
        bucket.lock();
        let queued = node.queued.get();
        if queued {
            bucket.unlink(node);
        }
        bucket.unlock();
        queued
    }

    /// Wakes waiters. Never blocks, and may therefore wake more waiters than requested.
    #[cold]
    pub fn wake(&self, key: usize, which: Which) {
        let bucket = self.bucket(key);
        if bucket.try_lock() {
            let chain = bucket.take(|node| node.key == key, which);
            bucket.unlock();
            chain.wake();
            return;
        }
        bucket.missed.swap(true, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        if bucket.try_lock() {
            bucket.unlock();
        }
    }

    /// Wakes exactly the requested waiters, as far as there are any, and returns their number.
    /// Blocks while the bucket is locked.
    pub fn wake_exactly(&self, key: usize, which: Which) -> usize {
        let bucket = self.bucket(key);
        bucket.lock();
        let chain = bucket.take(|node| node.key == key, which);
        bucket.unlock();
        chain.wake()
    }
}

impl<W: Wake> Chain<W> {
    /// Ends the waits of the chain's nodes and returns their number.
    fn wake(self) -> usize {
        let mut node = self.first;
        for _ in 0..self.len {
            // SAFETY: we have claimed and unlinked the node, so its fiber stays parked until we
            // wake it.
            unsafe {
                let next = (*node).next.get();
                W::wake(node);
                node = next;
            }
        }
        self.len
    }
}

impl<W: Wake> Bucket<W> {
    #[cfg(not(loom))]
    const fn new() -> Self {
        Self {
            held: AtomicBool::new(false),
            missed: AtomicBool::new(false),
            waiting: AtomicU32::new(0),
            first: Cell::new(null()),
            last: Cell::new(null()),
        }
    }

    #[cfg(loom)]
    fn new() -> Self {
        Self {
            held: AtomicBool::new(false),
            missed: AtomicBool::new(false),
            waiting: AtomicU32::new(0),
            first: Cell::new(null()),
            last: Cell::new(null()),
        }
    }

    fn try_lock(&self) -> bool {
        !self.held.swap(true, Ordering::AcqRel)
    }

    /// Must not be called in a signal handler, which could have interrupted the holder.
    fn lock(&self) {
        let mut backoff = Backoff::default();
        while !self.try_lock() {
            backoff.relax();
        }
    }

    /// Unlocks the bucket, and wakes all waiters if a waker found it locked.
    fn unlock(&self) {
        loop {
            let missed = self.missed.swap(false, Ordering::SeqCst);
            let chain = if missed {
                self.take(|_| true, Which::All)
            } else {
                Chain::new()
            };
            self.held.swap(false, Ordering::AcqRel);
            chain.wake();
            // A waker sets the flag and then tries to lock. This unlocks and then checks the flag.
            fence(Ordering::SeqCst);
            if !self.missed.load(Ordering::SeqCst) || !self.try_lock() {
                return;
            }
        }
    }

    fn link(&self, node: &Node<W>, at_head: bool) {
        let at: *const Node<W> = node;
        let (next, previous) = if at_head {
            (self.first.get(), null())
        } else {
            (null(), self.last.get())
        };
        node.next.set(next);
        node.previous.set(previous);
        // SAFETY: linked nodes are alive (module invariant), and the caller holds the bucket's
        // lock.
        unsafe {
            match previous.as_ref() {
                Some(previous) => previous.next.set(at),
                None => self.first.set(at),
            }
            match next.as_ref() {
                Some(next) => next.previous.set(at),
                None => self.last.set(at),
            }
        }
        node.queued.set(true);
        self.waiting.fetch_add(1, Ordering::SeqCst);
    }

    fn unlink(&self, node: &Node<W>) {
        let (next, previous) = (node.next.get(), node.previous.get());
        // SAFETY: linked nodes are alive (module invariant), and the caller holds the bucket's
        // lock.
        unsafe {
            match previous.as_ref() {
                Some(previous) => previous.next.set(next),
                None => self.first.set(next),
            }
            match next.as_ref() {
                Some(next) => next.previous.set(previous),
                None => self.last.set(previous),
            }
        }
        node.queued.set(false);
        self.waiting.fetch_sub(1, Ordering::SeqCst);
    }

    /// Unlinks and claims waiters. Skips a waiter that has timed out; it unlinks itself.
    fn take(&self, ours: impl Fn(&Node<W>) -> bool, which: Which) -> Chain<W> {
        let mut chain = Chain::new();
        let (mut most, mut mask) = match which {
            Which::First => (1, ANY),
            Which::All | Which::FirstOrShared => (usize::MAX, ANY),
            Which::Marked(most, mask) => (most, mask),
        };
        let mut at = self.first.get();
        // SAFETY: linked nodes are alive (module invariant), and the caller holds the bucket's
        // lock.
        while let Some(node) = unsafe { at.as_ref() }
            && chain.len < most
        {
            at = node.next.get();
            if !ours(node) || node.mark & mask == 0 || node.claim.swap(true, Ordering::AcqRel) {
                continue;
            }
            if matches!(which, Which::FirstOrShared) && chain.len == 0 {
                (most, mask) = if node.mark == SHARED {
                    (usize::MAX, SHARED)
                } else {
                    (1, ANY)
                };
            }
            self.unlink(node);
            chain.push(node);
        }
        chain
    }
}

impl<W> Chain<W> {
    fn new() -> Self {
        Self {
            first: null(),
            last: null(),
            len: 0,
        }
    }

    fn push(&mut self, node: &Node<W>) {
        node.next.set(null());
        // SAFETY: we have claimed the nodes in the chain, and have not woken them yet.
        match unsafe { self.last.as_ref() } {
            Some(last) => last.next.set(node),
            None => self.first = node,
        }
        self.last = node;
        self.len += 1;
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    use std::sync::{Arc, Condvar, Mutex};

    /// Stands for a fiber: it is parked until it is woken.
    #[derive(Clone)]
    struct Sleeper(Arc<(Mutex<bool>, Condvar)>);

    impl Sleeper {
        fn new() -> Self {
            Self(Arc::new((Mutex::new(false), Condvar::new())))
        }

        fn is_woken(&self) -> bool {
            *self.0.0.lock().unwrap()
        }
    }

    impl Wake for Sleeper {
        unsafe fn wake(node: *const Node<Self>) {
            // SAFETY: the node is alive until it is woken.
            let sleeper = unsafe { &*node }.fiber.clone();
            *sleeper.0.0.lock().unwrap() = true;
            sleeper.0.1.notify_one();
        }
    }

    #[test]
    fn wakes_in_order_and_by_mark() {
        let table = WaitTable::new();
        let nodes: Vec<_> = [
            (16, EXCLUSIVE),
            (16, SHARED),
            (16, EXCLUSIVE),
            (16, SHARED),
            (4096, ANY),
        ]
        .map(|(key, mark)| Node::new(key, mark, Sleeper::new()))
        .into();
        for node in &nodes {
            // SAFETY: the nodes outlive the table's use of them.
            unsafe { table.enqueue(node, false) };
        }
        let awake = || nodes.iter().map(|n| n.fiber.is_woken()).collect::<Vec<_>>();
        table.wake(16, Which::FirstOrShared);
        assert_eq!(awake(), [true, false, false, false, false]);
        table.wake(16, Which::FirstOrShared);
        assert_eq!(awake(), [true, true, false, true, false]);
        assert!(
            !nodes[2].claim().swap(true, Ordering::AcqRel),
            "it has timed out"
        );
        assert_eq!(table.wake_exactly(16, Which::First), 0);
        assert!(table.cancel_wait(&nodes[2]));
        assert!(!table.may_wait(16));
        assert_eq!(table.wake_exactly(4096, Which::Marked(5, 1 << 7)), 1);
        assert!(!table.cancel_wait(&nodes[4]));
    }

    #[test]
    fn a_waker_that_finds_the_bucket_locked_sets_a_flag() {
        let table = WaitTable::new();
        let node = Node::new(16, ANY, Sleeper::new());
        // SAFETY: the node outlives the table's use of it.
        unsafe { table.enqueue(&node, false) };
        table.bucket(16).lock();
        table.wake(16, Which::First);
        assert!(!node.fiber.is_woken());
        table.bucket(16).unlock();
        assert!(node.fiber.is_woken());
    }
}
