//! Whose code runs on this OS thread: the one answer, and the only code that changes it.
//!
//! Hooks and the signal trampoline behave differently in the program's code, in the shim's, in
//! libc's and in a signal handler. [`Context`] names these cases. Code that crosses from one to
//! another holds an [`Entered`] for as long as it stays there; dropping it restores the context
//! from before.
//!
//! | context | hooks | signal handlers |
//! |---|---|---|
//! | [`Fiber`](Context::Fiber) | convert calls | run at once |
//! | [`Shim`](Context::Shim) | convert calls, as nested calls | are deferred |
//! | [`Libc`](Context::Libc) | pass through | run at once |
//! | [`Critical`](Context::Critical) | pass through | are deferred |
//! | [`Handler`](Context::Handler) | pass through | run at once |
//! | [`Unattached`](Context::Unattached) | pass through | run at once |
//!
//! A host's scheduler runs in [`Fiber`](Context::Fiber), too. The host says that no fiber runs, and
//! hooks then pass through.
//!
//! The state is one byte in the attached thread's [`Slot`], and two thread-local words
//! ([`words`]): the word that every hook reads is null exactly if hooks pass through, so that a
//! call which is not converted costs one load.
//!
//! Invariant: only this module writes the words and the byte. A fiber may park in
//! [`Shim`](Context::Shim), but in no context in which hooks pass through; so an [`Entered`] that
//! touches the words ends on the OS thread, and with the slot, on which it began.

mod lock;
mod words;

pub use lock::{Condvar, Mutex, MutexGuard};
pub use words::exceptions;

use std::cell::Cell;
use std::marker::PhantomData;
use std::ptr::null;
use std::sync::atomic::{
    AtomicBool, AtomicU8, Ordering::Relaxed, Ordering::SeqCst, compiler_fence,
};

/// Whose code runs on this OS thread.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Context {
    /// No host has attached this thread.
    Unattached,
    /// The program's own code on a fiber, or the host's scheduler.
    Fiber,
    /// The shim's code, during a call or a poll.
    Shim,
    /// A libc function that the shim calls, or a thread whose calls all pass through.
    Libc,
    /// A critical section of the shim: neither a handler nor another fiber may run.
    Critical,
    /// A signal handler of the program.
    Handler,
}

/// Handlers are deferred.
const DEFERS: u8 = 1;
/// Hooks pass through.
const PASSES: u8 = 2;
/// A signal handler of the program runs.
const HANDLES: u8 = 4;

/// The context of one attached thread. Only that thread uses it. Its own signal handlers may run
/// between any two accesses, so the fields that they touch are atomics.
pub struct Slot {
    /// A set of the bits above.
    state: AtomicU8,
    /// Signals arrived while handlers were deferred.
    deferred: AtomicBool,
    /// All calls of the thread pass through from now on.
    off: Cell<bool>,
    /// Runs the deferred handlers of the calling thread.
    deliver: fn(),
}

impl Slot {
    pub fn new(deliver: fn()) -> Self {
        Self {
            state: AtomicU8::new(0),
            deferred: AtomicBool::new(false),
            off: Cell::new(false),
            deliver,
        }
    }

    fn context(&self) -> Context {
        let state = self.state.load(Relaxed);
        match (
            state & HANDLES != 0,
            state & PASSES != 0,
            state & DEFERS != 0,
        ) {
            (true, ..) => Context::Handler,
            (_, true, true) => Context::Critical,
            (_, true, false) => Context::Libc,
            (_, false, true) => Context::Shim,
            (_, false, false) => Context::Fiber,
        }
    }

    /// Whether handlers are deferred, because the shim's code runs: a call that a hook converts now
    /// is a nested one.
    #[inline(always)]
    pub fn defers(&self) -> bool {
        self.state.load(Relaxed) & DEFERS != 0
    }

    /// Whether signals are waiting for their handlers.
    #[inline(always)]
    pub fn has_deferred(&self) -> bool {
        self.deferred.load(Relaxed)
    }

    /// Notes whether signals are waiting for their handlers.
    pub fn set_deferred(&self, deferred: bool) {
        self.deferred.store(deferred, Relaxed);
    }

    /// Sets the state. Returns the state from before. The compiler moves no access of the code
    /// around it across this.
    #[inline(always)]
    fn replace(&self, state: u8) -> u8 {
        compiler_fence(SeqCst);
        let before = self.state.load(Relaxed);
        self.state.store(state, Relaxed);
        compiler_fence(SeqCst);
        before
    }

    #[inline(always)]
    fn set(&self, state: u8) {
        compiler_fence(SeqCst);
        self.state.store(state, Relaxed);
        compiler_fence(SeqCst);
    }

    /// Runs the deferred handlers, unless the state still defers them.
    #[inline(always)]
    fn deliver(&self, state: u8) {
        if self.has_deferred() && state & DEFERS == 0 {
            (self.deliver)();
        }
    }

    /// Lets hooks convert calls, unless all calls of the thread pass through.
    fn convert(&self) {
        if !self.off.get() {
            words::set_active(words::attached());
        }
    }
}

/// What an [`Entered`] entered, and what happens at its end.
pub trait Mode {
    /// Hooks pass through, so the thread-local word changes.
    const PASSES: bool;
    /// Deferred handlers run at the end, if they are not deferred any more.
    const DELIVERS: bool;
}

/// The shim's code.
pub struct Shim;
/// A critical section.
pub struct Critical;
/// A libc function.
pub struct Libc;
/// A signal handler.
pub struct Handler;
/// The program's code or the host's, called by the shim.
pub struct Outside;

impl Mode for Shim {
    const PASSES: bool = false;
    const DELIVERS: bool = true;
}

impl Mode for Critical {
    const PASSES: bool = true;
    const DELIVERS: bool = true;
}

impl Mode for Libc {
    const PASSES: bool = true;
    const DELIVERS: bool = false;
}

impl Mode for Handler {
    const PASSES: bool = true;
    const DELIVERS: bool = false;
}

impl Mode for Outside {
    const PASSES: bool = false;
    const DELIVERS: bool = false;
}

/// While this lives, the thread is in the context that it entered. Contexts nest.
#[must_use]
pub struct Entered<'a, M: Mode> {
    /// Null if nothing changed, because hooks passed through already.
    slot: *const Slot,
    before: u8,
    mode: PhantomData<(&'a Slot, M)>,
}

impl<M: Mode> Entered<'_, M> {
    #[inline(always)]
    fn new(slot: *const Slot, before: u8) -> Self {
        Self {
            slot,
            before,
            mode: PhantomData,
        }
    }

    /// Whether handlers were deferred before: the shim had been entered already.
    #[inline(always)]
    pub fn is_nested(&self) -> bool {
        self.before & DEFERS != 0
    }
}

impl Entered<'_, Shim> {
    /// Ends it without running deferred handlers.
    pub fn end_without_delivery(self) {
        let entered = std::mem::ManuallyDrop::new(self);
        // SAFETY: `shim` took it from a reference that the lifetime of `self` keeps valid.
        unsafe { &*entered.slot }.set(entered.before);
    }
}

impl<M: Mode> Drop for Entered<'_, M> {
    #[inline(always)]
    fn drop(&mut self) {
        if M::PASSES && self.slot.is_null() {
            return;
        }
        // SAFETY: not null: it is null only for modes in which hooks pass through. The thread stays
        // attached while its code runs.
        let slot = unsafe { &*self.slot };
        if M::PASSES {
            slot.convert();
        }
        slot.set(self.before);
        if M::DELIVERS {
            slot.deliver(self.before);
        }
    }
}

/// Enters the shim: handlers are deferred until this ends. The fiber may park in that time.
#[inline(always)]
pub fn shim(slot: &Slot) -> Entered<'_, Shim> {
    Entered::new(slot, slot.replace(DEFERS))
}

/// Calls the program's own code from inside the shim: deferred handlers run now, and its calls are
/// not nested ones.
pub fn program(slot: &Slot) -> Entered<'_, Outside> {
    let entered = host(slot);
    slot.deliver(0);
    entered
}

/// Calls a callback of the host from inside the shim. Deferred handlers do not run now; they run
/// when a fiber leaves the shim.
#[inline(always)]
pub fn host(slot: &Slot) -> Entered<'_, Outside> {
    let before = slot.state.load(Relaxed);
    slot.set(before & !DEFERS);
    Entered::new(slot, before)
}

/// Begins a critical section. Does nothing if hooks pass through already.
pub fn critical() -> Entered<'static, Critical> {
    pass(DEFERS | PASSES)
}

/// Calls a libc function that may call a hook: hooks pass through, and handlers are deferred if
/// they were before. The function must not block while other fibers could run.
pub fn libc() -> Entered<'static, Libc> {
    pass(PASSES)
}

/// Runs `function`, which calls libc, in [`libc()`].
pub fn in_libc<R>(function: impl FnOnce() -> R) -> R {
    let _libc = libc();
    function()
}

/// Calls a signal handler of the program.
pub fn handler() -> Entered<'static, Handler> {
    let slot = words::active();
    // SAFETY: null, or the slot of this thread, which stays attached while its code runs.
    let before = unsafe { slot.as_ref() }.map_or(0, |slot| {
        let before = slot.state.load(Relaxed);
        // A fault inside the shim has interrupted it: other handlers stay deferred.
        slot.set(before & DEFERS | PASSES | HANDLES);
        words::set_active(null());
        before
    });
    Entered::new(slot, before)
}

#[inline(always)]
fn pass<M: Mode>(bits: u8) -> Entered<'static, M> {
    let slot = words::active();
    // SAFETY: null, or the slot of this thread, which stays attached while its code runs.
    let before = unsafe { slot.as_ref() }.map_or(0, |slot| {
        // In this order, and the other way round at the end: a signal in between finds handlers
        // deferred already, or can tell that it interrupted a fiber.
        let before = slot.state.load(Relaxed);
        slot.set(before | bits);
        words::set_active(null());
        before
    });
    Entered::new(slot, before)
}

/// Enters [`Handler`] for assembly, which passes the result to [`leave`].
pub fn enter_handler() -> usize {
    into_word(handler())
}

/// Enters [`Libc`] for the assembly that makes a child in this memory. The parent passes the result
/// to [`leave`].
pub extern "C" fn enter_child() -> usize {
    into_word(libc())
}

fn into_word<M: Mode>(entered: Entered<'static, M>) -> usize {
    let entered = std::mem::ManuallyDrop::new(entered);
    if entered.slot.is_null() {
        NOTHING_ENTERED
    } else {
        usize::from(entered.before)
    }
}

/// Hooks passed through already.
const NOTHING_ENTERED: usize = usize::MAX;

/// Ends [`enter_handler`] or [`enter_child`], which returned `before`.
pub extern "C" fn leave(before: usize) {
    if before != NOTHING_ENTERED {
        drop(Entered::<Libc>::new(words::attached(), before as u8));
    }
}

/// Runs `code` in a libc function whose child process shares or copies this memory: the child sees
/// a thread that is not attached.
pub fn unattached<R>(code: impl FnOnce() -> R) -> R {
    let _entered = libc();
    let attached = words::attached();
    words::set_attached(null());
    let result = code();
    words::set_attached(attached);
    result
}

/// In a child process: the thread is not attached from now on.
pub fn forget() {
    words::set_active(null());
    words::set_attached(null());
}

/// Attaches this thread: its context is `slot` from now on.
///
/// # Safety
/// `slot` stays in place until [`forget`], and only this thread uses it.
pub unsafe fn attach(slot: *const Slot) {
    words::set_attached(slot);
    words::set_active(slot);
}

/// Passes all calls of the attached thread through from now on.
pub fn stay_off(slot: &Slot) {
    slot.off.set(true);
    words::set_active(null());
}

/// The thread is in the program's code or in the host's again after a handler that did not return,
/// because it jumped or threw an exception.
#[inline(always)]
pub fn return_from_handler(slot: &Slot) {
    if slot.state.load(Relaxed) & PASSES != 0 {
        slot.set(slot.state.load(Relaxed) & DEFERS);
    }
    slot.convert();
}

/// Whether hooks pass through though handlers run at once: in a handler of the program, or where
/// one may have interrupted the change from one context to another.
pub fn is_off_fiber(slot: &Slot) -> bool {
    words::active().is_null() && !slot.defers()
}

/// Whose code runs here.
pub fn current() -> Context {
    // SAFETY: null, or the slot of this thread, which stays attached while its code runs.
    unsafe { words::attached().as_ref() }.map_or(Context::Unattached, Slot::context)
}

/// The slot of this thread if hooks convert calls here; otherwise null.
#[inline(always)]
pub fn active() -> *const Slot {
    words::active()
}

/// The slot of this thread, whether hooks convert calls or not; null if no host has attached it.
#[inline(always)]
pub fn attached() -> *const Slot {
    words::attached()
}
