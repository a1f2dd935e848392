//! What the fibers of one thread wait for in the shim: operations in flight and their deadlines,
//! and turns that other fibers pass on.
//!
//! Invariant: only the attached thread uses this. The operations in the slab are alive, because
//! each is on the stack of a fiber that stays parked until its operation is removed from the slab
//! ([`operation`](super::operation)).

use crate::context;
use crate::engine::Request;
use crate::engine::Wait;
use crate::host::Token;
use crate::runtime::cancel;
use crate::runtime::deadlines::{Deadline, Deadlines, NEVER};
use crate::runtime::operation::{EarlyEnd, Executor, Operation, Operations};
use std::cell::{Cell, RefCell, UnsafeCell};
use std::collections::HashSet;
use std::ffi::c_void;
use sys::SignalSet;

/// How long a pool thread may take to notice its interruption.
const REPEAT_INTERRUPT_NS: u64 = 1_000_000;

pub struct InFlight {
    operations: UnsafeCell<Operations>,
    deadlines: RefCell<Deadlines>,
    /// Number of fibers that wait for a file position or a stream.
    waiting_for_turn: Cell<usize>,
    /// Number of fibers that wait for a pool thread which their operation, if they have one, does
    /// not name: it runs a function with call-backs, or waits for a condition in their place.
    waiting_for_function: Cell<usize>,
    /// Fibers whose waits were interrupted because they are cancelled.
    cancelled: RefCell<HashSet<*const c_void>>,
}

/// What the caller of [`InFlight::begin_early_end`] must do next.
pub enum NextStep {
    /// Nothing: the operation cannot end early, or is about to end.
    Nothing,
    /// Interrupt the pool thread that performs the operation.
    InterruptPoolThread,
    /// Have the engine cancel the operation.
    CancelInEngine,
    /// Complete the operation with ECANCELED, because nothing performs it.
    Complete,
}

/// The wait that a signal may interrupt.
pub enum Interruptible {
    Wait(Token),
    /// One that was interrupted already; its fiber will run the handlers.
    Interrupted,
    /// None, but one is about to end by itself.
    EndsSoon,
    None,
}

impl InFlight {
    pub fn new() -> Self {
        Self {
            operations: UnsafeCell::new(Operations::new()),
            deadlines: RefCell::new(Deadlines::new()),
            waiting_for_turn: Cell::new(0),
            waiting_for_function: Cell::new(0),
            cancelled: RefCell::default(),
        }
    }

    /// Number of fibers parked in the shim that can still be woken.
    #[inline(always)]
    pub fn waiting(&self) -> usize {
        self.operations().len() + self.waiting_for_turn.get() + self.waiting_for_function.get()
    }

    /// Number of these fibers that only another fiber or thread can wake. `handles_signals` says
    /// whether the program has signal handlers.
    pub fn blocked(&self, handles_signals: fn() -> bool) -> usize {
        let blocked = self
            .iter()
            .filter(|(_, operation)| operation.is_blocked_by_others(handles_signals));
        blocked.count() + self.waiting_for_turn.get()
    }

    /// Whether fibers are parked, and only another fiber or thread can wake them. Stops at the
    /// first fiber that something else can wake.
    pub fn all_blocked(&self, handles_signals: fn() -> bool) -> bool {
        self.waiting() > 0
            && self.waiting_for_function.get() == 0
            && self
                .iter()
                .all(|(_, operation)| operation.is_blocked_by_others(handles_signals))
    }

    /// Number of operations.
    #[inline(always)]
    pub fn len(&self) -> usize {
        self.operations().len()
    }

    #[inline(always)]
    fn operations(&self) -> &Operations {
        // SAFETY: only the attached thread uses it, and no mutable borrow outlives its statement.
        unsafe { &*self.operations.get() }
    }

    fn iter(&self) -> impl Iterator<Item = (Token, &Operation)> {
        // SAFETY: operations in the slab are alive (module invariant).
        let alive = |(token, operation): (Token, *mut Operation)| (token, unsafe { &*operation });
        self.operations().iter().map(alive)
    }

    fn get(&self, token: Token) -> Option<&Operation> {
        // SAFETY: operations in the slab are alive (module invariant).
        self.operations()
            .get(token)
            .map(|operation| unsafe { &*operation })
    }

    fn by_fiber(&self, fiber: *const c_void) -> Option<(Token, &Operation)> {
        let (token, operation) = self.operations().by_fiber(fiber)?;
        // SAFETY: operations in the slab are alive (module invariant).
        Some((token, unsafe { &*operation }))
    }

    /// Adds the operation of a fiber that is about to park, and sets its deadline if it has one.
    ///
    /// # Safety
    /// `operation` and its request stay in place until it is removed: by [`Self::finish`] or
    /// [`Self::withdraw`].
    #[inline(always)]
    pub unsafe fn add(&self, operation: *mut Operation) -> Token {
        // SAFETY: only the attached thread uses it, and the borrow ends with the statement.
        let token = unsafe { &mut *self.operations.get() }.add(operation);
        // SAFETY: our caller keeps the operation alive.
        let deadline = unsafe { (*operation).deadline };
        if deadline != NEVER {
            self.set_deadline(deadline, token);
        }
        token
    }

    /// Removes an operation that its fiber has not parked for, if it is still in flight.
    pub fn withdraw(&self, token: Token) {
        // SAFETY: only the attached thread uses it, and the borrow ends with the statement.
        if let Some(operation) = unsafe { &mut *self.operations.get() }.remove(token) {
            // SAFETY: the operation was in the slab until now, and its fiber runs only after this.
            let deadline = unsafe { (*operation).deadline };
            if deadline != NEVER {
                self.forget_deadline(deadline, token);
            }
        }
    }

    /// Removes the operation of `token`, which has completed with `result`, and returns its fiber;
    /// None if it is not in flight.
    #[inline(always)]
    pub fn finish(&self, token: Token, result: i32) -> Option<*mut c_void> {
        // SAFETY: only the attached thread uses it, and the borrow ends with the statement.
        let operation = unsafe { &mut *self.operations.get() }.remove(token)?;
        // SAFETY: the operation was in the slab until now, and its fiber stays parked until our
        // caller unparks it.
        unsafe {
            (*operation).finish(result);
            if (*operation).deadline != NEVER {
                self.forget_deadline((*operation).deadline, token);
            }
            Some((*operation).fiber)
        }
    }

    /// Runs off the fiber; see [`Self::forget_deadline`].
    #[cold]
    fn set_deadline(&self, deadline: Deadline, token: Token) {
        let _off = context::libc();
        self.deadlines.borrow_mut().add(deadline, token);
    }

    /// Runs off the fiber: the set allocates and frees memory, and the locks of a preloaded malloc
    /// may wake a wait during that.
    #[cold]
    fn forget_deadline(&self, deadline: Deadline, token: Token) {
        let _off = context::libc();
        self.deadlines.borrow_mut().remove(deadline, token);
    }

    pub fn has_deadlines(&self) -> bool {
        !self.deadlines.borrow().is_empty()
    }

    /// The next operation whose deadline has passed at `now`. Each deadline is returned once.
    pub fn pop_expired(&self, now: Deadline) -> Option<Token> {
        self.deadlines.borrow_mut().pop(now)
    }

    /// `wait`, but not past the first deadline.
    pub fn shorten(&self, wait: Wait) -> Wait {
        self.deadlines.borrow().shorten(wait, sys::now)
    }

    /// A fiber begins to wait for a file position or a stream.
    pub fn begin_turn_wait(&self) {
        self.waiting_for_turn.update(|n| n + 1);
    }

    pub fn end_turn_wait(&self) {
        self.waiting_for_turn.update(|n| n - 1);
    }

    /// A fiber begins to wait for a pool thread that is running a function with call-backs, or that
    /// waits for a condition in its place.
    pub fn begin_function_wait(&self) {
        self.waiting_for_function.update(|n| n + 1);
    }

    pub fn end_function_wait(&self) {
        self.waiting_for_function.update(|n| n - 1);
    }

    /// The operations that the engine has to perform.
    pub fn of_engine(&self) -> Vec<Token> {
        let of_engine = self
            .iter()
            .filter(|(_, operation)| operation.executor == Executor::Engine);
        of_engine.map(|(token, _)| token).collect()
    }

    /// The request of an operation in flight that does not end early.
    pub fn request(&self, token: Token) -> Option<Request> {
        let operation = self.get(token)?;
        operation.end.is_none().then(|| *operation.request())
    }

    /// The pool performs the operation of `token`. Returns its row; None if it is not in flight.
    pub fn note_offloaded(&self, token: Token) -> Option<usize> {
        let operation = self.operations().get(token)?;
        // SAFETY: operations in the slab are alive (module invariant).
        let operation = unsafe { &mut *operation };
        operation.executor = Executor::Pool;
        Some(operation.row as usize)
    }

    /// Begins to end the operation of `token` early, if that is possible.
    pub fn begin_early_end(&self, token: Token, end: EarlyEnd) -> NextStep {
        let Some(operation) = self.operations().get(token) else {
            return NextStep::Nothing;
        };
        // SAFETY: operations in the slab are alive (module invariant).
        let operation = unsafe { &mut *operation };
        let interruptible_on_pool =
            operation.executor == Executor::Pool && operation.is_interruptible();
        if operation.end.is_some() {
            if interruptible_on_pool {
                self.repeat_interrupt_later(operation, token);
                return NextStep::InterruptPoolThread;
            }
            return NextStep::Nothing;
        }
        match operation.executor {
            Executor::Pool if !interruptible_on_pool => NextStep::Nothing,
            Executor::Pool => {
                operation.end = Some(end);
                self.deadlines
                    .borrow_mut()
                    .remove(operation.deadline, token);
                self.repeat_interrupt_later(operation, token);
                if operation.is_ready() {
                    // It will probably not block at all, and then its own result counts.
                    NextStep::Nothing
                } else {
                    NextStep::InterruptPoolThread
                }
            }
            Executor::None if !operation.claim() => NextStep::Nothing,
            Executor::None => {
                operation.end = Some(end);
                NextStep::Complete
            }
            Executor::Engine => {
                operation.end = Some(end);
                NextStep::CancelInEngine
            }
        }
    }

    /// Has the interruption of a pool thread repeated, in case its signal arrives before the thread
    /// blocks.
    fn repeat_interrupt_later(&self, operation: &mut Operation, token: Token) {
        operation.deadline = sys::now() + REPEAT_INTERRUPT_NS;
        self.deadlines.borrow_mut().add(operation.deadline, token);
    }

    /// The operation of `fiber` if its call is a cancellation point, and whether it can end early.
    pub fn cancellable(&self, fiber: *const c_void) -> Option<(Token, bool)> {
        let (token, operation) = self.by_fiber(fiber)?;
        let ends = operation.executor != Executor::Pool || operation.is_interruptible();
        cancel::is_waiting_point(operation.row as usize).then_some((token, ends))
    }

    /// Whether `fiber` is parked in poll(2), select(2), epoll_wait(2) or a variant of these.
    pub fn is_polling(&self, fiber: *const c_void) -> bool {
        self.by_fiber(fiber).is_some_and(|(_, operation)| {
            let name = calltable::name(operation.row as usize);
            name.contains("poll") || name.contains("select")
        })
    }

    /// `fiber` is interrupted because it is cancelled.
    pub fn note_cancelled(&self, fiber: *const c_void) {
        self.cancelled.borrow_mut().insert(fiber);
    }

    /// Whether a cancellation has interrupted `fiber` since the last call of this function.
    pub fn was_cancelled(&self, fiber: *const c_void) -> bool {
        self.cancelled.borrow_mut().remove(&fiber)
    }

    /// Whether a cancellation has interrupted `fiber`.
    pub fn is_cancelled(&self, fiber: *const c_void) -> bool {
        self.cancelled.borrow().contains(&fiber)
    }

    /// `fiber` has ended.
    pub fn forget_fiber(&self, fiber: *const c_void) {
        self.cancelled.borrow_mut().remove(&fiber);
    }

    /// The signals that all waits with a signal mask of their own block, and whether all waits have
    /// one.
    pub fn masks(&self) -> (SignalSet, bool) {
        let mut blocked = SignalSet::MAX;
        let mut all_have_one = true;
        for (_, operation) in self.iter() {
            // SAFETY: the mask of an operation lives as long as the operation (operation.rs).
            match unsafe { operation.mask.as_ref() } {
                Some(mask) => blocked &= mask,
                None => all_have_one = false,
            }
        }
        (blocked, all_have_one)
    }

    /// The wait that `signals` interrupt best on a thread that blocks `base`. A fiber in pause(2)
    /// comes first, because it waits for a signal; another one would only be disturbed by it.
    /// `disk_is_soon` says whether a wait for a disk counts as one that is about to end.
    pub fn interruptible(
        &self,
        signals: SignalSet,
        base: SignalSet,
        disk_is_soon: bool,
    ) -> Interruptible {
        let (mut needs, mut accepts, mut soon) = (None, None, false);
        for (token, operation) in self.iter() {
            match operation.end {
                Some(EarlyEnd::Interrupt) => return Interruptible::Interrupted,
                Some(EarlyEnd::Timeout) => soon = true,
                None if operation.accepts(signals, base) => {
                    let found = if operation.needs_a_signal() {
                        &mut needs
                    } else {
                        &mut accepts
                    };
                    found.get_or_insert(token);
                }
                None => soon |= operation.waits_for_disk_only() && disk_is_soon,
            }
        }
        match needs.or(accepts) {
            Some(token) => Interruptible::Wait(token),
            None if soon => Interruptible::EndsSoon,
            None => Interruptible::None,
        }
    }

    /// Whether a fiber waits in the call of this row.
    pub fn has_call(&self, row: usize) -> bool {
        self.iter()
            .any(|(_, operation)| operation.row as usize == row)
    }

    /// Describes the call that a parked fiber waits in.
    pub fn describe(&self, fiber: *const c_void) -> Option<String> {
        let _off = context::libc();
        let (_, operation) = self.by_fiber(fiber)?;
        let name = calltable::name(operation.row as usize);
        Some(match operation.fd() {
            Some(fd) => format!("{name}({fd})"),
            None => name.to_owned(),
        })
    }
}
