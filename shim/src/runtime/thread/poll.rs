//! The function that the host calls once a round, and when nothing is runnable: submits the queue,
//! waits, and unparks the fibers whose operations have completed.

use super::Thread;
use super::event_loop::RETRY_NS;
use crate::context;
use crate::engine::{Request, Sink, Wait};
use crate::host::Token;
use crate::host::remote::{Message, SleepPlace};

/// Receives the completions that the engine reports while it polls.
struct Completions<'a> {
    thread: &'a Thread,
    unparked: usize,
}

impl Sink for Completions<'_> {
    #[inline]
    fn done(&mut self, token: Token, result: i32) {
        self.unparked += usize::from(self.thread.complete(token, result));
    }

    fn offload(&mut self, token: Token, request: Request) {
        if !self.thread.offload(token, request) {
            // Not done: the fiber makes the plain call.
            self.done(token, -libc::ECANCELED);
        }
    }
}

impl Thread {
    /// Implements aioshim_poll. Returns how many fibers were unparked.
    pub fn poll(&self, wait: Wait) -> usize {
        self.end_armed_sleep();
        let idle = self.in_flight() == 0 && self.mailbox.is_empty() && !self.signals.has_deferred();
        if self.conversion.is_defunct() || (idle && matches!(wait, Wait::No)) {
            return 0;
        }
        let _pause = self.recorder.pause_tracer();
        // An exception thrown by a signal handler has ended the handler without a return.
        context::return_from_handler(self.slot());
        let entered = context::shim(self.slot());
        let masked = (self.signals.has_own_masks() && !self.signals.has_deferred())
            .then(|| self.begin_masked());
        let mut unparked = self.receive();
        let had_deferred = self.signals.has_deferred();
        let wait = self.operations.shorten(wait);
        let sleeps = unparked == 0
            && !had_deferred
            && !matches!(wait, Wait::No)
            && self.remote().begin_sleep(self.sleep_place());
        let wait = if sleeps { wait } else { Wait::No };
        unparked = self.run_engine(wait, unparked);
        if sleeps {
            self.remote().end_sleep();
            unparked += self.receive();
        }
        if self.operations.has_deadlines() {
            unparked += self.end_expired();
        }
        if let Some(base) = masked {
            self.signals.end_masked(base);
        }
        // An unparked fiber will run the handlers when it resumes. An operation that completed
        // before the signal arrived is not interrupted by it.
        if unparked == 0 && self.signals.has_deferred() {
            if !had_deferred {
                unparked = self.run_engine(Wait::No, 0) + self.receive();
            }
            if unparked == 0 {
                unparked = self.interrupt_for_signals();
            }
        }
        entered.end_without_delivery();
        if unparked == 0
            && self.remote().sleeps_elsewhere()
            && self.host.runnable() == 0
            && self.in_flight() > 0
        {
            self.order_wake_up();
        }
        unparked
    }

    /// Where the thread sleeps in a poll: in the engine if that may have an operation to wait for,
    /// or on the descriptors that the host watches.
    fn sleep_place(&self) -> SleepPlace {
        if self.pollable.watches_any() || (self.engine.sleeps() && self.in_flight() > 0) {
            SleepPlace::Eventfd
        } else {
            SleepPlace::Futex
        }
    }

    /// Makes the engine submit the queue, wait, and report. Returns the number of unparked fibers,
    /// including the `unparked` from before.
    fn run_engine(&self, wait: Wait, unparked: usize) -> usize {
        self.recorder.note_batch(self.engine.queued());
        let mut completions = Completions {
            thread: self,
            unparked,
        };
        let mut on_futex = false;
        let mut in_engine = wait;
        if !matches!(wait, Wait::No) {
            on_futex = self.sleep_place() == SleepPlace::Futex;
            if on_futex {
                in_engine = Wait::No;
            } else if self.pollable.watches_any() {
                self.sleep_on_descriptors(wait, &mut completions);
                in_engine = Wait::No;
            }
        }
        let polled = self.engine.poll(in_engine, &mut completions);
        let mut unparked = completions.unparked;
        if let Err(error) = polled {
            unparked += self.replace_engine(error);
        }
        if on_futex && unparked == 0 {
            self.remote().sleep(wait.timeout().as_ref());
        }
        unparked
    }

    /// Sleeps on the descriptors of the host as well as the engine's. Does not sleep if there are
    /// completions.
    #[cold]
    fn sleep_on_descriptors(&self, wait: Wait, completions: &mut Completions<'_>) {
        self.empty_sources();
        let polled = self.engine.poll(Wait::No, completions);
        if polled.is_ok() && completions.unparked == 0 && !self.signals.has_deferred() {
            let retry = self.engine.is_stalled();
            self.pollable
                .sleep(if retry { Wait::Nanos(RETRY_NS) } else { wait });
        }
    }

    /// Carries out the messages from other threads. Returns how many fibers were unparked.
    fn receive(&self) -> usize {
        let mut unparked = 0;
        self.mailbox.receive(|message| match message {
            Message::Unpark(fiber) => {
                self.host.unpark(fiber);
                unparked += 1;
            }
            Message::Completed(token, result) => {
                unparked += usize::from(self.complete(token, result));
            }
        });
        unparked
    }

    /// Called when nothing is runnable and the host may sleep elsewhere: arranges that an in-flight
    /// operation wakes it.
    #[cold]
    fn order_wake_up(&self) {
        let nanos = match self.operations.shorten(Wait::Forever) {
            Wait::No => Some(0),
            Wait::Nanos(nanos) => Some(nanos),
            Wait::Forever => None,
        };
        self.mailbox
            .order_wake_up(nanos, || self.engine.ready_descriptor());
    }
}
