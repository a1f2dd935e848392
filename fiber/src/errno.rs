//! Error numbers as the C API returns them.

use core::fmt;
use core::num::NonZeroI32;

/// A positive error number of `<errno.h>`. `Result<(), Errno>` is as small as the `int` of the C
/// API.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Errno(NonZeroI32);

macro_rules! errnos {
    ($($name:ident),* $(,)?) => {
        impl Errno {
            $(#[allow(missing_docs)] pub const $name: Errno = Errno::new(libc::$name);)*

            fn name(self) -> Option<&'static str> {
                match self.raw() {
                    $(libc::$name => Some(stringify!($name)),)*
                    _ => None,
                }
            }
        }
    };
}

errnos! {
    EAGAIN, EBUSY, ECANCELED, EDEADLK, EINVAL, ENOMEM, ENOSYS, ENOTSUP, EOVERFLOW, EPERM, ERANGE,
    ESRCH, ETIMEDOUT
}

impl Errno {
    const fn new(raw: i32) -> Errno {
        match NonZeroI32::new(raw) {
            Some(raw) => Errno(raw),
            None => panic!("zero is no error"),
        }
    }

    /// Returns the error number.
    pub const fn raw(self) -> i32 {
        self.0.get()
    }
}

/// Converts a result to the return value for C: 0 or the error number.
#[inline(always)]
pub(crate) fn as_int(result: Result<(), Errno>) -> i32 {
    match result {
        Ok(()) => 0,
        Err(e) => e.raw(),
    }
}

impl fmt::Debug for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "errno {}", self.raw()),
        }
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        std::io::Error::from_raw_os_error(self.raw()).fmt(f)
    }
}

impl std::error::Error for Errno {}

impl From<Errno> for std::io::Error {
    fn from(e: Errno) -> Self {
        std::io::Error::from_raw_os_error(e.raw())
    }
}
