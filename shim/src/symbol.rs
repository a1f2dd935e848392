//! Addresses of code as people read them: the object and the exported function they are in.

use std::ffi::{CStr, c_void};

/// `libc.so.6 read+0x12`, or `program+0x1234` where no exported function is near.
pub fn name_of(address: usize) -> String {
    let Some(found) = look_up(address) else {
        return format!("{address:#x}");
    };
    let text = |name: *const libc::c_char| {
        // SAFETY: dladdr's names are of objects that are loaded, and end in a NUL.
        (!name.is_null()).then(|| unsafe { CStr::from_ptr(name) }.to_string_lossy())
    };
    let object = text(found.dli_fname).unwrap_or_default();
    let object = object.rsplit('/').next().unwrap_or_default();
    match text(found.dli_sname) {
        Some(name) => format!("{object} {name}+{:#x}", address - found.dli_saddr as usize),
        None => format!("{object}+{:#x}", address - found.dli_fbase as usize),
    }
}

/// Where the function begins that `address` is in, exported or not, as the unwinder knows it;
/// itself where there is none.
pub fn function_of(address: usize) -> usize {
    unsafe extern "C" {
        fn _Unwind_FindEnclosingFunction(address: *mut c_void) -> *mut c_void;
    }
    // SAFETY: only looks the address up.
    match unsafe { _Unwind_FindEnclosingFunction(address as *mut c_void) } as usize {
        0 => address,
        begin => begin,
    }
}

fn look_up(address: usize) -> Option<libc::Dl_info> {
    let mut found = std::mem::MaybeUninit::<libc::Dl_info>::zeroed();
    // SAFETY: only looks the address up, and fills a Dl_info of zeroes, which is a valid one.
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
