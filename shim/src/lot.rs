//! The lot: a table of wait queues, keyed by the address of a lock of the program. Fibers park
//! here, in order, while they wait for the lock (compare WebKit's and parking_lot's parking lot).
//!
//! The lock itself remains in libc's memory and format; the lot only knows its waiters. A waiter
//! enqueues itself, tries the lock once more, and then parks. A task that releases a lock changes
//! its memory and then checks whether there are waiters. Each side has a full barrier between its
//! two steps, so at least one of them sees the other's change and no wake-up is lost.
//! tests/lot_model.rs runs this file under loom.
//!
//! A wake never blocks, allocates no memory, and touches only the memory of the lot and the
//! waiters, because sem_post(3) may be called in a signal handler and hooks may run inside a
//! preloaded malloc. If a waker finds a bucket locked, it sets a flag ([`Bucket::missed`]), and the
//! bucket's holder then wakes all waiters of the bucket. Therefore a waiter may be woken
//! spuriously, and must check its lock again.
//!
//! Invariant: a node is on its fiber's stack. It is linked from `enqueue` until it is unlinked
//! under the bucket's lock. The task that sets a node's claim first ends the wait; a node claimed
//! by a waker belongs to that waker until it lands it.

use core::cell::Cell;
use core::ptr::null;

#[cfg(not(all(loom, test)))]
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering, fence};
#[cfg(all(loom, test))]
use loom::sync::atomic::{AtomicBool, AtomicU32, Ordering, fence};

/// How to resume a waiter.
pub trait Land: Sized {
    /// Ends the wait of `node`'s fiber. Called from any thread; does not block or allocate memory.
    ///
    /// # Safety
    /// The caller has set the node's claim and unlinked it from the lot. The callee now owns its
    /// link.
    unsafe fn land(node: *const Node<Self>);
}

/// One waiter.
pub struct Node<L> {
    key: usize,
    /// Bits that tell this waiter from others under the same key.
    mark: u32,
    claim: AtomicBool,
    queued: Cell<bool>,
    next: Cell<*const Node<L>>,
    previous: Cell<*const Node<L>>,
    pub fiber: L,
}

/// The mark of an ordinary waiter.
pub const ANY: u32 = u32::MAX;
/// The marks of waiters for a lock that several tasks may hold: shared, or exclusively.
pub const SHARED: u32 = 1;
pub const ALONE: u32 = 2;

/// Which waiters to wake.
#[derive(Clone, Copy)]
pub enum Which {
    First,
    All,
    /// The first waiter and, if it is [`SHARED`], all other shared ones.
    Turn,
    /// At most this many of the waiters that have a bit of this mark.
    Marked(usize, u32),
}

impl<L> Node<L> {
    pub fn new(key: usize, mark: u32, fiber: L) -> Self {
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

    pub fn claim(&self) -> &AtomicBool {
        &self.claim
    }

    /// The link, which belongs to the task that unlinked the node.
    pub fn next(&self) -> *const Self {
        self.next.get()
    }

    pub fn set_next(&self, next: *const Self) {
        self.next.set(next);
    }
}

/// The waiters under all keys with the same hash.
#[repr(align(64))]
struct Bucket<L> {
    held: AtomicBool,
    /// A waker found the bucket locked; its holder must wake all waiters.
    missed: AtomicBool,
    /// The number of linked nodes.
    waiting: AtomicU32,
    first: Cell<*const Node<L>>,
    last: Cell<*const Node<L>>,
}

/// Nodes that are unlinked and claimed, in order, to be landed after the bucket is unlocked.
struct Chain<L> {
    first: *const Node<L>,
    last: *const Node<L>,
    len: usize,
}

#[cfg(not(all(loom, test)))]
const BUCKETS: usize = 256;
#[cfg(all(loom, test))]
const BUCKETS: usize = 1;

pub struct Lot<L>([Bucket<L>; BUCKETS]);

// SAFETY: the lists are only touched under their bucket's lock, and a node's claim decides which
// task may land it.
unsafe impl<L> Sync for Lot<L> {}

impl<L: Land> Lot<L> {
    #[cfg(not(all(loom, test)))]
    pub const fn new() -> Self {
        Self([const { Bucket::new() }; BUCKETS])
    }

    #[cfg(all(loom, test))]
    pub fn new() -> Self {
        Self([Bucket::new()])
    }

    #[inline(always)]
    fn bucket(&self, key: usize) -> &Bucket<L> {
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
    /// The node stays in place until it is withdrawn or landed.
    pub unsafe fn enqueue(&self, node: &Node<L>, again: bool) {
        let bucket = self.bucket(node.key);
        bucket.lock();
        bucket.link(node, again);
        bucket.unlock();
        fence(Ordering::SeqCst);
    }

    /// Unlinks a node that need not wait any more. Returns false if a waker has claimed it; that
    /// waker will land it.
    pub fn withdraw(&self, node: &Node<L>) -> bool {
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
            chain.land();
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
        chain.land()
    }
}

impl<L: Land> Chain<L> {
    /// Ends the waits of the chain's nodes and returns their number.
    fn land(self) -> usize {
        let mut node = self.first;
        for _ in 0..self.len {
            // SAFETY: we have claimed and unlinked the node, so its fiber stays parked until we
            // land it.
            unsafe {
                let next = (*node).next.get();
                L::land(node);
                node = next;
            }
        }
        self.len
    }
}

impl<L: Land> Bucket<L> {
    #[cfg(not(all(loom, test)))]
    const fn new() -> Self {
        Self {
            held: AtomicBool::new(false),
            missed: AtomicBool::new(false),
            waiting: AtomicU32::new(0),
            first: Cell::new(null()),
            last: Cell::new(null()),
        }
    }

    #[cfg(all(loom, test))]
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
        let mut turns = 0;
        while !self.try_lock() {
            turns += 1;
            relax(turns);
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
            chain.land();
            // A waker sets the flag and then tries to lock. This unlocks and then checks the flag.
            fence(Ordering::SeqCst);
            if !self.missed.load(Ordering::SeqCst) || !self.try_lock() {
                return;
            }
        }
    }

    fn link(&self, node: &Node<L>, at_head: bool) {
        let at: *const Node<L> = node;
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

    fn unlink(&self, node: &Node<L>) {
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
    fn take(&self, ours: impl Fn(&Node<L>) -> bool, which: Which) -> Chain<L> {
        let mut chain = Chain::new();
        let (mut most, mut mask) = match which {
            Which::First => (1, ANY),
            Which::All | Which::Turn => (usize::MAX, ANY),
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
            if matches!(which, Which::Turn) && chain.len == 0 {
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

impl<L> Chain<L> {
    fn new() -> Self {
        Self {
            first: null(),
            last: null(),
            len: 0,
        }
    }

    fn push(&mut self, node: &Node<L>) {
        node.next.set(null());
        // SAFETY: we have claimed the nodes in the chain, and have not landed them yet.
        match unsafe { self.last.as_ref() } {
            Some(last) => last.next.set(node),
            None => self.first = node,
        }
        self.last = node;
        self.len += 1;
    }
}

/// Waits briefly for a bucket: spins at first, then yields the CPU to other threads.
#[cold]
fn relax(turns: u32) {
    #[cfg(all(loom, test))]
    loom::thread::yield_now();
    #[cfg(not(all(loom, test)))]
    if turns < 64 {
        core::hint::spin_loop();
    } else {
        rustix::thread::sched_yield();
    }
    let _ = turns;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(loom)]
    use loom::sync::{Arc, Condvar, Mutex};
    #[cfg(not(loom))]
    use std::sync::{Arc, Condvar, Mutex};

    /// Stands for a fiber: it is parked until it is landed.
    #[derive(Clone)]
    struct Sleeper(Arc<(Mutex<bool>, Condvar)>);

    impl Sleeper {
        fn new() -> Self {
            Self(Arc::new((Mutex::new(false), Condvar::new())))
        }

        #[cfg(not(loom))]
        fn is_landed(&self) -> bool {
            *self.0.0.lock().unwrap()
        }

        #[cfg(loom)]
        fn wait(&self) {
            let mut landed = self.0.0.lock().unwrap();
            while !*landed {
                landed = self.0.1.wait(landed).unwrap();
            }
        }
    }

    impl Land for Sleeper {
        unsafe fn land(node: *const Node<Self>) {
            // SAFETY: the node is alive until it is landed.
            let sleeper = unsafe { &*node }.fiber.clone();
            *sleeper.0.0.lock().unwrap() = true;
            sleeper.0.1.notify_one();
        }
    }

    #[cfg(not(loom))]
    #[test]
    fn wakes_in_order_and_by_mark() {
        let lot = Lot::new();
        let nodes: Vec<_> = [
            (16, ALONE),
            (16, SHARED),
            (16, ALONE),
            (16, SHARED),
            (4096, ANY),
        ]
        .map(|(key, mark)| Node::new(key, mark, Sleeper::new()))
        .into();
        for node in &nodes {
            // SAFETY: the nodes outlive the lot's use of them.
            unsafe { lot.enqueue(node, false) };
        }
        let awake = || {
            nodes
                .iter()
                .map(|n| n.fiber.is_landed())
                .collect::<Vec<_>>()
        };
        lot.wake(16, Which::Turn);
        assert_eq!(awake(), [true, false, false, false, false]);
        lot.wake(16, Which::Turn);
        assert_eq!(awake(), [true, true, false, true, false]);
        assert!(
            !nodes[2].claim().swap(true, Ordering::AcqRel),
            "it has timed out"
        );
        assert_eq!(lot.wake_exactly(16, Which::First), 0);
        assert!(lot.withdraw(&nodes[2]));
        assert!(!lot.may_wait(16));
        assert_eq!(lot.wake_exactly(4096, Which::Marked(5, 1 << 7)), 1);
        assert!(!lot.withdraw(&nodes[4]));
    }

    #[cfg(not(loom))]
    #[test]
    fn a_waker_that_finds_the_bucket_held_leaves_a_note() {
        let lot = Lot::new();
        let node = Node::new(16, ANY, Sleeper::new());
        // SAFETY: the node outlives the lot's use of it.
        unsafe { lot.enqueue(&node, false) };
        lot.bucket(16).lock();
        lot.wake(16, Which::First);
        assert!(!node.fiber.is_landed());
        lot.bucket(16).unlock();
        assert!(node.fiber.is_landed());
    }

    /// A lock of one word. Two fibers enqueue, try again and park; each holder releases the lock
    /// and then checks for waiters. A lost wake-up is a deadlock, which loom reports.
    #[cfg(loom)]
    #[test]
    fn no_wake_up_is_lost() {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(3);
        model.check(|| {
            let shared = Arc::new((Lot::<Sleeper>::new(), AtomicU32::new(1)));
            let fibers: Vec<_> = (0..2)
                .map(|_| {
                    let shared = shared.clone();
                    loom::thread::spawn(move || {
                        let (lot, word) = &*shared;
                        let taken = || {
                            word.compare_exchange(0, 1, Ordering::Acquire, Ordering::Relaxed)
                                .is_ok()
                        };
                        while !taken() {
                            let node = Node::new(16, ANY, Sleeper::new());
                            // SAFETY: the node is withdrawn or landed before it is dropped.
                            unsafe { lot.enqueue(&node, false) };
                            let got = taken();
                            if got && lot.withdraw(&node) {
                                break;
                            }
                            node.fiber.wait();
                            if got {
                                break;
                            }
                        }
                        release(lot, word);
                    })
                })
                .collect();
            release(&shared.0, &shared.1);
            for fiber in fibers {
                fiber.join().unwrap();
            }
        });
    }

    #[cfg(loom)]
    fn release(lot: &Lot<Sleeper>, word: &AtomicU32) {
        word.swap(0, Ordering::Release);
        fence(Ordering::SeqCst);
        if lot.may_wait(16) {
            lot.wake(16, Which::First);
        }
    }

    /// A waiter times out while another task wakes it: exactly one of the two ends the wait.
    #[cfg(loom)]
    #[test]
    fn a_timeout_and_a_wake_never_both_end_a_wait() {
        loom::model(|| {
            let lot = Arc::new(Lot::<Sleeper>::new());
            let node = Arc::new(Node::new(16, ANY, Sleeper::new()));
            // SAFETY: the node outlives the model's use of it.
            unsafe { lot.enqueue(&node, false) };
            let waker = {
                let lot = lot.clone();
                loom::thread::spawn(move || lot.wake_exactly(16, Which::First))
            };
            let timed_out = !node.claim().swap(true, Ordering::AcqRel);
            if timed_out {
                assert!(lot.withdraw(&node));
            } else {
                node.fiber.wait();
            }
            assert_eq!(waker.join().unwrap(), usize::from(!timed_out));
        });
    }
}
