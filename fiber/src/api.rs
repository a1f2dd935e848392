//! The Rust face: closures instead of function pointers, panics instead of undefined behaviour.
//!
//! Invariant: a closure and its result cross threads only when `Send`; a fiber's result is written
//! before its end is published and read after its join.

use crate::errno::Errno;
use crate::fiber::{Handle, NAME_LEN};
use crate::join::{self, Spec};
use crate::runtime::{self, Setup};
use crate::stack::Class;
use crate::sync::{Until, misuse, on_fiber};
use crate::{cancel, conf, debug, sched};
use core::cell::UnsafeCell;
use core::ffi::c_void;
use core::fmt;
use core::ptr::null_mut;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

/// How [`run`] sets up a runtime. What is left open comes from `FIBER_WORKERS` and `FIBER_STACK`,
/// else is one worker and 256 KiB.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Options {
    workers: usize,
    stack_size: usize,
}

impl Options {
    /// All left open.
    pub fn new() -> Options {
        Options::default()
    }

    /// How many OS threads run fibers, the caller of [`run`] included: 1 to 1024.
    pub fn workers(self, workers: usize) -> Options {
        Options { workers, ..self }
    }

    /// Bytes of address space for a fiber's stack: 16 KiB to 1 GiB, rounded up to a power of two.
    pub fn stack_size(self, stack_size: usize) -> Options {
        Options { stack_size, ..self }
    }

    fn setup(self) -> Result<Setup, Errno> {
        Ok(Setup {
            workers: match self.workers {
                0 => conf::workers(),
                n if n <= conf::WORKERS_MAX => n,
                _ => return Err(Errno::EINVAL),
            },
            unwinds: true,
            class: match self.stack_size {
                0 => conf::stack(),
                n => Class::of(n).ok_or(Errno::EINVAL)?,
            },
        })
    }
}

/// Where a fiber leaves its result for its [`JoinHandle`].
struct Slot<T>(UnsafeCell<Option<thread::Result<T>>>);

// SAFETY: written by the fiber before its end is published, read by the one that joined it; never
// both at once.
unsafe impl<T: Send> Sync for Slot<T> {}

/// A closure on its way into a fiber.
struct Start<F, T> {
    f: F,
    slot: Arc<Slot<T>>,
}

/// What every Rust fiber runs.
extern "C" fn main<F: FnOnce() -> T, T>(start: *mut c_void) -> *mut c_void {
    // SAFETY: `Start::leak` made it of a box, for this call alone.
    let Start { f, slot } = *unsafe { Box::from_raw(start.cast::<Start<F, T>>()) };
    let result = catch_unwind(AssertUnwindSafe(f));
    // SAFETY: nobody reads the slot before the join.
    unsafe { *slot.0.get() = Some(result) };
    null_mut()
}

/// Runs `f` as the first fiber and returns its result when it and every fiber it led to have ended.
/// A panic in it goes on in the caller. `EBUSY` on a fiber, `EINVAL` bad options, `EAGAIN` no
/// thread or memory.
pub fn run<T>(options: Options, f: impl FnOnce() -> T) -> Result<T, Errno> {
    let setup = options.setup()?;
    let slot = Arc::new(Slot(UnsafeCell::new(None)));
    let (entry, arg) = start(f, slot.clone());
    if let Err(e) = runtime::run(setup, entry, arg.0) {
        arg.take_back();
        return Err(e);
    }
    // SAFETY: the fiber has ended.
    match unsafe { (*slot.0.get()).take() } {
        Some(Ok(result)) => Ok(result),
        Some(Err(panic)) => resume_unwind(panic),
        // The first fiber was left behind in a parent process: there is nothing to return here.
        None => std::process::exit(0),
    }
}

/// A leaked [`Start`], to be taken back when no fiber took it.
struct Leaked<F, T>(*mut c_void, core::marker::PhantomData<Start<F, T>>);

impl<F, T> Leaked<F, T> {
    fn take_back(self) {
        // SAFETY: made of a box by `start`, and no fiber has run with it.
        drop(unsafe { Box::from_raw(self.0.cast::<Start<F, T>>()) });
    }
}

fn start<F: FnOnce() -> T, T>(f: F, slot: Arc<Slot<T>>) -> (crate::fiber::Entry, Leaked<F, T>) {
    let start = Box::into_raw(Box::new(Start { f, slot }));
    (
        main::<F, T>,
        Leaked(start.cast(), core::marker::PhantomData),
    )
}

/// What a new fiber is to be.
#[derive(Debug, Clone, Copy, Default)]
pub struct Builder {
    name: [u8; NAME_LEN],
    stack_size: usize,
}

impl Builder {
    /// No name, the runtime's stack size.
    pub fn new() -> Builder {
        Builder::default()
    }

    /// Its name; what is longer than 15 bytes is cut.
    pub fn name(self, name: &str) -> Builder {
        let end = name.floor_char_boundary(NAME_LEN - 1);
        let name = debug::checked_name(&name.as_bytes()[..end]).unwrap_or_default();
        Builder { name, ..self }
    }

    /// Bytes of address space for its stack: 16 KiB to 1 GiB, rounded up to a power of two.
    pub fn stack_size(self, stack_size: usize) -> Builder {
        Builder { stack_size, ..self }
    }

    /// Makes the fiber. `EPERM` off a fiber, `EINVAL` bad stack size, `EAGAIN` no memory.
    pub fn spawn<F, T>(self, f: F) -> Result<JoinHandle<T>, Errno>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        let worker = on_fiber()?;
        let class = match self.stack_size {
            0 => worker.runtime().class,
            n => Class::of(n).ok_or(Errno::EINVAL)?,
        };
        let slot = Arc::new(Slot(UnsafeCell::new(None)));
        let (entry, arg) = start(f, slot.clone());
        let spec = Spec {
            class,
            name: self.name,
            detached: false,
            stays: false,
            unwinds: true,
        };
        match join::create(worker, &spec, entry, arg.0) {
            Ok(handle) => Ok(JoinHandle { handle, slot }),
            Err(e) => {
                arg.take_back();
                Err(e)
            }
        }
    }
}

/// Makes a fiber that runs `f`.
///
/// # Panics
/// Off a fiber, and without memory.
#[track_caller]
pub fn spawn<F, T>(f: F) -> JoinHandle<T>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    match Builder::new().spawn(f) {
        Ok(handle) => handle,
        Err(e) => misuse("fiber::spawn", e),
    }
}

/// The right to wait for a fiber. Dropped, the fiber goes on and frees itself.
pub struct JoinHandle<T> {
    handle: Handle,
    slot: Arc<Slot<T>>,
}

impl<T> JoinHandle<T> {
    /// Waits for the fiber to end; its result, or what it panicked with. May park.
    ///
    /// # Panics
    /// Off a fiber, and when the fiber is the caller or joins the caller.
    #[track_caller]
    pub fn join(self) -> thread::Result<T> {
        if let Err(e) = cancel::unwinding(|| join::join(on_fiber()?, self.handle)) {
            misuse("JoinHandle::join", e);
        }
        // SAFETY: the fiber has ended, and only this handle could join it.
        match unsafe { (*self.slot.0.get()).take() } {
            Some(result) => result,
            // It left by fiber_exit.
            None => Err(Box::new("the fiber ended without a result")),
        }
    }

    /// The fiber's number; 0 when it is gone.
    pub fn id(&self) -> u64 {
        id_of(self.handle).unwrap_or(0)
    }

    /// Asks the fiber to end: where it waits in [`join`](Self::join), [`sleep`], a
    /// [`Condvar`](crate::Condvar) or a [`Semaphore`](crate::Semaphore), or comes to such a wait or
    /// to [`test_cancel`]. It unwinds there, so its values are dropped, and its join returns
    /// [`Cancelled`](crate::Cancelled) as a panic. A program that aborts on panics aborts.
    ///
    /// # Panics
    /// Off a fiber.
    #[track_caller]
    pub fn cancel(&self) {
        // Another error says that it has ended.
        if let Err(e @ Errno::EPERM) = cancel::request(self.handle) {
            misuse("JoinHandle::cancel", e);
        }
    }
}

/// Unwinds the calling fiber if it was asked to end, see [`JoinHandle::cancel`]. Off a fiber it
/// does nothing.
pub fn test_cancel() {
    // Off a fiber, or in the middle of a panic.
    let _ = cancel::unwinding(|| cancel::check(on_fiber()?.running()));
}

impl<T> Drop for JoinHandle<T> {
    fn drop(&mut self) {
        // Stale after a join: then this finds nothing.
        let _ = join::detach(self.handle);
    }
}

impl<T> fmt::Debug for JoinHandle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinHandle")
            .field("id", &self.id())
            .finish()
    }
}

/// The number of a fiber that is not gone.
pub(crate) fn id_of(handle: Handle) -> Option<u64> {
    let id = handle
        .fiber()?
        .id
        .load(core::sync::atomic::Ordering::Relaxed);
    // Still the same one after the look.
    handle.fiber().map(|_| id)
}

/// Lets the other runnable fibers of this worker run first; off a fiber, other threads.
#[inline]
pub fn yield_now() {
    match on_fiber() {
        Ok(worker) => sched::yield_now(worker),
        Err(_) => thread::yield_now(),
    }
}

/// Parks for at least `time`.
///
/// # Panics
/// Off a fiber.
#[track_caller]
pub fn sleep(time: Duration) {
    let until = time.instant();
    if let Err(e) = cancel::unwinding(|| sched::sleep_until(on_fiber()?, until?)) {
        misuse("fiber::sleep", e);
    }
}

/// A fiber, to be asked about.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Current(Handle);

/// The calling fiber; `None` off a fiber.
pub fn current() -> Option<Current> {
    on_fiber()
        .ok()
        .map(|worker| Current(worker.running().handle()))
}

impl Current {
    /// Its number since the process began, from 1; 0 when it is gone.
    pub fn id(&self) -> u64 {
        id_of(self.0).unwrap_or(0)
    }

    /// Its name, when it has one and is not gone.
    pub fn name(&self) -> Option<String> {
        let name = debug::name(self.0.fiber()?);
        let text = debug::text(&name);
        (!text.is_empty()).then(|| String::from_utf8_lossy(text).into_owned())
    }
}

impl fmt::Debug for Current {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Current")
            .field("id", &self.id())
            .field("name", &self.name())
            .finish()
    }
}
