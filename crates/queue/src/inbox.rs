//! How other threads reach a thread that may sleep: they send it nodes, and they end its sleep.
//!
//! Invariant (no lost wake-up): the owner announces its sleep and then checks the inbox once more;
//! a sender sends and then withdraws the announcement. Both change the same word by a swap, so the
//! one that comes second sees everything that the first did before its swap.

use crate::atomic::{AtomicU32, Ordering};
use crate::mpsc::{Link, Mpsc};

/// The nodes that other threads have sent to one owner.
pub struct Inbox<N> {
    nodes: Mpsc<N>,
    /// 1 while the owner sleeps or is about to. The owner sleeps on it as a futex.
    sleeping: AtomicU32,
}

impl<N> Default for Inbox<N> {
    fn default() -> Self {
        Inbox {
            nodes: Mpsc::default(),
            sleeping: AtomicU32::new(0),
        }
    }
}

impl<N: Link> Inbox<N> {
    /// Sends `node`. Returns whether the caller must wake the owner.
    ///
    /// # Safety
    /// The node stays valid until it is taken, and no other code uses its link.
    #[inline]
    pub unsafe fn send(&self, node: *mut N) -> bool {
        // SAFETY: the caller makes the same promise.
        unsafe { self.nodes.push(node) };
        self.end_sleep()
    }

    /// Ends the owner's sleep, or prevents the sleep that it is about to begin. Returns whether the
    /// caller must wake the owner.
    #[inline]
    pub fn end_sleep(&self) -> bool {
        // Do not check with a load first: it could read an outdated 0.
        self.sleeping.swap(0, Ordering::AcqRel) != 0
    }

    /// Returns whether no node waits to be taken.
    #[inline(always)]
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Returns whether the owner sleeps or is about to.
    #[inline]
    pub fn is_sleeping(&self) -> bool {
        self.sleeping.load(Ordering::SeqCst) != 0
    }

    /// Takes all nodes and passes each to `each` in the order in which they were sent. Only the
    /// owner may call this.
    #[inline]
    pub fn take(&self, each: impl FnMut(*mut N)) {
        self.nodes.take(each);
    }

    /// Announces a sleep. The owner then checks for work once more. If there is none, it sleeps
    /// while the futex is 1.
    #[inline]
    pub fn announce_sleep(&self) {
        self.sleeping.swap(1, Ordering::AcqRel);
    }

    /// Marks the owner as awake.
    #[inline]
    pub fn awake(&self) {
        self.sleeping.store(0, Ordering::Release);
    }

    /// The futex that the owner sleeps on while it is 1.
    #[cfg(not(loom))]
    #[inline]
    pub fn futex(&self) -> &AtomicU32 {
        &self.sleeping
    }

    /// In a forked child: drops everything that was sent.
    pub fn forget(&self) {
        self.nodes.forget();
        self.sleeping.store(0, Ordering::Relaxed);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use core::cell::Cell;
    use core::ptr::null_mut;

    struct Item {
        next: Cell<*mut Item>,
        number: u32,
    }

    impl Link for Item {
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

    #[test]
    fn takes_in_the_order_sent() {
        let inbox = Inbox::default();
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
}
