//! The C++ ABI's guards, which initialise a function's static variable once. A fiber that needs the
//! variable while another fiber initialises it waits, as a thread would.
//!
//! The C++ library's own functions cannot tell the fibers of one thread apart: the second fiber
//! would get `recursive_init_error`. The functions here wait through the hook of futex(2), on a
//! fiber and off. They are not rows of the table, because they are not part of libc.
//!
//! A guard's first byte says whether the variable is initialised; compiled code checks it directly.
//! The other bits are those of libstdc++, for libraries that have its functions linked in. The
//! upper half identifies the owner; it distinguishes an initialiser that uses its own variable from
//! another fiber that waits.

use crate::context;
use crate::hooks;
use crate::runtime::thread::Thread;
use std::ffi::{c_int, c_long, c_void};
use std::sync::atomic::{AtomicU32, Ordering};
use sys::errno;

/// The variable is initialised.
const DONE: u32 = 1;
/// Some fiber or thread is initialising the variable.
const PENDING: u32 = 1 << 8;
/// The variable is being initialised, and others wait for it.
const WAITED_FOR: u32 = 1 << 16;

/// `__guard` of the C++ ABI, 64 bits.
#[repr(C, align(8))]
pub struct Guard {
    state: AtomicU32,
    owner: AtomicU32,
}

/// A number that identifies the calling fiber or thread.
fn caller() -> u32 {
    let fiber = Thread::current().map_or(0, |thread| thread.host().running().addr());
    let caller = if fiber == 0 {
        context::exceptions().addr()
    } else {
        fiber
    };
    // Both kinds of addresses differ by at least 16.
    (caller >> 4) as u32
}

fn address(guard: &Guard) -> c_long {
    (&raw const guard.state).expose_provenance() as c_long
}

/// Waits while the guard's state is `value`; may wake spuriously. Keeps errno.
fn wait(guard: &Guard, value: u32) {
    let errno = errno::get();
    if !hooks::park_in_futex(address(guard), value) {
        // SAFETY: the guard is the program's static data. The futex is not private, because
        // libstdc++ wakes it as a shared one.
        unsafe { hooks::call_futex(address(guard), libc::FUTEX_WAIT, c_long::from(value)) };
    }
    errno::set(errno);
}

/// Wakes all waiting fibers and threads.
fn wake(guard: &Guard) {
    let errno = errno::get();
    for operation in [
        libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG,
        libc::FUTEX_WAKE,
    ] {
        // SAFETY: the guard is the program's static data.
        unsafe { hooks::call_futex(address(guard), operation, c_long::from(i32::MAX)) };
    }
    errno::set(errno);
}

/// Returns 1 if the caller must initialise the variable, 0 once it is initialised. May park.
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

/// Marks the variable as initialised.
#[unsafe(no_mangle)]
pub extern "C" fn __cxa_guard_release(guard: &Guard) {
    end(guard, DONE);
}

/// Called when an exception left the initialiser: the next caller tries again.
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

/// Handles an initialiser that uses its own variable. C++ leaves this undefined, so the C++ library
/// decides what happens.
#[cold]
fn came_back(guard: &Guard) -> c_int {
    type Acquire = extern "C" fn(&Guard) -> c_int;
    // SAFETY: looks a function up by name.
    let next = unsafe { libc::dlsym(libc::RTLD_NEXT, c"__cxa_guard_acquire".as_ptr()) };
    if next.is_null() {
        crate::state::log::say(
            format::options::Level::Error,
            format_args!(
                "a static variable's initialiser uses the variable itself and would never finish"
            ),
        );
        std::process::abort();
    }
    // SAFETY: the function of this name has this type in the C++ ABI. It throws, or waits forever.
    let next = unsafe { std::mem::transmute::<*mut c_void, Acquire>(next) };
    next(guard)
}
