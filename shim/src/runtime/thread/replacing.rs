//! Replaces an engine that the kernel no longer accepts: because a seccomp filter was installed
//! later, a descriptor was closed by its number, or a lack of memory persists. Also stops the
//! conversion of calls on a thread in which the shim cannot make its own system calls.
//!
//! Invariant: every fiber that is parked on an operation has an executor for it. Operations that
//! the failed engine has not done are queued with its successor or given to the thread pool. If
//! neither accepts one, its fiber makes the plain call.

use super::{EngineSlot, Thread};
use crate::context;
use crate::engine::{self, EngineSelection};
use crate::host::Token;
use crate::record::stats;
use crate::runtime::operation::Executor;
use crate::state::log;
use crate::state::options;
use format::options::{EngineChoice, Level};
use sys::errno::{self, Errno};

impl Thread {
    /// Replaces the engine, which the kernel refuses with `error`. Returns how many fibers were
    /// unparked.
    #[cold]
    #[inline(never)]
    pub(super) fn replace_engine(&self, error: Errno) -> usize {
        // SAFETY: only this thread uses it, and the borrow ends with the statement.
        let EngineSlot::Created(engine) = (unsafe { &*self.engine.get() }) else {
            return 0;
        };
        let (name, successor) = (engine.name(), engine::successor(&**engine, error));
        let unparked = self.switch_engine(successor);
        let next = self.engine_name();
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
        // SAFETY: only this thread uses it, and the borrow ends with the statement.
        let slot = std::mem::replace(unsafe { &mut *self.engine.get() }, EngineSlot::Refused);
        let EngineSlot::Created(failed) = slot else {
            return 0;
        };
        self.sleeps_without_engine.set(true);
        self.queued.set(0);
        // The lookout watches the failed engine.
        self.host_waker.take();
        let done = failed.shut_down(self.in_engine().len());
        let mut unparked = 0;
        for (token, result) in done {
            unparked += usize::from(self.complete(token, result));
        }
        let EngineSelection { engine, .. } =
            engine::make(choice, self.remote.wake_fd(), self.host.in_place);
        if let Some(engine) = engine {
            self.batches.set(engine.batches());
            self.sleeps_without_engine.set(!engine.sleeps());
            // SAFETY: only this thread uses it, and the borrow ends with the statement.
            unsafe { *self.engine.get() = EngineSlot::Created(engine) };
        }
        for token in self.in_engine() {
            unparked += usize::from(self.take_over(token));
        }
        errno::set(errno);
        unparked
    }

    /// Whether this thread uses io_uring, or will try it first.
    pub fn uses_uring(&self) -> bool {
        // SAFETY: only this thread uses it, and the borrow ends with the statement.
        match unsafe { &*self.engine.get() } {
            EngineSlot::Created(engine) => engine.choice() == EngineChoice::Uring,
            _ => options::current().engine.max(self.engine_limit.get()) <= EngineChoice::Uring,
        }
    }

    /// Restricts this thread to `limit` and the engines below it from now on.
    pub fn limit_engine(&self, limit: EngineChoice) {
        self.engine_limit.set(self.engine_limit.get().max(limit));
        // SAFETY: only this thread uses it, and the borrow ends with the statement.
        if let EngineSlot::Created(engine) = unsafe { &*self.engine.get() }
            && engine.choice() < limit
        {
            self.switch_engine(limit);
            stats::note_engine_change(self.engine_name());
        }
    }

    /// Call before the kernel may end the process for a system call made by the shim. Ends all
    /// in-flight operations and leaves them and all later ones to plain calls.
    pub fn disable_engine(&self) {
        self.passes_through.set(true);
        self.switch_engine(EngineChoice::Sync);
    }

    /// The most preferred engine that this thread may use.
    pub fn engine_limit(&self) -> EngineChoice {
        self.engine_limit.get()
    }

    /// Undoes [`Self::disable_engine`] or [`Self::limit_engine`] because the expected change of
    /// state failed. `limit` is the limit from before.
    pub fn restore_engine(&self, limit: EngineChoice) {
        self.engine_limit.set(limit);
        self.passes_through.set(false);
        // SAFETY: only this thread uses it, and the borrow ends with the statement.
        let slot = unsafe { &mut *self.engine.get() };
        if let EngineSlot::Refused = slot {
            *slot = EngineSlot::NotCreated;
        }
    }

    /// Passes every later call of this thread through to libc. In-flight operations complete as
    /// usual.
    pub fn pass_through(&self) {
        self.passes_through.set(true);
        context::stay_off(self.slot());
    }

    /// Whether all of the thread's calls pass through to libc.
    pub fn passes_through(&self) -> bool {
        self.passes_through.get()
    }

    fn engine_name(&self) -> &'static str {
        // SAFETY: only this thread uses it, and the borrow ends with the statement.
        match unsafe { &*self.engine.get() } {
            EngineSlot::Created(engine) => engine.name(),
            _ => "plain calls",
        }
    }

    /// The operations that the engine has to carry out.
    fn in_engine(&self) -> Vec<Token> {
        let operations = self.operations().iter();
        // SAFETY: operations in the slab are alive (operation.rs).
        let of_engine = operations
            .filter(|(_, operation)| unsafe { (**operation).executor } == Executor::Engine);
        of_engine.map(|(token, _)| token).collect()
    }

    /// Queues an operation again. Returns whether its fiber was unparked instead.
    fn take_over(&self, token: Token) -> bool {
        let Some(operation) = self.operations().get(token) else {
            return false;
        };
        // SAFETY: operations in the slab are alive, and so is the request that the fiber is parked
        // for (operation.rs).
        let (request, ends) = unsafe { (*(*operation).request, (*operation).end.is_some()) };
        if !ends {
            // SAFETY: only this thread uses it, and the borrow ends with the statement.
            if let EngineSlot::Created(engine) = unsafe { &mut *self.engine.get() }
                && engine.queue(&request, token)
            {
                self.queued.update(|n| n + 1);
                return false;
            }
            if !self.passes_through() && self.offload(token, request) {
                return false;
            }
        }
        self.complete(token, -libc::ECANCELED)
    }
}
