//! An attached OS thread: its engine, its operations in flight, and how its fibers park.
//!
//! Invariant: everything but [`Remote`] is touched by the attached thread alone, and never while a borrow of it is
//! live: the verbs of a host do not call back (aioshim.h), and no borrow is held across a park.

use crate::conf::Level;
use crate::engine::{self, Engine, Request, Wait};
use crate::errno;
use crate::flight::{Flight, Flights};
use crate::host::Host;
use crate::policy::{INLINE_BUDGET, Load, Why};
use crate::stats::{Calls, Stats};
use crate::tls::{self, OffFiber};
use crate::{fds, hooks, log, start, sys};
use crossbeam_channel::{Receiver, Sender};
use rustix::event::EventfdFlags;
use std::cell::{Cell, UnsafeCell};
use std::ffi::{c_int, c_void};
use std::os::fd::{BorrowedFd, IntoRawFd};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex};

/// A fiber that another thread wakes.
struct Wakened(*mut c_void);

// SAFETY: the pointer is the host's name for a fiber; it is only handed back to the host, on the fiber's own thread.
unsafe impl Send for Wakened {}

const AWAKE: u8 = 0;
const ASLEEP: u8 = 1;
const NOTIFIED: u8 = 2;

/// The part of a thread that others may touch.
pub struct Remote {
    /// Ends a sleep in `poll`.
    wake_fd: c_int,
    /// AWAKE, ASLEEP (or about to be) or NOTIFIED (the next sleep does not happen).
    state: AtomicU8,
    inbox: Sender<Wakened>,
    /// The host's wake verb and its argument; None once detached.
    host_wake: Mutex<Option<HostWake>>,
}

struct HostWake(unsafe extern "C" fn(*mut c_void), *mut c_void);

// SAFETY: `wake` is the verb that hosts must allow from any thread (aioshim.h).
unsafe impl Send for HostWake {}

impl Remote {
    /// Ends the thread's sleep in `poll`, or lets its next one not happen.
    pub fn wake(&self) {
        // The swap comes after whatever the woken thread is to see; `begin_sleep` and `end_sleep` pair with it.
        if self.state.swap(NOTIFIED, Ordering::AcqRel) == ASLEEP {
            sys::write_all(self.wake_fd, &1u64.to_ne_bytes());
        }
    }

    /// From another thread: makes `fiber`, parked on this one, runnable.
    pub fn unpark(&self, fiber: *mut c_void) {
        // Cannot fail: the receiver lives as long as a fiber of the thread is parked.
        let _ = self.inbox.send(Wakened(fiber));
        if let Ok(gate) = self.host_wake.lock()
            && let Some(HostWake(wake, data)) = &*gate
        {
            // SAFETY: the thread is attached while the gate is open, and `wake` may be called from any thread.
            unsafe { wake(*data) };
        }
    }

    fn begin_sleep(&self) -> bool {
        let asleep = self
            .state
            .compare_exchange(AWAKE, ASLEEP, Ordering::AcqRel, Ordering::Acquire)
            .is_ok();
        if !asleep {
            self.state.swap(AWAKE, Ordering::AcqRel);
        }
        asleep
    }

    fn end_sleep(&self) {
        self.state.swap(AWAKE, Ordering::AcqRel);
    }
}

enum EngineSlot {
    /// Made when the first operation is queued.
    Unmade,
    Made(Box<dyn Engine>),
    Refused,
}

pub struct Thread {
    host: Host,
    engine: UnsafeCell<EngineSlot>,
    flights: UnsafeCell<Flights>,
    /// Fibers of this thread that wait for their turn at a file position.
    waiting_turn: Cell<usize>,
    /// Inline calls left before the running fiber lets others run.
    budget: Cell<u32>,
    /// In the child of a fork that could not be given a fresh start: nothing is left to wait with.
    defunct: Cell<bool>,
    stats: Arc<Stats>,
    inbox: Receiver<Wakened>,
    remote: Arc<Remote>,
}

impl Thread {
    pub fn new(host: Host) -> Result<Self, errno::Errno> {
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        let wake_fd = rustix::event::eventfd(0, flags)
            .map_err(|e| errno::Errno(e.raw_os_error()))?
            .into_raw_fd();
        let wake_fd = sys::duplicate_out_of_the_way(wake_fd)
            .inspect(|_| sys::close(wake_fd))
            .unwrap_or(wake_fd);
        fds::mark_ours(wake_fd, true);
        let (sender, inbox) = crossbeam_channel::unbounded();
        let host_wake = Mutex::new(Some(HostWake(host.table.wake, host.data)));
        Ok(Self {
            host,
            engine: UnsafeCell::new(EngineSlot::Unmade),
            flights: UnsafeCell::new(Flights::new()),
            waiting_turn: Cell::new(0),
            budget: Cell::new(INLINE_BUDGET),
            defunct: Cell::new(false),
            stats: Stats::register(start::conf().stats != crate::conf::StatsFormat::Off),
            inbox,
            remote: Arc::new(Remote {
                wake_fd,
                state: AtomicU8::new(AWAKE),
                inbox: sender,
                host_wake,
            }),
        })
    }

    pub fn remote(&self) -> &Arc<Remote> {
        &self.remote
    }

    pub fn host(&self) -> Host {
        self.host
    }

    /// Fibers parked in the shim on something that can still wake them.
    pub fn in_flight(&self) -> usize {
        self.flights().len() + self.waiting_turn.get()
    }

    fn flights(&self) -> &Flights {
        // SAFETY: this thread's alone, and no mutable borrow outlives the statement that makes it (module invariant).
        unsafe { &*self.flights.get() }
    }

    /// The engine, made now if this is the first use; None when refused.
    #[inline]
    #[expect(
        clippy::mut_from_ref,
        reason = "the attached thread's own; see the module's invariant"
    )]
    pub fn engine(&self) -> Option<&mut dyn Engine> {
        // SAFETY: this thread's alone, and no borrow is held across a park or a host's verb that could come back here.
        match unsafe { &mut *self.engine.get() } {
            EngineSlot::Made(engine) => Some(&mut **engine),
            EngineSlot::Refused => None,
            slot @ EngineSlot::Unmade => {
                Self::make(slot, self.remote.wake_fd);
                match slot {
                    EngineSlot::Made(engine) => Some(&mut **engine),
                    _ => None,
                }
            }
        }
    }

    #[cold]
    #[inline(never)]
    fn make(slot: &mut EngineSlot, wake_fd: c_int) {
        // The io-uring crate closes descriptors through libc, which is our hook.
        let _off = OffFiber::enter();
        let errno = errno::get();
        *slot = match engine::make(start::conf().engine, wake_fd) {
            Ok(engine) => {
                log::say(Level::Debug, format_args!("engine: {}", engine.name()));
                start::note_engine(engine.name().to_owned());
                EngineSlot::Made(engine)
            }
            Err(refusal) => {
                log::say(
                    Level::Info,
                    format_args!("{refusal}; calls on fibers block their thread"),
                );
                start::note_engine(format!("none ({refusal})"));
                EngineSlot::Refused
            }
        };
        errno::set(errno);
    }

    /// Submits what is queued, so that what follows comes after it in the kernel.
    pub fn submit_queued(&self) {
        // SAFETY: as in `engine`.
        if let EngineSlot::Made(engine) = unsafe { &mut *self.engine.get() }
            && engine.queued() > 0
        {
            engine.submit();
        }
    }

    /// aioshim_poll: returns how many fibers were unparked.
    pub fn poll(&self, wait: Wait) -> usize {
        if self.defunct.get() {
            return 0;
        }
        // A signal handler that jumped out left it null (signal.rs).
        tls::set_here(self);
        let mut unparked = self.open_inbox();
        let sleeps = unparked == 0 && !matches!(wait, Wait::No) && self.remote.begin_sleep();
        let wait = if sleeps { wait } else { Wait::No };
        // SAFETY: as in `engine`; the closure touches the flights and the host, neither of which reach the engine.
        match unsafe { &mut *self.engine.get() } {
            EngineSlot::Made(engine) => {
                if self.stats.timed() && engine.queued() > 0 {
                    self.stats.submitted(engine.queued() as u64);
                }
                engine.poll(wait, &mut |token, result| {
                    unparked += usize::from(self.complete(token, result))
                });
            }
            EngineSlot::Unmade | EngineSlot::Refused => self.sleep_without_engine(wait),
        }
        if sleeps {
            self.remote.end_sleep();
            unparked += self.open_inbox();
        }
        unparked
    }

    #[inline]
    fn complete(&self, token: engine::Token, result: i32) -> bool {
        // SAFETY: this thread's alone; the borrow ends with the statement.
        let Some(flight) = (unsafe { &mut *self.flights.get() }).remove(token) else {
            return false;
        };
        // SAFETY: the flight lives on the stack of a fiber that stays parked until the unpark below (flight.rs).
        let fiber = unsafe {
            (*flight).result = result;
            (*flight).fiber
        };
        self.host.unpark(fiber);
        true
    }

    fn open_inbox(&self) -> usize {
        let mut unparked = 0;
        while let Ok(Wakened(fiber)) = self.inbox.try_recv() {
            self.host.unpark(fiber);
            unparked += 1;
        }
        unparked
    }

    fn sleep_without_engine(&self, wait: Wait) {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        let timeout = match wait {
            Wait::No => return,
            Wait::Forever => None,
            Wait::Nanos(n) => Some(Timespec {
                tv_sec: (n / 1_000_000_000) as i64,
                tv_nsec: (n % 1_000_000_000) as i64,
            }),
        };
        // SAFETY: the eventfd is ours until detach.
        let fd = unsafe { BorrowedFd::borrow_raw(self.remote.wake_fd) };
        let _ = poll(&mut [PollFd::new(&fd, PollFlags::IN)], timeout.as_ref());
        let _ = rustix::io::read(fd, &mut [0u8; 8]);
    }

    /// Parks `fiber`, the running one, until it is unparked. errno is kept.
    fn park(&self) {
        self.budget.set(INLINE_BUDGET);
        let errno = errno::get();
        self.host.park();
        errno::set(errno);
    }

    /// What a parked fiber waits for.
    pub fn describe(&self, fiber: *const c_void) -> Option<String> {
        // SAFETY: flights in the slab are alive (flight.rs).
        let flight = self
            .flights()
            .iter()
            .map(|flight| unsafe { &*flight })
            .find(|f| f.fiber.cast_const() == fiber)?;
        Some(match flight.request {
            Request::Transfer { fd, .. } | Request::Fsync { fd, .. } | Request::Close { fd } => {
                format!("{}({fd})", flight.call)
            }
            Request::Open { .. } => flight.call.to_owned(),
        })
    }

    /// Before detach: false while fibers are parked in here.
    pub fn close(&mut self) -> bool {
        if self.in_flight() > 0 {
            return false;
        }
        if let Ok(mut gate) = self.remote.host_wake.lock() {
            *gate = None;
        }
        let _off = OffFiber::enter();
        *self.engine.get_mut() = EngineSlot::Unmade;
        // Others may still hold the Remote and write to its eventfd: only the last one closes it.
        true
    }

    /// In the child of a fork, for each thread of the parent: lets go of what the child must not touch.
    pub fn abandon(&mut self) {
        if let EngineSlot::Made(engine) = std::mem::replace(self.engine.get_mut(), EngineSlot::Unmade) {
            engine.abandon();
        }
        self.remote.close();
        self.defunct.set(true);
    }
}

impl Remote {
    fn close(&self) {
        fds::mark_ours(self.wake_fd, false);
        sys::close(self.wake_fd);
    }
}

impl Drop for Remote {
    fn drop(&mut self) {
        self.close();
    }
}

/// One call of one fiber, as the functions in [`crate::calls`] see it.
pub struct Call<'a> {
    pub thread: &'a Thread,
    pub fiber: *mut c_void,
    row: usize,
}

impl<'a> Call<'a> {
    /// None on the scheduler's own stack: no fiber makes this call.
    #[inline]
    pub fn begin(thread: &'a Thread, row: usize) -> Option<Self> {
        let fiber = thread.host.running();
        if fiber.is_null() {
            return None;
        }
        let call = Self { thread, fiber, row };
        call.spend();
        Some(call)
    }

    fn counts(&self) -> &Calls {
        self.thread.stats.of(self.row)
    }

    #[inline]
    pub fn load(&self) -> Load {
        let runnable = self.thread.host.runnable();
        Load {
            runnable,
            alone: runnable == 0 && self.thread.in_flight() == 0 && self.thread.host.alone(),
        }
    }

    /// The call goes to libc as it is.
    pub fn through(&self, why: Why) {
        self.counts().through[why as usize].add(1);
    }

    /// The call was completed without parking.
    #[inline]
    pub fn inline(&self) {
        self.counts().inline.add(1);
    }

    /// A fiber whose calls never wait must not starve the others, nor what arrives from other threads. Before anything
    /// is looked at, for other fibers may run here.
    #[inline]
    fn spend(&self) {
        let left = self.thread.budget.get();
        if left > 1 {
            self.thread.budget.set(left - 1);
        } else {
            self.thread.host.unpark(self.fiber);
            self.thread.park();
        }
    }

    /// Whether there is an engine to submit to.
    #[inline]
    pub fn has_engine(&self) -> bool {
        self.thread.engine().is_some()
    }

    /// Queues `request` and parks until it is done: its result, as a system call's. The first use makes the engine.
    #[inline(never)]
    pub fn perform(&self, request: Request) -> i32 {
        let thread = self.thread;
        let Some(engine) = thread.engine() else {
            return -libc::ECANCELED;
        };
        let mut flight = Flight {
            fiber: self.fiber,
            call: hooks::NAMES[self.row],
            request,
            result: 0,
        };
        let flight = &raw mut flight;
        // SAFETY: this thread's alone; the borrow ends with the statement.
        let token = unsafe { &mut *thread.flights.get() }.add(flight);
        // SAFETY: `flight` is on this stack, which stays until we return.
        engine.queue(unsafe { &(*flight).request }, token);
        self.counts().converted.add(1);
        if thread.stats.timed() {
            let parked = sys::now();
            thread.park();
            thread.stats.parked(self.row, sys::now() - parked);
        } else {
            thread.park();
        }
        // SAFETY: as above; `complete` wrote the result before it unparked this fiber.
        unsafe { (*flight).result }
    }

    /// Parks until [`Remote::unpark`] or a fiber of this thread gives this fiber its turn at a file position.
    pub fn await_turn(&self) {
        self.thread.waiting_turn.update(|n| n + 1);
        self.thread.park();
        self.thread.waiting_turn.update(|n| n - 1);
    }
}
