//! The signals of one attached thread: which are deferred, and the mask under which they are
//! delivered. The parts of this folder that find the thread they interrupted are above this one.

use super::stash::Stash;
use crate::context::{self, Slot};
use crate::host::Host;
use crate::host::remote::Remote;
use std::cell::Cell;
use std::ffi::{c_int, c_void};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicPtr, AtomicU64};
use sys::{SIGNALS_OF_LIBC, SignalSet, signal_bit};

/// Whether `info` reports a fault of the interrupted code, as opposed to a signal that a process
/// sent.
///
/// # Safety
/// `info` is what the kernel passed to a handler.
unsafe fn is_fault(signal: c_int, info: *const libc::siginfo_t) -> bool {
    // SAFETY: our caller keeps this contract.
    signal_bit(signal) & FAULTS != 0 && unsafe { (*info).si_code } > 0
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
    /// words point to it (`Thread::of_slot`).
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
    due: Cell<bool>,
    /// Deferred signals are being delivered.
    delivering: AtomicBool,
    /// The next handler is the first to run in a call that has its own mask: it returns to `mask`.
    returns_to_base: AtomicBool,
    /// SIGXFSZ arrived while the shim submitted operations.
    exceeded: AtomicBool,
    /// Number of fibers that wait in a call with a signal mask of its own, such as ppoll(2).
    masked: Cell<usize>,
}

impl Signals {
    /// `deliver` runs the deferred handlers of the calling thread, if it runs a fiber.
    pub fn new(deliver: fn()) -> Self {
        Self {
            slot: Slot::new(deliver),
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

    /// Notes whether a fiber was unparked in order to handle the deferred signals.
    #[inline(always)]
    pub fn set_due(&self, due: bool) {
        self.due.set(due);
    }

    /// Whether a fiber was unparked in order to handle the deferred signals.
    pub fn is_due(&self) -> bool {
        self.due.get()
    }

    /// A fiber begins a wait with a signal mask of its own. End it with [`Self::end_own_mask`].
    pub fn begin_own_mask(&self) {
        self.masked.update(|n| n + 1);
    }

    pub fn end_own_mask(&self) {
        self.masked.update(|n| n - 1);
    }

    /// Whether a fiber waits with a signal mask of its own.
    pub fn has_own_masks(&self) -> bool {
        self.masked.get() > 0
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
    pub(super) unsafe fn begin_handler(
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
    /// handler. `waits` says whether fibers of the thread are parked in the shim.
    ///
    /// # Safety
    /// `info` is what the kernel passed to this handler, on this thread, to which `host` and
    /// `remote` belong.
    pub(super) unsafe fn defer(
        &self,
        host: &Host,
        remote: &Remote,
        waits: impl FnOnce() -> bool,
        signal: c_int,
        info: *const libc::siginfo_t,
        blocked: &mut SignalSet,
    ) -> bool {
        // SAFETY: our caller keeps the same contract.
        let is_fault = unsafe { is_fault(signal, info) };
        if signal_bit(signal) & SIGNALS_OF_LIBC != 0 || is_fault || !self.must_defer(host, waits) {
            return false;
        }
        if !self.has_deferred() {
            self.mask.store(*blocked, Relaxed);
            self.slot.set_deferred(true);
        }
        if signal == libc::SIGXFSZ && host.running().is_null() {
            self.exceeded.store(true, Relaxed);
        }
        *blocked |= DEFERRABLE;
        // SAFETY: our caller keeps the same contract.
        unsafe { self.stash.store(signal, info) };
        remote.wake();
        true
    }

    /// Whether the signal interrupted shim code, or host code while fibers are parked.
    fn must_defer(&self, host: &Host, waits: impl FnOnce() -> bool) -> bool {
        if self.slot.defers() || self.delivering.load(Relaxed) {
            return self.slot.defers();
        }
        let fiber = host.running();
        if fiber.is_null() {
            waits()
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
