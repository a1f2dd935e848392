//! Ends waits early: at a deadline, on a signal whose handler must run, or when the fiber is
//! cancelled.

use super::Thread;
use crate::context;
use crate::engine::{Wait, pool};
use crate::host::Token;
use crate::runtime::in_flight::{Interruptible, NextStep};
use crate::runtime::operation::EarlyEnd;
use crate::runtime::signal::state::Handled;
use std::ffi::c_void;
use sys::{SignalSet, errno};

/// How long handlers of SIGCHLD wait for a pool thread to reap its child, and how often they check.
const REAPING_NS: u64 = 5_000_000;
const REAPING_PAUSE_NS: u64 = 20_000;

/// The index of pclose(3) in the call table.
const PCLOSE: usize = calltable::index_of("pclose");

impl Thread {
    /// Ends the waits whose deadline has passed.
    #[inline(never)]
    pub(super) fn end_expired(&self) -> usize {
        let now = sys::now();
        let mut unparked = 0;
        while let Some(token) = self.operations.pop_expired(now) {
            unparked += usize::from(self.end_early(token, EarlyEnd::Timeout));
        }
        unparked
    }

    /// Ends the operation of `token` early, if that is possible. Returns whether its fiber was
    /// unparked by this call.
    fn end_early(&self, token: Token, end: EarlyEnd) -> bool {
        let gone = match self.operations.begin_early_end(token, end) {
            NextStep::Nothing => false,
            NextStep::InterruptPoolThread => {
                pool::interrupt(self.remote(), token);
                false
            }
            NextStep::CancelInEngine => self.engine.cancel(token),
            NextStep::Complete => true,
        };
        if gone {
            self.complete(token, -libc::ECANCELED);
        }
        gone
    }

    /// Interrupts the wait of `fiber`, which is parked in the shim. Returns false if its wait
    /// cannot be ended early, or if its call is not a cancellation point, as inside a stream.
    pub fn cancel(&self, fiber: *const c_void) -> bool {
        self.end_wait_of(fiber, EarlyEnd::Interrupt)
    }

    /// Ends the poll, select or epoll_wait of `fiber` as if its time were up. Returns false if it
    /// is not parked in such a call.
    pub fn expire(&self, fiber: *const c_void) -> bool {
        self.operations.is_polling(fiber) && self.end_wait_of(fiber, EarlyEnd::Timeout)
    }

    fn end_wait_of(&self, fiber: *const c_void, end: EarlyEnd) -> bool {
        // A host that parks in place is cancelled by libc, which unlocks the stream.
        if self.streams.is_parked_inside(fiber) && !self.host.in_place {
            return false;
        }
        // This may allocate memory, and the locks of a preloaded malloc must not wake a wait during
        // that. Signal handlers are deferred and do not run at the end, because the calling fiber
        // may be about to enter the host's scheduler.
        let _off = context::libc();
        let Some((token, ends)) = self.operations.cancellable(fiber) else {
            return false;
        };
        let entered = context::shim(self.slot());
        if end == EarlyEnd::Interrupt {
            self.operations.note_cancelled(fiber);
        }
        self.end_early(token, end);
        entered.end_without_delivery();
        ends
    }

    /// For a wait of the whole thread, unblocks the signals that any of its parked fibers accepts
    /// as an interruption.
    #[cold]
    pub(super) fn begin_masked(&self) -> SignalSet {
        let (blocked, all_have_one) = self.operations.masks();
        let base = self.signals.begin_masked(blocked);
        if !all_have_one && blocked & base != blocked {
            self.signals.begin_masked(blocked & base);
        }
        base
    }

    /// Ends the wait of one fiber for the deferred signals. Returns how many fibers were unparked
    /// by this call. If no wait can be ended, the handlers run here, or later if a wait is about to
    /// end by itself.
    #[cold]
    pub(super) fn interrupt_for_signals(&self) -> usize {
        // A fiber that was unparked to run the handlers is either runnable, or it has run without
        // handling them because it ended or parked outside the shim.
        if self.signals.is_due() && self.host.runnable() == 0 {
            self.signals.set_due(false);
        }
        let Some((signals, base)) = self.signals.deferred().filter(|_| !self.signals.is_due())
        else {
            return 0;
        };
        if signals & sys::signal_bit(libc::SIGCHLD) != 0 {
            self.let_pclose_reap();
        }
        // A host that parks in place has no other fiber to run the handlers, so they wait for the
        // disk.
        let found = self
            .operations
            .interruptible(signals, base, self.host.in_place);
        match found {
            Interruptible::Wait(token) => {
                return usize::from(self.end_early(token, EarlyEnd::Interrupt));
            }
            Interruptible::Interrupted | Interruptible::EndsSoon => {}
            Interruptible::None => {
                let _off = context::libc();
                self.signals.deliver(None);
            }
        }
        0
    }

    /// Gives a pool thread that is in pclose(3) time to reap its child before a handler of SIGCHLD
    /// can. In a plain pclose(3), the wait4(2) that the signal interrupts reaps the child first.
    fn let_pclose_reap(&self) {
        if !self.operations.has_call(PCLOSE) {
            return;
        }
        let until = sys::now() + REAPING_NS;
        while sys::has_ended_child() && sys::now() < until {
            sys::pause(REAPING_PAUSE_NS);
        }
    }

    /// Runs the handlers that were deferred on the calling thread. On a scheduler's stack they stay
    /// deferred until a fiber runs.
    #[cold]
    pub fn deliver_deferred() {
        if let Some(thread) = Self::attached()
            && !thread.host.running().is_null()
        {
            thread.handle_signals(None);
        }
    }

    /// Runs the handlers of deferred signals, if any, on the running fiber. `mask` is the mask that
    /// the call waited under, if it had its own. Preserves errno.
    #[cold]
    #[inline(never)]
    pub fn handle_signals(&self, mask: Option<SignalSet>) -> Handled {
        if !self.signals.has_deferred() {
            return Handled::Nothing;
        }
        let errno = errno::get();
        let handled = self.signals.deliver(mask);
        errno::set(errno);
        handled
    }

    /// A handler ended with a jump out of it, onto the fiber that it ran on.
    pub fn jumped(&self) {
        self.signals.jumped();
        if self.host.in_place && self.host.running().is_null() {
            // The handler ran while its fiber was parked on an operation that cannot be ended. The
            // operation must be over before the fiber's stack is reused.
            while self.in_flight() > 0 {
                self.poll(Wait::Forever);
            }
            self.host.note_resumed_in_place();
        }
    }
}
