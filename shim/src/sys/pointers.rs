//! The C caller's memory where the shim itself reads and writes it: a bad address is EFAULT, as it
//! is to the kernel.
//!
//! The kernel is asked about each page: by system calls that read or write a few bytes, change
//! nothing, and are allowed wherever a program may handle signals. Not for what the kernel has just
//! read or written itself: that is there.

use super::{Errno, outcome, page_size};
use std::mem::MaybeUninit;
use syscalls::{Sysno, raw};

/// What rt_sigprocmask(2) reads and writes.
const WORD: usize = size_of::<u64>();

/// What is at `from`, which need not be aligned.
pub fn copy_in<T: Copy>(from: *const T) -> Result<T, Errno> {
    for page in pages(from.addr(), size_of::<T>()) {
        // The word that holds the first byte in the page does not reach into another one.
        can_read(page & !(WORD - 1))?;
    }
    // SAFETY: it can be read, unless another thread takes the memory away at this very moment, as
    // it could from libc.
    Ok(unsafe { from.read_unaligned() })
}

/// `n` words of the C caller's memory.
pub fn copy_words_in(from: *const u64, n: usize) -> Result<Vec<u64>, Errno> {
    for page in pages(from.addr(), n * WORD) {
        can_read(page & !(WORD - 1))?;
    }
    let mut words = vec![0_u64; n];
    // SAFETY: as in `copy_in`, byte by byte.
    unsafe {
        std::ptr::copy_nonoverlapping(from.cast::<u8>(), words.as_mut_ptr().cast(), n * WORD)
    };
    Ok(words)
}

/// Writes `value` to `to`, which need not be aligned.
pub fn copy_out<T: Copy>(to: *mut T, value: T) -> Result<(), Errno> {
    can_write(to.addr(), size_of::<T>())?;
    // SAFETY: it can be written, as in `copy_in`.
    unsafe { to.write_unaligned(value) };
    Ok(())
}

/// Writes `words` to `to`.
pub fn copy_words_out(to: *mut u64, words: &[u64]) -> Result<(), Errno> {
    can_write(to.addr(), size_of_val(words))?;
    // SAFETY: as in `copy_out`, byte by byte.
    unsafe {
        std::ptr::copy_nonoverlapping(words.as_ptr().cast::<u8>(), to.cast(), size_of_val(words))
    };
    Ok(())
}

/// The first address in each page that `n` bytes at `at` are in.
fn pages(at: usize, n: usize) -> impl Iterator<Item = usize> {
    let size = page_size();
    let (mut next, end) = (at, at.saturating_add(n));
    std::iter::from_fn(move || {
        let here = next;
        next = (here & !(size - 1)).saturating_add(size);
        (here < end).then_some(here)
    })
}

/// EFAULT unless the word at `at` can be read.
fn can_read(at: usize) -> Result<(), Errno> {
    /// None of the ways to change a mask: the kernel reads the set, and then refuses.
    const NO_WAY: usize = usize::MAX;
    if at == 0 {
        // A null pointer is no set to it.
        return Err(Errno::FAULT);
    }
    // SAFETY: the kernel only reads, and checks the address.
    match outcome(unsafe { raw::syscall4(Sysno::rt_sigprocmask as usize, NO_WAY, at, 0, WORD) }) {
        Err(Errno::FAULT) => Err(Errno::FAULT),
        _ => Ok(()),
    }
}

/// EFAULT unless `n` bytes at `at`, which are about to be written, can be: some of them are.
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
            // SAFETY: the kernel writes the bytes that are to be there anyway, and checks the
            // address.
            unsafe { write_few(page, end - page) }
        };
        if outcome(wrote) == Err(Errno::FAULT) {
            return Err(Errno::FAULT);
        }
    }
    Ok(())
}

/// Has the kernel write some bytes, less than a word, to `at`: by readv(2)'s older brother for the
/// memory of processes.
///
/// # Safety
/// What is at `at` may be overwritten.
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
    // SAFETY: both vectors are alive; the rest is passed on to our caller.
    unsafe { raw::syscall6(call, pid.get() as usize, from, 1, to, 1, 0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two pages of which the second cannot be touched, the first only read if `read_only`.
    fn half(read_only: bool) -> usize {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        let size = page_size();
        // SAFETY: new memory.
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
