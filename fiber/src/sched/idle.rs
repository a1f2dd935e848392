//! An idle worker: it sleeps until its next timer, a completion in the shim or a wake-up.
//!
//! Waking a thread on a sleeping CPU takes the kernel 3 to 30 us; virtual machines are at the upper
//! end. Therefore a worker that only other threads can wake spins for about that long before it
//! sleeps. It does so only if there is a CPU for each worker and if its recent waits were that
//! short. It never spins for longer than the sleep would cost, and hardly at all if waits are long.
//!
//! Invariants: a worker announces its sleep before it checks for work a last time (see the `queue`
//! crate). A thread that queues an unstarted fiber does so before it looks for sleeping workers, or
//! for a pause (worker/crowding.rs). Therefore neither misses the other. A worker counts as idle
//! only while nothing of its own can end its sleep. If all workers are idle and no wake-up is on
//! its way, the runtime is in a deadlock.

use crate::clock::{self, NEVER};
use crate::worker::load::SAMPLE_INTERVAL;
use crate::worker::state::Worker;
use core::sync::atomic::{Ordering, fence};
use rustix::thread::futex;

/// How long a worker sleeps before it checks for a deadlock. This is long enough that a healthy
/// program, in which plain threads keep posting to fibers, hardly ever runs the check.
const GRACE: u64 = 20_000_000;

/// The outcome of a check for a deadlock that did not find one.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Checked {
    NoDeadlock,
    /// Another worker was awake for a moment, perhaps for a check of its own. Check again later.
    TooEarly,
}

/// Spins until there is work or the time is up. Returns whether there is work.
fn spin(worker: &Worker, began: u64) -> bool {
    let Some(limit) = worker.spin_time().get() else {
        return false;
    };
    let runtime = worker.runtime();
    let inbox = worker.remote().inbox();
    loop {
        for _ in 0..16 {
            if !inbox.is_empty() {
                return true;
            }
            core::hint::spin_loop();
        }
        if runtime.may_be_done() || runtime.has_unstarted_for(worker) {
            return true;
        }
        if clock::now() - began >= limit {
            return false;
        }
    }
}

/// Sleeps until there may be work. Call it on the scheduler's stack, with nothing to run.
/// `check_deadlock` is that of [`run`](super::main_loop::run).
pub(crate) fn sleep(worker: &Worker, check_deadlock: fn(&Worker) -> Checked) {
    let runtime = worker.runtime();
    let until = worker.first_timer();
    let mut now = 0;
    if until != NEVER || !worker.was_trimmed() || worker.shim().is_none() {
        now = clock::now();
    }
    worker.trim_deep_stacks(now);
    let spins = runtime.spins_before_sleep() && until == NEVER && worker.in_flight() == 0;
    if spins {
        now = clock::now();
        if spin(worker, now) {
            worker.spin_time().record(0);
            return;
        }
    }
    let inbox = worker.remote().inbox();
    inbox.announce_sleep();
    fence(Ordering::SeqCst);
    if !inbox.is_empty()
        || worker.remote().cancel_requests().has_any()
        || runtime.is_done()
        || runtime.has_unstarted_for(worker)
    {
        inbox.awake();
        return;
    }
    // There are unstarted fibers, but this worker may not take them yet (worker/load.rs), or there
    // may soon be some that wake nobody (worker/crowding.rs).
    let pauses = runtime.pauses_offers();
    fence(Ordering::SeqCst);
    let refused = pauses || runtime.has_unstarted();
    // Memory for the stack of an unstarted fiber may become free at any time, and wakes nobody.
    let retries = worker.lacks_stack();
    if refused || retries || until != NEVER || !worker.waits_for_others_only() {
        let timer = (until != NEVER).then(|| until.saturating_sub(now));
        let limit = (refused || retries).then_some(SAMPLE_INTERVAL);
        worker.remote().set_refuses_steal(refused);
        wait(worker, limit.into_iter().chain(timer).min());
        worker.remote().set_refuses_steal(false);
        inbox.awake();
        return;
    }
    runtime.idle().enter();
    wait(worker, Some(GRACE));
    let still_asleep = || inbox.is_sleeping() && worker.ready().head().is_null();
    while still_asleep() && check_deadlock(worker) == Checked::TooEarly {
        wait(worker, Some(GRACE));
    }
    if still_asleep() {
        wait(worker, None);
    }
    runtime.idle().leave();
    inbox.awake();
    if spins {
        worker.spin_time().record(clock::now() - now);
    }
}

/// Sleeps for up to `ns` nanoseconds, unless the announcement of the sleep is withdrawn.
fn wait(worker: &Worker, ns: Option<u64>) {
    match worker.shim() {
        Some(shim) => shim.poll(ns.map_or(-1, |ns| i64::try_from(ns).unwrap_or(i64::MAX))),
        None => {
            let limit = ns.map(clock::to_timespec);
            // The wait may end by a wake-up, a timeout, a signal or because the announcement was
            // withdrawn. The scheduler checks for work in all these cases.
            let _ = futex::wait(
                worker.remote().inbox().futex(),
                futex::Flags::PRIVATE,
                1,
                limit.as_ref(),
            );
        }
    }
}
