//! The functions through which the C and C++ runtimes reach their state of a thread, which
//! worker/thread_state.rs keeps per fiber: `__cxa_get_globals` and uselocale(3).
//!
//! The C++ library calls `__cxa_get_globals` to find the thread's exceptions. This library defines
//! that function too, because dlopen may load the C++ library later. A look-up would not find the
//! definition there, but the calls in it are bound to the first definition in the global scope,
//! which is then ours. Whichever definition is first, the worker calls it once to find the address
//! of its thread's data.

use crate::arch::slots;
use crate::worker::current::on_fiber;
use crate::worker::thread_state::next_uselocale;
use core::ffi::c_void;

#[unsafe(no_mangle)]
pub(crate) extern "C" fn __cxa_get_globals() -> *mut c_void {
    slots::exceptions()
}

#[unsafe(no_mangle)]
pub(crate) extern "C" fn __cxa_get_globals_fast() -> *mut c_void {
    slots::exceptions()
}

/// uselocale(3), but the locale belongs to the calling fiber.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn uselocale(new: libc::locale_t) -> libc::locale_t {
    let old = next_uselocale(new);
    if !new.is_null()
        && !old.is_null()
        && let Ok(worker) = on_fiber()
    {
        worker.thread_state().set_locale(new);
    }
    old
}

/// The name under which the C++ library calls it.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn __uselocale(new: libc::locale_t) -> libc::locale_t {
    uselocale(new)
}
