//! Our own system calls: straight to the kernel, past libc's names (which are our hooks) and past its errno.

use crate::errno::Errno;
use std::ffi::{c_char, c_int, c_void};
use std::os::fd::{BorrowedFd, IntoRawFd};
use std::sync::atomic::AtomicU32;
pub use syscalls::Sysno;
use syscalls::raw;

/// The offset that means 'at the current position' to preadv2(2), pwritev2(2) and io_uring.
pub const AT_POSITION: i64 = -1;

fn outcome(result: usize) -> Result<usize, Errno> {
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

/// The halves of an offset as preadv(2) and its kin take it; the second is unused on 64-bit machines.
fn halves(offset: i64) -> (usize, usize) {
    (offset as usize, 0)
}

/// preadv2(2). The memory is the C caller's: the kernel checks it.
///
/// # Safety
/// `iov` and what it names may be written by the kernel as a read(2) there would.
pub unsafe fn preadv2(fd: c_int, iov: *const libc::iovec, n: usize, offset: i64, flags: c_int) -> Result<usize, Errno> {
    let (low, high) = halves(offset);
    // SAFETY: passed on to our caller.
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
/// `iov` and what it names are only read.
pub unsafe fn pwritev2(
    fd: c_int,
    iov: *const libc::iovec,
    n: usize,
    offset: i64,
    flags: c_int,
) -> Result<usize, Errno> {
    let (low, high) = halves(offset);
    // SAFETY: passed on to our caller.
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

/// write(2) or, with an offset, pwrite64(2).
///
/// # Safety
/// `data` is only read.
pub unsafe fn write(fd: c_int, data: *const c_void, n: usize, offset: Option<i64>) -> Result<usize, Errno> {
    // SAFETY: passed on to our caller.
    outcome(unsafe {
        match offset {
            None => raw::syscall3(Sysno::write as usize, fd as usize, data as usize, n),
            Some(offset) => raw::syscall4(Sysno::pwrite64 as usize, fd as usize, data as usize, n, offset as usize),
        }
    })
}

/// read(2) or, with an offset, pread64(2).
///
/// # Safety
/// `data` may be written by the kernel.
pub unsafe fn read(fd: c_int, data: *mut c_void, n: usize, offset: Option<i64>) -> Result<usize, Errno> {
    // SAFETY: passed on to our caller.
    outcome(unsafe {
        match offset {
            None => raw::syscall3(Sysno::read as usize, fd as usize, data as usize, n),
            Some(offset) => raw::syscall4(Sysno::pread64 as usize, fd as usize, data as usize, n, offset as usize),
        }
    })
}

/// openat2(2).
///
/// # Safety
/// `path` is the C caller's; the kernel checks it.
pub unsafe fn openat2(dir: c_int, path: *const c_char, how: &libc::open_how) -> Result<c_int, Errno> {
    let size = size_of::<libc::open_how>();
    let how = std::ptr::from_ref(how) as usize;
    // SAFETY: `how` is alive and of the size given; the rest is passed on to our caller.
    let fd = outcome(unsafe { raw::syscall4(Sysno::openat2 as usize, dir as usize, path as usize, how, size) })?;
    Ok(fd as c_int)
}

/// openat(2).
///
/// # Safety
/// `path` is the C caller's; the kernel checks it.
pub unsafe fn openat(dir: c_int, path: *const c_char, flags: c_int, mode: u32) -> Result<c_int, Errno> {
    // SAFETY: passed on to our caller.
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

/// close(2). The descriptor is gone whatever it returns.
pub fn close(fd: c_int) -> Result<(), Errno> {
    // SAFETY: touches no memory; the descriptor is the caller's to close.
    outcome(unsafe { raw::syscall1(Sysno::close as usize, fd as usize) })?;
    Ok(())
}

/// fsync(2) or fdatasync(2).
pub fn fsync(fd: c_int, data_only: bool) -> Result<(), Errno> {
    let call = if data_only { Sysno::fdatasync } else { Sysno::fsync };
    // SAFETY: touches no memory.
    outcome(unsafe { raw::syscall1(call as usize, fd as usize) })?;
    Ok(())
}

/// io_setup(2): the id of a new AIO context, which is the address of its ring.
pub fn io_setup(operations: u32) -> Result<usize, Errno> {
    let mut id = 0_usize;
    // SAFETY: the kernel writes one word, alive across the call.
    outcome(unsafe { raw::syscall2(Sysno::io_setup as usize, operations as usize, &raw mut id as usize) })?;
    Ok(id)
}

/// io_submit(2).
///
/// # Safety
/// `operations` are `n` pointers to `struct iocb`, whose memory stays in place until their completions.
pub unsafe fn io_submit(context: usize, n: usize, operations: *const c_void) -> Result<usize, Errno> {
    // SAFETY: passed on to our caller.
    outcome(unsafe { raw::syscall3(Sysno::io_submit as usize, context, n, operations as usize) })
}

/// io_getevents(2).
///
/// # Safety
/// `events` has room for `most` times `struct io_event`.
pub unsafe fn io_getevents(
    context: usize,
    least: usize,
    most: usize,
    events: *mut c_void,
    timeout: Option<&libc::timespec>,
) -> Result<usize, Errno> {
    let timeout = timeout.map_or(0, |timeout| std::ptr::from_ref(timeout) as usize);
    let call = Sysno::io_getevents as usize;
    // SAFETY: `timeout` is alive; the rest is passed on to our caller.
    outcome(unsafe { raw::syscall5(call, context, least, most, events as usize, timeout) })
}

/// io_destroy(2): waits for what cannot be ended at once.
pub fn io_destroy(context: usize) {
    // SAFETY: nothing of the caller's refers to the context's ring any more.
    unsafe { raw::syscall1(Sysno::io_destroy as usize, context) };
}

/// close_range(2).
pub fn close_range(first: u32, last: u32, flags: c_int) -> Result<(), Errno> {
    // SAFETY: touches no memory; the descriptors are the caller's to close.
    outcome(unsafe {
        raw::syscall3(
            Sysno::close_range as usize,
            first as usize,
            last as usize,
            flags as usize,
        )
    })?;
    Ok(())
}

/// lseek(2).
pub fn lseek(fd: c_int, offset: i64, whence: c_int) -> Result<i64, Errno> {
    // SAFETY: touches no memory.
    let position =
        outcome(unsafe { raw::syscall3(Sysno::lseek as usize, fd as usize, offset as usize, whence as usize) })?;
    Ok(position as i64)
}

/// fstat(2).
pub fn fstat(fd: c_int) -> Result<libc::stat, Errno> {
    let mut stat = std::mem::MaybeUninit::<libc::stat>::uninit();
    // SAFETY: the kernel writes one struct stat, of the layout libc's type has on our 64-bit targets.
    outcome(unsafe { raw::syscall2(Sysno::fstat as usize, fd as usize, stat.as_mut_ptr() as usize) })?;
    // SAFETY: written by the successful call.
    Ok(unsafe { stat.assume_init() })
}

/// cachestat(2): how many of the pages of `n` bytes at `offset` are in the page cache.
pub fn cached_pages(fd: c_int, offset: u64, n: u64) -> Result<u64, Errno> {
    let range = [offset, n];
    // struct cachestat: cached, dirty, being written back, evicted, recently evicted.
    let mut counts = [0_u64; 5];
    let (range, counts_at) = (range.as_ptr() as usize, counts.as_mut_ptr() as usize);
    // SAFETY: the kernel reads one struct cachestat_range and writes one struct cachestat, both alive.
    outcome(unsafe { raw::syscall4(Sysno::cachestat as usize, fd as usize, range, counts_at, 0) })?;
    Ok(counts[0])
}

/// fcntl(2) F_GETFL: the open file's status flags.
pub fn status_flags(fd: c_int) -> Result<c_int, Errno> {
    // SAFETY: touches no memory.
    let flags = outcome(unsafe { raw::syscall3(Sysno::fcntl as usize, fd as usize, libc::F_GETFL as usize, 0) })?;
    Ok(flags as c_int)
}

/// Whether a socket has SO_RCVTIMEO or SO_SNDTIMEO set.
pub fn has_socket_timeout(fd: c_int) -> bool {
    [libc::SO_RCVTIMEO, libc::SO_SNDTIMEO].into_iter().any(|option| {
        let mut value = libc::timeval { tv_sec: 0, tv_usec: 0 };
        let mut len = size_of::<libc::timeval>() as libc::socklen_t;
        let (value_at, len_at) = (&raw mut value as usize, &raw mut len as usize);
        // SAFETY: the kernel writes at most `len` bytes to `value`, and the length; both are alive.
        let got = outcome(unsafe {
            let (call, level) = (Sysno::getsockopt as usize, libc::SOL_SOCKET as usize);
            raw::syscall5(call, fd as usize, level, option as usize, value_at, len_at)
        });
        got.is_ok() && (value.tv_sec, value.tv_usec) != (0, 0)
    })
}

/// The terminal settings of `fd`; None when it is no terminal.
pub fn terminal(fd: c_int) -> Option<rustix::termios::Termios> {
    // SAFETY: only used for the duration of the call; the descriptor is the caller's.
    rustix::termios::tcgetattr(unsafe { BorrowedFd::borrow_raw(fd) }).ok()
}

/// What a pipe that is open for reading holds.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum PipeState {
    Data,
    /// Nothing, but there is a writer.
    Empty,
    /// Nothing, and no writer: a read(2) says 0.
    Ended,
}

/// tee(2) of one byte, without waiting: what the pipe or FIFO `fd` holds; None if it is no pipe. Its second end is a pipe
/// made for the purpose.
pub fn pipe_state(fd: c_int) -> Option<PipeState> {
    let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).ok()?;
    let (reader, writer) = (reader.into_raw_fd(), writer.into_raw_fd());
    const SPLICE_F_NONBLOCK: usize = 2;
    // SAFETY: touches no memory.
    let teed =
        outcome(unsafe { raw::syscall4(Sysno::tee as usize, fd as usize, writer as usize, 1, SPLICE_F_NONBLOCK) });
    let _ = close(reader);
    let _ = close(writer);
    match teed {
        Ok(0) => Some(PipeState::Ended),
        Ok(_) => Some(PipeState::Data),
        Err(Errno::AGAIN) => Some(PipeState::Empty),
        Err(_) => None,
    }
}

/// poll(2) of one descriptor, without limit: what of `events` there is. errno is not touched.
pub fn poll_one(fd: c_int, events: i16) -> Result<i16, Errno> {
    let mut polled = libc::pollfd { fd, events, revents: 0 };
    let at = &raw mut polled as usize;
    // SAFETY: the kernel reads and writes the one pollfd, which is alive. Without a time limit and a mask, ppoll(2) is poll(2).
    outcome(unsafe { raw::syscall5(Sysno::ppoll as usize, at, 1, 0, 0, 0) })?;
    Ok(polled.revents)
}

/// A copy of one of the shim's own descriptors with a number that programs do not use: they close the low ones, and
/// expect those they open. None when there is no such number.
pub fn duplicate_out_of_the_way(fd: c_int) -> Option<c_int> {
    // The last 64 numbers, or what there is.
    duplicate_from(fd, descriptor_limit().saturating_sub(64))
}

/// A copy of a descriptor to wait on, in the upper half of the numbers, for there may be many. None when it is full.
pub fn duplicate_to_wait_on(fd: c_int) -> Option<c_int> {
    duplicate_from(fd, descriptor_limit() / 2)
}

fn descriptor_limit() -> usize {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    limit.unwrap_or(1 << 20).min(1 << 20) as usize
}

fn duplicate_from(fd: c_int, from: usize) -> Option<c_int> {
    let (call, command) = (Sysno::fcntl as usize, libc::F_DUPFD_CLOEXEC as usize);
    // SAFETY: touches no memory.
    let high = outcome(unsafe { raw::syscall3(call, fd as usize, command, from) }).ok()?;
    Some(high as c_int)
}

/// fcntl(2) F_SETFL: the status flags among `flags` are set, and all others cleared.
pub fn set_status_flags(fd: c_int, flags: c_int) -> Result<(), Errno> {
    // SAFETY: touches no memory.
    outcome(unsafe {
        raw::syscall3(
            Sysno::fcntl as usize,
            fd as usize,
            libc::F_SETFL as usize,
            flags as usize,
        )
    })?;
    Ok(())
}

/// kcmp(2) KCMP_FILE: whether two of our descriptors are one open file; None where the kernel will not say.
pub fn same_open_file(a: c_int, b: c_int) -> Option<bool> {
    const KCMP_FILE: usize = 0;
    let pid = rustix::process::getpid().as_raw_nonzero().get() as usize;
    // SAFETY: touches no memory.
    let order =
        outcome(unsafe { raw::syscall5(Sysno::kcmp as usize, pid, pid, KCMP_FILE, a as usize, b as usize) }).ok()?;
    Some(order == 0)
}

/// Writes all of `bytes` to `fd`, as far as it goes: for reports, which have nobody to tell of a failure.
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

/// Nanoseconds of CLOCK_MONOTONIC.
pub fn now() -> u64 {
    let t = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    t.tv_sec as u64 * 1_000_000_000 + t.tv_nsec as u64
}

/// Wakes up to `most` threads that wait on `word`, which need not be there any more: how many.
pub fn futex_wake(word: &AtomicU32, most: u32, shared: bool) -> usize {
    let private = if shared { 0 } else { libc::FUTEX_PRIVATE_FLAG };
    let operation = (libc::FUTEX_WAKE | private) as usize;
    let at = std::ptr::from_ref(word).addr();
    // SAFETY: the kernel only takes the address.
    unsafe { call(Sysno::futex, [at, operation, most as usize, 0, 0, 0]) }.unwrap_or(0)
}

/// Waits on `word` while it is `value`; may return early.
pub fn futex_wait(word: &AtomicU32, value: u32, shared: bool) {
    let private = if shared { 0 } else { libc::FUTEX_PRIVATE_FLAG };
    let operation = (libc::FUTEX_WAIT | private) as usize;
    let at = std::ptr::from_ref(word).addr();
    // SAFETY: the kernel reads the word, which is alive.
    let _ = unsafe { call(Sysno::futex, [at, operation, value as usize, 0, 0, 0]) };
}
