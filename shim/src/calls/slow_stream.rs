//! read(2) and write(2) on streams that do not support RWF_NOWAIT: FIFOs, terminals, some devices.
//!
//! For one call, a FIFO is opened a second time, with O_NONBLOCK. On this private open file a
//! transfer can be attempted without blocking, and between attempts the fiber waits with poll(2).
//! So the wait occupies no thread, however long it lasts. For other streams the fiber waits with
//! poll(2), then a pool thread makes the plain call, which then rarely blocks, except for a write
//! larger than the available space.
//!
//! io_uring would do such a transfer in a kernel thread, which releases the file slightly after the
//! completion. If the FIFO were closed then, its next opener would still see it open.
//!
//! Only one fiber at a time waits per file and direction. Otherwise every fiber that poll(2) woke
//! would retry or take a pool thread, and only one would succeed.

use super::{Verdict, transfer};
use crate::engine::{self, Direction, Request, Transfer};
use crate::runtime::call::Call;
use crate::runtime::completion::Unfinished;
use crate::runtime::deadlines::NEVER;
use crate::runtime::position::PositionGuard;
use crate::state::descriptors::Descriptor;
use crate::state::holds::Hold;
use std::ffi::c_int;
use sys::PipeState;
use sys::errno::Errno;

/// One transfer that would block, or whose stream cannot tell whether it would.
pub fn transfer(call: &Call<'_>, transfer: &Transfer, descriptor: Descriptor) -> Verdict {
    let private = open_once_more(call, transfer);
    let duplicate = if private.is_none() {
        call.thread.duplicate_for_wait(transfer.fd)
    } else {
        private
    };
    let here = Transfer {
        fd: duplicate.unwrap_or(transfer.fd),
        ..*transfer
    };
    // The turn is for the program's own descriptor, because no one else uses the second open file.
    let hold = Hold::new(transfer.fd);
    call.hold(&hold);
    let result = match PositionGuard::acquire_stream(
        call,
        &hold,
        descriptor.inode(),
        transfer.direction,
        NEVER,
    ) {
        Err(error) => Err(error),
        Ok(_guard) if private.is_some() => in_steps(call, &here),
        Ok(_guard) => wait_then_call(call, &here),
    };
    if let Some(duplicate) = duplicate {
        call.thread.close_duplicate(duplicate);
    }
    Verdict::from_result(result)
}

/// If `transfer` is on a FIFO, opens it a second time in non-blocking mode. Returns None if that is
/// impossible for lack of permissions, descriptors, /proc, or a reader.
fn open_once_more(call: &Call<'_>, transfer: &Transfer) -> Option<c_int> {
    let is_fifo =
        sys::fstat(transfer.fd).is_ok_and(|stat| stat.st_mode & libc::S_IFMT == libc::S_IFIFO);
    if !is_fifo {
        return None;
    }
    let access = match transfer.direction {
        Direction::Read => libc::O_RDONLY,
        Direction::Write => libc::O_WRONLY,
    };
    // Use packet mode if the first open file is in packet mode.
    let packets = sys::status_flags(transfer.fd).ok()? & libc::O_DIRECT;
    let low = sys::reopen(
        transfer.fd,
        access | packets | libc::O_NONBLOCK | libc::O_CLOEXEC,
    )
    .ok()?;
    let private = call.thread.duplicate_for_wait(low);
    let _ = sys::close(low);
    private
}

/// Makes a transfer on a non-blocking open file behave as on a blocking one: a read waits for any
/// data, a write continues until everything is written.
fn in_steps(call: &Call<'_>, transfer: &Transfer) -> Result<isize, Unfinished> {
    let (fd, events) = (transfer.fd, engine::event(transfer.direction));
    let mut storage = Vec::new();
    let (mut done, mut parked) = (0, false);
    loop {
        let part = if done == 0 {
            *transfer
        } else {
            transfer.after(done, &mut storage)
        };
        let ready = match part.call(0) {
            Ok(n) => {
                done += n;
                if transfer.direction == Direction::Write && done < transfer.len() {
                    continue;
                }
                if !parked {
                    call.inline();
                }
                return Ok(done as isize);
            }
            Err(Errno::AGAIN) => {
                parked = true;
                call.perform(&Request::Poll { fd, events })
            }
            Err(error) => Err(error.into()),
        };
        // As in the kernel, an error after some bytes is reported by the next call.
        match ready {
            Err(_) if done > 0 => return Ok(done as isize),
            Err(error) if !error.is_not_done() => return Err(error),
            _ => {}
        }
    }
}

/// Waits until the stream is ready, then makes the plain call on a pool thread.
fn wait_then_call(call: &Call<'_>, transfer: &Transfer) -> Result<isize, Unfinished> {
    let (fd, events) = (transfer.fd, engine::event(transfer.direction));
    // If a FIFO was opened with O_NONBLOCK and has had no writer since, poll(2) does not report it
    // as readable.
    let tries_first = transfer.direction == Direction::Read
        && matches!(
            sys::pipe_state(fd),
            Some(PipeState::Data | PipeState::Ended)
        );
    if !tries_first
        && let Err(error @ Unfinished::Interrupted) = call.perform(&Request::Poll { fd, events })
    {
        return Err(error);
    }
    let completion = call.perform(&Request::Plain(*transfer));
    transfer::settle(call, transfer, completion).map(|n| n as isize)
}

/// Whether a plain transfer on this stream would block as the engine does. This is not so with
/// O_NONBLOCK, which may have been set without the shim noticing and which the engine ignores for
/// pipes and sockets, nor on a terminal whose reads have a timeout.
pub fn waits(transfer: &Transfer, descriptor: Descriptor) -> bool {
    let nonblocking =
        sys::status_flags(transfer.fd).is_ok_and(|flags| flags & libc::O_NONBLOCK != 0);
    let timed = descriptor.is_terminal()
        && sys::terminal(transfer.fd).is_some_and(|t| {
            use rustix::termios::{LocalModes, SpecialCodeIndex};
            let (min, time) = (
                t.special_codes[SpecialCodeIndex::VMIN],
                t.special_codes[SpecialCodeIndex::VTIME],
            );
            !t.local_modes.contains(LocalModes::ICANON) && (min == 0 || time > 0)
        });
    !nonblocking && !timed
}
