//! `AIOSHIM_MAIN=fiber`: the main thread of a program that does not use fibers becomes a fiber, and
//! its calls are converted.
//!
//! This is a built-in host with one fiber: the main thread on its own stack. It parks in place:
//! `park` polls the shim, deeper on the same stack, until the fiber is unparked. A separate
//! scheduler stack would have no use, because there is nothing else to run on it. A signal handler
//! that jumps away runs only after the poll has returned (runtime/signal/mod.rs), so a jump never
//! skips a frame of the shim. The stack's bounds, code that scans the stack, and the unwinder see
//! an ordinary stack.
//!
//! Threads that the program starts are not fibers: their calls pass through. A scheduler that
//! attaches itself on the main thread takes it over.

use super::host_api;
use crate::context;
use crate::context::Mutex;
use crate::engine::Wait;
use crate::engine::pool::{self, interrupt_signal};
use crate::host::remote::Remote;
use crate::host::{self, Host, HostTable};
use crate::runtime::thread::Thread;
use std::cell::Cell;
use std::ffi::{c_int, c_uint, c_void};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering::Relaxed};

/// The only fiber.
struct MainFiber {
    parked: Cell<bool>,
    /// The fiber was unparked, and is about to run or to park.
    ready: Cell<bool>,
}

// SAFETY: only the main thread touches it; `wake` can run on other threads but does not access it.
unsafe impl Sync for MainFiber {}

static FIBER: MainFiber = MainFiber {
    parked: Cell::new(false),
    ready: Cell::new(false),
};

/// The main thread's handle while it is attached to this host.
static THREAD: AtomicPtr<Thread> = AtomicPtr::new(std::ptr::null_mut());

fork_reset! {
    /// What other threads need to cancel the main thread: its name, and how to wake it.
    static TARGET: Mutex<Option<(libc::pthread_t, Arc<Remote>)>> = Mutex::new(None);
}

/// Whether pthread_cancel(3) was called for the main thread.
static CANCELLED: AtomicBool = AtomicBool::new(false);

fn the_host() -> Host {
    let table = HostTable {
        size: size_of::<HostTable>(),
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
        r#yield: None,
        library: std::ptr::null(),
        counts: None,
    };
    Host::new(
        table,
        (&raw const FIBER).cast_mut().cast(),
        Some(resumed_in_place),
    )
}

/// Makes the calling thread, which is the main thread, a fiber. If that fails, its calls pass
/// through.
pub fn attach_main() {
    if let Ok(thread) = host_api::attach_to(the_host()) {
        THREAD.store(thread, Relaxed);
        // SAFETY: the thread is attached.
        note_target(unsafe { &*thread });
    }
}

/// Lets other threads cancel the calling thread, which is attached as `thread`.
fn note_target(thread: &Thread) {
    // SAFETY: this only returns the calling thread's name.
    let name = unsafe { libc::pthread_self() };
    *TARGET.get().lock() = Some((name, Arc::clone(thread.remote())));
}

/// In the child of a fork, `thread` is attached anew.
pub fn attach_in_child(thread: &Thread) {
    if std::ptr::eq(thread, THREAD.load(Relaxed)) {
        note_target(thread);
    }
}

/// Detaches the main thread before another host attaches it.
pub fn release_main() {
    let thread = THREAD.load(Relaxed);
    if !thread.is_null() && std::ptr::eq(thread.cast(), context::attached()) {
        // SAFETY: attached, and the calling thread; its only fiber is running, so nothing is in
        // flight.
        unsafe { host_api::aioshim_detach(thread) };
        THREAD.store(std::ptr::null_mut(), Relaxed);
        *TARGET.get().lock() = None;
    }
}

/// pthread_exit(3). After the main thread has exited, the process lives as long as its other
/// threads. Idle pool threads must not keep it alive, so they end here, and the main thread stops
/// being a fiber.
#[unsafe(no_mangle)]
pub extern "C" fn pthread_exit(result: *mut c_void) -> ! {
    type Exit = extern "C" fn(*mut c_void) -> !;
    let thread = THREAD.load(Relaxed);
    if !thread.is_null() && std::ptr::eq(thread.cast(), context::active()) {
        // SAFETY: the handle is the calling thread's, and it is attached.
        pool::retire(&Arc::clone(unsafe { &*thread }.remote()));
        release_main();
    }
    next_function!(pthread_exit as Exit)(result)
}

/// pthread_cancel(3). The main thread's wait ends, and its call is left to libc, which ends the
/// thread if it may be cancelled.
#[unsafe(no_mangle)]
pub extern "C" fn pthread_cancel(thread: libc::pthread_t) -> c_int {
    type Cancel = extern "C" fn(libc::pthread_t) -> c_int;
    let result = next_function!(pthread_cancel as Cancel)(thread);
    interrupt_signal::keep_installed();
    if result == 0
        && let Some((main, remote)) = TARGET.get().lock().as_ref()
        && *main == thread
    {
        CANCELLED.store(true, Relaxed);
        remote.wake();
    }
    result
}

/// The fiber runs again without a return from its `park`.
fn resumed_in_place(data: *mut c_void) {
    fiber(data).parked.set(false);
    fiber(data).ready.set(false);
}

fn fiber<'a>(data: *mut c_void) -> &'a MainFiber {
    // SAFETY: `the_host` passed this address, which is that of a static.
    unsafe { &*data.cast::<MainFiber>() }
}

extern "C" fn running(data: *mut c_void) -> *mut c_void {
    if fiber(data).parked.get() {
        std::ptr::null_mut()
    } else {
        data
    }
}

/// Polls until the fiber is unparked. If it is unparked already, polls once: this is how the shim
/// yields.
extern "C" fn park(data: *mut c_void) {
    let fiber = fiber(data);
    let thread = Thread::attached().expect("only an attached thread parks");
    fiber.parked.set(true);
    loop {
        if CANCELLED.load(Relaxed)
            && !fiber.ready.get()
            && may_be_cancelled()
            && thread.cancel(data)
        {
            // libc ends the thread, so it makes the thread's calls from now on.
            thread.pass_through();
        }
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

/// Whether pthread_setcancelstate(3) lets the calling thread be cancelled.
fn may_be_cancelled() -> bool {
    const ENABLE: c_int = 0;
    const DISABLE: c_int = 1;
    unsafe extern "C" {
        fn pthread_setcancelstate(state: c_int, old: *mut c_int) -> c_int;
    }
    let mut state = ENABLE;
    // SAFETY: this changes the state only of the calling thread, and only until the next line.
    unsafe { pthread_setcancelstate(DISABLE, &raw mut state) };
    if state == ENABLE {
        // SAFETY: as above; this is the state that the thread had.
        unsafe { pthread_setcancelstate(ENABLE, std::ptr::null_mut()) };
    }
    state == ENABLE
}

extern "C" fn unpark(data: *mut c_void, _fiber: *mut c_void) {
    fiber(data).ready.set(true);
}

extern "C" fn runnable(_data: *mut c_void) -> c_uint {
    0
}

/// The thread sleeps only in the shim's poll.
extern "C" fn wake(_data: *mut c_void) {
    let thread = THREAD.load(Relaxed);
    if !thread.is_null() {
        // SAFETY: the thread is attached: the shim stops calling this callback before the detach
        // ends (Remote::detach).
        unsafe { host_api::aioshim_wake(thread) };
    }
}

/// A wait for a disk delays no other fiber, so those calls are made as plain calls and need no
/// kernel or pool thread. Unbounded waits are converted.
extern "C" fn alone(_data: *mut c_void) -> c_int {
    1
}
