//! Error numbers inside the shim, and C's `errno` at its boundary.

use std::ffi::c_int;

/// A positive error number as the kernel defines it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Errno(pub c_int);

impl Errno {
    pub const AGAIN: Self = Self(libc::EAGAIN);
    pub const ALREADY: Self = Self(libc::EALREADY);
    pub const BADF: Self = Self(libc::EBADF);
    pub const BUSY: Self = Self(libc::EBUSY);
    pub const CONNREFUSED: Self = Self(libc::ECONNREFUSED);
    pub const CONNRESET: Self = Self(libc::ECONNRESET);
    pub const FAULT: Self = Self(libc::EFAULT);
    pub const DEADLK: Self = Self(libc::EDEADLK);
    pub const FBIG: Self = Self(libc::EFBIG);
    pub const HOSTUNREACH: Self = Self(libc::EHOSTUNREACH);
    pub const INPROGRESS: Self = Self(libc::EINPROGRESS);
    pub const INTR: Self = Self(libc::EINTR);
    pub const INVAL: Self = Self(libc::EINVAL);
    pub const MFILE: Self = Self(libc::EMFILE);
    pub const NETUNREACH: Self = Self(libc::ENETUNREACH);
    pub const NOMEM: Self = Self(libc::ENOMEM);
    pub const NOTSUP: Self = Self(libc::EOPNOTSUPP);
    pub const NXIO: Self = Self(libc::ENXIO);
    pub const PIPE: Self = Self(libc::EPIPE);
    pub const TIMEDOUT: Self = Self(libc::ETIMEDOUT);
    pub const SRCH: Self = Self(libc::ESRCH);

    /// The error in the negative result of a raw system call or completion.
    pub fn of(result: i32) -> Self {
        Self(-result)
    }
}

impl From<std::io::Error> for Errno {
    fn from(error: std::io::Error) -> Self {
        Self(error.raw_os_error().unwrap_or(libc::EIO))
    }
}

impl std::fmt::Display for Errno {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(&std::io::Error::from_raw_os_error(self.0), f)
    }
}

/// This OS thread's errno.
pub fn get() -> c_int {
    // SAFETY: glibc's accessor returns a valid address on every thread.
    unsafe { *libc::__errno_location() }
}

/// Sets this OS thread's errno.
pub fn set(value: c_int) {
    // SAFETY: glibc's accessor returns a valid address on every thread.
    unsafe { *libc::__errno_location() = value }
}

/// Preserves errno: the value at creation is restored on drop.
pub struct Preserved(c_int);

impl Preserved {
    pub fn now() -> Self {
        Self(get())
    }
}

impl Drop for Preserved {
    fn drop(&mut self) {
        set(self.0);
    }
}
