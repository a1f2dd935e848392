//! Tells whether a call comes from inside a preloaded malloc, where a fiber must not park.
//!
//! jemalloc, tcmalloc and similar allocators keep part of their state per thread, change it in
//! several steps, and call pthread_mutex_lock(3) or a futex in between. If a fiber parked there,
//! the next fiber of its thread would find that state half changed. Therefore a fiber that is about
//! to park for a lock checks whether malloc is among its callers. libc's own malloc calls no hook
//! and needs no check. The allocators hold these locks only briefly and never across a park, so
//! blocking the thread is harmless.

use crate::state::loaded;
use std::ffi::{c_int, c_void};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// The names by which a program calls its malloc.
const ENTRIES: [&std::ffi::CStr; 11] = [
    c"malloc",
    c"free",
    c"calloc",
    c"realloc",
    c"posix_memalign",
    c"aligned_alloc",
    c"memalign",
    c"_Znwm",
    c"_Znam",
    c"_ZdlPv",
    c"_ZdlPvm",
];

/// The addresses of those functions; 0 for libc's own functions and for missing ones.
static STARTS: [AtomicUsize; ENTRIES.len()] = [const { AtomicUsize::new(0) }; ENTRIES.len()];
/// The begin and end of the code of a malloc that is a library of its own.
static LIBRARY: [AtomicUsize; 2] = [const { AtomicUsize::new(0) }; 2];

/// How many frames to search: the stacks inside a malloc are shallow.
const FRAMES: usize = 24;

/// Finds out which object the process's malloc is in, before any thread is attached.
pub fn find() {
    let [malloc, libc] = [c"malloc", c"gnu_get_libc_version"]
        .map(|name| Object::of(loaded::default_anyway(name) as usize));
    let (Some(malloc), Some(libc)) = (malloc, libc) else {
        return;
    };
    if malloc.base == libc.base {
        return;
    }
    for (name, start) in ENTRIES.iter().zip(&STARTS) {
        let function = loaded::default_anyway(name) as usize;
        if Object::of(function).is_some_and(|object| object.base == malloc.base) {
            start.store(function, Relaxed);
        }
    }
    // If the main program defines malloc, its other code must not count as malloc.
    if !malloc.is_main {
        LIBRARY[0].store(malloc.begin, Relaxed);
        LIBRARY[1].store(malloc.end, Relaxed);
    }
}

/// Whether malloc is among the callers of this function.
pub fn is_calling() -> bool {
    STARTS[0].load(Relaxed) != 0 && is_among_callers()
}

/// A loaded object, and its code that contains the address searched for.
struct Object {
    base: usize,
    begin: usize,
    end: usize,
    is_main: bool,
}

struct Search {
    address: usize,
    objects: usize,
    found: Option<Object>,
}

impl Object {
    /// The object that contains `address`.
    fn of(address: usize) -> Option<Self> {
        let mut search = Search {
            address,
            objects: 0,
            found: None,
        };
        // SAFETY: `visit` gets the search passed here, which outlives the call.
        unsafe { libc::dl_iterate_phdr(Some(visit), (&raw mut search).cast()) };
        search.found
    }
}

unsafe extern "C" fn visit(info: *mut libc::dl_phdr_info, _: usize, search: *mut c_void) -> c_int {
    // SAFETY: the loader's description of an object, and the search passed by `Object::of`.
    let (info, search) = unsafe { (&*info, &mut *search.cast::<Search>()) };
    search.objects += 1;
    // SAFETY: the loader says how many program headers there are.
    let headers =
        unsafe { std::slice::from_raw_parts(info.dlpi_phdr, usize::from(info.dlpi_phnum)) };
    for header in headers {
        let begin = (info.dlpi_addr + header.p_vaddr) as usize;
        let end = begin + header.p_memsz as usize;
        if header.p_type == libc::PT_LOAD
            && header.p_flags & libc::PF_X != 0
            && (begin..end).contains(&search.address)
        {
            search.found = Some(Object {
                base: info.dlpi_addr as usize,
                begin,
                end,
                // The loader lists the main program first.
                is_main: search.objects == 1,
            });
        }
    }
    0
}

#[repr(C)]
struct Context {
    _private: [u8; 0],
}

// The unwinder of libgcc, which std links.
unsafe extern "C" {
    fn _Unwind_Backtrace(
        visit: unsafe extern "C" fn(*mut Context, *mut c_void) -> c_int,
        data: *mut c_void,
    ) -> c_int;
    fn _Unwind_GetIP(context: *mut Context) -> usize;
    fn _Unwind_GetRegionStart(context: *mut Context) -> usize;
}

const NO_REASON: c_int = 0;
const END_OF_STACK: c_int = 5;

struct Walk {
    frames: usize,
    found: bool,
}

#[cold]
fn is_among_callers() -> bool {
    let mut walk = Walk {
        frames: 0,
        found: false,
    };
    // SAFETY: `visit_frame` gets the walk passed here, which outlives the call.
    unsafe { _Unwind_Backtrace(visit_frame, (&raw mut walk).cast()) };
    walk.found
}

unsafe extern "C" fn visit_frame(context: *mut Context, walk: *mut c_void) -> c_int {
    // SAFETY: the walk passed by `is_among_callers`, and the unwinder's context for one frame.
    let (walk, at, start) = unsafe {
        (
            &mut *walk.cast::<Walk>(),
            _Unwind_GetIP(context),
            _Unwind_GetRegionStart(context),
        )
    };
    walk.frames += 1;
    let library = LIBRARY[0].load(Relaxed)..LIBRARY[1].load(Relaxed);
    walk.found = library.contains(&at)
        || (start != 0 && STARTS.iter().any(|entry| entry.load(Relaxed) == start));
    if walk.found || walk.frames == FRAMES {
        END_OF_STACK
    } else {
        NO_REASON
    }
}
