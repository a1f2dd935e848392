//! An attached thread, and the callbacks that the shim calls on it.
//!
//! Invariant: the callbacks' data stays in place from before the attach until after the detach. If
//! fibers are still parked in the shim when an attachment is dropped, the data is leaked.

use crate::table::{Functions, RawThread, Table, Values, functions};
use crate::waker::{Target, Waker};
use crate::{Contention, Error, FiberId, Flags, Host};
use std::ffi::{c_int, c_uint, c_void};
use std::io;
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::{NonNull, null, null_mut};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// How long [`Attachment::poll_until`] waits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Limit {
    /// For up to this time.
    After(Duration),
    /// Until an operation completes or the thread is woken.
    Never,
}

/// How long the thread may sleep on the descriptor of [`Attachment::fd`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SleepLimit {
    /// Not at all: a fiber became runnable.
    Runnable,
    /// Until the descriptor is readable, or for this time. Then it must poll.
    For(Duration),
    /// Until the descriptor is readable.
    Unlimited,
}

/// What the callbacks get.
struct Callbacks<H> {
    host: Rc<H>,
    /// Ends a sleep of the thread outside of the shim.
    own_waker: Option<Box<dyn Fn() + Send + Sync>>,
    target: Arc<Target>,
    table: Table,
}

/// An attached thread; detached when this is dropped. Use it on its own thread, off a fiber, unless
/// a function says otherwise.
pub struct Attachment<H: Host> {
    callbacks: NonNull<Callbacks<H>>,
    thread: *mut RawThread,
    functions: &'static Functions,
    /// The handle belongs to its thread.
    not_send: PhantomData<*mut ()>,
}

/// Attaches the calling thread, whose fibers `host` schedules.
///
/// # Errors
/// If the library is not preloaded or refuses. Run the fibers without it then.
pub fn attach<H: Host>(host: Rc<H>) -> Result<Attachment<H>, Error> {
    let functions = functions().ok_or(Error::Absent)?;
    let own_waker = host.waker();
    let callbacks = Box::new(Callbacks {
        table: table_of::<H>(own_waker.is_none()),
        host,
        own_waker,
        target: Arc::default(),
    });
    let callbacks = NonNull::from(Box::leak(callbacks));
    let mut thread = null_mut();
    // SAFETY: just made.
    let table = unsafe { &raw const (*callbacks.as_ptr()).table };
    let error = (functions.attach)(table, callbacks.as_ptr().cast(), &mut thread);
    if error != 0 {
        // SAFETY: it is from a box, and after an error nothing refers to it.
        drop(unsafe { Box::from_raw(callbacks.as_ptr()) });
        return Err(match error {
            libc::EBUSY => Error::Attached,
            libc::ENOTSUP => Error::Off,
            other => Error::Other(other),
        });
    }
    // SAFETY: alive until the detach.
    unsafe { callbacks.as_ref() }.target.open(thread);
    Ok(Attachment {
        callbacks,
        thread,
        functions,
        not_send: PhantomData,
    })
}

fn table_of<H: Host>(sleeps_in_poll: bool) -> Table {
    let own = if sleeps_in_poll {
        Flags::SLEEPS_IN_POLL
    } else {
        Flags::NONE
    };
    Table {
        size: size_of::<Table>(),
        running: running::<H>,
        park: park::<H>,
        unpark: unpark::<H>,
        runnable: runnable::<H>,
        wake: wake::<H>,
        alone: Some(alone::<H>),
        watch: None,
        name: None,
        cancelled: Some(cancelled::<H>),
        keeps_runtimes: c_int::from(H::KEEPS_RUNTIMES),
        flags: H::FLAGS.and(own).0,
        r#yield: H::YIELDS.then_some(yield_now::<H>),
        library: H::LIBRARY.map_or(null(), |name| name.as_ptr()),
        counts: None,
    }
}

fn of<'a, H>(data: *mut c_void) -> &'a Callbacks<H> {
    // SAFETY: `attach` gave it, and it stays in place until the detach (module invariant).
    unsafe { &*data.cast::<Callbacks<H>>() }
}

extern "C" fn running<H: Host>(data: *mut c_void) -> *mut c_void {
    let running = of::<H>(data).host.running();
    running.map_or(null_mut(), |fiber| fiber.0.as_ptr())
}

extern "C" fn park<H: Host>(data: *mut c_void) {
    of::<H>(data).host.park();
}

extern "C" fn unpark<H: Host>(data: *mut c_void, fiber: *mut c_void) {
    if let Some(fiber) = NonNull::new(fiber) {
        of::<H>(data).host.unpark(FiberId(fiber));
    }
}

extern "C" fn runnable<H: Host>(data: *mut c_void) -> c_uint {
    of::<H>(data)
        .host
        .runnable()
        .try_into()
        .unwrap_or(c_uint::MAX)
}

/// From any thread: touches only what may be shared.
extern "C" fn wake<H: Host>(data: *mut c_void) {
    let data = data.cast::<Callbacks<H>>();
    // SAFETY: both stay in place until the detach (module invariant), and may be used by any
    // thread.
    let (own_waker, target) = unsafe { (&(*data).own_waker, &(*data).target) };
    match own_waker {
        Some(wake) => wake(),
        None => target.wake(),
    }
}

extern "C" fn alone<H: Host>(data: *mut c_void) -> c_int {
    match of::<H>(data).host.contention() {
        Contention::Others => 0,
        Contention::NoneNow => 1,
        Contention::SoleFiber => 2,
    }
}

extern "C" fn cancelled<H: Host>(data: *mut c_void) {
    of::<H>(data).host.cancelled();
}

extern "C" fn yield_now<H: Host>(data: *mut c_void) {
    of::<H>(data).host.yield_now();
}

/// `error` of a function of the library.
fn result(error: c_int) -> io::Result<()> {
    match error {
        0 => Ok(()),
        error => Err(io::Error::from_raw_os_error(error)),
    }
}

fn unsupported() -> io::Error {
    io::Error::from(io::ErrorKind::Unsupported)
}

impl<H: Host> Attachment<H> {
    /// Opens the descriptors that the thread needs. With several threads, call it on each before
    /// any of them runs a fiber.
    pub fn prepare(&self) {
        if let Some(prepare) = self.functions.prepare {
            prepare(self.thread);
        }
    }

    /// Submits the operations that fibers have queued, and unparks those whose operations have
    /// completed. Returns how many were unparked. Call it once a round.
    pub fn poll(&self) -> usize {
        self.poll_nanos(0)
    }

    /// Like [`poll`](Self::poll); if nothing has completed, waits. Call it when nothing is
    /// runnable. It may return before the time is over.
    pub fn poll_until(&self, limit: Limit) -> usize {
        self.poll_nanos(match limit {
            Limit::After(time) => i64::try_from(time.as_nanos()).unwrap_or(i64::MAX),
            Limit::Never => -1,
        })
    }

    fn poll_nanos(&self, nanos: i64) -> usize {
        usize::try_from((self.functions.poll)(self.thread, nanos)).unwrap_or(0)
    }

    /// Wakes this thread from any thread.
    pub fn waker(&self) -> Waker {
        // SAFETY: alive until the detach (module invariant).
        Waker(Arc::clone(&unsafe { self.callbacks.as_ref() }.target))
    }

    /// A descriptor for the scheduler's own event loop. It becomes readable when a poll has
    /// something to do; only wait for it. Call [`arm`](Self::arm) before each sleep. None if the
    /// library in use lacks it, or the process has no descriptor left.
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        let fd = (self.functions.fd?)(self.thread);
        // SAFETY: the shim keeps it open until the detach.
        (fd >= 0).then(|| unsafe { BorrowedFd::borrow_raw(fd) })
    }

    /// Polls without waiting, and prepares for a sleep on the descriptor of [`fd`](Self::fd). Poll
    /// again after the sleep.
    pub fn arm(&self) -> SleepLimit {
        let Some(arm) = self.functions.arm else {
            return SleepLimit::Runnable;
        };
        match arm(self.thread) {
            0 => SleepLimit::Runnable,
            nanos @ 1.. => SleepLimit::For(Duration::from_nanos(nanos.unsigned_abs())),
            _ => SleepLimit::Unlimited,
        }
    }

    /// Makes [`poll_until`](Self::poll_until) return when `fd` is ready for `events` of
    /// epoll_ctl(2); no longer if there are none.
    ///
    /// # Errors
    /// Those of epoll_ctl(2); Unsupported if the library in use lacks the function.
    pub fn watch_fd(&self, fd: BorrowedFd<'_>, events: u32) -> io::Result<()> {
        let watch_fd = self.functions.watch_fd.ok_or_else(unsupported)?;
        result(watch_fd(self.thread, fd.as_raw_fd(), events))
    }

    /// Ends the call that `fiber` is parked in, if that is possible; it then calls
    /// [`Host::cancelled`].
    ///
    /// # Errors
    /// ESRCH if the fiber is not in a wait that can be ended.
    pub fn cancel(&self, fiber: FiberId) -> io::Result<()> {
        let cancel = self.functions.cancel.ok_or_else(unsupported)?;
        result(cancel(self.thread, fiber.0.as_ptr()))
    }

    /// Ends the poll, select or epoll_wait that `fiber` is parked in as if its time were up.
    ///
    /// # Errors
    /// ESRCH if the fiber is not parked in such a call.
    pub fn expire(&self, fiber: FiberId) -> io::Result<()> {
        let expire = self.functions.expire.ok_or_else(unsupported)?;
        result(expire(self.thread, fiber.0.as_ptr()))
    }

    /// Tells that `fiber` has ended. Call it before another fiber runs.
    pub fn ended(&self, fiber: FiberId) {
        if let Some(ended) = self.functions.ended {
            ended(self.thread, fiber.0.as_ptr());
        }
    }

    /// Takes errno, C++ exceptions and the locale of the running fiber, before a switch that the
    /// shim does not see. Call it on the fiber.
    pub fn save(&self) -> SavedValues {
        let save = self
            .functions
            .save
            .filter(|_| self.functions.restore.is_some());
        SavedValues(save.map(|save| {
            let mut values = Values {
                words: [MaybeUninit::uninit(); 8],
            };
            save(self.thread, &mut values);
            values
        }))
    }

    /// Gives the running fiber the values that [`save`](Self::save) has taken, after the switch.
    /// The attachment is that of the thread on which the fiber runs now.
    ///
    /// # Safety
    /// The values are those of the running fiber.
    pub unsafe fn restore(&self, saved: SavedValues) {
        if let (Some(values), Some(restore)) = (saved.0, self.functions.restore) {
            restore(self.thread, &values);
        }
    }

    /// How many fibers are parked in the shim on something that can still wake them.
    pub fn in_flight(&self) -> usize {
        (self.functions.in_flight)(self.thread)
    }

    /// Whether fibers are parked in the shim and only another fiber or thread can wake them. If
    /// nothing is runnable, there are no timers, and the process has no other thread, this is a
    /// deadlock.
    pub fn all_blocked(&self) -> bool {
        let all_blocked = self.functions.all_blocked;
        all_blocked.is_some_and(|all_blocked| all_blocked(self.thread) != 0)
    }

    /// What a parked fiber waits for, such as `read(5)`; None if it is not parked in the shim.
    pub fn describe(&self, fiber: FiberId) -> Option<String> {
        let mut text = [0_u8; 128];
        let describe = self.functions.describe;
        let full = describe(
            self.thread,
            fiber.0.as_ptr(),
            text.as_mut_ptr().cast(),
            text.len(),
        );
        let text = &text[..full.min(text.len() - 1)];
        (full > 0).then(|| String::from_utf8_lossy(text).into_owned())
    }

    /// The scheduler.
    pub fn host(&self) -> &Rc<H> {
        // SAFETY: alive until the detach (module invariant).
        &unsafe { self.callbacks.as_ref() }.host
    }
}

impl<H: Host> Drop for Attachment<H> {
    fn drop(&mut self) {
        // SAFETY: alive until the detach (module invariant).
        unsafe { self.callbacks.as_ref() }.target.close();
        if (self.functions.detach)(self.thread) == 0 {
            // SAFETY: it is from a box, and the shim no longer refers to it.
            drop(unsafe { Box::from_raw(self.callbacks.as_ptr()) });
        }
    }
}

/// The values of a fiber while it does not run: see [`Attachment::save`].
#[must_use]
pub struct SavedValues(Option<Values>);
