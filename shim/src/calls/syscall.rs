//! syscall(2), libc's door to any system call: what blocks under its own name does so under its number.

use super::locks::futex;
use super::{Outcome, clone, file, locks, open, rw, sleep, thread_state};
use crate::call::Call;
use crate::fds;
use crate::policy::Why;
use crate::thread::Thread;
use std::ffi::{c_int, c_long};
use std::ptr::with_exposed_provenance_mut as pointer;

type Number = c_long;

/// Nothing is done at once, but nothing is charged for either: the io_uring crate and std make their system calls through
/// this function, in the middle of what is ours, where no other fiber may come in between.
#[inline(always)]
#[expect(clippy::too_many_arguments, reason = "so many has C's")]
pub fn uncharged(
    _: &Thread,
    _: Number,
    _: c_long,
    _: c_long,
    _: c_long,
    _: c_long,
    _: c_long,
    _: c_long,
) -> Option<c_long> {
    None
}

/// A system call on a fiber: as libc's function of its name.
#[expect(clippy::too_many_arguments, reason = "so many has C's")]
pub fn dispatch(
    call: &Call<'_>,
    number: Number,
    a: c_long,
    b: c_long,
    c: c_long,
    d: c_long,
    e: c_long,
    f: c_long,
) -> Outcome {
    if number == libc::SYS_futex && call.thread.converts_locks() {
        return futex::futex(call, [a, b, c, d, e, f]);
    }
    if number == libc::SYS_futex_waitv && call.thread.converts_locks() {
        return futex::waitv(call, [a, b, c, d, e, f]);
    }
    if !is_converted(number) {
        return Outcome::Through(Why::Quick);
    }
    call.give_way();
    let fd = a as c_int;
    match number {
        libc::SYS_read => rw::read(call, fd, pointer(b as usize), c as usize),
        libc::SYS_write => rw::write(call, fd, pointer(b as usize), c as usize),
        libc::SYS_pread64 => rw::pread(call, fd, pointer(b as usize), c as usize, d),
        libc::SYS_pwrite64 => rw::pwrite(call, fd, pointer(b as usize), c as usize, d),
        libc::SYS_readv => rw::readv(call, fd, pointer(b as usize), c as c_int),
        libc::SYS_writev => rw::writev(call, fd, pointer(b as usize), c as c_int),
        libc::SYS_preadv => rw::preadv(call, fd, pointer(b as usize), c as c_int, d),
        libc::SYS_pwritev => rw::pwritev(call, fd, pointer(b as usize), c as c_int, d),
        libc::SYS_preadv2 => rw::preadv2(call, fd, pointer(b as usize), c as c_int, d, f as c_int),
        libc::SYS_pwritev2 => rw::pwritev2(call, fd, pointer(b as usize), c as c_int, d, f as c_int),
        #[cfg(target_arch = "x86_64")]
        libc::SYS_open => open::open(call, pointer(a as usize), b as c_int, c as u32),
        libc::SYS_openat => open::openat(call, fd, pointer(b as usize), c as c_int, d as u32),
        libc::SYS_close => file::close(call, fd),
        libc::SYS_fsync => file::fsync(call, fd),
        libc::SYS_fdatasync => file::fdatasync(call, fd),
        libc::SYS_nanosleep => sleep::nanosleep(call, pointer(a as usize), pointer(b as usize)),
        libc::SYS_sched_yield => locks::spin::yield_now(call),
        _ => Outcome::Through(Why::Quick),
    }
}

/// Whether [`dispatch`] knows it. None of these is made by the shim itself in this way.
fn is_converted(number: Number) -> bool {
    #[cfg(target_arch = "x86_64")]
    if number == libc::SYS_open {
        return true;
    }
    matches!(
        number,
        libc::SYS_read
            | libc::SYS_write
            | libc::SYS_pread64
            | libc::SYS_pwrite64
            | libc::SYS_readv
            | libc::SYS_writev
            | libc::SYS_preadv
            | libc::SYS_pwritev
            | libc::SYS_preadv2
            | libc::SYS_pwritev2
            | libc::SYS_openat
            | libc::SYS_close
            | libc::SYS_fsync
            | libc::SYS_fdatasync
            | libc::SYS_nanosleep
            | libc::SYS_sched_yield
    )
}

fn makes_child(number: Number) -> bool {
    #[cfg(target_arch = "x86_64")]
    if number == libc::SYS_fork {
        return true;
    }
    matches!(number, libc::SYS_clone | libc::SYS_clone3)
}

pub type Syscall = unsafe extern "C" fn(c_long, c_long, c_long, c_long, c_long, c_long, c_long) -> c_long;

/// A system call that the kernel is to do, on a fiber or off.
#[inline(always)]
#[expect(clippy::too_many_arguments, reason = "so many has C's")]
pub unsafe fn plainly(
    real: Syscall,
    number: Number,
    a: c_long,
    b: c_long,
    c: c_long,
    d: c_long,
    e: c_long,
    f: c_long,
) -> c_long {
    if matches!(number, libc::SYS_futex | libc::SYS_close) {
        // SAFETY: libc's own function, with its caller's arguments.
        return unsafe { looked_at(real, number, [a, b, c, d, e, f]) };
    }
    if thread_state::is_change(number) {
        // SAFETY: libc's own function, with its caller's arguments.
        return unsafe { thread_state::by_number(real, number, [a, b, c, d, e, f]) };
    }
    if makes_child(number) {
        // SAFETY: as ours.
        return unsafe { clone::by_number(real, number, [a, b, c, d, e, f]) };
    }
    // SAFETY: libc's own function, with its caller's arguments.
    unsafe { real(number, a, b, c, d, e, f) }
}

/// One that others must hear of.
///
/// # Safety
/// As the system call's.
#[inline(never)]
unsafe fn looked_at(real: Syscall, number: Number, mut arguments: futex::Arguments) -> c_long {
    let mut woken = 0;
    if number == libc::SYS_futex {
        woken = futex::wake_fibers(&mut arguments);
        if woken > 0 && arguments[2] == 0 {
            return woken;
        }
    } else if let Some(fd) = fds::forget(arguments[0] as c_int)
        && fds::release(fd)
    {
        crate::errno::set(libc::EBADF);
        return -1;
    }
    let [a, b, c, d, e, f] = arguments;
    // SAFETY: libc's own function, with its caller's arguments.
    let result = unsafe { real(number, a, b, c, d, e, f) };
    if result < 0 && woken > 0 { woken } else { result + woken }
}
