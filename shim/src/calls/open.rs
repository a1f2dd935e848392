//! open(2), openat(2), creat(2).
//!
//! Tried inline with RESOLVE_CACHED, which fails where the path lookup would wait; a batch of io_uring would not be faster.
//! What can still wait is opening a FIFO, for its other end: so the try adds O_NONBLOCK, takes it off again, and looks at
//! what it got. A FIFO that is open for reading so, and that nobody writes to yet, stays open until there is a writer: a
//! peer that has seen this end open must not see it gone.

use super::Outcome;
use crate::call::Call;
use crate::engine::Request;
use crate::errno::Errno;
use crate::fds::{self, Descriptor};
use crate::policy::{Alone, Why};
use crate::signal::Handled;
use crate::{fifo, sys};
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
    let mode = if needs_mode(flags) { mode } else { 0 };
    if call.load().alone == Alone::Entirely {
        return Outcome::Through(Why::Alone);
    }
    // O_TMPFILE's bits are in no other flag's way, but RESOLVE_CACHED refuses it.
    if flags & !KNOWN != 0 || flags & CHANGES != 0 {
        return submit(call, dir, path, flags, mode);
    }
    match attempt(dir, path, flags) {
        Ok(fd) => look_at(call, fd, flags).unwrap_or_else(|| submit(call, dir, path, flags, mode)),
        // Not cached; or a FIFO without a reader, a device that is not ready, a lease. Or no openat2 here at all.
        Err(Errno::AGAIN | Errno::NXIO | Errno(libc::ENOSYS | libc::EINVAL | libc::EPERM)) => {
            submit(call, dir, path, flags, mode)
        }
        Err(error) => {
            call.inline();
            Outcome::Done(Err(error))
        }
    }
}

/// Opens what is there and cached.
fn attempt(dir: c_int, path: *const c_char, flags: c_int) -> Result<c_int, Errno> {
    // SAFETY: openat2 takes zeroes as 'nothing asked for'.
    let mut how: libc::open_how = unsafe { std::mem::zeroed() };
    how.flags = (flags | libc::O_NONBLOCK) as u32 as u64;
    how.resolve = libc::RESOLVE_CACHED;
    // SAFETY: the path is the C caller's.
    let fd = unsafe { sys::openat2(dir, path, &how) }?;
    if flags & libc::O_NONBLOCK == 0 && sys::set_status_flags(fd, flags).is_err() {
        let _ = sys::close(fd);
        return Err(Errno::AGAIN);
    }
    Ok(fd)
}

/// What a try got, made what open(2) would have waited for; None if that cannot be told.
fn look_at(call: &Call<'_>, fd: c_int, flags: c_int) -> Option<Outcome> {
    let has_position = sys::lseek(fd, 0, libc::SEEK_CUR).is_ok();
    Descriptor::opened(fd, flags, has_position);
    let reads = flags & (libc::O_ACCMODE | libc::O_NONBLOCK) == libc::O_RDONLY;
    if !has_position && reads {
        let Ok(stat) = sys::fstat(fd) else {
            fds::forget(fd).map(fds::release);
            let _ = sys::close(fd);
            return None;
        };
        // To open a FIFO for reading waits for its first writer; for writing, the try would have failed without a
        // reader (ENXIO).
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

fn submit(call: &Call<'_>, dir: c_int, path: *const c_char, flags: c_int, mode: libc::mode_t) -> Outcome {
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
        return openat(call, dir, path, flags, mode);
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

/// Whether opening what `path` names waits for more than a disk, and so is interrupted by signals.
fn waits(dir: c_int, path: *const c_char) -> bool {
    // SAFETY: the path is the C caller's.
    let kind = unsafe { sys::fstatat(dir, path) }.map(|stat| stat.st_mode & libc::S_IFMT);
    matches!(kind, Ok(libc::S_IFIFO | libc::S_IFCHR))
}
