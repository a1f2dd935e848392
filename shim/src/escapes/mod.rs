//! What escapes (`AIOSHIM_ESCAPES`): system calls that can block, made on a fiber's thread past the
//! hooks, counted by name.
//!
//! The kernel's Syscall User Dispatch hands each system call of an attached thread back to us as a
//! SIGSYS, unless it is made by the shim's own text: [`dispatch`] looks at it and lets it go on.
//! [`waits`] says which calls can block, [`tally`] counts those made while a fiber runs, by the
//! instruction that made them, and how long they took. A call that a hook passed to libc, which the
//! statistics count with the reason, is told apart from one that no hook saw.
//!
//! Invariant: SIGSYS is not blocked on a watched thread while dispatch is on, or the kernel would
//! kill the process. So nobody gets to block it: not sigprocmask(2) (dispatch.rs), not the mask of
//! a signal handler ([`entered_handler`]).

mod dispatch;
mod tally;
mod waits;

use crate::conf::Level;
use crate::registry::Registered;
use crate::{log, signal, start, sys};
use std::cell::Cell;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering::Relaxed};
use tally::Tally;

pub use tally::{Report, forget_all};

/// The kernel lets all system calls be (SYSCALL_DISPATCH_FILTER_ALLOW).
const ALLOW: u8 = 0;
/// It dispatches those from outside the shim's text (SYSCALL_DISPATCH_FILTER_BLOCK).
const DISPATCH: u8 = 1;

/// A watched thread.
pub struct Watch {
    /// Read by the kernel at each system call of the thread.
    selector: AtomicU8,
    /// Dispatch is off since a system call that could not be made otherwise: a clone(2).
    lapsed: Cell<bool>,
    /// The row of the hook that passes a call to libc now, plus one; 0 for none.
    passing: Cell<u32>,
    /// Where the shim's own code is.
    text: Range<usize>,
    tally: Registered<Tally>,
}

thread_local! {
    /// The calling thread's, for the handler; null where none is. Const and without a destructor:
    /// nothing allocates.
    static HERE: Cell<*const Watch> = const { Cell::new(std::ptr::null()) };
}

/// The handler of SIGSYS is ours.
static INSTALLED: AtomicBool = AtomicBool::new(false);

/// Whether SIGSYS is taken: the program's own handler then stands behind ours.
pub fn owns_sigsys() -> bool {
    INSTALLED.load(Relaxed)
}

impl Watch {
    /// Watches the calling thread from now on, if that is asked for and can be had.
    pub fn begin() -> Option<Box<Self>> {
        if !start::conf().escapes {
            return None;
        }
        let watch = Box::new(Self {
            selector: AtomicU8::new(DISPATCH),
            lapsed: Cell::new(false),
            passing: Cell::new(0),
            text: dispatch::text_of_the_shim(),
            tally: Tally::register(),
        });
        HERE.set(&raw const *watch);
        match dispatch::begin(&watch.selector, &watch.text) {
            Ok(()) => Some(watch),
            Err(error) => {
                static SAID: AtomicBool = AtomicBool::new(false);
                HERE.set(std::ptr::null());
                watch.tally.withdraw();
                if !SAID.swap(true, Relaxed) {
                    let line = "AIOSHIM_ESCAPES: the kernel does not dispatch system calls";
                    log::say(
                        Level::Warn,
                        format_args!("{line} ({error}); none are counted"),
                    );
                }
                None
            }
        }
    }

    /// Before it is dropped, on its own thread.
    pub fn end(&self) {
        dispatch::end();
        HERE.set(std::ptr::null());
    }

    /// While the result lives system calls are let be: the scheduler's own, inside the shim.
    pub fn pause(&self) -> Pause<'_> {
        self.selector.store(ALLOW, Relaxed);
        Pause(self)
    }

    /// Goes on after a call that had to be let be.
    #[inline]
    pub fn resume(&self) {
        if self.lapsed.replace(false) {
            self.dispatch();
        }
    }

    fn dispatch(&self) {
        // Nobody kept it from being blocked meanwhile.
        sys::unblock(signal::bit(libc::SIGSYS));
        self.selector.store(DISPATCH, Relaxed);
    }

    /// While the result lives the hook of `row` is in libc's function.
    pub fn passing(&self, row: usize) -> Passing<'_> {
        Passing(self, self.passing.replace(row as u32 + 1))
    }
}

/// See [`Watch::pause`].
pub struct Pause<'a>(&'a Watch);

impl Drop for Pause<'_> {
    fn drop(&mut self) {
        self.0.lapsed.set(false);
        self.0.dispatch();
    }
}

/// See [`Watch::passing`].
pub struct Passing<'a>(&'a Watch, u32);

impl Drop for Passing<'_> {
    fn drop(&mut self) {
        self.0.passing.set(self.1);
    }
}

/// At the beginning of each of the program's signal handlers: its mask may block SIGSYS.
#[inline]
pub fn entered_handler() {
    if !HERE.get().is_null() {
        sys::unblock(signal::bit(libc::SIGSYS));
    }
}
