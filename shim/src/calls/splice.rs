//! splice(2), tee(2), vmsplice(2), sendfile(2), copy_file_range(2): transfers of bytes inside the
//! kernel.
//!
//! A call that may wait for a peer is first made with SPLICE_F_NONBLOCK; then the fiber polls for
//! the end that is not ready, and retries. A destination socket ignores that flag, so it gets the
//! bytes in pieces, each of which fits once poll(2) has reported the socket as writable. What then
//! only waits for a disk goes through [`super::via::adaptive`].

use crate::calls::Verdict;
use crate::calls::via::adaptive;
use crate::calls::via::blocking_retry;
use crate::engine::{FdPin, MAX_COUNT, Request};
use crate::runtime::call::Call;
use crate::runtime::completion::Unfinished;
use crate::runtime::position::PositionGuard;
use crate::runtime::restart::{LastAttempt, Restart};
use crate::state::descriptors::{self, Descriptor};
use crate::state::holds::Hold;
use policy::{CallKind, Hint, Reason};
use std::ffi::{c_int, c_uint};
use sys::errno::{self, Errno};
use sys::sockets;

const NONBLOCK: c_uint = libc::SPLICE_F_NONBLOCK;

/// Maximum number of EAGAINs although poll reported both ends ready (another task won the race).
const MAX_SPURIOUS_READY: u32 = 16;

/// One side of a transfer.
#[derive(Clone, Copy)]
struct Endpoint<'a> {
    hold: &'a Hold,
    /// The event of poll(2) that reports this end as ready.
    event: i16,
    kind: EndpointKind,
    /// Whether operations on this end block, that is, O_NONBLOCK is not set.
    waits: bool,
    /// The descriptor is not open, or not in this direction: the kernel reports EBADF at once.
    is_refused: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum EndpointKind {
    /// A file, a disk, memory: there is no peer to wait for.
    Disk,
    Pipe,
    Socket,
    /// A socket with a timeout, which the kernel enforces, or a file that does not support polling.
    Other,
}

impl<'a> Endpoint<'a> {
    fn of(hold: &'a Hold, event: i16) -> Self {
        let fd = hold.fd();
        // Do not use the cached facts, which are only hints: this determines how to wait.
        let kind = match sys::fstat(fd) {
            Ok(stat) => match stat.st_mode & libc::S_IFMT {
                libc::S_IFIFO => EndpointKind::Pipe,
                libc::S_IFSOCK if !sockets::has_timeout(fd) => EndpointKind::Socket,
                libc::S_IFREG | libc::S_IFBLK | libc::S_IFDIR => EndpointKind::Disk,
                libc::S_IFCHR if libc::major(stat.st_rdev) == descriptors::MEMORY_DEVICES => {
                    EndpointKind::Disk
                }
                _ => EndpointKind::Other,
            },
            // The kernel rejects it at once.
            Err(_) => EndpointKind::Disk,
        };
        let wrong_access = if event == libc::POLLIN {
            libc::O_WRONLY
        } else {
            libc::O_RDONLY
        };
        let (nonblocking, is_refused) = sys::status_flags(fd).map_or((true, true), |flags| {
            let is_refused = flags & libc::O_ACCMODE == wrong_access || flags & libc::O_PATH != 0;
            (flags & libc::O_NONBLOCK != 0, is_refused)
        });
        Self {
            hold,
            event,
            kind,
            waits: kind != EndpointKind::Disk && !nonblocking,
            is_refused,
        }
    }

    fn source(hold: &'a Hold) -> Self {
        Self::of(hold, libc::POLLIN)
    }

    fn sink(hold: &'a Hold) -> Self {
        Self::of(hold, libc::POLLOUT)
    }

    /// poll(2) reports a Unix socket as full when a quarter of its buffer is used, but a writing
    /// call continues until the buffer is full.
    fn is_ready(self) -> bool {
        let fd = self.hold.fd();
        let has_room = || {
            self.kind == EndpointKind::Socket
                && self.event == libc::POLLOUT
                && sockets::has_unix_room(fd)
        };
        self.kind == EndpointKind::Disk || sys::poll_now(fd, self.event) || has_room()
    }

    /// Parks until this end is ready. Returns Err(EINTR) if handlers ended the wait.
    fn await_ready(self, call: &Call<'_>, last: &mut LastAttempt) -> Result<(), Errno> {
        let (fd, events) = (self.hold.fd(), self.event);
        let ready = call.perform(&Request::Poll { fd, events });
        if ready == Err(Unfinished::Interrupted)
            && !call.continue_after_attempt(Restart::IfHandlersAllow, last)
        {
            return Err(Errno::INTR);
        }
        Ok(())
    }
}

/// Repeats `attempt`, waiting for `source` or `sink` in between, until it no longer fails with
/// EAGAIN. Falls back to `plain` if polling gives no useful answer.
fn until_ready(
    call: &Call<'_>,
    source: Endpoint<'_>,
    sink: Endpoint<'_>,
    attempt: impl Fn() -> isize,
    plain: impl Fn() -> isize,
) -> isize {
    let errno = errno::get();
    let mut spurious = 0;
    let mut last = LastAttempt::new();
    loop {
        let result = attempt();
        // The kernel does not even check the pipe while a signal is pending.
        if result == -1 && errno::get() == libc::EINTR && call.attempts_again(&mut last) {
            continue;
        }
        if result != -1 || errno::get() != libc::EAGAIN {
            return result;
        }
        let not_ready = [sink, source].into_iter().find(|end| !end.is_ready());
        match not_ready {
            Some(end) if end.waits => {
                hold_files(call, [source.hold, sink.hold]);
                if let Err(Errno(number)) = end.await_ready(call, &mut last) {
                    errno::set(number);
                    return -1;
                }
            }
            Some(_) => return -1,
            None if !source.waits && !sink.waits => return -1,
            // The end is ready by now, unless polling never reports it.
            None => spurious += 1,
        }
        errno::set(errno);
        if spurious > MAX_SPURIOUS_READY {
            return wait_unbounded(call, [source.hold, sink.hold], plain);
        }
    }
}

/// Called before the transfer parks: keeps its files.
fn hold_files(call: &Call<'_>, holds: [&Hold; 2]) {
    holds.into_iter().for_each(|hold| call.hold(hold));
}

type Splice = unsafe extern "C" fn(c_int, *mut i64, c_int, *mut i64, usize, c_uint) -> isize;

#[expect(clippy::too_many_arguments, reason = "as many as the system call has")]
pub fn splice(
    call: &Call<'_>,
    real: Splice,
    from: c_int,
    from_at: *mut i64,
    to: c_int,
    to_at: *mut i64,
    n: usize,
    flags: c_uint,
) -> Verdict<isize> {
    if let Some(reason) = call.reason_to_pass() {
        return Verdict::PassThrough(reason);
    }
    let holds = [&Hold::new(from), &Hold::new(to)];
    let [from, to] = holds;
    // SAFETY: libc's own function, with its caller's arguments, while that call lasts.
    let plain = |n, flags| unsafe { real(from.fd(), from_at, to.fd(), to_at, n, flags) };
    let (mut source, mut sink) = (Endpoint::source(from), Endpoint::sink(to));
    if source.is_refused || sink.is_refused {
        return Verdict::PassThrough(Reason::Unusual);
    }
    if flags & NONBLOCK != 0 {
        // The flag only affects pipes.
        source.waits &= source.kind != EndpointKind::Pipe;
        sink.waits &= sink.kind != EndpointKind::Pipe;
    }
    Verdict::Done(match (source.kind, sink.kind) {
        (EndpointKind::Other, _) | (_, EndpointKind::Other) => {
            wait_unbounded(call, holds, || plain(n, flags))
        }
        (EndpointKind::Pipe, EndpointKind::Socket) if sink.waits => {
            let mut pieces = Pieces::new(n);
            pieces.send(call, source, sink, |n| plain(n, flags))
        }
        (EndpointKind::Pipe, EndpointKind::Pipe) => {
            let attempt = || plain(n, flags | NONBLOCK);
            let result = until_ready(call, source, sink, attempt, || plain(n, flags));
            call.inline();
            result
        }
        (source_is, _) => {
            let files = if source_is == EndpointKind::Disk {
                [from, to]
            } else {
                [to, from]
            };
            let _guards =
                PositionGuards::acquire(call, [(from, from_at.is_null()), (to, to_at.is_null())]);
            let attempt = || move_some(call, files, || plain(n, flags | NONBLOCK));
            until_ready(call, source, sink, attempt, || plain(n, flags))
        }
    })
}

pub fn tee(
    call: &Call<'_>,
    real: unsafe extern "C" fn(c_int, c_int, usize, c_uint) -> isize,
    from: c_int,
    to: c_int,
    n: usize,
    flags: c_uint,
) -> Verdict<isize> {
    if let Some(reason) = call.reason_to_pass() {
        return Verdict::PassThrough(reason);
    }
    let (from, to) = (&Hold::new(from), &Hold::new(to));
    let (mut source, mut sink) = (Endpoint::source(from), Endpoint::sink(to));
    if source.is_refused || sink.is_refused {
        return Verdict::PassThrough(Reason::Unusual);
    }
    source.waits &= flags & NONBLOCK == 0;
    sink.waits &= flags & NONBLOCK == 0;
    // SAFETY: libc's own function, with its caller's arguments, while that call lasts.
    let plain = |flags| unsafe { real(from.fd(), to.fd(), n, flags) };
    let result = until_ready(
        call,
        source,
        sink,
        || plain(flags | NONBLOCK),
        || plain(flags),
    );
    call.inline();
    Verdict::Done(result)
}

pub fn vmsplice(
    call: &Call<'_>,
    real: unsafe extern "C" fn(c_int, *const libc::iovec, usize, c_uint) -> isize,
    pipe: c_int,
    iov: *const libc::iovec,
    n: usize,
    flags: c_uint,
) -> Verdict<isize> {
    if let Some(reason) = call.reason_to_pass() {
        return Verdict::PassThrough(reason);
    }
    let reads =
        sys::status_flags(pipe).is_ok_and(|flags| flags & libc::O_ACCMODE == libc::O_RDONLY);
    let pipe = &Hold::new(pipe);
    let mut end = if reads {
        Endpoint::source(pipe)
    } else {
        Endpoint::sink(pipe)
    };
    // The call does not check O_NONBLOCK.
    end.waits = flags & NONBLOCK == 0;
    // SAFETY: libc's own function, with its caller's arguments, while that call lasts.
    let plain = |flags| unsafe { real(pipe.fd(), iov, n, flags) };
    let result = until_ready(call, end, end, || plain(flags | NONBLOCK), || plain(flags));
    call.inline();
    Verdict::Done(result)
}

pub fn sendfile(
    call: &Call<'_>,
    real: unsafe extern "C" fn(c_int, c_int, *mut i64, usize) -> isize,
    to: c_int,
    from: c_int,
    from_at: *mut i64,
    n: usize,
) -> Verdict<isize> {
    if let Some(reason) = call.reason_to_pass() {
        return Verdict::PassThrough(reason);
    }
    // The kernel truncates longer transfers, too.
    let n = n.min(MAX_COUNT);
    let mut pieces = Pieces::new(n);
    // SAFETY: libc's own function, with its caller's arguments, while that call lasts.
    if let Some(result) = pieces.send_now(call, (from, from_at.is_null()), to, |n| unsafe {
        real(to, from, from_at, n)
    }) {
        return Verdict::Done(result);
    }
    let holds = [&Hold::new(from), &Hold::new(to)];
    let [from, to] = holds;
    // SAFETY: libc's own function, with its caller's arguments, while that call lasts.
    let plain = |n| unsafe { real(to.fd(), from.fd(), from_at, n) };
    let (source, sink) = (Endpoint::source(from), Endpoint::sink(to));
    if source.is_refused || sink.is_refused {
        return Verdict::PassThrough(Reason::Unusual);
    }
    Verdict::Done(match sink.kind {
        _ if source.kind != EndpointKind::Disk && pieces.done == 0 => {
            wait_unbounded(call, holds, || plain(n))
        }
        EndpointKind::Socket if sink.waits => pieces.send(call, source, sink, plain),
        // What was sent is the result: the socket was changed in the meantime.
        _ if pieces.done > 0 => pieces.done as isize,
        // A sendfile to a pipe is a splice.
        EndpointKind::Pipe if sink.waits => {
            // SAFETY: the kernel checks the address of the offset, which is the C caller's; null
            // means the current position.
            let spliced = || match unsafe { sys::splice(from.fd(), from_at, to.fd(), n, NONBLOCK) }
            {
                Ok(n) => n as isize,
                Err(error) => {
                    errno::set(error.0);
                    -1
                }
            };
            let attempt = || move_some(call, holds, spliced);
            until_ready(call, source, sink, attempt, || plain(n))
        }
        EndpointKind::Other if sink.waits => wait_unbounded(call, holds, || plain(n)),
        _ => {
            let _guards = PositionGuards::acquire(call, [(from, from_at.is_null()), (to, true)]);
            move_some(call, holds, || plain(n))
        }
    })
}

#[expect(clippy::too_many_arguments, reason = "as many as the system call has")]
pub fn copy_file_range(
    call: &Call<'_>,
    real: Splice,
    from: c_int,
    from_at: *mut i64,
    to: c_int,
    to_at: *mut i64,
    n: usize,
    flags: c_uint,
) -> Verdict<isize> {
    let holds = [&Hold::new(from), &Hold::new(to)];
    let [from, to] = holds;
    let _guards = PositionGuards::acquire(call, [(from, from_at.is_null()), (to, to_at.is_null())]);
    // SAFETY: libc's own function, with its caller's arguments, while that call lasts.
    Verdict::Done(move_some(call, holds, || unsafe {
        real(from.fd(), from_at, to.fd(), to_at, n, flags)
    }))
}

/// Runs a transfer that at most waits for a disk; `files` starts with the file that may be slow.
/// Makes the call here even if libc should make it, because the position turns end when our caller
/// returns.
fn move_some(call: &Call<'_>, files: [&Hold; 2], function: impl Fn() -> isize) -> isize {
    // A hold whose number was closed has a duplicate, which is the shim's; that is no error.
    let is_refused = |hold: &Hold| !hold.has_moved() && descriptors::is_shim_owned(hold.fd());
    if files.into_iter().any(is_refused) {
        errno::set(libc::EBADF);
        return -1;
    }
    let verdict = adaptive::call_libc_on_two(call, CallKind::Move, files.map(Hold::fd), &function);
    verdict.settle(call).unwrap_or_else(function)
}

/// Runs a call that no poll covers on a pool thread, for as long as it takes.
fn wait_unbounded(call: &Call<'_>, files: [&Hold; 2], function: impl Fn() -> isize) -> isize {
    hold_files(call, files);
    let elsewhere = || blocking_retry::run(call, FdPin::UntilStarted(files[0].fd()), &function);
    match blocking_retry::wait_for(call, Restart::IfHandlersAllow, || None, elsewhere) {
        // EPIPE comes with a signal to the calling thread, so this thread must make the call.
        Ok(-1) if errno::get() == libc::EPIPE => function(),
        Ok(result) => result,
        Err(error) => {
            errno::set(error.0);
            -1
        }
    }
}

/// A transfer of `n` bytes to a socket, of which `done` are done. The plain call blocks until the
/// socket has taken all of them.
struct Pieces {
    n: usize,
    done: usize,
    /// errno before the transfer, which one that succeeds leaves alone.
    errno: c_int,
}

impl Pieces {
    fn new(n: usize) -> Self {
        Self {
            n,
            done: 0,
            errno: errno::get(),
        }
    }

    /// The size of the next piece if `socket` is one: no larger than a quarter of its buffer, so
    /// that it fits once poll(2) has reported the socket as writable.
    fn next(&self, socket: c_int) -> Option<usize> {
        let room = sockets::send_buffer(socket)?;
        Some((self.n - self.done).min((room / 4).max(SMALLEST_PIECE)))
    }

    /// The result of a call that ended with `result`: after some bytes, an error is reported by the
    /// next call.
    fn result(&self, result: isize) -> isize {
        if self.done > 0 {
            errno::set(self.errno);
            self.done as isize
        } else {
            result
        }
    }

    /// Sends the part of a file that `to` has room for now. Returns None if the fiber must wait for
    /// the socket or for the disk. Takes what is known of the socket as a hint: it is checked that
    /// `from` has a position and `to` is a socket, and whether the call may block as a whole
    /// matters only when it must. `from` comes with whether the transfer is at its position; if
    /// not, the kernel itself refuses a file without one.
    fn send_now(
        &mut self,
        call: &Call<'_>,
        (from, at_position): (c_int, bool),
        to: c_int,
        function: impl Fn(usize) -> isize,
    ) -> Option<isize> {
        let hint = Descriptor::known(to)?.hint();
        let has_position = || {
            !at_position && descriptors::probably_has_position(from)
                || sys::lseek(from, 0, libc::SEEK_CUR).is_ok()
        };
        if !hint.contains(Hint::STREAM) || !has_position() {
            return None;
        }
        for _ in 0..PIECES_IN_TURN {
            if !sys::poll_now(to, libc::POLLOUT) {
                return None;
            }
            let want = self.next(to)?;
            let result = adaptive::transfer_inline(call, [from, to], || function(want))?;
            if result < 0 && errno::get() == libc::EINTR {
                errno::set(self.errno);
                return None;
            }
            self.done += result.max(0) as usize;
            if self.done >= self.n || result < want as isize {
                call.inline();
                return Some(self.result(result));
            }
        }
        None
    }

    /// Sends the rest. Waits for the ends, which are known for certain.
    fn send(
        &mut self,
        call: &Call<'_>,
        source: Endpoint<'_>,
        sink: Endpoint<'_>,
        function: impl Fn(usize) -> isize,
    ) -> isize {
        // The wait for an end parks the fiber, and so does a piece that the pool sends.
        hold_files(call, [source.hold, sink.hold]);
        let mut last = LastAttempt::new();
        let mut in_turn = 0;
        loop {
            let not_ready = [source, sink]
                .into_iter()
                .find(|end| end.waits && !end.is_ready());
            // A peer that reads as fast as this fiber writes must not keep other fibers waiting.
            let others_run = in_turn == PIECES_IN_TURN;
            if let Some(end) = not_ready.or(others_run.then_some(sink)) {
                in_turn = 0;
                match end.await_ready(call, &mut last) {
                    Ok(()) => continue,
                    Err(Errno(number)) => {
                        errno::set(number);
                        return self.result(-1);
                    }
                }
            }
            let want = self.next(sink.hold.fd()).unwrap_or(SMALLEST_PIECE);
            let want = want.min(self.n - self.done);
            let result = move_some(call, [source.hold, sink.hold], || function(want));
            in_turn += 1;
            if result < 0 {
                let interrupted = errno::get() == libc::EINTR && self.done == 0;
                if interrupted && call.continue_after_attempt(Restart::IfHandlersAllow, &mut last) {
                    errno::set(self.errno);
                    continue;
                }
                return self.result(result);
            }
            self.done += result as usize;
            if self.done >= self.n || (result as usize) < want || !source.is_ready() {
                return self.done as isize;
            }
        }
    }
}

/// How many pieces a fiber sends before others run.
const PIECES_IN_TURN: u32 = 4;

const SMALLEST_PIECE: usize = 4096;

/// The turns at the positions that a transfer moves. They are taken in a fixed order, so that no
/// two transfers wait for each other.
struct PositionGuards<'a> {
    _held: [Option<PositionGuard<'a>>; 2],
}

impl<'a> PositionGuards<'a> {
    /// Takes the turns of `files`; each comes with whether the transfer is at its position.
    fn acquire(call: &Call<'_>, files: [(&'a Hold, bool); 2]) -> Self {
        let mut wanted = files.map(|(hold, at_position)| {
            let descriptor = at_position.then(|| Descriptor::get(hold.fd()))?;
            descriptor.is_seekable().then(|| (descriptor.inode(), hold))
        });
        wanted.sort_by_key(|wanted| wanted.map(|(inode, hold)| (inode, hold.fd())));
        if let [Some((a, from)), Some((b, to))] = wanted
            && a == b
            && sys::same_open_file(from.fd(), to.fd()).unwrap_or(true)
        {
            wanted[0] = None;
        }
        // The transfer may park, and so may the wait for the first turn.
        hold_files(call, files.map(|(hold, _)| hold));
        let take = |wanted: Option<(u32, &'a Hold)>| {
            let (inode, hold) = wanted?;
            let mut guard = PositionGuard::acquire(call, hold, inode);
            guard.ensure_held(call);
            Some(guard)
        };
        let [first, second] = wanted;
        Self {
            _held: [take(first), take(second)],
        }
    }
}
