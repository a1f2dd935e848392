//! Files: their content, their names and their attributes.

use super::outcome;
use crate::errno::Errno;
use std::ffi::{CString, c_char, c_int, c_void};
use syscalls::{Sysno, raw};

/// The offset that means "at the current position" to preadv2(2), pwritev2(2) and io_uring.
pub const AT_POSITION: i64 = -1;

/// The halves of an offset as preadv(2) and similar calls take it; the second is unused on 64-bit
/// machines.
fn halves(offset: i64) -> (usize, usize) {
    (offset as usize, 0)
}

/// preadv2(2). The memory belongs to the C caller; the kernel checks it.
///
/// # Safety
/// The kernel may write to the memory that `iov` names, as a read(2) would.
pub unsafe fn preadv2(
    fd: c_int,
    iov: *const libc::iovec,
    n: usize,
    offset: i64,
    flags: c_int,
) -> Result<usize, Errno> {
    let (low, high) = halves(offset);
    // SAFETY: our caller keeps the same contract.
    outcome(unsafe {
        raw::syscall6(
            Sysno::preadv2 as usize,
            fd as usize,
            iov as usize,
            n,
            low,
            high,
            flags as usize,
        )
    })
}

/// pwritev2(2).
///
/// # Safety
/// `iov` and the memory that it names are only read.
pub unsafe fn pwritev2(
    fd: c_int,
    iov: *const libc::iovec,
    n: usize,
    offset: i64,
    flags: c_int,
) -> Result<usize, Errno> {
    let (low, high) = halves(offset);
    // SAFETY: our caller keeps the same contract.
    outcome(unsafe {
        raw::syscall6(
            Sysno::pwritev2 as usize,
            fd as usize,
            iov as usize,
            n,
            low,
            high,
            flags as usize,
        )
    })
}

/// read(2) or, with an offset, pread64(2).
///
/// # Safety
/// The kernel may write to `data`.
pub unsafe fn read(
    fd: c_int,
    data: *mut c_void,
    n: usize,
    offset: Option<i64>,
) -> Result<usize, Errno> {
    // SAFETY: our caller keeps the same contract.
    outcome(unsafe {
        match offset {
            None => raw::syscall3(Sysno::read as usize, fd as usize, data as usize, n),
            Some(offset) => raw::syscall4(
                Sysno::pread64 as usize,
                fd as usize,
                data as usize,
                n,
                offset as usize,
            ),
        }
    })
}

/// write(2) or, with an offset, pwrite64(2).
///
/// # Safety
/// `data` is only read.
pub unsafe fn write(
    fd: c_int,
    data: *const c_void,
    n: usize,
    offset: Option<i64>,
) -> Result<usize, Errno> {
    // SAFETY: our caller keeps the same contract.
    outcome(unsafe {
        match offset {
            None => raw::syscall3(Sysno::write as usize, fd as usize, data as usize, n),
            Some(offset) => raw::syscall4(
                Sysno::pwrite64 as usize,
                fd as usize,
                data as usize,
                n,
                offset as usize,
            ),
        }
    })
}

/// Writes all of `bytes` to `fd`, or stops at the first error. For reports, whose errors cannot be
/// reported.
pub fn write_all(fd: c_int, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        // SAFETY: `bytes` is alive and only read.
        match unsafe { write(fd, bytes.as_ptr().cast(), bytes.len(), None) } {
            Ok(n) => bytes = &bytes[n..],
            Err(Errno::INTR) => {}
            Err(_) => return,
        }
    }
}

/// openat(2).
///
/// # Safety
/// `path` belongs to the C caller; the kernel checks it.
pub unsafe fn openat(
    dir: c_int,
    path: *const c_char,
    flags: c_int,
    mode: u32,
) -> Result<c_int, Errno> {
    // SAFETY: our caller keeps the same contract.
    let fd = outcome(unsafe {
        raw::syscall4(
            Sysno::openat as usize,
            dir as usize,
            path as usize,
            flags as usize,
            mode as usize,
        )
    })?;
    Ok(fd as c_int)
}

/// Opens the file of a descriptor again. Needs access rights to the file, and /proc.
pub fn reopen(fd: c_int, flags: c_int) -> Result<c_int, Errno> {
    let path = CString::new(format!("/proc/self/fd/{fd}")).map_err(|_| Errno::INVAL)?;
    // SAFETY: the path is alive.
    unsafe { openat(libc::AT_FDCWD, path.as_ptr(), flags, 0) }
}

/// openat2(2).
///
/// # Safety
/// `path` belongs to the C caller; the kernel checks it.
pub unsafe fn openat2(
    dir: c_int,
    path: *const c_char,
    how: &libc::open_how,
) -> Result<c_int, Errno> {
    let size = size_of::<libc::open_how>();
    let how = std::ptr::from_ref(how) as usize;
    // SAFETY: `how` is alive and has the given size; our caller guarantees the rest.
    let fd = outcome(unsafe {
        raw::syscall4(
            Sysno::openat2 as usize,
            dir as usize,
            path as usize,
            how,
            size,
        )
    })?;
    Ok(fd as c_int)
}

/// fsync(2) or fdatasync(2).
pub fn fsync(fd: c_int, data_only: bool) -> Result<(), Errno> {
    let call = if data_only {
        Sysno::fdatasync
    } else {
        Sysno::fsync
    };
    // SAFETY: the call accesses no memory.
    outcome(unsafe { raw::syscall1(call as usize, fd as usize) })?;
    Ok(())
}

/// lseek(2).
pub fn lseek(fd: c_int, offset: i64, whence: c_int) -> Result<i64, Errno> {
    // SAFETY: the call accesses no memory.
    let position = outcome(unsafe {
        raw::syscall3(
            Sysno::lseek as usize,
            fd as usize,
            offset as usize,
            whence as usize,
        )
    })?;
    Ok(position as i64)
}

/// fstat(2).
pub fn fstat(fd: c_int) -> Result<libc::stat, Errno> {
    let mut stat = std::mem::MaybeUninit::<libc::stat>::uninit();
    // SAFETY: the kernel writes one struct stat, whose layout is that of libc's type on the
    // supported 64-bit targets.
    outcome(unsafe {
        raw::syscall2(
            Sysno::fstat as usize,
            fd as usize,
            stat.as_mut_ptr() as usize,
        )
    })?;
    // SAFETY: the successful call has written it.
    Ok(unsafe { stat.assume_init() })
}

/// newfstatat(2), following links.
///
/// # Safety
/// `path` belongs to the C caller; the kernel checks it.
pub unsafe fn fstatat(dir: c_int, path: *const c_char) -> Result<libc::stat, Errno> {
    let mut stat = std::mem::MaybeUninit::<libc::stat>::uninit();
    #[cfg(target_arch = "x86_64")]
    let call = Sysno::newfstatat as usize;
    #[cfg(target_arch = "aarch64")]
    let call = Sysno::fstatat as usize;
    // SAFETY: the kernel writes one struct stat; our caller guarantees the rest.
    outcome(unsafe {
        raw::syscall4(
            call,
            dir as usize,
            path as usize,
            stat.as_mut_ptr() as usize,
            0,
        )
    })?;
    // SAFETY: the successful call has written it.
    Ok(unsafe { stat.assume_init() })
}

/// cachestat(2): how many pages of `n` bytes at `offset` are in the page cache.
pub fn cached_pages(fd: c_int, offset: u64, n: u64) -> Result<u64, Errno> {
    let range = [offset, n];
    // The fields of struct cachestat: cached, dirty, under writeback, evicted, recently evicted.
    let mut counts = [0_u64; 5];
    let (range, counts_at) = (range.as_ptr() as usize, counts.as_mut_ptr() as usize);
    // SAFETY: the kernel reads one struct cachestat_range and writes one struct cachestat, both
    // alive.
    outcome(unsafe { raw::syscall4(Sysno::cachestat as usize, fd as usize, range, counts_at, 0) })?;
    Ok(counts[0])
}

/// splice(2) to a pipe; `from_at` may be null.
///
/// # Safety
/// `from_at` belongs to the C caller; the kernel checks it and writes one offset there.
pub unsafe fn splice(
    from: c_int,
    from_at: *mut i64,
    to: c_int,
    n: usize,
    flags: u32,
) -> Result<usize, Errno> {
    let call = Sysno::splice as usize;
    // SAFETY: our caller keeps the same contract.
    outcome(unsafe {
        raw::syscall6(
            call,
            from as usize,
            from_at as usize,
            to as usize,
            0,
            n,
            flags as usize,
        )
    })
}
