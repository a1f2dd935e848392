//! A worker: one OS thread that runs fibers, and all that belongs to it.
//!
//! Invariant: everything outside [`Remote`] is touched by the worker's own thread alone, on the
//! stack of a fiber or on the scheduler's own. Other threads get to a worker through a fiber that
//! runs there, and use nothing but its `remote`.

use crate::balance::Share;
use crate::cancel::Requests;
use crate::fiber::{Fiber, List};
use crate::fresh::{Fresh, FreshQueue};
use crate::host::Attachment;
use crate::idle::Patience;
use crate::inbox::{Inbox, Node};
use crate::kept::Runtimes;
use crate::runtime::Runtime;
use crate::slab::Records;
use crate::stack::Stacks;
use crate::switch::FloatControl;
use crate::timer::{Instant, Timers};
use crate::turns::{Shown, Turns};
use core::cell::{Cell, RefCell};
use core::ptr::null_mut;
use core::sync::atomic::{AtomicBool, AtomicI32, AtomicPtr, AtomicUsize, Ordering};
use crossbeam_deque::Stealer;

/// A worker of a runtime.
#[repr(C, align(64))]
pub(crate) struct Worker {
    // What a switch touches.
    /// The fiber that runs; null on the scheduler's own stack.
    pub current: Shown<Fiber>,
    /// Started fibers that can run.
    pub ready: List,
    pub turns: Turns,
    /// Whether a fresh fiber goes before a ready one next time.
    pub fresh_turn: Cell<bool>,
    /// This thread's errno; a fiber never changes its thread, so its address never changes under
    /// one.
    pub errno: Cell<*mut i32>,
    /// What the C and C++ runtimes keep for this thread and a fiber must have for itself.
    pub runtimes: Runtimes,
    /// Where the scheduler goes on.
    pub scheduler: Cell<*mut u8>,
    pub fresh: FreshQueue,

    pub runtime: *const Runtime,
    pub index: usize,
    /// What a fiber's floating-point control words are when it begins: those of fiber_run's caller.
    pub float: FloatControl,
    pub records: Records,
    pub stacks: RefCell<Stacks>,
    /// No stack could be had; fresh fibers wait until one is free.
    pub starved: Cell<bool>,
    pub timers: RefCell<Timers>,
    /// Set while the worker is attached to the shim.
    pub host: Cell<Option<Attachment>>,
    pub patience: Patience,
    /// When deep stacks were last trimmed.
    pub trimmed_at: Cell<Instant>,
    pub remote: Remote,
}

/// What other threads may touch.
#[repr(align(128))]
pub(crate) struct Remote {
    pub inbox: Inbox<Fiber>,
    /// Fibers of the worker whose waits are to end.
    pub cancels: Requests,
    /// Threads that are in the middle of waking this worker: it is not freed meanwhile.
    pub wakers: AtomicUsize,
    /// The shim's name of this thread; null without.
    pub shim: AtomicPtr<core::ffi::c_void>,
    pub stealer: Option<Stealer<Fresh>>,
    pub share: Share,
    /// Others have fresh fibers that are not for this worker yet: it sleeps, and will look again by
    /// itself.
    pub declines: AtomicBool,
    /// The thread's id in the kernel.
    pub tid: AtomicI32,
}

impl Node for Fiber {
    fn next(&self) -> *mut Fiber {
        self.next.get()
    }
    fn set_next(&self, next: *mut Fiber) {
        self.next.set(next);
    }
}

impl Worker {
    pub(crate) fn new(runtime: *const Runtime, index: usize, workers: usize) -> Worker {
        let fresh = FreshQueue::new(workers > 1);
        let stealer = fresh.stealer();
        Worker {
            current: Shown::new(null_mut()),
            ready: List::new(),
            turns: Turns::new(),
            fresh_turn: Cell::new(false),
            errno: Cell::new(null_mut()),
            runtimes: Runtimes::new(),
            scheduler: Cell::new(null_mut()),
            fresh,
            runtime,
            index,
            float: FloatControl::current(),
            records: Records::new(),
            stacks: RefCell::new(Stacks::new()),
            starved: Cell::new(false),
            timers: RefCell::new(Timers::default()),
            host: Cell::new(None),
            patience: Patience::new(),
            trimmed_at: Cell::new(0),
            remote: Remote {
                inbox: Inbox::new(),
                cancels: Requests::new(),
                wakers: AtomicUsize::new(0),
                shim: AtomicPtr::new(null_mut()),
                stealer,
                share: Share::default(),
                declines: AtomicBool::new(false),
                tid: AtomicI32::new(0),
            },
        }
    }

    /// The fiber that runs here. Only called on one.
    #[inline(always)]
    pub(crate) fn running(&self) -> &'static Fiber {
        debug_assert!(!self.current.get().is_null(), "on the scheduler's stack");
        // SAFETY: records are never unmapped, and the caller runs on a fiber.
        unsafe { &*self.current.get() }
    }

    #[inline(always)]
    pub(crate) fn runtime(&self) -> &Runtime {
        // SAFETY: the runtime owns its workers.
        unsafe { &*self.runtime }
    }

    /// How many fibers could run here now, the running one not counted.
    #[inline]
    pub(crate) fn runnable(&self) -> usize {
        let fresh = if self.fresh.any() {
            self.fresh.len()
        } else {
            0
        };
        self.ready.len() + fresh + usize::from(!self.remote.inbox.is_empty())
    }
}

impl Remote {
    /// Ends the worker's sleep, or the one it is about to begin.
    pub(crate) fn rouse(&self) {
        if self.inbox.rouse() {
            self.wake();
        }
    }

    /// Wakes a worker whose announced sleep the caller has just ended.
    #[cold]
    pub(crate) fn wake(&self) {
        let shim = self.shim.load(Ordering::Acquire);
        if shim.is_null() {
            let _ = rustix::thread::futex::wake(
                self.inbox.futex(),
                rustix::thread::futex::Flags::PRIVATE,
                1,
            );
        } else {
            crate::host::wake(shim);
        }
    }

    /// Waits until nobody is in the middle of waking this worker any more.
    pub(crate) fn quiesce(&self) {
        let mut backoff = crate::spin::Backoff::default();
        while self.wakers.load(Ordering::Acquire) != 0 {
            backoff.relax();
        }
    }
}
