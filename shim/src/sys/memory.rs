//! Memory: pages, the C caller's, and words that threads wait on.

use super::{call, outcome};
use crate::errno::Errno;
use std::sync::atomic::AtomicU32;
use syscalls::{Sysno, raw};

/// Bytes of a page. By libc: rustix reads the auxiliary vector anew, which valgrind does not show as it is.
pub fn page_size() -> usize {
    // SAFETY: a number in, a number out.
    unsafe { libc::sysconf(libc::_SC_PAGESIZE) as usize }
}

/// `n` words of the C caller's memory; EFAULT where there is none.
pub fn copy_in(from: *const u64, n: usize) -> Result<Vec<u64>, Errno> {
    let mut words = vec![0_u64; n];
    let part = |at: usize| libc::iovec {
        iov_base: std::ptr::with_exposed_provenance_mut(at),
        iov_len: n * size_of::<u64>(),
    };
    let (to, from_part) = (part(words.as_mut_ptr() as usize), part(from as usize));
    let (call, pid) = (Sysno::process_vm_readv as usize, rustix::process::getpid());
    let pid = pid.as_raw_nonzero().get() as usize;
    // SAFETY: the kernel writes to `words`, as long as both are said to be.
    let copied = outcome(unsafe {
        raw::syscall6(
            call,
            pid,
            &raw const to as usize,
            1,
            &raw const from_part as usize,
            1,
            0,
        )
    });
    match copied {
        Ok(bytes) if bytes == to.iov_len => {}
        Ok(_) | Err(Errno::FAULT) => return Err(Errno::FAULT),
        // Not allowed here: then a bad address is what it is to every other function of libc's.
        // SAFETY: the C caller says that so many words are there.
        Err(_) => unsafe { std::ptr::copy_nonoverlapping(from, words.as_mut_ptr(), n) },
    }
    Ok(words)
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
