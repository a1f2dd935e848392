//! The state of an attached OS thread: its engine, its in-flight operations, and the poll function
//! that its host calls.
//!
//! The other files do what a call on a fiber needs: [`submit`] submits an operation, waits for it
//! and completes it; [`interrupt`] ends waits early; [`accepting`] accepts connections; [`park`]
//! parks fibers and limits how long one runs; [`replacing`] replaces a failed engine.
//!
//! Invariant: only the attached thread touches the fields, except [`Remote`], and never while
//! another borrow of the same field is live: the host's callbacks do not call back into the shim
//! (aioshim.h), and no borrow is held across a park.

mod accepting;
mod interrupt;
mod park;
mod replacing;
mod submit;

use crate::context::{self, Slot};
use crate::engine::{self, Engine, EngineSelection, Request, Sink, Wait};
use crate::host::remote::{Message, Remote};
use crate::host::{Host, Token};
use crate::record::stats::{self, Stats};
use crate::record::trace::{CallRecord, Trace, Tracing};
use crate::record::unhooked::SyscallTracer;
use crate::record::watchdog::Registration;
use crate::runtime::callback::link::ActiveCallbacks;
use crate::runtime::deadlines::Deadlines;
use crate::runtime::host_waker::HostWaker;
use crate::runtime::language::Runtimes;
use crate::runtime::operation::Operations;
use crate::runtime::quantum::Quantum;
use crate::runtime::signal::state::Signals;
use crate::runtime::static_results::StaticResults;
use crate::runtime::stream::Occupancy;
use crate::state::log;
use crate::state::recent_paths::RecentPathCache;
use crate::state::registry::Registered;
use crate::state::{interposed, options, sanitizers};
use accepting::Accepting;
use crossbeam_channel::Receiver;
use format::options::{EngineChoice, Level, StatsFormat};
use policy::Opens;
use std::cell::{Cell, RefCell, UnsafeCell};
use std::collections::HashSet;
use std::ffi::{c_int, c_void};
use std::sync::Arc;
pub use submit::wake_here;
use sys::errno;

/// Receives the completions that the engine reports while it polls.
struct Completions<'a> {
    thread: &'a Thread,
    unparked: usize,
}

impl Sink for Completions<'_> {
    #[inline]
    fn done(&mut self, token: Token, result: i32) {
        self.unparked += usize::from(self.thread.complete(token, result));
    }

    fn offload(&mut self, token: Token, request: Request) {
        if !self.thread.offload(token, request) {
            // Not done: the fiber makes the plain call.
            self.done(token, -libc::ECANCELED);
        }
    }
}

enum EngineSlot {
    /// Created when the first operation is queued.
    NotCreated,
    Created(Box<dyn Engine>),
    Refused,
}

#[repr(C)]
pub struct Thread {
    /// The first field, because the thread-local words point to it ([`Thread::of_slot`]).
    signals: Signals,
    host: Host,
    engine: UnsafeCell<EngineSlot>,
    operations: UnsafeCell<Operations>,
    deadlines: RefCell<Deadlines>,
    /// The stdio streams that its fibers are inside of.
    streams: Occupancy,
    /// Its fibers that are parked inside a stream.
    in_streams: RefCell<HashSet<*const c_void>>,
    /// Its fibers whose waits were interrupted because they are cancelled.
    cancelled: RefCell<HashSet<*const c_void>>,
    /// Number of its fibers that wait for a file position or a stream.
    waiting_for_turn: Cell<usize>,
    /// Operations queued since the last batch was submitted.
    queued: Cell<u32>,
    /// Whether the engine benefits from batching; assumed true until it is created.
    batches: Cell<bool>,
    /// The most preferred engine that this thread may use in its current state.
    engine_limit: Cell<EngineChoice>,
    /// Whether all calls pass through to libc, because the shim cannot make system calls of its own
    /// in the thread's current state.
    passes_through: Cell<bool>,
    /// Whether the thread has no engine that it can sleep in.
    sleeps_without_engine: Cell<bool>,
    quantum: Quantum,
    /// What the shim has learned about the speed of this thread's opens.
    pub opens: Cell<Opens>,
    pub recent_paths: RecentPathCache,
    /// Duplicates of descriptors that parked fibers wait on.
    duplicates: RefCell<HashSet<c_int>>,
    /// In the child of fork, until its host attaches the thread again: calls pass through, because
    /// the host may run other fibers.
    awaits_host: Cell<bool>,
    /// In the child of fork, if the thread could not be replaced by a new one: it can no longer
    /// wait.
    defunct: Cell<bool>,
    runtimes: Runtimes,
    static_results: StaticResults,
    /// Call-backs from the pool that fibers of this thread are currently running.
    callbacks: ActiveCallbacks,
    stats: Registered<Stats>,
    trace: Option<Tracing>,
    tracer: Option<Box<SyscallTracer>>,
    watchdog: Option<Registration>,
    /// Its calls are timed or traced, or another library interposes some of them.
    watched: bool,
    accepting: Accepting,
    /// Wakes a host that sleeps elsewhere; started when first needed.
    host_waker: RefCell<Option<HostWaker>>,
    /// Whether the host's park needs no work before and after it.
    parks_plainly: bool,
    /// Whether calls on locks are converted on its fibers.
    locks: bool,
    /// Whether a lock hook may return at once, because calls are neither recorded nor passed
    /// through.
    fast_path: bool,
    inbox: Receiver<Message>,
    remote: Arc<Remote>,
}

impl Thread {
    pub fn new(host: Host) -> Result<Self, errno::Errno> {
        let (remote, inbox) = Remote::new(&host)?;
        let stats = Stats::register(options::current().stats != StatsFormat::Off);
        let trace = Trace::register();
        let watched = stats.timed() || trace.is_some() || interposed::is_any();
        let locks =
            options::current().locks && !host.leaves_locks() && !sanitizers::watches_locks();
        Ok(Self {
            host,
            engine: UnsafeCell::new(EngineSlot::NotCreated),
            operations: UnsafeCell::new(Operations::new()),
            deadlines: RefCell::new(Deadlines::new()),
            streams: Occupancy::new(),
            in_streams: RefCell::default(),
            cancelled: RefCell::default(),
            waiting_for_turn: Cell::new(0),
            queued: Cell::new(0),
            batches: Cell::new(true),
            engine_limit: Cell::new(engine::first()),
            passes_through: Cell::new(false),
            sleeps_without_engine: Cell::new(true),
            quantum: Quantum::new(),
            opens: Cell::new(Opens::NOTHING),
            recent_paths: RecentPathCache::new(),
            duplicates: RefCell::new(HashSet::new()),
            awaits_host: Cell::new(false),
            defunct: Cell::new(false),
            signals: Signals::new(Self::deliver_deferred),
            runtimes: Runtimes::of_thread(),
            static_results: StaticResults::default(),
            callbacks: ActiveCallbacks::default(),
            watched,
            locks,
            fast_path: locks && !watched,
            accepting: Accepting::default(),
            host_waker: RefCell::new(None),
            parks_plainly: host.keeps_runtimes && !options::current().check,
            stats,
            trace,
            tracer: SyscallTracer::begin(&host),
            watchdog: Registration::begin(&host),
            inbox,
            remote: Arc::new(remote),
        })
    }

    /// The thread if hooks convert calls here, which they do in its fibers' own code and in the
    /// shim's.
    #[inline(always)]
    pub fn current() -> Option<&'static Self> {
        // SAFETY: null, or the slot of this OS thread.
        unsafe { context::active().cast::<Self>().as_ref() }
    }

    /// The thread that this OS thread is attached as, whether hooks convert calls here or not.
    #[inline(always)]
    pub fn attached() -> Option<&'static Self> {
        // SAFETY: null, or the slot of this OS thread.
        unsafe { context::attached().cast::<Self>().as_ref() }
    }

    /// The thread that `slot` belongs to.
    ///
    /// # Safety
    /// `slot` came from [`context::active`] or [`context::attached`], and is not null. The thread
    /// stays attached for the lifetime: as long as a hook, a callback of its host or a signal
    /// handler runs on it, because a host detaches it from its scheduler.
    #[inline(always)]
    pub unsafe fn of_slot<'a>(slot: *const Slot) -> &'a Self {
        const {
            assert!(std::mem::offset_of!(Self, signals) == 0);
        }
        // SAFETY: the slot is at the start of the Thread that `attach_to` made; our caller
        // guarantees that it is still attached.
        unsafe { &*slot.cast::<Self>() }
    }

    /// Whose code runs on this thread.
    #[inline(always)]
    pub fn slot(&self) -> &Slot {
        self.signals.slot()
    }

    /// Runs the handlers that were deferred on the calling thread. On a scheduler's stack they stay
    /// deferred until a fiber runs.
    #[cold]
    pub fn deliver_deferred() {
        if let Some(thread) = Self::attached()
            && !thread.host.running().is_null()
        {
            thread.handle_signals(None);
        }
    }

    pub fn remote(&self) -> &Arc<Remote> {
        &self.remote
    }

    pub fn host(&self) -> &Host {
        &self.host
    }

    pub fn signals(&self) -> &Signals {
        &self.signals
    }

    pub fn callbacks(&self) -> &ActiveCallbacks {
        &self.callbacks
    }

    /// The quantum of the running fiber.
    #[inline(always)]
    pub fn quantum(&self) -> &Quantum {
        &self.quantum
    }

    /// Results that libc would store in static memory.
    pub fn static_results(&self) -> &StaticResults {
        &self.static_results
    }

    pub fn runtimes(&self) -> &Runtimes {
        &self.runtimes
    }

    #[inline(always)]
    pub fn streams(&self) -> &Occupancy {
        &self.streams
    }

    pub fn stats(&self) -> &Stats {
        &self.stats
    }

    /// Whether calls are recorded because statistics or a trace need them.
    #[inline(always)]
    pub fn is_watched(&self) -> bool {
        self.watched
    }

    /// Whether calls on locks are converted on its fibers.
    #[inline(always)]
    pub fn converts_locks(&self) -> bool {
        self.locks
    }

    /// Whether a hook may return without starting a recorded call.
    #[inline(always)]
    pub fn allows_fast_path(&self) -> bool {
        self.fast_path
    }

    /// The tracer of system calls that no hook sees, if it is enabled.
    #[inline]
    pub fn tracer(&self) -> Option<&SyscallTracer> {
        self.tracer.as_deref()
    }

    /// Begins the record of a watched call.
    pub fn record(&self, row: usize) -> CallRecord {
        if let Some(tracer) = self.tracer() {
            tracer.resume();
        }
        CallRecord::begin(row, self.trace.as_ref())
    }

    /// Number of fibers parked in the shim that can still be woken.
    pub fn in_flight(&self) -> usize {
        self.operations().len() + self.waiting_for_turn.get()
    }

    /// The expected size of the next batch if `runnable` fibers may add to it; 0 if the engine does
    /// not benefit from batching.
    #[inline(always)]
    pub fn batch(&self, runnable: u32) -> u32 {
        if self.batches.get() {
            runnable + self.queued.get()
        } else {
            0
        }
    }

    fn operations(&self) -> &Operations {
        // SAFETY: only this thread uses it, and no mutable borrow outlives its statement (module
        // invariant).
        unsafe { &*self.operations.get() }
    }

    /// The engine, created on first use; None if the kernel refused every engine.
    #[inline(always)]
    #[expect(
        clippy::mut_from_ref,
        reason = "the attached thread's own; see the module's invariant"
    )]
    pub fn engine(&self) -> Option<&mut dyn Engine> {
        // SAFETY: only this thread uses it, and no borrow is held across a park or across a host
        // callback that could come back here.
        match unsafe { &mut *self.engine.get() } {
            EngineSlot::Created(engine) => Some(&mut **engine),
            EngineSlot::Refused => None,
            slot @ EngineSlot::NotCreated => {
                self.make(slot);
                match slot {
                    EngineSlot::Created(engine) => Some(&mut **engine),
                    _ => None,
                }
            }
        }
    }

    #[cold]
    #[inline(never)]
    fn make(&self, slot: &mut EngineSlot) {
        // The io-uring crate closes descriptors through libc, whose close is our hook.
        let _off = context::libc();
        let errno = errno::get();
        let choice = options::current().engine.max(self.engine_limit.get());
        let EngineSelection {
            engine,
            rejections,
            out_of_descriptors,
        } = engine::make(choice, self.remote.wake_fd(), self.host.in_place);
        let name = engine.as_ref().map_or("sync", |engine| engine.name());
        for rejection in &rejections {
            // A warning only if the user asked for a specific engine; `auto` takes any engine.
            let level = if choice == EngineChoice::Auto || out_of_descriptors {
                Level::Info
            } else {
                Level::Warn
            };
            log::say(level, format_args!("{rejection}; using {name} instead"));
        }
        log::say(Level::Debug, format_args!("engine: {name}"));
        stats::note_engine(match rejections.join(", ") {
            none if none.is_empty() => name.to_owned(),
            reasons => format!("{name} ({reasons})"),
        });
        *slot = engine.map_or(EngineSlot::Refused, |engine| {
            self.batches.set(engine.batches());
            self.sleeps_without_engine.set(!engine.sleeps());
            EngineSlot::Created(engine)
        });
        errno::set(errno);
    }

    /// Whether the engine does socket calls as a whole ([`Engine::does_sockets`]).
    pub fn does_sockets(&self) -> bool {
        self.engine().is_some_and(|engine| engine.does_sockets())
    }

    /// Implements aioshim_poll. Returns how many fibers were unparked.
    pub fn poll(&self, wait: Wait) -> usize {
        let idle = self.in_flight() == 0 && self.inbox.is_empty() && !self.signals.has_deferred();
        if self.defunct.get() || (idle && matches!(wait, Wait::No)) {
            return 0;
        }
        let _pause = self.tracer().map(SyscallTracer::pause);
        // An exception thrown by a signal handler has ended the handler without a return.
        context::return_from_handler(self.slot());
        let entered = context::shim(self.slot());
        let masked = (self.signals.masked.get() > 0 && !self.signals.has_deferred())
            .then(|| self.begin_masked());
        let mut unparked = self.drain_inbox();
        let had_deferred = self.signals.has_deferred();
        let wait = self.deadlines.borrow().shorten(wait, sys::now);
        let sleeps = unparked == 0
            && !had_deferred
            && !matches!(wait, Wait::No)
            && self.remote.begin_sleep();
        let wait = if sleeps { wait } else { Wait::No };
        unparked = self.run_engine(wait, unparked);
        if sleeps {
            self.remote.end_sleep();
            unparked += self.drain_inbox();
        }
        if !self.deadlines.borrow().is_empty() {
            unparked += self.end_expired();
        }
        if let Some(base) = masked {
            self.signals.end_masked(base);
        }
        // An unparked fiber will run the handlers when it resumes. An operation that completed
        // before the signal arrived is not interrupted by it.
        if unparked == 0 && self.signals.has_deferred() {
            if !had_deferred {
                unparked = self.run_engine(Wait::No, 0) + self.drain_inbox();
            }
            if unparked == 0 {
                unparked = self.interrupt_for_signals();
            }
        }
        entered.end_without_delivery();
        if unparked == 0
            && self.remote.sleeps_elsewhere()
            && self.host.runnable() == 0
            && self.in_flight() > 0
        {
            self.watch_engine();
        }
        unparked
    }

    /// Called when nothing is runnable and the host may sleep elsewhere: arranges that an in-flight
    /// operation wakes it.
    #[cold]
    fn watch_engine(&self) {
        let nanos = match self.deadlines.borrow().shorten(Wait::Forever, sys::now) {
            Wait::No => Some(0),
            Wait::Nanos(nanos) => Some(nanos),
            Wait::Forever => None,
        };
        let mut host_waker = self.host_waker.borrow_mut();
        if host_waker.is_none() {
            let ready = self.engine().and_then(|engine| engine.ready_descriptor());
            *host_waker = HostWaker::start(&self.remote, ready);
        }
        if let Some(host_waker) = &*host_waker {
            host_waker.order(nanos);
        }
    }

    /// Makes the engine submit the queue, wait, and report. Returns the number of unparked fibers,
    /// including the `unparked` from before.
    fn run_engine(&self, wait: Wait, mut unparked: usize) -> usize {
        // SAFETY: only this thread uses it, and this is the only borrow at the time: reporting
        // completions touches the in-flight operations and the host, and neither reaches the
        // engine.
        if let EngineSlot::Created(engine) = unsafe { &mut *self.engine.get() } {
            let queued = self.queued.replace(0);
            if self.stats.timed() && queued > 0 {
                self.stats.submitted(u64::from(queued));
            }
            let mut completions = Completions {
                thread: self,
                unparked,
            };
            let polled = engine.poll(wait, &mut completions);
            unparked = completions.unparked;
            if let Err(error) = polled {
                unparked += self.replace_engine(error);
            }
        }
        if self.sleeps_without_engine.get() && !matches!(wait, Wait::No) {
            self.remote.sleep(wait.timeout().as_ref());
        }
        unparked
    }

    fn drain_inbox(&self) -> usize {
        let mut unparked = 0;
        while let Ok(message) = self.inbox.try_recv() {
            match message {
                Message::Unpark(fiber) => {
                    self.host.unpark(fiber);
                    unparked += 1;
                }
                Message::Completed(token, result) => {
                    unparked += usize::from(self.complete(token, result))
                }
            }
        }
        self.remote
            .take_woken(|token| unparked += usize::from(self.complete(token, 0)));
        unparked
    }

    /// Describes the call that a parked fiber waits in.
    pub fn describe(&self, fiber: *const c_void) -> Option<String> {
        let _off = context::libc();
        let (_, operation) = self.operations().by_fiber(fiber)?;
        // SAFETY: operations in the slab are alive (operation.rs).
        let operation = unsafe { &*operation };
        let name = calltable::NAMES[operation.row as usize].name;
        Some(match operation.fd() {
            Some(fd) => format!("{name}({fd})"),
            None => name.to_owned(),
        })
    }

    /// Call before detaching. Returns false while fibers are parked in the shim.
    pub fn close(&mut self) -> bool {
        if self.in_flight() > 0 {
            return false;
        }
        self.watchdog = None;
        if let Some(tracer) = self.tracer.take() {
            tracer.end();
        }
        self.host_waker = RefCell::new(None);
        self.remote.detach();
        let _off = context::libc();
        *self.engine.get_mut() = EngineSlot::NotCreated;
        // Other threads may still hold the Remote and write to its eventfd; the last one closes it.
        true
    }

    /// Whether this thread is in the child of fork and its host may attach it again.
    pub fn awaits_host(&self) -> bool {
        self.awaits_host.get()
    }

    /// In the child of fork, if the host may run other fibers there: passes all calls through until
    /// the host attaches the thread again.
    pub fn await_host(&self) {
        self.awaits_host.set(true);
        self.pass_through();
    }

    /// In the child of fork, if the thread could not be replaced by a new one: its polls return at
    /// once from now on.
    pub fn set_defunct(&self) {
        self.defunct.set(true);
    }
}
