//! recv(2), send(2) and their variants: attempted without blocking, or submitted to the engine.
//!
//! Some calls continue in the kernel after a first part: a send on a stream, or a receive with
//! MSG_WAITALL. If the engine does not continue them, they are continued here ([`in_steps`]).

use super::Verdict;
use super::message::{Storage, message_of, part_of, wants_more};
use crate::engine::{self, Action, Data, Direction, Request, SocketCall, Transfer};
use crate::record::trace::AttemptOutcome;
use crate::runtime::call::Call;
use crate::runtime::completion::Unfinished;
use crate::runtime::deadlines::{Deadline, NEVER};
use crate::runtime::restart::Restart;
use crate::state::descriptors::{self, Descriptor};
use libc::{MSG_DONTWAIT, MSG_NOSIGNAL, MSG_PEEK, MSG_WAITALL, msghdr, sockaddr, socklen_t};
use policy::{Contention, Decision, Hint, Reason, Streak};
use std::cell::Cell;
use std::ffi::{c_int, c_void};
use sys::errno::Errno;
use sys::sockets;

/// Maximum number of consecutive times that a socket is reported ready when it is not. After that,
/// a pool thread waits for it.
const MAX_SPURIOUS_READY: u32 = 50;

/// How long a send waits before it checks again without an event, at first and at most.
const FIRST_CHECK_NS: u64 = 10_000_000;
const MAX_CHECK_NS: u64 = 1_000_000_000;

pub fn recv(call: &Call<'_>, fd: c_int, buf: *mut c_void, n: usize, flags: c_int) -> Verdict {
    let action = Action::Receive(buf.cast(), n);
    exchange(call, SocketCall { fd, flags, action }, None)
}

/// `__recv_chk`: libc's own call ends the program if the object is too small.
pub fn recv_chk(
    call: &Call<'_>,
    fd: c_int,
    buf: *mut c_void,
    n: usize,
    object: usize,
    flags: c_int,
) -> Verdict {
    if n > object {
        Verdict::PassThrough(Reason::Unusual)
    } else {
        recv(call, fd, buf, n, flags)
    }
}

pub fn recvfrom(
    call: &Call<'_>,
    fd: c_int,
    buf: *mut c_void,
    n: usize,
    flags: c_int,
    address: *mut sockaddr,
    len: *mut socklen_t,
) -> Verdict {
    if address.is_null() {
        return recv(call, fd, buf, n, flags);
    }
    if len.is_null() {
        return Verdict::PassThrough(Reason::Unusual);
    }
    let mut part = part_of(buf, n);
    let mut message = message_of(&raw mut part, 1);
    message.msg_name = address.cast();
    let message = &raw mut message;
    // An unreadable or invalid length only causes an error once a message was received.
    // SAFETY: the message is on this stack.
    let give_room = || unsafe { (*message).msg_namelen = sys::copy_in(len).unwrap_or(0) };
    // In these cases the attempt may be skipped.
    if flags != 0 || descriptors::socket_options_were_set() {
        give_room();
    }
    let answered = Cell::new(false);
    let tried = || {
        // SAFETY: the C caller's memory, during its call.
        let result = unsafe { sockets::recvfrom(fd, buf, n, flags | MSG_DONTWAIT, address, len) };
        answered.set(result.is_ok());
        if result == Err(Errno::AGAIN) {
            give_room();
        }
        result
    };
    let action = Action::ReceiveMessage(message);
    let outcome = exchange(call, SocketCall { fd, flags, action }, Some(&tried));
    if !answered.get() && matches!(outcome, Verdict::Done(_)) {
        // The message was received, and contains the length of the address.
        // SAFETY: the message is on this stack.
        let told =
            sys::copy_in(len).and_then(|_| sys::copy_out(len, unsafe { (*message).msg_namelen }));
        if let Err(error) = told {
            return Verdict::from_error(error);
        }
    }
    outcome
}

/// `__recvfrom_chk`: like [`recv_chk`].
#[expect(clippy::too_many_arguments, reason = "libc's own")]
pub fn recvfrom_chk(
    call: &Call<'_>,
    fd: c_int,
    buf: *mut c_void,
    n: usize,
    object: usize,
    flags: c_int,
    address: *mut sockaddr,
    len: *mut socklen_t,
) -> Verdict {
    if n > object {
        Verdict::PassThrough(Reason::Unusual)
    } else {
        recvfrom(call, fd, buf, n, flags, address, len)
    }
}

pub fn recvmsg(call: &Call<'_>, fd: c_int, message: *mut msghdr, flags: c_int) -> Verdict {
    let action = Action::ReceiveMessage(message);
    exchange(call, SocketCall { fd, flags, action }, None)
}

pub fn send(call: &Call<'_>, fd: c_int, buf: *const c_void, n: usize, flags: c_int) -> Verdict {
    let action = Action::Send(buf.cast(), n);
    exchange(call, SocketCall { fd, flags, action }, None)
}

pub fn sendto(
    call: &Call<'_>,
    fd: c_int,
    buf: *const c_void,
    n: usize,
    flags: c_int,
    address: *const sockaddr,
    len: socklen_t,
) -> Verdict {
    if address.is_null() {
        return send(call, fd, buf, n, flags);
    }
    // sendmsg(2) would truncate a longer address, and take an empty one for no address.
    if len as usize > size_of::<libc::sockaddr_storage>() || len == 0 {
        return Verdict::PassThrough(Reason::Unusual);
    }
    let mut part = part_of(buf.cast_mut(), n);
    let mut message = message_of(&raw mut part, 1);
    message.msg_name = address.cast_mut().cast();
    message.msg_namelen = len;
    // SAFETY: the C caller's memory, during its call.
    let tried = || unsafe { sockets::sendto(fd, buf, n, flags | MSG_DONTWAIT, address, len) };
    let action = Action::SendMessage(&raw const message);
    exchange(call, SocketCall { fd, flags, action }, Some(&tried))
}

pub fn sendmsg(call: &Call<'_>, fd: c_int, message: *const msghdr, flags: c_int) -> Verdict {
    let action = Action::SendMessage(message);
    exchange(call, SocketCall { fd, flags, action }, None)
}

/// A read(2) or write(2), or their vectored forms, on a socket with a timeout.
pub fn transfer(call: &Call<'_>, transfer: &Transfer) -> Verdict {
    if transfer.flags != 0 {
        return Verdict::PassThrough(Reason::Unusual);
    }
    let fd = transfer.fd;
    // The attempt also handles the case of zero bytes, in which the call returns but recvmsg(2)
    // would block.
    let tried = || transfer.call(libc::RWF_NOWAIT);
    let message;
    let action = match (transfer.direction, transfer.data) {
        (Direction::Read, Data::Buffer(p, n)) => Action::Receive(p, n as usize),
        (Direction::Write, Data::Buffer(p, n)) => Action::Send(p, n as usize),
        (direction, Data::Vector(parts, n)) => {
            message = message_of(parts.cast_mut(), n as usize);
            let message = &raw const message;
            match direction {
                Direction::Read => Action::ReceiveMessage(message.cast_mut()),
                Direction::Write => Action::SendMessage(message),
            }
        }
    };
    exchange(
        call,
        SocketCall {
            fd,
            flags: 0,
            action,
        },
        Some(&tried),
    )
}

/// Makes one call as the policy decides. If `tried` is given, it is the non-blocking form, which
/// differs from that of `wanted`; it is then always made first.
fn exchange(
    call: &Call<'_>,
    wanted: SocketCall,
    tried: Option<&dyn Fn() -> Result<usize, Errno>>,
) -> Verdict {
    let direction = wanted.action.direction();
    if wanted.flags & MSG_DONTWAIT != 0 {
        return Verdict::PassThrough(Reason::Nonblocking);
    }
    let load = call.load();
    if load.contention == Contention::SoleFiber {
        return Verdict::PassThrough(Reason::Alone);
    }
    let descriptor = Descriptor::get(wanted.fd);
    call.note(|record| record.set_descriptor(wanted.fd, Some(descriptor)));
    let hint = descriptor.hint().without(Hint::HAS_TIMEOUT);
    let decision = match direction {
        Direction::Read => policy::read(hint, load, 0, true, Streak::NONE),
        Direction::Write => policy::write(hint, load, true),
    };
    if let Decision::PassThrough(reason) = decision {
        return Verdict::PassThrough(reason);
    }
    if !call.has_engine() {
        return Verdict::PassThrough(Reason::NoEngine);
    }
    if is_whole_or_nothing(&wanted, descriptor) {
        if is_nonblocking(wanted.fd) {
            return Verdict::from_result(wanted.call(0).map(|n| n as isize));
        }
        // The kernel enforces the timeout itself.
        let deadline = deadline(wanted.fd, direction, descriptor);
        return verdict(deadline, on_pool(call, wanted, NEVER));
    }
    let recorded_as = policy::recorded_direction(hint, direction);
    // An engine that only waits for readiness makes the same attempt later. A send mostly succeeds
    // at once, a receive mostly does not.
    let is_tried_first = direction == Direction::Write && !call.thread.does_sockets();
    if decision == Decision::Submit && tried.is_none() && !is_tried_first {
        descriptor.submitted(recorded_as);
        return wait(call, wanted, descriptor, 0, false);
    }
    let batch = || call.load().batch;
    let result = match tried {
        Some(tried) => tried(),
        None => wanted.call(MSG_DONTWAIT),
    };
    match result {
        Ok(n) => {
            call.note(|record| record.set_outcome(AttemptOutcome::Hit));
            descriptor.with_nowait_known().hit(recorded_as, batch);
            if n > 0 && wants_more(&wanted, n) {
                return wait(call, wanted, descriptor, n, true);
            }
            call.inline();
            Verdict::Done(n as isize)
        }
        Err(Errno::AGAIN) => {
            call.note(|record| record.set_outcome(AttemptOutcome::Miss));
            descriptor.with_nowait_known().missed(recorded_as, batch());
            wait(call, wanted, descriptor, 0, true)
        }
        Err(error) => {
            call.inline();
            Verdict::from_error(error)
        }
    }
}

/// The cached facts about a socket if a call on it may block and should park; otherwise the reason
/// for passing through.
pub fn waits(call: &Call<'_>, fd: c_int) -> Result<Descriptor, Reason> {
    if call.load().contention == Contention::SoleFiber {
        return Err(Reason::Alone);
    }
    let descriptor = Descriptor::get(fd);
    call.note(|record| record.set_descriptor(fd, Some(descriptor)));
    let hint = descriptor.hint();
    if !hint.contains(Hint::STREAM) {
        return Err(Reason::Unusual);
    }
    if hint.contains(Hint::NONBLOCKING) {
        return Err(Reason::Nonblocking);
    }
    if !call.has_engine() {
        return Err(Reason::NoEngine);
    }
    Ok(descriptor)
}

pub fn is_nonblocking(fd: c_int) -> bool {
    sys::status_flags(fd).is_ok_and(|flags| flags & libc::O_NONBLOCK != 0)
}

/// Whether only the kernel's own blocking call gives the right result, because the call can neither
/// be attempted without being cut short nor be done in two steps. Whether MSG_ERRQUEUE and MSG_OOB
/// block depends on the protocol.
fn is_whole_or_nothing(wanted: &SocketCall, descriptor: Descriptor) -> bool {
    match wanted.action.direction() {
        Direction::Read => {
            wanted.flags & (MSG_PEEK | MSG_WAITALL) == MSG_PEEK | MSG_WAITALL
                || wanted.flags & (libc::MSG_ERRQUEUE | libc::MSG_OOB) != 0
                || (has_options(descriptor) && sockets::low_water_mark(wanted.fd) > 1)
        }
        Direction::Write => wanted.flags & libc::MSG_FASTOPEN != 0,
    }
}

/// Whether the socket may have a timeout or a low-water mark, including one that was set through
/// another descriptor of the socket.
fn has_options(descriptor: Descriptor) -> bool {
    descriptor.hint().contains(Hint::HAS_TIMEOUT) || descriptors::socket_options_were_set()
}

/// The time at which a call that begins now reaches the timeout of its socket.
pub fn deadline(fd: c_int, direction: Direction, descriptor: Descriptor) -> Deadline {
    if !has_options(descriptor) {
        return NEVER;
    }
    let option = match direction {
        Direction::Read => libc::SO_RCVTIMEO,
        Direction::Write => libc::SO_SNDTIMEO,
    };
    sockets::timeout(fd, option).map_or(NEVER, |nanos| sys::now().saturating_add(nanos))
}

/// Sends the rest of a sendmsg(2) that must wait, after `done` bytes were sent. The result is the
/// total number of bytes.
pub fn send_rest(
    call: &Call<'_>,
    fd: c_int,
    message: *const msghdr,
    flags: c_int,
    done: usize,
) -> Verdict {
    let action = Action::SendMessage(message);
    wait(
        call,
        SocketCall { fd, flags, action },
        Descriptor::get(fd),
        done,
        true,
    )
}

/// The verdict on a socket call. If it was interrupted, every handler ends it if it has a timeout;
/// otherwise it is restarted as SA_RESTART says (signal(7)).
pub fn verdict(deadline: Deadline, result: Result<isize, Unfinished>) -> Verdict {
    match result {
        Err(Unfinished::Interrupted) if deadline != NEVER => Verdict::Interrupted(Restart::Never),
        result => Verdict::from_result(result),
    }
}

/// Parks until the call is done; `done` bytes are already transferred. `tried` says that a
/// non-blocking attempt was made and would have blocked.
fn wait(
    call: &Call<'_>,
    wanted: SocketCall,
    descriptor: Descriptor,
    done: usize,
    tried: bool,
) -> Verdict {
    let deadline = deadline(wanted.fd, wanted.action.direction(), descriptor);
    let result = wait_until(call, wanted, descriptor, deadline, done, tried);
    verdict(deadline, result)
}

fn wait_until(
    call: &Call<'_>,
    wanted: SocketCall,
    descriptor: Descriptor,
    deadline: Deadline,
    done: usize,
    tried: bool,
) -> Result<isize, Unfinished> {
    let SocketCall { fd, flags, action } = wanted;
    // O_NONBLOCK may have been set without the shim noticing. io_uring finds out by itself.
    if !call.thread.does_sockets() && is_nonblocking(fd) {
        let n = if done > 0 {
            done
        } else {
            wanted.call(MSG_DONTWAIT)?
        };
        return Ok(n as isize);
    }
    let goes_on = match action.direction() {
        Direction::Read => flags & MSG_WAITALL != 0 && sockets::is_byte_stream(fd),
        Direction::Write => true,
    };
    let wanted = SocketCall {
        flags: if goes_on { flags } else { flags & !MSG_WAITALL },
        ..wanted
    };
    // If io_uring must wait after all, it sends a datagram that it has already read as an empty
    // one.
    let is_spoilt =
        action.direction() == Direction::Write && descriptor.preserves_unix_boundaries();
    if goes_on && (!call.thread.does_sockets() || is_spoilt) {
        return in_steps(call, wanted, done, deadline);
    }
    let mut storage = Storage::new();
    let part = wanted.after(done, &mut storage);
    let n = match call.perform_until(&Request::Socket(part), deadline) {
        Ok(n) => n as usize,
        Err(_) if done > 0 => return Ok(done as isize),
        Err(Unfinished::TimedOut) => return Err(Errno::AGAIN.into()),
        Err(error @ Unfinished::Failed(Errno::AGAIN)) if is_nonblocking(fd) => return Err(error),
        // The engine cannot complete the call, or did not start it.
        Err(error) if error.is_not_done() => return on_pool(call, wanted, NEVER),
        Err(error) => return Err(raised(&wanted, error, tried)),
    };
    if n > 0 && goes_on && wants_more(&wanted, done + n) && !is_nonblocking(fd) {
        return in_steps(call, wanted, done + n, deadline);
    }
    Ok((done + n) as isize)
}

/// Makes a call in several parts: waits for the socket and attempts the next part, until everything
/// is transferred or no more data arrives. As in the kernel, an error after a first part is
/// reported by the next call.
fn in_steps(
    call: &Call<'_>,
    wanted: SocketCall,
    mut done: usize,
    deadline: Deadline,
) -> Result<isize, Unfinished> {
    let duplicate = call.thread.duplicate_for_wait(wanted.fd);
    let fd = duplicate.unwrap_or(wanted.fd);
    let wanted = SocketCall { fd, ..wanted };
    let events = engine::event(wanted.action.direction());
    let mut storage = Storage::new();
    let mut spurious = 0;
    // poll(2) does not wake a sender when its Unix socket is shut down.
    let mut check_again = (wanted.action.direction() == Direction::Write && sockets::is_unix(fd))
        .then_some(FIRST_CHECK_NS);
    let result = loop {
        let next = check_again.map_or(NEVER, |nanos| sys::now() + nanos);
        let ready = call.perform_until(&Request::Poll { fd, events }, deadline.min(next));
        match ready {
            Err(Unfinished::TimedOut) if next < deadline => {
                check_again = check_again.map(|nanos| (nanos * 2).min(MAX_CHECK_NS))
            }
            Err(Unfinished::TimedOut) => break Err(Errno::AGAIN.into()),
            Err(error @ Unfinished::Interrupted) => break Err(error),
            Ok(_) if spurious <= MAX_SPURIOUS_READY => {}
            Ok(_) | Err(Unfinished::Failed(_) | Unfinished::NotDone) => {
                break on_pool(call, wanted.after(done, &mut storage), NEVER)
                    .map(|n| done += n as usize);
            }
        }
        let error_waits = ready.is_ok_and(|events| events & i32::from(libc::POLLERR) != 0);
        if done > 0 && error_waits {
            break Ok(());
        }
        match wanted.after(done, &mut storage).attempt() {
            Ok(Some(n)) => {
                done += n;
                spurious = 0;
                if n == 0 || !wants_more(&wanted, done) {
                    break Ok(());
                }
            }
            Ok(None) if ready.is_err() => {}
            Ok(None) => spurious += 1,
            Err(error) if done > 0 => break Err(error.into()),
            Err(error) => break Err(raised(&wanted, error.into(), true)),
        }
    };
    if let Some(duplicate) = duplicate {
        call.thread.close_duplicate(duplicate);
    }
    match result {
        Err(error) if done == 0 => Err(error),
        _ => Ok(done as isize),
    }
}

/// Makes the kernel's own blocking call on a pool thread, or here if no pool thread is available.
pub fn on_pool(
    call: &Call<'_>,
    wanted: SocketCall,
    deadline: Deadline,
) -> Result<isize, Unfinished> {
    let duplicate = call.thread.duplicate_for_wait(wanted.fd);
    let there = SocketCall {
        fd: duplicate.unwrap_or(wanted.fd),
        ..wanted
    };
    let result = match call.perform_until(&there.on_pool(), deadline) {
        Ok(n) => Ok(n as isize),
        Err(Unfinished::NotDone) => {
            let result = there.stand_in();
            result.map(|n| n as isize).map_err(Unfinished::from)
        }
        Err(error) => Err(error),
    };
    if let Some(duplicate) = duplicate {
        call.thread.close_duplicate(duplicate);
    }
    result.map_err(|error| raised(&wanted, error, true))
}

/// The error of a call that was made on behalf of this thread. Also raises the signal that this
/// thread would have got. A send that waited on a Unix socket raises none. Without an earlier
/// attempt (`tried`), the send may not have waited.
fn raised(wanted: &SocketCall, error: Unfinished, tried: bool) -> Unfinished {
    let signals = wanted.action.direction() == Direction::Write && wanted.flags & MSG_NOSIGNAL == 0;
    if error == Unfinished::Failed(Errno::PIPE)
        && signals
        && sockets::is_byte_stream(wanted.fd)
        && !(tried && sockets::is_unix(wanted.fd))
    {
        sockets::raise_sigpipe();
    }
    error
}
