//! Ends waits early: at a deadline, on a signal whose handler must run, or when the fiber is
//! cancelled.

use super::Thread;
use crate::context;
use crate::engine::{Wait, pool};
use crate::host::Token;
use crate::runtime::cancel;
use crate::runtime::deadlines::Deadline;
use crate::runtime::operation::{EarlyEnd, Executor, Operation};
use crate::runtime::signal::Handled;
use calltable::NAMES;
use std::ffi::c_void;
use sys::{SignalSet, errno};

/// How long a pool thread may take to notice its interruption.
const REPEAT_INTERRUPT_NS: u64 = 1_000_000;
/// How long handlers of SIGCHLD wait for a pool thread to reap its child, and how often they check.
const REAPING_NS: u64 = 5_000_000;
const REAPING_PAUSE_NS: u64 = 20_000;

impl Thread {
    /// Runs off the fiber; see [`Self::forget_deadline`].
    #[cold]
    pub(super) fn set_deadline(&self, operation: *mut Operation, token: Token) {
        let _off = context::libc();
        // SAFETY: the operation is alive, on its fiber's stack.
        self.deadlines
            .borrow_mut()
            .add(unsafe { (*operation).deadline }, token);
    }

    /// Runs off the fiber: the set allocates and frees memory, and the locks of a preloaded malloc
    /// may wake a wait during that.
    #[cold]
    pub(super) fn forget_deadline(&self, deadline: Deadline, token: Token) {
        let _off = context::libc();
        self.deadlines.borrow_mut().remove(deadline, token);
    }

    /// Ends the waits whose deadline has passed.
    #[inline(never)]
    pub(super) fn end_expired(&self) -> usize {
        let now = sys::now();
        let mut unparked = 0;
        loop {
            let Some(token) = self.deadlines.borrow_mut().pop(now) else {
                return unparked;
            };
            unparked += usize::from(self.end_early(token, EarlyEnd::Timeout));
        }
    }

    /// Ends the operation of `token` early, if that is possible. Returns whether its fiber was
    /// unparked by this call.
    fn end_early(&self, token: Token, end: EarlyEnd) -> bool {
        let Some(operation) = self.operations().get(token) else {
            return false;
        };
        // SAFETY: operations in the slab are alive, and only this thread uses them (operation.rs).
        let operation = unsafe { &mut *operation };
        if operation.end.is_some() {
            if operation.executor == Executor::Pool && operation.is_interruptible() {
                self.interrupt_pool_thread(operation, token);
            }
            return false;
        }
        let gone = match operation.executor {
            Executor::Pool if !operation.is_interruptible() => return false,
            Executor::Pool => {
                operation.end = Some(end);
                self.deadlines
                    .borrow_mut()
                    .remove(operation.deadline, token);
                if operation.is_ready() {
                    // It will probably not block at all, and then its own result counts.
                    self.repeat_interrupt_later(operation, token);
                } else {
                    self.interrupt_pool_thread(operation, token);
                }
                false
            }
            Executor::None => operation.claim(),
            Executor::Engine => {
                operation.end = Some(end);
                self.engine().is_some_and(|engine| engine.cancel(token))
            }
        };
        if gone {
            operation.end = Some(end);
            self.complete(token, -libc::ECANCELED);
        }
        gone
    }

    /// Interrupts the pool thread that runs the operation. Repeats that later, in case the signal
    /// arrived before the thread blocked.
    fn interrupt_pool_thread(&self, operation: &mut Operation, token: Token) {
        pool::interrupt(&self.remote, token);
        self.repeat_interrupt_later(operation, token);
    }

    fn repeat_interrupt_later(&self, operation: &mut Operation, token: Token) {
        operation.deadline = sys::now() + REPEAT_INTERRUPT_NS;
        self.deadlines.borrow_mut().add(operation.deadline, token);
    }

    /// Ends the wait of `fiber`, which is parked in the shim, with
    /// [`Errno::RESTART`](errno::Errno::RESTART). Returns false if its wait cannot be ended early,
    /// or if its call is not a cancellation point, as inside a stream.
    pub fn cancel(&self, fiber: *const c_void) -> bool {
        if self.in_streams.borrow().contains(&fiber) {
            return false;
        }
        // This may allocate memory, and the locks of a preloaded malloc must not wake a wait during
        // that. Signal handlers are deferred and do not run at the end, because the calling fiber
        // may be about to enter the host's scheduler.
        let _off = context::libc();
        let Some((token, operation)) = self.operations().by_fiber(fiber) else {
            return false;
        };
        // SAFETY: operations in the slab are alive (operation.rs).
        if !cancel::is_point(unsafe { (*operation).row } as usize) {
            return false;
        }
        // SAFETY: the operation is still in the slab.
        let ends =
            unsafe { (*operation).executor != Executor::Pool || (*operation).is_interruptible() };
        let entered = context::shim(self.slot());
        self.cancelled.borrow_mut().insert(fiber);
        self.end_early(token, EarlyEnd::Interrupt);
        entered.end_without_delivery();
        ends
    }

    /// Whether [`Self::cancel`] has interrupted `fiber` since the last call of this function.
    pub fn was_cancelled(&self, fiber: *const c_void) -> bool {
        self.cancelled.borrow_mut().remove(&fiber)
    }

    /// Whether [`Self::cancel`] has interrupted `fiber`.
    pub fn is_cancelled(&self, fiber: *const c_void) -> bool {
        self.cancelled.borrow().contains(&fiber)
    }

    /// For a wait of the whole thread, unblocks the signals that any of its parked fibers accepts
    /// as an interruption.
    #[cold]
    pub(super) fn begin_masked(&self) -> SignalSet {
        // SAFETY: operations in the slab are alive, and so are their masks (operation.rs).
        let masks = self
            .operations()
            .iter()
            .map(|(_, operation)| unsafe { (*operation).mask.as_ref() });
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

    /// Ends the wait of one fiber for the deferred signals. Returns how many fibers were unparked
    /// by this call. If no wait can be ended, the handlers run here, or later if a wait is about to
    /// end by itself.
    #[cold]
    pub(super) fn interrupt_for_signals(&self) -> usize {
        // A fiber that was unparked to run the handlers is either runnable, or it has run without
        // handling them because it ended or parked outside the shim.
        if self.signals.due.get() && self.host.runnable() == 0 {
            self.signals.due.set(false);
        }
        let Some((signals, base)) = self.signals.deferred().filter(|_| !self.signals.due.get())
        else {
            return 0;
        };
        if signals & sys::signal_bit(libc::SIGCHLD) != 0 {
            self.let_pclose_reap();
        }
        let (mut needs, mut accepts, mut soon) = (None, None, false);
        for (token, operation) in self.operations().iter() {
            // SAFETY: operations in the slab are alive (operation.rs).
            let operation = unsafe { &*operation };
            match operation.end {
                // This operation has been interrupted already, and its fiber will run the handlers.
                Some(EarlyEnd::Interrupt) => return 0,
                Some(EarlyEnd::Timeout) => soon = true,
                None if operation.accepts(signals, base) => {
                    let found = if operation.needs_a_signal() {
                        &mut needs
                    } else {
                        &mut accepts
                    };
                    found.get_or_insert(token);
                }
                None => soon |= operation.waits_for_disk_only() && self.host.in_place,
            }
        }
        // A fiber in pause(2) waits for this signal; another one would only be disturbed by it.
        if let Some(token) = needs.or(accepts) {
            return usize::from(self.end_early(token, EarlyEnd::Interrupt));
        }
        if !soon {
            let _off = context::libc();
            self.signals.deliver(None);
        }
        0
    }

    /// Gives a pool thread that is in pclose(3) time to reap its child before a handler of SIGCHLD
    /// can. In a plain pclose(3), the wait4(2) that the signal interrupts reaps the child first.
    fn let_pclose_reap(&self) {
        let is_pclose = |(_, operation): (Token, *mut Operation)| {
            // SAFETY: operations in the slab are alive (operation.rs).
            let row = unsafe { (*operation).row };
            NAMES[row as usize].name == "pclose"
        };
        if !self.operations().iter().any(is_pclose) {
            return;
        }
        let until = sys::now() + REAPING_NS;
        while sys::has_ended_child() && sys::now() < until {
            sys::pause(REAPING_PAUSE_NS);
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
