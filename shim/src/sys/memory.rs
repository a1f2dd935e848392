//! Memory: pages, and words that threads wait on.

use super::call;
use std::sync::atomic::AtomicU32;
use syscalls::Sysno;

/// Bytes of a page. By libc: rustix reads the auxiliary vector anew, which valgrind does not show as it is.
pub fn page_size() -> usize {
    // SAFETY: a number in, a number out.
    unsafe { libc::sysconf(libc::_SC_PAGESIZE) as usize }
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
pub fn futex_wait(word: &AtomicU32, value: u32, shared: bool, limit: Option<&rustix::thread::Timespec>) {
    let private = if shared { 0 } else { libc::FUTEX_PRIVATE_FLAG };
    let operation = (libc::FUTEX_WAIT | private) as usize;
    let at = std::ptr::from_ref(word).addr();
    let limit = limit.map_or(0, |limit| std::ptr::from_ref(limit).addr());
    // SAFETY: the kernel reads the word and the time, which are alive.
    let _ = unsafe { call(Sysno::futex, [at, operation, value as usize, limit, 0, 0]) };
}
