//! read(2) and write(2) on streams that know no RWF_NOWAIT: FIFOs, terminals, some devices.
//!
//! A FIFO is opened once more, with O_NONBLOCK, for the time of one call: on that open file, which
//! nobody else has, a transfer can be tried, and the fiber waits by poll(2) in between. So no
//! thread is taken, however long the peer keeps it waiting. The rest is waited for by poll(2), then
//! a thread of the pool makes the plain call, where it hardly ever waits; a write that is larger
//! than the room does.
//!
//! io_uring would do such a transfer in a kernel thread, which lets go of the file a little after
//! the completion: a FIFO that is closed then would still look open to its next opener.
//!
//! One fiber at a time for each file and direction: all that poll(2) woke would try, or get a
//! thread each, all but one of them in vain.

use super::{Outcome, transfer};
use crate::call::Call;
use crate::deadlines::NEVER;
use crate::engine::{Request, Transfer, Way};
use crate::errno::Errno;
use crate::fds::Descriptor;
use crate::holds::Hold;
use crate::position::Turn;
use crate::sys::{self, PipeState};
use std::ffi::c_int;

/// One transfer, which would have to wait or cannot tell.
pub fn transfer(call: &Call<'_>, transfer: &Transfer, descriptor: Descriptor) -> Outcome {
    let private = open_once_more(call, transfer);
    let kept = if private.is_none() {
        call.thread.keep(transfer.fd)
    } else {
        private
    };
    let here = Transfer {
        fd: kept.unwrap_or(transfer.fd),
        ..*transfer
    };
    // By the program's own descriptor: the second open file is nobody else's.
    let hold = Hold::new(transfer.fd);
    hold.begin(call);
    let result = match Turn::of_stream(call, &hold, descriptor.inode(), transfer.way, NEVER) {
        Err(error) => Err(error),
        Ok(_turn) if private.is_some() => in_steps(call, &here),
        Ok(_turn) => wait_then_call(call, &here),
    };
    if let Some(kept) = kept {
        call.thread.let_go(kept);
    }
    Outcome::Done(result)
}

/// Where `transfer` is on a FIFO: a descriptor of a second open file of it, which does not wait.
/// None where there is none to be had: for lack of rights, of descriptors, of /proc, or of a
/// reader.
fn open_once_more(call: &Call<'_>, transfer: &Transfer) -> Option<c_int> {
    let is_fifo =
        sys::fstat(transfer.fd).is_ok_and(|stat| stat.st_mode & libc::S_IFMT == libc::S_IFIFO);
    if !is_fifo {
        return None;
    }
    let access = match transfer.way {
        Way::Read => libc::O_RDONLY,
        Way::Write => libc::O_WRONLY,
    };
    // In the mode of packets, if that is the mode of the first.
    let packets = sys::status_flags(transfer.fd).ok()? & libc::O_DIRECT;
    let low = sys::reopen(
        transfer.fd,
        access | packets | libc::O_NONBLOCK | libc::O_CLOEXEC,
    )
    .ok()?;
    let private = call.thread.keep(low);
    let _ = sys::close(low);
    private
}

/// A transfer on an open file that does not wait, made as on one that does: a read until there is
/// anything, a write until all is written.
fn in_steps(call: &Call<'_>, transfer: &Transfer) -> Result<isize, Errno> {
    let (fd, events) = (transfer.fd, transfer.way.event());
    let mut storage = Vec::new();
    let (mut done, mut parked) = (0, false);
    loop {
        let part = if done == 0 {
            *transfer
        } else {
            transfer.after(done, &mut storage)
        };
        let error = match part.call(0) {
            Ok(n) => {
                done += n;
                if transfer.way == Way::Write && done < transfer.len() {
                    continue;
                }
                if !parked {
                    call.inline();
                }
                return Ok(done as isize);
            }
            Err(Errno::AGAIN) => {
                parked = true;
                Errno::of(call.perform(&Request::Poll { fd, events }))
            }
            Err(error) => error,
        };
        // As in the kernel, an error after some bytes is the next call's.
        match error {
            Errno::RESTART if done == 0 => return Err(Errno::RESTART),
            Errno(1..) if done > 0 => return Ok(done as isize),
            Errno(1..) if !crate::engine::not_done(error) => return Err(error),
            _ => {}
        }
    }
}

/// Waits until the stream is ready, then has a thread of the pool make the plain call.
fn wait_then_call(call: &Call<'_>, transfer: &Transfer) -> Result<isize, Errno> {
    let (fd, events) = (transfer.fd, transfer.way.event());
    // To poll(2) a FIFO without a writer is not readable, if it was opened with O_NONBLOCK and has
    // had none since.
    let at_once = transfer.way == Way::Read
        && matches!(
            sys::pipe_state(fd),
            Some(PipeState::Data | PipeState::Ended)
        );
    if !at_once && Errno::of(call.perform(&Request::Poll { fd, events })) == Errno::RESTART {
        return Err(Errno::RESTART);
    }
    let result = call.perform(&Request::Plain(*transfer));
    transfer::settle(call, transfer, result).map(|n| n as isize)
}

/// Whether a plain transfer on this stream would wait as the engine waits: not with O_NONBLOCK,
/// which may have been set behind our back and which the engine does not heed for pipes and
/// sockets, nor on a terminal that times its reads.
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
