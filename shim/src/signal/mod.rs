//! Signals on an attached thread: each handler runs on a fiber, between two of its calls or in
//! place of the wait of one, as the kernel would have it.
//!
//! The kernel calls [`entry`] instead of the handler. Where the program's own code was interrupted
//! the handler runs at once, right there. In the shim, or while all fibers are parked, it could
//! not: what it jumps out of would be left half changed, and no call would be interrupted. So the
//! signal is kept ([`stash`]) and *all* are blocked: the kernel keeps the others. The thread is
//! woken; one fiber that waits for what can be ended early is interrupted; and on that fiber, out
//! of all that the shim does, the mask is put back as it was: the kernel then runs the handlers, in
//! its order, with sa_mask, SA_NODEFER, SA_RESETHAND, SA_ONSTACK as ever. A call that was
//! interrupted for them begins anew where SA_RESTART says so, or fails with EINTR.
//!
//! What a handler calls passes through to libc. One that jumps out of itself is met in [`jump`].
//!
//! Invariant: while signals are held back (`held`) none of them calls the entry, for all are
//! blocked, those aside that report a fault of the code itself. In the handler itself only atomics
//! of its own thread, and system calls: no allocation, no lock.

mod actions;
mod alarm;
mod entry;
mod jump;
mod kick;
mod mask;
mod stash;

use crate::sys::{self, SignalSet};
use crate::thread::Thread;
use stash::Stash;
use std::cell::Cell;
use std::ffi::{c_int, c_void};
use std::sync::atomic::{
    AtomicBool, AtomicI32, AtomicPtr, AtomicU64, Ordering::Relaxed, compiler_fence,
};

pub use actions::{Blocked, hand_on, is_taken, take, unwrap_all, wrap_again, wrap_all};
pub use alarm::Alarm;
pub use kick::{kick, prepare as prepare_kicks, take as take_kicks};
pub use mask::run_held_handlers;

/// Whether `info` came with a fault of the code that was interrupted, which no process has sent.
///
/// # Safety
/// `info` is what the kernel gave a handler.
unsafe fn is_fault(signal: c_int, info: *const libc::siginfo_t) -> bool {
    // SAFETY: the caller's promise.
    bit(signal) & FAULTS != 0 && unsafe { (*info).si_code } > 0
}

/// Finds those of libc's functions that handlers may call before one needs them.
pub fn bind() {
    jump::bind();
    mask::bind();
}

/// The bit of a signal in a set.
pub const fn bit(signal: c_int) -> SignalSet {
    1 << (signal - 1)
}

/// Faults of the code that is interrupted: it cannot go on without its handler. Sent by kill(2) and
/// its kin they are signals as others; but they are never blocked for the shim, or a fault would
/// end the process.
const FAULTS: SignalSet = bit(libc::SIGSEGV)
    | bit(libc::SIGBUS)
    | bit(libc::SIGFPE)
    | bit(libc::SIGILL)
    | bit(libc::SIGTRAP)
    | bit(libc::SIGSYS);

/// What libc keeps to itself: SIGCANCEL and SIGSETXID.
const OF_LIBC: SignalSet = bit(32) | bit(33);

/// All that is blocked while signals are held back.
pub const HOLDABLE: SignalSet = !(FAULTS | OF_LIBC);

/// What running the handlers came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Handled {
    /// None ran: whatever was pending was taken, or is ignored by now.
    Nothing,
    /// All that ran were installed with SA_RESTART.
    Restart,
    End,
}

/// The signals of one attached thread. The cells are its own; a handler of its own may come between
/// any two accesses, so those that it touches are atomics.
pub struct Signals {
    /// The shim is at work on this thread: handlers wait.
    critical: AtomicBool,
    /// Signals are held back: the first of each number in `stash`, the others pending and blocked.
    held: AtomicBool,
    stash: Stash,
    /// What was blocked where the first of them came, and is to be again.
    mask: AtomicU64,
    /// The fiber that is on its way into the host's scheduler.
    parking: AtomicPtr<c_void>,
    /// Handlers that ran since it was set to 0.
    ran: AtomicI32,
    /// All of them were installed with SA_RESTART.
    restarts: AtomicBool,
    /// A fiber that was unparked is to handle what is held back.
    pub due: Cell<bool>,
    /// Held back signals are being handled.
    delivering: AtomicBool,
    /// The next handler is the first to run in a call with a mask of its own: `mask` is what it
    /// returns to.
    returns_to_base: AtomicBool,
    /// SIGXFSZ came while the shim submitted.
    exceeded: AtomicBool,
    /// Fibers that wait under a mask of their own.
    pub masked: Cell<usize>,
}

impl Signals {
    pub fn new() -> Self {
        Self {
            critical: AtomicBool::new(false),
            held: AtomicBool::new(false),
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

    /// Handlers wait from here on; whether they did before.
    #[inline(always)]
    pub fn enter(&self) -> bool {
        let before = self.critical.load(Relaxed);
        self.critical.store(true, Relaxed);
        compiler_fence(std::sync::atomic::Ordering::SeqCst);
        before
    }

    /// The end of [`Self::enter`], which returned `before`: whether signals were held back
    /// meanwhile.
    #[inline(always)]
    pub fn leave(&self, before: bool) -> bool {
        compiler_fence(std::sync::atomic::Ordering::SeqCst);
        self.critical.store(before, Relaxed);
        compiler_fence(std::sync::atomic::Ordering::SeqCst);
        self.held.load(Relaxed)
    }

    pub fn is_critical(&self) -> bool {
        self.critical.load(Relaxed)
    }

    /// A handler jumped out of itself, and of what had it run.
    pub fn jumped(&self) {
        self.delivering.store(false, Relaxed);
        self.returns_to_base.store(false, Relaxed);
    }

    pub fn is_held(&self) -> bool {
        self.held.load(Relaxed)
    }

    /// The signals that are held back, and what was blocked where the first of them came.
    pub fn held(&self) -> Option<(SignalSet, SignalSet)> {
        self.is_held()
            .then(|| (self.stash.waiting(), self.mask.load(Relaxed)))
    }

    /// Whether a write that was submitted has raised SIGXFSZ since this was asked.
    pub fn take_exceeded(&self) -> bool {
        self.exceeded.swap(false, Relaxed)
    }

    /// `fiber` is about to park, or null: it is back.
    pub fn parking(&self, fiber: *mut c_void) {
        self.parking.store(fiber, Relaxed);
    }

    /// In the handler: one of the program's, with `flags`, is about to run; false if there is
    /// nothing to handle after all. `blocked` is what the kernel blocks after it.
    ///
    /// # Safety
    /// `info` is what the kernel gave this handler, on this thread.
    unsafe fn begin_handler(
        &self,
        signal: c_int,
        info: *mut libc::siginfo_t,
        flags: c_int,
        blocked: &mut SignalSet,
    ) -> bool {
        // SAFETY: passed on to our caller.
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

    /// In the handler, with all signals blocked: has the signal wait, if it must; false if it can
    /// be handled now. `blocked` is what the kernel blocks after the handler.
    ///
    /// # Safety
    /// `info` is what the kernel gave this handler, on this thread, which is `thread`.
    unsafe fn hold(
        &self,
        thread: &Thread,
        signal: c_int,
        info: *const libc::siginfo_t,
        blocked: &mut SignalSet,
    ) -> bool {
        // SAFETY: passed on to our caller.
        let is_fault = unsafe { is_fault(signal, info) };
        if bit(signal) & OF_LIBC != 0 || is_fault || !self.must_wait(thread) {
            return false;
        }
        if !self.held.load(Relaxed) {
            self.mask.store(*blocked, Relaxed);
            self.held.store(true, Relaxed);
        }
        if signal == libc::SIGXFSZ && thread.host().running().is_null() {
            self.exceeded.store(true, Relaxed);
        }
        *blocked |= HOLDABLE;
        // SAFETY: passed on to our caller.
        unsafe { self.stash.keep(signal, info) };
        thread.remote().wake();
        true
    }

    /// Whether the code that was interrupted is the shim's, or the host's with fibers parked.
    fn must_wait(&self, thread: &Thread) -> bool {
        if self.critical.load(Relaxed) || self.delivering.load(Relaxed) {
            return self.critical.load(Relaxed);
        }
        let fiber = thread.host().running();
        if fiber.is_null() {
            thread.in_flight() > 0
        } else {
            fiber == self.parking.load(Relaxed)
        }
    }

    /// Unblocks what is held back: the kernel runs the handlers here. With `own`, the mask of a
    /// call that waited under it, they run under that one, and return to the thread's.
    pub fn deliver(&self, own: Option<SignalSet>) -> Handled {
        let mask = self.mask.load(Relaxed);
        self.ran.store(0, Relaxed);
        self.restarts.store(true, Relaxed);
        let critical = self.critical.load(Relaxed);
        self.due.set(false);
        self.held.store(false, Relaxed);
        self.delivering.store(true, Relaxed);
        self.critical.store(false, Relaxed);
        compiler_fence(std::sync::atomic::Ordering::SeqCst);
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
        self.stash.give_back();
        compiler_fence(std::sync::atomic::Ordering::SeqCst);
        self.critical.store(critical, Relaxed);
        self.delivering.store(false, Relaxed);
        match (self.ran.load(Relaxed), self.restarts.load(Relaxed)) {
            (0, _) => Handled::Nothing,
            (_, true) => Handled::Restart,
            (_, false) => Handled::End,
        }
    }

    /// Runs the handlers of signals whose stand-ins were lost, once the mask is in force. A round
    /// that runs none is the last: the program ignores the signal by now.
    fn deliver_lost(&self) {
        loop {
            let ran = self.ran.load(Relaxed);
            if !self.stash.send_again() || self.ran.load(Relaxed) == ran {
                break;
            }
        }
    }

    /// Takes a signal of `set` that is held back, and what came with it: for a call that waits for
    /// one itself.
    pub fn take_held(&self, set: SignalSet) -> Option<(c_int, libc::siginfo_t)> {
        self.stash.take(set)
    }

    /// Begins a wait of the whole thread with `blocked` blocked and nothing else; what was blocked.
    pub fn begin_masked(&self, blocked: SignalSet) -> SignalSet {
        self.base(sys::set_blocked(blocked))
    }

    /// Has `set` be blocked, too; what was blocked. Ended by [`Self::end_masked`].
    pub fn block(&self, set: SignalSet) -> SignalSet {
        let base = self.base(sys::block(set));
        self.mask.store(self.mask.load(Relaxed) | set, Relaxed);
        base
    }

    /// What is blocked, but for signals that are held back.
    pub fn blocked(&self) -> SignalSet {
        self.base(sys::block(0))
    }

    /// `before`, which was blocked, unless that was only because signals are held back.
    fn base(&self, before: SignalSet) -> SignalSet {
        const UNBLOCKABLE: SignalSet = bit(libc::SIGKILL) | bit(libc::SIGSTOP);
        let all = HOLDABLE & !UNBLOCKABLE;
        if self.is_held() && before & all == all {
            self.mask.load(Relaxed)
        } else {
            before
        }
    }

    /// The end of [`Self::begin_masked`], which returned `base`.
    pub fn end_masked(&self, base: SignalSet) {
        if !self.is_held() {
            // One that comes right before this is held back under `blocked`, and then once more
            // under `base`.
            sys::set_blocked(base);
        }
        if self.is_held() {
            self.mask.store(base, Relaxed);
        }
    }
}
