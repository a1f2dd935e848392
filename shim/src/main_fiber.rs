//! `AIOSHIM_MAIN=fiber`: the main thread of a program that knows nothing of fibers is one, and what
//! it calls is converted.
//!
//! A host of the shim's own with one fiber, the main thread on its own stack. It parks in place:
//! `park` polls the shim until the fiber is unparked, deeper on the same stack. A scheduler's stack
//! would be of no use. Nothing else is there to run on it; and a handler that jumps away does so
//! only after the poll has returned (signal/mod.rs), so that no frame of the shim's is ever jumped
//! over. A program notices neither: its stack's bounds, what scans it, and its unwinder find what
//! they expect.
//!
//! Threads that the program starts are not fibers: what they call passes through. A scheduler that
//! attaches itself on the main thread takes it over.

use crate::engine::Wait;
use crate::host::{self, Host, Table};
use crate::pool;
use crate::thread::Thread;
use crate::tls;
use std::cell::Cell;
use std::ffi::{c_int, c_uint, c_void};
use std::sync::Arc;
use std::sync::atomic::{AtomicPtr, Ordering::Relaxed};

/// The one fiber.
struct MainFiber {
    parked: Cell<bool>,
    /// Unparked, and about to run or to park.
    ready: Cell<bool>,
}

// SAFETY: touched by the main thread alone, but for `wake`, which touches nothing of it.
unsafe impl Sync for MainFiber {}

static FIBER: MainFiber = MainFiber {
    parked: Cell::new(false),
    ready: Cell::new(false),
};

/// The main thread, while it is attached to this host.
static THREAD: AtomicPtr<Thread> = AtomicPtr::new(std::ptr::null_mut());

fn the_host() -> Host {
    let table = Table {
        size: size_of::<Table>(),
        running,
        park,
        unpark,
        runnable,
        wake,
        alone: Some(alone),
        watch: None,
        name: None,
        cancelled: None,
        keeps_runtimes: 1,
        flags: host::FORKS | host::SLEEPS_IN_POLL,
    };
    Host::new(table, (&raw const FIBER).cast_mut().cast(), true)
}

/// Makes a fiber of the calling thread, which is the main one. Where that cannot be, calls pass
/// through.
pub fn adopt() {
    if let Ok(thread) = host::attach_to(the_host()) {
        THREAD.store(thread, Relaxed);
    }
}

/// Before another host attaches the calling thread.
pub fn give_way() {
    let thread = THREAD.load(Relaxed);
    if !thread.is_null() && std::ptr::eq(thread, tls::attached()) {
        // SAFETY: attached, and the calling thread; its only fiber is running, so nothing is in
        // flight.
        unsafe { host::aioshim_detach(thread) };
        THREAD.store(std::ptr::null_mut(), Relaxed);
    }
}

/// pthread_exit(3). Without the main thread the process goes on as long as others do: so that these
/// are none of the pool's, its idle threads end, and the main thread is no fiber any more.
#[unsafe(no_mangle)]
pub extern "C" fn pthread_exit(result: *mut c_void) -> ! {
    type Exit = extern "C" fn(*mut c_void) -> !;
    let thread = THREAD.load(Relaxed);
    if !thread.is_null() && std::ptr::eq(thread, tls::here()) {
        // SAFETY: attached, and the calling thread.
        pool::retire(&Arc::clone(unsafe { &*thread }.remote()));
        give_way();
    }
    // SAFETY: a look-up by name.
    let next = unsafe { libc::dlsym(libc::RTLD_NEXT, c"pthread_exit".as_ptr()) };
    // SAFETY: POSIX's type of the function of this name, which every libc has.
    let next = unsafe { std::mem::transmute::<*mut c_void, Exit>(next) };
    next(result)
}

/// The fiber runs again, without its `park` having returned.
pub fn unparked(host: &Host) {
    fiber(host.data).parked.set(false);
    fiber(host.data).ready.set(false);
}

fn fiber<'a>(data: *mut c_void) -> &'a MainFiber {
    // SAFETY: what `the_host` gave, a static.
    unsafe { &*data.cast::<MainFiber>() }
}

extern "C" fn running(data: *mut c_void) -> *mut c_void {
    if fiber(data).parked.get() {
        std::ptr::null_mut()
    } else {
        data
    }
}

/// Polls until the fiber is unparked; once if it is already, for that is how the shim yields.
extern "C" fn park(data: *mut c_void) {
    let fiber = fiber(data);
    // SAFETY: the calling thread, which is attached.
    let thread = unsafe { &*tls::attached() };
    fiber.parked.set(true);
    loop {
        thread.poll(if fiber.ready.get() {
            Wait::No
        } else {
            Wait::Forever
        });
        if fiber.ready.replace(false) {
            break;
        }
    }
    fiber.parked.set(false);
}

extern "C" fn unpark(data: *mut c_void, _fiber: *mut c_void) {
    fiber(data).ready.set(true);
}

extern "C" fn runnable(_data: *mut c_void) -> c_uint {
    0
}

/// It sleeps nowhere but in the shim's poll.
extern "C" fn wake(_data: *mut c_void) {
    let thread = THREAD.load(Relaxed);
    if !thread.is_null() {
        // SAFETY: attached: the shim calls this verb no longer once it is not (Remote::detach).
        unsafe { host::aioshim_wake(thread) };
    }
}

/// Nobody else is delayed while it waits for a disk: those calls are plain ones, and need no thread
/// of the kernel's or the pool's. Waits without an end are converted.
extern "C" fn alone(_data: *mut c_void) -> c_int {
    1
}
