//! Access to the C caller's memory when the shim itself reads or writes it: a bad address gives
//! EFAULT, as in a system call.
//!
//! The kernel checks each page. The shim makes system calls for that which read or write a few
//! bytes, change nothing, and are allowed wherever a program may handle signals. Memory that the
//! kernel itself has just read or written needs no check.

use crate::errno::Errno;
use crate::{outcome, page_size};
use std::mem::MaybeUninit;
use syscalls::{Sysno, raw};

/// The number of bytes that rt_sigprocmask(2) reads and writes.
const WORD: usize = size_of::<u64>();

/// Reads the value at `from`, which need not be aligned.
#[expect(
    clippy::not_unsafe_ptr_arg_deref,
    reason = "the kernel checks the memory first"
)]
pub fn copy_in<T: Copy>(from: *const T) -> Result<T, Errno> {
    for page in pages(from.addr(), size_of::<T>()) {
        // The aligned word that contains the page's first byte does not reach into another page.
        can_read(page & !(WORD - 1))?;
    }
    // SAFETY: the memory is readable, unless another thread unmaps it at this moment, which could
    // happen inside libc as well.
    Ok(unsafe { from.read_unaligned() })
}

/// Reads `n` words of the C caller's memory.
pub fn copy_words_in(from: *const u64, n: usize) -> Result<Vec<u64>, Errno> {
    for page in pages(from.addr(), n * WORD) {
        can_read(page & !(WORD - 1))?;
    }
    let mut words = vec![0_u64; n];
    // SAFETY: the memory was checked above, and is copied byte by byte.
    unsafe {
        std::ptr::copy_nonoverlapping(from.cast::<u8>(), words.as_mut_ptr().cast(), n * WORD)
    };
    Ok(words)
}

/// Writes `value` to `to`, which need not be aligned.
#[expect(
    clippy::not_unsafe_ptr_arg_deref,
    reason = "the kernel checks the memory first"
)]
pub fn copy_out<T: Copy>(to: *mut T, value: T) -> Result<(), Errno> {
    can_write(to.addr(), size_of::<T>())?;
    // SAFETY: the memory was checked above; no alignment is assumed.
    unsafe { to.write_unaligned(value) };
    Ok(())
}

/// Writes `words` to `to`.
pub fn copy_words_out(to: *mut u64, words: &[u64]) -> Result<(), Errno> {
    can_write(to.addr(), size_of_val(words))?;
    // SAFETY: the memory was checked above, and is copied byte by byte.
    unsafe {
        std::ptr::copy_nonoverlapping(words.as_ptr().cast::<u8>(), to.cast(), size_of_val(words))
    };
    Ok(())
}

/// The first address in each of the pages that `n` bytes at `at` occupy.
fn pages(at: usize, n: usize) -> impl Iterator<Item = usize> {
    let size = page_size();
    let (mut next, end) = (at, at.saturating_add(n));
    std::iter::from_fn(move || {
        let here = next;
        next = (here & !(size - 1)).saturating_add(size);
        (here < end).then_some(here)
    })
}

/// EFAULT unless the word at `at` is readable.
fn can_read(at: usize) -> Result<(), Errno> {
    /// An invalid way to change a mask: the kernel reads the set and then refuses.
    const NO_WAY: usize = usize::MAX;
    if at == 0 {
        // The kernel takes a null pointer for "no set".
        return Err(Errno::FAULT);
    }
    // SAFETY: the kernel only reads, and checks the address.
    match outcome(unsafe { raw::syscall4(Sysno::rt_sigprocmask as usize, NO_WAY, at, 0, WORD) }) {
        Err(Errno::FAULT) => Err(Errno::FAULT),
        _ => Ok(()),
    }
}

/// EFAULT unless `n` bytes at `at`, which are about to be written, are writable. Overwrites some of
/// them.
fn can_write(at: usize, n: usize) -> Result<(), Errno> {
    if at == 0 {
        return Err(Errno::FAULT);
    }
    for page in pages(at, n) {
        let end = (at + n).min((page & !(page_size() - 1)).saturating_add(page_size()));
        let wrote = if end - page >= WORD {
            let (call, how) = (Sysno::rt_sigprocmask as usize, libc::SIG_BLOCK as usize);
            // SAFETY: the kernel writes the mask to a word that is about to be overwritten, and
            // checks the address.
            unsafe { raw::syscall4(call, how, 0, page, WORD) }
        } else {
            // SAFETY: the kernel overwrites bytes that are about to be written anyway, and checks
            // the address.
            unsafe { write_few(page, end - page) }
        };
        if outcome(wrote) == Err(Errno::FAULT) {
            return Err(Errno::FAULT);
        }
    }
    Ok(())
}

/// Makes the kernel write `n` bytes, less than a word, to `at`, with process_vm_writev(2).
///
/// # Safety
/// The memory at `at` may be overwritten.
unsafe fn write_few(at: usize, n: usize) -> usize {
    let bytes = MaybeUninit::<[u8; WORD]>::zeroed();
    let part = |base: usize| libc::iovec {
        iov_base: std::ptr::with_exposed_provenance_mut(base),
        iov_len: n,
    };
    let (from, to) = (part(bytes.as_ptr() as usize), part(at));
    let (call, pid) = (
        Sysno::process_vm_writev as usize,
        rustix::process::getpid().as_raw_nonzero(),
    );
    let (from, to) = (&raw const from as usize, &raw const to as usize);
    // SAFETY: both vectors are alive; our caller guarantees the rest.
    unsafe { raw::syscall6(call, pid.get() as usize, from, 1, to, 1, 0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Maps two pages, of which the second is inaccessible, and the first only readable if
    /// `read_only`. Returns the address of the second.
    fn half(read_only: bool) -> usize {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        let size = page_size();
        // SAFETY: the mapping is new.
        unsafe {
            let at = libc::mmap(
                std::ptr::null_mut(),
                2 * size,
                libc::PROT_READ | libc::PROT_WRITE,
                flags,
                -1,
                0,
            );
            assert_ne!(at, libc::MAP_FAILED);
            libc::mprotect(at.byte_add(size), size, libc::PROT_NONE);
            if read_only {
                libc::mprotect(at, size, libc::PROT_READ);
            }
            at.addr() + size
        }
    }

    #[test]
    fn what_reaches_into_an_untouchable_page_is_a_fault() {
        let end = half(false);
        let at = |back: usize| std::ptr::with_exposed_provenance_mut::<[u32; 3]>(end - back);
        assert_eq!(copy_out(at(12), [1, 2, 3]), Ok(()));
        assert_eq!(copy_in(at(12)), Ok([1, 2, 3]));
        assert_eq!(copy_out(at(15), [4, 5, 6]), Ok(()));
        assert_eq!(copy_in(at(15)), Ok([4, 5, 6]));
        for back in [0, 1, 8, 11] {
            assert_eq!(copy_in(at(back)), Err(Errno::FAULT));
            assert_eq!(copy_out(at(back), [0; 3]), Err(Errno::FAULT));
        }
        assert_eq!(
            copy_words_in(at(16).cast(), 2).map(|words| words.len()),
            Ok(2)
        );
        assert_eq!(copy_words_in(at(8).cast(), 2), Err(Errno::FAULT));
        assert_eq!(copy_words_out(at(8).cast(), &[1, 2]), Err(Errno::FAULT));
        assert_eq!(copy_in(std::ptr::null::<u64>()), Err(Errno::FAULT));
    }

    #[test]
    fn what_may_only_be_read_is_a_fault_to_a_writer() {
        let end = half(true);
        let word = std::ptr::with_exposed_provenance_mut::<u32>(end - 4);
        assert_eq!(copy_in(word), Ok(0));
        assert_eq!(copy_out(word, 1), Err(Errno::FAULT));
        assert_eq!(
            copy_out(word.cast::<u8>().wrapping_sub(8).cast::<[u64; 1]>(), [1]),
            Err(Errno::FAULT)
        );
    }
}
