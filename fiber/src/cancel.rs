//! Cancellation, deferred as pthreads' is: a request ends the wait its fiber is in, or acts when
//! the fiber comes to the next cancellation point.
//!
//! A request is a bit of the fiber's record, set at once from wherever it comes; the wait is ended
//! on the fiber's own worker, between two rounds ([`Requests`]), as a timer would. Acting means,
//! for a C fiber: its cleanup handlers, then its end, without unwinding its stack. A Rust fiber,
//! whose stack holds values to drop, unwinds.
//!
//! Invariant: a fiber acts once (ACTING), and only where it asks ([`check`]): a wait that was ended
//! has had no effect.

use crate::errno::Errno;
use crate::fiber::{Fiber, Handle, Waits};
use crate::key;
use crate::park;
use crate::sched;
use crate::spin::SpinLock;
use crate::sync::on_fiber;
use crate::worker::Worker;
use crate::{join, tls};
use core::ffi::c_void;
use core::sync::atomic::{AtomicBool, Ordering};

/// Somebody asked for it.
const REQUESTED: u8 = 1;
/// Not now: `FIBER_CANCEL_DISABLE`.
const DISABLED: u8 = 2;
/// The fiber is on its way to its end.
const ACTING: u8 = 4;
/// A Rust fiber.
pub(crate) const UNWINDS: u8 = 8;

/// `FIBER_CANCELED`.
pub(crate) const CANCELED: *mut c_void = usize::MAX as *mut c_void;

/// The calling fiber is to act now: `ECANCELED`, which the two faces turn into its end.
#[inline(always)]
pub(crate) fn check(me: &Fiber) -> Result<(), Errno> {
    if me.cancel.load(Ordering::Relaxed) & !UNWINDS == REQUESTED {
        Err(Errno::ECANCELED)
    } else {
        Ok(())
    }
}

/// Requests for fibers of one worker, whose waits are to end.
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

    /// In a forked child: whoever held the lock is not there. What it was changing is leaked, not
    /// dropped.
    pub(crate) fn forget(&self) {
        self.of.release();
        core::mem::forget(self.take());
    }
}

/// Asks the fiber to end. On a fiber; `ESRCH` when it is gone or another runtime's.
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
    // One that starts elsewhere right now sees the bit, or we see its worker.
    barrier();
    // SAFETY: a worker of this runtime, which lasts as long as the caller does.
    if let Some(home) = unsafe { fiber.worker.load(Ordering::SeqCst).as_ref() } {
        home.remote.cancels.add(name);
        if !core::ptr::eq(home, here) {
            home.remote.rouse();
        }
    }
    Ok(())
}

/// Orders what this thread did before what any other does from now on, without a cost for those.
fn barrier() {
    use rustix::thread::{MembarrierCommand, membarrier};
    let _ = membarrier(MembarrierCommand::RegisterPrivateExpedited);
    let _ = membarrier(MembarrierCommand::PrivateExpedited);
}

/// Has the running fiber's wait, which is about to begin in the shim, ended again: it was asked to
/// end before.
#[cold]
pub(crate) fn end_this_wait(worker: &Worker, me: &Fiber) {
    worker.remote.cancels.add(me.handle());
}

/// On the scheduler's stack of `worker`: ends the waits of its fibers that were asked to end.
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
                // SAFETY: a sleeper without a timer is nobody else's to wake, on its own worker.
                unsafe { sched::make_ready_here(worker, core::ptr::from_ref(fiber).cast_mut()) };
            }
            Waits::Cond | Waits::Semaphore => park::cancel(fiber),
            Waits::Join => join::cancel(fiber),
            Waits::Shim => {
                if let Some(host) = worker.host.get() {
                    host.cancel(fiber);
                }
            }
            // Not cancellation points, or it does not wait.
            _ => {}
        }
    }
}

/// `fiber_setcancelstate`: whether it was enabled before.
pub(crate) fn set_enabled(enabled: bool) -> Result<bool, Errno> {
    let me = on_fiber()?.running();
    let before = if enabled {
        me.cancel.fetch_and(!DISABLED, Ordering::Relaxed)
    } else {
        me.cancel.fetch_or(DISABLED, Ordering::Relaxed)
    };
    Ok(before & DISABLED == 0)
}

/// A C fiber that was asked to end ends here: `result`, when it is `ECANCELED` and its own.
#[inline(always)]
pub(crate) fn act_on(result: Result<(), Errno>) -> Result<(), Errno> {
    match result {
        Err(Errno::ECANCELED) => act(),
        other => other,
    }
}

#[cold]
fn act() -> Result<(), Errno> {
    if let Some(worker) = tls::worker() {
        let me = worker.running();
        if me.cancel.load(Ordering::Relaxed) & UNWINDS == 0 {
            exit(worker, CANCELED);
        }
    }
    // C code on a Rust fiber, which must not be left behind: it goes on until it comes back to
    // Rust.
    Err(Errno::ECANCELED)
}

/// Ends the running fiber after its cleanup handlers.
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
        // SAFETY: a handler that is not popped lies in a frame of this fiber's that has not
        // returned.
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

/// What a cancelled Rust fiber unwinds with, and its join returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cancelled;

/// A wait of a Rust fiber, which unwinds if it was ended. In the middle of a panic it is made to
/// the end.
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
