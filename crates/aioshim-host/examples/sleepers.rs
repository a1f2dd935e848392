//! Three fibers that sleep for a second each, on a scheduler of 100 lines: one second with the
//! shim, three without. With the argument `read FILE`, they read a file instead.

use aioshim_host::{Attachment, Contention, FiberId, Flags, Host, Limit, attach};
use std::cell::{Cell, OnceCell, RefCell};
use std::collections::VecDeque;
use std::ffi::CStr;
use std::rc::Rc;
use std::time::Duration;

const STACK: usize = 256 << 10;

/// A fiber on a stack of its own. Boxed, because a context must stay in place.
struct Fiber {
    context: libc::ucontext_t,
    _stack: Box<[u8]>,
    work: Cell<Option<Box<dyn FnOnce()>>>,
    ended: Cell<bool>,
}

type Handle = *mut Fiber;

struct Scheduler {
    context: RefCell<Box<libc::ucontext_t>>,
    running: Cell<Handle>,
    queue: RefCell<VecDeque<Handle>>,
    living: Cell<usize>,
}

thread_local! {
    static HERE: OnceCell<Rc<Scheduler>> = const { OnceCell::new() };
}

// SAFETY: a fiber's stack lives in its record, which `run` frees when the fiber has ended; all
// fibers stay on one thread, and only `resume` sets `running`.
unsafe impl Host for Scheduler {
    const LIBRARY: Option<&'static CStr> = Some(c"sleepers 1");
    const FLAGS: Flags = Flags::NONE;

    fn running(&self) -> Option<FiberId> {
        // SAFETY: the record of the running fiber is alive.
        unsafe { self.running.get().as_ref() }.map(FiberId::of)
    }

    fn park(&self) {
        let (fiber, scheduler) = (self.running.get(), self.context.as_ptr());
        // SAFETY: both contexts stay in place, and this runs on the fiber.
        unsafe { libc::swapcontext(&raw mut (*fiber).context, &raw const **scheduler) };
    }

    fn unpark(&self, fiber: FiberId) {
        self.queue.borrow_mut().push_back(fiber.0.as_ptr().cast());
    }

    fn runnable(&self) -> usize {
        self.queue.borrow().len()
    }

    fn contention(&self) -> Contention {
        if self.living.get() == 1 {
            Contention::SoleFiber
        } else {
            Contention::Others
        }
    }
}

extern "C" fn begin() {
    let fiber = HERE.with(|here| here.get().expect("a scheduler").running.get());
    // SAFETY: the record of the running fiber is alive.
    let fiber = unsafe { &*fiber };
    if let Some(work) = fiber.work.take() {
        work();
    }
    fiber.ended.set(true);
}

impl Scheduler {
    fn new() -> Rc<Self> {
        // SAFETY: zeroes are a valid context, which is filled in when it is left.
        let context = unsafe { Box::new(std::mem::zeroed()) };
        let scheduler = Rc::new(Self {
            context: RefCell::new(context),
            running: Cell::new(std::ptr::null_mut()),
            queue: RefCell::default(),
            living: Cell::new(0),
        });
        HERE.with(|here| here.set(Rc::clone(&scheduler)).ok().expect("one scheduler"));
        scheduler
    }

    fn spawn(&self, work: impl FnOnce() + 'static) {
        let mut stack = vec![0; STACK].into_boxed_slice();
        // SAFETY: zeroes are a valid context, which the calls below fill in; the stack lives as
        // long as the context.
        unsafe {
            let mut fiber = Box::new(Fiber {
                context: std::mem::zeroed(),
                work: Cell::new(Some(Box::new(work))),
                ended: Cell::new(false),
                _stack: Box::default(),
            });
            libc::getcontext(&mut fiber.context);
            fiber.context.uc_stack.ss_sp = stack.as_mut_ptr().cast();
            fiber.context.uc_stack.ss_size = STACK;
            fiber.context.uc_link = &raw mut **self.context.as_ptr();
            fiber._stack = stack;
            let fiber = Box::into_raw(fiber);
            libc::makecontext(&raw mut (*fiber).context, begin, 0);
            self.queue.borrow_mut().push_back(fiber);
        }
        self.living.update(|n| n + 1);
    }

    /// Runs a fiber until it parks or ends.
    fn resume(&self, fiber: Handle, shim: Option<&Attachment<Self>>) {
        self.running.set(fiber);
        // SAFETY: both contexts stay in place, and this runs on the scheduler's stack.
        unsafe {
            libc::swapcontext(
                &raw mut **self.context.as_ptr(),
                &raw const (*fiber).context,
            )
        };
        self.running.set(std::ptr::null_mut());
        // SAFETY: the record is alive; if the fiber has ended, nothing else refers to it.
        unsafe {
            if (*fiber).ended.get() {
                if let Some(shim) = shim {
                    shim.ended(FiberId::of(&*fiber));
                }
                self.living.update(|n| n - 1);
                drop(Box::from_raw(fiber));
            }
        }
    }
}

fn run(scheduler: &Rc<Scheduler>) {
    let shim = match attach(Rc::clone(scheduler)) {
        Ok(shim) => Some(shim),
        Err(error) => {
            eprintln!("sleepers: {error}");
            None
        }
    };
    while scheduler.living.get() > 0 {
        for _ in 0..scheduler.runnable() {
            let fiber = scheduler.queue.borrow_mut().pop_front().expect("a fiber");
            scheduler.resume(fiber, shim.as_ref());
        }
        if let Some(shim) = &shim {
            if scheduler.runnable() > 0 {
                shim.poll();
            } else if scheduler.living.get() > 0 {
                shim.poll_until(Limit::Never);
            }
        }
    }
}

fn main() {
    let scheduler = Scheduler::new();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    for name in ["first", "second", "third"] {
        let arguments = arguments.clone();
        scheduler.spawn(move || match arguments.as_slice() {
            [verb, path] if verb == "read" => {
                let bytes = std::fs::read(path).expect("a file");
                let sum: u64 = bytes.iter().map(|byte| u64::from(*byte)).sum();
                println!("{name} read {sum}");
            }
            _ => {
                println!("{name} sleeps");
                std::thread::sleep(Duration::from_secs(1));
                println!("{name} is awake");
            }
        });
    }
    run(&scheduler);
}
