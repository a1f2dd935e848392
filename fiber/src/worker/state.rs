//! A worker: one OS thread that runs fibers, and all data that belongs to it.
//!
//! Invariant: only the worker's own thread uses a worker outside its [`Remote`] part, on the stack
//! of a fiber or of the scheduler. Other threads reach a worker through a fiber that runs there.

use super::crowding::Creations;
use super::remote::Remote;
use super::round::{Published, Round, Yields};
use super::runtime::Runtime;
use super::shim::Attachment;
use super::spin_time::SpinTime;
use super::thread_state::ThreadState;
use super::unstarted::UnstartedQueue;
use crate::arch::FloatControl;
use crate::clock::Instant;
use crate::record::fiber::Fiber;
use crate::record::list::List;
use crate::record::slab::Records;
use crate::record::stack::{Class, Stacks};
use crate::record::timer::Timers;
use core::cell::{Cell, RefCell};
use core::ptr::{null, null_mut};
use core::sync::atomic::Ordering;

/// Minimum time between two trims of deep stacks, in nanoseconds.
const TRIM_INTERVAL: u64 = 100_000_000;

/// A worker of a runtime.
#[repr(C, align(64))]
pub(crate) struct Worker {
    // Every switch uses the fields below.
    /// The running fiber, or null on the scheduler's own stack.
    current: Published<Fiber>,
    /// Started fibers that can run.
    ready: List,
    round: Round,
    /// Whether the next pick prefers an unstarted fiber to a ready one.
    unstarted_turn: Cell<bool>,
    /// The address of this thread's errno. A fiber never changes its thread, so the address stays
    /// valid across switches.
    errno: Cell<*mut i32>,
    /// State that the C and C++ runtimes keep per thread but each fiber needs for itself.
    thread_state: ThreadState,
    /// The saved context of the scheduler.
    scheduler: Cell<*mut u8>,
    unstarted: UnstartedQueue,

    runtime: *const Runtime,
    index: usize,
    /// The floating-point control words of new fibers: those of the caller of fiber_run.
    float: FloatControl,
    records: Records,
    stacks: RefCell<Stacks>,
    /// Set while unstarted fibers wait because no stack could be allocated.
    out_of_stacks: Cell<bool>,
    timers: RefCell<Timers>,
    /// Set while the worker is attached to the shim.
    shim: Cell<Option<Attachment>>,
    spin_time: SpinTime,
    creations: Creations,
    yields: Yields,
    /// The time when deep stacks were last trimmed.
    trimmed_at: Cell<Instant>,
    remote: Remote,
}

/// The running fiber, the lists it comes from, and the thread it runs on.
impl Worker {
    pub(super) fn new(runtime: *const Runtime, index: usize, workers: usize) -> Worker {
        let unstarted = UnstartedQueue::new(workers > 1);
        let stealer = unstarted.stealer();
        Worker {
            current: Published::new(null_mut()),
            ready: List::new(),
            round: Round::new(),
            unstarted_turn: Cell::new(false),
            errno: Cell::new(null_mut()),
            thread_state: ThreadState::new(),
            scheduler: Cell::new(null_mut()),
            unstarted,
            runtime,
            index,
            float: FloatControl::current(),
            records: Records::new(),
            stacks: RefCell::new(Stacks::new()),
            out_of_stacks: Cell::new(false),
            timers: RefCell::new(Timers::default()),
            shim: Cell::new(None),
            spin_time: SpinTime::new(),
            creations: Creations::default(),
            yields: Yields::default(),
            trimmed_at: Cell::new(0),
            remote: Remote::new(stealer),
        }
    }

    /// The fiber that runs on this worker, or null on the scheduler's stack.
    #[inline(always)]
    pub(crate) fn current(&self) -> *mut Fiber {
        self.current.get()
    }

    /// Records which fiber's stack the thread runs on from now on; null means the scheduler's.
    #[inline(always)]
    pub(crate) fn set_current(&self, fiber: *mut Fiber) {
        self.current.set(fiber);
    }

    /// Where other threads may read which fiber runs.
    pub(crate) fn current_address(&self) -> *const *mut Fiber {
        self.current.address()
    }

    /// The fiber that runs on this worker. Call this only on a fiber.
    #[inline(always)]
    pub(crate) fn running(&self) -> &'static Fiber {
        debug_assert!(!self.current.get().is_null(), "on the scheduler's stack");
        // SAFETY: records are never unmapped, and the caller runs on a fiber.
        unsafe { &*self.current.get() }
    }

    /// The started fibers that can run.
    #[inline(always)]
    pub(crate) fn ready(&self) -> &List {
        &self.ready
    }

    /// The fibers that it created.
    #[inline(always)]
    pub(crate) fn creations(&self) -> &Creations {
        &self.creations
    }

    /// The fibers that have not started yet.
    #[inline(always)]
    pub(crate) fn unstarted(&self) -> &UnstartedQueue {
        &self.unstarted
    }

    /// Returns whether this pick prefers an unstarted fiber to a ready one. Picks alternate.
    #[inline(always)]
    pub(crate) fn takes_unstarted_turn(&self) -> bool {
        self.unstarted_turn.replace(!self.unstarted_turn.get())
    }

    #[inline(always)]
    pub(crate) fn round(&self) -> &Round {
        &self.round
    }

    /// The last yields of its fibers in the shim.
    pub(crate) fn yields(&self) -> &Yields {
        &self.yields
    }

    /// The number of fibers that could run on this worker now, not counting the running one.
    #[inline]
    pub(crate) fn runnable(&self) -> usize {
        let unstarted = if self.unstarted.may_have_any() {
            self.unstarted.len()
        } else {
            0
        };
        self.ready.len() + unstarted + usize::from(!self.remote.inbox().is_empty())
    }

    /// Binds the worker to the calling thread, which runs it from now on.
    pub(crate) fn bind_to_thread(&self) {
        // SAFETY: the call returns the address of this thread's errno and has no preconditions.
        self.errno.set(unsafe { libc::__errno_location() });
        self.remote.set_tid();
    }

    /// The address of errno of the worker's thread.
    #[inline(always)]
    pub(crate) fn errno(&self) -> *mut i32 {
        self.errno.get()
    }

    #[inline(always)]
    pub(crate) fn thread_state(&self) -> &ThreadState {
        &self.thread_state
    }

    /// The saved context of the scheduler.
    #[inline(always)]
    pub(crate) fn scheduler(&self) -> *mut u8 {
        self.scheduler.get()
    }

    /// Where a switch saves the context of the scheduler.
    #[inline(always)]
    pub(crate) fn scheduler_address(&self) -> *mut *mut u8 {
        self.scheduler.as_ptr()
    }

    /// The floating-point control words of new fibers.
    #[inline(always)]
    pub(crate) fn float(&self) -> &FloatControl {
        &self.float
    }
}

/// The runtime, and the part that other threads use.
impl Worker {
    #[inline(always)]
    pub(crate) fn runtime(&self) -> &Runtime {
        // SAFETY: the runtime owns its workers.
        unsafe { &*self.runtime }
    }

    /// The position of the worker in its runtime.
    pub(crate) fn index(&self) -> usize {
        self.index
    }

    #[inline(always)]
    pub(crate) fn remote(&self) -> &Remote {
        &self.remote
    }

    /// The part of `worker` that other threads may use.
    ///
    /// # Safety
    /// The worker exists as long as the result is used.
    #[inline(always)]
    pub(crate) unsafe fn remote_of<'a>(worker: *const Worker) -> &'a Remote {
        // SAFETY: the worker exists, and this refers to no other part of it.
        unsafe { &(*worker).remote }
    }

    /// The worker's attachment to the shim, if there is one.
    #[inline(always)]
    pub(crate) fn shim(&self) -> Option<Attachment> {
        self.shim.get()
    }

    /// Records that the worker is attached to the shim.
    pub(crate) fn set_shim(&self, shim: Attachment) {
        self.shim.set(Some(shim));
        self.remote.set_shim(shim.thread());
    }

    /// Takes the attachment, to detach.
    pub(crate) fn take_shim(&self) -> Option<Attachment> {
        let shim = self.shim.take();
        if shim.is_some() {
            self.remote.set_shim(null_mut());
        }
        shim
    }

    /// Returns the number of fibers parked in the shim that it can still wake.
    #[inline(always)]
    pub(crate) fn in_flight(&self) -> usize {
        self.shim.get().map_or(0, |shim| shim.in_flight())
    }

    /// Returns whether only another fiber or thread can wake the fibers parked in the shim. Also
    /// true if there are none.
    pub(crate) fn waits_for_others_only(&self) -> bool {
        self.shim
            .get()
            .is_none_or(|shim| shim.in_flight() == 0 || shim.all_blocked())
    }

    pub(crate) fn spin_time(&self) -> &SpinTime {
        &self.spin_time
    }

    /// In a forked child: drops all fibers but the running one, and what other threads have left.
    pub(crate) fn reset_after_fork(&self) {
        self.ready.clear();
        self.unstarted.forget();
        self.out_of_stacks.set(false);
        self.round.set_turns_left(0);
        self.timers.borrow_mut().forget();
        self.remote.reset_after_fork();
    }
}

/// Records, stacks and timers.
impl Worker {
    /// The free records.
    #[inline(always)]
    pub(crate) fn records(&self) -> &Records {
        &self.records
    }

    /// Takes a free stack, or returns `None` if memory runs out.
    #[inline(always)]
    pub(crate) fn take_stack(&self, class: Class) -> Option<*mut u8> {
        self.stacks.borrow_mut().take(class)
    }

    /// Takes a stack back. The caller may continue to run on it until it takes another stack.
    #[inline(always)]
    pub(crate) fn put_stack(&self, stack: *mut u8, class: Class) {
        self.stacks.borrow_mut().put(stack, class);
    }

    /// Returns whether [`trim_excess_stacks`](Self::trim_excess_stacks) has work.
    #[inline(always)]
    pub(crate) fn has_excess_stacks(&self) -> bool {
        self.stacks.borrow().has_excess()
    }

    /// Returns the memory of stacks that are too many. Do not call this on a fiber.
    pub(crate) fn trim_excess_stacks(&self) {
        self.stacks.borrow_mut().trim_excess();
    }

    /// Returns the memory that deep calls left in free stacks, unless that was done a short while
    /// ago. Do not call this on a fiber.
    pub(crate) fn trim_deep_stacks(&self, now: Instant) {
        if now.saturating_sub(self.trimmed_at.get()) > TRIM_INTERVAL {
            self.trimmed_at.set(now);
            self.stacks.borrow_mut().trim_deep();
        }
    }

    /// Returns whether deep stacks were ever trimmed.
    pub(crate) fn was_trimmed(&self) -> bool {
        self.trimmed_at.get() != 0
    }

    /// Records that an unstarted fiber waits because no stack could be allocated.
    #[inline(always)]
    pub(crate) fn set_out_of_stacks(&self) {
        self.out_of_stacks.set(true);
    }

    /// Returns whether an unstarted fiber waits for a stack.
    pub(crate) fn lacks_stack(&self) -> bool {
        self.out_of_stacks.get() && self.unstarted.len() > 0
    }

    /// Returns whether an unstarted fiber waits for a stack, and resets that.
    #[inline(always)]
    pub(crate) fn take_out_of_stacks(&self) -> bool {
        self.out_of_stacks.replace(false)
    }

    /// Gives all stacks and records back when the worker ends.
    pub(crate) fn flush(&self) {
        self.stacks.borrow_mut().flush();
        self.records.flush();
    }

    /// Returns when the first timer expires, or `NEVER` if there is none.
    #[inline(always)]
    pub(crate) fn first_timer(&self) -> Instant {
        self.timers.borrow().first()
    }

    /// Sets the timer of `fiber`, which must have none.
    #[inline(always)]
    pub(crate) fn set_timer(&self, fiber: &Fiber, at: Instant) {
        self.timers.borrow_mut().set(fiber, at);
    }

    /// Removes the timer of `fiber`, if it has one.
    #[inline(always)]
    pub(crate) fn cancel_timer(&self, fiber: &Fiber) {
        self.timers.borrow_mut().cancel(fiber);
    }

    /// Takes one fiber whose timer has expired by `now`.
    pub(crate) fn take_expired(&self, now: Instant) -> Option<*const Fiber> {
        self.timers.borrow_mut().pop(now)
    }
}

/// What a record says of the worker and the runtime of its fiber. The record has only their
/// addresses.
impl Fiber {
    /// The worker that the fiber runs on, or null before its start.
    #[inline(always)]
    pub(crate) fn worker(&self) -> *const Worker {
        self.worker_address
            .load(Ordering::Relaxed)
            .cast_const()
            .cast()
    }

    /// Assigns the fiber to a worker, or to none before its start.
    #[inline(always)]
    pub(crate) fn set_worker(&self, worker: Option<&Worker>) {
        let address = worker.map_or(null(), core::ptr::from_ref);
        self.worker_address
            .store(address.cast_mut().cast(), Ordering::Relaxed);
    }

    /// Returns whether the fiber belongs to `runtime`.
    #[inline(always)]
    pub(crate) fn is_of(&self, runtime: *const Runtime) -> bool {
        core::ptr::eq(
            self.runtime_address
                .load(Ordering::Relaxed)
                .cast_const()
                .cast(),
            runtime,
        )
    }

    /// Assigns the fiber to a runtime.
    #[inline(always)]
    pub(crate) fn set_runtime(&self, runtime: *const Runtime) {
        self.runtime_address
            .store(runtime.cast_mut().cast(), Ordering::Relaxed);
    }
}
