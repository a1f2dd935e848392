//! Formats code addresses for people: the object and the exported function that contain them.

use std::ffi::{CStr, c_void};

/// `libc.so.6 read+0x12`, or `program+0x1234` if there is no exported function nearby.
pub fn name_of(address: usize) -> String {
    let Some(found) = look_up(address) else {
        return format!("{address:#x}");
    };
    let text = |name: *const libc::c_char| {
        // SAFETY: the names that dladdr returns belong to loaded objects and are NUL-terminated.
        (!name.is_null()).then(|| unsafe { CStr::from_ptr(name) }.to_string_lossy())
    };
    let object = text(found.dli_fname).unwrap_or_default();
    let object = object.rsplit('/').next().unwrap_or_default();
    match text(found.dli_sname) {
        Some(name) => format!("{object} {name}+{:#x}", address - found.dli_saddr as usize),
        None => format!("{object}+{:#x}", address - found.dli_fbase as usize),
    }
}

/// The start of the function that contains `address`, exported or not, as the unwinder knows it;
/// `address` itself if there is none.
pub fn function_of(address: usize) -> usize {
    unsafe extern "C" {
        fn _Unwind_FindEnclosingFunction(address: *mut c_void) -> *mut c_void;
    }
    // SAFETY: this only looks up the address.
    match unsafe { _Unwind_FindEnclosingFunction(address as *mut c_void) } as usize {
        0 => address,
        begin => begin,
    }
}

fn look_up(address: usize) -> Option<libc::Dl_info> {
    let mut found = std::mem::MaybeUninit::<libc::Dl_info>::zeroed();
    // SAFETY: this only looks up the address, and fills a Dl_info of zeroes, which is a valid one.
    unsafe {
        let known = libc::dladdr(address as *const c_void, found.as_mut_ptr()) != 0;
        known.then(|| found.assume_init())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_have_names() {
        let name = name_of(libc::getpid as *const () as usize);
        assert!(
            name.contains("libc") && name.contains("getpid+0x0"),
            "{name}"
        );
        assert_eq!(name_of(16), "0x10");
        let begin = addresses_have_names as *const () as usize;
        assert_eq!((function_of(begin + 5), function_of(16)), (begin, 16));
    }
}
