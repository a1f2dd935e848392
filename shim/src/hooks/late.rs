//! Finds functions whose library was loaded after the shim bound its rows.
//!
//! Before glibc 2.34 the functions of some rows are not in libc.so.6 but in separate libraries. A
//! program that is not linked to such a library may still load it later through a plugin that it
//! opens with dlopen(3). The plugin's calls reach the shim's rows, but RTLD_NEXT does not find the
//! functions behind them, because a plugin's libraries are in a scope of their own.

use std::ffi::CStr;

/// The libraries of old glibc versions that have functions of the table. libpthread and libdl are
/// missing because the shim itself links to them.
const LIBRARIES: [&CStr; 4] = [
    c"librt.so.1",
    c"libresolv.so.2",
    c"libanl.so.1",
    c"libutil.so.1",
];

/// Finds the function `name` in those of [`LIBRARIES`] that are loaded by
/// now. The library stays loaded from then on, because the row keeps the function's address.
pub(super) fn find(name: &CStr) -> Option<*mut ()> {
    let found = LIBRARIES.iter().find_map(|library| {
        // SAFETY: both are C strings; RTLD_NOLOAD loads nothing, so no constructor runs.
        unsafe {
            let handle = libc::dlopen(library.as_ptr(), libc::RTLD_LAZY | libc::RTLD_NOLOAD);
            if handle.is_null() {
                return None;
            }
            let function = libc::dlsym(handle, name.as_ptr());
            if function.is_null() {
                libc::dlclose(handle);
                return None;
            }
            Some(function.cast())
        }
    });
    // A failed lookup leaves an error that the program's next dlerror(3) would report.
    // SAFETY: only clears this thread's error.
    unsafe { libc::dlerror() };
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_library_that_is_not_loaded_has_nothing() {
        assert_eq!(find(c"no_such_function"), None);
        // SAFETY: only clears this thread's error.
        assert!(unsafe { libc::dlerror() }.is_null());
    }
}
