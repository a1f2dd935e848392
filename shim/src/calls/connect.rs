//! accept(2) and connect(2). Their only non-blocking form is O_NONBLOCK, which other users of the
//! socket would notice.
//!
//! When a connection is there, the thread makes a plain accept, and a timer interrupts that accept
//! in case another process takes the connection first ([`crate::runtime::accepting`]). Only one
//! fiber at a time waits for a listening socket. connect(2) is done by io_uring or by a pool
//! thread.

use super::{Verdict, net};
use crate::engine::{Action, Direction, Request, SocketCall};
use crate::runtime::call::Call;
use crate::runtime::completion::Unfinished;
use crate::runtime::deadlines::{Deadline, NEVER};
use crate::runtime::position::PositionGuard;
use crate::runtime::wait_set::{File, WaitSet};
use crate::state::descriptors::Descriptor;
use crate::state::holds::Hold;
use libc::{sockaddr, socklen_t};
use policy::Reason;
use std::ffi::c_int;
use sys::errno::Errno;
use sys::sockets;

pub fn accept(call: &Call<'_>, fd: c_int, address: *mut sockaddr, len: *mut socklen_t) -> Verdict {
    accept4(call, fd, address, len, 0)
}

pub fn accept4(
    call: &Call<'_>,
    fd: c_int,
    address: *mut sockaddr,
    len: *mut socklen_t,
    flags: c_int,
) -> Verdict {
    if flags & !(libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK) != 0 {
        return Verdict::PassThrough(Reason::Unusual);
    }
    let descriptor = match net::waits(call, fd) {
        Ok(_) if net::is_nonblocking(fd) => return Verdict::PassThrough(Reason::Nonblocking),
        Ok(descriptor) => descriptor,
        Err(reason) => return Verdict::PassThrough(reason),
    };
    let action = Action::Accept(address, len);
    let wanted = SocketCall { fd, flags, action };
    let deadline = net::deadline(fd, Direction::Read, descriptor);
    let result = accept_when_there(call, wanted, descriptor, deadline);
    if let Ok(accepted) = result {
        Descriptor::opened(accepted as c_int, flags & libc::SOCK_NONBLOCK, false);
        call.thread.quantum().prolong_for_accept();
    }
    net::verdict(deadline, result)
}

/// Accepts a connection that is there, or waits for one. Other fibers and processes may take it
/// first.
fn accept_when_there(
    call: &Call<'_>,
    wanted: SocketCall,
    descriptor: Descriptor,
    deadline: Deadline,
) -> Result<isize, Unfinished> {
    if !sockets::listens(wanted.fd) {
        // The call fails at once. poll(2) would never report a connection on a socket that does not
        // listen.
        return Ok(wanted.stand_in()? as isize);
    }
    if sys::poll_now(wanted.fd, libc::POLLIN)
        && let Some(result) = call.thread.accept_now(&wanted)
        && result != Err(Errno::AGAIN)
    {
        call.inline();
        return Ok(result? as isize);
    }
    let duplicate = call.thread.duplicate_for_wait(wanted.fd);
    let fd = duplicate.unwrap_or(wanted.fd);
    let wanted = SocketCall { fd, ..wanted };
    let hold = Hold::new(fd);
    let result = match PositionGuard::acquire_stream(
        call,
        &hold,
        descriptor.inode(),
        Direction::Read,
        deadline,
    ) {
        Ok(_guard) => accept_in_turn(call, wanted, deadline),
        Err(Unfinished::TimedOut) => Err(Errno::AGAIN.into()),
        Err(error) => Err(error),
    };
    if let Some(duplicate) = duplicate {
        call.thread.close_duplicate(duplicate);
    }
    result
}

/// Waits for a connection and accepts it. The engine must not poll the listening socket itself:
/// io_uring keeps a polled file until some time after the process has ended, and with it the port.
fn accept_in_turn(
    call: &Call<'_>,
    wanted: SocketCall,
    deadline: Deadline,
) -> Result<isize, Unfinished> {
    let (fd, events) = (wanted.fd, libc::POLLIN);
    let mut wait_set = WaitSet::new(call, vec![File { fd, events }]);
    loop {
        // A connection may have arrived before this fiber got its turn.
        if sys::poll_now(fd, events) {
            match call.thread.accept_now(&wanted) {
                Some(Err(Errno::AGAIN)) => {}
                Some(result) => return Ok(result? as isize),
                None => break,
            }
        }
        match wait_set.wait(deadline, None) {
            Ok(()) => {}
            Err(Unfinished::TimedOut) => return Err(Errno::AGAIN.into()),
            Err(error @ Unfinished::Interrupted) => return Err(error),
            Err(Unfinished::Failed(_) | Unfinished::NotDone) => break,
        }
        wait_set.discard_reports();
    }
    match net::on_pool(call, wanted, deadline) {
        Err(Unfinished::TimedOut) => Err(Errno::AGAIN.into()),
        result => result,
    }
}

pub fn connect(call: &Call<'_>, fd: c_int, address: *const sockaddr, len: socklen_t) -> Verdict {
    let descriptor = match net::waits(call, fd) {
        Ok(_) if net::is_nonblocking(fd) => return Verdict::PassThrough(Reason::Nonblocking),
        Ok(descriptor) => descriptor,
        Err(reason) => return Verdict::PassThrough(reason),
    };
    let deadline = net::deadline(fd, Direction::Write, descriptor);
    let action = Action::Connect(address, len);
    let wanted = SocketCall {
        fd,
        flags: 0,
        action,
    };
    if !call.thread.does_sockets() {
        // The kernel enforces the timeout itself.
        return net::verdict(deadline, net::on_pool(call, wanted, NEVER));
    }
    let duplicate = call.thread.duplicate_for_wait(fd);
    let wanted = SocketCall {
        fd: duplicate.unwrap_or(fd),
        ..wanted
    };
    let result = connect_by_engine(call, wanted, deadline);
    if let Some(duplicate) = duplicate {
        call.thread.close_duplicate(duplicate);
    }
    net::verdict(deadline, result)
}

fn connect_by_engine(
    call: &Call<'_>,
    wanted: SocketCall,
    deadline: Deadline,
) -> Result<isize, Unfinished> {
    let SocketCall { fd, .. } = wanted;
    let error = match call.perform_until(&Request::Socket(wanted), deadline) {
        Ok(result) => return Ok(result as isize),
        Err(error) => error,
    };
    // Dereferences the address only if the kernel has read it.
    let family = || match wanted.action {
        Action::Connect(address, len) if len as usize >= size_of::<libc::sa_family_t>() => {
            // SAFETY: the kernel has read the address, which has this length, and the C caller
            // waits for this call.
            c_int::from(unsafe { (*address).sa_family })
        }
        _ => libc::AF_UNSPEC,
    };
    let is_inet = || matches!(family(), libc::AF_INET | libc::AF_INET6);
    match error {
        // The connection attempt continues in the kernel.
        Unfinished::TimedOut if family() == libc::AF_UNIX => Err(Errno::AGAIN.into()),
        Unfinished::TimedOut => Err(Errno::INPROGRESS.into()),
        error if error.is_not_done() => net::on_pool(call, wanted, NEVER),
        // An earlier non-blocking connect is still in progress; the plain call waits for it.
        Unfinished::Failed(Errno::ALREADY) => {
            let events = libc::POLLOUT;
            match call.perform_until(&Request::Poll { fd, events }, deadline) {
                Ok(_) => Ok(wanted.call(0)? as isize),
                Err(Unfinished::TimedOut) => Err(Errno::ALREADY.into()),
                Err(error @ Unfinished::Interrupted) => Err(error),
                Err(Unfinished::Failed(_) | Unfinished::NotDone) => {
                    net::on_pool(call, wanted, NEVER)
                }
            }
        }
        // The outcome of a connection attempt that was in progress. io_uring leaves the socket in
        // an intermediate state, which the plain call would reset.
        Unfinished::Failed(
            Errno::CONNREFUSED
            | Errno::TIMEDOUT
            | Errno::CONNRESET
            | Errno::HOSTUNREACH
            | Errno::NETUNREACH,
        ) if is_inet() => {
            if sockets::is_byte_stream(fd) {
                sockets::disconnect(fd);
            }
            Err(error)
        }
        error => Err(error),
    }
}
