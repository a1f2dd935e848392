//! The resolver's settings, `_res`, which libc keeps for each thread. All fibers use those of the
//! main thread, so that a fiber's settings hold for the fibers that it starts, whichever worker
//! runs them. A thread that had settings of its own before it was attached keeps them.
//!
//! libc finds the settings of a thread through a thread-local pointer, `__resp`. An attached thread
//! gets the main thread's pointer; the main thread's settings are in static memory.

use std::ffi::{CStr, c_int, c_ulong, c_void};
use std::ptr::null_mut;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

/// The beginning of `struct __res_state` of <resolv.h>.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Settings {
    retrans: c_int,
    retry: c_int,
    pub options: c_ulong,
}

/// Flag in [`Settings::options`]: the settings have been read or made.
pub const RES_INIT: c_ulong = 1;

const NAME: &CStr = c"__resp";
const VERSION: &CStr = c"GLIBC_PRIVATE";

/// The main thread's settings; null if they were not found.
static OF_MAIN: AtomicPtr<Settings> = AtomicPtr::new(null_mut());

/// Where a thread's pointer is, relative to its pthread_t.
static OFFSET: AtomicUsize = AtomicUsize::new(0);

/// Finds the pointer. Call it on the main thread. Not done when a thread attaches, because another
/// thread may hold the loader's lock while it waits to attach.
pub fn bind() {
    // SAFETY: looks up a thread-local variable of the calling thread by name.
    let pointer = unsafe { libc::dlvsym(libc::RTLD_DEFAULT, NAME.as_ptr(), VERSION.as_ptr()) };
    let pointer = pointer.cast::<*mut Settings>();
    let is_main = rustix::thread::gettid() == rustix::process::getpid();
    // SAFETY: null, or the calling thread's variable.
    if let Some(of_main) = unsafe { pointer.as_ref() }.filter(|_| is_main) {
        OFFSET.store(pointer.addr().wrapping_sub(own_thread()), Ordering::Relaxed);
        OF_MAIN.store(*of_main, Ordering::Release);
    }
}

fn own_thread() -> usize {
    // SAFETY: the function has no preconditions.
    unsafe { libc::pthread_self() as usize }
}

/// The settings that an attached thread had before.
pub struct OwnSettings(*mut Settings);

impl OwnSettings {
    /// Gives the calling thread the main thread's settings, unless it has its own.
    pub fn replace() -> Self {
        let of_main = OF_MAIN.load(Ordering::Acquire);
        let pointer = pointer();
        if of_main.is_null() || pointer.is_null() {
            return Self(null_mut());
        }
        // SAFETY: the calling thread's pointer, and the settings that it points to.
        unsafe {
            let own = *pointer;
            if own.is_null() || own == of_main || (*own).options & RES_INIT != 0 {
                return Self(null_mut());
            }
            *pointer = of_main;
            Self(own)
        }
    }

    /// Gives the calling thread its own settings back: libc frees them when it ends.
    pub fn restore(&mut self) {
        let own = std::mem::replace(&mut self.0, null_mut());
        if !own.is_null() {
            // SAFETY: the calling thread's pointer, which `replace` has found.
            unsafe { *pointer() = own };
        }
    }
}

/// The calling thread's pointer. The variable has a fixed place in each thread.
fn pointer() -> *mut *mut Settings {
    match OFFSET.load(Ordering::Relaxed) {
        0 => null_mut(),
        offset => {
            let address = own_thread().wrapping_add(offset);
            std::ptr::with_exposed_provenance_mut::<c_void>(address).cast()
        }
    }
}
