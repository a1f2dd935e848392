//! Tests the inbox under loom, which tries the possible orders of all atomic steps:
//! `RUSTFLAGS="--cfg loom" cargo test --release -p queue --test inbox_model`. Without that flag
//! this file is empty.

#![cfg(loom)]

use loom::sync::{Arc, Condvar, Mutex};
use queue::{Inbox, Link};
use std::cell::Cell;
use std::ptr::null_mut;

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

/// Two senders and one owner that sleeps when it finds nothing. A lost wake-up is a deadlock,
/// which loom reports.
#[test]
fn no_wake_up_is_lost() {
    let mut model = loom::model::Builder::new();
    // Try every order with up to three preemptions. Trying all orders would take hours.
    model.preemption_bound = Some(3);
    model.check(|| {
        let inbox = Arc::new(Inbox::<Item>::default());
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
