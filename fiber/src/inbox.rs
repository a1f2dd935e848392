//! How other threads reach a worker: they send it fibers to make ready, and they end its sleep.
//!
//! The inbox is a stack linked through the nodes themselves, and its owner takes all of it at once.
//! Sending never allocates and never fails; a channel could not guarantee that for
//! `fiber_sem_post`.
//!
//! Invariant (no lost wake-up): the owner announces its sleep and then checks the inbox once more;
//! a sender sends and then withdraws the announcement. Both change the same word by a swap, so the
//! one that comes second sees everything that the first did before its swap. tests/inbox_model.rs
//! runs the tests below under loom.

use core::ptr::null_mut;

#[cfg(not(all(loom, test)))]
use core::sync::atomic::{AtomicPtr, AtomicU32, Ordering};
#[cfg(all(loom, test))]
use loom::sync::atomic::{AtomicPtr, AtomicU32, Ordering};

/// A node that can be in one inbox at a time.
pub(crate) trait Node {
    fn next(&self) -> *mut Self;
    fn set_next(&self, next: *mut Self);
}

/// The nodes that other threads have sent to one owner.
pub(crate) struct Inbox<N> {
    top: AtomicPtr<N>,
    /// 1 while the owner sleeps or is about to. The owner sleeps on it as a futex.
    sleeping: AtomicU32,
}

impl<N: Node> Inbox<N> {
    pub(crate) fn new() -> Self {
        Inbox {
            top: AtomicPtr::new(null_mut()),
            sleeping: AtomicU32::new(0),
        }
    }

    /// Sends `node`. Returns whether the caller must wake the owner.
    ///
    /// # Safety
    /// The node stays valid until it is taken, and no other code uses its link.
    pub(crate) unsafe fn send(&self, node: *mut N) -> bool {
        let mut top = self.top.load(Ordering::Relaxed);
        loop {
            // SAFETY: the caller hands the node's link over to us.
            unsafe { (*node).set_next(top) };
            match self
                .top
                .compare_exchange_weak(top, node, Ordering::SeqCst, Ordering::Relaxed)
            {
                Ok(_) => return self.rouse(),
                Err(now) => top = now,
            }
        }
    }

    /// Ends the owner's sleep, or prevents the sleep that it is about to begin. Returns whether the
    /// caller must wake the owner.
    pub(crate) fn rouse(&self) -> bool {
        // Do not check with a load first: it could read an outdated 0.
        self.sleeping.swap(0, Ordering::AcqRel) != 0
    }

    #[inline(always)]
    pub(crate) fn is_empty(&self) -> bool {
        self.top.load(Ordering::Acquire).is_null()
    }

    /// Returns whether the owner sleeps or is about to.
    pub(crate) fn is_sleeping(&self) -> bool {
        self.sleeping.load(Ordering::SeqCst) != 0
    }

    /// Takes all nodes and passes each to `each` in the order in which they were sent. Only the
    /// owner may call this.
    pub(crate) fn take(&self, mut each: impl FnMut(*mut N)) {
        let mut node = self.top.swap(null_mut(), Ordering::Acquire);
        let mut first = null_mut();
        // SAFETY: taken nodes are ours until we pass them on, and senders keep them valid.
        unsafe {
            while !node.is_null() {
                let next = (*node).next();
                (*node).set_next(first);
                first = node;
                node = next;
            }
            while !first.is_null() {
                let next = (*first).next();
                each(first);
                first = next;
            }
        }
    }

    /// Announces a sleep. The owner then checks for work once more. If there is none, it sleeps
    /// while the futex is 1.
    pub(crate) fn announce_sleep(&self) {
        self.sleeping.swap(1, Ordering::AcqRel);
    }

    /// Marks the owner as awake.
    pub(crate) fn awake(&self) {
        self.sleeping.store(0, Ordering::Release);
    }

    /// The futex that the owner sleeps on while it is 1.
    #[cfg(not(all(loom, test)))]
    pub(crate) fn futex(&self) -> &AtomicU32 {
        &self.sleeping
    }

    /// In a forked child: drops everything that was sent.
    #[cfg(not(all(loom, test)))]
    pub(crate) fn forget(&self) {
        self.top.store(null_mut(), Ordering::Relaxed);
        self.sleeping.store(0, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::cell::Cell;

    struct Item {
        next: Cell<*mut Item>,
        number: u32,
    }

    impl Node for Item {
        fn next(&self) -> *mut Item {
            self.next.get()
        }
        fn set_next(&self, next: *mut Item) {
            self.next.set(next);
        }
    }

    fn item(number: u32) -> *mut Item {
        Box::into_raw(Box::new(Item {
            next: Cell::new(null_mut()),
            number,
        }))
    }

    /// Takes all items and frees them.
    fn numbers(inbox: &Inbox<Item>) -> Vec<u32> {
        let mut got = Vec::new();
        // SAFETY: items are boxes, and the one that takes an item owns it.
        inbox.take(|i| got.push(unsafe { Box::from_raw(i) }.number));
        got
    }

    #[cfg(not(loom))]
    #[test]
    fn takes_in_the_order_sent() {
        let inbox = Inbox::new();
        assert!(inbox.is_empty());
        for i in 0..5 {
            // SAFETY: the item was just created.
            assert!(!unsafe { inbox.send(item(i)) });
        }
        assert_eq!(numbers(&inbox), [0, 1, 2, 3, 4]);
        inbox.announce_sleep();
        // SAFETY: the item was just created.
        assert!(unsafe { inbox.send(item(9)) }, "the first sender wakes");
        // SAFETY: the item was just created.
        assert!(!unsafe { inbox.send(item(10)) }, "the second need not");
        assert_eq!(numbers(&inbox), [9, 10]);
    }

    /// Two senders and one owner that sleeps when it finds nothing. A lost wake-up is a deadlock,
    /// which loom reports.
    #[cfg(loom)]
    #[test]
    fn no_wake_up_is_lost() {
        use loom::sync::{Arc, Condvar, Mutex};
        let mut model = loom::model::Builder::new();
        // Try every order with up to three preemptions. Trying all orders would take hours.
        model.preemption_bound = Some(3);
        model.check(|| {
            let inbox = Arc::new(Inbox::<Item>::new());
            // Models the futex: a thread sleeps while `sleeping` is 1, and is woken under the lock.
            let futex = Arc::new((Mutex::new(()), Condvar::new()));
            let senders: Vec<_> = (0..2)
                .map(|i| {
                    let (inbox, futex) = (inbox.clone(), futex.clone());
                    loom::thread::spawn(move || {
                        // SAFETY: the item was just created.
                        if unsafe { inbox.send(item(i)) } {
                            let _held = futex.0.lock().unwrap();
                            futex.1.notify_one();
                        }
                    })
                })
                .collect();
            let mut got = numbers(&inbox);
            while got.len() < 2 {
                inbox.announce_sleep();
                if inbox.is_empty() {
                    let mut held = futex.0.lock().unwrap();
                    while inbox.is_sleeping() {
                        held = futex.1.wait(held).unwrap();
                    }
                }
                inbox.awake();
                got.extend(numbers(&inbox));
            }
            got.sort();
            assert_eq!(got, [0, 1]);
            for s in senders {
                s.join().unwrap();
            }
        });
    }
}
