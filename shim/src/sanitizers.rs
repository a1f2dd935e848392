//! What the runtimes of gcc's and clang's sanitizers ask the program for. They take the first
//! definition that the loader finds: the program's own, else the one of this library, which is
//! preloaded before theirs.

use std::ffi::c_char;

/// Whether ThreadSanitizer watches this process. It has to see every lock that is taken, and which
/// thread joins which: so locks are left to it and libc.
pub fn watches_locks() -> bool {
    // SAFETY: a C string.
    !unsafe { libc::dlsym(libc::RTLD_DEFAULT, c"__tsan_init".as_ptr()) }.is_null()
}

/// AddressSanitizer need not come first: this library defines no function that allocates memory.
#[unsafe(no_mangle)]
pub extern "C" fn __asan_default_options() -> *const c_char {
    c"verify_asan_link_order=0".as_ptr()
}

/// ThreadSanitizer does not see what this library synchronizes by, and would take every hand-over
/// between its threads for a race.
#[unsafe(no_mangle)]
pub extern "C" fn __tsan_default_suppressions() -> *const c_char {
    c"race:libaioshim.so\n".as_ptr()
}
