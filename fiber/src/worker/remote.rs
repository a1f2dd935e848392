//! The part of a worker that other threads may use.
//!
//! Invariant: a thread that wakes a worker is counted in `wakers` until it is done. A worker is not
//! freed before the count is zero.

use super::cancel_requests::CancelRequests;
use super::load::Load;
use super::shim;
use super::unstarted::Unstarted;
use crate::record::fiber::Fiber;
use core::ffi::c_void;
use core::ptr::null_mut;
use core::sync::atomic::{AtomicBool, AtomicI32, AtomicPtr, AtomicUsize, Ordering};
use crossbeam_deque::Stealer;
use queue::{Backoff, Inbox};

/// The part of a worker that other threads may use.
#[repr(align(128))]
pub(crate) struct Remote {
    inbox: Inbox<Fiber>,
    /// Fibers of this worker whose waits are to be cancelled.
    cancel_requests: CancelRequests,
    /// The number of threads that are in the middle of waking this worker.
    wakers: AtomicUsize,
    /// The shim's handle for this thread, or null if it is not attached.
    shim: AtomicPtr<c_void>,
    stealer: Option<Stealer<Unstarted>>,
    load: Load,
    /// Set while the worker sleeps although others have unstarted fibers, because it may not take
    /// them yet. It will check again without being woken.
    refuses_steal: AtomicBool,
    /// The kernel's id of the thread.
    tid: AtomicI32,
}

impl Remote {
    pub(super) fn new(stealer: Option<Stealer<Unstarted>>) -> Remote {
        Remote {
            inbox: Inbox::default(),
            cancel_requests: CancelRequests::new(),
            wakers: AtomicUsize::new(0),
            shim: AtomicPtr::new(null_mut()),
            stealer,
            load: Load::default(),
            refuses_steal: AtomicBool::new(false),
            tid: AtomicI32::new(0),
        }
    }

    /// The fibers that other threads have made ready, and the sleep of the worker.
    #[inline(always)]
    pub(crate) fn inbox(&self) -> &Inbox<Fiber> {
        &self.inbox
    }

    #[inline(always)]
    pub(crate) fn cancel_requests(&self) -> &CancelRequests {
        &self.cancel_requests
    }

    #[inline(always)]
    pub(crate) fn load(&self) -> &Load {
        &self.load
    }

    /// Where other workers steal unstarted fibers, if there are other workers.
    pub(crate) fn stealer(&self) -> Option<&Stealer<Unstarted>> {
        self.stealer.as_ref()
    }

    /// Makes `fiber` ready, and wakes the worker if it sleeps.
    ///
    /// # Safety
    /// The fiber is parked on this worker, and the caller is its only waker.
    // Not inlined, because the wake-ups within one worker would have to save more registers.
    #[inline(never)]
    pub(crate) unsafe fn make_ready(&self, fiber: *mut Fiber) {
        self.wakers.fetch_add(1, Ordering::Relaxed);
        // SAFETY: only the caller wakes the fiber, so it is in no list. Records are never unmapped.
        if unsafe { self.inbox.send(fiber) } {
            self.wake();
        }
        self.wakers.fetch_sub(1, Ordering::Release);
    }

    /// Ends the worker's sleep, or prevents the sleep that it is about to begin.
    pub(crate) fn end_sleep(&self) {
        if self.inbox.end_sleep() {
            self.wake();
        }
    }

    /// Wakes a worker after the caller has withdrawn its announced sleep.
    #[cold]
    fn wake(&self) {
        let shim = self.shim.load(Ordering::Acquire);
        if shim.is_null() {
            let _ = rustix::thread::futex::wake(
                self.inbox.futex(),
                rustix::thread::futex::Flags::PRIVATE,
                1,
            );
        } else {
            shim::wake(shim);
        }
    }

    /// Ends the worker's sleep in the shim, if it is attached.
    pub(crate) fn wake_in_shim(&self) {
        let thread = self.shim.load(Ordering::Acquire);
        if !thread.is_null() {
            shim::wake(thread);
        }
    }

    /// Whether the worker sleeps in the shim and no other thread has sent it anything there. Always
    /// true if it is not attached.
    pub(crate) fn is_asleep_in_shim(&self) -> bool {
        let thread = self.shim.load(Ordering::Acquire);
        thread.is_null() || shim::is_asleep(thread)
    }

    pub(super) fn set_shim(&self, thread: *mut c_void) {
        self.shim.store(thread, Ordering::Release);
    }

    /// Keeps the worker alive until [`end_wake`](Self::end_wake).
    pub(super) fn begin_wake(&self) {
        self.wakers.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn end_wake(&self) {
        self.wakers.fetch_sub(1, Ordering::Release);
    }

    /// Waits until no thread is in the middle of waking this worker.
    pub(crate) fn drain_wakers(&self) {
        let mut backoff = Backoff::default();
        while self.wakers.load(Ordering::Acquire) != 0 {
            backoff.relax();
        }
    }

    /// Records whether the worker sleeps although others have unstarted fibers.
    pub(crate) fn set_refuses_steal(&self, refuses: bool) {
        self.refuses_steal.store(refuses, Ordering::Relaxed);
    }

    pub(super) fn refuses_steal(&self) -> bool {
        self.refuses_steal.load(Ordering::Relaxed)
    }

    /// Records the kernel's id of the calling thread, which runs the worker.
    pub(super) fn set_tid(&self) {
        self.tid.store(
            rustix::thread::gettid().as_raw_nonzero().get(),
            Ordering::Relaxed,
        );
    }

    /// The kernel's id of the thread that runs the worker.
    pub(crate) fn tid(&self) -> i32 {
        self.tid.load(Ordering::Relaxed)
    }

    /// In a forked child: drops everything that other threads have left here. The calling thread
    /// runs the worker, and one fiber.
    pub(super) fn reset_after_fork(&self) {
        self.load.set_started(1);
        self.inbox.forget();
        self.cancel_requests.forget();
        self.wakers.store(0, Ordering::Relaxed);
        self.set_tid();
    }
}
