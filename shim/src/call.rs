//! One call of one fiber, as the functions in [`crate::calls`] see it.

use crate::allocator;
use crate::deadlines::{Deadline, NEVER};
use crate::engine::Request;
use crate::flight::Flight;
use crate::policy::{Alone, Load, Why};
use crate::stats::Calls;
use crate::sys;
use crate::thread::Thread;
use crate::trace::Record;
use std::ffi::c_void;

pub struct Call<'a> {
    pub thread: &'a Thread,
    pub fiber: *mut c_void,
    row: usize,
    /// Where the call is watched: what becomes of it. None on the fast way, known to the compiler there.
    record: Option<&'a Record>,
}

impl<'a> Call<'a> {
    /// None on the scheduler's own stack: no fiber makes this call.
    #[inline]
    pub fn begin(thread: &'a Thread, row: usize, record: Option<&'a Record>) -> Option<Self> {
        let call = Self::begin_free(thread, row, record)?;
        // A fiber whose calls never wait must not starve the others, nor what arrives from other threads. Now, before
        // anything is looked at: others may run here.
        thread.spend(call.fiber);
        Some(call)
    }

    /// The same for a call that chooses itself when it lets others run: [`Self::give_way`].
    #[inline]
    pub fn begin_free(thread: &'a Thread, row: usize, record: Option<&'a Record>) -> Option<Self> {
        let fiber = thread.host().running();
        (!fiber.is_null()).then_some(Self {
            thread,
            fiber,
            row,
            record,
        })
    }

    /// Counts this call; when its fiber has had its share, others run now. Not from inside a malloc, though.
    #[inline]
    pub fn give_way(&self) {
        if !self.thread.afford() && !allocator::is_calling() {
            self.thread.yield_now(self.fiber);
        }
    }

    /// Has `wait`, which is given the call's row, park the fiber: counted, and timed where that is wanted.
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
        let alone = if runnable == 0 && thread.in_flight() == 0 {
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

    /// The call goes to libc as it is.
    pub fn through(&self, why: Why) {
        self.counts().through[why as usize].add(1);
        self.note(|record| record.through(why));
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

    /// Has the engine do `request`, parked meanwhile: its result, as a system call's. ECANCELED without an engine.
    #[inline(always)]
    pub fn perform(&self, request: &Request) -> i32 {
        self.perform_until(request, NEVER)
    }

    /// The same, ended early with ETIME when `deadline` comes first; what a thread of the pool does is not ended.
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

    /// Parks until another fiber gives this one its turn at a file position.
    pub fn await_turn(&self) {
        let begin = self.record.map(|_| sys::now());
        self.thread.await_turn();
        if let (Some(record), Some(begin)) = (self.record, begin) {
            record.waited(sys::now() - begin);
        }
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
