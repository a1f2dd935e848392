//! The C side: the table and the functions of shim/include/aioshim.h, found at run time.

use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::mem::MaybeUninit;
use std::sync::OnceLock;

/// `aioshim_thread_t`.
#[repr(C)]
pub struct RawThread {
    _opaque: [u8; 0],
}

/// `aioshim_values_t`.
#[repr(C)]
pub struct Values {
    pub words: [MaybeUninit<usize>; 8],
}

/// `aioshim_host_t` of version 2. Callbacks that this crate does not offer are never set.
#[repr(C)]
pub struct Table {
    pub size: usize,
    pub running: extern "C" fn(*mut c_void) -> *mut c_void,
    pub park: extern "C" fn(*mut c_void),
    pub unpark: extern "C" fn(*mut c_void, *mut c_void),
    pub runnable: extern "C" fn(*mut c_void) -> c_uint,
    pub wake: extern "C" fn(*mut c_void),
    pub alone: Option<extern "C" fn(*mut c_void) -> c_int>,
    pub watch: Option<extern "C" fn(*mut c_void, *mut c_void)>,
    pub name: Option<extern "C" fn(*mut c_void, *const c_void, *mut c_char, usize) -> usize>,
    pub cancelled: Option<extern "C" fn(*mut c_void)>,
    pub keeps_runtimes: c_int,
    pub flags: u64,
    pub r#yield: Option<extern "C" fn(*mut c_void)>,
    pub library: *const c_char,
    pub counts: Option<extern "C" fn(*mut c_void, *mut c_void)>,
}

/// Declares the functions of the library: a field for each, and how it is looked up.
macro_rules! functions {
    (
        required { $($field:ident: $type:ty = $name:literal,)* }
        optional { $($later:ident: $may:ty = $last:literal,)* }
    ) => {
        /// The functions of aioshim.h. A library that lacks a required one counts as absent.
        pub struct Functions {
            $(pub $field: $type,)*
            $(pub $later: Option<$may>,)*
        }

        impl Functions {
            fn find() -> Option<Self> {
                // SAFETY: the names and types are those of aioshim.h.
                unsafe {
                    Some(Self {
                        $($field: look_up::<$type>($name)?,)*
                        $($later: look_up::<$may>($last),)*
                    })
                }
            }
        }
    };
}

type Thread = *mut RawThread;

functions! {
    required {
        version: extern "C" fn() -> c_uint = c"aioshim_version",
        attach: extern "C" fn(*const Table, *mut c_void, *mut Thread) -> c_int = c"aioshim_attach",
        detach: extern "C" fn(Thread) -> c_int = c"aioshim_detach",
        poll: extern "C" fn(Thread, i64) -> c_int = c"aioshim_poll",
        wake: extern "C" fn(Thread) = c"aioshim_wake",
        in_flight: extern "C" fn(Thread) -> usize = c"aioshim_in_flight",
        describe: extern "C" fn(Thread, *const c_void, *mut c_char, usize) -> usize
            = c"aioshim_describe",
    }
    optional {
        prepare: extern "C" fn(Thread) = c"aioshim_prepare",
        cancel: extern "C" fn(Thread, *const c_void) -> c_int = c"aioshim_cancel",
        expire: extern "C" fn(Thread, *const c_void) -> c_int = c"aioshim_expire",
        features: extern "C" fn() -> u64 = c"aioshim_features",
        fd: extern "C" fn(Thread) -> c_int = c"aioshim_fd",
        arm: extern "C" fn(Thread) -> i64 = c"aioshim_arm",
        watch_fd: extern "C" fn(Thread, c_int, u32) -> c_int = c"aioshim_watch_fd",
        ended: extern "C" fn(Thread, *mut c_void) = c"aioshim_ended",
        save: extern "C" fn(Thread, *mut Values) = c"aioshim_save",
        restore: extern "C" fn(Thread, *const Values) = c"aioshim_restore",
        all_blocked: extern "C" fn(Thread) -> c_int = c"aioshim_all_blocked",
    }
}

/// The functions of the library, if it is preloaded.
pub fn functions() -> Option<&'static Functions> {
    static FOUND: OnceLock<Option<Functions>> = OnceLock::new();
    FOUND.get_or_init(Functions::find).as_ref()
}

/// Looks up a function of the library.
///
/// # Safety
/// `F` is the function pointer type of the function `name`.
unsafe fn look_up<F: Copy>(name: &CStr) -> Option<F> {
    const { assert!(size_of::<F>() == size_of::<*mut c_void>()) };
    // SAFETY: dlsym only looks the name up.
    let symbol = unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) };
    // SAFETY: the caller guarantees that the symbol is a function of type `F`.
    (!symbol.is_null()).then(|| unsafe { std::mem::transmute_copy(&symbol) })
}
