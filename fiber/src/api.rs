//! The Rust API: closures instead of function pointers, panics instead of undefined behaviour.
//!
//! Invariant: a closure and its result cross threads only if they are `Send`. A fiber writes its
//! result before it publishes its end, and the result is read after the join.

use crate::errno::Errno;
use crate::launch::{self, Setup, options};
use crate::record::fiber::{Entry, Handle, NAME_LEN};
use crate::record::name;
use crate::record::stack::Class;
use crate::sched::join::{self, Spec};
use crate::sched::{cancel, cancel_point, switching};
use crate::sync::{Until, misuse};
use crate::worker::current::on_fiber;
use core::cell::UnsafeCell;
use core::ffi::c_void;
use core::fmt;
use core::ptr::null_mut;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

/// The options of a runtime. An option that is left open comes from `FIBER_WORKERS` or
/// `FIBER_STACK`. If these are not set either, there is one worker, and stacks have 256 KiB.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Options {
    workers: usize,
    stack_size: usize,
}

impl Options {
    /// Leaves all options open.
    pub fn new() -> Options {
        Options::default()
    }

    /// Sets the number of OS threads that run fibers, including the caller of [`run`]: 1 to 1024.
    pub fn workers(self, workers: usize) -> Options {
        Options { workers, ..self }
    }

    /// Sets the address space per fiber stack in bytes: 16 KiB to 1 GiB, rounded up to a power of
    /// two.
    pub fn stack_size(self, stack_size: usize) -> Options {
        Options { stack_size, ..self }
    }

    fn setup(self) -> Result<Setup, Errno> {
        Ok(Setup {
            workers: match self.workers {
                0 => options::workers(),
                n if n <= options::WORKERS_MAX => n,
                _ => return Err(Errno::EINVAL),
            },
            unwinds: true,
            class: match self.stack_size {
                0 => options::stack(),
                n => Class::of(n).ok_or(Errno::EINVAL)?,
            },
        })
    }
}

/// The place where a fiber stores its result for its [`JoinHandle`].
struct Slot<T>(UnsafeCell<Option<thread::Result<T>>>);

// SAFETY: the fiber writes it before it publishes its end, and the one that joined the fiber reads
// it afterwards. The two accesses never overlap.
unsafe impl<T: Send> Sync for Slot<T> {}

/// A closure to be passed to a fiber.
struct Start<F, T> {
    f: F,
    slot: Arc<Slot<T>>,
}

/// The entry function of every Rust fiber.
extern "C" fn main<F: FnOnce() -> T, T>(start: *mut c_void) -> *mut c_void {
    // SAFETY: `start` made the pointer from a box, for this call only.
    let Start { f, slot } = *unsafe { Box::from_raw(start.cast::<Start<F, T>>()) };
    let result = catch_unwind(AssertUnwindSafe(f));
    // SAFETY: no other code reads the slot before the join.
    unsafe { *slot.0.get() = Some(result) };
    null_mut()
}

/// Runs `f` as the first fiber of a new runtime. Returns its result when `f` and all fibers created
/// in the runtime have ended. If `f` panics, the panic continues in the caller.
///
/// Returns `EBUSY` if called on a fiber, `EINVAL` for bad options, and `EAGAIN` if a thread could
/// not be started or memory ran out.
pub fn run<T>(options: Options, f: impl FnOnce() -> T) -> Result<T, Errno> {
    let setup = options.setup()?;
    let slot = Arc::new(Slot(UnsafeCell::new(None)));
    let (entry, arg) = start(f, slot.clone());
    if let Err(e) = launch::run(setup, entry, arg.0) {
        arg.take_back();
        return Err(e);
    }
    // SAFETY: the fiber has ended, so it no longer uses the slot.
    match unsafe { (*slot.0.get()).take() } {
        Some(Ok(result)) => Ok(result),
        Some(Err(panic)) => resume_unwind(panic),
        // The first fiber exists only in the parent process of a fork, so there is no result here.
        None => std::process::exit(0),
    }
}

/// A leaked [`Start`], which must be freed if no fiber took it.
struct Leaked<F, T>(*mut c_void, core::marker::PhantomData<Start<F, T>>);

impl<F, T> Leaked<F, T> {
    fn take_back(self) {
        // SAFETY: `start` made it from a box, and no fiber has run with it.
        drop(unsafe { Box::from_raw(self.0.cast::<Start<F, T>>()) });
    }
}

fn start<F: FnOnce() -> T, T>(f: F, slot: Arc<Slot<T>>) -> (Entry, Leaked<F, T>) {
    let start = Box::into_raw(Box::new(Start { f, slot }));
    (
        main::<F, T>,
        Leaked(start.cast(), core::marker::PhantomData),
    )
}

/// The options of a new fiber.
#[derive(Debug, Clone, Copy, Default)]
pub struct Builder {
    name: [u8; NAME_LEN],
    stack_size: usize,
}

impl Builder {
    /// No name, and the runtime's stack size.
    pub fn new() -> Builder {
        Builder::default()
    }

    /// Sets the name. A name longer than 15 bytes is cut.
    pub fn name(self, name: &str) -> Builder {
        let end = name.floor_char_boundary(NAME_LEN - 1);
        let name = name::checked_name(&name.as_bytes()[..end]).unwrap_or_default();
        Builder { name, ..self }
    }

    /// Sets the address space of the stack in bytes: 16 KiB to 1 GiB, rounded up to a power of two.
    pub fn stack_size(self, stack_size: usize) -> Builder {
        Builder { stack_size, ..self }
    }

    /// Creates the fiber. Returns `EPERM` off a fiber, `EINVAL` for a bad stack size, and `EAGAIN`
    /// if memory runs out.
    pub fn spawn<F, T>(self, f: F) -> Result<JoinHandle<T>, Errno>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        let worker = on_fiber()?;
        let class = match self.stack_size {
            0 => worker.runtime().class(),
            n => Class::of(n).ok_or(Errno::EINVAL)?,
        };
        let slot = Arc::new(Slot(UnsafeCell::new(None)));
        let (entry, arg) = start(f, slot.clone());
        let spec = Spec {
            class,
            name: self.name,
            detached: false,
            pinned: false,
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

/// Creates a fiber that runs `f`.
///
/// # Panics
/// Panics off a fiber, and if memory runs out.
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

/// The right to join a fiber. If the handle is dropped, the fiber continues and frees itself when
/// it ends.
pub struct JoinHandle<T> {
    handle: Handle,
    slot: Arc<Slot<T>>,
}

impl<T> JoinHandle<T> {
    /// Waits for the fiber to end. Returns its result, or its panic payload. May park.
    ///
    /// # Panics
    /// Panics off a fiber, and if the fiber is the caller or joins the caller.
    #[track_caller]
    pub fn join(self) -> thread::Result<T> {
        if let Err(e) = cancel_point::unwinding(|| join::join(on_fiber()?, self.handle)) {
            misuse("JoinHandle::join", e);
        }
        // SAFETY: the fiber has ended, and only this handle could join it.
        match unsafe { (*self.slot.0.get()).take() } {
            Some(result) => result,
            // The fiber ended by calling fiber_exit.
            None => Err(Box::new("the fiber ended without a result")),
        }
    }

    /// The number of the fiber, or 0 if it no longer exists.
    pub fn id(&self) -> u64 {
        id_of(self.handle).unwrap_or(0)
    }

    /// Requests the cancellation of the fiber. It takes effect when the fiber waits in
    /// [`join`](Self::join), [`sleep`], a [`Condvar`](crate::Condvar) or a
    /// [`Semaphore`](crate::Semaphore), or calls [`test_cancel`]. The fiber unwinds there, which
    /// drops its values, and its join returns [`Cancelled`](crate::Cancelled) as the panic payload.
    /// In a program that aborts on panics, this aborts.
    ///
    /// # Panics
    /// Panics off a fiber.
    #[track_caller]
    pub fn cancel(&self) {
        // Every other error means that the fiber has ended.
        if let Err(e @ Errno::EPERM) = cancel::request(self.handle) {
            misuse("JoinHandle::cancel", e);
        }
    }
}

/// Unwinds the calling fiber if its cancellation was requested, see [`JoinHandle::cancel`]. Does
/// nothing off a fiber.
pub fn test_cancel() {
    // An error here means that the caller is not on a fiber, or is panicking.
    let _ = cancel_point::unwinding(|| on_fiber()?.running().cancellation.check());
}

impl<T> Drop for JoinHandle<T> {
    fn drop(&mut self) {
        // After a join the handle is stale, and this does nothing.
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

/// Returns the number of a fiber, or `None` if it no longer exists.
pub(crate) fn id_of(handle: Handle) -> Option<u64> {
    let id = handle
        .fiber()?
        .id
        .load(core::sync::atomic::Ordering::Relaxed);
    // Check that the record still belonged to the same fiber when the number was read.
    handle.fiber().map(|_| id)
}

/// Lets the other runnable fibers of this worker run first. Off a fiber, yields to other threads.
#[inline]
pub fn yield_now() {
    match on_fiber() {
        Ok(worker) => switching::yield_now(worker),
        Err(_) => thread::yield_now(),
    }
}

/// Sleeps for at least `time`. May park.
///
/// # Panics
/// Panics off a fiber.
#[track_caller]
pub fn sleep(time: Duration) {
    let until = time.instant();
    if let Err(e) = cancel_point::unwinding(|| switching::sleep_until(on_fiber()?, until?)) {
        misuse("fiber::sleep", e);
    }
}

/// A fiber whose number and name can be queried.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Current(Handle);

/// Returns the calling fiber, or `None` off a fiber.
pub fn current() -> Option<Current> {
    on_fiber()
        .ok()
        .map(|worker| Current(worker.running().handle()))
}

impl Current {
    /// The number of the fiber, or 0 if it no longer exists. Fibers are numbered from 1 in the
    /// order of their creation in this process.
    pub fn id(&self) -> u64 {
        id_of(self.0).unwrap_or(0)
    }

    /// The name of the fiber, or `None` if it has no name or no longer exists.
    pub fn name(&self) -> Option<String> {
        let name = name::name(self.0.fiber()?);
        let text = name::text(&name);
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
