//! Our own system calls: straight to the kernel, past libc's names (which are our hooks) and past
//! its errno.
//!
//! They are [`files`], which is reads, writes and names; [`descriptors`]; [`signals`];
//! [`processes`] and threads; [`time`]; [`memory`], with the futex; [`pointers`], the C caller's
//! memory; and [`rings`], which the engines submit to.

mod descriptors;
mod files;
mod memory;
mod pointers;
mod processes;
mod rings;
mod signals;
mod time;

pub use descriptors::*;
pub use files::*;
pub use memory::*;
pub use pointers::*;
pub use processes::*;
pub use rings::*;
pub use signals::*;
pub use syscalls::Sysno;
pub use time::*;

use crate::errno::Errno;
use std::ffi::c_int;
use syscalls::raw;

pub(crate) fn outcome(result: usize) -> Result<usize, Errno> {
    match -(result as isize) {
        error @ 1..=4095 => Err(Errno(error as c_int)),
        _ => Ok(result),
    }
}

/// Any system call, for those that are made in one place only.
///
/// # Safety
/// As the call's.
pub unsafe fn call(number: Sysno, [a, b, c, d, e, f]: [usize; 6]) -> Result<usize, Errno> {
    // SAFETY: passed on to our caller.
    outcome(unsafe { raw::syscall6(number as usize, a, b, c, d, e, f) })
}
