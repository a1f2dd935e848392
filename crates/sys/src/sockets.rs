//! The shim's own system calls on sockets. Like those of [`crate`], they go straight to the
//! kernel.

use crate::errno::Errno;
use crate::outcome;
use std::ffi::{c_int, c_uint, c_void};
use syscalls::{Sysno, raw};

/// Reads an option of level SOL_SOCKET; `T` is the kernel's type of its value.
fn option<T: Copy>(fd: c_int, name: c_int, nothing: T) -> Result<T, Errno> {
    let mut value = nothing;
    let mut len = size_of::<T>() as libc::socklen_t;
    let (value_at, len_at) = (&raw mut value as usize, &raw mut len as usize);
    let (call, level) = (Sysno::getsockopt as usize, libc::SOL_SOCKET as usize);
    // SAFETY: the kernel writes at most `len` bytes to `value`, and the length; both are alive.
    outcome(unsafe { raw::syscall5(call, fd as usize, level, name as usize, value_at, len_at) })?;
    Ok(value)
}

/// SO_RCVTIMEO or SO_SNDTIMEO in nanoseconds; None if it is not set.
pub fn timeout(fd: c_int, name: c_int) -> Option<u64> {
    let time = option(
        fd,
        name,
        libc::timeval {
            tv_sec: 0,
            tv_usec: 0,
        },
    )
    .ok()?;
    let nanos = (time.tv_sec as u64)
        .saturating_mul(1_000_000_000)
        .saturating_add(time.tv_usec as u64 * 1000);
    (nanos > 0).then_some(nanos)
}

/// Whether SO_RCVTIMEO or SO_SNDTIMEO is set.
pub fn has_timeout(fd: c_int) -> bool {
    [libc::SO_RCVTIMEO, libc::SO_SNDTIMEO]
        .into_iter()
        .any(|option| timeout(fd, option).is_some())
}

/// SO_RCVLOWAT: the number of bytes that a receive on a stream waits for.
pub fn low_water_mark(fd: c_int) -> c_int {
    option(fd, libc::SO_RCVLOWAT, 1).unwrap_or(1)
}

/// SO_SNDBUF: how many bytes the socket buffers, including the kernel's overhead.
pub fn send_buffer(fd: c_int) -> Option<usize> {
    usize::try_from(option::<c_int>(fd, libc::SO_SNDBUF, 0).ok()?).ok()
}

/// Whether closing the socket waits for its peer: SO_LINGER is on with a nonzero time.
pub fn lingers(fd: c_int) -> bool {
    let none = libc::linger {
        l_onoff: 0,
        l_linger: 0,
    };
    option(fd, libc::SO_LINGER, none).is_ok_and(|linger| linger.l_onoff != 0 && linger.l_linger > 0)
}

/// Whether the socket is SOCK_STREAM: bytes without message boundaries.
pub fn is_byte_stream(fd: c_int) -> bool {
    option(fd, libc::SO_TYPE, 0) == Ok(libc::SOCK_STREAM)
}

/// Whether the socket accepts connections, because listen(2) was called.
pub fn listens(fd: c_int) -> bool {
    option(fd, libc::SO_ACCEPTCONN, 0) == Ok(1)
}

/// Whether it is an AF_UNIX socket that holds less than its buffer size. It then accepts one more
/// message without blocking.
pub fn has_unix_room(fd: c_int) -> bool {
    let mut held: c_int = 0;
    let (call, held_at) = (Sysno::ioctl as usize, &raw mut held as usize);
    // SAFETY: the kernel writes one integer, which is alive.
    let asked =
        || outcome(unsafe { raw::syscall3(call, fd as usize, libc::TIOCOUTQ as usize, held_at) });
    is_unix(fd) && asked().is_ok() && option(fd, libc::SO_SNDBUF, 0).is_ok_and(|room| held < room)
}

pub fn is_unix(fd: c_int) -> bool {
    option(fd, libc::SO_DOMAIN, 0) == Ok(libc::AF_UNIX)
}

/// recvfrom(2).
///
/// # Safety
/// The memory comes from the C caller, during its call; the kernel checks it.
pub unsafe fn recvfrom(
    fd: c_int,
    buf: *mut c_void,
    n: usize,
    flags: c_int,
    address: *mut libc::sockaddr,
    len: *mut libc::socklen_t,
) -> Result<usize, Errno> {
    let (call, flags) = (Sysno::recvfrom as usize, flags as usize);
    // SAFETY: our caller makes the same promise.
    outcome(unsafe {
        raw::syscall6(
            call,
            fd as usize,
            buf as usize,
            n,
            flags,
            address as usize,
            len as usize,
        )
    })
}

/// sendto(2).
///
/// # Safety
/// The same as for [`recvfrom`].
pub unsafe fn sendto(
    fd: c_int,
    buf: *const c_void,
    n: usize,
    flags: c_int,
    address: *const libc::sockaddr,
    len: libc::socklen_t,
) -> Result<usize, Errno> {
    let (call, flags) = (Sysno::sendto as usize, flags as usize);
    // SAFETY: our caller makes the same promise.
    outcome(unsafe {
        raw::syscall6(
            call,
            fd as usize,
            buf as usize,
            n,
            flags,
            address as usize,
            len as usize,
        )
    })
}

/// recvmmsg(2).
///
/// # Safety
/// The same as for [`recvfrom`].
pub unsafe fn recvmmsg(
    fd: c_int,
    messages: *mut libc::mmsghdr,
    n: c_uint,
    flags: c_int,
    timeout: *mut libc::timespec,
) -> Result<usize, Errno> {
    let (call, flags) = (Sysno::recvmmsg as usize, flags as usize);
    // SAFETY: our caller makes the same promise.
    outcome(unsafe {
        raw::syscall5(
            call,
            fd as usize,
            messages as usize,
            n as usize,
            flags,
            timeout as usize,
        )
    })
}

/// sendmmsg(2).
///
/// # Safety
/// The same as for [`recvfrom`].
pub unsafe fn sendmmsg(
    fd: c_int,
    messages: *mut libc::mmsghdr,
    n: c_uint,
    flags: c_int,
) -> Result<usize, Errno> {
    let (call, flags) = (Sysno::sendmmsg as usize, flags as usize);
    // SAFETY: our caller makes the same promise.
    outcome(unsafe { raw::syscall4(call, fd as usize, messages as usize, n as usize, flags) })
}

/// connect(2) to AF_UNSPEC: resets a socket whose connection failed to its initial state.
pub fn disconnect(fd: c_int) {
    let nowhere = libc::sockaddr {
        sa_family: libc::AF_UNSPEC as libc::sa_family_t,
        sa_data: [0; 14],
    };
    let (call, len) = (Sysno::connect as usize, size_of::<libc::sockaddr>());
    // SAFETY: the kernel reads one sockaddr, which is alive.
    unsafe { raw::syscall3(call, fd as usize, &raw const nowhere as usize, len) };
}

/// Raises the SIGPIPE that this thread would have got if it had made the call itself.
pub fn raise_sigpipe() {
    let (process, thread) = (rustix::process::getpid(), rustix::thread::gettid());
    let [process, thread] = [process, thread].map(|id| id.as_raw_nonzero().get() as usize);
    // SAFETY: the call touches no memory.
    unsafe {
        raw::syscall3(
            Sysno::tgkill as usize,
            process,
            thread,
            libc::SIGPIPE as usize,
        )
    };
}
