//! open(2), openat(2), creat(2).
//!
//! An open is attempted inline with RESOLVE_CACHED, which fails if the path lookup would block.
//! While the disk is quick, it is a plain call that is timed ([`policy::Opens`]).
//! Otherwise it is submitted. Batching opens in io_uring would not be faster.
//!
//! Opening a FIFO blocks until the other end is opened, which may itself need the threads that
//! opens use. So every open is first made with O_NONBLOCK, which is cleared afterwards, and the
//! outcome tells whether there is a peer to wait for ([`Answer`]). This is skipped if the path was
//! recently that of a regular file ([`recent_paths`]).

use super::Verdict;
use crate::calls::fifo;
use crate::calls::via::blocking_retry;
use crate::engine::{FdPin, KernelCall, Request};
use crate::record::trace::AttemptOutcome;
use crate::runtime::call::Call;
use crate::runtime::completion::Unfinished;
use crate::runtime::release;
use crate::runtime::restart::Restart;
use crate::state::descriptors::{self, Descriptor};
use crate::state::recent_paths;
use policy::{Decision, Opens, Reason};
use std::ffi::{c_char, c_int};
use sys::Sysno;
use sys::errno::Errno;
use sys::stopwatch::Stopwatch;

/// Flags that openat2(2) accepts. It rejects flags that openat(2) ignores.
const KNOWN: c_int = libc::O_ACCMODE
    | libc::O_CREAT
    | libc::O_EXCL
    | libc::O_NOCTTY
    | libc::O_TRUNC
    | libc::O_APPEND
    | libc::O_NONBLOCK
    | libc::O_DSYNC
    | libc::O_ASYNC
    | libc::O_DIRECT
    | libc::O_LARGEFILE
    | O_LARGEFILE
    | libc::O_DIRECTORY
    | libc::O_NOFOLLOW
    | libc::O_NOATIME
    | libc::O_CLOEXEC
    | libc::O_SYNC;

/// The kernel's O_LARGEFILE; glibc's is 0 on 64-bit machines, and programs pass either.
const O_LARGEFILE: c_int = 0o100_000;

/// Lookups with these flags may change the file system; RESOLVE_CACHED rejects them at once.
const CHANGES: c_int = libc::O_CREAT | libc::O_TRUNC;

/// With these flags the file is new, and so it is a regular file.
const NEW: c_int = libc::O_CREAT | libc::O_EXCL;

pub fn open(call: &Call<'_>, path: *const c_char, flags: c_int, mode: libc::mode_t) -> Verdict {
    openat(call, libc::AT_FDCWD, path, flags, mode)
}

pub fn creat(call: &Call<'_>, path: *const c_char, mode: libc::mode_t) -> Verdict {
    openat(
        call,
        libc::AT_FDCWD,
        path,
        libc::O_CREAT | libc::O_WRONLY | libc::O_TRUNC,
        mode,
    )
}

/// `__open_2` and its variants: libc ends the program if O_CREAT is set, because there is no mode.
pub fn open_2(call: &Call<'_>, path: *const c_char, flags: c_int) -> Verdict {
    openat_2(call, libc::AT_FDCWD, path, flags)
}

pub fn openat_2(call: &Call<'_>, dir: c_int, path: *const c_char, flags: c_int) -> Verdict {
    if needs_mode(flags) {
        Verdict::PassThrough(Reason::Unusual)
    } else {
        openat(call, dir, path, flags, 0)
    }
}

fn needs_mode(flags: c_int) -> bool {
    flags & libc::O_CREAT != 0 || flags & libc::O_TMPFILE == libc::O_TMPFILE
}

pub fn openat(
    call: &Call<'_>,
    dir: c_int,
    path: *const c_char,
    flags: c_int,
    mode: libc::mode_t,
) -> Verdict {
    if flags & libc::O_PATH != 0 {
        return Verdict::PassThrough(Reason::Quick);
    }
    if !call.has_engine() {
        return Verdict::PassThrough(Reason::NoEngine);
    }
    let opens = call.thread.opens().speed();
    let decision = opens
        .get()
        .decide(call.load().contention, !can_be_tried(flags));
    let open = Open {
        dir,
        path,
        flags,
        mode: if needs_mode(flags) { mode } else { 0 },
        never_waits_for_peer: never_waits_for_peer(flags),
        was_a_file: decision.starts_inline() && was_a_file(call, dir, path, flags),
        changes: recent_paths::changes(),
    };
    call.note(|record| record.set_decision(decision));
    match decision {
        Decision::PassThrough(reason) => Verdict::PassThrough(reason),
        Decision::Submit => open.submit(call),
        Decision::Inline => open.make(call),
        Decision::Attempt => {
            if let Some(outcome) = open.attempt(call) {
                return outcome;
            }
            match opens.get().untried() {
                Decision::Inline => open.make(call),
                _ => open.submit(call),
            }
        }
    }
}

/// O_TMPFILE's bits do not collide with other flags, but RESOLVE_CACHED rejects it.
fn can_be_tried(flags: c_int) -> bool {
    flags & !KNOWN == 0 && flags & CHANGES == 0
}

/// Whether these flags rule out a FIFO, or an open that blocks on one.
fn never_waits_for_peer(flags: c_int) -> bool {
    [libc::O_NONBLOCK, libc::O_DIRECTORY, NEW]
        .into_iter()
        .any(|bits| flags & bits == bits)
}

/// Whether the path was recently that of a regular file.
fn was_a_file(call: &Call<'_>, dir: c_int, path: *const c_char, flags: c_int) -> bool {
    // SAFETY: the kernel has read the path recently. A program that unmaps a path within a
    // millisecond of opening it, and then opens it again, would not work anyway.
    dir == libc::AT_FDCWD
        && unsafe {
            call.thread
                .opens()
                .recent_paths()
                .is_file(path, flags, Stopwatch::start())
        }
}

/// One call of the open family.
struct Open {
    dir: c_int,
    path: *const c_char,
    flags: c_int,
    mode: libc::mode_t,
    /// The open never waits for another end, whatever the path refers to.
    never_waits_for_peer: bool,
    /// The path was recently that of a regular file.
    was_a_file: bool,
    /// The count of name changes before the path was looked up.
    changes: u32,
}

impl Open {
    /// The flags with which the open does not wait for a peer.
    fn nonblocking_flags(&self) -> c_int {
        if self.never_waits_for_peer || self.was_a_file {
            self.flags
        } else {
            self.flags | libc::O_NONBLOCK
        }
    }

    /// Opens a file that the kernel can find in its caches. Returns None if it cannot tell without
    /// blocking.
    fn attempt(&self, call: &Call<'_>) -> Option<Verdict> {
        // SAFETY: zeroes are a valid `open_how`, which requests nothing.
        let mut how: libc::open_how = unsafe { std::mem::zeroed() };
        how.flags = self.nonblocking_flags() as u32 as u64;
        how.resolve = libc::RESOLVE_CACHED;
        // SAFETY: the C caller passes a valid path.
        let result = unsafe { sys::openat2(self.dir, self.path, &how) };
        let hit = result != Err(Errno::AGAIN);
        call.thread.opens().speed().update(|opens| opens.tried(hit));
        call.note(|record| {
            record.set_outcome(if hit {
                AttemptOutcome::Hit
            } else {
                AttemptOutcome::Miss
            })
        });
        match result {
            // openat2 is not available here.
            Err(Errno(libc::ENOSYS | libc::EINVAL | libc::EPERM)) => None,
            // The path is most likely not cached; a lookup that may wait for the disk decides.
            Err(Errno::AGAIN) => None,
            result => Some(self.finish(call, result, true)),
        }
    }

    /// Makes the plain call, which may wait for the disk, and records whether it did.
    fn make(&self, call: &Call<'_>) -> Verdict {
        let timing = call.thread.suspicion().start();
        // SAFETY: the C caller passes a valid path.
        let result =
            unsafe { sys::openat(self.dir, self.path, self.nonblocking_flags(), self.mode) };
        let is_slow = timing.was_slow(policy::SLOW_OPEN_NS);
        call.thread
            .opens()
            .speed()
            .update(|opens| opens.made(is_slow));
        call.note(|record| {
            record.set_decision(Decision::Inline);
            record.set_outcome(if is_slow {
                AttemptOutcome::Miss
            } else {
                AttemptOutcome::Hit
            });
        });
        self.finish(call, result, true)
    }

    /// Computes the result of open(2) from the `result` of a call that does not wait for a peer.
    /// Waits for the peer if one is required.
    fn finish(&self, call: &Call<'_>, result: Result<c_int, Errno>, inline: bool) -> Verdict {
        let answer = match result {
            Ok(fd) => self.settle(call, fd),
            // A FIFO without a reader, a device that is not ready, or a lease.
            Err(Errno::AGAIN | Errno::NXIO) => Answer::Waits,
            Err(error) => Answer::Done(Err(error)),
        };
        if inline && matches!(answer, Answer::Done(_)) {
            call.inline();
        }
        match answer {
            Answer::Done(result) => Verdict::from_result(result.map(|fd| fd as isize)),
            Answer::NeedsWriter(fd) => Verdict::from_result(self.await_writer(call, fd)),
            Answer::Waits => Verdict::from_result(self.wait(call)),
        }
    }

    /// Turns `fd`, opened without waiting, into what open(2) would have returned. Opening a FIFO
    /// for reading waits for its first writer; opening it for reading and writing does not wait.
    fn settle(&self, call: &Call<'_>, fd: c_int) -> Answer {
        if self.nonblocking_flags() != self.flags && sys::set_status_flags(fd, self.flags).is_err()
        {
            let _ = sys::close(fd);
            return Answer::Waits;
        }
        if self.never_waits_for_peer || self.was_a_file {
            let is_file = self.was_a_file || self.flags & NEW == NEW;
            Descriptor::opened(fd, self.flags, is_file);
            return Answer::Done(Ok(fd));
        }
        let has_position = sys::lseek(fd, 0, libc::SEEK_CUR).is_ok();
        Descriptor::opened(fd, self.flags, has_position);
        if has_position {
            if self.dir == libc::AT_FDCWD {
                // SAFETY: the kernel has just read the path.
                unsafe {
                    call.thread.opens().recent_paths().remember(
                        self.path,
                        self.flags,
                        self.changes,
                        Stopwatch::start(),
                    )
                };
            }
            return Answer::Done(Ok(fd));
        }
        let reads = self.flags & libc::O_ACCMODE == libc::O_RDONLY;
        let is_fifo =
            || sys::fstat(fd).is_ok_and(|stat| stat.st_mode & libc::S_IFMT == libc::S_IFIFO);
        if reads && is_fifo() && !fifo::had_writer(fd) {
            Answer::NeedsWriter(fd)
        } else {
            Answer::Done(Ok(fd))
        }
    }

    /// Waits for the first writer of a FIFO that is open for reading. The FIFO stays open during
    /// the wait, because a peer that has seen this end open must not see it closed.
    fn await_writer(&self, call: &Call<'_>, fd: c_int) -> Result<isize, Unfinished> {
        fifo::await_writer(call, fd)
            .map(|()| fd as isize)
            .inspect_err(|_| {
                descriptors::forget(fd).map(release::release);
                let _ = sys::close(fd);
            })
    }

    /// Opens the path on the engine or the pool, without waiting for a peer.
    fn submit(&self, call: &Call<'_>) -> Verdict {
        call.thread.opens().speed().update(Opens::submitted);
        // A kernel thread looks up the directory descriptor, possibly after the program has closed
        // it.
        let duplicate = (self.dir >= 0)
            .then(|| call.thread.duplicate_for_wait(self.dir))
            .flatten();
        // By then, the fact that the path was recently a regular file's is out of date.
        let open = Self {
            dir: duplicate.unwrap_or(self.dir),
            was_a_file: false,
            ..*self
        };
        let result = open.perform(call);
        if let Some(duplicate) = duplicate {
            call.thread.close_duplicate(duplicate);
        }
        let result = match result {
            Ok(fd) => Ok(fd),
            Err(Unfinished::Failed(error)) => Err(error),
            Err(Unfinished::Interrupted)
                if !call.continue_after_handlers(Restart::IfHandlersAllow)
                    && waits(self.dir, self.path) =>
            {
                return Verdict::Failed(Errno::INTR);
            }
            Err(Unfinished::Interrupted) => return self.submit(call),
            Err(error) => return Verdict::from_error(error),
        };
        let here = Self {
            dir: self.dir,
            ..open
        };
        here.finish(call, result, false)
    }

    /// Opens the path on the engine, without waiting for a peer.
    fn perform(&self, call: &Call<'_>) -> Result<c_int, Unfinished> {
        let &Self {
            dir, path, mode, ..
        } = self;
        let flags = self.nonblocking_flags() | O_LARGEFILE;
        match call.perform(&Request::Open {
            dir,
            path,
            flags,
            mode,
        }) {
            Ok(fd) => {
                descriptors::forget(fd).map(release::release);
                Ok(fd)
            }
            // The engine did not do it, or is stricter about flags than openat(2), so make the
            // plain call.
            Err(Unfinished::NotDone | Unfinished::Failed(Errno::INTR | Errno::INVAL)) => {
                // SAFETY: the C caller passes a valid path.
                Ok(unsafe { sys::openat(dir, path, flags, mode) }?)
            }
            Err(error) => Err(error),
        }
    }

    /// Waits for the peer that the open requires: a FIFO's reader, a device, the end of a lease.
    fn wait(&self, call: &Call<'_>) -> Result<isize, Unfinished> {
        let &Self {
            dir,
            path,
            flags,
            mode,
            ..
        } = self;
        let attempt = || {
            // SAFETY: the C caller passes a valid path.
            let result = unsafe { sys::openat(dir, path, flags | libc::O_NONBLOCK, mode) };
            match result {
                Ok(fd)
                    if flags & libc::O_NONBLOCK == 0
                        && sys::set_status_flags(fd, flags).is_err() =>
                {
                    let _ = sys::close(fd);
                    None
                }
                Err(Errno::AGAIN) if flags & libc::O_NONBLOCK == 0 => None,
                // A device that does not exist returns the same error forever.
                Err(Errno::NXIO)
                    if kind(dir, path) == Some(libc::S_IFIFO) && flags & libc::O_NONBLOCK == 0 =>
                {
                    None
                }
                result => Some(result.map(|fd| fd as isize)),
            }
        };
        let pin = if dir >= 0 {
            FdPin::UntilStarted(dir)
        } else {
            FdPin::None
        };
        let arguments = [
            dir as usize,
            path as usize,
            (flags | O_LARGEFILE) as usize,
            mode as usize,
            0,
            0,
        ];
        let open = KernelCall {
            number: Sysno::openat,
            arguments,
            pin,
            is_first_try: false,
        };
        let wait = || blocking_retry::perform(call, open);
        let fd = blocking_retry::wait_for(call, Restart::IfHandlersAllow, attempt, wait)?;
        descriptors::forget(fd as c_int).map(release::release);
        Ok(fd)
    }
}

/// The outcome of an open that did not wait for a peer.
enum Answer {
    Done(Result<c_int, Errno>),
    /// A FIFO, open for reading, that has had no writer yet.
    NeedsWriter(c_int),
    /// The open cannot succeed without a peer.
    Waits,
}

/// The kind of file that `path` names.
fn kind(dir: c_int, path: *const c_char) -> Option<libc::mode_t> {
    // SAFETY: the C caller passes a valid path.
    unsafe { sys::fstatat(dir, path) }
        .map(|stat| stat.st_mode & libc::S_IFMT)
        .ok()
}

/// Whether opening `path` waits for more than a disk, and so can be interrupted by signals.
fn waits(dir: c_int, path: *const c_char) -> bool {
    matches!(kind(dir, path), Some(libc::S_IFIFO | libc::S_IFCHR))
}
