//! Attaches the worker of `may` to `libaioshim.so`.
//!
//! [`start`] is the first line of `main`. From then on, a plain blocking call of a coroutine, such
//! as `std::fs::read`, parks the coroutine instead of the worker.
//!
//! There is one worker, because `may` moves coroutines between workers. It sleeps in the event loop
//! of `may`, whose epoll instance holds the descriptor of the shim as well ([`event_loop`]). The
//! calls that the worker itself makes are not converted.

mod event_loop;

use std::cell::{Cell, OnceCell};
use std::ptr::NonNull;
use std::rc::Rc;
use std::sync::Once;
use std::sync::atomic::{AtomicUsize, Ordering};
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

/// How many coroutines that had a [`Parked`] have ended.
static ENDED: AtomicUsize = AtomicUsize::new(0);

impl Drop for Parked {
    fn drop(&mut self) {
        ENDED.fetch_add(1, Ordering::Relaxed);
        // It ends on the worker or on the timer thread, which is not attached.
        let _ = ATTACHED.try_with(|attached| {
            if let Some(attached) = attached.get() {
                attached.ended(FiberId::of(self));
            }
        });
    }
}

coroutine_local!(static OWN: OnceCell<Box<Parked>> = OnceCell::new());

thread_local! {
    /// The attachment of the worker, which lasts until the process ends.
    static ATTACHED: OnceCell<Attachment<Worker>> = const { OnceCell::new() };
}

/// The running coroutine, as it was last looked up.
#[derive(Clone, Copy)]
struct LookedUp {
    /// The address of what `may` stores for the coroutine.
    local: NonNull<u8>,
    /// `local` is still its own while this is the value of [`ENDED`].
    ended: usize,
    name: FiberId,
}

/// The one worker of `may`.
#[derive(Default)]
struct Worker {
    /// Coroutines that the shim has unparked and that have not run since.
    ready: Cell<usize>,
    /// `may` is queueing a coroutine: its own calls are not converted.
    in_may: Cell<bool>,
    last: Cell<Option<LookedUp>>,
    /// The epoll instance of `may`, once it holds the descriptor of the shim.
    epoll: Cell<Option<i32>>,
}

impl Worker {
    /// Runs `f`, whose calls are those of the scheduler.
    fn inside_may<T>(&self, f: impl FnOnce() -> T) -> T {
        self.in_may.set(true);
        let result = f();
        self.in_may.set(false);
        result
    }

    #[cold]
    fn look_up(&self, local: NonNull<u8>) -> FiberId {
        let name = OWN.with(|own| {
            let own = own.get_or_init(|| {
                Box::new(Parked {
                    blocker: Blocker::new(true),
                    unparked: Cell::new(false),
                })
            });
            FiberId::of(&**own)
        });
        self.last.set(Some(LookedUp {
            local,
            ended: ENDED.load(Ordering::Relaxed),
            name,
        }));
        name
    }
}

// SAFETY: a coroutine has a stack of its own and stays on the one worker. Its Parked is unparked
// only by `unpark`, and `park` returns only then.
unsafe impl Host for Worker {
    const LIBRARY: Option<&'static std::ffi::CStr> = Some(c"may");
    const FLAGS: Flags = Flags::NO_YIELDS;
    const YIELDS: bool = true;

    #[inline]
    fn running(&self) -> Option<FiberId> {
        let local = NonNull::new(generator::get_local_data())?;
        if self.in_may.get() {
            return None;
        }
        match self.last.get() {
            Some(last) if last.local == local && last.ended == ENDED.load(Ordering::Relaxed) => {
                Some(last.name)
            }
            _ => Some(self.look_up(local)),
        }
    }

    fn park(&self) {
        OWN.with(|own| {
            let own = own.get().expect("`running` has made it");
            while !own.unparked.get() {
                let result = own.blocker.park(None);
                // Cancelled: the call ends first, and `may` would resume the coroutine at once.
                if result.is_err() && !own.unparked.get() && self.ready.get() == 0 {
                    ATTACHED.with(|attached| {
                        let attached = attached.get().expect("the worker is attached");
                        self.inside_may(|| attached.poll_until(Limit::After(PAUSE)));
                    });
                }
            }
            own.unparked.set(false);
        });
        self.ready.set(self.ready.get() - 1);
    }

    fn unpark(&self, fiber: FiberId) {
        // SAFETY: `running` made the name of a Parked, which lives as long as its coroutine, and a
        // parked coroutine lives.
        let parked: &Parked = unsafe { fiber.0.cast().as_ref() };
        parked.unparked.set(true);
        self.ready.set(self.ready.get() + 1);
        self.inside_may(|| parked.blocker.unpark());
    }

    fn yield_now(&self) {
        coroutine::yield_now();
    }

    #[inline]
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
    if aioshim_host::version().is_none() {
        return Err(Error::Absent);
    }
    // SAFETY: the coroutine uses thread-local storage only between two switches.
    let attaching = unsafe { coroutine::spawn(attach_worker) };
    attaching.join().unwrap_or(Err(Error::Absent))
}

/// Attaches the worker, on which this coroutine runs.
fn attach_worker() -> Result<(), Error> {
    let attached = aioshim_host::attach(Rc::<Worker>::default())?;
    if attached.fd().is_none() {
        return Err(Error::Other(libc::EMFILE));
    }
    ATTACHED.with(|place| {
        // Attached already: the shim has refused the second attachment.
        let _ = place.set(attached);
    });
    Ok(())
}
