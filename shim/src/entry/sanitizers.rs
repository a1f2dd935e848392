//! The functions by which gcc's and clang's sanitizers ask the program for options. The loader uses
//! the first definition: the program's own if there is one, otherwise the one in this library,
//! which is preloaded before the sanitizers.

use std::ffi::c_char;

/// Lets AddressSanitizer's library come after this one, which defines no function that allocates
/// memory.
#[unsafe(no_mangle)]
pub extern "C" fn __asan_default_options() -> *const c_char {
    c"verify_asan_link_order=0".as_ptr()
}

/// ThreadSanitizer does not see how this library synchronizes its threads, and would report every
/// hand-over between them as a race.
#[unsafe(no_mangle)]
pub extern "C" fn __tsan_default_suppressions() -> *const c_char {
    c"race:libaioshim.so\n".as_ptr()
}
