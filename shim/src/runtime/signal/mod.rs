//! Signals on an attached thread. Each handler runs on a fiber, either between two of its calls or
//! in place of the wait of one, as the kernel would do it.
//!
//! The kernel calls [`trampoline`] instead of the handler. If the signal interrupted the program's
//! own code, the handler runs at once. It must not run inside the shim, or while all fibers are
//! parked: a jump out of the handler would leave the shim's state half changed, and no call would
//! be interrupted. So the signal is kept ([`stash`]) and *all* signals are blocked, which makes the
//! kernel keep the others. The thread is woken, and one fiber with an interruptible wait is
//! interrupted. On that fiber, outside of all shim code, the original mask is restored. The kernel
//! then runs the handlers in its own order, with sa_mask, SA_NODEFER, SA_RESETHAND and SA_ONSTACK
//! in force. A call that was interrupted for them restarts if SA_RESTART says so, else it fails
//! with EINTR.
//!
//! Calls made by a handler pass through to libc. [`jump`] deals with handlers that jump out.
//!
//! Invariant: while signals are deferred (`held`) none of them reaches the entry, because all are
//! blocked, except those that report a fault of the running code. The entry itself uses only
//! atomics of its own thread and system calls: no allocation, no lock.

mod actions;
mod alarm;
mod jump;
mod mask;
mod stash;
mod trampoline;

use crate::context::{self, Slot};
use crate::record::handlers::{self, Handlers};
use crate::runtime::thread::Thread;
use stash::Stash;
use std::cell::Cell;
use std::ffi::{c_int, c_void};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicPtr, AtomicU64};
use sys::{SIGNALS_OF_LIBC, SignalSet, signal_bit};

pub use actions::{unwrap_all, wrap_again, wrap_all};
pub use alarm::Alarm;
pub use mask::run_deferred_handlers;

/// Whether `info` reports a fault of the interrupted code, as opposed to a signal that a process
/// sent.
///
/// # Safety
/// `info` is what the kernel passed to a handler.
unsafe fn is_fault(signal: c_int, info: *const libc::siginfo_t) -> bool {
    // SAFETY: our caller keeps this contract.
    signal_bit(signal) & FAULTS != 0 && unsafe { (*info).si_code } > 0
}

/// Resolves the libc functions that handlers may call, before a handler needs them.
pub fn bind() {
    jump::bind();
    mask::bind();
    handlers::register(&Handlers {
        take: actions::take,
        is_taken: actions::is_taken,
        forward: actions::forward,
    });
}

/// Faults of the interrupted code, which cannot continue without its handler. If they are sent by
/// kill(2) or similar they are ordinary signals. The shim never blocks them, because a fault would
/// then end the process.
const FAULTS: SignalSet = signal_bit(libc::SIGSEGV)
    | signal_bit(libc::SIGBUS)
    | signal_bit(libc::SIGFPE)
    | signal_bit(libc::SIGILL)
    | signal_bit(libc::SIGTRAP)
    | signal_bit(libc::SIGSYS);

/// All signals that are blocked while signals are deferred.
pub const DEFERRABLE: SignalSet = !(FAULTS | SIGNALS_OF_LIBC);

/// The outcome of running the handlers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Handled {
    /// No handler ran: the pending signals were taken elsewhere, or are ignored by now.
    Nothing,
    /// All handlers that ran were installed with SA_RESTART.
    Restart,
    End,
}

/// The signals of one attached thread. Only that thread uses the cells. Its own handlers may run
/// between any two accesses, so the fields that handlers touch are atomics.
#[repr(C)]
pub struct Signals {
    /// Says whether handlers are deferred, and whether signals are: the first of each number is in
    /// `stash` then, the others are pending and blocked. The first field, because the thread-local
    /// words point to it ([`Thread::of_slot`]).
    slot: Slot,
    stash: Stash,
    /// The signal mask at the time the first of them arrived, to be restored later.
    mask: AtomicU64,
    /// The fiber that is about to enter the host's scheduler.
    parking: AtomicPtr<c_void>,
    /// Number of handlers that ran since it was reset.
    ran: AtomicI32,
    /// Whether all of them were installed with SA_RESTART.
    restarts: AtomicBool,
    /// A fiber was unparked in order to handle the deferred signals.
    pub due: Cell<bool>,
    /// Deferred signals are being delivered.
    delivering: AtomicBool,
    /// The next handler is the first to run in a call that has its own mask: it returns to `mask`.
    returns_to_base: AtomicBool,
    /// SIGXFSZ arrived while the shim submitted operations.
    exceeded: AtomicBool,
    /// Number of fibers that wait in a call with a signal mask of its own, such as ppoll(2).
    pub masked: Cell<usize>,
}

impl Signals {
    pub fn new() -> Self {
        Self {
            slot: Slot::new(Thread::deliver_deferred),
            stash: Stash::new(),
            mask: AtomicU64::new(0),
            parking: AtomicPtr::new(std::ptr::null_mut()),
            ran: AtomicI32::new(0),
            restarts: AtomicBool::new(true),
            due: Cell::new(false),
            delivering: AtomicBool::new(false),
            returns_to_base: AtomicBool::new(false),
            exceeded: AtomicBool::new(false),
            masked: Cell::new(0),
        }
    }

    /// Whose code runs on the thread.
    #[inline(always)]
    pub fn slot(&self) -> &Slot {
        &self.slot
    }

    /// A handler jumped out, and with it out of the delivery that ran it.
    pub fn jumped(&self) {
        self.delivering.store(false, Relaxed);
        self.returns_to_base.store(false, Relaxed);
    }

    #[inline(always)]
    pub fn has_deferred(&self) -> bool {
        self.slot.has_deferred()
    }

    /// The deferred signals, and the mask at the time the first of them arrived.
    pub fn deferred(&self) -> Option<(SignalSet, SignalSet)> {
        self.has_deferred()
            .then(|| (self.stash.waiting(), self.mask.load(Relaxed)))
    }

    /// Whether a submitted write has raised SIGXFSZ since the last call of this function.
    pub fn take_exceeded(&self) -> bool {
        self.exceeded.swap(false, Relaxed)
    }

    /// Notes that `fiber` is about to park; null when it has resumed.
    pub fn parking(&self, fiber: *mut c_void) {
        self.parking.store(fiber, Relaxed);
    }

    /// In the signal handler: a handler of the program with `flags` is about to run. Returns false
    /// if there is nothing to handle after all. `blocked` is the mask that the kernel restores
    /// after it.
    ///
    /// # Safety
    /// `info` is what the kernel passed to this handler, on this thread.
    unsafe fn begin_handler(
        &self,
        signal: c_int,
        info: *mut libc::siginfo_t,
        flags: c_int,
        blocked: &mut SignalSet,
    ) -> bool {
        // SAFETY: our caller keeps the same contract.
        unsafe {
            if !is_fault(signal, info) && !self.stash.exchange(signal, info) {
                return false;
            }
        }
        if self.returns_to_base.swap(false, Relaxed) {
            *blocked = self.mask.load(Relaxed);
        }
        self.ran
            .store(self.ran.load(Relaxed).wrapping_add(1), Relaxed);
        let restarts = flags & libc::SA_RESTART != 0;
        self.restarts
            .store(self.restarts.load(Relaxed) & restarts, Relaxed);
        true
    }

    /// In the signal handler, with all signals blocked: defers the signal if necessary. Returns
    /// false if it can be handled now. `blocked` is the mask that the kernel restores after the
    /// handler.
    ///
    /// # Safety
    /// `info` is what the kernel passed to this handler, on this thread, which is `thread`.
    unsafe fn defer(
        &self,
        thread: &Thread,
        signal: c_int,
        info: *const libc::siginfo_t,
        blocked: &mut SignalSet,
    ) -> bool {
        // SAFETY: our caller keeps the same contract.
        let is_fault = unsafe { is_fault(signal, info) };
        if signal_bit(signal) & SIGNALS_OF_LIBC != 0 || is_fault || !self.must_defer(thread) {
            return false;
        }
        if !self.has_deferred() {
            self.mask.store(*blocked, Relaxed);
            self.slot.set_deferred(true);
        }
        if signal == libc::SIGXFSZ && thread.host().running().is_null() {
            self.exceeded.store(true, Relaxed);
        }
        *blocked |= DEFERRABLE;
        // SAFETY: our caller keeps the same contract.
        unsafe { self.stash.store(signal, info) };
        thread.remote().wake();
        true
    }

    /// Whether the signal interrupted shim code, or host code while fibers are parked.
    fn must_defer(&self, thread: &Thread) -> bool {
        if self.slot.defers() || self.delivering.load(Relaxed) {
            return self.slot.defers();
        }
        let fiber = thread.host().running();
        if fiber.is_null() {
            thread.in_flight() > 0
        } else {
            fiber == self.parking.load(Relaxed)
        }
    }

    /// Unblocks the deferred signals, so that the kernel runs the handlers here. With `own`, the
    /// mask of a call that waited under it, they run under that mask and return to the thread's
    /// mask.
    pub fn deliver(&self, own: Option<SignalSet>) -> Handled {
        let mask = self.mask.load(Relaxed);
        self.ran.store(0, Relaxed);
        self.restarts.store(true, Relaxed);
        self.due.set(false);
        self.slot.set_deferred(false);
        self.delivering.store(true, Relaxed);
        let outside = context::host(&self.slot);
        let mut restored = false;
        if let Some(own) = own {
            self.returns_to_base.store(true, Relaxed);
            self.stash.release(own);
            sys::set_blocked(own);
            restored = !self.returns_to_base.swap(false, Relaxed);
        }
        if !restored {
            self.stash.release(mask);
            sys::set_blocked(mask);
        }
        self.deliver_lost();
        self.stash.requeue();
        drop(outside);
        self.delivering.store(false, Relaxed);
        match (self.ran.load(Relaxed), self.restarts.load(Relaxed)) {
            (0, _) => Handled::Nothing,
            (_, true) => Handled::Restart,
            (_, false) => Handled::End,
        }
    }

    /// Runs the handlers of signals whose stand-ins were lost, once the mask is in force. Stops
    /// after a round without a handler, because the program then ignores the signal.
    fn deliver_lost(&self) {
        loop {
            let ran = self.ran.load(Relaxed);
            if !self.stash.send_again() || self.ran.load(Relaxed) == ran {
                break;
            }
        }
    }

    /// Takes a deferred signal of `set` and its siginfo. Used by calls that themselves wait for
    /// signals.
    pub fn take_deferred(&self, set: SignalSet) -> Option<(c_int, libc::siginfo_t)> {
        self.stash.take(set)
    }

    /// Begins a wait of the whole thread with exactly `blocked` blocked. Returns the previous mask.
    pub fn begin_masked(&self, blocked: SignalSet) -> SignalSet {
        self.base(sys::set_blocked(blocked))
    }

    /// Blocks `set` in addition. Returns the previous mask. End it with [`Self::end_masked`].
    pub fn block(&self, set: SignalSet) -> SignalSet {
        let base = self.base(sys::block(set));
        self.mask.store(self.mask.load(Relaxed) | set, Relaxed);
        base
    }

    /// The current mask, not counting the signals that are blocked only because some are deferred.
    pub fn blocked(&self) -> SignalSet {
        self.base(sys::block(0))
    }

    /// Returns `before`, unless everything was blocked only because signals are deferred.
    fn base(&self, before: SignalSet) -> SignalSet {
        const UNBLOCKABLE: SignalSet = signal_bit(libc::SIGKILL) | signal_bit(libc::SIGSTOP);
        let all = DEFERRABLE & !UNBLOCKABLE;
        if self.has_deferred() && before & all == all {
            self.mask.load(Relaxed)
        } else {
            before
        }
    }

    /// Ends [`Self::begin_masked`], which returned `base`.
    pub fn end_masked(&self, base: SignalSet) {
        if !self.has_deferred() {
            // A signal that arrives right before this is deferred under `blocked`, so `base` must
            // be stored as the mask to restore.
            sys::set_blocked(base);
        }
        if self.has_deferred() {
            self.mask.store(base, Relaxed);
        }
    }
}
