//! Descriptors: closing, duplicating, polling and identifying them.

use super::outcome;
use crate::errno::Errno;
use crate::time::{now, timespec_of};
use std::cmp::Ordering;
use std::ffi::c_int;
use std::os::fd::{BorrowedFd, IntoRawFd};
use std::ptr::null;
use syscalls::{Sysno, raw};

/// close(2). The descriptor is closed whatever the result.
pub fn close(fd: c_int) -> Result<(), Errno> {
    // SAFETY: the call accesses no memory; our caller may close the descriptor.
    outcome(unsafe { raw::syscall1(Sysno::close as usize, fd as usize) })?;
    Ok(())
}

/// close_range(2).
pub fn close_range(first: u32, last: u32, flags: c_int) -> Result<(), Errno> {
    // SAFETY: the call accesses no memory; our caller may close the descriptors.
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

/// fcntl(2) F_GETFL: the status flags of the open file.
pub fn status_flags(fd: c_int) -> Result<c_int, Errno> {
    // SAFETY: the call accesses no memory.
    let flags = outcome(unsafe {
        raw::syscall3(
            Sysno::fcntl as usize,
            fd as usize,
            libc::F_GETFL as usize,
            0,
        )
    })?;
    Ok(flags as c_int)
}

/// fcntl(2) F_SETFL: sets the status flags in `flags` and clears all others.
pub fn set_status_flags(fd: c_int, flags: c_int) -> Result<(), Errno> {
    // SAFETY: the call accesses no memory.
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

/// kcmp(2) KCMP_FILE: compares the open files of two of the process's descriptors, in an order that
/// the kernel keeps while they are open. None if the kernel refuses to compare them.
pub fn compare_open_files(a: c_int, b: c_int) -> Option<Ordering> {
    const KCMP_FILE: usize = 0;
    let pid = rustix::process::getpid().as_raw_nonzero().get() as usize;
    // SAFETY: the call accesses no memory.
    match outcome(unsafe {
        raw::syscall5(
            Sysno::kcmp as usize,
            pid,
            pid,
            KCMP_FILE,
            a as usize,
            b as usize,
        )
    }) {
        Ok(0) => Some(Ordering::Equal),
        Ok(1) => Some(Ordering::Less),
        Ok(2) => Some(Ordering::Greater),
        _ => None,
    }
}

/// Whether two of the process's descriptors refer to the same open file; None if the kernel refuses
/// to compare them.
pub fn same_open_file(a: c_int, b: c_int) -> Option<bool> {
    compare_open_files(a, b).map(Ordering::is_eq)
}

/// The lowest number that a descriptor owned by the shim may have. Programs use the lower numbers
/// by value: standard streams, `exec 4>file` in a shell, sockets passed by a service manager.
pub const LEAST: c_int = 10;

/// Duplicates a descriptor that the shim owns to a number that programs do not use by value: one of
/// the last 64 numbers, or of the upper half if the limit is low, else any number from [`LEAST`]
/// on. None if all of these are taken.
pub fn duplicate_out_of_the_way(fd: c_int) -> Option<c_int> {
    let limit = descriptor_limit();
    duplicate_from(fd, limit.saturating_sub(64).max(limit / 2)).or_else(|| duplicate_from(fd, 0))
}

/// Duplicates a descriptor to wait on. The numbers come from the upper half because there may be
/// many. None if that half is full.
pub fn duplicate_to_wait_on(fd: c_int) -> Option<c_int> {
    duplicate_from(fd, descriptor_limit() / 2)
}

fn duplicate_from(fd: c_int, from: usize) -> Option<c_int> {
    let (call, command) = (Sysno::fcntl as usize, libc::F_DUPFD_CLOEXEC as usize);
    let from = from.max(LEAST as usize);
    // SAFETY: the call accesses no memory.
    let high = outcome(unsafe { raw::syscall3(call, fd as usize, command, from) }).ok()?;
    Some(high as c_int)
}

pub fn descriptor_limit() -> usize {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    limit.unwrap_or(1 << 20).min(1 << 20) as usize
}

/// The size of the kernel's descriptor table, given that the caller visits the numbers up to `n`.
/// The limit may have been lowered while higher numbers were open.
pub fn descriptor_table_size(n: usize) -> usize {
    let limit = descriptor_limit();
    if n <= limit {
        return limit;
    }
    open_table_size().map_or(limit, |size| size.max(limit))
}

/// The size of the calling thread's table according to the kernel.
fn open_table_size() -> Option<usize> {
    use rustix::fs::{Mode, OFlags};
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let file = rustix::fs::open("/proc/thread-self/status", flags, Mode::empty()).ok()?;
    let mut status = [0; 4096];
    let n = rustix::io::read(&file, &mut status).ok()?;
    let _ = close(file.into_raw_fd());
    let status = std::str::from_utf8(status.get(..n)?).ok()?;
    let size = status
        .lines()
        .find_map(|line| line.strip_prefix("FDSize:"))?;
    size.trim().parse().ok()
}

/// poll(2) of one descriptor, without a timeout if that is None. Returns the ready subset of
/// `events` and the errors, or 0 if the time is up. Does not touch errno.
fn poll(fd: c_int, events: i16, nanos: Option<u64>) -> Result<i16, Errno> {
    let mut polled = libc::pollfd {
        fd,
        events,
        revents: 0,
    };
    let time = nanos.map(timespec_of);
    let time = time.as_ref().map_or(null(), std::ptr::from_ref);
    let arguments = (&raw mut polled as usize, time as usize);
    // SAFETY: the kernel reads and writes the one pollfd and reads the time, if there is one; both
    // are alive. Without a mask, ppoll(2) is poll(2).
    outcome(unsafe { raw::syscall5(Sysno::ppoll as usize, arguments.0, 1, arguments.1, 0, 0) })?;
    Ok(polled.revents)
}

/// Waits until `fd` is ready for any of `events` or has an error. Returns what it is ready for.
/// Does not touch errno.
pub fn poll_one(fd: c_int, events: i16) -> Result<i16, Errno> {
    poll(fd, events, None)
}

/// Whether `fd` is ready for any of `events` now, or has an error.
pub fn poll_now(fd: c_int, events: i16) -> bool {
    poll(fd, events, Some(0)).is_ok_and(|ready| ready != 0)
}

/// Waits until the last writer of the pipe that `reader` reads is closed, for at most `nanos`.
pub fn wait_for_end(reader: c_int, nanos: u64) {
    let end = now() + nanos;
    while poll(reader, 0, Some(end.saturating_sub(now()))) == Err(Errno::INTR) {}
}

/// The terminal settings of `fd`; None if it is not a terminal.
pub fn terminal(fd: c_int) -> Option<rustix::termios::Termios> {
    // SAFETY: the descriptor is borrowed for this call only, and belongs to our caller.
    rustix::termios::tcgetattr(unsafe { BorrowedFd::borrow_raw(fd) }).ok()
}

/// The content of a pipe that is open for reading.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum PipeState {
    Data,
    /// No data, but there is a writer.
    Empty,
    /// No data and no writer: read(2) returns 0.
    Ended,
}

/// Finds out the state of the pipe or FIFO `fd` with a non-blocking tee(2) of one byte into a
/// temporary pipe. None if it is not a pipe.
pub fn pipe_state(fd: c_int) -> Option<PipeState> {
    let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).ok()?;
    let (reader, writer) = (reader.into_raw_fd(), writer.into_raw_fd());
    const SPLICE_F_NONBLOCK: usize = 2;
    // SAFETY: the call accesses no memory.
    let teed = outcome(unsafe {
        raw::syscall4(
            Sysno::tee as usize,
            fd as usize,
            writer as usize,
            1,
            SPLICE_F_NONBLOCK,
        )
    });
    let _ = close(reader);
    let _ = close(writer);
    match teed {
        Ok(0) => Some(PipeState::Ended),
        Ok(_) => Some(PipeState::Data),
        Err(Errno::AGAIN) => Some(PipeState::Empty),
        Err(_) => None,
    }
}
