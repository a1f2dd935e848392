//! read(2), write(2) and their kin, as C calls them: the arguments of each become one transfer
//! ([`super::transfer`]), in one piece or a vector, at an offset or at the current position.

use super::Outcome;
use super::transfer::transfer;
use crate::call::Call;
use crate::engine::{Data, MAX_COUNT, Transfer, Way};
use crate::fds::Descriptor;
use crate::policy::{Alone, Decision, Load, Why};
use crate::position;
use crate::sys::AT_POSITION;
use std::ffi::{c_int, c_void};

/// The flags of preadv2 and pwritev2 that io_uring treats as they do.
const PLAIN_FLAGS: c_int = libc::RWF_DSYNC | libc::RWF_SYNC | libc::RWF_APPEND;

/// Where a program's memory ends, with page tables of four levels: what reaches beyond is refused
/// at once.
const END_OF_MEMORY: usize = (1 << 47) - 4096;

#[inline(always)]
fn buffer(
    call: &Call<'_>,
    way: Way,
    fd: c_int,
    data: *const c_void,
    n: usize,
    offset: i64,
) -> Outcome {
    // The vectored calls, which the inline ones are made with, return early where a plain call of
    // no bytes does not.
    if n == 0 {
        return Outcome::Through(Why::Unusual);
    }
    if n > MAX_COUNT {
        return huge_buffer(call, way, fd, data, n, offset);
    }
    sized_buffer(call, way, fd, data, n, offset)
}

/// More than the kernel transfers in one call: cut as the kernel cuts it, once it has seen that
/// there is such memory.
#[cold]
#[inline(never)]
fn huge_buffer(
    call: &Call<'_>,
    way: Way,
    fd: c_int,
    data: *const c_void,
    n: usize,
    offset: i64,
) -> Outcome {
    if data
        .addr()
        .checked_add(n)
        .is_none_or(|end| end > END_OF_MEMORY)
    {
        return Outcome::Through(Why::Unusual);
    }
    sized_buffer(call, way, fd, data, MAX_COUNT, offset)
}

#[inline(always)]
fn sized_buffer(
    call: &Call<'_>,
    way: Way,
    fd: c_int,
    data: *const c_void,
    n: usize,
    offset: i64,
) -> Outcome {
    let load = call.load();
    let wanted = Transfer {
        way,
        fd,
        data: Data::Buffer(data.cast_mut().cast(), n as u32),
        offset,
        flags: 0,
        direct: false,
        cold: false,
    };
    if delays_nobody(load, fd, offset == AT_POSITION) {
        note_lone(call, &wanted);
        return Outcome::Through(Why::Alone);
    }
    transfer(call, load, wanted)
}

fn vector(
    call: &Call<'_>,
    way: Way,
    fd: c_int,
    iov: *const libc::iovec,
    n: c_int,
    at: i64,
    flags: c_int,
) -> Outcome {
    if flags & libc::RWF_NOWAIT != 0 {
        return Outcome::Through(Why::Nonblocking);
    }
    if !(0..=libc::UIO_MAXIOV).contains(&n) || flags & !PLAIN_FLAGS != 0 {
        return Outcome::Through(Why::Unusual);
    }
    let load = call.load();
    let wanted = Transfer {
        way,
        fd,
        data: Data::Vector(iov, n as u32),
        offset: at,
        flags,
        direct: false,
        cold: false,
    };
    if delays_nobody(load, fd, at == AT_POSITION) {
        note_lone(call, &wanted);
        return Outcome::Through(Why::Alone);
    }
    transfer(call, load, wanted)
}

/// For the trace: a plain call that the policy did not have to be asked about.
#[inline(always)]
fn note_lone(call: &Call<'_>, transfer: &Transfer) {
    call.note(|record| {
        let descriptor = Descriptor::get(transfer.fd);
        record.decided(
            transfer,
            descriptor,
            descriptor.hint(),
            Decision::Through(Why::Alone),
        );
    });
}

/// The policy's first rule, before anything else is looked at; with a turn held somewhere the call
/// may have to wait.
///
/// A plain call at the position does without a turn only where no other thread is attached: a fiber
/// there could look the position up before this call moves it, and then transfer at the same place.
#[inline(always)]
fn delays_nobody(load: Load, fd: c_int, at_position: bool) -> bool {
    let suffices = match load.alone {
        Alone::No => false,
        Alone::ForNow => {
            let known = Descriptor::known(fd).is_some_and(|d| load.alone.suffices(d.hint()));
            known && !(at_position && position::other_threads())
        }
        Alone::Entirely => true,
    };
    suffices && !position::in_use()
}

/// An offset of pread(2) or pwrite(2): the kernel refuses a negative one, which here would mean the
/// position.
fn refuses(offset: i64) -> bool {
    offset < 0
}

#[inline(always)]
pub fn read(call: &Call<'_>, fd: c_int, buf: *mut c_void, n: usize) -> Outcome {
    buffer(call, Way::Read, fd, buf, n, AT_POSITION)
}

/// `__read_chk`: libc's own call ends the program when the object is too small.
pub fn read_chk(call: &Call<'_>, fd: c_int, buf: *mut c_void, n: usize, object: usize) -> Outcome {
    if n > object {
        Outcome::Through(Why::Unusual)
    } else {
        read(call, fd, buf, n)
    }
}

#[inline(always)]
pub fn write(call: &Call<'_>, fd: c_int, buf: *const c_void, n: usize) -> Outcome {
    buffer(call, Way::Write, fd, buf, n, AT_POSITION)
}

#[inline(always)]
pub fn pread(call: &Call<'_>, fd: c_int, buf: *mut c_void, n: usize, offset: i64) -> Outcome {
    if refuses(offset) {
        Outcome::Through(Why::Unusual)
    } else {
        buffer(call, Way::Read, fd, buf, n, offset)
    }
}

pub fn pread_chk(
    call: &Call<'_>,
    fd: c_int,
    buf: *mut c_void,
    n: usize,
    offset: i64,
    object: usize,
) -> Outcome {
    if n > object {
        Outcome::Through(Why::Unusual)
    } else {
        pread(call, fd, buf, n, offset)
    }
}

#[inline(always)]
pub fn pwrite(call: &Call<'_>, fd: c_int, buf: *const c_void, n: usize, offset: i64) -> Outcome {
    if refuses(offset) {
        Outcome::Through(Why::Unusual)
    } else {
        buffer(call, Way::Write, fd, buf, n, offset)
    }
}

/// eventfd_read(3).
pub fn eventfd_read(call: &Call<'_>, fd: c_int, value: *mut c_void) -> Outcome {
    whole_count(read(call, fd, value, size_of::<u64>()))
}

/// eventfd_write(3).
pub fn eventfd_write(call: &Call<'_>, fd: c_int, value: u64) -> Outcome {
    whole_count(write(call, fd, (&raw const value).cast(), size_of::<u64>()))
}

/// 0 for all of a count, -1 for less of it.
fn whole_count(outcome: Outcome) -> Outcome {
    match outcome {
        Outcome::Done(Ok(n)) => Outcome::Done(Ok(if n == size_of::<u64>() as isize {
            0
        } else {
            -1
        })),
        outcome => outcome,
    }
}

pub fn readv(call: &Call<'_>, fd: c_int, iov: *const libc::iovec, n: c_int) -> Outcome {
    vector(call, Way::Read, fd, iov, n, AT_POSITION, 0)
}

pub fn writev(call: &Call<'_>, fd: c_int, iov: *const libc::iovec, n: c_int) -> Outcome {
    vector(call, Way::Write, fd, iov, n, AT_POSITION, 0)
}

pub fn preadv(
    call: &Call<'_>,
    fd: c_int,
    iov: *const libc::iovec,
    n: c_int,
    offset: i64,
) -> Outcome {
    if refuses(offset) {
        Outcome::Through(Why::Unusual)
    } else {
        vector(call, Way::Read, fd, iov, n, offset, 0)
    }
}

pub fn pwritev(
    call: &Call<'_>,
    fd: c_int,
    iov: *const libc::iovec,
    n: c_int,
    offset: i64,
) -> Outcome {
    if refuses(offset) {
        Outcome::Through(Why::Unusual)
    } else {
        vector(call, Way::Write, fd, iov, n, offset, 0)
    }
}

/// An offset of -1 means the position, as preadv2(2) has it.
pub fn preadv2(
    call: &Call<'_>,
    fd: c_int,
    iov: *const libc::iovec,
    n: c_int,
    offset: i64,
    flags: c_int,
) -> Outcome {
    if offset < AT_POSITION {
        return Outcome::Through(Why::Unusual);
    }
    vector(call, Way::Read, fd, iov, n, offset, flags)
}

pub fn pwritev2(
    call: &Call<'_>,
    fd: c_int,
    iov: *const libc::iovec,
    n: c_int,
    offset: i64,
    flags: c_int,
) -> Outcome {
    if offset < AT_POSITION {
        return Outcome::Through(Why::Unusual);
    }
    vector(call, Way::Write, fd, iov, n, offset, flags)
}
