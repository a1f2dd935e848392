//! Our own system calls: straight to the kernel, past libc's names (which are our hooks) and past its errno.

use crate::errno::Errno;
use std::ffi::{c_char, c_int, c_void};
use std::os::fd::{BorrowedFd, IntoRawFd};
use std::sync::atomic::AtomicU32;
pub use syscalls::Sysno;
use syscalls::raw;

/// The offset that means 'at the current position' to preadv2(2), pwritev2(2) and io_uring.
pub const AT_POSITION: i64 = -1;

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

/// io_uring_enter(2) without an argument: how many entries were submitted.
///
/// # Safety
/// The memory that the queued entries refer to stays in place until their completions.
pub unsafe fn io_uring_enter(ring: c_int, submit: u32, want: u32, flags: u32) -> Result<usize, Errno> {
    let (call, ring, submit) = (Sysno::io_uring_enter as usize, ring as usize, submit as usize);
    // SAFETY: passed on to our caller.
    outcome(unsafe { raw::syscall6(call, ring, submit, want as usize, flags as usize, 0, 0) })
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

/// poll(2) of one descriptor, without limit: what of `events` there is. errno is not touched.
pub fn poll_one(fd: c_int, events: i16) -> Result<i16, Errno> {
    let mut polled = libc::pollfd { fd, events, revents: 0 };
    let at = &raw mut polled as usize;
    // SAFETY: the kernel reads and writes the one pollfd, which is alive. Without a time limit and a mask, ppoll(2) is poll(2).
    outcome(unsafe { raw::syscall5(Sysno::ppoll as usize, at, 1, 0, 0, 0) })?;
    Ok(polled.revents)
}

/// Whether there is any of `events` at `fd` now; an error is there to be had, too.
pub fn poll_now(fd: c_int, events: i16) -> bool {
    let mut polled = libc::pollfd { fd, events, revents: 0 };
    let at = &raw mut polled as usize;
    let no_time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    let time = &raw const no_time as usize;
    // SAFETY: the kernel reads and writes the one pollfd, and reads the time; both are alive.
    outcome(unsafe { raw::syscall5(Sysno::ppoll as usize, at, 1, time, 0, 0) }).is_ok_and(|ready| ready > 0)
}

/// splice(2) to a pipe; `from_at` may be null.
///
/// # Safety
/// `from_at` is the C caller's; the kernel checks it, and writes one offset there.
pub unsafe fn splice(from: c_int, from_at: *mut i64, to: c_int, n: usize, flags: u32) -> Result<usize, Errno> {
    let call = Sysno::splice as usize;
    // SAFETY: passed on to our caller.
    outcome(unsafe { raw::syscall6(call, from as usize, from_at as usize, to as usize, 0, n, flags as usize) })
}

/// SO_SNDBUF: the bytes, with what they take besides, that a socket keeps.
pub fn send_buffer(fd: c_int) -> Option<usize> {
    let mut value: c_int = 0;
    let mut len = size_of::<c_int>() as libc::socklen_t;
    let (value_at, len_at) = (&raw mut value as usize, &raw mut len as usize);
    let (call, level, option) = (
        Sysno::getsockopt as usize,
        libc::SOL_SOCKET as usize,
        libc::SO_SNDBUF as usize,
    );
    // SAFETY: the kernel writes at most `len` bytes to `value`, and the length; both are alive.
    outcome(unsafe { raw::syscall5(call, fd as usize, level, option, value_at, len_at) }).ok()?;
    usize::try_from(value).ok()
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

pub fn descriptor_limit() -> usize {
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

/// A stopwatch for what only has to be right within a factor of two: the processor's own counter, a third of what a look at
/// the clock costs.
#[derive(Clone, Copy)]
pub struct Stopwatch(u64);

#[cfg(target_arch = "x86_64")]
impl Stopwatch {
    #[inline(always)]
    pub fn start() -> Self {
        // SAFETY: an unprivileged instruction that reads a counter.
        Self(unsafe { std::arch::x86_64::_rdtsc() })
    }

    /// Nanoseconds since the start, as if the counter counted 2.5 a nanosecond: those of our time count 1.8 to 4.
    #[inline(always)]
    pub fn nanos(self) -> u64 {
        // Another CPU's counter may be behind.
        Self::start().0.saturating_sub(self.0) / 5 * 2
    }
}

#[cfg(not(target_arch = "x86_64"))]
impl Stopwatch {
    pub fn start() -> Self {
        Self(now())
    }

    /// Nanoseconds since the start.
    pub fn nanos(self) -> u64 {
        now() - self.0
    }
}

/// Nanoseconds of CLOCK_MONOTONIC. By libc, for the reason that [`page_size`] is.
pub fn now() -> u64 {
    let mut t = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `t` is alive; CLOCK_MONOTONIC is always there.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut t) };
    t.tv_sec as u64 * 1_000_000_000 + t.tv_nsec as u64
}

/// Bytes of a page. By libc: rustix reads the auxiliary vector anew, which valgrind does not show as it is.
pub fn page_size() -> usize {
    // SAFETY: a number in, a number out.
    unsafe { libc::sysconf(libc::_SC_PAGESIZE) as usize }
}

/// A set of signals as the kernel has it: a bit each, that of signal 1 the lowest.
pub type SignalSet = u64;

/// rt_sigprocmask(2) SIG_SETMASK: blocks `set` and nothing else, in this thread; what was blocked.
pub fn set_blocked(set: SignalSet) -> SignalSet {
    mask_signals(libc::SIG_SETMASK, set)
}

/// rt_sigprocmask(2) SIG_BLOCK: blocks `set`, too, in this thread; what was blocked.
pub fn block(set: SignalSet) -> SignalSet {
    mask_signals(libc::SIG_BLOCK, set)
}

/// rt_sigprocmask(2) SIG_UNBLOCK: lets the signals in `set` through, in this thread.
pub fn unblock(set: SignalSet) {
    mask_signals(libc::SIG_UNBLOCK, set);
}

/// This thread's mask.
pub fn blocked() -> SignalSet {
    block(0)
}

/// rt_sigprocmask(2) as the program makes it: its result, as a system call's.
///
/// # Safety
/// The arguments are a C caller's; the kernel checks them.
pub unsafe fn change_blocked(how: usize, new: usize, old: usize, size: usize) -> isize {
    // SAFETY: passed on to our caller.
    unsafe { raw::syscall4(Sysno::rt_sigprocmask as usize, how, new, old, size) as isize }
}

fn mask_signals(how: c_int, set: SignalSet) -> SignalSet {
    let mut before: SignalSet = 0;
    let (set, before_at) = (&raw const set as usize, &raw mut before as usize);
    // SAFETY: the kernel reads one set and writes another, both alive.
    unsafe { raw::syscall4(Sysno::rt_sigprocmask as usize, how as usize, set, before_at, 8) };
    before
}

/// rt_tgsigqueueinfo(2) to the calling thread: `signal` is pending again, as `info` has it.
///
/// # Safety
/// `info` points to what came with the signal.
pub unsafe fn queue_to_self(signal: c_int, info: *const libc::siginfo_t) {
    // SAFETY: touches no memory but `info`, which is only read.
    unsafe {
        let (process, thread) = (
            raw::syscall0(Sysno::getpid as usize),
            raw::syscall0(Sysno::gettid as usize),
        );
        let call = Sysno::rt_tgsigqueueinfo as usize;
        raw::syscall4(call, process, thread, signal as usize, info as usize);
    }
}

/// rt_sigtimedwait(2) without waiting: takes a pending signal of `set`, its number.
///
/// # Safety
/// `info` is null, or may be written.
pub unsafe fn take_signal(set: SignalSet, info: *mut libc::siginfo_t) -> Result<c_int, Errno> {
    let (now, set) = ([0_i64; 2], &raw const set as usize);
    let call = Sysno::rt_sigtimedwait as usize;
    // SAFETY: the kernel reads one set and one timespec, both alive; the rest is passed on to our caller.
    outcome(unsafe { raw::syscall4(call, set, info as usize, now.as_ptr() as usize, 8) }).map(|n| n as c_int)
}

/// signalfd(2): a descriptor that is readable while a signal of `set` is pending.
pub fn signal_descriptor(set: SignalSet) -> Result<c_int, Errno> {
    let (call, flags) = (Sysno::signalfd4 as usize, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK);
    // SAFETY: the kernel reads one set, alive.
    outcome(unsafe { raw::syscall4(call, usize::MAX, &raw const set as usize, 8, flags as usize) }).map(|n| n as c_int)
}

/// timerfd_create(2) and timerfd_settime(2): a descriptor that is readable once `clock` has come to `time`.
pub fn timer_descriptor(clock: c_int, time: libc::timespec) -> Result<c_int, Errno> {
    let flags = libc::TFD_CLOEXEC | libc::TFD_NONBLOCK;
    // SAFETY: touches no memory.
    let fd = outcome(unsafe { raw::syscall2(Sysno::timerfd_create as usize, clock as usize, flags as usize) })?;
    // All zero would be no time at all.
    let least = libc::timespec { tv_sec: 0, tv_nsec: 1 };
    let it_value = if (time.tv_sec, time.tv_nsec) == (0, 0) {
        least
    } else {
        time
    };
    let it_interval = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    let (settings, call) = (
        libc::itimerspec { it_interval, it_value },
        Sysno::timerfd_settime as usize,
    );
    // SAFETY: the kernel reads the settings, alive.
    let set = outcome(unsafe {
        raw::syscall4(
            call,
            fd,
            libc::TFD_TIMER_ABSTIME as usize,
            &raw const settings as usize,
            0,
        )
    });
    match set {
        Ok(_) => Ok(fd as c_int),
        Err(error) => {
            let _ = close(fd as c_int);
            Err(error)
        }
    }
}

/// pidfd_open(2): a descriptor that is readable once the process has ended.
pub fn process_descriptor(pid: libc::pid_t) -> Result<c_int, Errno> {
    // SAFETY: touches no memory.
    outcome(unsafe { raw::syscall2(Sysno::pidfd_open as usize, pid as usize, 0) }).map(|n| n as c_int)
}

/// wait4(2).
///
/// # Safety
/// `status` and `usage` are null, or may be written: the kernel checks them.
pub unsafe fn wait4(
    pid: libc::pid_t,
    status: *mut c_int,
    options: c_int,
    usage: *mut libc::rusage,
) -> Result<libc::pid_t, Errno> {
    let call = Sysno::wait4 as usize;
    // SAFETY: passed on to our caller.
    outcome(unsafe { raw::syscall4(call, pid as usize, status as usize, options as usize, usage as usize) })
        .map(|n| n as libc::pid_t)
}

/// waitid(2).
pub fn waitid(kind: libc::idtype_t, id: libc::id_t, info: &mut libc::siginfo_t, options: c_int) -> Result<(), Errno> {
    let (call, info) = (Sysno::waitid as usize, std::ptr::from_mut(info) as usize);
    // SAFETY: the kernel writes one siginfo_t, alive.
    outcome(unsafe { raw::syscall5(call, kind as usize, id as usize, info, options as usize, 0) })?;
    Ok(())
}

/// tgkill(2) to a thread of this process.
pub fn signal_thread(thread: c_int, signal: c_int) {
    // SAFETY: touches no memory.
    unsafe {
        let process = raw::syscall0(Sysno::getpid as usize);
        raw::syscall3(Sysno::tgkill as usize, process, thread as usize, signal as usize);
    }
}

/// gettid(2).
pub fn thread_id() -> c_int {
    // SAFETY: touches no memory.
    unsafe { raw::syscall0(Sysno::gettid as usize) as c_int }
}

/// newfstatat(2), links followed.
///
/// # Safety
/// `path` is the C caller's; the kernel checks it.
pub unsafe fn fstatat(dir: c_int, path: *const c_char) -> Result<libc::stat, Errno> {
    let mut stat = std::mem::MaybeUninit::<libc::stat>::uninit();
    #[cfg(target_arch = "x86_64")]
    let call = Sysno::newfstatat as usize;
    #[cfg(target_arch = "aarch64")]
    let call = Sysno::fstatat as usize;
    // SAFETY: the kernel writes one struct stat; the rest is passed on to our caller.
    outcome(unsafe { raw::syscall4(call, dir as usize, path as usize, stat.as_mut_ptr() as usize, 0) })?;
    // SAFETY: written by the successful call.
    Ok(unsafe { stat.assume_init() })
}

/// clock_gettime(2), in nanoseconds.
pub fn clock(clock: c_int) -> Option<u64> {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel writes one timespec, alive.
    outcome(unsafe { raw::syscall2(Sysno::clock_gettime as usize, clock as usize, &raw mut time as usize) }).ok()?;
    Some((time.tv_sec as u64).saturating_mul(1_000_000_000) + time.tv_nsec as u64)
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

/// The kernel's struct sigaction.
#[repr(C)]
struct KernelAction {
    handler: usize,
    flags: usize,
    restorer: usize,
    mask: u64,
}

/// rt_sigaction(2), past libc's own restorer: all signals are blocked in the handler.
///
/// # Safety
/// `handler` is the address of a function with a handler's three arguments, `restorer` of one that makes rt_sigreturn(2).
#[cfg(target_arch = "x86_64")]
pub unsafe fn handle_signal(signal: c_int, handler: usize, restorer: usize) {
    const SA_RESTORER: usize = 0x0400_0000;
    let action = KernelAction {
        handler,
        flags: libc::SA_SIGINFO as usize | libc::SA_RESTART as usize | SA_RESTORER,
        restorer,
        mask: u64::MAX,
    };
    let action = &raw const action as usize;
    // SAFETY: the action is alive; the rest is passed on to our caller.
    unsafe {
        raw::syscall4(
            Sysno::rt_sigaction as usize,
            signal as usize,
            action,
            0,
            size_of::<u64>(),
        )
    };
}

/// PR_SET_SYSCALL_USER_DISPATCH: the calling thread's system calls from outside `text` raise SIGSYS
/// while the selector, which must stay in place, says so. None ends that.
pub fn dispatch_system_calls(how: Option<(&std::ops::Range<usize>, *mut u8)>) -> Result<(), Errno> {
    const PR_SET_SYSCALL_USER_DISPATCH: usize = 59;
    let (on, text, n, selector) = how.map_or((0, 0, 0, std::ptr::null_mut()), |(text, at)| {
        (1, text.start, text.len(), at)
    });
    let (call, option) = (Sysno::prctl as usize, PR_SET_SYSCALL_USER_DISPATCH);
    // SAFETY: the kernel reads the selector, which its owner keeps in place until it has ended the dispatch.
    outcome(unsafe { raw::syscall5(call, option, on, text, n, selector as usize) })?;
    Ok(())
}

/// Sleeps for at least `nanos`.
pub fn sleep(nanos: u64) {
    let time = rustix::thread::Timespec {
        tv_sec: (nanos / 1_000_000_000) as i64,
        tv_nsec: (nanos % 1_000_000_000) as i64,
    };
    let _ = rustix::thread::nanosleep(&time);
}

/// What the kernel tells of a thread of this process in the file `name`, short and of one line.
pub fn thread_file(tid: i32, name: &str) -> Option<String> {
    use rustix::fs::{Mode, OFlags, open};
    let path = format!("/proc/self/task/{tid}/{name}");
    let file = open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()?;
    let mut text = [0; 256];
    let n = rustix::io::read(&file, &mut text);
    // Rust's own drop would go through libc's close, which is our hook.
    let _ = close(file.into_raw_fd());
    Some(String::from_utf8_lossy(&text[..n.ok()?]).trim().to_owned())
}
