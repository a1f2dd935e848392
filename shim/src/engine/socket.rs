//! Socket calls as requests: receive, send, accept or connect, and the memory that they use.
//!
//! The executor must not raise SIGPIPE, because it may run on another thread than the caller. The
//! calling fiber raises it ([`crate::calls::net`]).

use super::request::{FdPin, KernelCall, Request};
use policy::Direction;
use std::ffi::c_int;
use sys::Sysno;
use sys::errno::Errno;

/// One call on a socket.
#[derive(Clone, Copy)]
pub struct SocketCall {
    pub fd: c_int,
    /// The flags argument of a recv(2) or send(2) call, or of accept4(2).
    pub flags: c_int,
    pub action: Action,
}

#[derive(Clone, Copy)]
pub enum Action {
    Receive(*mut u8, usize),
    Send(*const u8, usize),
    ReceiveMessage(*mut libc::msghdr),
    SendMessage(*const libc::msghdr),
    Accept(*mut libc::sockaddr, *mut libc::socklen_t),
    Connect(*const libc::sockaddr, libc::socklen_t),
}

impl Action {
    /// The direction in which the socket must be ready.
    pub fn direction(self) -> Direction {
        match self {
            Self::Receive(..) | Self::ReceiveMessage(_) | Self::Accept(..) => Direction::Read,
            Self::Send(..) | Self::SendMessage(_) | Self::Connect(..) => Direction::Write,
        }
    }
}

impl SocketCall {
    /// Makes the plain call with `flags` added. accept4(2) and connect(2) take no per-call flags,
    /// so `flags` is ignored for them.
    pub fn call(&self, flags: c_int) -> Result<usize, Errno> {
        let KernelCall {
            number, arguments, ..
        } = self.kernel_call(flags);
        // SAFETY: the memory belongs to the C caller, whose call has not returned (request.rs); the
        // kernel checks the addresses.
        unsafe { sys::call(number, arguments) }
    }

    /// The same call as a system call for the thread pool.
    fn kernel_call(&self, flags: c_int) -> KernelCall {
        let (fd, flags) = (self.fd as usize, (self.flags | flags) as usize);
        let (number, arguments) = match self.action {
            Action::Receive(p, n) => (Sysno::recvfrom, [fd, p as usize, n, flags, 0, 0]),
            Action::Send(p, n) => (Sysno::sendto, [fd, p as usize, n, flags, 0, 0]),
            Action::ReceiveMessage(message) => {
                (Sysno::recvmsg, [fd, message as usize, flags, 0, 0, 0])
            }
            Action::SendMessage(message) => {
                (Sysno::sendmsg, [fd, message as usize, flags, 0, 0, 0])
            }
            Action::Accept(address, len) => {
                let flags = self.flags as usize;
                (
                    Sysno::accept4,
                    [fd, address as usize, len as usize, flags, 0, 0],
                )
            }
            Action::Connect(address, len) => (
                Sysno::connect,
                [fd, address as usize, len as usize, 0, 0, 0],
            ),
        };
        KernelCall {
            number,
            arguments,
            pin: FdPin::None,
            is_first_try: true,
        }
    }

    /// Whether the call has a non-blocking form.
    pub fn can_be_tried(&self) -> bool {
        !matches!(self.action, Action::Accept(..) | Action::Connect(..))
    }

    /// Makes the call in its non-blocking form. None if it would block.
    pub fn attempt(&self) -> Result<Option<usize>, Errno> {
        match self.call(libc::MSG_DONTWAIT | self.quiet()) {
            Err(Errno::AGAIN) => Ok(None),
            result => result.map(Some),
        }
    }

    /// Makes the plain blocking call on behalf of the caller, without raising SIGPIPE.
    pub fn stand_in(&self) -> Result<usize, Errno> {
        self.call(self.quiet())
    }

    /// [`Self::stand_in`] as a request for a pool thread, which signals, cancellation and deadlines
    /// can interrupt.
    pub fn on_pool(&self) -> Request {
        Request::Kernel(self.kernel_call(self.quiet()))
    }

    /// The flag that keeps the call from raising SIGPIPE.
    fn quiet(&self) -> c_int {
        match self.action {
            Action::Send(..) | Action::SendMessage(_) => libc::MSG_NOSIGNAL,
            _ => 0,
        }
    }
}
