//! Error numbers inside the shim, and C's `errno` at its edge.

use std::ffi::c_int;

/// A positive error number of the kernel.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Errno(pub c_int);

impl Errno {
    pub const AGAIN: Self = Self(libc::EAGAIN);
    pub const ALREADY: Self = Self(libc::EALREADY);
    pub const BADF: Self = Self(libc::EBADF);
    pub const BUSY: Self = Self(libc::EBUSY);
    pub const CANCELED: Self = Self(libc::ECANCELED);
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
    /// A deadline was over.
    pub const SRCH: Self = Self(libc::ESRCH);
    pub const TIME: Self = Self(libc::ETIME);
    /// Interrupted, and to be restarted or not as the kernel would (its own ERESTARTSYS): never a
    /// caller's to see.
    pub const RESTART: Self = Self(512);
    /// The same for a call that every handler ends, whatever SA_RESTART says (the kernel's
    /// ERESTARTNOHAND).
    pub const RESTART_UNHANDLED: Self = Self(514);

    /// As a C caller is to see it.
    pub fn of_c(self) -> c_int {
        if self.is_interruption() {
            libc::EINTR
        } else {
            self.0
        }
    }

    /// Whether it says that signals, or the cancellation of its fiber, have interrupted a call.
    pub fn is_interruption(self) -> bool {
        matches!(self, Self::RESTART | Self::RESTART_UNHANDLED)
    }

    /// The error of a raw system call's or completion's negative result.
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
    // SAFETY: glibc's accessor, valid on every thread.
    unsafe { *libc::__errno_location() }
}

/// Sets this OS thread's errno.
pub fn set(value: c_int) {
    // SAFETY: glibc's accessor, valid on every thread.
    unsafe { *libc::__errno_location() = value }
}

/// Keeps errno: it is put back as it was when this is dropped.
pub struct Kept(c_int);

impl Kept {
    pub fn now() -> Self {
        Self(get())
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        set(self.0);
    }
}
