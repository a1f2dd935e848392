//! How a fiber parks, and lets others run once it has used up its quantum.

use super::{EngineSlot, Thread};
use crate::context;
use crate::state::options;
use crate::state::{allocator, log};
use format::options::Level;
use std::ffi::c_void;
use sys::errno;

impl Thread {
    /// Lets other fibers run, unless the policy allows the running fiber to continue.
    #[cold]
    pub fn yield_or_extend(&self, fiber: *mut c_void) {
        // Without an engine calls block the thread, and the shim must not interleave a fiber with
        // one that waits for it. SAFETY: only this thread uses it, and the borrow ends with the
        // statement.
        if !matches!(unsafe { &*self.engine.get() }, EngineSlot::Created(_)) {
            self.quantum.refill();
            return;
        }
        if allocator::is_calling() {
            return;
        }
        let now = sys::now();
        let fibers_wait = self.in_flight() > 0 || !self.inbox.is_empty();
        let over = self.quantum.overrun(now);
        if policy::may_continue(over, self.host.runnable(), fibers_wait) {
            self.quantum.extend(now);
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
    pub fn await_unpark(&self) {
        self.waiting_for_turn.update(|n| n + 1);
        self.park();
        self.waiting_for_turn.update(|n| n - 1);
    }

    /// Parks the running fiber until it is unparked. While parked it leaves the streams that it is
    /// inside of. Preserves errno.
    #[inline(always)]
    pub(super) fn park(&self) {
        self.quantum.restart();
        let errno = errno::get();
        if self.streams.any() {
            let fiber = self.host.running();
            self.in_streams.borrow_mut().insert(fiber);
            self.streams.park(fiber, || self.switch());
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
