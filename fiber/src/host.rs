//! The connection to libaioshim.so: this scheduler is a host of the shim (see aioshim.h).
//!
//! The shim is preloaded or absent, never linked, so its functions are looked up by name. If it is
//! absent, incomplete or refuses to attach, nothing changes.
//!
//! Invariant: an attached worker sleeps only in the shim's poll, so the shim's wake ends its sleep.
//! The shim calls the host callbacks on the worker's own thread (except `wake` and `name`), with
//! the worker as `data`.

use crate::clock;
use crate::record::fiber::{Fiber, Waits};
use crate::sched::cancel;
use crate::sched::switching as sched;
use crate::worker::state::Worker;
use core::ffi::{c_char, c_int, c_uint, c_void};
use core::sync::atomic::{AtomicPtr, Ordering};
use std::sync::OnceLock;

/// `aioshim_host_t`.
#[repr(C)]
struct HostTable {
    size: usize,
    running: extern "C" fn(*mut c_void) -> *mut c_void,
    park: extern "C" fn(*mut c_void),
    unpark: extern "C" fn(*mut c_void, *mut c_void),
    runnable: extern "C" fn(*mut c_void) -> c_uint,
    wake: extern "C" fn(*mut c_void),
    alone: Option<extern "C" fn(*mut c_void) -> c_int>,
    watch: Option<extern "C" fn(*mut c_void, *mut HostWatch)>,
    name: Option<extern "C" fn(*mut c_void, *const c_void, *mut c_char, usize) -> usize>,
    cancelled: Option<extern "C" fn(*mut c_void)>,
    keeps_runtimes: c_int,
    flags: u64,
}

/// `AIOSHIM_HOST_FORKS`: fork.rs handles forks.
const FORKS: u64 = 2;
/// `AIOSHIM_HOST_SLEEPS_IN_POLL`: the invariant above.
const SLEEPS_IN_POLL: u64 = 4;

/// `aioshim_watch_t`.
#[repr(C)]
struct HostWatch {
    turns: *const u32,
    running: *const *mut c_void,
}

static TABLE: HostTable = HostTable {
    size: size_of::<HostTable>(),
    running: verbs::running,
    park: verbs::park,
    unpark: verbs::unpark,
    runnable: verbs::runnable,
    wake: verbs::wake,
    alone: Some(verbs::alone),
    watch: Some(verbs::watch),
    name: Some(verbs::name),
    cancelled: Some(verbs::cancelled),
    keeps_runtimes: 1,
    flags: FORKS | SLEEPS_IN_POLL,
};

/// The functions of the shim.
struct Shim {
    attach: extern "C" fn(*const HostTable, *mut c_void, *mut *mut c_void) -> c_int,
    detach: extern "C" fn(*mut c_void) -> c_int,
    poll: extern "C" fn(*mut c_void, i64) -> c_int,
    wake: extern "C" fn(*mut c_void),
    in_flight: extern "C" fn(*const c_void) -> usize,
    describe: extern "C" fn(*const c_void, *const c_void, *mut c_char, usize) -> usize,
    /// This function and the two below are optional: another implementation of the shim's interface
    /// may lack them.
    cancel: Option<extern "C" fn(*mut c_void, *const c_void) -> c_int>,
    leaving: Option<extern "C" fn(*mut c_void)>,
    prepare: Option<extern "C" fn(*mut c_void)>,
}

/// Looks the shim up before other threads could do so at the same time.
pub(crate) fn find() {
    shim();
}

/// Returns the shim if it is present.
fn shim() -> Option<&'static Shim> {
    static SHIM: OnceLock<Option<Shim>> = OnceLock::new();
    let find = |name: &core::ffi::CStr| {
        // SAFETY: dlsym only looks the name up.
        let symbol = unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) };
        (!symbol.is_null()).then_some(symbol)
    };
    SHIM.get_or_init(|| {
        // SAFETY: the names and types are those of aioshim.h.
        unsafe {
            Some(Shim {
                attach: core::mem::transmute::<
                    *mut c_void,
                    extern "C" fn(*const HostTable, *mut c_void, *mut *mut c_void) -> c_int,
                >(find(c"aioshim_attach")?),
                detach: core::mem::transmute::<*mut c_void, extern "C" fn(*mut c_void) -> c_int>(find(
                    c"aioshim_detach",
                )?),
                poll: core::mem::transmute::<*mut c_void, extern "C" fn(*mut c_void, i64) -> c_int>(find(
                    c"aioshim_poll",
                )?),
                wake: core::mem::transmute::<*mut c_void, extern "C" fn(*mut c_void)>(find(c"aioshim_wake")?),
                in_flight: core::mem::transmute::<*mut c_void, extern "C" fn(*const c_void) -> usize>(find(
                    c"aioshim_in_flight",
                )?),
                describe: core::mem::transmute::<
                    *mut c_void,
                    extern "C" fn(*const c_void, *const c_void, *mut c_char, usize) -> usize,
                >(find(c"aioshim_describe")?),
                cancel: find(c"aioshim_cancel").map(|cancel| {
                    core::mem::transmute::<*mut c_void, extern "C" fn(*mut c_void, *const c_void) -> c_int>(cancel)
                }),
                leaving: find(c"aioshim_leaving")
                    .map(|leaving| core::mem::transmute::<*mut c_void, extern "C" fn(*mut c_void)>(leaving)),
                prepare: find(c"aioshim_prepare")
                    .map(|prepare| core::mem::transmute::<*mut c_void, extern "C" fn(*mut c_void)>(prepare)),
            })
        }
    })
    .as_ref()
}

/// An attached worker and the shim it is attached to.
#[derive(Clone, Copy)]
pub(crate) struct Attachment {
    shim: &'static Shim,
    thread: *mut c_void,
}

/// Attaches the calling thread, which runs `worker`. Does nothing if there is no shim or it
/// refuses.
pub(crate) fn attach(worker: &Worker) {
    let Some(shim) = shim() else { return };
    let mut thread = core::ptr::null_mut();
    let data = (&raw const *worker).cast_mut().cast();
    if (shim.attach)(&TABLE, data, &mut thread) == 0 && !thread.is_null() {
        // If there are several workers, the shim must open its descriptors now, before fibers run
        // on other workers (gate.rs).
        if let Some(prepare) = shim.prepare.filter(|_| !worker.runtime().is_single()) {
            prepare(thread);
        }
        worker.host.set(Some(Attachment { shim, thread }));
        worker.remote.shim.store(thread, Ordering::Release);
    }
}

/// Detaches the calling thread. No other thread may be in the middle of waking it.
pub(crate) fn detach(worker: &Worker) {
    if let Some(host) = worker.host.take() {
        worker
            .remote
            .shim
            .store(core::ptr::null_mut(), Ordering::Relaxed);
        (host.shim.detach)(host.thread);
    }
}

impl Attachment {
    /// Lets the shim submit operations, reap completions and unpark fibers. Waits for up to
    /// `timeout` nanoseconds, or without limit if it is negative.
    pub(crate) fn poll(&self, timeout: i64) {
        (self.shim.poll)(self.thread, timeout);
    }

    /// The number of fibers parked on an operation that can still wake them.
    pub(crate) fn in_flight(&self) -> usize {
        (self.shim.in_flight)(self.thread)
    }

    /// Writes a description of the call that a fiber of this thread is parked in to `buf` and
    /// returns it. The result is empty if the shim does not know the fiber.
    pub(crate) fn describe<'a>(&self, fiber: &Fiber, buf: &'a mut [u8]) -> &'a [u8] {
        let fiber = (&raw const *fiber).cast();
        let full = (self.shim.describe)(self.thread, fiber, buf.as_mut_ptr().cast(), buf.len());
        &buf[..full.min(buf.len().saturating_sub(1))]
    }
}

impl Attachment {
    /// Interrupts the call that a fiber of this thread is parked in, if the call is a cancellation
    /// point.
    pub(crate) fn cancel(&self, fiber: &Fiber) {
        if let Some(cancel) = self.shim.cancel {
            cancel(self.thread, (&raw const *fiber).cast());
        }
    }
}

impl Attachment {
    /// Tells the shim that the running fiber is about to end without returning from its current
    /// call.
    pub(crate) fn leaving(&self) {
        if let Some(leaving) = self.shim.leaving {
            leaving(self.thread);
        }
    }
}

/// Ends the sleep of an attached thread.
pub(crate) fn wake(thread: *mut c_void) {
    if let Some(shim) = shim() {
        (shim.wake)(thread);
    }
}

/// The callbacks that the shim calls.
mod verbs {
    use super::*;

    /// Returns the worker that a callback is called for.
    fn worker<'a>(data: *mut c_void) -> &'a Worker {
        // SAFETY: `attach` passed `data`, which is a worker that outlives its attachment.
        unsafe { &*data.cast::<Worker>() }
    }

    pub extern "C" fn running(data: *mut c_void) -> *mut c_void {
        worker(data).current.get().cast()
    }

    pub extern "C" fn park(data: *mut c_void) {
        let worker = worker(data);
        let me = worker.running();
        // This may be a yield (`unpark(self)` followed by `park()`), which waits for nothing. The
        // mark is cleared by `unpark` during a wait and below after a yield.
        me.set_waits(Waits::Shim, core::ptr::null());
        if cancel::check(me).is_err() {
            // Cancellation was requested before this wait began. End the wait as if the request
            // came during it.
            cancel::end_this_wait(worker, me);
        }
        sched::park_in_shim(worker);
        me.waits_no_more();
    }

    pub extern "C" fn unpark(data: *mut c_void, fiber: *mut c_void) {
        // SAFETY: the shim unparks a fiber once per park, on the fiber's own thread, which is the
        // thread of this worker.
        unsafe { sched::make_ready_here(worker(data), fiber.cast::<Fiber>()) };
    }

    pub extern "C" fn runnable(data: *mut c_void) -> c_uint {
        worker(data).runnable() as c_uint
    }

    /// An attached worker sleeps only in the shim's poll.
    pub extern "C" fn wake(data: *mut c_void) {
        let data: *const Worker = data.cast();
        // SAFETY: `attach` passed `data`, which is a worker that outlives its attachment. Other
        // threads may use the remote part.
        let shim: &AtomicPtr<c_void> = unsafe { &(*data).remote.shim };
        let thread = shim.load(Ordering::Acquire);
        if !thread.is_null() {
            super::wake(thread);
        }
    }

    pub extern "C" fn alone(data: *mut c_void) -> c_int {
        let worker = worker(data);
        if worker.runnable() > 0 {
            0
        } else if worker.remote.share.started() == 1 {
            // A fiber of another worker may cancel this one, but cancellation cannot interrupt a
            // plain call. With several workers, return 1: it allows only plain calls that wait for
            // a disk, because those end soon.
            if worker.runtime().is_single() { 2 } else { 1 }
        } else {
            c_int::from(!clock::is_soon(worker.timers.borrow().first()))
        }
    }

    /// Returns the addresses of the worker's turn counter and of its pointer to the running fiber.
    pub extern "C" fn watch(data: *mut c_void, out: *mut HostWatch) {
        let worker = worker(data);
        let running = worker.current.at().cast();
        let turns = worker.turns.count();
        // SAFETY: the shim passes a struct for us to fill.
        unsafe { out.write(HostWatch { turns, running }) };
    }

    /// Called on a fiber whose call was cancelled before it had any effect.
    pub extern "C" fn cancelled(data: *mut c_void) {
        let me = worker(data).running();
        let _ = cancel::act_on(cancel::check(me));
    }

    /// Writes the name that reports use for a fiber that ran a moment ago. Callable from any
    /// thread.
    pub extern "C" fn name(
        _: *mut c_void,
        fiber: *const c_void,
        buf: *mut c_char,
        len: usize,
    ) -> usize {
        // SAFETY: records are never unmapped.
        let text = crate::report::dump::title(unsafe { &*fiber.cast::<Fiber>() });
        let n = text.len().min(len.saturating_sub(1));
        if len > 0 && !buf.is_null() {
            // SAFETY: `buf` has `len` bytes, and n + 1 <= len.
            unsafe {
                core::ptr::copy_nonoverlapping(text.as_ptr().cast(), buf, n);
                buf.add(n).write(0);
            }
        }
        text.len()
    }
}
