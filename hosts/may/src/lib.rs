//! Attaches the worker of `may` to `libaioshim.so`.
//!
//! [`start`] is the first line of `main`. From then on, a plain blocking call of a coroutine, such
//! as `std::fs::read`, parks the coroutine instead of the worker.
//!
//! There is one worker, because `may` moves coroutines between workers. The worker waits in
//! epoll_wait. During that time it is a fiber as well, which parks without switching: it polls the
//! shim, whose wait includes the worker's.

use std::cell::{Cell, OnceCell};
use std::rc::Rc;
use std::sync::Once;
use std::time::Duration;

use aioshim_host::{Attachment, Error, FiberId, Flags, Host, Limit};
use may::coroutine;
use may::coroutine_local;
use may::sync::Blocker;

/// How long the worker sleeps before it resumes a cancelled coroutine that is still in a call.
const PAUSE: Duration = Duration::from_millis(1);

/// What a coroutine parks on. Its address names the coroutine.
struct Parked {
    blocker: Blocker,
    unparked: Cell<bool>,
}

coroutine_local!(static OWN: OnceCell<Box<Parked>> = OnceCell::new());

thread_local! {
    /// The attachment of the worker, which lasts until the process ends.
    static ATTACHED: OnceCell<Attachment<Worker>> = const { OnceCell::new() };
}

/// The one worker of `may`.
#[derive(Default)]
struct Worker {
    /// Coroutines that the shim has unparked and that have not run since.
    ready: Cell<usize>,
    /// The wait of the worker itself is over.
    worker_unparked: Cell<bool>,
    /// `may` is switching or queueing coroutines: its own calls are not converted.
    in_may: Cell<bool>,
}

impl Worker {
    /// The name of the worker itself.
    fn id(&self) -> FiberId {
        FiberId::of(&self.worker_unparked)
    }

    /// Runs `f`, whose calls are those of the scheduler.
    fn inside_may<T>(&self, f: impl FnOnce() -> T) -> T {
        self.in_may.set(true);
        let result = f();
        self.in_may.set(false);
        result
    }

    /// Waits on the worker's stack until its own wait is over. Coroutines that can run before that
    /// end it.
    fn park_worker(&self, attached: &Attachment<Worker>) {
        while !self.worker_unparked.take() {
            if self.ready.get() == 0 {
                attached.poll_until(Limit::Never);
            } else if attached.expire(self.id()).is_err() || !self.worker_unparked.get() {
                // The wait may end in this call only.
                attached.poll();
            }
        }
    }

    fn park_coroutine(&self, attached: &Attachment<Worker>) {
        OWN.with(|own| {
            let own = own.get().expect("`running` has made it");
            while !own.unparked.get() {
                let result = own.blocker.park(None);
                // Cancelled: the call ends first, and `may` would resume the coroutine at once.
                if result.is_err() && !own.unparked.get() && self.ready.get() == 0 {
                    self.inside_may(|| attached.poll_until(Limit::After(PAUSE)));
                }
            }
            own.unparked.set(false);
        });
        self.ready.set(self.ready.get() - 1);
    }
}

// SAFETY: a coroutine has a stack of its own and stays on the one worker. Its Parked is unparked
// only by `unpark`, and `park_coroutine` returns only then. Off a coroutine the worker's stack is
// used by nothing else while `park_worker` runs.
unsafe impl Host for Worker {
    const LIBRARY: Option<&'static std::ffi::CStr> = Some(c"may");
    const FLAGS: Flags = Flags::NO_YIELDS;

    fn running(&self) -> Option<FiberId> {
        if self.in_may.get() {
            return None;
        }
        if !coroutine::is_coroutine() {
            return Some(self.id());
        }
        Some(OWN.with(|own| {
            let own = own.get_or_init(|| {
                Box::new(Parked {
                    blocker: Blocker::new(true),
                    unparked: Cell::new(false),
                })
            });
            FiberId::of(&**own)
        }))
    }

    fn park(&self) {
        ATTACHED.with(|attached| {
            let attached = attached.get().expect("the worker is attached");
            match coroutine::is_coroutine() {
                true => self.park_coroutine(attached),
                false => self.park_worker(attached),
            }
        });
    }

    fn unpark(&self, fiber: FiberId) {
        if fiber == self.id() {
            self.worker_unparked.set(true);
            return;
        }
        // SAFETY: `running` made the name of a Parked, which lives as long as its coroutine, and a
        // parked coroutine lives.
        let parked: &Parked = unsafe { fiber.0.cast().as_ref() };
        parked.unparked.set(true);
        self.ready.set(self.ready.get() + 1);
        self.inside_may(|| parked.blocker.unpark());
    }

    fn runnable(&self) -> usize {
        self.ready.get()
    }
}

/// Gives `may` one worker, and attaches it to the shim. Call it before any coroutine is made.
///
/// # Errors
/// If the library is not preloaded or refuses. Coroutines then run as before, on one worker.
pub fn start() -> Result<(), Error> {
    static ONE_WORKER: Once = Once::new();
    ONE_WORKER.call_once(|| {
        may::config().set_workers(1);
    });
    // SAFETY: the coroutine uses thread-local storage only between two switches.
    let attaching = unsafe {
        coroutine::spawn(|| {
            let attached = aioshim_host::attach(Rc::<Worker>::default())?;
            ATTACHED.with(|place| {
                // Attached already: the shim has refused the second attachment.
                let _ = place.set(attached);
            });
            Ok(())
        })
    };
    attaching.join().unwrap_or(Err(Error::Absent))
}
