//! Functions whose library is loaded after the shim has bound its rows.
//!
//! Before glibc 2.34 some rows' functions are not in libc.so.6 but in libraries beside it. A
//! program that is not linked to one of these gets it later, through a plugin that it opens with
//! dlopen(3). The plugin's calls reach the shim's rows all the same, and RTLD_NEXT does not find
//! the functions behind them: a plugin's libraries are in its own scope.

use std::ffi::{CStr, c_char};

/// The libraries of old glibc that have functions of the table. The shim itself needs libpthread
/// and libdl.
const LIBRARIES: [&CStr; 4] = [
    c"librt.so.1",
    c"libresolv.so.2",
    c"libanl.so.1",
    c"libutil.so.1",
];

/// The function `name`, which ends with a NUL, of one of [`LIBRARIES`] that is loaded by now. The
/// library stays loaded from then on, as the row keeps its address.
pub(super) fn find(name: &'static str) -> Option<*mut ()> {
    let name = name.as_ptr().cast::<c_char>();
    let found = LIBRARIES.iter().find_map(|library| {
        // SAFETY: C strings; with RTLD_NOLOAD nothing is loaded, and so no constructor runs.
        unsafe {
            let handle = libc::dlopen(library.as_ptr(), libc::RTLD_LAZY | libc::RTLD_NOLOAD);
            if handle.is_null() {
                return None;
            }
            let function = libc::dlsym(handle, name);
            if function.is_null() {
                libc::dlclose(handle);
                return None;
            }
            Some(function.cast())
        }
    });
    // A search in vain leaves an error, which the program would be told of.
    // SAFETY: takes this thread's error.
    unsafe { libc::dlerror() };
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_library_that_is_not_loaded_has_nothing() {
        assert_eq!(find("no_such_function\0"), None);
        // SAFETY: takes this thread's error.
        assert!(unsafe { libc::dlerror() }.is_null());
    }
}
