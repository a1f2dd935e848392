//! The shim's own system calls: they go directly to the kernel, and avoid libc's functions, which
//! are our hooks, and libc's errno.
//!
//! The functions are in [`files`] (reads, writes and names), [`descriptors`], [`signals`],
//! [`processes`] (also threads), [`time`], [`memory`] (also futexes), [`pointers`] (the C caller's
//! memory) and [`rings`] (the queues of the engines).

mod descriptors;
pub mod errno;
mod files;
mod memory;
mod pointers;
mod processes;
mod rings;
mod signals;
pub mod sockets;
pub mod stopwatch;
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

pub fn outcome(result: usize) -> Result<usize, Errno> {
    match -(result as isize) {
        error @ 1..=4095 => Err(Errno(error as c_int)),
        _ => Ok(result),
    }
}

/// Makes any system call. For calls that only one place makes.
///
/// # Safety
/// The same contract as the system call.
pub unsafe fn call(number: Sysno, [a, b, c, d, e, f]: [usize; 6]) -> Result<usize, Errno> {
    // SAFETY: our caller keeps the same contract.
    outcome(unsafe { raw::syscall6(number as usize, a, b, c, d, e, f) })
}
