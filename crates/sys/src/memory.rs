//! Memory: pages, and words that threads wait on.

use super::call;
use crate::errno::Errno;
use rustix::mm::{MapFlags, ProtFlags};
use std::ffi::c_void;
use std::ptr::{null_mut, with_exposed_provenance_mut};
use std::sync::atomic::AtomicU32;
use syscalls::Sysno;

/// The size of a page. Asks libc instead of rustix, because rustix reads the auxiliary vector
/// itself, which valgrind does not present correctly.
pub fn page_size() -> usize {
    // SAFETY: sysconf takes and returns a number.
    unsafe { libc::sysconf(libc::_SC_PAGESIZE) as usize }
}

/// Reserves address space for `n` zero bytes, which take memory only when touched. Returns its
/// address. It is never freed.
pub fn reserve_zeroes(n: usize) -> Result<usize, Errno> {
    map_zeroes(null_mut(), n, MapFlags::empty())
}

/// Resets memory from [`reserve_zeroes`] to 0, in the child of fork.
pub fn zero_anew(address: usize, n: usize) {
    // If this fails, the parent's data stay.
    let _ = map_zeroes(with_exposed_provenance_mut(address), n, MapFlags::FIXED);
}

fn map_zeroes(at: *mut c_void, n: usize, flags: MapFlags) -> Result<usize, Errno> {
    let flags = flags | MapFlags::PRIVATE | MapFlags::NORESERVE;
    // SAFETY: a new anonymous mapping overlaps nothing, or replaces one of the shim's own mappings
    // of the same size.
    let base =
        unsafe { rustix::mm::mmap_anonymous(at, n, ProtFlags::READ | ProtFlags::WRITE, flags) };
    base.map(<*mut c_void>::expose_provenance)
        .map_err(|error| Errno(error.raw_os_error()))
}

/// Wakes up to `most` threads that wait on `word`, which need not exist any more. Returns how many.
pub fn futex_wake(word: &AtomicU32, most: u32, shared: bool) -> usize {
    let private = if shared { 0 } else { libc::FUTEX_PRIVATE_FLAG };
    let operation = (libc::FUTEX_WAKE | private) as usize;
    let at = std::ptr::from_ref(word).addr();
    // SAFETY: the kernel uses only the address.
    unsafe { call(Sysno::futex, [at, operation, most as usize, 0, 0, 0]) }.unwrap_or(0)
}

/// Waits on `word` while it equals `value`, for at most `limit`. May return early.
pub fn futex_wait(
    word: &AtomicU32,
    value: u32,
    shared: bool,
    limit: Option<&rustix::thread::Timespec>,
) {
    let private = if shared { 0 } else { libc::FUTEX_PRIVATE_FLAG };
    let operation = (libc::FUTEX_WAIT | private) as usize;
    let at = std::ptr::from_ref(word).addr();
    let limit = limit.map_or(0, |limit| std::ptr::from_ref(limit).addr());
    // SAFETY: the kernel reads the word and the time, which are alive.
    let _ = unsafe { call(Sysno::futex, [at, operation, value as usize, limit, 0, 0]) };
}
