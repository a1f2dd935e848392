//! How another engine takes over when the kernel refuses to go on with one: a seccomp filter that was installed later, a
//! descriptor that was closed by its number, or a lack of memory that lasts.
//!
//! Invariant: no fiber stays parked on an operation that nobody carries out. What the failed engine has not done is queued
//! with its successor, or given to the thread pool; without either the fiber makes the plain call.

use super::{EngineSlot, Thread};
use crate::conf::{EngineChoice, Level};
use crate::engine::{self, Made, Token};
use crate::errno::{self, Errno};
use crate::flight::Kind;
use crate::tls::OffFiber;
use crate::{log, start};

impl Thread {
    /// Replaces the engine, which the kernel refuses with `error`. Returns how many fibers were unparked.
    #[cold]
    #[inline(never)]
    pub(super) fn replace_engine(&self, error: Errno) -> usize {
        // SAFETY: this thread's alone; the borrow ends with the statement.
        let EngineSlot::Made(engine) = (unsafe { &*self.engine.get() }) else {
            return 0;
        };
        let (name, successor) = (engine.name(), engine.successor(error));
        let unparked = self.succeed_engine(successor);
        // SAFETY: this thread's alone; the borrow ends with the statement.
        let next = match unsafe { &*self.engine.get() } {
            EngineSlot::Made(engine) => engine.name(),
            _ => "plain calls",
        };
        log::say(
            Level::Info,
            format_args!("{name} failed: {error}; this thread goes on with {next}"),
        );
        start::note_engine_change(next);
        unparked
    }

    /// Ends the engine and has `choice`, or what the kernel grants below it, take over what is in flight.
    pub(super) fn succeed_engine(&self, choice: EngineChoice) -> usize {
        // Descriptors are closed through libc, whose names are our hooks.
        let _off = OffFiber::enter();
        let errno = errno::get();
        // SAFETY: this thread's alone; the borrow ends with the statement.
        let slot = std::mem::replace(unsafe { &mut *self.engine.get() }, EngineSlot::Refused);
        let EngineSlot::Made(failed) = slot else { return 0 };
        self.sleeps_without_engine.set(true);
        self.queued.set(0);
        let done = failed.surrender(self.in_engine().len());
        let mut unparked = 0;
        for (token, result) in done {
            unparked += usize::from(self.complete(token, result));
        }
        let Made { engine, .. } = engine::make(choice, self.remote.wake_fd());
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
        // SAFETY: a flight in the slab is alive, and so is the request that its fiber is parked for (flight.rs).
        let (request, ends) = unsafe { (*(*flight).request, (*flight).end.is_some()) };
        if !ends {
            // SAFETY: this thread's alone; the borrow ends with the statement.
            if let EngineSlot::Made(engine) = unsafe { &mut *self.engine.get() }
                && engine.queue(&request, token)
            {
                self.queued.update(|n| n + 1);
                return false;
            }
            if self.offload(token, request) {
                return false;
            }
        }
        self.complete(token, -libc::ECANCELED)
    }
}
