//! Calls on sockets as requests: what is received, sent, accepted or connected, and the memory that takes.
//!
//! Whoever carries one out must not raise SIGPIPE, for it may run on a thread that is not the caller's: that is left to the
//! fiber ([`crate::calls::net`]).

use crate::errno::Errno;
use crate::policy::Way;
use crate::sys::outcome;
use std::ffi::c_int;
use syscalls::{Sysno, raw};

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
    /// The plain call with `flags` added, in the kernel at once. accept4(2) and connect(2) have no flags for one call.
    pub fn call(&self, flags: c_int) -> Result<usize, Errno> {
        let (fd, flags) = (self.fd as usize, (self.flags | flags) as usize);
        // SAFETY: the memory is the C caller's, during its call (request.rs); the kernel checks it.
        outcome(unsafe {
            match self.action {
                Action::Receive(p, n) => raw::syscall6(Sysno::recvfrom as usize, fd, p as usize, n, flags, 0, 0),
                Action::Send(p, n) => raw::syscall6(Sysno::sendto as usize, fd, p as usize, n, flags, 0, 0),
                Action::ReceiveMessage(message) => raw::syscall3(Sysno::recvmsg as usize, fd, message as usize, flags),
                Action::SendMessage(message) => raw::syscall3(Sysno::sendmsg as usize, fd, message as usize, flags),
                Action::Accept(address, len) => {
                    let flags = self.flags as usize;
                    raw::syscall4(Sysno::accept4 as usize, fd, address as usize, len as usize, flags)
                }
                Action::Connect(address, len) => {
                    raw::syscall3(Sysno::connect as usize, fd, address as usize, len as usize)
                }
            }
        })
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

    /// The flag that has it raise no signal.
    fn quiet(&self) -> c_int {
        match self.action {
            Action::Send(..) | Action::SendMessage(_) => libc::MSG_NOSIGNAL,
            _ => 0,
        }
    }
}
