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
use crate::runtime::deadlines::{Deadline, NEVER};
use crate::runtime::position::PositionGuard;
use crate::runtime::wait_set::{File, WaitOutcome, WaitSet};
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
    let result = net::end_interrupted(deadline, result);
    if let Ok(accepted) = result {
        Descriptor::opened(accepted as c_int, flags & libc::SOCK_NONBLOCK, false);
        call.thread.quantum().prolong_for_accept();
    }
    Verdict::from_result(result)
}

/// Accepts a connection that is there, or waits for one. Other fibers and processes may take it
/// first.
fn accept_when_there(
    call: &Call<'_>,
    wanted: SocketCall,
    descriptor: Descriptor,
    deadline: Deadline,
) -> Result<isize, Errno> {
    if !sockets::listens(wanted.fd) {
        // The call fails at once. poll(2) would never report a connection on a socket that does not
        // listen.
        return wanted.stand_in().map(|n| n as isize);
    }
    if sys::poll_now(wanted.fd, libc::POLLIN)
        && let Some(result) = call.thread.accept_now(&wanted)
        && result != Err(Errno::AGAIN)
    {
        call.inline();
        return result.map(|fd| fd as isize);
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
        Err(Errno::TIME) => Err(Errno::AGAIN),
        Err(error) => Err(error),
    };
    if let Some(duplicate) = duplicate {
        call.thread.close_duplicate(duplicate);
    }
    result
}

/// Waits for a connection and accepts it. The engine must not poll the listening socket itself:
/// io_uring keeps a polled file until some time after the process has ended, and with it the port.
fn accept_in_turn(call: &Call<'_>, wanted: SocketCall, deadline: Deadline) -> Result<isize, Errno> {
    let (fd, events) = (wanted.fd, libc::POLLIN);
    let mut wait_set = WaitSet::new(call, vec![File { fd, events }]);
    loop {
        // A connection may have arrived before this fiber got its turn.
        if sys::poll_now(fd, events) {
            match call.thread.accept_now(&wanted) {
                Some(Err(Errno::AGAIN)) => {}
                Some(result) => return result.map(|fd| fd as isize),
                None => break,
            }
        }
        match wait_set.wait(deadline, None) {
            WaitOutcome::Ready => {}
            WaitOutcome::Timeout => return Err(Errno::AGAIN),
            WaitOutcome::Interrupt => return Err(Errno::RESTART),
            WaitOutcome::Impossible => break,
        }
        wait_set.discard_reports();
    }
    match net::on_pool(call, wanted, deadline) {
        Err(Errno::TIME) => Err(Errno::AGAIN),
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
        return Verdict::from_result(net::end_interrupted(
            deadline,
            net::on_pool(call, wanted, NEVER),
        ));
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
    Verdict::from_result(net::end_interrupted(deadline, result))
}

fn connect_by_engine(
    call: &Call<'_>,
    wanted: SocketCall,
    deadline: Deadline,
) -> Result<isize, Errno> {
    let SocketCall { fd, .. } = wanted;
    let result = call.perform_until(&Request::Socket(wanted), deadline);
    if result >= 0 {
        return Ok(result as isize);
    }
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
    match Errno::of(result) {
        // The connection attempt continues in the kernel.
        Errno::TIME if family() == libc::AF_UNIX => Err(Errno::AGAIN),
        Errno::TIME => Err(Errno::INPROGRESS),
        Errno::RESTART => Err(Errno::RESTART),
        Errno::CANCELED | Errno::INTR | Errno::AGAIN => net::on_pool(call, wanted, NEVER),
        // An earlier non-blocking connect is still in progress; the plain call waits for it.
        Errno::ALREADY => {
            let events = libc::POLLOUT;
            let ready = call.perform_until(&Request::Poll { fd, events }, deadline);
            match Errno::of(ready) {
                Errno::TIME => Err(Errno::ALREADY),
                Errno::RESTART => Err(Errno::RESTART),
                _ if ready < 0 => net::on_pool(call, wanted, NEVER),
                _ => wanted.call(0).map(|n| n as isize),
            }
        }
        // The outcome of a connection attempt that was in progress. io_uring leaves the socket in
        // an intermediate state, which the plain call would reset.
        error @ (Errno::CONNREFUSED
        | Errno::TIMEDOUT
        | Errno::CONNRESET
        | Errno::HOSTUNREACH
        | Errno::NETUNREACH)
            if is_inet() =>
        {
            if sockets::is_byte_stream(fd) {
                sockets::disconnect(fd);
            }
            Err(error)
        }
        error => Err(error),
    }
}
