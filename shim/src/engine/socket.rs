//! Calls on sockets as requests: what is received, sent, accepted or connected, and the memory that
//! takes.
//!
//! Whoever carries one out must not raise SIGPIPE, for it may run on a thread that is not the
//! caller's: that is left to the fiber ([`crate::calls::net`]).

use super::request::{KernelCall, Names, Request};
use crate::errno::Errno;
use crate::policy::Way;
use crate::sys::{self, Sysno};
use std::ffi::c_int;

/// One call on a socket.
#[derive(Clone, Copy)]
pub struct SocketCall {
    pub fd: c_int,
    /// Of recv(2) or send(2) and their kin, or of accept4(2).
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
    /// What it waits for its socket to be ready for.
    pub fn way(self) -> Way {
        match self {
            Self::Receive(..) | Self::ReceiveMessage(_) | Self::Accept(..) => Way::Read,
            Self::Send(..) | Self::SendMessage(_) | Self::Connect(..) => Way::Write,
        }
    }
}

impl SocketCall {
    /// The plain call with `flags` added, in the kernel at once. accept4(2) and connect(2) have no
    /// flags for one call.
    pub fn call(&self, flags: c_int) -> Result<usize, Errno> {
        let KernelCall {
            number, arguments, ..
        } = self.kernel_call(flags);
        // SAFETY: the memory is the C caller's, during its call (request.rs); the kernel checks it.
        unsafe { sys::call(number, arguments) }
    }

    /// The same as a request for the pool.
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
            names: Names::Nothing,
            is_first_try: true,
        }
    }

    /// Whether there is a form of it that does not wait.
    pub fn can_be_tried(&self) -> bool {
        !matches!(self.action, Action::Accept(..) | Action::Connect(..))
    }

    /// The call in that form: None where it would have to wait.
    pub fn attempt(&self) -> Result<Option<usize>, Errno> {
        match self.call(libc::MSG_DONTWAIT | self.quiet()) {
            Err(Errno::AGAIN) => Ok(None),
            result => result.map(Some),
        }
    }

    /// The plain call by somebody else than its caller, blocking.
    pub fn stand_in(&self) -> Result<usize, Errno> {
        self.call(self.quiet())
    }

    /// [`Self::stand_in`] as a request for a thread of the pool, which signals, cancellation and
    /// deadlines end.
    pub fn on_pool(&self) -> Request {
        Request::Kernel(self.kernel_call(self.quiet()))
    }

    /// The flag that has it raise no signal.
    fn quiet(&self) -> c_int {
        match self.action {
            Action::Send(..) | Action::SendMessage(_) => libc::MSG_NOSIGNAL,
            _ => 0,
        }
    }
}
