//! An idle worker: it sleeps until its next timer, a completion in the shim or a wake-up.
//!
//! Waking a thread on a sleeping CPU takes the kernel 3 to 30 us; virtual machines are at the upper
//! end. Therefore a worker that only other threads can wake spins for about that long before it
//! sleeps. It does so only if there is a CPU for each worker and if its recent waits were that
//! short. It never spins for longer than the sleep would cost, and hardly at all if waits are long.
//!
//! Invariants: a worker announces its sleep before it checks for work a last time (see the `queue`
//! crate). A thread that queues a fresh fiber does so before it looks for sleeping workers.
//! Therefore neither misses the other. A worker counts as idle only while nothing of its own can
//! end its sleep. If all workers are idle and no wake-up is on its way, the runtime is in a
//! deadlock.

use crate::clock::{self, NEVER};
use crate::report::deadlock;
use crate::worker::load::LATELY;
use crate::worker::state::Worker;
use core::cell::Cell;
use core::sync::atomic::{AtomicUsize, Ordering, fence};
use rustix::thread::futex;

/// How long a worker sleeps before it checks for a deadlock. This is long enough that a healthy
/// program, in which plain threads keep posting to fibers, hardly ever runs the check.
const GRACE: u64 = 20_000_000;

/// Minimum time between two trims of deep stacks.
const TRIM_EVERY: u64 = 100_000_000;

/// Maximum time, in nanoseconds, that a worker spins.
const PATIENCE: u64 = 20_000;
/// A shorter spin is not worth reading the clock.
const LEAST_PATIENCE: u64 = 1_000;

/// Returns whether one of `workers` can spin without taking a CPU from another.
pub(crate) fn may_look_out(workers: usize) -> bool {
    workers > 1
        && rustix::thread::sched_getaffinity(None)
            .is_ok_and(|cpus| cpus.count() as usize >= workers)
}

/// How long a worker spins before its next sleep.
pub(crate) struct Patience(Cell<u64>);

impl Patience {
    pub(crate) const fn new() -> Patience {
        Patience(Cell::new(PATIENCE))
    }

    /// Records that a wait took `waited` nanoseconds.
    fn learn(&self, waited: u64) {
        self.0.set(if waited <= PATIENCE {
            PATIENCE
        } else {
            self.0.get() / 2
        });
    }
}

/// Spins until there is work or the time is up. Returns whether there is work.
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
        if clock::now() - began >= patience {
            return false;
        }
    }
}

/// Counts the workers of a runtime that only another thread can wake.
#[derive(Default)]
pub(crate) struct Idle {
    count: AtomicUsize,
    /// Counts the wake-ups. A deadlock check uses it to detect that a worker woke during the check.
    wakeups: AtomicUsize,
}

impl Idle {
    /// If all `workers` are idle, returns a mark that a later call can be compared with.
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

    /// In a forked child: the caller is the only worker, and it is awake.
    pub(crate) fn forget(&self) {
        self.count.store(0, Ordering::Relaxed);
    }
}

/// Sleeps until there may be work. Call it on the scheduler's stack, with nothing to run.
pub(crate) fn sleep(worker: &Worker) {
    let runtime = worker.runtime();
    let until = worker.timers.borrow().first();
    let mut now = 0;
    if until != NEVER || worker.trimmed_at.get() == 0 || worker.host.get().is_none() {
        now = clock::now();
    }
    if now.saturating_sub(worker.trimmed_at.get()) > TRIM_EVERY {
        worker.trimmed_at.set(now);
        worker.stacks.borrow_mut().trim_deep();
    }
    let others_only =
        || until == NEVER && worker.host.get().is_none_or(|host| host.in_flight() == 0);
    let looks_out = runtime.looks_out() && others_only();
    if looks_out {
        now = clock::now();
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
    // There are fresh fibers, but this worker may not take them yet (balance.rs).
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
        worker.patience.learn(clock::now() - now);
    }
}

/// Sleeps for up to `ns` nanoseconds, unless the announcement of the sleep is withdrawn.
fn wait(worker: &Worker, ns: Option<u64>) {
    match worker.host.get() {
        Some(host) => host.poll(ns.map_or(-1, |ns| i64::try_from(ns).unwrap_or(i64::MAX))),
        None => {
            let limit = ns.map(clock::to_timespec);
            // The wait may end by a wake-up, a timeout, a signal or because the announcement was
            // withdrawn. The scheduler checks for work in all these cases.
            let _ = futex::wait(
                worker.remote.inbox.futex(),
                futex::Flags::PRIVATE,
                1,
                limit.as_ref(),
            );
        }
    }
}
