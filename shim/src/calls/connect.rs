//! accept(2) and connect(2), which have no form that does not wait but with O_NONBLOCK, which others would see.
//!
//! Where the engine does not do them, a thread of the pool makes the plain call: of accept4(2) when a connection is there,
//! for one fiber of a listener at a time.

use super::{Outcome, net, offload};
use crate::call::Call;
use crate::deadlines::Deadline;
use crate::engine::{Action, Request, SocketCall, Way};
use crate::errno::Errno;
use crate::fds::Descriptor;
use crate::holds::Hold;
use crate::policy::Why;
use crate::position::Turn;
use crate::sockets;
use libc::{sockaddr, socklen_t};
use std::ffi::c_int;

pub fn accept(call: &Call<'_>, fd: c_int, address: *mut sockaddr, len: *mut socklen_t) -> Outcome {
    accept4(call, fd, address, len, 0)
}

pub fn accept4(call: &Call<'_>, fd: c_int, address: *mut sockaddr, len: *mut socklen_t, flags: c_int) -> Outcome {
    if flags & !(libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK) != 0 {
        return Outcome::Through(Why::Unusual);
    }
    let descriptor = match net::waits(call, fd) {
        Ok(_) if net::is_nonblocking(fd) => return Outcome::Through(Why::Nonblocking),
        Ok(descriptor) => descriptor,
        Err(why) => return Outcome::Through(why),
    };
    let action = Action::Accept(address, len);
    let wanted = SocketCall { fd, flags, action };
    let deadline = net::deadline(fd, Way::Read, descriptor);
    let result = if call.thread.does_sockets() {
        let result = call.perform_until(&Request::Socket(wanted), deadline);
        match Errno::of(result) {
            _ if result >= 0 => Ok(result as isize),
            Errno::TIME => Err(Errno::AGAIN),
            Errno::RESTART => Err(Errno::RESTART),
            Errno::AGAIN | Errno::CANCELED | Errno::INTR => net::on_pool(call, wanted),
            error => Err(error),
        }
    } else {
        accept_when_there(call, wanted, descriptor, deadline)
    };
    let result = net::end_interrupted(deadline, result);
    if let Ok(accepted) = result {
        Descriptor::opened(accepted as c_int, flags & libc::SOCK_NONBLOCK, false);
    }
    Outcome::Done(result)
}

/// Waits for a connection, then has the pool accept it: another process may have been faster.
fn accept_when_there(
    call: &Call<'_>,
    wanted: SocketCall,
    descriptor: Descriptor,
    deadline: Deadline,
) -> Result<isize, Errno> {
    if !sockets::listens(wanted.fd) {
        // An error, at once: to poll(2) a socket that cannot listen never has a connection.
        return wanted.stand_in().map(|n| n as isize);
    }
    let kept = call.thread.keep(wanted.fd);
    let fd = kept.unwrap_or(wanted.fd);
    let wanted = SocketCall { fd, ..wanted };
    let events = libc::POLLIN;
    let hold = Hold::new(fd);
    let turn = Turn::of_stream(call, &hold, descriptor.inode(), Way::Read, deadline);
    let ready = match &turn {
        Ok(_) => Errno::of(call.perform_until(&Request::Poll { fd, events }, deadline)),
        Err(error) => *error,
    };
    let result = match ready {
        Errno::TIME => Err(Errno::AGAIN),
        Errno::RESTART => Err(Errno::RESTART),
        _ => offload::run(call, || wanted.stand_in())
            .unwrap_or_else(|| wanted.stand_in())
            .map(|n| n as isize),
    };
    drop(turn);
    if let Some(duplicate) = kept {
        call.thread.let_go(duplicate);
    }
    result
}

pub fn connect(call: &Call<'_>, fd: c_int, address: *const sockaddr, len: socklen_t) -> Outcome {
    let descriptor = match net::waits(call, fd) {
        Ok(_) if net::is_nonblocking(fd) => return Outcome::Through(Why::Nonblocking),
        Ok(descriptor) => descriptor,
        Err(why) => return Outcome::Through(why),
    };
    let deadline = net::deadline(fd, Way::Write, descriptor);
    let action = Action::Connect(address, len);
    let wanted = SocketCall { fd, flags: 0, action };
    if !call.thread.does_sockets() {
        return Outcome::Done(net::on_pool(call, wanted));
    }
    let kept = call.thread.keep(fd);
    let wanted = SocketCall {
        fd: kept.unwrap_or(fd),
        ..wanted
    };
    let result = connect_by_engine(call, wanted, deadline);
    if let Some(duplicate) = kept {
        call.thread.let_go(duplicate);
    }
    Outcome::Done(net::end_interrupted(deadline, result))
}

fn connect_by_engine(call: &Call<'_>, wanted: SocketCall, deadline: Deadline) -> Result<isize, Errno> {
    let SocketCall { fd, .. } = wanted;
    let result = call.perform_until(&Request::Socket(wanted), deadline);
    if result >= 0 {
        return Ok(result as isize);
    }
    // SAFETY: not touched where the kernel may not have read it.
    let family = || match wanted.action {
        Action::Connect(address, len) if len as usize >= size_of::<libc::sa_family_t>() => {
            // SAFETY: the kernel has read the address, of this length, and its caller has not returned.
            c_int::from(unsafe { (*address).sa_family })
        }
        _ => libc::AF_UNSPEC,
    };
    let is_inet = || matches!(family(), libc::AF_INET | libc::AF_INET6);
    match Errno::of(result) {
        // It goes on in the kernel.
        Errno::TIME if family() == libc::AF_UNIX => Err(Errno::AGAIN),
        Errno::TIME => Err(Errno::INPROGRESS),
        Errno::RESTART => Err(Errno::RESTART),
        Errno::CANCELED | Errno::INTR | Errno::AGAIN => net::on_pool(call, wanted),
        // One that was begun without waiting, before: the kernel waits for that.
        Errno::ALREADY => {
            let events = libc::POLLOUT;
            let ready = call.perform_until(&Request::Poll { fd, events }, deadline);
            match Errno::of(ready) {
                Errno::TIME => Err(Errno::ALREADY),
                Errno::RESTART => Err(Errno::RESTART),
                _ if ready < 0 => net::on_pool(call, wanted),
                _ => wanted.call(0).map(|n| n as isize),
            }
        }
        // What came of a connection that was under way: io_uring leaves the socket in the middle of it, where the plain
        // call makes it as new.
        error @ (Errno::CONNREFUSED | Errno::TIMEDOUT | Errno::CONNRESET | Errno::HOSTUNREACH | Errno::NETUNREACH)
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
