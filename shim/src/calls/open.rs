//! open(2), openat(2), creat(2).
//!
//! Tried inline with RESOLVE_CACHED, which fails where the path lookup would wait; or made, and timed, while the disk is
//! quick ([`Opens`](crate::policy::Opens)); or submitted. A batch of io_uring would not be faster.
//!
//! What can still wait is opening a FIFO, for its other end: so O_NONBLOCK is added, taken off again, and it is looked at
//! what came of it. Where the name was a file's a moment ago that is left out ([`names`]). A FIFO that is open for reading so, and that nobody writes to yet, stays open until there is a writer:
//! a peer that has seen this end open must not see it gone.

use super::Outcome;
use crate::call::Call;
use crate::engine::Request;
use crate::errno::Errno;
use crate::fds::{self, Descriptor};
use crate::policy::{self, Decision, Opens, Why};
use crate::signal::Handled;
use crate::trace::Luck;
use crate::{fifo, known_files, sys};
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

pub fn openat(call: &Call<'_>, dir: c_int, path: *const c_char, flags: c_int, mode: libc::mode_t) -> Outcome {
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
    // SAFETY: the kernel has read it there, and a program that unmaps its paths within a millisecond of opening them, and
    // then opens them again, is not one that works.
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

    /// Opens what is there and remembered by the kernel. None if that cannot be told without waiting.
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
            result => self.answer(call, result),
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
        self.answer(call, result).unwrap_or_else(|| self.submit(call))
    }

    /// What a call that waited for no peer got, made what open(2) would have given; None if that cannot be told.
    fn answer(&self, call: &Call<'_>, result: Result<c_int, Errno>) -> Option<Outcome> {
        let fd = match result {
            Ok(fd) => fd,
            // Not remembered; or a FIFO without a reader, a device that is not ready, a lease.
            Err(Errno::AGAIN | Errno::NXIO) => return None,
            Err(error) => {
                call.inline();
                return Some(Outcome::Done(Err(error)));
            }
        };
        if self.unwaiting() != self.flags && sys::set_status_flags(fd, self.flags).is_err() {
            let _ = sys::close(fd);
            return None;
        }
        if self.peerless || self.was_a_file {
            Descriptor::opened(fd, self.flags, self.was_a_file);
        } else if sys::lseek(fd, 0, libc::SEEK_CUR).is_ok() {
            Descriptor::opened(fd, self.flags, true);
            if self.dir == libc::AT_FDCWD {
                // SAFETY: the kernel has just read it.
                unsafe {
                    call.thread
                        .known_files
                        .remember(self.path, self.flags, self.changes, sys::now())
                };
            }
        } else {
            return self.answer_stream(call, fd);
        }
        call.inline();
        Some(Outcome::Done(Ok(fd as isize)))
    }

    /// The same for what has no position. To open a FIFO for reading waits for its first writer; for writing, without a
    /// reader, that has failed (ENXIO); and for both nobody is waited for.
    fn answer_stream(&self, call: &Call<'_>, fd: c_int) -> Option<Outcome> {
        Descriptor::opened(fd, self.flags, false);
        if self.flags & libc::O_ACCMODE == libc::O_RDONLY {
            let Ok(stat) = sys::fstat(fd) else {
                fds::forget(fd).map(fds::release);
                let _ = sys::close(fd);
                return None;
            };
            if stat.st_mode & libc::S_IFMT == libc::S_IFIFO && !fifo::has_writer(fd) {
                if Errno::of(call.perform(&Request::AwaitWriter { fifo: fd })) == Errno::RESTART {
                    fds::forget(fd).map(fds::release);
                    let _ = sys::close(fd);
                    return Some(Outcome::Done(Err(Errno::RESTART)));
                }
                return Some(Outcome::Done(Ok(fd as isize)));
            }
        }
        call.inline();
        Some(Outcome::Done(Ok(fd as isize)))
    }

    fn submit(&self, call: &Call<'_>) -> Outcome {
        call.thread.opens.update(Opens::submitted);
        let &Self {
            dir, path, flags, mode, ..
        } = self;
        let result = call.perform(&Request::Open {
            dir,
            path,
            flags: flags | O_LARGEFILE,
            mode,
        });
        if result >= 0 {
            fds::forget(result).map(fds::release);
            return Outcome::Done(Ok(result as isize));
        }
        let error = Errno::of(result);
        if error == Errno::RESTART && call.interrupted() == Handled::End && waits(dir, path) {
            return Outcome::Done(Err(Errno::INTR));
        }
        if error == Errno::RESTART {
            return self.submit(call);
        }
        if !crate::engine::not_done(error) && error != Errno::INVAL {
            return Outcome::Done(Err(error));
        }
        // The engine did not do it, or is stricter about flags than openat(2): the plain call answers.
        // SAFETY: the path is the C caller's.
        let result = unsafe { sys::openat(dir, path, flags, mode) };
        if let Ok(fd) = result {
            fds::forget(fd).map(fds::release);
        }
        Outcome::Done(result.map(|fd| fd as isize))
    }
}

/// Whether opening what `path` names waits for more than a disk, and so is interrupted by signals.
fn waits(dir: c_int, path: *const c_char) -> bool {
    // SAFETY: the path is the C caller's.
    let kind = unsafe { sys::fstatat(dir, path) }.map(|stat| stat.st_mode & libc::S_IFMT);
    matches!(kind, Ok(libc::S_IFIFO | libc::S_IFCHR))
}
