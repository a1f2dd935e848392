//! A runtime, created by one call of `fiber_run`: its workers and the number of fibers that have
//! not ended.
//!
//! Invariant: the runtime outlives its workers and their threads. It frees a worker only after
//! every fiber has ended, the worker's thread has exited and no other thread is in the middle of
//! waking it.

use super::cpus::Cpus;
use super::crowding::{BACKLOG, Crowding};
use super::gate::Gate;
use super::idle_workers::IdleWorkers;
use super::load::{self, LastSample};
use super::state::Worker;
use crate::clock::{self, Instant};
use crate::record::fiber::{Fiber, Handle, Life};
use crate::record::slab;
use crate::record::stack::Class;
use core::cell::UnsafeCell;
use core::ffi::c_void;
use core::ptr::null_mut;
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, Ordering, fence};

pub(crate) struct Runtime {
    /// All workers ever created. The active ones are `first..first + count`.
    all: UnsafeCell<Vec<Worker>>,
    first: AtomicUsize,
    count: AtomicUsize,
    /// The default stack size class of new fibers.
    class: Class,
    /// Fibers that have not ended.
    live: AtomicUsize,
    /// Set when no fiber is left; the workers then return.
    done: AtomicBool,
    idle: IdleWorkers,
    last_sample: LastSample,
    cpus: Cpus,
    crowding: Crowding,
    gate: Gate,
    /// The handle of the first fiber, and below its result.
    main: AtomicU64,
    main_result: AtomicPtr<c_void>,
}

// SAFETY: each worker has a part for its own thread and a part for all threads, see state.rs. The
// vector itself is complete before the second thread starts.
unsafe impl Sync for Runtime {}
// SAFETY: the threads of the runtime share it under the rules that `Sync` above relies on.
unsafe impl Send for Runtime {}

/// The workers, and whether fibers are left.
impl Runtime {
    /// Creates a runtime with `workers` workers, whose fibers have stacks of `class` by default.
    pub(crate) fn new(workers: usize, class: Class) -> Box<Runtime> {
        let runtime = Box::new(Runtime {
            all: UnsafeCell::new(Vec::with_capacity(workers)),
            first: AtomicUsize::new(0),
            count: AtomicUsize::new(workers),
            class,
            live: AtomicUsize::new(0),
            done: AtomicBool::new(false),
            idle: IdleWorkers::default(),
            last_sample: LastSample::default(),
            cpus: Cpus::new(workers),
            crowding: Crowding::default(),
            gate: Gate::new(workers),
            main: AtomicU64::new(0),
            main_result: AtomicPtr::new(null_mut()),
        });
        let address: *const Runtime = &raw const *runtime;
        for i in 0..workers {
            // SAFETY: no other thread knows the runtime yet.
            unsafe { (*runtime.all.get()).push(Worker::new(address, i, workers)) };
        }
        runtime
    }

    /// The active workers.
    pub(crate) fn workers(&self) -> &[Worker] {
        let first = self.first.load(Ordering::Relaxed);
        // SAFETY: the vector is complete before a second thread can read it.
        unsafe { &(&(*self.all.get()))[first..first + self.count.load(Ordering::Relaxed)] }
    }

    /// Returns whether there is only one active worker.
    #[inline(always)]
    pub(crate) fn is_single(&self) -> bool {
        self.count.load(Ordering::Relaxed) == 1
    }

    /// The default stack size class of new fibers.
    pub(crate) fn class(&self) -> Class {
        self.class
    }

    /// The gate before the first fiber.
    pub(crate) fn gate(&self) -> &Gate {
        &self.gate
    }

    /// The CPUs that the workers start on.
    pub(crate) fn cpus(&self) -> &Cpus {
        &self.cpus
    }

    /// The workers that have nothing to do.
    pub(crate) fn idle(&self) -> &IdleWorkers {
        &self.idle
    }

    /// Returns the number of fibers that have not ended.
    pub(crate) fn live(&self) -> usize {
        self.live.load(Ordering::Relaxed)
    }

    /// Returns whether no fiber is left, as a hint.
    pub(crate) fn may_be_done(&self) -> bool {
        self.done.load(Ordering::Relaxed)
    }

    /// Returns whether no fiber is left. The workers then return.
    pub(crate) fn is_done(&self) -> bool {
        self.done.load(Ordering::SeqCst)
    }

    /// Returns whether an idle worker should spin for a while before it sleeps.
    pub(crate) fn spins_before_sleep(&self) -> bool {
        self.cpus.has_spare() && !self.is_single() && !self.crowding.pauses()
    }

    /// Counts a new fiber.
    #[inline(always)]
    pub(crate) fn count_new(&self) {
        if self.is_single() {
            self.live
                .store(self.live.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        } else {
            self.live.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Counts the end of a fiber. The last one stops the workers.
    #[inline(always)]
    pub(crate) fn count_end(&self) {
        let left = if self.is_single() {
            let left = self.live.load(Ordering::Relaxed) - 1;
            self.live.store(left, Ordering::Relaxed);
            left
        } else {
            self.live.fetch_sub(1, Ordering::AcqRel) - 1
        };
        if left == 0 {
            self.finish();
        }
    }

    /// Tells every worker to return.
    #[cold]
    fn finish(&self) {
        let workers = self.workers();
        // Keep all workers alive until we have woken them.
        for worker in workers {
            worker.remote().begin_wake();
        }
        self.done.store(true, Ordering::SeqCst);
        for worker in workers {
            worker.remote().end_sleep();
            worker.remote().end_wake();
        }
    }

    /// Records which fiber is the first one.
    pub(crate) fn set_main(&self, main: Handle) {
        self.main.store(main.0, Ordering::Relaxed);
    }

    /// Stores the result of the first fiber, which is also the result of `fiber_run`.
    #[inline(always)]
    pub(crate) fn note_main_result(&self, fiber: &Fiber, result: *mut c_void) {
        if fiber.handle().0 == self.main.load(Ordering::Relaxed) {
            self.main_result.store(result, Ordering::Relaxed);
        }
    }

    /// The result of the first fiber.
    pub(crate) fn main_result(&self) -> *mut c_void {
        self.main_result.load(Ordering::Relaxed)
    }

    /// In a forked child: keeps only `worker` and the fiber it runs.
    pub(crate) fn reset_after_fork(&self, worker: &Worker) {
        self.first.store(worker.index(), Ordering::Relaxed);
        self.count.store(1, Ordering::Relaxed);
        self.live.store(1, Ordering::Relaxed);
        self.done.store(false, Ordering::Relaxed);
        self.idle.forget();
    }

    /// Frees the records of fibers that ended but were never joined. No fiber is left that could
    /// join them.
    pub(crate) fn free_records(&self, worker: &Worker) {
        slab::for_each(|fiber, life| {
            if fiber.is_of(self)
                && matches!(life.state(), Life::ENDED | Life::LIVE | Life::DETACHED)
            {
                worker.records().put(fiber);
            }
        });
        worker.records().flush();
    }
}

/// Work stealing: idle workers take unstarted fibers from others.
impl Runtime {
    /// Wakes an idle worker that may take an unstarted fiber from `worker`, which just got a new
    /// one.
    #[inline(always)]
    pub(crate) fn offer(&self, worker: &Worker) {
        if !self.is_single() {
            self.offer_to_sleepers(worker);
        }
    }

    #[inline(never)]
    fn offer_to_sleepers(&self, worker: &Worker) {
        if worker.creations().count() {
            self.judge_crowding(worker);
        }
        fence(Ordering::SeqCst);
        if self.crowding.pauses() && worker.unstarted().len() < BACKLOG {
            return;
        }
        let would_take =
            |idle: &Worker| !idle.remote().refuses_steal() || self.steal_quota(idle, worker) > 0;
        let idle = self.workers().iter().find(|w| {
            !core::ptr::eq(*w, worker) && w.remote().inbox().is_sleeping() && would_take(w)
        });
        if let Some(idle) = idle {
            idle.remote().end_sleep();
        }
    }

    /// Begins or ends a pause of the offers ([`super::crowding`]).
    #[cold]
    fn judge_crowding(&self, worker: &Worker) {
        let now = clock::now();
        self.crowding.renew(now);
        let Some(preemptions) = preemptions_of_this_thread() else {
            return;
        };
        if worker.creations().judge(now, self.live(), preemptions) {
            self.pause_offers(now);
        }
    }

    /// Lets new fibers wake no idle worker for a while from `now` on.
    pub(crate) fn pause_offers(&self, now: Instant) {
        if self.crowding.begin(now) {
            // A worker that sleeps without a limit must look for work now and then.
            for worker in self.workers() {
                worker.remote().end_sleep();
            }
        }
    }

    /// Returns whether new fibers wake no idle worker at the moment, so that an idle worker must
    /// look for them.
    pub(crate) fn pauses_offers(&self) -> bool {
        if self.crowding.pauses() {
            self.crowding.renew(clock::now());
        }
        self.crowding.pauses()
    }

    /// Returns whether any worker has unstarted fibers that other workers may take.
    pub(crate) fn has_unstarted(&self) -> bool {
        let has_some = |w: &Worker| w.remote().stealer().is_some_and(|s| !s.is_empty());
        !self.is_single() && self.workers().iter().any(has_some)
    }

    /// Returns whether the idle `worker` may take unstarted fibers from another worker.
    pub(crate) fn has_unstarted_for(&self, worker: &Worker) -> bool {
        self.others(worker)
            .any(|other| self.steal_quota(worker, other) > 0)
    }

    /// Takes unstarted fibers from another worker if this one may have some. Returns whether it
    /// took any.
    pub(crate) fn steal(&self, worker: &Worker) -> bool {
        self.others(worker).any(|other| {
            let quota = self.steal_quota(worker, other);
            let from = other.remote().stealer().filter(|_| quota > 0);
            from.is_some_and(|from| worker.unstarted().steal(from, quota))
        })
    }

    /// Returns how many of the unstarted fibers of `owner` the idle worker `idle` may take. Reads
    /// the clock only if there are unstarted fibers and it may take none of them.
    fn steal_quota(&self, idle: &Worker, owner: &Worker) -> usize {
        let unstarted = owner.remote().stealer().map_or(0, |fibers| fibers.len());
        let quota = || load::steal_quota(idle.remote().load(), owner.remote().load(), unstarted);
        let sample = || {
            self.workers()
                .iter()
                .for_each(|w| w.remote().load().sample());
        };
        match quota() {
            0 if unstarted > 0 && self.last_sample.renew(clock::now(), sample) => quota(),
            quota => quota,
        }
    }

    /// All other workers, starting with the one after `worker`.
    fn others(&self, worker: &Worker) -> impl Iterator<Item = &Worker> {
        let workers = self.workers();
        let (before, rest) = workers
            .split_at((worker.index() - self.first.load(Ordering::Relaxed)).min(workers.len()));
        rest.iter().skip(1).chain(before)
    }
}

/// How often the kernel has preempted the calling thread: getrusage(2). None if that is refused.
fn preemptions_of_this_thread() -> Option<u64> {
    // SAFETY: zeroes are a valid `rusage`.
    let mut usage: libc::rusage = unsafe { core::mem::zeroed() };
    // SAFETY: the kernel writes one `rusage`, which is alive.
    let result = unsafe { libc::getrusage(libc::RUSAGE_THREAD, &raw mut usage) };
    (result == 0).then_some(usage.ru_nivcsw as u64)
}
