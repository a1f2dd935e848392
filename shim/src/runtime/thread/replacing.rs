//! Replaces an engine that the kernel no longer accepts: because a seccomp filter was installed
//! later, a descriptor was closed by its number, or a lack of memory persists. Also stops the
//! conversion of calls on a thread in which the shim cannot make its own system calls.
//!
//! Invariant: every fiber that is parked on an operation has an executor for it. Operations that
//! the failed engine has not done are queued with its successor or given to the thread pool. If
//! neither accepts one, its fiber makes the plain call.

use super::Thread;
use crate::context;
use crate::host::Token;
use crate::record::stats;
use crate::state::log;
use format::options::{EngineChoice, Level};
use sys::errno::{self, Errno};

impl Thread {
    /// Replaces the engine, which the kernel refuses with `error`. Returns how many fibers were
    /// unparked.
    #[cold]
    #[inline(never)]
    pub(super) fn replace_engine(&self, error: Errno) -> usize {
        let name = self.engine.name();
        let Some(successor) = self.engine.successor(error) else {
            return 0;
        };
        let unparked = self.switch_engine(successor);
        let next = self.engine.name();
        log::say(
            Level::Info,
            format_args!("{name} failed: {error}; this thread now uses {next}"),
        );
        stats::note_engine_change(next);
        unparked
    }

    /// Ends the engine. Its in-flight operations move to `choice`, or to the next engine that the
    /// kernel grants.
    fn switch_engine(&self, choice: EngineChoice) -> usize {
        // Descriptors are closed through libc, whose close is our hook.
        let _off = context::libc();
        let errno = errno::get();
        let Some(failed) = self.engine.take() else {
            return 0;
        };
        self.mailbox.end_watcher();
        let done = failed.shut_down(self.operations.of_engine().len());
        let mut unparked = 0;
        for (token, result) in done {
            unparked += usize::from(self.complete(token, result));
        }
        self.engine.replace(choice);
        self.pollable
            .replace_engine(|| self.engine.ready_descriptor());
        for token in self.operations.of_engine() {
            unparked += usize::from(self.take_over(token));
        }
        errno::set(errno);
        unparked
    }

    /// Restricts this thread to `limit` and the engines below it from now on.
    pub fn limit_engine(&self, limit: EngineChoice) {
        if self.engine.restrict(limit) {
            self.switch_engine(limit);
            stats::note_engine_change(self.engine.name());
        }
    }

    /// Call before the kernel may end the process for a system call made by the shim. Ends all
    /// in-flight operations and leaves them and all later ones to plain calls.
    pub fn disable_engine(&self) {
        self.conversion.set_passes_through(true);
        self.switch_engine(EngineChoice::Sync);
    }

    /// Undoes [`Self::disable_engine`] or [`Self::limit_engine`] because the expected change of
    /// state failed. `limit` is the limit from before.
    pub fn restore_engine(&self, limit: EngineChoice) {
        self.conversion.set_passes_through(false);
        self.engine.allow(limit);
    }

    /// Queues an operation again. Returns whether its fiber was unparked instead.
    fn take_over(&self, token: Token) -> bool {
        if let Some(request) = self.operations.request(token) {
            if self.engine.queue(&request, token) {
                return false;
            }
            if !self.conversion.passes_through() && self.offload(token, request) {
                return false;
            }
        }
        self.complete(token, -libc::ECANCELED)
    }
}
