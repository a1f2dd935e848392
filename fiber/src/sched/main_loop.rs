//! The scheduler's own context, which runs on the worker's thread stack: the work between rounds.
//!
//! Invariant: every switch back to this context sets the worker's current fiber to null.

use super::idle::Checked;
use super::switching::{pick, resume, round_length};
use super::{cancel, idle, interrupt};
use crate::clock::{self, NEVER};
use crate::worker::state::Worker;

/// Runs fibers until the last one of the runtime has ended. Calls `check_deadlock` if every worker
/// has been idle for a while; it does not return if the runtime is in a deadlock.
pub(crate) fn run(worker: &Worker, check_deadlock: fn(&Worker) -> Checked) {
    let runtime = worker.runtime();
    loop {
        worker.remote().inbox().take(|fiber| {
            // SAFETY: a fiber's only waker sent it, and it was just taken out, so it is in no list.
            unsafe { worker.ready().push(fiber) }
        });
        fire_timers(worker);
        if worker.remote().cancel_requests().has_any() {
            cancel::deliver(worker);
        }
        if worker.has_excess_stacks() {
            worker.trim_excess_stacks();
        }
        if let Some(shim) = worker.shim()
            && (!worker.ready().head().is_null() || worker.unstarted().may_have_any())
        {
            shim.poll(0);
        }
        worker.round().set_turns_left(round_length(worker));
        let next = pick(worker);
        if !next.is_null() {
            worker.set_current(next);
            worker.round().take_turn();
            // SAFETY: `next` comes from `pick`. Every switch back to the scheduler sets `current`
            // to null.
            unsafe { resume(worker, worker.scheduler_address(), next) };
        } else if runtime.is_done() {
            return;
        } else if !runtime.steal(worker) {
            idle::sleep(worker, check_deadlock);
        }
    }
}

fn fire_timers(worker: &Worker) {
    if worker.first_timer() == NEVER {
        return;
    }
    let now = clock::now();
    loop {
        let due = worker.take_expired(now);
        match due {
            // SAFETY: records are never unmapped. A fiber with a timer is either parked on this
            // worker, or ready and about to cancel its timer.
            Some(fiber) => interrupt::time_out(unsafe { &*fiber }),
            None => return,
        }
    }
}
