//! Running a runtime: its threads, from the first fiber to the end of the last one.
//!
//! Invariant: the threads are joined before the runtime is freed.

use super::{fork, options};
use crate::errno::Errno;
use crate::host;
use crate::record::epoch::epoch;
use crate::record::fiber::Entry;
use crate::record::stack::Class;
use crate::report::deadlock;
use crate::report::overflow::{self, SignalStack};
use crate::sched::join::{self, Spec};
use crate::sched::main_loop;
use crate::worker::cpus::Claim;
use crate::worker::current;
use crate::worker::runtime::Runtime;
use crate::worker::shim;
use crate::worker::state::Worker;
use core::ffi::c_void;
use core::ptr::null;
use std::thread;

/// The parameters of a new runtime.
#[derive(Clone, Copy)]
pub(crate) struct Setup {
    pub workers: usize,
    pub class: Class,
    /// Whether the first fiber is a Rust fiber, which unwinds when it is cancelled.
    pub unwinds: bool,
}

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
    options::report_misspelt_names();
    fork::starting(|| {
        overflow::install();
        shim::find();
    });
    let runtime = Runtime::new(setup.workers, setup.class);
    let result = run_threads(&runtime, entry, arg, setup.unwinds);
    if epoch() != 0 && runtime.workers().len() != setup.workers {
        // In a forked child, some data may still belong to the other workers, and there is no way
        // to tell which. Therefore the runtime is leaked.
        core::mem::forget(runtime);
    }
    result
}

fn run_threads(
    runtime: &Runtime,
    entry: Entry,
    arg: *mut c_void,
    unwinds: bool,
) -> Result<*mut c_void, Errno> {
    let workers = runtime.workers();
    // The first fiber runs on the caller's thread.
    let spec = Spec {
        class: runtime.class(),
        name: [0; _],
        detached: false,
        pinned: true,
        unwinds,
    };
    runtime.set_main(join::create(&workers[0], &spec, entry, arg)?);
    // The shim opens descriptors under high numbers. For the first one, when a thread is attached,
    // the kernel enlarges the table of descriptors. If the process has other threads by then, that
    // waits for all of them to leave the kernel: about 10 ms.
    let first = Serving::begin(&workers[0]);
    let shared = Shared(runtime);
    let mut threads = Vec::new();
    for i in 1..workers.len() {
        let name = format!("fiber-{i}");
        match thread::Builder::new()
            .name(name)
            .spawn(move || worker_thread(shared, i))
        {
            Ok(thread) => threads.push(thread),
            Err(_) => {
                abandon(runtime, &workers[0]);
                break;
            }
        }
    }
    let all_started = threads.len() + 1 == workers.len();
    if all_started {
        first.run();
    }
    first.end();
    if runtime.workers().len() == workers.len() {
        for thread in threads {
            let _ = thread.join();
        }
    } else {
        // In a forked child the other threads do not exist.
        core::mem::forget(threads);
    }
    runtime.free_records(&workers[0]);
    if all_started {
        Ok(runtime.main_result())
    } else {
        Err(Errno::EAGAIN)
    }
}

/// Stops the threads that were started, because another one could not be started. The first fiber
/// never ran.
fn abandon(runtime: &Runtime, worker: &Worker) {
    worker.unstarted().pop();
    runtime.count_end();
    runtime.gate().open();
}

fn worker_thread(runtime: Shared, index: usize) {
    // SAFETY: `run` joins this thread before it frees the runtime.
    let runtime = unsafe { &*runtime.0 };
    let serving = Serving::begin(&runtime.workers()[index]);
    serving.run();
    serving.end();
}

/// The calling thread serves a worker: it is attached to the shim, and may run fibers.
struct Serving<'a> {
    worker: &'a Worker,
    signal_stack: SignalStack,
    cpu: Claim,
}

impl<'a> Serving<'a> {
    fn begin(worker: &'a Worker) -> Self {
        worker.bind_to_thread();
        let cpu = worker.runtime().cpus().claim();
        let signal_stack = SignalStack::install();
        current::set_worker(worker);
        host::attach(worker);
        Self {
            worker,
            signal_stack,
            cpu,
        }
    }

    /// Runs fibers until the last one of the runtime has ended.
    fn run(&self) {
        let worker = self.worker;
        // Each worker does this at the same time as the others.
        host::prepare(worker);
        worker.thread_state().attach();
        self.cpu.stay_during(|| worker.runtime().gate().pass());
        worker
            .thread_state()
            .save_over(|| main_loop::run(worker, deadlock::check));
    }

    fn end(self) {
        self.worker.remote().drain_wakers();
        host::detach(self.worker);
        current::set_worker(null());
        drop(self.signal_stack);
        self.worker.flush();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::ptr::null_mut;
    use core::sync::atomic::{AtomicBool, Ordering::SeqCst};

    static STARTED: AtomicBool = AtomicBool::new(false);

    extern "C" fn start(_: *mut c_void) -> *mut c_void {
        STARTED.store(true, SeqCst);
        null_mut()
    }

    /// Creates a fiber while idle workers are not woken for new ones, and never lets it run here.
    extern "C" fn create_and_compute(class: *mut c_void) -> *mut c_void {
        let worker = current::worker().expect("a worker");
        // SAFETY: the test's own class, which outlives the runtime.
        let class = unsafe { *class.cast::<Class>() };
        worker.runtime().pause_offers(u64::MAX);
        let spec = Spec {
            class,
            name: [0; _],
            detached: true,
            pinned: false,
            unwinds: false,
        };
        join::create(worker, &spec, start, null_mut()).expect("a fiber");
        while !STARTED.load(SeqCst) {
            thread::yield_now();
        }
        null_mut()
    }

    #[test]
    fn a_fiber_that_wakes_nobody_starts_beside_one_that_computes() {
        let mut class = options::stack();
        let setup = Setup {
            workers: 2,
            class,
            unwinds: false,
        };
        run(setup, create_and_compute, (&raw mut class).cast()).expect("a run");
    }
}
