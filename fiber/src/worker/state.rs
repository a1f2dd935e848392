//! A worker: one OS thread that runs fibers, and all data that belongs to it.
//!
//! Invariant: only the worker's own thread touches the fields outside [`Remote`], on the stack of a
//! fiber or of the scheduler. Other threads reach a worker through a fiber that runs there, and use
//! only its `remote`.

use crate::arch::FloatControl;
use crate::clock::Instant;
use crate::host::Attachment;
use crate::launch::runtime::Runtime;
use crate::record::fiber::{Fiber, List};
use crate::record::slab::Records;
use crate::record::stack::Stacks;
use crate::record::timer::Timers;
use crate::sched::cancel::Requests;
use crate::sched::idle::Patience;
use crate::worker::load::Share;
use crate::worker::round::{Shown, Turns};
use crate::worker::thread_state::ThreadState;
use crate::worker::unstarted::{Fresh, FreshQueue};
use core::cell::{Cell, RefCell};
use core::ptr::null_mut;
use core::sync::atomic::{AtomicBool, AtomicI32, AtomicPtr, AtomicUsize, Ordering};
use crossbeam_deque::Stealer;
use queue::{Inbox, Link};

/// A worker of a runtime.
#[repr(C, align(64))]
pub(crate) struct Worker {
    // Every switch uses the fields below.
    /// The running fiber, or null on the scheduler's own stack.
    pub current: Shown<Fiber>,
    /// Started fibers that can run.
    pub ready: List,
    pub turns: Turns,
    /// Whether the next pick prefers a fresh fiber to a ready one.
    pub fresh_turn: Cell<bool>,
    /// The address of this thread's errno. A fiber never changes its thread, so the address stays
    /// valid across switches.
    pub errno: Cell<*mut i32>,
    /// State that the C and C++ runtimes keep per thread but each fiber needs for itself.
    pub thread_state: ThreadState,
    /// The saved context of the scheduler.
    pub scheduler: Cell<*mut u8>,
    pub fresh: FreshQueue,

    pub runtime: *const Runtime,
    pub index: usize,
    /// The floating-point control words of new fibers: those of the caller of fiber_run.
    pub float: FloatControl,
    pub records: Records,
    pub stacks: RefCell<Stacks>,
    /// Set while fresh fibers wait because no stack could be allocated.
    pub starved: Cell<bool>,
    pub timers: RefCell<Timers>,
    /// Set while the worker is attached to the shim.
    pub host: Cell<Option<Attachment>>,
    pub patience: Patience,
    /// The time when deep stacks were last trimmed.
    pub trimmed_at: Cell<Instant>,
    pub remote: Remote,
}

/// The part of a worker that other threads may use.
#[repr(align(128))]
pub(crate) struct Remote {
    pub inbox: Inbox<Fiber>,
    /// Fibers of this worker whose waits are to be cancelled.
    pub cancels: Requests,
    /// The number of threads that are in the middle of waking this worker. It is not freed until
    /// this is zero.
    pub wakers: AtomicUsize,
    /// The shim's handle for this thread, or null if it is not attached.
    pub shim: AtomicPtr<core::ffi::c_void>,
    pub stealer: Option<Stealer<Fresh>>,
    pub share: Share,
    /// Set while the worker sleeps although others have fresh fibers, because it may not take them
    /// yet. It will check again without being woken.
    pub declines: AtomicBool,
    /// The kernel's id of the thread.
    pub tid: AtomicI32,
}

impl Link for Fiber {
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
            thread_state: ThreadState::new(),
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
                inbox: Inbox::default(),
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

    /// The fiber that runs on this worker. Call this only on a fiber.
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

    /// The number of fibers that could run on this worker now, not counting the running one.
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
    /// Ends the worker's sleep, or prevents the sleep that it is about to begin.
    pub(crate) fn end_sleep(&self) {
        if self.inbox.end_sleep() {
            self.wake();
        }
    }

    /// Wakes a worker after the caller has withdrawn its announced sleep.
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

    /// Waits until no thread is in the middle of waking this worker.
    pub(crate) fn quiesce(&self) {
        let mut backoff = queue::Backoff::default();
        while self.wakers.load(Ordering::Acquire) != 0 {
            backoff.relax();
        }
    }
}
