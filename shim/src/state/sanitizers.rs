//! Which sanitizers watch this process.

/// Whether ThreadSanitizer watches this process. It must see every lock and every join of a thread,
/// so the shim leaves locks to it and to libc.
pub fn watches_locks() -> bool {
    // SAFETY: the name is a C string.
    !unsafe { libc::dlsym(libc::RTLD_DEFAULT, c"__tsan_init".as_ptr()) }.is_null()
}
