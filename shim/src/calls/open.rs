//! open(2), openat(2), creat(2).
//!
//! Tried inline with RESOLVE_CACHED, which fails where the path lookup would wait; or made, and
//! timed, while the disk is quick ([`Opens`](crate::policy::Opens)); or submitted. A batch of
//! io_uring would not be faster.
//!
//! To open a FIFO waits for its other end, which may need the threads that opens take. So every
//! open is first made with O_NONBLOCK, which is taken off again, and what came of it says whether
//! there is a peer to wait for ([`Answer`]). Where the name was a file's a moment ago that is left
//! out ([`known_files`]).

use super::Outcome;
use super::unbounded::{self, Restarts};
use crate::call::Call;
use crate::engine::{KernelCall, Names, Request};
use crate::errno::Errno;
use crate::fds::{self, Descriptor};
use crate::policy::{self, Decision, Opens, Why};
use crate::signal::Handled;
use crate::sys::{self, Sysno};
use crate::trace::Luck;
use crate::{fifo, known_files};
use std::ffi::{c_char, c_int};

/// Flags that openat2(2) knows: it refuses what openat(2) ignores.
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

/// Lookups with these may change the file system: RESOLVE_CACHED refuses them at once.
const CHANGES: c_int = libc::O_CREAT | libc::O_TRUNC;

pub fn open(call: &Call<'_>, path: *const c_char, flags: c_int, mode: libc::mode_t) -> Outcome {
    openat(call, libc::AT_FDCWD, path, flags, mode)
}

pub fn creat(call: &Call<'_>, path: *const c_char, mode: libc::mode_t) -> Outcome {
    openat(
        call,
        libc::AT_FDCWD,
        path,
        libc::O_CREAT | libc::O_WRONLY | libc::O_TRUNC,
        mode,
    )
}

/// `__open_2` and its kin: with O_CREAT libc ends the program, for there is no mode.
pub fn open_2(call: &Call<'_>, path: *const c_char, flags: c_int) -> Outcome {
    openat_2(call, libc::AT_FDCWD, path, flags)
}

pub fn openat_2(call: &Call<'_>, dir: c_int, path: *const c_char, flags: c_int) -> Outcome {
    if needs_mode(flags) {
        Outcome::Through(Why::Unusual)
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
) -> Outcome {
    if flags & libc::O_PATH != 0 {
        return Outcome::Through(Why::Quick);
    }
    if !call.has_engine() {
        return Outcome::Through(Why::NoEngine);
    }
    let opens = &call.thread.opens;
    let decision = opens.get().decide(call.load().alone, !can_be_tried(flags));
    let open = Open {
        dir,
        path,
        flags,
        mode: if needs_mode(flags) { mode } else { 0 },
        peerless: waits_for_nobody(flags),
        was_a_file: decision.is_at_once() && was_a_file(call, dir, path, flags),
        changes: known_files::changes(),
    };
    call.note(|record| record.chose(decision));
    match decision {
        Decision::Through(why) => Outcome::Through(why),
        Decision::Submit => open.submit(call),
        Decision::Copy => open.make(call),
        Decision::Try => {
            if let Some(outcome) = open.attempt(call) {
                return outcome;
            }
            match opens.get().untried() {
                Decision::Copy => open.make(call),
                _ => open.submit(call),
            }
        }
    }
}

/// O_TMPFILE's bits are in no other flag's way, but RESOLVE_CACHED refuses it.
fn can_be_tried(flags: c_int) -> bool {
    flags & !KNOWN == 0 && flags & CHANGES == 0
}

/// What is opened so is no FIFO, or need not be waited for.
fn waits_for_nobody(flags: c_int) -> bool {
    [
        libc::O_NONBLOCK,
        libc::O_DIRECTORY,
        // Just made: as a file.
        libc::O_CREAT | libc::O_EXCL,
    ]
    .into_iter()
    .any(|bits| flags & bits == bits)
}

/// Whether the name was a file's a moment ago.
fn was_a_file(call: &Call<'_>, dir: c_int, path: *const c_char, flags: c_int) -> bool {
    // SAFETY: the kernel has read it there, and a program that unmaps its paths within a
    // millisecond of opening them, and then opens them again, is not one that works.
    dir == libc::AT_FDCWD && unsafe { call.thread.known_files.is_file(path, flags, sys::now()) }
}

/// One call.
struct Open {
    dir: c_int,
    path: *const c_char,
    flags: c_int,
    mode: libc::mode_t,
    /// It waits for no other end, whatever the name is.
    peerless: bool,
    /// The name was a file's a moment ago.
    was_a_file: bool,
    /// Of names, before this one is looked at.
    changes: u32,
}

impl Open {
    /// The flags with which no peer is waited for.
    fn unwaiting(&self) -> c_int {
        if self.peerless || self.was_a_file {
            self.flags
        } else {
            self.flags | libc::O_NONBLOCK
        }
    }

    /// Opens what is there and remembered by the kernel. None if that cannot be told without
    /// waiting.
    fn attempt(&self, call: &Call<'_>) -> Option<Outcome> {
        // SAFETY: openat2 takes zeroes as 'nothing asked for'.
        let mut how: libc::open_how = unsafe { std::mem::zeroed() };
        how.flags = self.unwaiting() as u32 as u64;
        how.resolve = libc::RESOLVE_CACHED;
        // SAFETY: the path is the C caller's.
        let result = unsafe { sys::openat2(self.dir, self.path, &how) };
        let hit = result != Err(Errno::AGAIN);
        call.thread.opens.update(|opens| opens.tried(hit));
        call.note(|record| record.came(if hit { Luck::Hit } else { Luck::Miss }));
        match result {
            // No openat2 here at all.
            Err(Errno(libc::ENOSYS | libc::EINVAL | libc::EPERM)) => None,
            // Not remembered, most likely: a look that may wait for the disk can tell.
            Err(Errno::AGAIN) => None,
            result => Some(self.finish(call, result, true)),
        }
    }

    /// The call, which may wait for the disk, and tells how long it took.
    fn make(&self, call: &Call<'_>) -> Outcome {
        let begin = sys::now();
        // SAFETY: the path is the C caller's.
        let result = unsafe { sys::openat(self.dir, self.path, self.unwaiting(), self.mode) };
        let took = sys::now() - begin;
        call.thread.opens.update(|opens| opens.made(took));
        call.note(|record| {
            record.chose(Decision::Copy);
            record.came(if took > policy::SLOW_OPEN_NS {
                Luck::Miss
            } else {
                Luck::Hit
            });
        });
        self.finish(call, result, true)
    }

    /// What open(2) gives where a call that waits for no peer gave `result`; waits for the peer if
    /// there has to be one.
    fn finish(&self, call: &Call<'_>, result: Result<c_int, Errno>, inline: bool) -> Outcome {
        let answer = match result {
            Ok(fd) => self.settle(call, fd),
            // A FIFO without a reader, a device that is not ready, a lease.
            Err(Errno::AGAIN | Errno::NXIO) => Answer::Waits,
            Err(error) => Answer::Done(Err(error)),
        };
        if inline && matches!(answer, Answer::Done(_)) {
            call.inline();
        }
        Outcome::Done(match answer {
            Answer::Done(result) => result.map(|fd| fd as isize),
            Answer::NeedsWriter(fd) => self.await_writer(call, fd),
            Answer::Waits => self.wait(call),
        })
    }

    /// Makes of `fd`, opened without waiting, what open(2) would have made. To open a FIFO for
    /// reading waits for its first writer; to open it for reading and writing waits for nobody.
    fn settle(&self, call: &Call<'_>, fd: c_int) -> Answer {
        if self.unwaiting() != self.flags && sys::set_status_flags(fd, self.flags).is_err() {
            let _ = sys::close(fd);
            return Answer::Waits;
        }
        if self.peerless || self.was_a_file {
            Descriptor::opened(fd, self.flags, self.was_a_file);
            return Answer::Done(Ok(fd));
        }
        let has_position = sys::lseek(fd, 0, libc::SEEK_CUR).is_ok();
        Descriptor::opened(fd, self.flags, has_position);
        if has_position {
            if self.dir == libc::AT_FDCWD {
                // SAFETY: the kernel has just read it.
                unsafe {
                    call.thread.known_files.remember(
                        self.path,
                        self.flags,
                        self.changes,
                        sys::now(),
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

    /// A FIFO that is open for reading so, and that nobody writes to yet, stays open: a peer that
    /// has seen this end open must not see it gone.
    fn await_writer(&self, call: &Call<'_>, fd: c_int) -> Result<isize, Errno> {
        fifo::await_writer(call, fd)
            .map(|()| fd as isize)
            .inspect_err(|_| {
                fds::forget(fd).map(fds::release);
                let _ = sys::close(fd);
            })
    }

    /// Has the engine, or the pool, open it without waiting for a peer.
    fn submit(&self, call: &Call<'_>) -> Outcome {
        call.thread.opens.update(Opens::submitted);
        // A kernel thread looks the directory up, and does so late.
        let kept = (self.dir >= 0)
            .then(|| call.thread.keep(self.dir))
            .flatten();
        // That the name was a file's a moment ago is forgotten by then.
        let open = Self {
            dir: kept.unwrap_or(self.dir),
            was_a_file: false,
            ..*self
        };
        let result = open.perform(call);
        if let Some(duplicate) = kept {
            call.thread.let_go(duplicate);
        }
        match result {
            Err(Errno::RESTART)
                if call.interrupted() == Handled::End && waits(self.dir, self.path) =>
            {
                Outcome::Done(Err(Errno::INTR))
            }
            Err(Errno::RESTART) => self.submit(call),
            result => Self {
                dir: self.dir,
                ..open
            }
            .finish(call, result, false),
        }
    }

    /// Has the engine open it without waiting for a peer.
    fn perform(&self, call: &Call<'_>) -> Result<c_int, Errno> {
        let &Self {
            dir, path, mode, ..
        } = self;
        let flags = self.unwaiting() | O_LARGEFILE;
        let result = call.perform(&Request::Open {
            dir,
            path,
            flags,
            mode,
        });
        match Errno::of(result) {
            _ if result >= 0 => {
                fds::forget(result).map(fds::release);
                Ok(result)
            }
            // The engine did not do it, or is stricter about flags than openat(2): the plain call
            // answers.
            error
                if error != Errno::AGAIN
                    && (crate::engine::not_done(error) || error == Errno::INVAL) =>
            {
                // SAFETY: the path is the C caller's.
                unsafe { sys::openat(dir, path, flags, mode) }
            }
            error => Err(error),
        }
    }

    /// Waits for the peer that the open needs: a FIFO's reader, a device, the end of a lease.
    fn wait(&self, call: &Call<'_>) -> Result<isize, Errno> {
        let &Self {
            dir,
            path,
            flags,
            mode,
            ..
        } = self;
        let attempt = || {
            // SAFETY: the path is the C caller's.
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
                // A device that does not exist says the same for ever.
                Err(Errno::NXIO)
                    if kind(dir, path) == Some(libc::S_IFIFO) && flags & libc::O_NONBLOCK == 0 =>
                {
                    None
                }
                result => Some(result.map(|fd| fd as isize)),
            }
        };
        let names = if dir >= 0 {
            Names::UntilBegun(dir)
        } else {
            Names::Nothing
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
            names,
            is_first_try: false,
        };
        let wait = || match unbounded::perform(call, open) {
            Some(Err(Errno::RESTART)) => Some(Err(Errno::RESTART)),
            result => result.map(Ok),
        };
        let fd = unbounded::wait_for(call, Restarts::AsHandlersSay, attempt, wait)??;
        fds::forget(fd as c_int).map(fds::release);
        Ok(fd)
    }
}

/// What became of an open that waited for no peer.
enum Answer {
    Done(Result<c_int, Errno>),
    /// A FIFO, open for reading, that nobody has written to yet.
    NeedsWriter(c_int),
    /// It needs a peer to succeed at all.
    Waits,
}

/// The kind of file that `path` names.
fn kind(dir: c_int, path: *const c_char) -> Option<libc::mode_t> {
    // SAFETY: the path is the C caller's.
    unsafe { sys::fstatat(dir, path) }
        .map(|stat| stat.st_mode & libc::S_IFMT)
        .ok()
}

/// Whether opening what `path` names waits for more than a disk, and so is interrupted by signals.
fn waits(dir: c_int, path: *const c_char) -> bool {
    matches!(kind(dir, path), Some(libc::S_IFIFO | libc::S_IFCHR))
}
