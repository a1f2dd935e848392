//! The scheduling quantum: how a fiber parks, and lets others run once it has used up its budget.

use super::{EngineSlot, Thread};
use crate::context;
use crate::state::options;
use crate::state::{allocator, log};
use format::options::Level;
use policy::INLINE_BUDGET;
use std::ffi::c_void;
use sys::errno;

/// How much longer a fiber that accepts connections may run.
const ACCEPTING_NS: u64 = 1_000_000;

impl Thread {
    /// Counts one more call of the running fiber since it last let others run. Returns false once
    /// its budget is used up.
    #[inline(always)]
    pub fn afford(&self) -> bool {
        let left = self.budget.get();
        if left > 1 {
            self.budget.set(left - 1);
        }
        left > 1
    }

    /// Whether a call that returns at once must check for cancellation. This is rarely true,
    /// because the check takes longer than the call.
    #[inline(always)]
    pub fn is_cancellation_due(&self) -> bool {
        let left = self.unasked.get();
        self.unasked
            .set(if left == 0 { INLINE_BUDGET } else { left - 1 });
        left == 0
    }

    /// Whether the running fiber may make another call before others run.
    #[inline(always)]
    pub fn has_share(&self) -> bool {
        self.budget.get() > 1
    }

    /// Ends the quantum because other fibers have run, or need not: the next call begins a new one.
    pub fn end_share(&self) {
        self.budget.set(0);
    }

    /// Begins a new quantum. Returns false if the last one was not ended.
    pub fn begin_share(&self) -> bool {
        let ended = self.budget.get() == 0;
        if ended {
            self.budget.set(INLINE_BUDGET);
        }
        ended
    }

    /// Renews the budget of a fiber that has accepted a connection, for up to [`ACCEPTING_NS`].
    /// Without the shim, pending connections are all accepted while earlier ones are being served.
    /// Without this, the fiber would wait for a turn of all serving fibers after every
    /// [`INLINE_BUDGET`] accepts.
    pub fn prolong_share(&self) {
        if self.budget.get() >= INLINE_BUDGET / 2 {
            return;
        }
        let now = sys::now();
        let since = self.turn_since.get().unwrap_or(now);
        if now - since < ACCEPTING_NS {
            self.turn_since.set(Some(since));
            self.budget.set(INLINE_BUDGET);
        }
    }

    /// Lets other fibers run, unless the policy allows the running fiber to continue.
    #[cold]
    pub fn end_turn(&self, fiber: *mut c_void) {
        // Without an engine calls block the thread, and the shim must not interleave a fiber with
        // one that waits for it. SAFETY: only this thread uses it, and the borrow ends with the
        // statement.
        if !matches!(unsafe { &*self.engine.get() }, EngineSlot::Made(_)) {
            self.budget.set(INLINE_BUDGET);
            return;
        }
        if allocator::is_calling() {
            return;
        }
        let now = sys::now();
        let since = self.turn_since.get().unwrap_or(now);
        let anybody_waits = self.in_flight() > 0 || !self.inbox.is_empty();
        if policy::goes_on(now - since, self.host.runnable(), anybody_waits) {
            self.turn_since.set(Some(since));
            self.budget.set(INLINE_BUDGET);
        } else {
            self.yield_now(fiber);
        }
    }

    /// Lets the thread's other fibers run, and reaps completions.
    pub fn yield_now(&self, fiber: *mut c_void) {
        self.host.unpark(fiber);
        self.park();
    }

    /// Parks the running fiber until another fiber, of any thread, hands it the file position or
    /// the stream.
    pub fn await_turn(&self) {
        self.waiting_turn.update(|n| n + 1);
        self.park();
        self.waiting_turn.update(|n| n - 1);
    }

    /// Parks the running fiber until it is unparked. While parked it leaves the streams that it is
    /// inside of. Preserves errno.
    #[inline(always)]
    pub(super) fn park(&self) {
        self.budget.set(INLINE_BUDGET);
        self.turn_since.set(None);
        let errno = errno::get();
        if self.files.any() {
            let fiber = self.host.running();
            self.in_streams.borrow_mut().insert(fiber);
            self.files.park(fiber, || self.switch());
            self.in_streams.borrow_mut().remove(&fiber.cast_const());
        } else {
            self.switch();
        }
        errno::set(errno);
    }

    /// Lets the host run other fibers, and lets signal handlers run.
    #[inline(always)]
    fn switch(&self) {
        if self.host.in_place {
            self.host.park();
        } else {
            self.signals.parking(self.host.running());
            let entered = context::host(self.slot());
            if self.parks_plainly {
                self.host.park();
            } else {
                self.runtimes.kept_over(|| self.host.park());
                self.check_thread();
            }
            drop(entered);
            self.signals.parking(std::ptr::null_mut());
        }
    }

    /// With AIOSHIM_CHECK: ends the process if the host resumed the fiber on another OS thread.
    /// Otherwise the call would continue with that thread's errno and this thread's engine.
    #[cold]
    #[inline(never)]
    fn check_thread(&self) {
        if options::current().check && !std::ptr::eq(context::attached(), self.slot()) {
            log::say(
                Level::Error,
                format_args!(
                    "AIOSHIM_CHECK: the scheduler resumed a fiber on thread {} that it had parked \
                    on another; a fiber must \
                     stay on the thread it first ran on",
                    rustix::thread::gettid().as_raw_nonzero()
                ),
            );
            std::process::abort();
        }
    }
}
