//! The meeting point with libaioshim.so: this scheduler as a host of the shim's table (aioshim.h).
//!
//! The shim is preloaded or absent, never linked: its functions are looked up by name. Absent,
//! incomplete or refusing to attach, it changes nothing.
//!
//! Invariant: an attached worker sleeps nowhere but in the shim's poll, so the shim's wake ends its
//! sleep. The verbs are called on the worker's own thread (wake excepted), with the worker as
//! `data`.

use crate::cancel;
use crate::fiber::{Fiber, Waits};
use crate::sched;
use crate::timer;
use crate::worker::Worker;
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

/// `AIOSHIM_HOST_FORKS`: fork.rs.
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

/// The shim's functions.
struct Shim {
    attach: extern "C" fn(*const HostTable, *mut c_void, *mut *mut c_void) -> c_int,
    detach: extern "C" fn(*mut c_void) -> c_int,
    poll: extern "C" fn(*mut c_void, i64) -> c_int,
    wake: extern "C" fn(*mut c_void),
    in_flight: extern "C" fn(*const c_void) -> usize,
    describe: extern "C" fn(*const c_void, *const c_void, *mut c_char, usize) -> usize,
    /// An older shim has none, nor the next ones.
    cancel: Option<extern "C" fn(*mut c_void, *const c_void) -> c_int>,
    leaving: Option<extern "C" fn(*mut c_void)>,
    prepare: Option<extern "C" fn(*mut c_void)>,
}

/// Looks the shim up, so that no thread finds another at it.
pub(crate) fn find() {
    shim();
}

/// The shim, when it is there.
fn shim() -> Option<&'static Shim> {
    static SHIM: OnceLock<Option<Shim>> = OnceLock::new();
    let find = |name: &core::ffi::CStr| {
        // SAFETY: a lookup by name.
        let symbol = unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) };
        (!symbol.is_null()).then_some(symbol)
    };
    SHIM.get_or_init(|| {
        // SAFETY: the types are those of aioshim.h, whose names these are.
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

/// An attached worker's side of the table.
#[derive(Clone, Copy)]
pub(crate) struct Attachment {
    shim: &'static Shim,
    thread: *mut c_void,
}

/// Attaches the calling thread, which is `worker`; without a shim, or when it declines, does
/// nothing.
pub(crate) fn attach(worker: &Worker) {
    let Some(shim) = shim() else { return };
    let mut thread = core::ptr::null_mut();
    let data = (&raw const *worker).cast_mut().cast();
    if (shim.attach)(&TABLE, data, &mut thread) == 0 && !thread.is_null() {
        // One of several must not open descriptors while fibers run on others (gate.rs).
        if let Some(prepare) = shim.prepare.filter(|_| !worker.runtime().is_single()) {
            prepare(thread);
        }
        worker.host.set(Some(Attachment { shim, thread }));
        worker.remote.shim.store(thread, Ordering::Release);
    }
}

/// Ends the calling thread's attachment. Nobody is in the middle of waking it.
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
    /// Lets the shim submit, reap and unpark; waits up to `timeout` nanoseconds, without limit when
    /// negative.
    pub(crate) fn poll(&self, timeout: i64) {
        (self.shim.poll)(self.thread, timeout);
    }

    /// How many fibers are parked on something that can still wake them.
    pub(crate) fn in_flight(&self) -> usize {
        (self.shim.in_flight)(self.thread)
    }

    /// What a fiber of this thread is parked for, in `buf`; empty when the shim does not know it.
    pub(crate) fn describe<'a>(&self, fiber: &Fiber, buf: &'a mut [u8]) -> &'a [u8] {
        let fiber = (&raw const *fiber).cast();
        let full = (self.shim.describe)(self.thread, fiber, buf.as_mut_ptr().cast(), buf.len());
        &buf[..full.min(buf.len().saturating_sub(1))]
    }
}

impl Attachment {
    /// Has the call end that a fiber of this thread is parked in, if it is one that cancellation
    /// ends.
    pub(crate) fn cancel(&self, fiber: &Fiber) {
        if let Some(cancel) = self.shim.cancel {
            cancel(self.thread, (&raw const *fiber).cast());
        }
    }
}

impl Attachment {
    /// The running fiber is about to end without returning from what it is in.
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

/// What the shim may call.
mod verbs {
    use super::*;

    /// The worker a verb was called for.
    fn worker<'a>(data: *mut c_void) -> &'a Worker {
        // SAFETY: `data` is what `attach` passed, a worker that outlives its attachment.
        unsafe { &*data.cast::<Worker>() }
    }

    pub extern "C" fn running(data: *mut c_void) -> *mut c_void {
        worker(data).current.get().cast()
    }

    pub extern "C" fn park(data: *mut c_void) {
        let worker = worker(data);
        let me = worker.running();
        // `unpark(self), park()` is a yield: then it waits for nothing. Either way unpark says so
        // when it comes.
        me.set_waits(Waits::Shim, core::ptr::null());
        if cancel::check(me).is_err() {
            // A wait that begins after the request ends as one that began before.
            cancel::end_this_wait(worker, me);
        }
        sched::park_in_shim(worker);
        me.waits_no_more();
    }

    pub extern "C" fn unpark(data: *mut c_void, fiber: *mut c_void) {
        // SAFETY: the shim unparks a fiber once for each park, on its own thread, which is this
        // worker's.
        unsafe { sched::make_ready_here(worker(data), fiber.cast::<Fiber>()) };
    }

    pub extern "C" fn runnable(data: *mut c_void) -> c_uint {
        worker(data).runnable() as c_uint
    }

    /// An attached worker sleeps in the shim's poll and nowhere else.
    pub extern "C" fn wake(data: *mut c_void) {
        let data: *const Worker = data.cast();
        // SAFETY: as in `worker`; other threads may use the remote part.
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
            // A fiber of another worker may cancel it, which ends no plain call: one that a disk
            // ends is soon over.
            if worker.runtime().is_single() { 2 } else { 1 }
        } else {
            c_int::from(!timer::is_soon(worker.timers.borrow().first()))
        }
    }

    /// The worker's turns, and the fiber that has one.
    pub extern "C" fn watch(data: *mut c_void, out: *mut HostWatch) {
        let worker = worker(data);
        let running = worker.current.at().cast();
        let turns = worker.turns.count();
        // SAFETY: the shim's to fill.
        unsafe { out.write(HostWatch { turns, running }) };
    }

    /// On a fiber whose call has ended without effect, or not begun.
    pub extern "C" fn cancelled(data: *mut c_void) {
        let me = worker(data).running();
        let _ = cancel::act_on(cancel::check(me));
    }

    /// From any thread: what people call a fiber that ran a moment ago.
    pub extern "C" fn name(
        _: *mut c_void,
        fiber: *const c_void,
        buf: *mut c_char,
        len: usize,
    ) -> usize {
        // SAFETY: records are never unmapped.
        let text = crate::debug::title(unsafe { &*fiber.cast::<Fiber>() });
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
