//! The host table, through which the shim calls this scheduler (see aioshim.h).
//!
//! Invariant: an attached worker sleeps only in the shim's poll, so the shim's wake ends its sleep.
//! The shim calls the host callbacks on the worker's own thread (except `wake` and `name`), with
//! the worker as `data`.

use crate::clock;
use crate::record::fiber::Fiber;
use crate::record::name;
use crate::record::wait_reason::WaitReason;
use crate::sched::ready::make_ready_here;
use crate::sched::{cancel, cancel_point, switching};
use crate::worker::shim::Attachment;
use crate::worker::state::Worker;
use core::ffi::{c_char, c_int, c_uint, c_void};

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
    // Version 2.
    r#yield: Option<extern "C" fn(*mut c_void)>,
    library: *const c_char,
    counts: Option<extern "C" fn(*mut c_void, *mut c_void)>,
}

// SAFETY: the name is a constant, and nothing changes the table.
unsafe impl Sync for HostTable {}

/// The name in the shim's statistics.
const LIBRARY: &[u8] = concat!("libfiber ", env!("CARGO_PKG_VERSION"), "\0").as_bytes();

/// `AIOSHIM_HOST_FORKS`: launch/fork.rs handles forks.
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
    running: callbacks::running,
    park: callbacks::park,
    unpark: callbacks::unpark,
    runnable: callbacks::runnable,
    wake: callbacks::wake,
    alone: Some(callbacks::alone),
    watch: Some(callbacks::watch),
    name: Some(callbacks::name),
    cancelled: Some(callbacks::cancelled),
    keeps_runtimes: 1,
    flags: FORKS | SLEEPS_IN_POLL,
    r#yield: None,
    library: LIBRARY.as_ptr().cast(),
    counts: None,
};

/// Attaches the calling thread, which runs `worker`. Does nothing if there is no shim or it
/// refuses.
pub(crate) fn attach(worker: &Worker) {
    let data = (&raw const *worker).cast_mut().cast();
    if let Some(shim) = Attachment::new((&raw const TABLE).cast(), data) {
        worker.set_shim(shim);
    }
}

/// Opens the descriptors of the shim for the calling thread, which runs `worker`, if other workers
/// might otherwise run fibers meanwhile.
pub(crate) fn prepare(worker: &Worker) {
    if let Some(shim) = worker.shim()
        && !worker.runtime().is_single()
    {
        shim.prepare();
    }
}

/// Detaches the calling thread. No other thread may be in the middle of waking it.
pub(crate) fn detach(worker: &Worker) {
    if let Some(shim) = worker.take_shim() {
        shim.detach();
    }
}

/// The callbacks that the shim calls.
mod callbacks {
    use super::*;

    /// Returns the worker that a callback is called for.
    fn worker<'a>(data: *mut c_void) -> &'a Worker {
        // SAFETY: `attach` passed `data`, which is a worker that outlives its attachment.
        unsafe { &*data.cast::<Worker>() }
    }

    pub extern "C" fn running(data: *mut c_void) -> *mut c_void {
        worker(data).current().cast()
    }

    pub extern "C" fn park(data: *mut c_void) {
        let worker = worker(data);
        let me = worker.running();
        // This may be a yield (`unpark(self)` followed by `park()`), which waits for nothing. The
        // mark is cleared by `unpark` during a wait and below after a yield.
        me.set_wait_reason(WaitReason::Shim, core::ptr::null());
        if me.cancellation.check().is_err() {
            // Cancellation was requested before this wait began. End the wait as if the request
            // came during it.
            cancel::end_this_wait(worker, me);
        }
        switching::park_in_shim(worker);
        me.clear_wait_reason();
    }

    pub extern "C" fn unpark(data: *mut c_void, fiber: *mut c_void) {
        let worker = worker(data);
        if fiber == worker.current().cast() {
            // This begins a yield.
            worker.yields().note(worker.round(), worker.ready().len());
        }
        // SAFETY: the shim unparks a fiber once per park, on the fiber's own thread, which is the
        // thread of this worker.
        unsafe { make_ready_here(worker, fiber.cast::<Fiber>()) };
    }

    pub extern "C" fn runnable(data: *mut c_void) -> c_uint {
        worker(data).runnable() as c_uint
    }

    /// An attached worker sleeps only in the shim's poll.
    pub extern "C" fn wake(data: *mut c_void) {
        // SAFETY: `attach` passed `data`, which is a worker that outlives its attachment.
        unsafe { Worker::remote_of(data.cast()) }.wake_in_shim();
    }

    pub extern "C" fn alone(data: *mut c_void) -> c_int {
        let worker = worker(data);
        if worker.runnable() > 0 {
            -c_int::from(others_can_wait(worker))
        } else if worker.remote().load().started() == 1 {
            // A fiber of another worker may cancel this one, but cancellation cannot interrupt a
            // plain call. With several workers, return 1: it allows only plain calls that wait for
            // a disk, because those end soon.
            if worker.runtime().is_single() { 2 } else { 1 }
        } else {
            c_int::from(!clock::is_soon(worker.first_timer()))
        }
    }

    /// Whether the fibers that can run have all yielded in the middle of their work, and no timer
    /// of another one expires soon.
    fn others_can_wait(worker: &Worker) -> bool {
        let ready = worker.ready().len();
        ready == worker.runnable()
            && worker.yields().include_all(worker.round(), ready)
            && !worker.remote().cancel_requests().has_any()
            && !clock::is_soon(worker.first_timer())
    }

    /// Returns the addresses of the worker's turn counter and of its pointer to the running fiber.
    pub extern "C" fn watch(data: *mut c_void, out: *mut HostWatch) {
        let worker = worker(data);
        let running = worker.current_address().cast();
        let turns = worker.round().count_address();
        // SAFETY: the shim passes a struct for us to fill.
        unsafe { out.write(HostWatch { turns, running }) };
    }

    /// Called on a fiber whose call was cancelled before it had any effect.
    pub extern "C" fn cancelled(data: *mut c_void) {
        let me = worker(data).running();
        let _ = cancel_point::act_on(me.cancellation.check());
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
        let text = name::title(unsafe { &*fiber.cast::<Fiber>() });
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
