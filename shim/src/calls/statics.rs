//! The C++ ABI's guards, by which a static variable of a function is initialised once: a fiber that
//! comes while another initialises the variable waits for it, as a thread does.
//!
//! The C++ library's own functions take all fibers of a thread for one: the second gets
//! `recursive_init_error`. These wait by the hook of futex(2), on a fiber and off. They are no rows
//! of the table, for they are not libc's.
//!
//! A guard's first byte says that the variable is initialised: compiled code looks at that by
//! itself. The other bits are those of libstdc++, for a library that has its functions built in.
//! The upper half names the owner, by which an initialiser that comes back to its own variable is
//! told from one that waits.

use crate::errno;
use crate::hooks;
use crate::tls;
use std::ffi::{c_int, c_long, c_void};
use std::sync::atomic::{AtomicU32, Ordering};

/// The variable is initialised.
const DONE: u32 = 1;
/// Somebody is initialising it.
const PENDING: u32 = 1 << 8;
/// The same, and others wait.
const WAITED_FOR: u32 = 1 << 16;

/// `__guard` of the C++ ABI, 64 bits.
#[repr(C, align(8))]
pub struct Guard {
    state: AtomicU32,
    owner: AtomicU32,
}

/// A number for the calling fiber or thread.
fn caller() -> u32 {
    // SAFETY: a thread stays attached while code of its fibers runs.
    let fiber = unsafe { tls::here().as_ref() }.map_or(0, |thread| thread.host().running().addr());
    let caller = if fiber == 0 {
        tls::exceptions().addr()
    } else {
        fiber
    };
    // Both are at least so far apart.
    (caller >> 4) as u32
}

fn address(guard: &Guard) -> c_long {
    (&raw const guard.state).expose_provenance() as c_long
}

/// Waits while the guard's state is `value`, or less; errno is kept.
fn wait(guard: &Guard, value: u32) {
    let errno = errno::get();
    if !hooks::park_in_futex(address(guard), value) {
        // SAFETY: the guard is the program's, and stays. Not private: libstdc++ wakes so.
        unsafe { hooks::call_futex(address(guard), libc::FUTEX_WAIT, c_long::from(value)) };
    }
    errno::set(errno);
}

/// Wakes all who wait: fibers, and threads.
fn wake(guard: &Guard) {
    let errno = errno::get();
    for operation in [
        libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG,
        libc::FUTEX_WAKE,
    ] {
        // SAFETY: as in `wait`.
        unsafe { hooks::call_futex(address(guard), operation, c_long::from(i32::MAX)) };
    }
    errno::set(errno);
}

/// 1 if the caller is to initialise the variable, 0 once it is initialised. May park.
#[unsafe(no_mangle)]
pub extern "C" fn __cxa_guard_acquire(guard: &Guard) -> c_int {
    let mut state = guard.state.load(Ordering::Acquire);
    loop {
        if state & DONE != 0 {
            return 0;
        }
        let next = if state == 0 {
            PENDING
        } else {
            PENDING | WAITED_FOR
        };
        if state != 0 && guard.owner.load(Ordering::Relaxed) == caller() {
            return came_back(guard);
        }
        match guard
            .state
            .compare_exchange(state, next, Ordering::AcqRel, Ordering::Acquire)
        {
            Ok(0) => {
                guard.owner.store(caller(), Ordering::Relaxed);
                return 1;
            }
            Ok(_) => {
                wait(guard, next);
                state = guard.state.load(Ordering::Acquire);
            }
            Err(now) => state = now,
        }
    }
}

/// The variable is initialised.
#[unsafe(no_mangle)]
pub extern "C" fn __cxa_guard_release(guard: &Guard) {
    end(guard, DONE);
}

/// An exception left the initialiser: the next to come tries again.
#[unsafe(no_mangle)]
pub extern "C" fn __cxa_guard_abort(guard: &Guard) {
    end(guard, 0);
}

fn end(guard: &Guard, state: u32) {
    guard.owner.store(0, Ordering::Relaxed);
    if guard.state.swap(state, Ordering::SeqCst) & WAITED_FOR != 0 {
        wake(guard);
    }
}

/// The initialiser came back to its own variable: undefined in C++, and whatever the C++ library
/// makes of it.
#[cold]
fn came_back(guard: &Guard) -> c_int {
    type Acquire = extern "C" fn(&Guard) -> c_int;
    // SAFETY: a look-up by name.
    let next = unsafe { libc::dlsym(libc::RTLD_NEXT, c"__cxa_guard_acquire".as_ptr()) };
    if next.is_null() {
        crate::log::say(
            crate::conf::Level::Error,
            format_args!(
                "the initialiser of a static variable used the variable itself; it would wait for ever"
            ),
        );
        std::process::abort();
    }
    // SAFETY: the C++ ABI's type of the function of this name. It throws, or waits for ever.
    let next = unsafe { std::mem::transmute::<*mut c_void, Acquire>(next) };
    next(guard)
}
