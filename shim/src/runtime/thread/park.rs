//! How a fiber parks, and lets others run once it has used up its quantum.

use super::Thread;
use crate::context;
use crate::state::{allocator, log};
use format::options::Level;
use std::ffi::c_void;
use sys::errno;

impl Thread {
    /// Lets other fibers run, unless the policy allows the running fiber to continue.
    #[cold]
    pub fn yield_or_extend(&self, fiber: *mut c_void) {
        // Without an engine calls block the thread, and the shim must not interleave a fiber with
        // one that waits for it.
        if !self.engine.is_created() || self.host.refuses_yields() {
            self.quantum.refill();
            return;
        }
        if allocator::is_calling() {
            return;
        }
        let now = sys::now();
        let fibers_wait = self.in_flight() > 0 || !self.mailbox.is_empty();
        let over = self.quantum.overrun(now);
        let runnable = self.host.runnable();
        if policy::may_continue(over, runnable, fibers_wait, || self.host.others_can_wait()) {
            self.quantum.extend(now);
        } else {
            self.yield_now(fiber);
        }
    }

    /// Lets other fibers run once the running one has used up its quantum, unless the host refuses
    /// that.
    #[cold]
    pub fn yield_unless_refused(&self, fiber: *mut c_void) {
        if self.host.refuses_yields() {
            self.quantum.refill();
        } else {
            self.yield_now(fiber);
        }
    }

    /// Lets the thread's other fibers run, and reaps completions.
    pub fn yield_now(&self, fiber: *mut c_void) {
        match self.host.own_yield() {
            Some(own_yield) => self.park_by(own_yield),
            None => {
                self.host.unpark(fiber);
                self.park();
            }
        }
    }

    /// Parks the running fiber until another fiber, of any thread, hands it the file position or
    /// the stream.
    pub fn await_unpark(&self) {
        self.operations.begin_turn_wait();
        self.park();
        self.operations.end_turn_wait();
    }

    /// Parks the running fiber until a pool thread unparks it, which is running a function with
    /// call-backs for it.
    pub fn await_function(&self) {
        self.operations.begin_function_wait();
        self.park();
        self.operations.end_function_wait();
    }

    /// Parks the running fiber until it is unparked. While parked it leaves the streams that it is
    /// inside of. Preserves errno.
    #[inline(always)]
    pub(super) fn park(&self) {
        self.park_by(|| self.host.park());
    }

    /// Like [`Self::park`], by a callback of the host that switches away and back.
    #[inline(always)]
    fn park_by(&self, switch: impl FnOnce()) {
        self.quantum.restart();
        let errno = errno::get();
        if self.streams.any() {
            self.streams
                .park(self.host.running(), || self.switch_by(switch));
        } else {
            self.switch_by(switch);
        }
        errno::set(errno);
    }

    /// Lets the host run other fibers, and lets signal handlers run.
    #[inline(always)]
    fn switch_by(&self, switch: impl FnOnce()) {
        if self.host.in_place {
            switch();
        } else {
            self.signals.parking(self.host.running());
            let entered = context::host(self.slot());
            self.runtimes
                .kept_over(self.slot(), switch, || self.check_unparked());
            drop(entered);
            self.signals.parking(std::ptr::null_mut());
        }
    }

    /// With AIOSHIM_CHECK: ends the process if the host resumed a fiber that still waits. The call
    /// would return without a result, and the kernel would write to a stack that is in use.
    #[cold]
    #[inline(never)]
    fn check_unparked(&self) {
        if let Some(call) = self.operations.describe(self.host.running()) {
            log::say(
                Level::Error,
                format_args!(
                    "AIOSHIM_CHECK: the scheduler's park returned before its unpark: the fiber \
                     still waits in {call}"
                ),
            );
            std::process::abort();
        }
    }
}
