//! How another engine takes over when the kernel refuses to go on with one: a seccomp filter that
//! was installed later, a descriptor that was closed by its number, or a lack of memory that lasts.
//! And how a thread stops converting calls, where the shim could not make its own in the state that
//! the thread is in.
//!
//! Invariant: no fiber stays parked on an operation that nobody carries out. What the failed engine
//! has not done is queued with its successor, or given to the thread pool; without either the fiber
//! makes the plain call.

use super::{EngineSlot, Thread};
use crate::conf::{EngineChoice, Level};
use crate::engine::{self, Made, Token};
use crate::errno::{self, Errno};
use crate::flight::Kind;
use crate::tls::OffFiber;
use crate::{log, start, tls};

impl Thread {
    /// Replaces the engine, which the kernel refuses with `error`. Returns how many fibers were
    /// unparked.
    #[cold]
    #[inline(never)]
    pub(super) fn replace_engine(&self, error: Errno) -> usize {
        // SAFETY: this thread's alone; the borrow ends with the statement.
        let EngineSlot::Made(engine) = (unsafe { &*self.engine.get() }) else {
            return 0;
        };
        let (name, successor) = (engine.name(), engine::successor(&**engine, error));
        let unparked = self.succeed_engine(successor);
        let next = self.engine_name();
        log::say(
            Level::Info,
            format_args!("{name} failed: {error}; this thread goes on with {next}"),
        );
        start::note_engine_change(next);
        unparked
    }

    /// Ends the engine and has `choice`, or what the kernel grants below it, take over what is in
    /// flight.
    fn succeed_engine(&self, choice: EngineChoice) -> usize {
        // Descriptors are closed through libc, whose names are our hooks.
        let _off = OffFiber::enter();
        let errno = errno::get();
        // SAFETY: this thread's alone; the borrow ends with the statement.
        let slot = std::mem::replace(unsafe { &mut *self.engine.get() }, EngineSlot::Refused);
        let EngineSlot::Made(failed) = slot else {
            return 0;
        };
        self.sleeps_without_engine.set(true);
        self.queued.set(0);
        // It looks out for the failed engine.
        self.lookout.take();
        let done = failed.surrender(self.in_engine().len());
        let mut unparked = 0;
        for (token, result) in done {
            unparked += usize::from(self.complete(token, result));
        }
        let Made { engine, .. } = engine::make(choice, self.remote.wake_fd(), self.host.in_place);
        if let Some(engine) = engine {
            self.batches.set(engine.batches());
            self.sleeps_without_engine.set(!engine.sleeps());
            // SAFETY: this thread's alone; the borrow ends with the statement.
            unsafe { *self.engine.get() = EngineSlot::Made(engine) };
        }
        for token in self.in_engine() {
            unparked += usize::from(self.take_over(token));
        }
        errno::set(errno);
        unparked
    }

    /// Whether io_uring is this thread's engine, or what it will try first.
    pub fn uses_uring(&self) -> bool {
        // SAFETY: this thread's alone; the borrow ends with the statement.
        match unsafe { &*self.engine.get() } {
            EngineSlot::Made(engine) => engine.rung() == EngineChoice::Uring,
            _ => start::conf().engine.max(self.highest_rung.get()) <= EngineChoice::Uring,
        }
    }

    /// Has no engine above `rung` work for this thread from now on.
    pub fn step_down(&self, rung: EngineChoice) {
        self.highest_rung.set(self.highest_rung.get().max(rung));
        // SAFETY: this thread's alone; the borrow ends with the statement.
        if let EngineSlot::Made(engine) = unsafe { &*self.engine.get() }
            && engine.rung() < rung
        {
            self.succeed_engine(rung);
            start::note_engine_change(self.engine_name());
        }
    }

    /// Before the kernel may end the process for a system call of the shim's: what is in flight
    /// ends, and is left to plain calls, and so is all that follows.
    pub fn give_up_engine(&self) {
        self.passes_through.set(true);
        self.succeed_engine(EngineChoice::Sync);
    }

    /// The highest engine that may work for this thread.
    pub fn highest_rung(&self) -> EngineChoice {
        self.highest_rung.get()
    }

    /// The state that the engine was given up for, or was to step down for, did not come: `rung` is
    /// the highest as before.
    pub fn reclaim_engine(&self, rung: EngineChoice) {
        self.highest_rung.set(rung);
        self.passes_through.set(false);
        // SAFETY: this thread's alone; the borrow ends with the statement.
        let slot = unsafe { &mut *self.engine.get() };
        if let EngineSlot::Refused = slot {
            *slot = EngineSlot::Unmade;
        }
    }

    /// Every later call of this thread's goes to libc as it is; what is in flight is carried out as
    /// ever.
    pub fn pass_through(&self) {
        self.passes_through.set(true);
        tls::set_here(std::ptr::null());
    }

    /// Whether the thread's calls all go to libc as they are.
    pub fn passes_through(&self) -> bool {
        self.passes_through.get()
    }

    fn engine_name(&self) -> &'static str {
        // SAFETY: this thread's alone; the borrow ends with the statement.
        match unsafe { &*self.engine.get() } {
            EngineSlot::Made(engine) => engine.name(),
            _ => "plain calls",
        }
    }

    /// The operations that the engine is to carry out.
    fn in_engine(&self) -> Vec<Token> {
        let flights = self.flights().iter();
        // SAFETY: flights in the slab are alive (flight.rs).
        let of_engine = flights.filter(|(_, flight)| unsafe { (**flight).kind } == Kind::Engine);
        of_engine.map(|(token, _)| token).collect()
    }

    /// Queues an operation anew; whether its fiber was unparked instead.
    fn take_over(&self, token: Token) -> bool {
        let Some(flight) = self.flights().get(token) else {
            return false;
        };
        // SAFETY: a flight in the slab is alive, and so is the request that its fiber is parked for
        // (flight.rs).
        let (request, ends) = unsafe { (*(*flight).request, (*flight).end.is_some()) };
        if !ends {
            // SAFETY: this thread's alone; the borrow ends with the statement.
            if let EngineSlot::Made(engine) = unsafe { &mut *self.engine.get() }
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
