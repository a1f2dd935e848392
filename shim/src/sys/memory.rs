//! Memory: pages, and words that threads wait on.

use super::call;
use crate::errno::Errno;
use rustix::mm::{MapFlags, ProtFlags};
use std::ffi::c_void;
use std::ptr::{null_mut, with_exposed_provenance_mut};
use std::sync::atomic::AtomicU32;
use syscalls::Sysno;

/// Bytes of a page. By libc: rustix reads the auxiliary vector anew, which valgrind does not show
/// as it is.
pub fn page_size() -> usize {
    // SAFETY: a number in, a number out.
    unsafe { libc::sysconf(libc::_SC_PAGESIZE) as usize }
}

/// Address space for `n` bytes that are 0 and take memory where they are touched: its address. It
/// is never given back.
pub fn reserve_zeroes(n: usize) -> Result<usize, Errno> {
    map_zeroes(null_mut(), n, MapFlags::empty())
}

/// Makes what [`reserve_zeroes`] reserved 0 again, in the child of a fork.
pub fn zero_anew(address: usize, n: usize) {
    // Where that fails, what the parent wrote stays.
    let _ = map_zeroes(with_exposed_provenance_mut(address), n, MapFlags::FIXED);
}

fn map_zeroes(at: *mut c_void, n: usize, flags: MapFlags) -> Result<usize, Errno> {
    let flags = flags | MapFlags::PRIVATE | MapFlags::NORESERVE;
    // SAFETY: a fresh anonymous mapping overlaps nothing, or replaces one of ours, of this size.
    let base =
        unsafe { rustix::mm::mmap_anonymous(at, n, ProtFlags::READ | ProtFlags::WRITE, flags) };
    base.map(<*mut c_void>::expose_provenance)
        .map_err(|error| Errno(error.raw_os_error()))
}

/// Wakes up to `most` threads that wait on `word`, which need not be there any more: how many.
pub fn futex_wake(word: &AtomicU32, most: u32, shared: bool) -> usize {
    let private = if shared { 0 } else { libc::FUTEX_PRIVATE_FLAG };
    let operation = (libc::FUTEX_WAKE | private) as usize;
    let at = std::ptr::from_ref(word).addr();
    // SAFETY: the kernel only takes the address.
    unsafe { call(Sysno::futex, [at, operation, most as usize, 0, 0, 0]) }.unwrap_or(0)
}

/// Waits on `word` while it is `value`, at most for `limit`; may return early.
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
