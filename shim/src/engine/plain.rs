//! A request as the plain system call it stands for, made by the calling thread, which may block in
//! it.

use super::request::{Data, KernelCall, Request, Run, Transfer, Way};
use crate::errno::Errno;
use crate::sys;
use std::ffi::c_int;

/// Does `request`: its result as a system call's, a negative error number.
pub fn perform(request: &Request) -> i32 {
    let result = match *request {
        Request::Transfer(transfer) | Request::Plain(transfer) => {
            transfer.call(0).map(|n| n as i32)
        }
        Request::Socket(call) => call.stand_in().map(|n| n as i32),
        Request::Poll { fd, events } => sys::poll_one(fd, events).map(i32::from),
        Request::Fsync { fd, data_only } => sys::fsync(fd, data_only).map(|()| 0),
        Request::Open {
            dir,
            path,
            flags,
            mode,
        } => {
            // SAFETY: the path is the C caller's, whose call has not returned (request.rs).
            unsafe { sys::openat(dir, path, flags, mode) }
        }
        Request::Close { fd } => sys::close(fd).map(|()| 0),
        Request::Kernel(KernelCall {
            number, arguments, ..
        }) => {
            // SAFETY: the arguments are those of a C caller, whose call has not returned
            // (request.rs), or ours for one.
            unsafe { sys::call(number, arguments) }.map(|n| n as i32)
        }
        Request::Run(Run { code, data, .. }) => {
            // SAFETY: `data` is what `code` takes, and stays until the fiber that asked for it goes
            // on (request.rs).
            unsafe { code(data) };
            Ok(0)
        }
        // Never the pool's (Thread::fly, Engine::has_futexes).
        Request::Futex { .. }
        | Request::Futexes { .. }
        | Request::Wait { .. }
        | Request::AwaitSignal { .. } => Err(Errno::CANCELED),
    };
    result.unwrap_or_else(|error| -error.0)
}

impl Request {
    /// A transfer or a call on a socket in a form that does not wait: as [`Transfer::attempt`].
    pub fn attempt(&self) -> Result<Option<usize>, Errno> {
        match self {
            Self::Transfer(transfer) => transfer.attempt(),
            Self::Socket(call) => call.attempt(),
            _ => Ok(None),
        }
    }
}

impl Transfer {
    /// The plain call with `flags` added, in the kernel at once.
    pub fn call(&self, flags: c_int) -> Result<usize, Errno> {
        let flags = self.flags | flags;
        let offset = (!self.at_position()).then_some(self.offset);
        let part;
        let (iov, n) = match self.data {
            Data::Buffer(p, n) if flags == 0 => {
                // SAFETY: the caller's memory, during its call (request.rs).
                return unsafe {
                    match self.way {
                        Way::Read => sys::read(self.fd, p.cast(), n as usize, offset),
                        Way::Write => sys::write(self.fd, p.cast(), n as usize, offset),
                    }
                };
            }
            Data::Buffer(p, n) => {
                part = libc::iovec {
                    iov_base: p.cast(),
                    iov_len: n as usize,
                };
                (&raw const part, 1)
            }
            Data::Vector(iov, n) => (iov, n as usize),
        };
        // SAFETY: the caller's memory, during its call (request.rs); `part` is alive.
        unsafe {
            match self.way {
                Way::Read => sys::preadv2(self.fd, iov, n, self.offset, flags),
                Way::Write => sys::pwritev2(self.fd, iov, n, self.offset, flags),
            }
        }
    }

    /// The call in a form that does not wait: the result, None where it would have to, or
    /// [`Errno::NOTSUP`] where the file cannot tell.
    pub fn attempt(&self) -> Result<Option<usize>, Errno> {
        match self.call(libc::RWF_NOWAIT) {
            Err(Errno::AGAIN) => Ok(None),
            result => result.map(Some),
        }
    }
}
