//! Tests the wait table under loom, which tries every order of all atomic steps: `RUSTFLAGS="--cfg
//! loom" cargo test --release -p queue --test wait_table_model`. Without the flag this file is
//! empty.

#![cfg(loom)]

use loom::sync::atomic::{AtomicU32, Ordering, fence};
use loom::sync::{Arc, Condvar, Mutex};
use queue::WaitTable;
use queue::wait_table::{ANY, Node, Wake, Which};

/// Stands for a fiber: it is parked until it is woken.
#[derive(Clone)]
struct Sleeper(Arc<(Mutex<bool>, Condvar)>);

impl Sleeper {
    fn new() -> Self {
        Self(Arc::new((Mutex::new(false), Condvar::new())))
    }

    fn wait(&self) {
        let mut woken = self.0.0.lock().unwrap();
        while !*woken {
            woken = self.0.1.wait(woken).unwrap();
        }
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

/// A lock of one word. Two fibers enqueue, try again and park; each holder releases the lock
/// and then checks for waiters. A lost wake-up is a deadlock, which loom reports.
#[test]
fn no_wake_up_is_lost() {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(|| {
        let shared = Arc::new((WaitTable::<Sleeper>::new(), AtomicU32::new(1)));
        let fibers: Vec<_> = (0..2)
            .map(|_| {
                let shared = shared.clone();
                loom::thread::spawn(move || {
                    let (table, word) = &*shared;
                    let taken = || {
                        word.compare_exchange(0, 1, Ordering::Acquire, Ordering::Relaxed)
                            .is_ok()
                    };
                    while !taken() {
                        let node = Node::new(16, ANY, Sleeper::new());
                        // SAFETY: the node is dropped only after its wait has ended.
                        unsafe { table.enqueue(&node, false) };
                        let got = taken();
                        if got && table.cancel_wait(&node) {
                            break;
                        }
                        node.fiber.wait();
                        if got {
                            break;
                        }
                    }
                    release(table, word);
                })
            })
            .collect();
        release(&shared.0, &shared.1);
        for fiber in fibers {
            fiber.join().unwrap();
        }
    });
}

fn release(table: &WaitTable<Sleeper>, word: &AtomicU32) {
    word.swap(0, Ordering::Release);
    fence(Ordering::SeqCst);
    if table.may_wait(16) {
        table.wake(16, Which::First);
    }
}

/// A waiter times out while another task wakes it: exactly one of the two ends the wait.
#[test]
fn a_timeout_and_a_wake_never_both_end_a_wait() {
    loom::model(|| {
        let table = Arc::new(WaitTable::<Sleeper>::new());
        let node = Arc::new(Node::new(16, ANY, Sleeper::new()));
        // SAFETY: the node outlives the model's use of it.
        unsafe { table.enqueue(&node, false) };
        let waker = {
            let table = table.clone();
            loom::thread::spawn(move || table.wake_exactly(16, Which::First))
        };
        let timed_out = !node.claim().swap(true, Ordering::AcqRel);
        if timed_out {
            assert!(table.cancel_wait(&node));
        } else {
            node.fiber.wait();
        }
        assert_eq!(waker.join().unwrap(), usize::from(!timed_out));
    });
}
