//! One `fiber_run`: its workers, and the count that says when the last fiber has ended.
//!
//! Invariant: the runtime outlives its workers and their threads. A worker is freed only after
//! every fiber has ended, its thread has gone and nobody is in the middle of waking it.

use crate::balance::Marks;
use crate::errno::Errno;
use crate::fiber::{Entry, Fiber, Life};
use crate::gate::Gate;
use crate::idle::{self, Idle};
use crate::join::{self, Spec};
use crate::overflow::SignalStack;
use crate::stack::Class;
use crate::worker::Worker;
use crate::{fork, host, overflow, sched, slab, tls};
use core::cell::UnsafeCell;
use core::ffi::c_void;
use core::ptr::null_mut;
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, Ordering};
use crossbeam_deque::Stealer;
use std::thread;

/// How a runtime is set up.
#[derive(Clone, Copy)]
pub(crate) struct Setup {
    pub workers: usize,
    pub class: Class,
    /// The first fiber is a Rust one.
    pub unwinds: bool,
}

pub(crate) struct Runtime {
    /// All workers made; those that count are `first..first + count`.
    all: UnsafeCell<Vec<Worker>>,
    first: AtomicUsize,
    count: AtomicUsize,
    /// The default for new fibers.
    pub class: Class,
    /// Fibers that have not ended.
    pub live: AtomicUsize,
    /// None is left: workers return.
    pub done: AtomicBool,
    pub idle: Idle,
    marks: Marks,
    /// There is a CPU for each worker.
    roomy: bool,
    gate: Gate,
    /// The handle of the first fiber, and its result.
    main: AtomicU64,
    main_result: AtomicPtr<c_void>,
}

// SAFETY: workers are split into a part for their own thread and a part for all; see worker.rs. The
// vector itself is complete before the second thread starts.
unsafe impl Sync for Runtime {}
// SAFETY: as above.
unsafe impl Send for Runtime {}

/// Address of a runtime, for its threads.
#[derive(Clone, Copy)]
struct Shared(*const Runtime);

// SAFETY: `run` joins the threads before it frees the runtime.
unsafe impl Send for Shared {}

/// Runs `entry(arg)` as the first fiber of a new runtime; its result, once every fiber has ended.
pub(crate) fn run(setup: Setup, entry: Entry, arg: *mut c_void) -> Result<*mut c_void, Errno> {
    if tls::worker().is_some() {
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
        // A forked child: what other workers own here cannot be told, so it stays.
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
            // A forked child: the threads are not here.
            core::mem::forget(threads);
        }
        self.sweep(&workers[0]);
        if whole {
            Ok(self.main_result.load(Ordering::Relaxed))
        } else {
            Err(Errno::EAGAIN)
        }
    }

    /// Not all threads could be had: ends those that could. The first fiber has not run.
    fn call_off(&self, worker: &Worker) {
        worker.fresh.pop();
        self.one_less();
        self.gate.open();
    }

    /// The workers that count.
    pub(crate) fn workers(&self) -> &[Worker] {
        let first = self.first.load(Ordering::Relaxed);
        // SAFETY: complete before a second thread could look.
        unsafe { &(&(*self.all.get()))[first..first + self.count.load(Ordering::Relaxed)] }
    }

    /// Whether there is only one worker.
    #[inline(always)]
    pub(crate) fn is_single(&self) -> bool {
        self.count.load(Ordering::Relaxed) == 1
    }

    /// Whether a worker with nothing to do should look out for it before it sleeps.
    pub(crate) fn looks_out(&self) -> bool {
        self.roomy && !self.is_single()
    }

    /// A fiber was made.
    #[inline(always)]
    pub(crate) fn one_more(&self) {
        if self.is_single() {
            self.live
                .store(self.live.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        } else {
            self.live.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A fiber ended.
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

    /// Sends every worker home.
    #[cold]
    fn finish(&self) {
        let workers = self.workers();
        // None may leave while we are still about to wake it.
        for worker in workers {
            worker.remote.wakers.fetch_add(1, Ordering::Relaxed);
        }
        self.done.store(true, Ordering::SeqCst);
        for worker in workers {
            worker.remote.rouse();
            worker.remote.wakers.fetch_sub(1, Ordering::Release);
        }
    }

    /// `worker` has a new fresh fiber: wakes somebody who could take it.
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
            idle.remote.rouse();
        }
    }

    /// Whether some worker has fresh fibers that others may take.
    pub(crate) fn has_fresh(&self) -> bool {
        !self.is_single() && self.stealers().any(|s| !s.is_empty())
    }

    /// Whether some of them are for `worker`, which has nothing to run.
    pub(crate) fn has_fresh_for(&self, worker: &Worker) -> bool {
        self.others(worker)
            .any(|other| self.marks.due(self.workers(), worker, other) > 0)
    }

    /// Takes fresh fibers from another worker, if any are for this one. Whether it did.
    pub(crate) fn steal(&self, worker: &Worker) -> bool {
        self.others(worker).any(|other| {
            let due = self.marks.due(self.workers(), worker, other);
            let from = other.remote.stealer.as_ref().filter(|_| due > 0);
            from.is_some_and(|from| worker.fresh.steal(from, due))
        })
    }

    /// All workers but this one, beginning with the next.
    fn others(&self, worker: &Worker) -> impl Iterator<Item = &Worker> {
        let workers = self.workers();
        let (before, rest) = workers
            .split_at((worker.index - self.first.load(Ordering::Relaxed)).min(workers.len()));
        rest.iter().skip(1).chain(before)
    }

    fn stealers(&self) -> impl Iterator<Item = &Stealer<crate::fresh::Fresh>> {
        self.workers()
            .iter()
            .filter_map(|w| w.remote.stealer.as_ref())
    }

    /// Keeps the result of the first fiber: it is `fiber_run`'s too.
    #[inline(always)]
    pub(crate) fn note_main_result(&self, fiber: &Fiber, result: *mut c_void) {
        if fiber.handle().0 == self.main.load(Ordering::Relaxed) {
            self.main_result.store(result, Ordering::Relaxed);
        }
    }

    /// In a forked child: only `worker` goes on, with the one fiber it runs.
    pub(crate) fn reduce_to(&self, worker: &Worker) {
        self.first.store(worker.index, Ordering::Relaxed);
        self.count.store(1, Ordering::Relaxed);
        self.live.store(1, Ordering::Relaxed);
        self.done.store(false, Ordering::Relaxed);
        self.idle.forget();
    }

    /// Frees the records of fibers that ended and were never joined: nobody can join them any more.
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
    // SAFETY: `run` waits for this thread before it frees the runtime.
    let runtime = unsafe { &*runtime.0 };
    serve(&runtime.workers()[index], &runtime.gate);
}

/// Makes the calling thread `worker` until the runtime's last fiber has ended.
fn serve(worker: &Worker, gate: &Gate) {
    // SAFETY: the address of this thread's errno.
    worker.errno.set(unsafe { libc::__errno_location() });
    worker.remote.tid.store(
        rustix::thread::gettid().as_raw_nonzero().get(),
        Ordering::Relaxed,
    );
    let signal_stack = SignalStack::install();
    tls::set(worker);
    host::attach(worker);
    worker.runtimes.attach();
    gate.pass();
    worker.runtimes.kept_over(|| sched::run(worker));
    worker.remote.quiesce();
    host::detach(worker);
    tls::set(core::ptr::null());
    drop(signal_stack);
    worker.stacks.borrow_mut().flush();
    worker.records.flush();
}
