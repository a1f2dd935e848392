//! A worker with nothing to run: it sleeps until its next timer, a completion in the shim or a
//! wake-up.
//!
//! To wake a thread on a CPU that sleeps takes the kernel 3 to 30 us, the latter in virtual
//! machines. So a worker that only others can wake looks out for that long before it sleeps,
//! provided that there is a CPU for each worker and that waits here have lately been that short: it
//! never spends more than the sleep costs, and hardly any where waits are long.
//!
//! Invariants: a worker announces its sleep before its last look for work (see inbox.rs), and
//! likewise whoever queues a fresh fiber queues it before looking for sleepers, so neither misses
//! the other. A worker is counted idle only while nothing of its own can end its sleep; when all
//! are, and nothing is on its way, the runtime is in a deadlock.

use crate::balance::LATELY;
use crate::deadlock;
use crate::timer::{self, NEVER};
use crate::worker::Worker;
use core::cell::Cell;
use core::sync::atomic::{AtomicUsize, Ordering, fence};
use rustix::thread::futex;

/// How long a worker sleeps before it looks whether it is part of a deadlock: long enough that a
/// healthy program, whose plain threads post to its fibers all the time, hardly ever looks.
const GRACE: u64 = 20_000_000;

/// Least time between two trims of deep stacks.
const TRIM_EVERY: u64 = 100_000_000;

/// How long a worker looks out at most.
const PATIENCE: u64 = 20_000;
/// Less is not worth the reading of the clock.
const LEAST_PATIENCE: u64 = 1_000;

/// Whether `workers` leave each other a CPU when one of them looks out.
pub(crate) fn may_look_out(workers: usize) -> bool {
    workers > 1
        && rustix::thread::sched_getaffinity(None)
            .is_ok_and(|cpus| cpus.count() as usize >= workers)
}

/// How long a worker looks out before its next sleep.
pub(crate) struct Patience(Cell<u64>);

impl Patience {
    pub(crate) const fn new() -> Patience {
        Patience(Cell::new(PATIENCE))
    }

    /// What was awaited came after `waited` nanoseconds.
    fn learn(&self, waited: u64) {
        self.0.set(if waited <= PATIENCE {
            PATIENCE
        } else {
            self.0.get() / 2
        });
    }
}

/// Looks out for something to do. Whether there is.
fn look_out(worker: &Worker, began: u64) -> bool {
    let patience = worker.patience.0.get();
    if patience < LEAST_PATIENCE {
        return false;
    }
    let runtime = worker.runtime();
    let inbox = &worker.remote.inbox;
    loop {
        for _ in 0..16 {
            if !inbox.is_empty() {
                return true;
            }
            core::hint::spin_loop();
        }
        if runtime.done.load(Ordering::Relaxed) || runtime.has_fresh_for(worker) {
            return true;
        }
        if timer::now() - began >= patience {
            return false;
        }
    }
}

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
    let others_only =
        || until == NEVER && worker.host.get().is_none_or(|host| host.in_flight() == 0);
    let looks_out = runtime.looks_out() && others_only();
    if looks_out {
        now = timer::now();
        if look_out(worker, now) {
            worker.patience.learn(0);
            return;
        }
    }
    let inbox = &worker.remote.inbox;
    inbox.announce_sleep();
    fence(Ordering::SeqCst);
    if !inbox.is_empty()
        || worker.remote.cancels.any()
        || runtime.done.load(Ordering::SeqCst)
        || runtime.has_fresh_for(worker)
    {
        inbox.awake();
        return;
    }
    // There are fresh fibers, but not for this worker yet (balance.rs).
    let declines = runtime.has_fresh();
    if declines || !others_only() {
        let timer = (until != NEVER).then(|| until.saturating_sub(now));
        let limit = declines.then_some(LATELY);
        worker.remote.declines.store(declines, Ordering::Relaxed);
        wait(worker, limit.into_iter().chain(timer).min());
        worker.remote.declines.store(false, Ordering::Relaxed);
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
    if looks_out {
        worker.patience.learn(timer::now() - now);
    }
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
            // Woken, timed out, interrupted or no longer announced: the scheduler looks around in
            // any case.
            let _ = futex::wait(
                worker.remote.inbox.futex(),
                futex::Flags::PRIVATE,
                1,
                limit.as_ref(),
            );
        }
    }
}
