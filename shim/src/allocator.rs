//! Whether a call comes from inside a preloaded malloc: there no fiber may give its thread to
//! another.
//!
//! jemalloc, tcmalloc and their kin keep half of their state for each thread, change it in several
//! steps, and use pthread_mutex_lock(3) or a futex in between. Were a fiber to park there, the next
//! one of its thread would find that state half changed. So on its way to park for a lock a fiber
//! looks whether malloc is among its callers; with libc's own malloc, which uses no hook, it need
//! not. Those locks are held for moments, and never across a park: to block there is harmless.

use std::ffi::{c_int, c_void};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// The names by which a program enters its malloc.
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

/// Where those functions begin; 0 for libc's own, and for none.
static STARTS: [AtomicUsize; ENTRIES.len()] = [const { AtomicUsize::new(0) }; ENTRIES.len()];
/// Where the code of a malloc in a library of its own begins and ends.
static LIBRARY: [AtomicUsize; 2] = [const { AtomicUsize::new(0) }; 2];

/// Frames to look at: a malloc's own stacks are shallow.
const FRAMES: usize = 24;

/// At start-up: finds out whose malloc this is.
pub fn find() {
    // SAFETY: lookups by name.
    let [malloc, libc] = [c"malloc", c"gnu_get_libc_version"]
        .map(|name| unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) });
    let [malloc, libc] = [malloc, libc].map(|function| Object::of(function as usize));
    let (Some(malloc), Some(libc)) = (malloc, libc) else {
        return;
    };
    if malloc.base == libc.base {
        return;
    }
    for (name, start) in ENTRIES.iter().zip(&STARTS) {
        // SAFETY: a lookup by name.
        let function = unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) } as usize;
        if Object::of(function).is_some_and(|object| object.base == malloc.base) {
            start.store(function, Relaxed);
        }
    }
    // All of the main program's code is not its malloc.
    if !malloc.is_main {
        LIBRARY[0].store(malloc.begin, Relaxed);
        LIBRARY[1].store(malloc.end, Relaxed);
    }
}

/// Whether malloc is among the callers.
pub fn is_calling() -> bool {
    STARTS[0].load(Relaxed) != 0 && is_among_callers()
}

/// A loaded object's code.
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
    /// The one that `address` lies in.
    fn of(address: usize) -> Option<Self> {
        let mut search = Search {
            address,
            objects: 0,
            found: None,
        };
        // SAFETY: `visit` takes what is passed here, which is alive.
        unsafe { libc::dl_iterate_phdr(Some(visit), (&raw mut search).cast()) };
        search.found
    }
}

unsafe extern "C" fn visit(info: *mut libc::dl_phdr_info, _: usize, search: *mut c_void) -> c_int {
    // SAFETY: the loader's description of an object, and our own search.
    let (info, search) = unsafe { (&*info, &mut *search.cast::<Search>()) };
    search.objects += 1;
    // SAFETY: so many program headers are there.
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
                // The loader names it first.
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

// libgcc's unwinder, which std links.
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
    // SAFETY: `look` takes what is passed here, which is alive.
    unsafe { _Unwind_Backtrace(look, (&raw mut walk).cast()) };
    walk.found
}

unsafe extern "C" fn look(context: *mut Context, walk: *mut c_void) -> c_int {
    // SAFETY: our own walk, and the unwinder's context for one frame.
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
