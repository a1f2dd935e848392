//! Streams on fibers: which fiber is inside which stream, and what happens to a stream while its
//! fiber is parked.
//!
//! A fiber that enters a stream by one of its jump functions ([`visit`]) is recorded in
//! [`occupancy`]. When it parks, it leaves the stream for that time: [`parked`] marks the stream,
//! [`fast_path`] closes the parts of its buffer that could be used without a call, and [`lock`]
//! releases the lock. Other tasks that need the stream wait ([`waiting`]).

mod fast_path;
pub mod layout;
mod lock;
pub mod occupancy;
pub mod parked;
pub mod visit;
pub mod waiting;

use layout::{File, Slot};
use libc::FILE;
use once_cell::race::OnceBox;
use std::ffi::{c_char, c_int, c_void};
use std::mem::transmute;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, Ordering};

/// The next function of this name, which ends with a NUL.
fn find(name: &'static str) -> Option<NonNull<c_void>> {
    // SAFETY: a look-up by name.
    NonNull::new(unsafe { libc::dlsym(libc::RTLD_NEXT, name.as_ptr().cast()) })
}

/// libc functions that are called past our hooks of the same name, or that no header declares.
macro_rules! libc_functions {
    ($( $field:ident = $name:ident ( $($ty:ty),* ) $(-> $ret:ty)? ; )*) => {
        pub struct LibcStdio {
            $( pub $field: unsafe extern "C" fn($($ty),*) $(-> $ret)?, )*
        }

        impl LibcStdio {
            /// None if one is missing.
            fn find() -> Option<Self> {
                Some(Self {
                    $( $field: {
                        type Function = unsafe extern "C" fn($($ty),*) $(-> $ret)?;
                        let found = find(concat!(stringify!($name), "\0"))?;
                        // SAFETY: the type is that of libc's function of this name.
                        unsafe { transmute::<NonNull<c_void>, Function>(found) }
                    }, )*
                })
            }
        }
    };
}

libc_functions! {
    fopen = fopen(*const c_char, *const c_char) -> *mut FILE;
    freopen = freopen(*const c_char, *const c_char, *mut FILE) -> *mut FILE;
    fflush = fflush(*mut FILE) -> c_int;
    fcloseall = fcloseall() -> c_int;
    lock = flockfile(*mut c_void);
    try_lock = ftrylockfile(*mut c_void) -> c_int;
    unlock = funlockfile(*mut c_void);
    list_lock = _IO_list_lock();
    list_unlock = _IO_list_unlock();
    list_begin = _IO_iter_begin() -> *mut c_void;
    list_end = _IO_iter_end() -> *mut c_void;
    list_next = _IO_iter_next(*mut c_void) -> *mut c_void;
    list_file = _IO_iter_file(*mut c_void) -> *mut c_void;
}

static LIBC: OnceBox<LibcStdio> = OnceBox::new();

/// libc's functions. Call this only if stdio is converted.
pub fn libc_stdio() -> &'static LibcStdio {
    LIBC.get().expect("found before a table is changed")
}

static CONVERTED: AtomicBool = AtomicBool::new(false);

/// Whether stdio is converted.
pub fn is_converted() -> bool {
    CONVERTED.load(Ordering::Relaxed)
}

/// Finds libc's functions. Returns false if this libc lacks some of them.
pub fn find_functions() -> bool {
    LibcStdio::find().is_some_and(|functions| LIBC.set(Box::new(functions)).is_ok())
}

/// Notes that stdio calls the shim from now on.
pub fn note_converted() {
    CONVERTED.store(true, Ordering::Relaxed);
}

/// At the very end of exit(3), before libc flushes all streams: parked fibers will not resume.
#[used]
#[unsafe(link_section = ".fini_array")]
static AT_EXIT: extern "C" fn() = at_exit;

extern "C" fn at_exit() {
    parked::exiting();
}

/// Writes a stream's pending output, as fflush(NULL) does for each stream. Returns false if that
/// failed.
///
/// # Safety
/// The stream is open, and locked by this thread.
pub unsafe fn flush(file: *mut File) -> bool {
    // SAFETY: our caller makes the same promise; the table's slot has this type.
    unsafe {
        let function = (*file).jumps.add(Slot::Overflow as usize).read();
        let overflow: unsafe extern "C" fn(*mut File, c_int) -> c_int = transmute(function);
        overflow(file, libc::EOF) != libc::EOF
    }
}
