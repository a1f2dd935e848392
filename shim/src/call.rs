//! One call of one fiber, as the functions in [`crate::calls`] see it.

use crate::allocator;
use crate::deadlines::{Deadline, NEVER};
use crate::engine::{Request, Run, Token};
use crate::errno::Errno;
use crate::escapes::Passing;
use crate::flight::Flight;
use crate::policy::{Alone, Load, Why};
use crate::position;
use crate::signal::Handled;
use crate::stats::Calls;
use crate::sys::SignalSet;
use crate::thread::Thread;
use crate::trace::Record;
use crate::{cancel, sys};
use std::ffi::{c_int, c_void};
use std::sync::atomic::AtomicBool;

pub struct Call<'a> {
    pub thread: &'a Thread,
    pub fiber: *mut c_void,
    row: usize,
    /// Where the call is watched: what becomes of it. None on the fast way, known to the compiler
    /// there.
    record: Option<&'a Record>,
    /// Made in the middle of what the shim does for another call of the same fiber.
    inner: bool,
}

impl<'a> Call<'a> {
    /// None on the scheduler's own stack: no fiber makes this call.
    #[inline]
    pub fn begin(thread: &'a Thread, row: usize, record: Option<&'a Record>) -> Option<Self> {
        let call = Self::begin_free(thread, row, record)?;
        if !call.inner && !thread.afford() {
            call.begin_share();
        }
        Some(call)
    }

    /// The first call after others have run, or one of a fiber that could not let them.
    #[cold]
    #[inline(never)]
    fn begin_share(&self) {
        if !self.thread.begin_share() {
            self.thread.end_turn(self.fiber);
        }
        self.cancelled_here();
    }

    /// After a call, libc's part of it included. A fiber whose calls never wait must not starve the
    /// others, nor what arrives from other threads: when it has had its share, others run now. Not
    /// before a call, for others could close its descriptor then, and the call would be made on
    /// another file.
    #[inline(always)]
    pub fn ended(thread: &Thread, row: usize) {
        if !thread.has_share() {
            Self::end_turn(thread, row);
        }
    }

    #[cold]
    #[inline(never)]
    fn end_turn(thread: &Thread, row: usize) {
        if let Some(call) = Call::begin_free(thread, row, None)
            && !call.inner
            && !allocator::is_calling()
        {
            thread.end_turn(call.fiber);
            thread.end_share();
        }
    }

    /// The same for a call that chooses itself when it lets others run: [`Self::give_way`].
    #[inline]
    pub fn begin_free(thread: &'a Thread, row: usize, record: Option<&'a Record>) -> Option<Self> {
        let fiber = thread.host().running();
        if fiber.is_null() {
            return None;
        }
        let inner = thread.signals().enter();
        Some(Self {
            thread,
            fiber,
            row,
            record,
            inner,
        })
    }

    /// Counts this call; when its fiber has had its share, others run now, and it may be told that
    /// it is cancelled. Not from inside a malloc, though. Where the call holds nothing.
    #[inline]
    pub fn give_way(&self) {
        if !self.thread.afford() && !self.inner && !allocator::is_calling() {
            self.thread.yield_now(self.fiber);
            self.cancelled_here();
        }
    }

    /// Has `wait`, which is given the call's row, park the fiber: counted, and timed where that is
    /// wanted.
    pub fn timed<R>(&self, wait: impl FnOnce(usize) -> R) -> R {
        self.counts().converted.add(1);
        let Some(record) = self.record else {
            return wait(self.row);
        };
        let begin = sys::now();
        let result = wait(self.row);
        let nanos = sys::now() - begin;
        self.thread.stats().parked(self.row, nanos);
        record.parked(nanos);
        result
    }

    /// Has the record of a watched call noted something.
    #[inline(always)]
    pub fn note(&self, note: impl FnOnce(&Record)) {
        if let Some(record) = self.record {
            note(record);
        }
    }

    fn counts(&self) -> &Calls {
        self.thread.stats().of(self.row)
    }

    #[inline]
    pub fn load(&self) -> Load {
        let (host, thread) = (self.thread.host(), self.thread);
        let runnable = host.runnable();
        // Inside a stream a fiber delays those of other threads, which would block on the stream's
        // lock.
        let delays_others = || thread.files().any() && position::other_threads();
        let alone = if runnable == 0 && thread.in_flight() == 0 && !delays_others() {
            host.alone()
        } else {
            Alone::No
        };
        let load = Load {
            batch: thread.batch(runnable),
            alone,
        };
        self.note(|record| record.loaded(load, thread.in_flight()));
        load
    }

    /// Whether no other fiber can run while this call waits: then no thread of the pool is to make
    /// it. The main thread of a program that knows nothing of fibers is the only one of its host,
    /// and the program stays one of a single thread.
    pub fn is_sole_fiber(&self) -> bool {
        self.load().alone == Alone::Entirely || self.thread.host().in_place
    }

    /// The call goes to libc as it is.
    pub fn through(&self, why: Why) {
        self.counts().through[why as usize].add(1);
        self.note(|record| record.through(why));
    }

    /// Where the fiber ends if its host cancelled it, and this call is a cancellation point:
    /// nothing has come of the call, and it holds nothing. Not inside a stream, whose lock it would
    /// leave behind.
    #[cold]
    #[inline(never)]
    pub fn cancelled_here(&self) {
        if cancel::is_point(self.row) && !self.thread.files().any() {
            // It is the host's code, and may not come back.
            let signals = self.thread.signals();
            signals.leave(false);
            self.thread.host().cancelled();
            signals.enter();
        }
    }

    /// The same for a call that may have been made by another call of the shim's.
    pub fn heed_cancellation(&self) {
        if !self.inner {
            self.cancelled_here();
        }
    }

    /// While the result lives this call is in libc's function, on this thread.
    #[inline(always)]
    pub fn passing(&self) -> Option<Passing<'_>> {
        self.record
            .and_then(|_| self.thread.escapes())
            .map(|escapes| escapes.passing(self.row))
    }

    /// The call was completed without parking.
    #[inline]
    pub fn inline(&self) {
        self.counts().inline.add(1);
    }

    /// Whether there is an engine to submit to.
    #[inline]
    pub fn has_engine(&self) -> bool {
        self.thread.engine().is_some()
    }

    /// Has the engine do `request`, parked meanwhile: its result, as a system call's. ECANCELED
    /// without an engine.
    #[inline(always)]
    pub fn perform(&self, request: &Request) -> i32 {
        self.perform_until(request, NEVER)
    }

    /// Has the handlers run that a result of [`Errno::RESTART`](crate::errno::Errno::RESTART) was
    /// for. Only where the call holds nothing: they may jump away. A call that gives that error
    /// instead is begun anew or ended, as they ask.
    pub fn interrupted(&self) -> Handled {
        self.interrupted_under(None)
    }

    /// Whether a call that came to `error` is to be made again. One that signals have interrupted
    /// is, once, before their handlers run: what it waits for may have come before them, and then
    /// it succeeds. After that the handlers decide.
    #[inline]
    pub fn begins_anew(&self, error: Errno, look: &mut LastLook) -> bool {
        if error != Errno::INTR && !error.is_interruption() {
            return false;
        }
        self.goes_on(error, look)
    }

    #[cold]
    #[inline(never)]
    fn goes_on(&self, error: Errno, look: &mut LastLook) -> bool {
        if error == Errno::INTR {
            self.cancelled_here();
            return false;
        }
        if self.looks_again(look) {
            return true;
        }
        match self.interrupted() {
            Handled::Nothing => true,
            Handled::Restart => error == Errno::RESTART,
            Handled::End => false,
        }
    }

    /// Whether a call that was interrupted, and has not run any handlers yet, is to look once more
    /// for what it waits for: a cancelled one is not.
    pub fn looks_again(&self, look: &mut LastLook) -> bool {
        let looks =
            !look.0 && self.thread.signals().is_held() && !self.thread.is_cancelled(self.fiber);
        look.0 = looks;
        looks
    }

    /// [`Self::perform_masked`], and [`Self::interrupted_under`] the mask: what the handlers came
    /// to is the error.
    pub fn perform_handled(
        &self,
        request: &Request,
        deadline: Deadline,
        mask: SignalSet,
    ) -> Result<i32, Handled> {
        let result = self.perform_masked(request, deadline, mask);
        if Errno::of(result) == Errno::RESTART {
            return Err(self.interrupted_under(Some(mask)));
        }
        Ok(result)
    }

    /// [`Self::interrupted`], with the mask that the call waited under, if it had one of its own:
    /// the handlers run under it.
    pub fn interrupted_under(&self, mask: Option<SignalSet>) -> Handled {
        let for_cancellation = self.thread.was_cancelled(self.fiber);
        self.cancelled_here();
        let handled = self.thread.handle_signals(mask);
        // A fiber that goes on nevertheless is not to wait again.
        if for_cancellation {
            Handled::End
        } else {
            handled
        }
    }

    /// [`Self::perform_until`] with the signals in `mask` blocked and no others while it waits, as
    /// in ppoll(2).
    pub fn perform_masked(&self, request: &Request, deadline: Deadline, mask: SignalSet) -> i32 {
        self.counts().converted.add(1);
        let mut flight = Flight::new(self.fiber, self.row, request, deadline);
        flight.mask = &raw const mask;
        let signals = self.thread.signals();
        signals.masked.update(|n| n + 1);
        let flight = &raw mut flight;
        // SAFETY: as in `fly`; the mask is on this stack, too.
        let result = unsafe {
            self.thread.fly(request, flight);
            (*flight).result
        };
        signals.masked.update(|n| n - 1);
        result
    }

    /// The same, ended early with ETIME when `deadline` comes first; what a thread of the pool does
    /// is not ended.
    #[inline(always)]
    pub fn perform_until(&self, request: &Request, deadline: Deadline) -> i32 {
        self.counts().converted.add(1);
        match self.record {
            None => self.fly(request, deadline),
            Some(record) => self.perform_watched(request, deadline, record),
        }
    }

    #[cold]
    #[inline(never)]
    fn perform_watched(&self, request: &Request, deadline: Deadline, record: &Record) -> i32 {
        let begin = sys::now();
        let result = self.fly(request, deadline);
        let nanos = sys::now() - begin;
        self.thread.stats().parked(self.row, nanos);
        record.parked(nanos);
        result
    }

    /// Has a thread of the pool run code that tells of its end itself; false where there is none.
    /// See [`Self::await_turn`].
    pub fn start_on_pool(&self, run: Run) -> bool {
        let started = self.thread.start_on_pool(run);
        if started {
            self.counts().converted.add(1);
            self.counts().offloaded.add(1);
        }
        started
    }

    /// Parks until another fiber, or a thread of the pool, gives this one its turn.
    pub fn await_turn(&self) {
        let begin = self.record.map(|_| sys::now());
        self.thread.await_turn();
        if let (Some(record), Some(begin)) = (self.record, begin) {
            record.waited(sys::now() - begin);
        }
    }

    /// Parks until the fiber is given its turn: 0; or is interrupted, or `deadline` is over: a
    /// negative error. `claim` decides between these. `enqueue` puts the token of the wait where
    /// those look who pass turns on.
    pub fn await_turn_until(
        &self,
        claim: &AtomicBool,
        fd: c_int,
        deadline: Deadline,
        enqueue: impl FnOnce(Token),
    ) -> i32 {
        let begin = self.record.map(|_| sys::now());
        // A fiber that was to handle signals waits once more instead.
        self.thread.signals().due.set(false);
        let request = Request::Wait { claim };
        let mut flight = Flight::new(self.fiber, self.row, &request, deadline);
        flight.of_turn = fd;
        let flight = &raw mut flight;
        // SAFETY: `flight` and `claim` outlive the wait, which ends before this returns.
        let result = unsafe {
            enqueue(self.thread.begin_wait(flight));
            self.thread.await_landing();
            (*flight).result
        };
        if let (Some(record), Some(begin)) = (self.record, begin) {
            record.waited(sys::now() - begin);
        }
        result
    }

    #[inline(always)]
    fn fly(&self, request: &Request, deadline: Deadline) -> i32 {
        let mut flight = Flight::new(self.fiber, self.row, request, deadline);
        // Not touched but through the pointer from here on: the completion writes to it.
        let flight = &raw mut flight;
        // SAFETY: `flight` is on this stack; the result was written before this fiber was unparked.
        unsafe {
            self.thread.fly(request, flight);
            (*flight).result
        }
    }
}

/// Whether a call that was interrupted has looked once more, before it lets the handlers run.
pub struct LastLook(bool);

impl LastLook {
    pub const fn new() -> Self {
        Self(false)
    }
}

impl Drop for Call<'_> {
    /// Back in the program's own code: handlers run at once again, and those of signals that came
    /// meanwhile now.
    #[inline(always)]
    fn drop(&mut self) {
        if self.thread.signals().leave(self.inner) && !self.inner {
            self.thread.handle_signals(None);
        }
    }
}
