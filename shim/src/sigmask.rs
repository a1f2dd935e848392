//! The signal mask of ppoll(2) and its kin, for a wait that is not made by the thread itself.
//!
//! The signals that the mask lets in and the thread does not are waited for by a signalfd(2), which takes none. When one is
//! pending the wait ends, and the plain call with the mask, which is made then, delivers it and says EINTR: so none is lost
//! between two looks, and each is handled inside the call.
//!
//! What the thread lets in at all times is handled whenever it comes, and what only the mask keeps out is not kept out.

use crate::call::Call;
use crate::sys::{self, outcome};
use crate::watch::File;
use libc::sigset_t;
use std::ffi::c_int;
use syscalls::{Sysno, raw};

/// The kernel's own set of signals.
type Set = u64;

pub struct Mask<'a> {
    call: &'a Call<'a>,
    /// A signalfd of ours.
    waited: Option<c_int>,
}

impl<'a> Mask<'a> {
    /// Null is no mask. The kernel has read it, and found it good.
    pub fn of(call: &'a Call<'a>, mask: *const sigset_t) -> Self {
        if mask.is_null() {
            return Self { call, waited: None };
        }
        // SAFETY: the kernel has read as many bytes there, and libc's set begins with the kernel's.
        let mask = unsafe { mask.cast::<Set>().read_unaligned() };
        let let_in = blocked() & !mask;
        let waited = if let_in == 0 { None } else { signalfd(call, let_in) };
        Self { call, waited }
    }

    /// What is ready when the wait must end.
    pub fn file(&self) -> Option<File> {
        let events = libc::POLLIN;
        self.waited.map(|fd| File { fd, events })
    }
}

impl Drop for Mask<'_> {
    fn drop(&mut self) {
        if let Some(fd) = self.waited {
            self.call.thread.let_go(fd);
        }
    }
}

/// What this thread keeps out.
fn blocked() -> Set {
    let mut set: Set = 0;
    let (call, how) = (Sysno::rt_sigprocmask as usize, libc::SIG_BLOCK as usize);
    // SAFETY: the kernel writes one set, which is alive.
    unsafe { raw::syscall4(call, how, 0, &raw mut set as usize, size_of::<Set>()) };
    set
}

/// A descriptor that is readable while one of `set` is pending, under a number that is out of the program's way.
fn signalfd(call: &Call<'_>, set: Set) -> Option<c_int> {
    let flags = (libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) as usize;
    let (number, new, size) = (Sysno::signalfd4 as usize, -1_isize as usize, size_of::<Set>());
    // SAFETY: the kernel reads one set, which is alive.
    let low = outcome(unsafe { raw::syscall4(number, new, &raw const set as usize, size, flags) }).ok()? as c_int;
    let kept = call.thread.keep(low);
    let _ = sys::close(low);
    kept
}
