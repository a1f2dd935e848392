//! Messages in parts: the memory that a call on a socket names, and what is left of it after a
//! first part was transferred.

use crate::engine::{Action, MAX_COUNT, SocketCall};
use libc::{MSG_WAITALL, iovec, msghdr};
use std::ffi::c_void;
use sys::sockets;

/// A vector of one buffer.
pub fn part_of(buf: *mut c_void, n: usize) -> iovec {
    iovec {
        iov_base: buf,
        iov_len: n.min(MAX_COUNT),
    }
}

/// A message of `n` parts, without a name or control messages.
pub fn message_of(parts: *mut iovec, n: usize) -> msghdr {
    // SAFETY: zeroes are a valid msghdr: no name, no data, no control messages.
    let mut message: msghdr = unsafe { std::mem::zeroed() };
    (message.msg_iov, message.msg_iovlen) = (parts, n);
    message
}

/// Whether the kernel would continue `wanted` after `done` bytes.
pub fn wants_more(wanted: &SocketCall, done: usize) -> bool {
    match wanted.action {
        Action::Send(_, n) => done < n.min(MAX_COUNT),
        Action::SendMessage(message) => done < length(message),
        Action::Receive(_, n) => {
            wanted.flags & MSG_WAITALL != 0 && done < n && sockets::is_byte_stream(wanted.fd)
        }
        Action::ReceiveMessage(message) => {
            wanted.flags & MSG_WAITALL != 0
                && done < length(message)
                && sockets::is_byte_stream(wanted.fd)
        }
        Action::Accept(..) | Action::Connect(..) => false,
    }
}

/// The parts of a message that the kernel has read; called only after some of it was transferred.
fn parts<'a>(message: *const msghdr) -> &'a [iovec] {
    // SAFETY: the kernel has just read this message and its vector, and the C caller waits for this
    // call.
    unsafe {
        let message = &*message;
        if message.msg_iovlen == 0 {
            return &[];
        }
        std::slice::from_raw_parts(message.msg_iov, message.msg_iovlen)
    }
}

/// Bytes of a message, under the same condition as [`parts`].
pub fn length(message: *const msghdr) -> usize {
    parts(message).iter().map(|part| part.iov_len).sum()
}

/// Storage for the description of the rest of a message.
pub struct Storage {
    parts: Vec<iovec>,
    message: msghdr,
}

impl Storage {
    pub fn new() -> Self {
        Self {
            parts: Vec::new(),
            message: message_of(std::ptr::null_mut(), 0),
        }
    }
}

impl SocketCall {
    /// The call for the rest after the first `done` bytes; `storage` must outlive it. Names and
    /// control messages were transferred with the first part.
    pub fn after(&self, done: usize, storage: &mut Storage) -> Self {
        if done == 0 {
            return *self;
        }
        let mut rest = |message| {
            storage.parts.clear();
            let mut skip = done;
            for part in parts(message) {
                let skipped = skip.min(part.iov_len);
                skip -= skipped;
                if skipped < part.iov_len {
                    storage.parts.push(iovec {
                        // SAFETY: `skipped` is within the part.
                        iov_base: unsafe { part.iov_base.cast::<u8>().add(skipped) }.cast(),
                        iov_len: part.iov_len - skipped,
                    });
                }
            }
            storage.message = message_of(storage.parts.as_mut_ptr(), storage.parts.len());
            &raw mut storage.message
        };
        let action = match self.action {
            // SAFETY: `done` is within the buffer, because the kernel has transferred that many
            // bytes of it.
            Action::Receive(p, n) => Action::Receive(unsafe { p.add(done) }, n - done),
            // SAFETY: `done` is within the buffer, because the kernel has transferred that many
            // bytes of it.
            Action::Send(p, n) => Action::Send(unsafe { p.add(done) }, n - done),
            Action::ReceiveMessage(message) => Action::ReceiveMessage(rest(message)),
            Action::SendMessage(message) => Action::SendMessage(rest(message)),
            other => other,
        };
        Self { action, ..*self }
    }
}
