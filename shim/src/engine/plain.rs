//! Carries out a request as the equivalent plain system call on the calling thread, which may
//! block.

use super::request::{Data, Direction, KernelCall, Request, Run, Transfer};
use std::ffi::c_int;
use sys::errno::Errno;

/// Does `request`. Returns the result of the system call, a negative error number on failure.
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
            // SAFETY: the path belongs to the C caller, whose call has not returned (request.rs).
            unsafe { sys::openat(dir, path, flags, mode) }
        }
        Request::Close { fd } => sys::close(fd).map(|()| 0),
        Request::Kernel(KernelCall {
            number, arguments, ..
        }) => {
            // SAFETY: the arguments are valid: they belong to a C caller, whose call has not
            // returned (request.rs), or the shim made them for that call.
            unsafe { sys::call(number, arguments) }.map(|n| n as i32)
        }
        Request::Run(Run { code, data, .. }) => {
            // SAFETY: `data` is the argument that `code` expects, and stays alive until the fiber
            // that submitted it resumes (request.rs).
            unsafe { code(data) };
            Ok(0)
        }
        // The thread pool never gets these (Thread::fly, Engine::has_futexes).
        Request::Futex { .. }
        | Request::Futexes { .. }
        | Request::Wait { .. }
        | Request::AwaitSignal { .. } => return -libc::ECANCELED,
    };
    result.unwrap_or_else(|error| -error.0)
}

impl Request {
    /// Tries a transfer or a socket call without blocking; see [`Transfer::attempt`].
    pub fn attempt(&self) -> Result<Option<usize>, Errno> {
        match self {
            Self::Transfer(transfer) => transfer.attempt(),
            Self::Socket(call) => call.attempt(),
            _ => Ok(None),
        }
    }
}

impl Transfer {
    /// Makes the plain system call, with `flags` added.
    pub fn call(&self, flags: c_int) -> Result<usize, Errno> {
        let flags = self.flags | flags;
        let offset = (!self.at_position()).then_some(self.offset);
        let part;
        let (iov, n) = match self.data {
            Data::Buffer(p, n) if flags == 0 => {
                // SAFETY: the memory belongs to the C caller, whose call has not returned
                // (request.rs).
                return unsafe {
                    match self.direction {
                        Direction::Read => sys::read(self.fd, p.cast(), n as usize, offset),
                        Direction::Write => sys::write(self.fd, p.cast(), n as usize, offset),
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
        // SAFETY: the memory belongs to the C caller, whose call has not returned (request.rs);
        // `part` is alive.
        unsafe {
            match self.direction {
                Direction::Read => sys::preadv2(self.fd, iov, n, self.offset, flags),
                Direction::Write => sys::pwritev2(self.fd, iov, n, self.offset, flags),
            }
        }
    }

    /// Makes the call without blocking: the result, None if it would block, or [`Errno::NOTSUP`] if
    /// the file does not support non-blocking attempts.
    pub fn attempt(&self) -> Result<Option<usize>, Errno> {
        match self.call(libc::RWF_NOWAIT) {
            Err(Errno::AGAIN) => Ok(None),
            result => result.map(Some),
        }
    }
}
