//! A runtime, created by one call of `fiber_run`: its workers and the number of fibers that have
//! not ended.
//!
//! Invariant: the runtime outlives its workers and their threads. It frees a worker only after
//! every fiber has ended, the worker's thread has exited and no other thread is in the middle of
//! waking it.

use crate::errno::Errno;
use crate::host;
use crate::launch::fork;
use crate::record::fiber::{Entry, Fiber, Life};
use crate::record::slab;
use crate::record::stack::Class;
use crate::report::overflow;
use crate::report::overflow::SignalStack;
use crate::sched::idle::{self, Idle};
use crate::sched::join::{self, Spec};
use crate::sched::switching as sched;
use crate::worker::current;
use crate::worker::gate::Gate;
use crate::worker::load::Marks;
use crate::worker::state::Worker;
use core::cell::UnsafeCell;
use core::ffi::c_void;
use core::ptr::null_mut;
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, Ordering};
use crossbeam_deque::Stealer;
use std::thread;

/// The parameters of a new runtime.
#[derive(Clone, Copy)]
pub(crate) struct Setup {
    pub workers: usize,
    pub class: Class,
    /// Whether the first fiber is a Rust fiber, which unwinds when it is cancelled.
    pub unwinds: bool,
}

pub(crate) struct Runtime {
    /// All workers ever created. The active ones are `first..first + count`.
    all: UnsafeCell<Vec<Worker>>,
    first: AtomicUsize,
    count: AtomicUsize,
    /// The default stack size class of new fibers.
    pub class: Class,
    /// Fibers that have not ended.
    pub live: AtomicUsize,
    /// Set when no fiber is left; the workers then return.
    pub done: AtomicBool,
    pub idle: Idle,
    marks: Marks,
    /// Whether there is a CPU for each worker.
    roomy: bool,
    gate: Gate,
    /// The handle of the first fiber, and below its result.
    main: AtomicU64,
    main_result: AtomicPtr<c_void>,
}

// SAFETY: each worker has a part for its own thread and a part for all threads, see worker.rs. The
// vector itself is complete before the second thread starts.
unsafe impl Sync for Runtime {}
// SAFETY: the threads of the runtime share it under the rules that `Sync` above relies on.
unsafe impl Send for Runtime {}

/// The address of a runtime, passed to its threads.
#[derive(Clone, Copy)]
struct Shared(*const Runtime);

// SAFETY: `run` joins the threads before it frees the runtime.
unsafe impl Send for Shared {}

/// Runs `entry(arg)` as the first fiber of a new runtime. Returns its result once every fiber has
/// ended.
pub(crate) fn run(setup: Setup, entry: Entry, arg: *mut c_void) -> Result<*mut c_void, Errno> {
    if current::worker().is_some() {
        return Err(Errno::EBUSY);
    }
    fork::starting(|| {
        overflow::install();
        host::find();
    });
    let runtime = Box::new(Runtime {
        all: UnsafeCell::new(Vec::with_capacity(setup.workers)),
        first: AtomicUsize::new(0),
        count: AtomicUsize::new(setup.workers),
        class: setup.class,
        live: AtomicUsize::new(0),
        done: AtomicBool::new(false),
        idle: Idle::default(),
        marks: Marks::default(),
        roomy: idle::may_look_out(setup.workers),
        gate: Gate::new(setup.workers),
        main: AtomicU64::new(0),
        main_result: AtomicPtr::new(null_mut()),
    });
    let address: *const Runtime = &raw const *runtime;
    for i in 0..setup.workers {
        // SAFETY: no other thread knows the runtime yet.
        unsafe { (*runtime.all.get()).push(Worker::new(address, i, setup.workers)) };
    }
    let result = runtime.run(entry, arg, setup.unwinds);
    if fork::epoch() != 0 && runtime.workers().len() != setup.workers {
        // In a forked child, some data may still belong to the other workers, and there is no way
        // to tell which. Therefore the runtime is leaked.
        core::mem::forget(runtime);
    }
    result
}

impl Runtime {
    fn run(&self, entry: Entry, arg: *mut c_void, unwinds: bool) -> Result<*mut c_void, Errno> {
        let workers = self.workers();
        // The first fiber runs on the caller's thread.
        let spec = Spec {
            class: self.class,
            name: [0; _],
            detached: false,
            stays: true,
            unwinds,
        };
        let main = join::create(&workers[0], &spec, entry, arg)?;
        self.main.store(main.0, Ordering::Relaxed);
        let shared = Shared(self);
        let mut threads = Vec::new();
        for i in 1..workers.len() {
            let name = format!("fiber-{i}");
            match thread::Builder::new()
                .name(name)
                .spawn(move || worker_thread(shared, i))
            {
                Ok(thread) => threads.push(thread),
                Err(_) => {
                    self.call_off(&workers[0]);
                    break;
                }
            }
        }
        let whole = threads.len() + 1 == workers.len();
        if whole {
            serve(&workers[0], &self.gate);
        }
        if self.workers().len() == workers.len() {
            for thread in threads {
                let _ = thread.join();
            }
        } else {
            // In a forked child the other threads do not exist.
            core::mem::forget(threads);
        }
        self.sweep(&workers[0]);
        if whole {
            Ok(self.main_result.load(Ordering::Relaxed))
        } else {
            Err(Errno::EAGAIN)
        }
    }

    /// Stops the threads that were started, because another one could not be started. The first
    /// fiber never ran.
    fn call_off(&self, worker: &Worker) {
        worker.fresh.pop();
        self.one_less();
        self.gate.open();
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

    /// Returns whether an idle worker should spin for a while before it sleeps.
    pub(crate) fn looks_out(&self) -> bool {
        self.roomy && !self.is_single()
    }

    /// Counts a new fiber.
    #[inline(always)]
    pub(crate) fn one_more(&self) {
        if self.is_single() {
            self.live
                .store(self.live.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        } else {
            self.live.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Counts the end of a fiber. The last one stops the workers.
    #[inline(always)]
    pub(crate) fn one_less(&self) {
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
            worker.remote.wakers.fetch_add(1, Ordering::Relaxed);
        }
        self.done.store(true, Ordering::SeqCst);
        for worker in workers {
            worker.remote.end_sleep();
            worker.remote.wakers.fetch_sub(1, Ordering::Release);
        }
    }

    /// Wakes an idle worker that may take a fresh fiber from `worker`, which just got a new one.
    #[inline(always)]
    pub(crate) fn offer(&self, worker: &Worker) {
        if !self.is_single() {
            self.offer_to_sleepers(worker);
        }
    }

    fn offer_to_sleepers(&self, worker: &Worker) {
        core::sync::atomic::fence(Ordering::SeqCst);
        let would_take = |idle: &Worker| {
            !idle.remote.declines.load(Ordering::Relaxed)
                || self.marks.due(self.workers(), idle, worker) > 0
        };
        let idle = self
            .workers()
            .iter()
            .find(|w| !core::ptr::eq(*w, worker) && w.remote.inbox.is_sleeping() && would_take(w));
        if let Some(idle) = idle {
            idle.remote.end_sleep();
        }
    }

    /// Returns whether any worker has fresh fibers that other workers may take.
    pub(crate) fn has_fresh(&self) -> bool {
        !self.is_single() && self.stealers().any(|s| !s.is_empty())
    }

    /// Returns whether the idle `worker` may take fresh fibers from another worker.
    pub(crate) fn has_fresh_for(&self, worker: &Worker) -> bool {
        self.others(worker)
            .any(|other| self.marks.due(self.workers(), worker, other) > 0)
    }

    /// Takes fresh fibers from another worker if this one may have some. Returns whether it took
    /// any.
    pub(crate) fn steal(&self, worker: &Worker) -> bool {
        self.others(worker).any(|other| {
            let due = self.marks.due(self.workers(), worker, other);
            let from = other.remote.stealer.as_ref().filter(|_| due > 0);
            from.is_some_and(|from| worker.fresh.steal(from, due))
        })
    }

    /// All other workers, starting with the one after `worker`.
    fn others(&self, worker: &Worker) -> impl Iterator<Item = &Worker> {
        let workers = self.workers();
        let (before, rest) = workers
            .split_at((worker.index - self.first.load(Ordering::Relaxed)).min(workers.len()));
        rest.iter().skip(1).chain(before)
    }

    fn stealers(&self) -> impl Iterator<Item = &Stealer<crate::worker::unstarted::Fresh>> {
        self.workers()
            .iter()
            .filter_map(|w| w.remote.stealer.as_ref())
    }

    /// Stores the result of the first fiber, which is also the result of `fiber_run`.
    #[inline(always)]
    pub(crate) fn note_main_result(&self, fiber: &Fiber, result: *mut c_void) {
        if fiber.handle().0 == self.main.load(Ordering::Relaxed) {
            self.main_result.store(result, Ordering::Relaxed);
        }
    }

    /// In a forked child: keeps only `worker` and the fiber it runs.
    pub(crate) fn reduce_to(&self, worker: &Worker) {
        self.first.store(worker.index, Ordering::Relaxed);
        self.count.store(1, Ordering::Relaxed);
        self.live.store(1, Ordering::Relaxed);
        self.done.store(false, Ordering::Relaxed);
        self.idle.forget();
    }

    /// Frees the records of fibers that ended but were never joined. No fiber is left that could
    /// join them.
    fn sweep(&self, worker: &Worker) {
        slab::for_each(|fiber, life| {
            if fiber.runtime.load(Ordering::Relaxed).cast_const() == core::ptr::from_ref(self)
                && matches!(life.state(), Life::ENDED | Life::LIVE | Life::DETACHED)
            {
                worker.records.put(fiber);
            }
        });
        worker.records.flush();
    }
}

fn worker_thread(runtime: Shared, index: usize) {
    // SAFETY: `run` joins this thread before it frees the runtime.
    let runtime = unsafe { &*runtime.0 };
    serve(&runtime.workers()[index], &runtime.gate);
}

/// Runs `worker` on the calling thread until the last fiber of the runtime has ended.
fn serve(worker: &Worker, gate: &Gate) {
    // SAFETY: the call returns the address of this thread's errno and has no preconditions.
    worker.errno.set(unsafe { libc::__errno_location() });
    worker.remote.tid.store(
        rustix::thread::gettid().as_raw_nonzero().get(),
        Ordering::Relaxed,
    );
    let signal_stack = SignalStack::install();
    current::set_worker(worker);
    host::attach(worker);
    worker.thread_state.attach();
    gate.pass();
    worker.thread_state.save_over(|| sched::run(worker));
    worker.remote.quiesce();
    host::detach(worker);
    current::set_worker(core::ptr::null());
    drop(signal_stack);
    worker.stacks.borrow_mut().flush();
    worker.records.flush();
}
