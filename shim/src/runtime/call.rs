//! One call of one fiber, as the functions in [`crate::calls`] see it. The hooks begin it and end
//! it; between the two it submits operations, parks and runs signal handlers.

use crate::context::{self, Entered, Shim};
use crate::engine::{Request, Run};
use crate::host::Token;
use crate::record::stats::Calls;
use crate::record::trace::CallRecord;
use crate::record::unhooked::Passing;
use crate::runtime::cancel;
use crate::runtime::completion::{Completion, StoredCompletion, Unfinished};
use crate::runtime::deadlines::{Deadline, NEVER};
use crate::runtime::operation::Operation;
use crate::runtime::signal::Handled;
use crate::runtime::thread::Thread;
use crate::state::allocator;
use crate::state::holds::{CallHolds, Hold};
use policy::{Contention, Load, Reason};
use std::cell::Cell;
use std::ffi::{c_int, c_void};
use std::sync::atomic::AtomicBool;
use sys::SignalSet;

pub struct Call<'a> {
    pub thread: &'a Thread,
    pub fiber: *mut c_void,
    row: Cell<usize>,
    /// Records the outcome if the call is watched. None on the fast path, where the compiler knows
    /// that it is None.
    record: Option<&'a CallRecord>,
    /// Defers handlers during the call. Nested if the call is made inside the shim's work for
    /// another call of the same fiber.
    entered: Entered<'a, Shim>,
    holds: CallHolds,
}

impl<'a> Call<'a> {
    /// Begins a call of `fiber`, which is running. Nothing is computed here, so that the result is
    /// built where the caller keeps it: copying what was just stored delays the CPU.
    #[inline(always)]
    pub fn new(
        thread: &'a Thread,
        fiber: *mut c_void,
        row: usize,
        record: Option<&'a CallRecord>,
    ) -> Self {
        Self {
            thread,
            fiber,
            row: Cell::new(row),
            record,
            entered: context::shim(thread.slot()),
            holds: CallHolds::new(),
        }
    }

    /// Begins a call that counts for the fiber's quantum. Returns None on the scheduler's own
    /// stack, because no fiber makes this call.
    #[inline]
    pub fn begin(thread: &'a Thread, row: usize, record: Option<&'a CallRecord>) -> Option<Self> {
        let call = Self::begin_uncharged(thread, row, record)?;
        call.charge();
        Some(call)
    }

    /// Counts this call, which has just begun, for the fiber's quantum.
    #[inline(always)]
    pub fn charge(&self) {
        if !self.entered.is_nested() && !self.thread.quantum().try_consume() {
            self.begin_quantum();
        }
    }

    /// Begins a new quantum: for the first call after other fibers have run, or for a fiber that
    /// used up its quantum where it could not yield.
    #[cold]
    #[inline(never)]
    fn begin_quantum(&self) {
        if !self.thread.quantum().begin() {
            self.thread.yield_or_extend(self.fiber);
        }
        self.cancellation_point();
    }

    /// Runs after a call, including libc's part of it. A fiber whose calls never block must not
    /// starve the other fibers or the messages from other threads, so when its quantum is used up,
    /// others run now. This does not happen before a call, because another fiber could then close
    /// the call's descriptor, and the call would act on a different file.
    #[inline(always)]
    pub fn after_call(thread: &Thread, row: usize) {
        if !thread.quantum().has_budget() {
            Self::yield_or_extend(thread, row);
        }
    }

    #[cold]
    #[inline(never)]
    fn yield_or_extend(thread: &Thread, row: usize) {
        if let Some(call) = Call::begin_uncharged(thread, row, None)
            && !call.entered.is_nested()
            && !allocator::is_calling()
        {
            thread.yield_or_extend(call.fiber);
            thread.quantum().end();
        }
    }

    /// Like [`Self::begin`], but the call decides itself when to let others run:
    /// [`Self::yield_if_exhausted`].
    #[inline]
    pub fn begin_uncharged(
        thread: &'a Thread,
        row: usize,
        record: Option<&'a CallRecord>,
    ) -> Option<Self> {
        let fiber = thread.host().running();
        (!fiber.is_null()).then(|| Self::new(thread, fiber, row, record))
    }

    /// Counts this call. When the fiber's quantum is used up, lets others run and checks for
    /// cancellation, except inside a malloc. Call only while holding no locks.
    #[inline]
    pub fn yield_if_exhausted(&self) {
        if !self.thread.quantum().try_consume()
            && !self.entered.is_nested()
            && !allocator::is_calling()
        {
            self.thread.yield_unless_refused(self.fiber);
            self.cancellation_point();
        }
    }

    /// Runs `wait`, which parks the fiber; its argument is the call's row. Counts the call, and
    /// measures the time if the call is recorded.
    pub fn timed<R>(&self, wait: impl FnOnce(usize) -> R) -> R {
        self.counts().converted.add(1);
        let Some(record) = self.record else {
            return wait(self.row());
        };
        let begin = sys::now();
        let result = wait(self.row());
        let nanos = sys::now() - begin;
        self.thread.recorder().stats().parked(self.row(), nanos);
        record.add_parked(nanos);
        result
    }

    /// Applies `note` to the record, if the call is watched.
    #[inline(always)]
    pub fn note(&self, note: impl FnOnce(&CallRecord)) {
        if let Some(record) = self.record {
            note(record);
        }
    }

    fn counts(&self) -> &Calls {
        self.thread.recorder().stats().of(self.row())
    }

    #[inline]
    pub fn load(&self) -> Load {
        let load = self.thread.load();
        self.note(|record| record.set_load(load, self.thread.in_flight()));
        load
    }

    /// The reason why libc should make this call, which may wait for a peer: no other fiber would
    /// run in that time, or there is no engine to wait in.
    pub fn reason_to_pass(&self) -> Option<Reason> {
        if self.load().contention == Contention::SoleFiber {
            Some(Reason::Alone)
        } else if !self.has_engine() {
            Some(Reason::NoEngine)
        } else {
            None
        }
    }

    /// Like [`Self::reason_to_pass`], for a call that needs a pool thread.
    pub fn reason_not_to_offload(&self) -> Option<Reason> {
        if self.is_sole_fiber() {
            Some(Reason::Alone)
        } else if !self.has_engine() {
            Some(Reason::NoEngine)
        } else {
            None
        }
    }

    /// Whether no other fiber can run while this call waits; the call is then not worth a pool
    /// thread. The main thread of a program without fibers is the only fiber of its host, and such
    /// a program should stay single-threaded.
    pub fn is_sole_fiber(&self) -> bool {
        self.load().contention == Contention::SoleFiber || self.thread.host().in_place
    }

    /// The call's row in the call table.
    #[inline(always)]
    pub fn row(&self) -> usize {
        self.row.get()
    }

    /// Runs `part`, in which the call does what the call of `row` does: its waits, and whether a
    /// cancelled fiber ends in them, are those of that call.
    pub fn as_row<R>(&self, row: usize, part: impl FnOnce() -> R) -> R {
        let own = self.row.replace(row);
        let result = part();
        self.row.set(own);
        result
    }

    /// Counts that the call passes through to libc, for this reason.
    pub fn count_pass_through(&self, reason: Reason) {
        self.count_pass_through_of(self.row(), reason);
    }

    /// [`Self::count_pass_through`] where the call's row is known to the compiler.
    #[inline(always)]
    pub fn count_pass_through_of(&self, row: usize, reason: Reason) {
        self.thread.recorder().stats().of(row).passed_through[reason as usize].add(1);
        self.note(|record| record.set_pass_through(reason));
    }

    /// The point where a fiber ends if its host cancelled it, provided that this call is a
    /// cancellation point. Call only when the call has had no effect yet and holds no locks. Does
    /// nothing inside a stream, because the fiber would leave the stream's lock behind.
    #[cold]
    #[inline(never)]
    pub fn cancellation_point(&self) {
        if cancel::is_point(self.row()) {
            self.end_if_cancelled();
        }
    }

    fn end_if_cancelled(&self) {
        if !self.thread.streams().any() {
            // This runs the host's code, which may not return.
            let _host = context::host(self.thread.slot());
            self.thread.host().cancelled();
        }
    }

    /// Like [`Self::cancellation_point`], except that it does nothing for a call that another shim
    /// call made.
    pub fn heed_cancellation(&self) {
        if !self.entered.is_nested() {
            self.cancellation_point();
        }
    }

    /// While the result lives, this call counts as being inside libc's function on this thread.
    #[inline(always)]
    pub fn passing(&self) -> Option<Passing<'_>> {
        self.record
            .and_then(|_| self.thread.recorder().tracer())
            .map(|tracer| tracer.passing(self.row()))
    }

    /// Holds the file that the descriptor of `hold` refers to now. Call it while that is still the
    /// intended file.
    pub fn hold(&self, hold: &Hold) {
        // A signal handler may jump out of the call past this hold's end if the host parks in
        // place.
        if !self.thread.host().in_place {
            self.holds.register(hold);
        }
    }

    /// Counts the call as completed without parking.
    #[inline]
    pub fn inline(&self) {
        self.counts().inline.add(1);
    }

    /// Whether there is an engine to submit to.
    #[inline]
    pub fn has_engine(&self) -> bool {
        self.thread.engine().is_available()
    }

    /// Submits `request` to the engine and parks until it is complete.
    #[inline(always)]
    pub fn perform(&self, request: &Request) -> Completion {
        self.perform_until(request, NEVER)
    }

    /// Runs the deferred handlers after a wait that ended as [`Unfinished::Interrupted`]. Call only
    /// while holding no locks, because a handler may jump away. A call that returns that reason
    /// instead of calling this is restarted or ended as the handlers require.
    pub fn interrupted(&self) -> Handled {
        self.interrupted_under(None)
    }

    /// [`Self::perform_masked`], followed by [`Self::interrupted_under`] the same mask if a signal
    /// interrupted it; the error is what the handlers decided.
    pub fn perform_handled(
        &self,
        request: &Request,
        deadline: Deadline,
        mask: SignalSet,
    ) -> Result<(), Handled> {
        match self.perform_masked(request, deadline, mask) {
            Err(Unfinished::Interrupted) => Err(self.interrupted_under(Some(mask))),
            _ => Ok(()),
        }
    }

    /// [`Self::interrupted`] for a call that may have waited under its own signal mask: the
    /// handlers run under that mask.
    pub fn interrupted_under(&self, mask: Option<SignalSet>) -> Handled {
        let for_cancellation = self.thread.operations().was_cancelled(self.fiber);
        let handled = self.holds.without(|| {
            if cancel::is_waiting_point(self.row()) {
                self.end_if_cancelled();
            }
            self.thread.handle_signals(mask)
        });
        // A cancelled fiber that continues nevertheless must not wait again.
        if for_cancellation {
            Handled::End
        } else {
            handled
        }
    }

    /// Whether libc must make the call, which was interrupted because the main thread is cancelled.
    #[cold]
    pub fn is_left_to_libc(&self) -> bool {
        self.thread.host().in_place && self.thread.conversion().passes_through()
    }

    /// [`Self::perform_until`] with exactly the signals in `mask` blocked during the wait, as in
    /// ppoll(2).
    pub fn perform_masked(
        &self,
        request: &Request,
        deadline: Deadline,
        mask: SignalSet,
    ) -> Completion {
        self.counts().converted.add(1);
        let mut operation = Operation::new(self.fiber, self.row(), request, deadline);
        operation.mask = &raw const mask;
        let signals = self.thread.signals();
        signals.begin_own_mask();
        let operation = &raw mut operation;
        // SAFETY: `operation` and the mask are on this stack; the completion was written before
        // this fiber was unparked.
        let completion = unsafe {
            self.thread.submit_and_park(request, operation);
            (*operation).completion.decode()
        };
        signals.end_own_mask();
        completion
    }

    /// Like [`Self::perform`], but times out at `deadline`. A job that already runs on a pool
    /// thread is not interrupted.
    #[inline(always)]
    pub fn perform_until(&self, request: &Request, deadline: Deadline) -> Completion {
        self.counts().converted.add(1);
        let stored = match self.record {
            None => self.submit_and_park(request, deadline),
            Some(record) => self.perform_watched(request, deadline, record),
        };
        stored.decode()
    }

    #[cold]
    #[inline(never)]
    fn perform_watched(
        &self,
        request: &Request,
        deadline: Deadline,
        record: &CallRecord,
    ) -> StoredCompletion {
        let begin = sys::now();
        let completion = self.submit_and_park(request, deadline);
        let nanos = sys::now() - begin;
        self.thread.recorder().stats().parked(self.row(), nanos);
        record.add_parked(nanos);
        completion
    }

    /// Starts code on a pool thread that reports its own completion. Returns false if no thread is
    /// available. See [`Self::await_function`].
    pub fn start_on_pool(&self, run: Run) -> bool {
        let started = self.thread.start_on_pool(run);
        if started {
            self.counts().converted.add(1);
            self.counts().offloaded.add(1);
        }
        started
    }

    /// Parks until another fiber passes the turn to this fiber.
    pub fn await_unpark(&self) {
        self.record_wait(|| self.thread.await_unpark());
    }

    /// Parks until the pool thread of [`Self::start_on_pool`] unparks this fiber.
    pub fn await_function(&self) {
        self.record_wait(|| self.thread.await_function());
    }

    /// Runs `wait`, and adds its time to the record if the call is watched.
    fn record_wait(&self, wait: impl FnOnce()) {
        let begin = self.record.map(|_| sys::now());
        wait();
        if let (Some(record), Some(begin)) = (self.record, begin) {
            record.add_waited(sys::now() - begin);
        }
    }

    /// Parks until the fiber gets its turn, is interrupted, or `deadline` passes. `claim` decides
    /// which of these wins. `enqueue` stores the wait's token where the threads and fibers that
    /// pass turns on will find it.
    pub fn await_unpark_until(
        &self,
        claim: &AtomicBool,
        fd: c_int,
        deadline: Deadline,
        enqueue: impl FnOnce(Token),
    ) -> Completion {
        let begin = self.record.map(|_| sys::now());
        // A fiber that was about to handle signals waits once more first.
        self.thread.signals().set_due(false);
        let request = Request::Wait { claim };
        let mut operation = Operation::new(self.fiber, self.row(), &request, deadline);
        operation.queued_fd = fd;
        let operation = &raw mut operation;
        // SAFETY: `operation` and `claim` outlive the wait, which ends before this returns.
        let completion = unsafe {
            enqueue(self.thread.begin_wait(operation));
            self.thread.park_until_woken();
            (*operation).completion.decode()
        };
        if let (Some(record), Some(begin)) = (self.record, begin) {
            record.add_waited(sys::now() - begin);
        }
        completion
    }

    #[inline(always)]
    fn submit_and_park(&self, request: &Request, deadline: Deadline) -> StoredCompletion {
        let mut operation = Operation::new(self.fiber, self.row(), request, deadline);
        // From here on accessed only through the pointer, because the completion writes to it.
        let operation = &raw mut operation;
        // SAFETY: `operation` is on this stack; the completion was written before this fiber was
        // unparked.
        unsafe {
            self.thread.submit_and_park(request, operation);
            (*operation).completion
        }
    }
}
