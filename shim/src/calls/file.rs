//! close(2), fsync(2), lseek(2), dup(2), fcntl(2): what else is done to a descriptor.
//!
//! Those that close or replace a descriptor first submit what is queued: a fiber that called read(2) before is then
//! in the read, as a thread would be, and keeps its file.

use super::Outcome;
use crate::engine::{self, Request};
use crate::errno::{self, Errno};
use crate::fds::{self, Descriptor};
use crate::policy::Why;
use crate::position::Turn;
use crate::sys;
use crate::thread::Call;
use std::ffi::{c_int, c_uint, c_ulong};

pub fn close(call: &Call<'_>, fd: c_int) -> Outcome {
    let descriptor = Descriptor::known(fd);
    fds::forget(fd);
    call.thread.submit_queued();
    // Closing waits where the file system writes back on close, and those (NFS, FUSE) refuse RWF_NOWAIT.
    if descriptor.is_some_and(|d| d.hint().no_try && d.is_seekable()) && !call.load().alone && call.has_engine() {
        return match call.perform(Request::Close { fd }) {
            result if result < 0 && engine::not_done(Errno::of(result)) => Outcome::Through(Why::NoEngine),
            result => Outcome::of_completion(result),
        };
    }
    Outcome::Through(Why::Quick)
}

pub fn fsync(call: &Call<'_>, fd: c_int) -> Outcome {
    sync(call, fd, false)
}

pub fn fdatasync(call: &Call<'_>, fd: c_int) -> Outcome {
    sync(call, fd, true)
}

fn sync(call: &Call<'_>, fd: c_int, data_only: bool) -> Outcome {
    if call.load().alone {
        return Outcome::Through(Why::Alone);
    }
    if !call.has_engine() {
        return Outcome::Through(Why::NoEngine);
    }
    match call.perform(Request::Fsync { fd, data_only }) {
        result if result < 0 && engine::not_done(Errno::of(result)) => Outcome::Through(Why::NoEngine),
        result => Outcome::of_completion(result),
    }
}

/// Waits its turn behind reads and writes at the position, as in the kernel.
pub fn lseek(call: &Call<'_>, fd: c_int, offset: i64, whence: c_int) -> Outcome {
    let descriptor = Descriptor::get(fd);
    if descriptor.is_seekable()
        && let _turn @ Turn::Held { .. } = Turn::take(call, fd, descriptor.inode())
    {
        return Outcome::Done(sys::lseek(fd, offset, whence).map(|position| position as isize));
    }
    Outcome::Through(Why::Quick)
}

pub fn dup(_call: &Call<'_>, _fd: c_int) -> Outcome {
    Outcome::Through(Why::Quick)
}

pub fn dup2(call: &Call<'_>, from: c_int, to: c_int) -> Outcome {
    if from != to {
        call.thread.submit_queued();
        fds::forget(to);
    }
    Outcome::Through(Why::Quick)
}

pub fn dup3(call: &Call<'_>, from: c_int, to: c_int, _flags: c_int) -> Outcome {
    dup2(call, from, to)
}

pub fn fcntl(call: &Call<'_>, fd: c_int, command: c_int, _argument: c_ulong) -> Outcome {
    if command == libc::F_SETFL {
        // What is queued was called under the old flags.
        call.thread.submit_queued();
        fds::forget(fd);
    }
    Outcome::Through(Why::Quick)
}

/// Before libc's fcntl off a fiber.
#[inline(always)]
pub fn before_fcntl(fd: c_int, command: c_int) {
    if command == libc::F_SETFL {
        fds::forget(fd);
    }
}

/// close_range(2), which libc has from 2.34 on: not a row of the table, for there may be nothing behind it. As libc's,
/// it is the system call.
#[unsafe(no_mangle)]
pub extern "C" fn close_range(first: c_uint, last: c_uint, flags: c_int) -> c_int {
    before_close_range(first, last);
    match sys::close_range(first, last, flags) {
        Ok(()) => 0,
        Err(error) => {
            errno::set(error.0);
            -1
        }
    }
}

/// closefrom(3), which libc has from 2.34 on.
#[unsafe(no_mangle)]
pub extern "C" fn closefrom(first: c_int) {
    let first = first.max(0) as c_uint;
    before_close_range(first, c_uint::MAX);
    if sys::close_range(first, c_uint::MAX, 0).is_err() {
        // Before 5.9: one by one, as far as there can be any.
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile)
            .maximum
            .unwrap_or(1 << 20);
        (first..limit.min(1 << 20) as c_uint).for_each(|fd| sys::close(fd as c_int));
    }
}

fn before_close_range(first: c_uint, last: c_uint) {
    let here = crate::tls::here();
    if !here.is_null() {
        // SAFETY: a thread stays attached while one of its hooks runs.
        unsafe { &*here }.submit_queued();
    }
    fds::forget_range(first, last);
}
