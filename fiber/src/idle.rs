//! A worker with nothing to run: it sleeps until its next timer, a completion in the shim or a wake-up.
//!
//! Invariants: a worker announces its sleep before its last look for work (see inbox.rs), and likewise whoever queues a
//! fresh fiber queues it before looking for sleepers, so neither misses the other. A worker is counted idle only while
//! nothing of its own can end its sleep; when all are, and nothing is on its way, the runtime is in a deadlock.

use crate::deadlock;
use crate::timer::{self, NEVER};
use crate::worker::Worker;
use core::sync::atomic::{AtomicUsize, Ordering, fence};
use rustix::thread::futex;

/// How long a worker sleeps before it looks whether it is part of a deadlock: long enough that a healthy program, whose
/// plain threads post to its fibers all the time, hardly ever looks.
const GRACE: u64 = 20_000_000;

/// Least time between two trims of deep stacks.
const TRIM_EVERY: u64 = 100_000_000;

/// Workers of a runtime that only another thread can wake.
#[derive(Default)]
pub(crate) struct Idle {
    count: AtomicUsize,
    /// Counts the awakenings, so that a look around can tell that nobody woke meanwhile.
    wakeups: AtomicUsize,
}

impl Idle {
    /// A mark to compare later, when all `workers` are idle.
    pub(crate) fn all_asleep(&self, workers: usize) -> Option<usize> {
        let mark = self.wakeups.load(Ordering::SeqCst);
        (self.count.load(Ordering::SeqCst) == workers).then_some(mark)
    }

    fn enter(&self) {
        self.count.fetch_add(1, Ordering::SeqCst);
    }

    fn leave(&self) {
        self.wakeups.fetch_add(1, Ordering::SeqCst);
        self.count.fetch_sub(1, Ordering::SeqCst);
    }

    /// In a forked child: the caller is the only worker, and awake.
    pub(crate) fn forget(&self) {
        self.count.store(0, Ordering::Relaxed);
    }
}

/// Sleeps until there may be something to do. On the scheduler's stack, with nothing to run.
pub(crate) fn sleep(worker: &Worker) {
    let runtime = worker.runtime();
    let until = worker.timers.borrow().first();
    let mut now = 0;
    if until != NEVER || worker.trimmed_at.get() == 0 || worker.host.get().is_none() {
        now = timer::now();
    }
    if now.saturating_sub(worker.trimmed_at.get()) > TRIM_EVERY {
        worker.trimmed_at.set(now);
        worker.stacks.borrow_mut().trim_deep();
    }
    let inbox = &worker.remote.inbox;
    inbox.announce_sleep();
    fence(Ordering::SeqCst);
    if !inbox.is_empty() || runtime.done.load(Ordering::SeqCst) || runtime.has_fresh() {
        inbox.awake();
        return;
    }
    let on_others_only = until == NEVER && worker.host.get().is_none_or(|host| host.in_flight() == 0);
    if !on_others_only {
        wait(
            worker,
            if until == NEVER {
                None
            } else {
                Some(until.saturating_sub(now))
            },
        );
        inbox.awake();
        return;
    }
    runtime.idle.enter();
    wait(worker, Some(GRACE));
    if inbox.is_sleeping() && worker.ready.head().is_null() {
        deadlock::look(worker);
        wait(worker, None);
    }
    runtime.idle.leave();
    inbox.awake();
}

/// Sleeps up to `ns` nanoseconds while the announcement stands.
fn wait(worker: &Worker, ns: Option<u64>) {
    match worker.host.get() {
        Some(host) => host.poll(ns.map_or(-1, |ns| i64::try_from(ns).unwrap_or(i64::MAX))),
        None => {
            let limit = ns.map(|ns| rustix::fs::Timespec {
                tv_sec: (ns / 1_000_000_000) as i64,
                tv_nsec: (ns % 1_000_000_000) as _,
            });
            // Woken, timed out, interrupted or no longer announced: the scheduler looks around in any case.
            let _ = futex::wait(worker.remote.inbox.futex(), futex::Flags::PRIVATE, 1, limit.as_ref());
        }
    }
}
