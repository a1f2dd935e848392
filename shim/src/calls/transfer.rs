//! One transfer of bytes, carried out as the policy decides: a plain call, a non-blocking attempt,
//! or a submitted operation. Also the steps that turn the outcome into the result of one system
//! call.

use super::{Verdict, cached_read, net, signal, slow_stream};
use crate::calls::via::offload;
use crate::engine::{Direction, FdPin, Lane, Request, Transfer};
use crate::record::trace::AttemptOutcome;
use crate::runtime::call::Call;
use crate::runtime::completion::{Completion, Unfinished};
use crate::runtime::position::{self, PositionGuard};
use crate::state::attached;
use crate::state::descriptors::{self, Descriptor};
use crate::state::holds::Hold;
use policy::{Decision, Hint, Load, Reason};
use sys::errno::Errno;

/// The largest write that a pipe takes whole or not at all.
const ATOMIC_ON_STREAMS: usize = libc::PIPE_BUF;

/// A read from the page cache stops at the end of its file or of a page, whose size is a multiple
/// of this.
const PAGE: i64 = 4096;

/// The most attempts to prefetch pages for a read at the position before the read may block.
const PREFETCHES: u32 = 4;

/// Carries out one transfer as the policy decides. The most frequent path, a submitted transfer at
/// an offset, is entirely in this function and uses little stack: with many parked fibers, each
/// cache line of stack is a cache miss.
#[inline(always)]
pub fn transfer(call: &Call<'_>, load: Load, transfer: Transfer) -> Verdict {
    let descriptor = if transfer.at_position() {
        Descriptor::get_at_position(transfer.fd)
    } else {
        Descriptor::get(transfer.fd)
    };
    let hint = descriptor.hint();
    let request = Request::Transfer(Transfer {
        direct: hint.contains(Hint::DIRECT),
        cold: hint.skips(Direction::Read),
        ..transfer
    });
    let Request::Transfer(transfer) = &request else {
        unreachable!("just made");
    };
    let decision = match transfer.direction {
        Direction::Read => policy::read(
            hint,
            load,
            transfer.buffer_len().unwrap_or(0),
            transfer.at_position(),
            call.thread.cached_reads().streak(),
        ),
        Direction::Write => {
            // These flags make this one write wait for the disk.
            let waits = transfer.flags & (libc::RWF_SYNC | libc::RWF_DSYNC) != 0;
            let hint = if waits { hint.with(Hint::SYNC) } else { hint };
            match policy::write(hint, load, transfer.at_position()) {
                // An engine that only waits for readiness makes the same attempt later.
                Decision::Submit
                    if hint.contains(Hint::STREAM)
                        && !hint.contains(Hint::REFUSES_NOWAIT_WRITE)
                        && !call.thread.does_sockets() =>
                {
                    Decision::Attempt
                }
                decision => decision,
            }
        }
    };
    call.note(|record| record.set_transfer(transfer, descriptor.examined(), hint, decision));
    if decision == Decision::Submit
        && hint.contains(Hint::SEEKABLE)
        && !transfer.at_position()
        && call.has_engine()
    {
        descriptor.submitted(transfer.direction);
        let completion = call.perform(&request);
        if let Ok(n) = completion
            && transfer.buffer_len().is_some_and(|len| len as i32 == n)
        {
            return Verdict::Done(n as isize);
        }
        return complete(call, transfer, descriptor, completion);
    }
    if decision == Decision::Inline {
        return match transfer.direction {
            Direction::Read => cached_read::carry_out(call, transfer, descriptor),
            Direction::Write => write_inline(call, transfer, descriptor),
        };
    }
    carry_out(call, transfer, descriptor, decision)
}

/// Handles the completion of a submitted transfer at an offset that is not simply the full length.
#[inline(never)]
fn complete(
    call: &Call<'_>,
    transfer: &Transfer,
    descriptor: Descriptor,
    completion: Completion,
) -> Verdict {
    let hold = &Hold::new(transfer.fd);
    finish(call, transfer, descriptor, hold, completion)
}

/// Like [`complete`]; the transfer may have a hold on its file.
fn finish(
    call: &Call<'_>,
    transfer: &Transfer,
    descriptor: Descriptor,
    hold: &Hold,
    completion: Completion,
) -> Verdict {
    let transfer = &with_current_fd(transfer, hold);
    Verdict::from_result(settle(call, transfer, completion).map(|n| {
        let changed = || !hold.has_begun() && !descriptor.is_still_open();
        if is_complete(transfer, descriptor, n) || changed() {
            n as isize
        } else {
            transfer_rest(call, transfer, descriptor, hold, &mut None, n)
        }
    }))
}

/// The transfer with the descriptor that refers to its file now.
#[inline(always)]
fn with_current_fd(transfer: &Transfer, hold: &Hold) -> Transfer {
    Transfer {
        fd: hold.fd(),
        ..*transfer
    }
}

/// All other paths of a transfer. An attempt that transfers everything needs neither a turn nor a
/// hold, because its fiber does not park.
#[inline(never)]
fn carry_out(
    call: &Call<'_>,
    transfer: &Transfer,
    descriptor: Descriptor,
    decision: Decision,
) -> Verdict {
    if decision != Decision::Attempt || !call.has_engine() {
        return carry_out_held(call, transfer, descriptor, decision, None);
    }
    let locks_position = transfer.at_position() && descriptor.is_seekable();
    let step = if locks_position {
        position::SingleStep::begin(call, descriptor)
    } else {
        Some(position::SingleStep::elsewhere())
    };
    let Some(step) = step else {
        return carry_out_held(call, transfer, descriptor, decision, None);
    };
    let tried = transfer.call(libc::RWF_NOWAIT);
    drop(step);
    match tried {
        Ok(n) if is_complete(transfer, descriptor, n) => {
            call.note(|record| record.set_outcome(AttemptOutcome::Hit));
            note_read(call, transfer, descriptor, true);
            let recorded_as = policy::recorded_direction(descriptor.hint(), transfer.direction);
            // Operations at a shared position are never batched.
            descriptor.with_nowait_known().hit(recorded_as, || {
                if locks_position { 0 } else { call.load().batch }
            });
            call.inline();
            Verdict::Done(n as isize)
        }
        _ => carry_out_held(call, transfer, descriptor, decision, Some(tried)),
    }
}

/// Notes whether an attempt found all its data in the page cache, if it was a read from a file.
#[inline(always)]
fn note_read(call: &Call<'_>, transfer: &Transfer, descriptor: Descriptor, is_cached: bool) {
    if transfer.direction == Direction::Read && descriptor.is_seekable() {
        let reads = call.thread.cached_reads();
        if is_cached {
            reads.hit();
        } else {
            reads.missed();
        }
    }
}

/// Like [`carry_out`], with a turn and a hold, because the fiber may park. `tried` is the result of
/// a non-blocking attempt, if one was made.
#[inline(never)]
fn carry_out_held(
    call: &Call<'_>,
    transfer: &Transfer,
    descriptor: Descriptor,
    decision: Decision,
    tried: Option<Result<usize, Errno>>,
) -> Verdict {
    let decision = match decision {
        Decision::Attempt | Decision::Inline | Decision::Submit if !call.has_engine() => {
            Decision::PassThrough(Reason::NoEngine)
        }
        decision => decision,
    };
    let descriptor = descriptor.examined();
    let hold = &Hold::new(transfer.fd);
    let mut guard = (transfer.at_position() && descriptor.is_seekable())
        .then(|| PositionGuard::acquire(call, hold, descriptor.inode()));
    let transfer = &with_current_fd(transfer, hold);
    match decision {
        // The turn ends when we return, so libc's call, made afterwards, would be outside it.
        Decision::PassThrough(_) if matches!(guard, Some(PositionGuard::Held { .. })) => {
            Verdict::from_result(plain(call, transfer))
        }
        Decision::PassThrough(Reason::Unusual)
            if transfer.at_position() && descriptor.hint().contains(Hint::HAS_TIMEOUT) =>
        {
            net::transfer(call, transfer)
        }
        Decision::PassThrough(reason) => Verdict::PassThrough(reason),
        Decision::Attempt => {
            let tried = tried.unwrap_or_else(|| transfer.call(libc::RWF_NOWAIT));
            attempted(call, transfer, descriptor, hold, &mut guard, tried)
        }
        Decision::Inline => write_timed(call, transfer, descriptor),
        Decision::Submit => {
            descriptor.submitted(policy::recorded_direction(
                descriptor.hint(),
                transfer.direction,
            ));
            submit(call, transfer, descriptor, hold, &mut guard)
        }
    }
}

/// The plain call, which may block.
fn plain(call: &Call<'_>, transfer: &Transfer) -> Result<isize, Errno> {
    let result = transfer.call(0);
    call.inline();
    result.map(|n| n as isize)
}

/// A buffered write: the plain call. If possible, it needs neither a hold nor a turn.
#[inline(never)]
fn write_inline(call: &Call<'_>, transfer: &Transfer, descriptor: Descriptor) -> Verdict {
    let step = if !call.has_engine() {
        None
    } else if !transfer.at_position() {
        Some(position::SingleStep::elsewhere())
    } else if call.thread.suspicion().expects_quick_write() || attached::is_single() {
        // Another thread that takes a turn waits for this write. It waits long only if the kernel
        // begins to throttle writes now; from the second write after it on, they take turns, too.
        position::SingleStep::begin(call, descriptor)
    } else {
        None
    };
    match step {
        Some(_step) => write_timed(call, transfer, descriptor),
        None => carry_out_held(call, transfer, descriptor, Decision::Inline, None),
    }
}

/// The plain call, timed. While calls are quick, only its end is.
#[inline(always)]
fn write_timed(call: &Call<'_>, transfer: &Transfer, descriptor: Descriptor) -> Verdict {
    let suspicion = call.thread.suspicion();
    let result = if suspicion.is_quiet() {
        let result = transfer.call(0);
        suspicion.end_quiet_call(policy::SLOW_WRITE_NS);
        result
    } else {
        let timing = suspicion.start();
        let result = transfer.call(0);
        let is_slow = timing.was_slow(policy::SLOW_WRITE_NS);
        suspicion.watched_write(is_slow);
        if is_slow {
            call.note(|record| record.set_outcome(AttemptOutcome::Miss));
            descriptor.examined().missed(Direction::Write, 0);
            call.inline();
            return Verdict::from_result(result.map(|n| n as isize));
        }
        result
    };
    call.note(|record| record.set_outcome(AttemptOutcome::Hit));
    descriptor.hit(Direction::Write, || 0);
    call.inline();
    Verdict::from_result(result.map(|n| n as isize))
}

/// Continues after a non-blocking attempt: submits on a miss.
fn attempted<'a>(
    call: &Call<'_>,
    transfer: &Transfer,
    descriptor: Descriptor,
    hold: &'a Hold,
    guard: &mut Option<PositionGuard<'a>>,
    tried: Result<usize, Errno>,
) -> Verdict {
    let recorded_as = policy::recorded_direction(descriptor.hint(), transfer.direction);
    // Operations at a shared position are never batched.
    let batch = || {
        if guard.is_some() {
            0
        } else {
            call.load().batch
        }
    };
    let result = match tried {
        Ok(n) => {
            call.note(|record| record.set_outcome(AttemptOutcome::Hit));
            descriptor.with_nowait_known().hit(recorded_as, batch);
            if !is_complete(transfer, descriptor, n) {
                note_read(call, transfer, descriptor, false);
                return Verdict::Done(transfer_rest(call, transfer, descriptor, hold, guard, n));
            }
            Ok(n as isize)
        }
        Err(Errno::AGAIN) => {
            call.note(|record| record.set_outcome(AttemptOutcome::Miss));
            note_read(call, transfer, descriptor, false);
            descriptor.with_nowait_known().missed(recorded_as, batch());
            let missed = Transfer {
                cold: true,
                ..*transfer
            };
            return submit(call, &missed, descriptor, hold, guard);
        }
        Err(Errno::NOTSUP) => {
            call.note(|record| record.set_outcome(AttemptOutcome::Refused));
            let descriptor = descriptor.with_nowait_refused(transfer.direction);
            return submit(call, transfer, descriptor, hold, guard);
        }
        Err(error) => Err(error),
    };
    call.inline();
    Verdict::from_result(result)
}

/// Queues the transfer and parks. If the result is shorter than the plain call's would be,
/// transfers the rest.
fn submit<'a>(
    call: &Call<'_>,
    transfer: &Transfer,
    descriptor: Descriptor,
    hold: &'a Hold,
    guard: &mut Option<PositionGuard<'a>>,
) -> Verdict {
    if !descriptor.is_seekable() && !slow_stream::waits(transfer, descriptor) {
        return Verdict::PassThrough(Reason::Nonblocking);
    }
    if transfer.direction == Direction::Read && descriptor.is_signalfd() {
        return signal::read(call, transfer);
    }
    let hint = descriptor.hint();
    if hint.contains(Hint::STREAM.with(Hint::refuses_nowait(transfer.direction))) {
        return slow_stream::transfer(call, transfer, descriptor);
    }
    let Some(guard) = guard else {
        let may_be_cut = || transfer.buffer_len().is_none_or(|n| n > ATOMIC_ON_STREAMS);
        if transfer.direction == Direction::Write && transfer.at_position() && may_be_cut() {
            call.hold(hold);
        }
        return finish(
            call,
            transfer,
            descriptor,
            hold,
            call.perform(&(*transfer).into()),
        );
    };
    guard.ensure_held(call);
    let transfer = &with_current_fd(transfer, hold);
    Verdict::from_result(match transfer.direction {
        // Only the kernel knows where the appended record ends, and moves the position there.
        Direction::Write if appends(transfer) => {
            on_pool(call, transfer, FdPin::until_done(transfer.fd), Lane::Disk)
        }
        // If content is generated while it is read (/proc), it depends on how it is read.
        Direction::Read
            if hint.contains(Hint::REFUSES_NOWAIT_READ) && !hint.contains(Hint::DIRECT) =>
        {
            on_pool(
                call,
                transfer,
                FdPin::UntilStarted(transfer.fd),
                Lane::Peers,
            )
        }
        Direction::Read if !hint.contains(Hint::DIRECT) => {
            read_at_position(call, transfer, descriptor, hold)
        }
        _ => move_position(call, transfer, descriptor, hold),
    })
}

/// Whether a write appends to its file.
fn appends(transfer: &Transfer) -> bool {
    transfer.flags & libc::RWF_APPEND != 0
        || sys::status_flags(transfer.fd).is_ok_and(|flags| flags & libc::O_APPEND != 0)
}

/// The plain call at the position, on a pool thread. The kernel moves the position itself, under
/// its own lock.
fn on_pool(
    call: &Call<'_>,
    transfer: &Transfer,
    pin: FdPin,
    lane: Lane,
) -> Result<isize, Unfinished> {
    match offload::run_on(call, pin, lane, || transfer.call(0)) {
        // Past RLIMIT_FSIZE the call also raises a signal in the calling thread, so this thread
        // must make it.
        None | Some(Err(Errno::FBIG)) => Ok(plain(call, transfer)?),
        Some(result) => Ok(result? as isize),
    }
}

/// Whether the plain call would also have stopped after `n` bytes.
#[inline]
fn is_complete(transfer: &Transfer, descriptor: Descriptor, n: usize) -> bool {
    let hint = descriptor.hint();
    let may_be_short = match transfer.direction {
        // A read from a stream returns what is available; a direct read is short only at the end of
        // its file.
        Direction::Read => hint.intersects(Hint::STREAM.with(Hint::DIRECT)),
        // A write to a file is short only at the end of its disk or its size limit; the engine has
        // already retried.
        Direction::Write => hint.contains(Hint::SEEKABLE),
    };
    n == 0 || may_be_short || n >= transfer.len() || ends_file(transfer, n)
}

/// Whether a short transfer is a read that reached the end of its file, because it ended inside a
/// page. False if the file may continue.
#[inline(never)]
fn ends_file(transfer: &Transfer, n: usize) -> bool {
    if transfer.direction == Direction::Write {
        return false;
    }
    let end = if transfer.at_position() {
        match sys::lseek(transfer.fd, 0, libc::SEEK_CUR) {
            Ok(here) => here,
            // The hint was out of date: it is a stream, which returns what is available.
            Err(_) => return true,
        }
    } else {
        transfer.offset + n as i64
    };
    end % PAGE != 0
}

/// A transfer at the position: reads the position, transfers at that offset, and moves the
/// position. io_uring takes no lock on the position, and does not even move it if the operation
/// completes later.
fn move_position(
    call: &Call<'_>,
    transfer: &Transfer,
    descriptor: Descriptor,
    hold: &Hold,
) -> Result<isize, Unfinished> {
    let here = sys::lseek(hold.fd(), 0, libc::SEEK_CUR)?;
    let at = Transfer {
        offset: here,
        ..*transfer
    };
    let mut done = perform(call, &at, hold)?;
    if !is_complete(&at, descriptor, done) {
        done = transfer_rest(call, &at, descriptor, hold, &mut None, done) as usize;
    }
    if done > 0 {
        sys::lseek(hold.fd(), here + done as i64, libc::SEEK_SET)?;
    }
    Ok(done as isize)
}

/// A buffered read at the position that missed: brings the pages in, then makes the read call,
/// which takes the kernel's lock on the position and finds the pages in the cache. The read stays
/// atomic even against threads and processes that take no turn.
fn read_at_position(
    call: &Call<'_>,
    transfer: &Transfer,
    descriptor: Descriptor,
    hold: &Hold,
) -> Result<isize, Unfinished> {
    for _ in 0..PREFETCHES {
        let here = match sys::lseek(hold.fd(), 0, libc::SEEK_CUR) {
            Ok(here) => here,
            // The descriptor was changed to a stream without the shim noticing.
            Err(_) => break,
        };
        let at = Transfer {
            offset: here,
            ..*transfer
        };
        perform(call, &at, hold)?;
        match with_current_fd(transfer, hold).call(libc::RWF_NOWAIT) {
            Ok(n) if is_complete(transfer, descriptor, n) => return Ok(n as isize),
            // Our caller holds the turn until the whole transfer is done.
            Ok(n) => {
                return Ok(transfer_rest(
                    call, transfer, descriptor, hold, &mut None, n,
                ));
            }
            Err(Errno::AGAIN) => {}
            Err(Errno::NOTSUP) => break,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(plain(call, &with_current_fd(transfer, hold))?)
}

/// Transfers the rest after `done` bytes, until everything is done, the file ends or an error
/// occurs. As in the kernel, an error after some bytes is reported by the next call. Returns the
/// total number of bytes.
fn transfer_rest<'a>(
    call: &Call<'_>,
    transfer: &Transfer,
    descriptor: Descriptor,
    hold: &'a Hold,
    guard: &mut Option<PositionGuard<'a>>,
    mut done: usize,
) -> isize {
    // Joining the parts is right for a file and wrong for a stream, so do not rely on a cached hint
    // here.
    let is_file = descriptors::is_file(hold.fd());
    if transfer.direction == Direction::Read && !is_file {
        return done as isize;
    }
    call.hold(hold);
    if let Some(guard) = guard {
        guard.ensure_held(call);
    }
    let mut storage = Vec::new();
    while done < transfer.len() {
        if !is_file && call.thread.signals().has_deferred() {
            // Interrupted after a part: as in the kernel, the call returns that part.
            break;
        }
        let part = with_current_fd(transfer, hold).after(done, &mut storage);
        // A short read is usually one at the end of the file; there is no need to park to find that
        // out.
        let tried = if part.direction == Direction::Read {
            part.call(libc::RWF_NOWAIT)
        } else {
            Err(Errno::AGAIN)
        };
        let result = match tried {
            Err(Errno::AGAIN) if part.at_position() && is_file => {
                move_position(call, &part, descriptor, hold).map(|n| n as usize)
            }
            Err(Errno::AGAIN) => perform(call, &part, hold),
            // Files that do not support the flag are read whole or generated while they are read
            // (/proc), so reading more would not continue the first part.
            other => other.map_err(Unfinished::from),
        };
        match result {
            Ok(0) | Err(_) => break,
            Ok(n) => done += n,
        }
    }
    done as isize
}

/// Performs one transfer with the engine.
#[inline(never)]
fn perform(call: &Call<'_>, transfer: &Transfer, hold: &Hold) -> Result<usize, Unfinished> {
    let completion = call.perform(&with_current_fd(transfer, hold).into());
    settle(call, &with_current_fd(transfer, hold), completion)
}

/// The result of a transfer. If the engine did not do the transfer, makes the plain call.
pub fn settle(
    call: &Call<'_>,
    transfer: &Transfer,
    completion: Completion,
) -> Result<usize, Unfinished> {
    let error = match completion {
        Ok(n) => return Ok(n as usize),
        Err(error) => error,
    };
    // Past RLIMIT_FSIZE the plain call also raises SIGXFSZ. A kernel thread cannot raise it, but an
    // operation that failed during submission already has.
    let lacks_signal =
        error == Unfinished::Failed(Errno::FBIG) && !call.thread.signals().take_exceeded();
    if !error.is_not_done() && !lacks_signal {
        return Err(error);
    }
    call.thread.submit_queued();
    Ok(transfer.call(0)?)
}
