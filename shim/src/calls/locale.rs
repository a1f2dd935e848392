//! uselocale(3): each fiber has its own locale, rather than each thread
//! ([`crate::runtime::language`]).

use crate::runtime::thread::Thread;

/// Runs on a fiber and off.
pub fn uselocale(
    real: unsafe extern "C" fn(libc::locale_t) -> libc::locale_t,
    new: libc::locale_t,
) -> libc::locale_t {
    // SAFETY: libc's own function, with its caller's arguments.
    let old = unsafe { real(new) };
    if let Some(thread) = Thread::current()
        && !new.is_null()
        && !old.is_null()
    {
        thread.runtimes().use_locale(new);
    }
    old
}
