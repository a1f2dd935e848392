//! open(2), openat(2), creat(2).
//!
//! Tried inline with RESOLVE_CACHED, which fails where the path lookup would wait. What can still wait is opening a
//! FIFO, for its other end: so the try adds O_NONBLOCK, looks at what it got, and takes the flag off again. A FIFO that
//! is open for reading so, and that nobody writes to yet, stays open until there is a writer: a peer that has seen this
//! end open must not see it gone.

use super::Outcome;
use crate::call::Call;
use crate::engine::Request;
use crate::errno::Errno;
use crate::fds::{self, Descriptor};
use crate::policy::Why;
use crate::sys;
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
    // Not even a fiber that is alone on its thread makes the plain call: with three workers, one in twenty runs of a
    // hundred FIFO openings then hung in it.
    if flags & libc::O_PATH != 0 {
        return Outcome::Through(Why::Quick);
    }
    if !call.has_engine() {
        return Outcome::Through(Why::NoEngine);
    }
    let mode = if needs_mode(flags) { mode } else { 0 };
    match attempt(dir, path, flags, mode) {
        Attempt::Open(fd) => {
            call.inline();
            Outcome::Done(Ok(fd as isize))
        }
        Attempt::Failed(error) => {
            call.inline();
            Outcome::Done(Err(error))
        }
        Attempt::Waits => submit(call, dir, path, flags, mode),
        Attempt::WaitsForWriter(fifo) => {
            call.perform(&Request::AwaitWriter { fifo });
            // It may fail only if the descriptor was closed meanwhile, by number.
            let _ = sys::set_nonblocking(fifo, false);
            Outcome::Done(Ok(fifo as isize))
        }
    }
}

enum Attempt {
    Open(c_int),
    Failed(Errno),
    /// Opening it may wait.
    Waits,
    /// A FIFO, open for reading, that has had no writer yet.
    WaitsForWriter(c_int),
}

fn attempt(dir: c_int, path: *const c_char, flags: c_int, mode: libc::mode_t) -> Attempt {
    // O_TMPFILE's bits are in no other flag's way, but RESOLVE_CACHED refuses it.
    if flags & !KNOWN != 0 || flags & CHANGES != 0 {
        return Attempt::Waits;
    }
    // SAFETY: openat2 takes zeroes as 'nothing asked for'.
    let mut how: libc::open_how = unsafe { std::mem::zeroed() };
    how.flags = (flags | libc::O_NONBLOCK) as u32 as u64;
    how.mode = u64::from(mode);
    how.resolve = libc::RESOLVE_CACHED;
    // SAFETY: the path is the C caller's.
    let fd = match unsafe { sys::openat2(dir, path, &how) } {
        Ok(fd) => fd,
        // Not cached; or a FIFO without a reader, a device that is not ready, a lease. Or no openat2 here at all.
        Err(Errno::AGAIN | Errno::NXIO) => return Attempt::Waits,
        Err(Errno(libc::ENOSYS | libc::EINVAL | libc::EPERM)) => return Attempt::Waits,
        Err(error) => return Attempt::Failed(error),
    };
    let Ok(stat) = sys::fstat(fd) else {
        return Attempt::Waits;
    };
    if flags & libc::O_NONBLOCK == 0 {
        // To open a FIFO for reading waits for its first writer; for writing, the try would have failed without a
        // reader (ENXIO).
        let is_fifo = stat.st_mode & libc::S_IFMT == libc::S_IFIFO;
        if is_fifo && flags & libc::O_ACCMODE == libc::O_RDONLY && !sys::has_writer(fd) {
            return Attempt::WaitsForWriter(fd);
        }
        if sys::set_nonblocking(fd, false).is_err() {
            let _ = sys::close(fd);
            return Attempt::Waits;
        }
    }
    Descriptor::remember(fd, &stat, flags);
    Attempt::Open(fd)
}

fn submit(call: &Call<'_>, dir: c_int, path: *const c_char, flags: c_int, mode: libc::mode_t) -> Outcome {
    let result = call.perform(&Request::Open {
        dir,
        path,
        flags: flags | O_LARGEFILE,
        mode,
    });
    if result >= 0 {
        fds::forget(result);
        return Outcome::Done(Ok(result as isize));
    }
    let error = Errno::of(result);
    if !crate::engine::not_done(error) && error != Errno::INVAL {
        return Outcome::Done(Err(error));
    }
    // The engine did not do it, or is stricter about flags than openat(2): the plain call answers.
    // SAFETY: the path is the C caller's.
    let result = unsafe { sys::openat(dir, path, flags, mode) };
    if let Ok(fd) = result {
        fds::forget(fd);
    }
    Outcome::Done(result.map(|fd| fd as isize))
}
