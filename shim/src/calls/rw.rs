//! read(2), write(2) and their variants, as C calls them: the arguments of each become one transfer
//! ([`super::transfer`]), of one buffer or a vector, at an offset or at the current position.

use super::Verdict;
use super::transfer::transfer;
use crate::engine::{Data, Direction, MAX_COUNT, Transfer};
use crate::runtime::call::Call;
use crate::runtime::position;
use crate::state::attached;
use crate::state::descriptors::Descriptor;
use policy::{Contention, Decision, Load, Reason};
use std::ffi::{c_int, c_void};
use sys::AT_POSITION;

/// The flags of preadv2 and pwritev2 that mean the same in io_uring.
const PLAIN_FLAGS: c_int = libc::RWF_DSYNC | libc::RWF_SYNC | libc::RWF_APPEND;

/// The end of a program's address space with four-level page tables. The kernel immediately rejects
/// buffers that extend beyond it.
const END_OF_MEMORY: usize = (1 << 47) - 4096;

#[inline(always)]
fn buffer(
    call: &Call<'_>,
    direction: Direction,
    fd: c_int,
    data: *const c_void,
    n: usize,
    offset: i64,
) -> Verdict {
    // Inline attempts use the vectored calls, which return early for zero bytes where a plain call
    // does not.
    if n == 0 {
        return Verdict::PassThrough(Reason::Unusual);
    }
    if n > MAX_COUNT {
        return huge_buffer(call, direction, fd, data, n, offset);
    }
    sized_buffer(call, direction, fd, data, n, offset)
}

/// A buffer longer than the kernel transfers in one call. It is truncated as the kernel does,
/// provided that the whole buffer lies within the address space.
#[cold]
#[inline(never)]
fn huge_buffer(
    call: &Call<'_>,
    direction: Direction,
    fd: c_int,
    data: *const c_void,
    n: usize,
    offset: i64,
) -> Verdict {
    if data
        .addr()
        .checked_add(n)
        .is_none_or(|end| end > END_OF_MEMORY)
    {
        return Verdict::PassThrough(Reason::Unusual);
    }
    sized_buffer(call, direction, fd, data, MAX_COUNT, offset)
}

#[inline(always)]
fn sized_buffer(
    call: &Call<'_>,
    direction: Direction,
    fd: c_int,
    data: *const c_void,
    n: usize,
    offset: i64,
) -> Verdict {
    let load = call.load();
    let wanted = || Transfer {
        direction,
        fd,
        data: Data::Buffer(data.cast_mut().cast(), n as u32),
        offset,
        flags: 0,
        direct: false,
        cold: false,
    };
    if delays_nobody(load, fd, offset == AT_POSITION) {
        note_lone(call, wanted);
        return Verdict::PassThrough(Reason::Alone);
    }
    transfer(call, load, wanted())
}

fn vector(
    call: &Call<'_>,
    direction: Direction,
    fd: c_int,
    iov: *const libc::iovec,
    n: c_int,
    at: i64,
    flags: c_int,
) -> Verdict {
    if flags & libc::RWF_NOWAIT != 0 {
        return Verdict::PassThrough(Reason::Nonblocking);
    }
    if !(0..=libc::UIO_MAXIOV).contains(&n) || flags & !PLAIN_FLAGS != 0 {
        return Verdict::PassThrough(Reason::Unusual);
    }
    let load = call.load();
    let wanted = || Transfer {
        direction,
        fd,
        data: Data::Vector(iov, n as u32),
        offset: at,
        flags,
        direct: false,
        cold: false,
    };
    if delays_nobody(load, fd, at == AT_POSITION) {
        note_lone(call, wanted);
        return Verdict::PassThrough(Reason::Alone);
    }
    transfer(call, load, wanted())
}

/// Records in the trace a plain call for which the policy was not consulted.
#[inline(always)]
fn note_lone(call: &Call<'_>, transfer: impl Fn() -> Transfer) {
    call.note(|record| {
        let transfer = &transfer();
        let descriptor = Descriptor::get(transfer.fd);
        record.set_transfer(
            transfer,
            descriptor,
            descriptor.hint(),
            Decision::PassThrough(Reason::Alone),
        );
    });
}

/// The policy's first rule, checked before anything else. It does not apply while any position turn
/// is held, because the call might then have to wait.
///
/// A plain call at the position takes no turn, which is only safe if no other thread is attached. A
/// fiber of another thread could read the position before this call moves it, and then transfer at
/// the same offset.
#[inline(always)]
fn delays_nobody(load: Load, fd: c_int, at_position: bool) -> bool {
    let suffices = match load.contention {
        Contention::OthersRunnable => false,
        Contention::NoneNow => {
            let known =
                Descriptor::known(fd).is_some_and(|d| load.contention.allows_plain_call(d.hint()));
            known && !(at_position && attached::other_threads())
        }
        Contention::SoleFiber => true,
    };
    suffices && !position::in_use()
}

/// Whether pread(2) or pwrite(2) rejects the offset: the kernel refuses a negative one, which would
/// mean the current position here.
fn refuses(offset: i64) -> bool {
    offset < 0
}

#[inline(always)]
pub fn read(call: &Call<'_>, fd: c_int, buf: *mut c_void, n: usize) -> Verdict {
    buffer(call, Direction::Read, fd, buf, n, AT_POSITION)
}

/// `__read_chk`: libc's own call ends the program if the object is too small.
pub fn read_chk(call: &Call<'_>, fd: c_int, buf: *mut c_void, n: usize, object: usize) -> Verdict {
    if n > object {
        Verdict::PassThrough(Reason::Unusual)
    } else {
        read(call, fd, buf, n)
    }
}

#[inline(always)]
pub fn write(call: &Call<'_>, fd: c_int, buf: *const c_void, n: usize) -> Verdict {
    buffer(call, Direction::Write, fd, buf, n, AT_POSITION)
}

#[inline(always)]
pub fn pread(call: &Call<'_>, fd: c_int, buf: *mut c_void, n: usize, offset: i64) -> Verdict {
    if refuses(offset) {
        Verdict::PassThrough(Reason::Unusual)
    } else {
        buffer(call, Direction::Read, fd, buf, n, offset)
    }
}

pub fn pread_chk(
    call: &Call<'_>,
    fd: c_int,
    buf: *mut c_void,
    n: usize,
    offset: i64,
    object: usize,
) -> Verdict {
    if n > object {
        Verdict::PassThrough(Reason::Unusual)
    } else {
        pread(call, fd, buf, n, offset)
    }
}

#[inline(always)]
pub fn pwrite(call: &Call<'_>, fd: c_int, buf: *const c_void, n: usize, offset: i64) -> Verdict {
    if refuses(offset) {
        Verdict::PassThrough(Reason::Unusual)
    } else {
        buffer(call, Direction::Write, fd, buf, n, offset)
    }
}

/// eventfd_read(3).
pub fn eventfd_read(call: &Call<'_>, fd: c_int, value: *mut c_void) -> Verdict {
    whole_count(read(call, fd, value, size_of::<u64>()))
}

/// eventfd_write(3).
pub fn eventfd_write(call: &Call<'_>, fd: c_int, value: u64) -> Verdict {
    whole_count(write(call, fd, (&raw const value).cast(), size_of::<u64>()))
}

/// Returns 0 if all bytes were transferred, -1 if fewer were.
fn whole_count(outcome: Verdict) -> Verdict {
    match outcome {
        Verdict::Done(n) => Verdict::Done(if n == size_of::<u64>() as isize {
            0
        } else {
            -1
        }),
        outcome => outcome,
    }
}

pub fn readv(call: &Call<'_>, fd: c_int, iov: *const libc::iovec, n: c_int) -> Verdict {
    vector(call, Direction::Read, fd, iov, n, AT_POSITION, 0)
}

pub fn writev(call: &Call<'_>, fd: c_int, iov: *const libc::iovec, n: c_int) -> Verdict {
    vector(call, Direction::Write, fd, iov, n, AT_POSITION, 0)
}

pub fn preadv(
    call: &Call<'_>,
    fd: c_int,
    iov: *const libc::iovec,
    n: c_int,
    offset: i64,
) -> Verdict {
    if refuses(offset) {
        Verdict::PassThrough(Reason::Unusual)
    } else {
        vector(call, Direction::Read, fd, iov, n, offset, 0)
    }
}

pub fn pwritev(
    call: &Call<'_>,
    fd: c_int,
    iov: *const libc::iovec,
    n: c_int,
    offset: i64,
) -> Verdict {
    if refuses(offset) {
        Verdict::PassThrough(Reason::Unusual)
    } else {
        vector(call, Direction::Write, fd, iov, n, offset, 0)
    }
}

/// An offset of -1 means the current position, as in preadv2(2).
pub fn preadv2(
    call: &Call<'_>,
    fd: c_int,
    iov: *const libc::iovec,
    n: c_int,
    offset: i64,
    flags: c_int,
) -> Verdict {
    if offset < AT_POSITION {
        return Verdict::PassThrough(Reason::Unusual);
    }
    vector(call, Direction::Read, fd, iov, n, offset, flags)
}

pub fn pwritev2(
    call: &Call<'_>,
    fd: c_int,
    iov: *const libc::iovec,
    n: c_int,
    offset: i64,
    flags: c_int,
) -> Verdict {
    if offset < AT_POSITION {
        return Verdict::PassThrough(Reason::Unusual);
    }
    vector(call, Direction::Write, fd, iov, n, offset, flags)
}
