//! One call of one fiber, as the functions in [`crate::calls`] see it.

use crate::deadlines::{Deadline, NEVER};
use crate::engine::{Request, Run};
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
        let fiber = thread.host().running();
        if fiber.is_null() {
            return None;
        }
        // A fiber whose calls never wait must not starve the others, nor what arrives from other threads. Now, before
        // anything is looked at: others may run here.
        thread.spend(fiber);
        Some(Self {
            thread,
            fiber,
            row,
            record,
        })
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

    /// Has a thread of the pool run code that tells of its end itself; false where there is none. See [`Self::await_turn`].
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
