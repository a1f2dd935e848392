//! What ends a wait before it is done: its deadline, a signal whose handler is to run, the
//! cancellation of its fiber.

use super::Thread;
use crate::deadlines::Deadline;
use crate::engine::{Token, Wait};
use crate::flight::{End, Flight, Kind};
use crate::signal::Handled;
use crate::sys::SignalSet;
use crate::tls::OffFiber;
use crate::{cancel, errno, hooks, main_fiber, pool, signal, sys};
use std::ffi::c_void;

/// How long a thread of the pool is given to notice that it is interrupted.
const KICK_AGAIN_NS: u64 = 1_000_000;
/// How long handlers of SIGCHLD wait for a thread of the pool to take the status of its child, and
/// how often they look.
const REAPING_NS: u64 = 5_000_000;
const REAPING_PAUSE_NS: u64 = 20_000;

impl Thread {
    /// Off the fiber: see [`Self::forget_deadline`].
    #[cold]
    pub(super) fn set_deadline(&self, flight: *mut Flight, token: Token) {
        let _off = OffFiber::enter();
        // SAFETY: alive, on its fiber's stack.
        self.deadlines
            .borrow_mut()
            .add(unsafe { (*flight).deadline }, token);
    }

    /// Off the fiber: the set takes memory and gives it back, and a preloaded malloc's locks may
    /// land a wait in here.
    #[cold]
    pub(super) fn forget_deadline(&self, deadline: Deadline, token: Token) {
        let _off = OffFiber::enter();
        self.deadlines.borrow_mut().remove(deadline, token);
    }

    /// Ends what is over its deadline.
    #[inline(never)]
    pub(super) fn end_overdue(&self) -> usize {
        let now = sys::now();
        let mut unparked = 0;
        loop {
            let Some(token) = self.deadlines.borrow_mut().pop(now) else {
                return unparked;
            };
            unparked += usize::from(self.end_early(token, End::Timeout));
        }
    }

    /// Has the operation of `token` end before it is done, if it can be ended; whether its fiber
    /// was unparked right now.
    fn end_early(&self, token: Token, end: End) -> bool {
        let Some(flight) = self.flights().get(token) else {
            return false;
        };
        // SAFETY: a flight in the slab is alive, and only this thread's (flight.rs).
        let flight = unsafe { &mut *flight };
        if flight.end.is_some() {
            if flight.kind == Kind::Pool && flight.is_interruptible() {
                self.kick(flight, token);
            }
            return false;
        }
        let gone = match flight.kind {
            Kind::Pool if !flight.is_interruptible() => return false,
            Kind::Pool => {
                flight.end = Some(end);
                self.deadlines.borrow_mut().remove(flight.deadline, token);
                if flight.is_ready() {
                    // Most likely it will not wait at all: then its result counts.
                    self.kick_later(flight, token);
                } else {
                    self.kick(flight, token);
                }
                false
            }
            Kind::Wait => flight.claim(),
            Kind::Engine => {
                flight.end = Some(end);
                self.engine().is_some_and(|engine| engine.cancel(token))
            }
        };
        if gone {
            flight.end = Some(end);
            self.complete(token, -libc::ECANCELED);
        }
        gone
    }

    /// Interrupts the thread of the pool that is at it, and does so again should that have come
    /// before it waited.
    fn kick(&self, flight: &mut Flight, token: Token) {
        pool::interrupt(&self.remote, token);
        self.kick_later(flight, token);
    }

    fn kick_later(&self, flight: &mut Flight, token: Token) {
        flight.deadline = sys::now() + KICK_AGAIN_NS;
        self.deadlines.borrow_mut().add(flight.deadline, token);
    }

    /// Ends what `fiber`, parked in here, waits for, with
    /// [`Errno::RESTART`](errno::Errno::RESTART). False if it waits for nothing that can be ended
    /// early, or the call is no cancellation point where it is made: inside a stream.
    pub fn cancel(&self, fiber: *const c_void) -> bool {
        if self.in_streams.borrow().contains(&fiber) {
            return false;
        }
        // It may take memory, and a preloaded malloc's locks must not land a wait in here. Handlers
        // wait, but do not run at the end: this may be a fiber on its way into the host's
        // scheduler.
        let _off = OffFiber::enter();
        let Some((token, flight)) = self.flights().of_fiber(fiber) else {
            return false;
        };
        // SAFETY: a flight in the slab is alive (flight.rs).
        if !cancel::is_point(unsafe { (*flight).row } as usize) {
            return false;
        }
        // SAFETY: it is still in the slab.
        let ends = unsafe { (*flight).kind != Kind::Pool || (*flight).is_interruptible() };
        let critical = self.signals.enter();
        self.cancelled.borrow_mut().insert(fiber);
        self.end_early(token, End::Interrupt);
        self.signals.leave(critical);
        ends
    }

    /// Whether [`Self::cancel`] has interrupted `fiber`, and this was not asked since.
    pub fn was_cancelled(&self, fiber: *const c_void) -> bool {
        self.cancelled.borrow_mut().remove(&fiber)
    }

    /// Whether [`Self::cancel`] has interrupted `fiber`.
    pub fn is_cancelled(&self, fiber: *const c_void) -> bool {
        self.cancelled.borrow().contains(&fiber)
    }

    /// Unblocks, for a wait of the whole thread, what any of its parked fibers waits to be
    /// interrupted by.
    #[cold]
    pub(super) fn begin_masked(&self) -> SignalSet {
        // SAFETY: flights in the slab are alive (flight.rs), and so are their masks.
        let masks = self
            .flights()
            .iter()
            .map(|(_, flight)| unsafe { (*flight).mask.as_ref() });
        let mut blocked = SignalSet::MAX;
        let mut all_have_one = true;
        for mask in masks {
            match mask {
                Some(mask) => blocked &= mask,
                None => all_have_one = false,
            }
        }
        let base = self.signals.begin_masked(blocked);
        if !all_have_one && blocked & base != blocked {
            self.signals.begin_masked(blocked & base);
        }
        base
    }

    /// Has a fiber's wait end for the signals that are held back; how many were unparked right now.
    /// Where none can be ended, the handlers run right here, or, if what is waited for comes by
    /// itself and soon, after that.
    #[cold]
    pub(super) fn interrupt_for_signals(&self) -> usize {
        // A fiber that was unparked to run the handlers is ready, or it has run and left them: it
        // ended, or parked outside the shim.
        if self.signals.due.get() && self.host.runnable() == 0 {
            self.signals.due.set(false);
        }
        let Some((signals, base)) = self.signals.held().filter(|_| !self.signals.due.get()) else {
            return 0;
        };
        if signals & signal::bit(libc::SIGCHLD) != 0 {
            self.let_pclose_reap();
        }
        let (mut accepts, mut soon) = (None, false);
        for (token, flight) in self.flights().iter() {
            // SAFETY: flights in the slab are alive (flight.rs).
            let flight = unsafe { &*flight };
            match flight.end {
                // Already told.
                Some(End::Interrupt) => return 0,
                Some(End::Timeout) => soon = true,
                None if accepts.is_none() && flight.accepts(signals, base) => accepts = Some(token),
                None => soon |= flight.is_brief() && self.host.in_place,
            }
        }
        if let Some(token) = accepts {
            return usize::from(self.end_early(token, End::Interrupt));
        }
        if !soon {
            let _off = OffFiber::enter();
            self.signals.deliver(None);
        }
        0
    }

    /// Gives a thread of the pool that is in pclose(3) the time to take the status of its child,
    /// before a handler of SIGCHLD may. In the kernel the wait that the signal interrupts comes
    /// first.
    fn let_pclose_reap(&self) {
        // SAFETY: flights in the slab are alive (flight.rs).
        let is_pclose =
            |(_, flight): (Token, *mut Flight)| hooks::is_pclose(unsafe { (*flight).row });
        if !self.flights().iter().any(is_pclose) {
            return;
        }
        let until = sys::now() + REAPING_NS;
        while sys::has_ended_child() && sys::now() < until {
            sys::pause(REAPING_PAUSE_NS);
        }
    }

    /// Runs the handlers of the signals that are held back, on the running fiber, if there are any;
    /// under `mask`, if that is what it waited under. errno is kept.
    #[cold]
    #[inline(never)]
    pub fn handle_signals(&self, mask: Option<SignalSet>) -> Handled {
        if !self.signals.is_held() {
            return Handled::Nothing;
        }
        let errno = errno::get();
        let handled = self.signals.deliver(mask);
        errno::set(errno);
        handled
    }

    /// A handler jumped out of itself: onto the fiber that it ran on.
    pub fn jumped(&self) {
        self.signals.jumped();
        if self.host.in_place && self.host.running().is_null() {
            // It ran while its fiber was parked on what cannot be ended: that must be over before
            // its stack is used anew.
            while self.in_flight() > 0 {
                self.poll(Wait::Forever);
            }
            main_fiber::unparked(&self.host);
        }
    }
}
