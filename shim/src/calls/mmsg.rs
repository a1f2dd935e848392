//! recvmmsg(2) and sendmmsg(2): transfer as many messages as possible without blocking, then wait
//! for the next.

use super::{Verdict, message, net};
use crate::calls::via::offload;
use crate::engine::{Direction, Request};
use crate::runtime::call::Call;
use crate::runtime::completion::Unfinished;
use crate::state::descriptors::Descriptor;
use libc::{MSG_DONTWAIT, MSG_WAITFORONE, mmsghdr, timespec};
use policy::Reason;
use std::ffi::{c_int, c_uint};
use sys::errno::Errno;
use sys::sockets;

/// recvmmsg(2). As in the kernel, its time limit is only checked after a message has arrived.
pub fn recvmmsg(
    call: &Call<'_>,
    fd: c_int,
    messages: *mut mmsghdr,
    n: c_uint,
    flags: c_int,
    limit: *mut timespec,
) -> Verdict {
    if flags & MSG_DONTWAIT != 0 {
        return Verdict::PassThrough(Reason::Nonblocking);
    }
    let descriptor = match net::waits(call, fd) {
        Ok(descriptor) => descriptor,
        Err(reason) => return Verdict::PassThrough(reason),
    };
    if flags & (libc::MSG_ERRQUEUE | libc::MSG_OOB) != 0 {
        // SAFETY: the C caller's memory, during its call.
        let there = || unsafe { sockets::recvmmsg(fd, messages, n, flags, limit) };
        return Verdict::from_result(
            offload::run(call, there)
                .unwrap_or_else(there)
                .map(|n| n as isize),
        );
    }
    let begin = sys::now();
    // SAFETY: the C caller's memory, during its call.
    let first = unsafe { sockets::recvmmsg(fd, messages, n, flags | MSG_DONTWAIT, limit) };
    let done = match first {
        Ok(done) => done,
        Err(Errno::AGAIN) => 0,
        Err(error) => return Verdict::from_error(error),
    };
    // SAFETY: the kernel has read the time limit, and wrote the remaining time if messages arrived.
    let left = unsafe { limit.as_ref() }.and_then(sys::nanos_of);
    let over = done > 0 && (flags & MSG_WAITFORONE != 0 || left == Some(0));
    if done == n as usize || over || net::is_nonblocking(fd) {
        call.inline();
        return Verdict::from_result(if done > 0 || n == 0 {
            Ok(done as isize)
        } else {
            first.map(|n| n as isize)
        });
    }
    let from = if done > 0 { sys::now() } else { begin };
    let end = left.map(|left| from.saturating_add(left));
    let duplicate = call.thread.duplicate_for_wait(fd);
    let rest = Rest {
        fd: duplicate.unwrap_or(fd),
        flags,
        end,
        descriptor,
    };
    let result = rest.receive(call, messages, n as usize, done);
    if let Some(duplicate) = duplicate {
        call.thread.close_duplicate(duplicate);
    }
    let deadline = net::deadline(fd, Direction::Read, descriptor);
    if let (Some(end), Ok(_)) = (end, result) {
        let left = sys::timespec_of(end.saturating_sub(sys::now()));
        if let Err(error) = sys::copy_out(limit, left) {
            return Verdict::from_error(error);
        }
    }
    net::verdict(deadline, result.map(|n| n as isize))
}

/// A recvmmsg(2) that must wait.
struct Rest {
    fd: c_int,
    flags: c_int,
    /// The time after which the next message to arrive is the last one.
    end: Option<u64>,
    descriptor: Descriptor,
}

impl Rest {
    /// Receives until there are `n` messages, of which `done` were received before. An error after
    /// the first message is reported by the next call.
    fn receive(
        &self,
        call: &Call<'_>,
        messages: *mut mmsghdr,
        n: usize,
        mut done: usize,
    ) -> Result<usize, Unfinished> {
        while done < n {
            let request = Request::Poll {
                fd: self.fd,
                events: libc::POLLIN,
            };
            // The socket's timeout applies to each message separately.
            let deadline = net::deadline(self.fd, Direction::Read, self.descriptor);
            match call.perform_until(&request, deadline) {
                Ok(ready) if done > 0 && ready & i32::from(libc::POLLERR) != 0 => break,
                Ok(_) => {}
                Err(_) if done > 0 => break,
                Err(Unfinished::TimedOut) => return Err(Errno::AGAIN.into()),
                Err(error) => return Err(error),
            }
            let mut left = self
                .end
                .map(|end| sys::timespec_of(end.saturating_sub(sys::now())));
            let limit = left
                .as_mut()
                .map_or(std::ptr::null_mut(), std::ptr::from_mut);
            // SAFETY: the C caller's memory, during its call; `n - done` messages are left after
            // `done`.
            let more = unsafe {
                let messages = messages.add(done);
                sockets::recvmmsg(
                    self.fd,
                    messages,
                    (n - done) as c_uint,
                    self.flags | MSG_DONTWAIT,
                    limit,
                )
            };
            match more {
                Ok(more) => {
                    done += more;
                    let over = left.is_some_and(|left| left.tv_sec == 0 && left.tv_nsec == 0);
                    if over || self.flags & MSG_WAITFORONE != 0 {
                        break;
                    }
                }
                Err(Errno::AGAIN) => {}
                Err(_) if done > 0 => break,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(done)
    }
}

pub fn sendmmsg(
    call: &Call<'_>,
    fd: c_int,
    messages: *mut mmsghdr,
    n: c_uint,
    flags: c_int,
) -> Verdict {
    if flags & MSG_DONTWAIT != 0 {
        return Verdict::PassThrough(Reason::Nonblocking);
    }
    if let Err(reason) = net::waits(call, fd) {
        return Verdict::PassThrough(reason);
    }
    let n = n.min(libc::UIO_MAXIOV as c_uint) as usize;
    let mut done = 0;
    let mut duplicate = None;
    let verdict = loop {
        let fd = duplicate.unwrap_or(fd);
        // SAFETY: the C caller's memory, during its call.
        let sent = unsafe {
            sockets::sendmmsg(
                fd,
                messages.wrapping_add(done),
                (n - done) as c_uint,
                flags | MSG_DONTWAIT,
            )
        };
        let waits_for = match sent {
            Ok(sent) => {
                done += sent;
                // SAFETY: the kernel has read and written this message.
                let last = (sent > 0).then(|| unsafe { &mut *messages.add(done - 1) });
                last.filter(|last| {
                    (last.msg_len as usize) < message::length(&raw const last.msg_hdr)
                })
            }
            Err(Errno::AGAIN) => None,
            Err(error) => break Verdict::Failed(error),
        };
        if (done == n && waits_for.is_none()) || net::is_nonblocking(fd) {
            break Verdict::from_result(sent.map(|n| n as isize));
        }
        if waits_for.is_none() && sent.is_ok() {
            // The last message was sent completely; try again to find out why the next one was not.
            continue;
        }
        if duplicate.is_none() {
            duplicate = call.thread.duplicate_for_wait(fd);
        }
        let fd = duplicate.unwrap_or(fd);
        // Send one message as sendmsg(2) would, completely.
        let (message, from) = match waits_for {
            Some(last) => {
                let from = last.msg_len as usize;
                (last, from)
            }
            // SAFETY: the kernel has read the vector up to this message.
            None => (unsafe { &mut *messages.add(done) }, 0),
        };
        let fresh = from == 0;
        match net::send_rest(call, fd, &raw const message.msg_hdr, flags, from) {
            Verdict::Done(sent) => {
                message.msg_len = sent as c_uint;
                done += usize::from(fresh);
                if (sent as usize) < message::length(&raw const message.msg_hdr) || done == n {
                    break Verdict::Done(sent);
                }
            }
            ended => break ended,
        }
    };
    if let Some(duplicate) = duplicate {
        call.thread.close_duplicate(duplicate);
    }
    // An error after the first message is reported by the next call.
    if done > 0 {
        Verdict::Done(done as isize)
    } else {
        verdict
    }
}
