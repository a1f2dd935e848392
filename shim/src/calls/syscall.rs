//! syscall(2), libc's function for any system call: handles the calls that have no row of their
//! own. The hooks of the rows make the others ([`crate::hooks`]).

use super::locks::futex;
use super::{Verdict, clone, thread_state};
use crate::runtime::call::Call;
use policy::Reason;
use std::ffi::c_long;

type Number = c_long;

/// A system call on a fiber that has no row of its own ([`crate::hooks`]). The row is `uncharged`:
/// the io_uring crate and std make their system calls through syscall(2), in the middle of the
/// shim's own work, where no other fiber may run.
#[expect(clippy::too_many_arguments, reason = "as many as the C function has")]
pub fn dispatch(
    call: &Call<'_>,
    number: Number,
    a: c_long,
    b: c_long,
    c: c_long,
    d: c_long,
    e: c_long,
    f: c_long,
) -> Verdict {
    if !call.thread.conversion().includes_locks() {
        return Verdict::PassThrough(Reason::Quick);
    }
    if number == libc::SYS_futex {
        return futex::futex(call, [a, b, c, d, e, f]);
    }
    futex::wait_of_futex2(call, number, [a, b, c, d, e, f])
        .unwrap_or(Verdict::PassThrough(Reason::Quick))
}

fn makes_child(number: Number) -> bool {
    #[cfg(target_arch = "x86_64")]
    if number == libc::SYS_fork {
        return true;
    }
    matches!(number, libc::SYS_clone | libc::SYS_clone3)
}

pub type Syscall =
    unsafe extern "C" fn(c_long, c_long, c_long, c_long, c_long, c_long, c_long) -> c_long;

/// A system call that the kernel handles, on a fiber or off.
#[inline(always)]
#[expect(clippy::too_many_arguments, reason = "as many as the C function has")]
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
    if futex::may_wake(number) {
        // SAFETY: libc's own function, with its caller's arguments.
        return unsafe { wake(real, number, [a, b, c, d, e, f]) };
    }
    if thread_state::is_change(number) {
        // SAFETY: libc's own function, with its caller's arguments.
        return unsafe { thread_state::by_number(real, number, [a, b, c, d, e, f]) };
    }
    if makes_child(number) {
        // SAFETY: our caller guarantees what the system call requires.
        return unsafe { clone::by_number(real, number, [a, b, c, d, e, f]) };
    }
    // SAFETY: libc's own function, with its caller's arguments.
    unsafe { real(number, a, b, c, d, e, f) }
}

/// A futex call, which may have to wake fibers.
///
/// # Safety
/// The requirements of the system call apply.
#[inline(never)]
unsafe fn wake(real: Syscall, number: Number, mut arguments: futex::Arguments) -> c_long {
    let woken = futex::wake_fibers(number, &mut arguments);
    if woken.is_enough {
        return woken.n;
    }
    let [a, b, c, d, e, f] = arguments;
    // SAFETY: libc's own function, with its caller's arguments.
    let result = unsafe { real(number, a, b, c, d, e, f) };
    if result < 0 && woken.n > 0 {
        woken.n
    } else {
        result + woken.n
    }
}
