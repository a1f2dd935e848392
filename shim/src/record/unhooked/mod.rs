//! Counts escapes (`AIOSHIM_ESCAPES`): system calls that can block and are made on a fiber's thread
//! without passing a hook.
//!
//! The kernel's Syscall User Dispatch reports each system call of an attached thread to the shim as
//! a SIGSYS, unless the shim's own text makes it. [`dispatch`] examines the call and lets it
//! continue. [`calltable::wait_of`] says which calls can block. [`counters`] counts those made
//! while a fiber runs, by the instruction that made them, and how long they took. A call that a
//! hook passed to libc, which the statistics count with the reason, is distinguished from a call
//! that no hook saw.
//!
//! Invariant: SIGSYS is not blocked on a watched thread while dispatch is on, because the kernel
//! would kill the process. So neither sigprocmask(2) (dispatch.rs) nor the mask of a signal handler
//! ([`sigsys::entered_handler`]) can block it.

mod counters;
mod dispatch;

use crate::host::Host;
use crate::state::log;
use crate::state::options;
use crate::state::registry::Registered;
use crate::state::sigsys;
use counters::CallSites;
use format::options::Level;
use std::cell::Cell;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering::Relaxed};

pub use counters::UnhookedReport;

/// The kernel executes all system calls (SYSCALL_DISPATCH_FILTER_ALLOW).
const ALLOW: u8 = 0;
/// The kernel dispatches system calls from outside the shim's text (SYSCALL_DISPATCH_FILTER_BLOCK).
const DISPATCH: u8 = 1;

/// The tracer of one thread.
pub struct SyscallTracer {
    /// The kernel reads this at each system call of the thread.
    selector: AtomicU8,
    /// Dispatch has been off since a clone(2), which cannot be made while it is on.
    lapsed: Cell<bool>,
    /// The row of the hook that is currently passing a call to libc, plus one; 0 for none.
    passing: Cell<u32>,
    host: Host,
    /// The address range that contains the shim's own code.
    text: Range<usize>,
    sites: Registered<CallSites>,
}

thread_local! {
    /// The calling thread's tracer, which the signal handler reads; null if it has none. It is
    /// const and has no destructor, so accessing it never allocates.
    static CURRENT: Cell<*const SyscallTracer> = const { Cell::new(std::ptr::null()) };
}

/// Makes `tracer` the calling thread's tracer; null for none.
fn set_current(tracer: *const SyscallTracer) {
    CURRENT.set(tracer);
    sigsys::set_traced(!tracer.is_null());
}

impl SyscallTracer {
    /// Traces the calling thread, which belongs to `host`, from now on, if the option is set and
    /// the kernel supports it.
    pub fn begin(host: &Host) -> Option<Box<Self>> {
        if !options::current().escapes {
            return None;
        }
        let tracer = Box::new(Self {
            selector: AtomicU8::new(DISPATCH),
            lapsed: Cell::new(false),
            passing: Cell::new(0),
            host: *host,
            text: dispatch::text_of_the_shim(),
            sites: CallSites::register(),
        });
        set_current(&raw const *tracer);
        match dispatch::begin(&tracer.selector, &tracer.text) {
            Ok(()) => Some(tracer),
            Err(error) => {
                static WARNED: AtomicBool = AtomicBool::new(false);
                set_current(std::ptr::null());
                tracer.sites.withdraw();
                if !WARNED.swap(true, Relaxed) {
                    let line = "AIOSHIM_ESCAPES: the kernel does not dispatch system calls";
                    log::say(
                        Level::Warn,
                        format_args!("{line} ({error}); escapes are not counted"),
                    );
                }
                None
            }
        }
    }

    /// Call on the traced thread before the value is dropped.
    pub fn end(&self) {
        dispatch::end();
        set_current(std::ptr::null());
    }

    /// Does not count system calls while the result lives: the scheduler's own calls inside the
    /// shim.
    pub fn pause(&self) -> Pause<'_> {
        self.selector.store(ALLOW, Relaxed);
        Pause(self)
    }

    /// Switches dispatch on again after a call that could not be dispatched.
    #[inline]
    pub fn resume(&self) {
        if self.lapsed.replace(false) {
            self.dispatch();
        }
    }

    fn dispatch(&self) {
        // SIGSYS may have been blocked while dispatch was off.
        sys::unblock(sys::signal_bit(libc::SIGSYS));
        self.selector.store(DISPATCH, Relaxed);
    }

    /// Notes that the hook of `row` is inside libc's function while the result lives.
    pub fn passing(&self, row: usize) -> Passing<'_> {
        Passing(self, self.passing.replace(row as u32 + 1))
    }
}

/// See [`SyscallTracer::pause`].
pub struct Pause<'a>(&'a SyscallTracer);

impl Drop for Pause<'_> {
    fn drop(&mut self) {
        self.0.lapsed.set(false);
        self.0.dispatch();
    }
}

/// See [`SyscallTracer::passing`].
pub struct Passing<'a>(&'a SyscallTracer, u32);

impl Drop for Passing<'_> {
    fn drop(&mut self) {
        self.0.passing.set(self.1);
    }
}
