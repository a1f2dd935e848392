//! close(2), fsync(2), lseek(2), dup(2), fcntl(2): other operations on descriptors.
//!
//! Calls that close or replace a descriptor first submit the queued operations that refer to it. A
//! fiber that called read(2) before is then inside the read, as a thread would be, and keeps its
//! file.

use super::{Verdict, flock, thread_state};
use crate::engine::{FdPin, KernelCall, Request};
use crate::runtime::call::Call;
use crate::runtime::completion::Unfinished;
use crate::runtime::position::PositionGuard;
use crate::runtime::release;
use crate::runtime::thread::Thread;
use crate::state::descriptors::{self, Descriptor};
use crate::state::holds::Hold;
use policy::{Contention, Hint, Reason};
use std::ffi::{c_int, c_uint, c_ulong, c_void};
use sys::errno::{self, Errno};
use sys::{Sysno, sockets};

pub fn close(call: &Call<'_>, fd: c_int) -> Verdict {
    let descriptor = Descriptor::known(fd);
    call.note(|record| record.set_descriptor(fd, descriptor));
    call.thread.submit_users_of(fd);
    // Closing blocks on file systems that write back on close. These (NFS, FUSE) reject RWF_NOWAIT.
    let writes_back = descriptor.is_some_and(|d| {
        d.hint()
            .contains(Hint::SEEKABLE.with(Hint::REFUSES_NOWAIT_READ))
    });
    if writes_back || descriptors::sockets_may_linger() {
        return close_waiting(call, fd, writes_back);
    }
    Verdict::PassThrough(Reason::Quick)
}

/// close(2) if it may block.
#[cold]
#[inline(never)]
fn close_waiting(call: &Call<'_>, fd: c_int, writes_back: bool) -> Verdict {
    if lingers(call, fd) {
        return close_lingering(call, Sysno::close, [fd as usize, 0, 0]);
    }
    if !writes_back || call.load().contention != Contention::OthersRunnable || !call.has_engine() {
        return Verdict::PassThrough(Reason::Quick);
    }
    descriptors::forget(fd).map(release::release);
    // After EINTR the descriptor is closed, as after the plain call.
    Verdict::from_completion(call.perform(&Request::Close { fd }))
}

pub fn fsync(call: &Call<'_>, fd: c_int) -> Verdict {
    sync(call, fd, false)
}

pub fn fdatasync(call: &Call<'_>, fd: c_int) -> Verdict {
    sync(call, fd, true)
}

fn sync(call: &Call<'_>, fd: c_int, data_only: bool) -> Verdict {
    call.note(|record| record.set_descriptor(fd, Descriptor::known(fd)));
    if call.load().contention != Contention::OthersRunnable {
        return Verdict::PassThrough(Reason::Alone);
    }
    if !call.has_engine() {
        return Verdict::PassThrough(Reason::NoEngine);
    }
    match call.perform(&Request::Fsync { fd, data_only }) {
        Err(error) if error.is_not_done() => Verdict::PassThrough(Reason::NoEngine),
        completion => Verdict::from_completion(completion),
    }
}

/// Waits for its turn behind reads and writes at the position, as in the kernel.
pub fn lseek(call: &Call<'_>, fd: c_int, offset: i64, whence: c_int) -> Verdict {
    let descriptor = Descriptor::get(fd);
    let hold = &Hold::new(fd);
    if descriptor.is_seekable()
        && let _guard @ PositionGuard::Held { .. } =
            PositionGuard::acquire(call, hold, descriptor.inode())
    {
        return Verdict::from_result(
            sys::lseek(hold.fd(), offset, whence).map(|position| position as isize),
        );
    }
    Verdict::PassThrough(Reason::Quick)
}

pub fn dup(_call: &Call<'_>, _fd: c_int) -> Verdict {
    Verdict::PassThrough(Reason::Quick)
}

pub fn dup2(call: &Call<'_>, from: c_int, to: c_int) -> Verdict {
    call.thread.submit_users_of(to);
    if from != to
        && lingers(call, to)
        && descriptors::forget(to).map(release::release) != Some(true)
    {
        return close_lingering(call, Sysno::dup2, [from as usize, to as usize, 0]);
    }
    Verdict::PassThrough(Reason::Quick)
}

pub fn dup3(call: &Call<'_>, from: c_int, to: c_int, flags: c_int) -> Verdict {
    call.thread.submit_users_of(to);
    if from != to
        && lingers(call, to)
        && descriptors::forget(to).map(release::release) != Some(true)
    {
        return close_lingering(
            call,
            Sysno::dup3,
            [from as usize, to as usize, flags as usize],
        );
    }
    Verdict::PassThrough(Reason::Quick)
}

/// Whether closing `fd` may wait for a peer, because it is a socket with SO_LINGER.
fn lingers(call: &Call<'_>, fd: c_int) -> bool {
    descriptors::sockets_may_linger()
        && sockets::lingers(fd)
        && call.load().contention == Contention::OthersRunnable
        && call.has_engine()
}

/// Makes close(2), dup2(2) or dup3(2) on a pool thread, which waits until the peer has received all
/// data or the time is up. As in the kernel, a handler ends that wait, and the call succeeds.
fn close_lingering(call: &Call<'_>, number: Sysno, [a, b, c]: [usize; 3]) -> Verdict {
    let request = KernelCall {
        number,
        arguments: [a, b, c, 0, 0, 0],
        pin: FdPin::None,
        is_first_try: false,
    };
    loop {
        match call.perform(&Request::Kernel(request)) {
            // No pool thread had started the call yet.
            Err(Unfinished::Interrupted) => {
                let _ = call.interrupted();
            }
            completion => return Verdict::from_completion(completion),
        }
    }
}

/// Called before libc's dup2, which makes `to` refer to another file. Returns `to` if it cannot
/// simply be forgotten ([`release::release`]).
#[inline(always)]
pub fn before_dup2(from: c_int, to: c_int) -> Option<c_int> {
    if from == to {
        None
    } else {
        descriptors::forget(to)
    }
}

pub fn fcntl(
    call: &Call<'_>,
    real: unsafe extern "C" fn(c_int, c_int, c_ulong) -> c_int,
    fd: c_int,
    command: c_int,
    argument: c_ulong,
) -> Verdict<c_int> {
    match command {
        libc::F_SETLKW | libc::F_OFD_SETLKW | libc::F_SETLK | libc::F_OFD_SETLK => {
            return flock::fcntl(call, real, fd, command, argument);
        }
        // The queued operations were called under the old flags.
        libc::F_SETFL => call.thread.submit_queued(),
        _ => {}
    }
    Verdict::PassThrough(Reason::Quick)
}

/// Called before libc's fcntl.
#[inline(always)]
pub fn before_fcntl(fd: c_int, command: c_int) -> Option<c_int> {
    if command == libc::F_SETFL {
        descriptors::forget(fd)
    } else {
        None
    }
}

pub fn ioctl(call: &Call<'_>, _fd: c_int, request: c_ulong, _argument: c_ulong) -> Verdict {
    if request == libc::FIONBIO {
        call.thread.submit_queued();
    }
    Verdict::PassThrough(Reason::Quick)
}

/// Called before libc's ioctl.
#[inline(always)]
pub fn before_ioctl(fd: c_int, request: c_ulong) -> Option<c_int> {
    if request == libc::FIONBIO {
        descriptors::forget(fd)
    } else {
        None
    }
}

pub fn setsockopt(
    _call: &Call<'_>,
    _fd: c_int,
    _level: c_int,
    _option: c_int,
    _value: *const c_void,
    _n: libc::socklen_t,
) -> Verdict {
    Verdict::PassThrough(Reason::Quick)
}

/// Called before libc's setsockopt. Forgets the cached facts about a descriptor whose timeouts or
/// low-water mark change, and records that such an option, or SO_LINGER, was set.
#[inline(always)]
pub fn before_setsockopt(fd: c_int, level: c_int, option: c_int) -> Option<c_int> {
    let times = level == libc::SOL_SOCKET
        && matches!(
            option,
            libc::SO_RCVTIMEO
                | libc::SO_SNDTIMEO
                | SO_RCVTIMEO_NEW
                | SO_SNDTIMEO_NEW
                | libc::SO_RCVLOWAT
        );
    if times {
        descriptors::note_socket_option();
        return descriptors::forget(fd);
    }
    if level == libc::SOL_SOCKET && option == libc::SO_LINGER {
        descriptors::note_lingering_socket();
    }
    None
}

/// The numbers of the two timeouts for 64-bit times.
const SO_RCVTIMEO_NEW: c_int = 66;
const SO_SNDTIMEO_NEW: c_int = 67;

/// Called before libc closes a stream's descriptor.
pub fn before_fclose(stream: *mut libc::FILE) -> Option<c_int> {
    let errno = errno::get();
    // SAFETY: the C caller passes an open stream; fileno returns -1 for one without a descriptor.
    descriptors::forget(unsafe { libc::fileno(stream) }).map(release::release);
    errno::set(errno);
    None
}

pub fn closedir(call: &Call<'_>, _directory: *mut libc::DIR) -> Verdict {
    call.thread.submit_queued();
    Verdict::PassThrough(Reason::Quick)
}

/// Called before libc closes a directory's descriptor.
pub fn before_closedir(directory: *mut libc::DIR) -> Option<c_int> {
    let errno = errno::get();
    if !directory.is_null() {
        // SAFETY: the C caller passes an open directory.
        descriptors::forget(unsafe { libc::dirfd(directory) }).map(release::release);
    }
    errno::set(errno);
    None
}

/// close_range(2), which libc has since 2.34. This is not a row of the table, because an older libc
/// has no such function. Like libc's, it makes the system call, but leaves out the shim's own
/// descriptors, which are closed on exec anyway.
#[unsafe(no_mangle)]
pub extern "C" fn close_range(first: c_uint, last: c_uint, flags: c_int) -> c_int {
    let (unshare, on_exec) = (
        libc::CLOSE_RANGE_UNSHARE as c_int,
        libc::CLOSE_RANGE_CLOEXEC as c_int,
    );
    let close = |first, last| sys::close_range(first, last, flags);
    let is_valid = first <= last && flags & !(unshare | on_exec) == 0;
    let closes = is_valid && flags & on_exec == 0;
    let call = || {
        if closes {
            close_others(first, last, close)
        } else {
            close(first, last)
        }
    };
    let result = if is_valid && flags & unshare != 0 {
        thread_state::unshare_descriptors(call)
    } else {
        call()
    };
    match result {
        Ok(()) => 0,
        Err(error) => {
            errno::set(error.0);
            -1
        }
    }
}

/// closefrom(3), which libc has since 2.34.
#[unsafe(no_mangle)]
pub extern "C" fn closefrom(first: c_int) {
    let _ = close_others(first.max(0) as c_uint, c_uint::MAX, |first, last| {
        if sys::close_range(first, last, 0).is_err() {
            // Before Linux 5.9: close them one by one, up to the limit of descriptors.
            let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile)
                .maximum
                .unwrap_or(1 << 20);
            (first..last.min(limit.min(1 << 20) as c_uint)).for_each(|fd| {
                let _ = sys::close(fd as c_int);
            });
        }
        Ok(())
    });
}

/// Closes `first` to `last` in ranges around the shim's own descriptors.
fn close_others(
    first: c_uint,
    last: c_uint,
    mut close: impl FnMut(c_uint, c_uint) -> Result<(), Errno>,
) -> Result<(), Errno> {
    if let Some(thread) = Thread::current() {
        thread.submit_queued();
    }
    let mut from = first;
    let mut result = Ok(());
    release::release_range(first, last, |own| {
        if from < own {
            result = result.and(close(from, own - 1));
        }
        from = own + 1;
    });
    if from <= last || from == first {
        result.and(close(from, last))
    } else {
        result
    }
}
