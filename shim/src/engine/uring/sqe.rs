//! Translates requests into submission queue entries.

use crate::engine::{Action, Data, Direction, MAX_COUNT, Request, SocketCall, Transfer};
use io_uring::{opcode, squeue, types};
use std::ffi::c_int;

/// A descriptor, or the slot of the ring's file table that replaces it.
#[derive(Clone, Copy)]
pub enum File {
    Descriptor(c_int),
    Slot(u32),
}

/// `with_file!(file, |f| expression)` instantiates the expression for each kind of file that the
/// io-uring crate distinguishes.
macro_rules! with_file {
    ($file:expr, |$f:ident| $entry:expr) => {
        match $file {
            File::Descriptor(fd) => {
                let $f = types::Fd(fd);
                $entry
            }
            File::Slot(slot) => {
                let $f = types::Fixed(slot);
                $entry
            }
        }
    };
}

/// The entry of `request` on `file`; None if io_uring cannot do the request.
#[inline(always)]
pub fn of(request: &Request, file: File) -> Option<squeue::Entry> {
    Some(match *request {
        Request::Transfer(Transfer {
            direction,
            data,
            offset,
            flags,
            ..
        }) => {
            let offset = offset as u64;
            match (direction, data) {
                (Direction::Read, Data::Buffer(p, n)) => {
                    with_file!(file, |f| opcode::Read::new(f, p, n)
                        .offset(offset)
                        .rw_flags(flags)
                        .build())
                }
                (Direction::Write, Data::Buffer(p, n)) => {
                    with_file!(file, |f| opcode::Write::new(f, p, n)
                        .offset(offset)
                        .rw_flags(flags)
                        .build())
                }
                (Direction::Read, Data::Vector(v, n)) => {
                    with_file!(file, |f| opcode::Readv::new(f, v, n)
                        .offset(offset)
                        .rw_flags(flags)
                        .build())
                }
                (Direction::Write, Data::Vector(v, n)) => {
                    with_file!(file, |f| opcode::Writev::new(f, v, n)
                        .offset(offset)
                        .rw_flags(flags)
                        .build())
                }
            }
        }
        Request::Fsync { data_only, .. } => {
            let flags = if data_only {
                types::FsyncFlags::DATASYNC
            } else {
                types::FsyncFlags::empty()
            };
            with_file!(file, |f| opcode::Fsync::new(f).flags(flags).build())
        }
        // Forces a kernel worker thread: in the submitter's context the kernel would open a FIFO as
        // if with O_NONBLOCK.
        Request::Open {
            dir,
            path,
            flags,
            mode,
        } => {
            let entry = opcode::OpenAt::new(types::Fd(dir), path)
                .flags(flags)
                .mode(mode)
                .build();
            entry.flags(squeue::Flags::ASYNC)
        }
        Request::Poll { fd, events } => {
            opcode::PollAdd::new(types::Fd(fd), u32::from(events as u16)).build()
        }
        // The submitting thread itself checks whether a signal is pending.
        Request::AwaitSignal { fd } => {
            opcode::PollAdd::new(types::Fd(fd), libc::POLLIN as u32).build()
        }
        Request::Socket(call) => of_socket(&call),
        Request::Futex {
            address,
            value,
            mask,
            flags,
        } => {
            let word = std::ptr::with_exposed_provenance(address);
            opcode::FutexWait::new(word, u64::from(value), u64::from(mask), flags).build()
        }
        Request::Futexes { futexes, n } => {
            opcode::FutexWaitV::new(std::ptr::with_exposed_provenance(futexes), n).build()
        }
        // A kernel worker thread might close the number late, after the program has reused it with
        // dup2(2).
        Request::Close { .. }
        | Request::Plain(_)
        | Request::Run(_)
        | Request::Kernel(_)
        | Request::Wait { .. } => {
            return None;
        }
    })
}

/// The entry of a socket call. Sends have MSG_NOSIGNAL implied by io_uring.
fn of_socket(call: &SocketCall) -> squeue::Entry {
    let (fd, flags) = (types::Fd(call.fd), call.flags);
    match call.action {
        Action::Receive(p, n) => opcode::Recv::new(fd, p, length(n)).flags(flags).build(),
        // A blocking send(2) on a stream returns when everything is sent. io_uring needs
        // MSG_WAITALL for that.
        Action::Send(p, n) => opcode::Send::new(fd, p, length(n))
            .flags(flags | libc::MSG_WAITALL)
            .build(),
        Action::ReceiveMessage(message) => opcode::RecvMsg::new(fd, message)
            .flags(flags as u32)
            .build(),
        Action::SendMessage(message) => opcode::SendMsg::new(fd, message)
            .flags((flags | libc::MSG_WAITALL) as u32)
            .build(),
        Action::Accept(address, len) => opcode::Accept::new(fd, address, len).flags(flags).build(),
        Action::Connect(address, len) => opcode::Connect::new(fd, address, len).build(),
    }
}

/// The kernel truncates longer transfers as well.
fn length(n: usize) -> u32 {
    n.min(MAX_COUNT) as u32
}
