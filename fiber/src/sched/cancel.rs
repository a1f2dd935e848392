//! Cancellation, deferred as in pthreads: a request ends the current wait of the fiber, or takes
//! effect when the fiber reaches its next cancellation point.
//!
//! A request is a bit in the fiber's record, which the requester sets directly. The fiber's own
//! worker then ends the wait between two rounds ([`Requests`]), as a timer would. When a request
//! takes effect on a C fiber, its cleanup handlers run and the fiber ends without unwinding its
//! stack. A Rust fiber unwinds, because its stack holds values to drop.
//!
//! Invariant: a fiber acts on a request once (ACTING), and only where it calls [`check`]. A wait
//! that was ended has had no effect.

use crate::errno::Errno;
use crate::record::fiber::{Fiber, Handle, Waits};
use crate::record::key;
use crate::sched::join;
use crate::sched::park;
use crate::sched::switching as sched;
use crate::spin::SpinLock;
use crate::worker::current;
use crate::worker::current::on_fiber;
use crate::worker::state::Worker;
use core::ffi::c_void;
use core::sync::atomic::{AtomicBool, Ordering};

/// Cancellation was requested.
const REQUESTED: u8 = 1;
/// Cancellation is disabled (`FIBER_CANCEL_DISABLE`).
const DISABLED: u8 = 2;
/// The fiber is acting on a request and about to end.
const ACTING: u8 = 4;
/// It is a Rust fiber, which unwinds.
pub(crate) const UNWINDS: u8 = 8;

/// `FIBER_CANCELED`.
pub(crate) const CANCELED: *mut c_void = usize::MAX as *mut c_void;

/// Returns `ECANCELED` if the running fiber must act on a request now. The C and the Rust API then
/// end the fiber.
#[inline(always)]
pub(crate) fn check(me: &Fiber) -> Result<(), Errno> {
    if me.cancel.load(Ordering::Relaxed) & !UNWINDS == REQUESTED {
        Err(Errno::ECANCELED)
    } else {
        Ok(())
    }
}

/// The pending requests for fibers of one worker whose waits must be ended.
pub(crate) struct Requests {
    any: AtomicBool,
    of: SpinLock<Vec<Handle>>,
}

impl Requests {
    pub(crate) const fn new() -> Requests {
        Requests {
            any: AtomicBool::new(false),
            of: SpinLock::new(Vec::new()),
        }
    }

    #[inline(always)]
    pub(crate) fn any(&self) -> bool {
        self.any.load(Ordering::SeqCst)
    }

    fn add(&self, fiber: Handle) {
        self.of.lock().push(fiber);
        self.any.store(true, Ordering::SeqCst);
    }

    fn take(&self) -> Vec<Handle> {
        self.any.store(false, Ordering::SeqCst);
        core::mem::take(&mut *self.of.lock())
    }

    /// In a forked child: another thread may have held the lock, and that thread does not exist
    /// here. The data it was changing is leaked, not dropped.
    pub(crate) fn forget(&self) {
        self.of.release();
        core::mem::forget(self.take());
    }
}

/// Requests the cancellation of a fiber. Call it on a fiber. Returns `ESRCH` if the target no
/// longer exists or belongs to another runtime.
pub(crate) fn request(name: Handle) -> Result<(), Errno> {
    let here = on_fiber()?;
    let fiber = name.fiber().ok_or(Errno::ESRCH)?;
    if !core::ptr::eq(fiber.runtime.load(Ordering::Relaxed), here.runtime) {
        return Err(Errno::ESRCH);
    }
    fiber.cancel.fetch_or(REQUESTED, Ordering::SeqCst);
    if core::ptr::eq(fiber, here.running()) {
        return Ok(());
    }
    // If the fiber is just starting on another worker, either it sees the bit or we see its worker.
    barrier();
    // SAFETY: the worker belongs to this runtime, which outlives the caller.
    if let Some(home) = unsafe { fiber.worker.load(Ordering::SeqCst).as_ref() } {
        home.remote.cancels.add(name);
        if !core::ptr::eq(home, here) {
            home.remote.end_sleep();
        }
    }
    Ok(())
}

/// Orders the earlier accesses of this thread before the later ones of every other thread. The
/// other threads need no barrier of their own.
fn barrier() {
    use rustix::thread::{MembarrierCommand, membarrier};
    let _ = membarrier(MembarrierCommand::RegisterPrivateExpedited);
    let _ = membarrier(MembarrierCommand::PrivateExpedited);
}

/// Ends the wait in the shim that the running fiber is about to begin, because cancellation was
/// requested before.
#[cold]
pub(crate) fn end_this_wait(worker: &Worker, me: &Fiber) {
    worker.remote.cancels.add(me.handle());
}

/// Ends the waits of those fibers of `worker` whose cancellation was requested. Runs on the
/// scheduler's stack of `worker`.
#[cold]
#[inline(never)]
pub(crate) fn deliver(worker: &Worker) {
    for name in worker.remote.cancels.take() {
        let mine = |fiber: &&Fiber| core::ptr::eq(fiber.worker.load(Ordering::Relaxed), worker);
        let Some(fiber) = name.fiber().filter(mine) else {
            continue;
        };
        if check(fiber).is_ok() {
            continue;
        }
        match fiber.waits() {
            Waits::Sleep => {
                worker.timers.borrow_mut().cancel(fiber);
                // SAFETY: the fiber sleeps without a timer, so only we, on its own worker, can wake
                // it.
                unsafe { sched::make_ready_here(worker, core::ptr::from_ref(fiber).cast_mut()) };
            }
            Waits::Cond | Waits::Semaphore => park::cancel(fiber),
            Waits::Join => join::cancel(fiber),
            Waits::Shim => {
                if let Some(host) = worker.host.get() {
                    host.cancel(fiber);
                }
            }
            // Other waits are not cancellation points, and a fiber that does not wait needs no
            // wake-up.
            _ => {}
        }
    }
}

/// Implements `fiber_setcancelstate`. Returns whether cancellation was enabled before.
pub(crate) fn set_enabled(enabled: bool) -> Result<bool, Errno> {
    let me = on_fiber()?.running();
    let before = if enabled {
        me.cancel.fetch_and(!DISABLED, Ordering::Relaxed)
    } else {
        me.cancel.fetch_or(DISABLED, Ordering::Relaxed)
    };
    Ok(before & DISABLED == 0)
}

/// Ends the running C fiber if `result` is `ECANCELED`. Otherwise returns `result`.
#[inline(always)]
pub(crate) fn act_on(result: Result<(), Errno>) -> Result<(), Errno> {
    match result {
        Err(Errno::ECANCELED) => act(),
        other => other,
    }
}

#[cold]
fn act() -> Result<(), Errno> {
    if let Some(worker) = current::worker() {
        let me = worker.running();
        if me.cancel.load(Ordering::Relaxed) & UNWINDS == 0 {
            exit(worker, CANCELED);
        }
    }
    // This is C code on a Rust fiber. The Rust frames below must not be skipped, so the fiber
    // continues until it returns to Rust.
    Err(Errno::ECANCELED)
}

/// Runs the cleanup handlers of the running fiber and ends it.
pub(crate) fn exit(worker: &Worker, result: *mut c_void) -> ! {
    run_cleanups(worker.running());
    if let Some(host) = worker.host.get() {
        host.leaving();
    }
    sched::exit(worker, result)
}

/// Runs the cleanup handlers of the running fiber, which is about to end.
pub(crate) fn run_cleanups(me: &Fiber) {
    me.cancel.fetch_or(ACTING, Ordering::Relaxed);
    while let Some(cleanup) = key::top_cleanup(me) {
        // SAFETY: a handler that is not popped lies in a frame of this fiber that has not returned.
        let Cleanup { routine, arg, next } = unsafe { cleanup.read() };
        key::set_top_cleanup(me, next);
        routine(arg);
    }
}

/// `fiber_cleanup_t`, on the stack of the fiber that pushed it.
#[repr(C)]
pub struct Cleanup {
    pub(crate) routine: key::Destructor,
    pub(crate) arg: *mut c_void,
    pub(crate) next: *mut Cleanup,
}

/// The panic payload with which a cancelled Rust fiber unwinds, and which its join returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cancelled;

/// Runs a wait of a Rust fiber and unwinds if the fiber was cancelled in it. During a panic, the
/// wait is repeated with cancellation disabled.
#[inline(always)]
pub(crate) fn unwinding<T>(wait: impl Fn() -> Result<T, Errno>) -> Result<T, Errno> {
    match wait() {
        Err(Errno::ECANCELED) => unwind(wait),
        result => result,
    }
}

#[cold]
fn unwind<T>(wait: impl Fn() -> Result<T, Errno>) -> Result<T, Errno> {
    if std::thread::panicking() {
        let enabled = set_enabled(false)?;
        let result = wait();
        if enabled {
            set_enabled(true)?;
        }
        return result;
    }
    on_fiber()?
        .running()
        .cancel
        .fetch_or(ACTING, Ordering::Relaxed);
    std::panic::resume_unwind(Box::new(Cancelled))
}
