//! An attached OS thread: the parts of its state, and what happens between them.
//!
//! Each part is a type in a file of its own, which does not use this folder. The files here let the
//! parts work together: [`poll`] is the function that the host calls; [`submit`] submits an
//! operation, waits for it and completes it; [`interrupt`] ends waits early; [`park`] parks fibers
//! and limits how long one runs; [`replacing`] replaces a failed engine; [`event_loop`] lets the
//! thread sleep in the event loop of its host.
//!
//! Invariant: only the attached thread touches the fields, except [`Remote`], and never while
//! another borrow of the same field is live: the host's callbacks do not call back into the shim
//! (aioshim.h), and no borrow is held across a park.

mod event_loop;
mod interrupt;
mod park;
mod poll;
mod replacing;
mod submit;

use crate::context::{self, Slot};
use crate::host::Host;
use crate::host::remote::Remote;
use crate::record::Recorder;
use crate::runtime::accepting::Accepting;
use crate::runtime::blocking::Suspicion;
use crate::runtime::cached_reads::CachedReads;
use crate::runtime::callback::link::ActiveCallbacks;
use crate::runtime::conversion::Conversion;
use crate::runtime::duplicates::Duplicates;
use crate::runtime::in_flight::InFlight;
use crate::runtime::language::Runtimes;
use crate::runtime::mailbox::Mailbox;
use crate::runtime::open_history::OpenHistory;
use crate::runtime::pollable::Pollable;
use crate::runtime::quantum::Quantum;
use crate::runtime::signal;
use crate::runtime::signal::state::Signals;
use crate::runtime::static_results::StaticResults;
use crate::runtime::stream::occupancy::Occupancy;
use crate::runtime::thread_engine::ThreadEngine;
use crate::state::attached;
use policy::{Contention, Load};
use std::ffi::c_void;
use std::sync::Arc;
pub use submit::wake_here;
use sys::errno::Errno;

#[repr(C)]
pub struct Thread {
    /// The first field, because the thread-local words point to it ([`Thread::of_slot`]).
    signals: Signals,
    host: Host,
    engine: ThreadEngine,
    operations: InFlight,
    /// The stdio streams that its fibers are inside of.
    streams: Occupancy,
    quantum: Quantum,
    conversion: Conversion,
    recorder: Recorder,
    mailbox: Mailbox,
    /// The descriptors of a host that sleeps in an event loop of its own.
    pollable: Pollable,
    /// Exceptions and locales of its fibers.
    runtimes: Runtimes,
    /// Results that libc would store in static memory.
    static_results: StaticResults,
    /// Call-backs from the pool that its fibers are running.
    callbacks: ActiveCallbacks,
    /// Duplicates of descriptors that parked fibers wait on.
    duplicates: Duplicates,
    opens: OpenHistory,
    accepting: Accepting,
    suspicion: Suspicion,
    cached_reads: CachedReads,
}

impl Thread {
    pub fn new(host: Host) -> Result<Self, Errno> {
        let mailbox = Mailbox::new(&host)?;
        let runtimes = Runtimes::of_thread(&host);
        let recorder = Recorder::begin(&host);
        Ok(Self {
            signals: Signals::new(Self::deliver_deferred),
            engine: ThreadEngine::new(mailbox.remote().wake_fd(), host.in_place),
            operations: InFlight::new(),
            streams: Occupancy::new(),
            quantum: Quantum::new(),
            conversion: Conversion::new(&host, recorder.is_watched()),
            recorder,
            mailbox,
            pollable: Pollable::default(),
            runtimes,
            static_results: StaticResults::default(),
            callbacks: ActiveCallbacks::default(),
            duplicates: Duplicates::default(),
            opens: OpenHistory::new(),
            accepting: Accepting::default(),
            suspicion: Suspicion::new(),
            cached_reads: CachedReads::new(),
            host,
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

    pub fn signals(&self) -> &Signals {
        &self.signals
    }

    pub fn host(&self) -> &Host {
        &self.host
    }

    /// The part that other threads use.
    pub fn remote(&self) -> &Arc<Remote> {
        self.mailbox.remote()
    }

    #[inline(always)]
    pub fn engine(&self) -> &ThreadEngine {
        &self.engine
    }

    #[inline(always)]
    pub fn operations(&self) -> &InFlight {
        &self.operations
    }

    #[inline(always)]
    pub fn streams(&self) -> &Occupancy {
        &self.streams
    }

    /// The quantum of the running fiber.
    #[inline(always)]
    pub fn quantum(&self) -> &Quantum {
        &self.quantum
    }

    #[inline(always)]
    pub fn conversion(&self) -> &Conversion {
        &self.conversion
    }

    #[inline(always)]
    pub fn recorder(&self) -> &Recorder {
        &self.recorder
    }

    pub fn runtimes(&self) -> &Runtimes {
        &self.runtimes
    }

    /// What times the calls that fibers make themselves.
    #[inline(always)]
    pub fn suspicion(&self) -> &Suspicion {
        &self.suspicion
    }

    /// Its streak of reads from the page cache.
    #[inline(always)]
    pub fn cached_reads(&self) -> &CachedReads {
        &self.cached_reads
    }

    pub fn static_results(&self) -> &StaticResults {
        &self.static_results
    }

    pub fn callbacks(&self) -> &ActiveCallbacks {
        &self.callbacks
    }

    pub fn opens(&self) -> &OpenHistory {
        &self.opens
    }

    /// Number of fibers parked in the shim that can still be woken.
    pub fn in_flight(&self) -> usize {
        self.operations.waiting()
    }

    /// How busy it is.
    #[inline]
    pub fn load(&self) -> Load {
        let runnable = self.host.runnable();
        // If the running fiber holds a stream, waiting delays fibers of other threads, which would
        // block on the stream's lock.
        let delays_others = || self.streams.any() && attached::other_threads();
        let contention = if runnable == 0 && self.in_flight() == 0 && !delays_others() {
            self.host.contention()
        } else {
            Contention::OthersRunnable
        };
        Load {
            batch: self.engine.batch(runnable),
            contention,
        }
    }

    /// How many of the fibers parked in the shim only another fiber or thread can wake. Zero if
    /// another thread has just woken one.
    pub fn blocked(&self) -> usize {
        if self.has_news() {
            0
        } else {
            self.operations.blocked(signal::has_handlers)
        }
    }

    /// Whether fibers are parked in the shim, and only another fiber or thread can wake them.
    pub fn all_blocked(&self) -> bool {
        self.in_flight() > 0
            && !self.has_news()
            && self.operations.all_blocked(signal::has_handlers)
    }

    /// Whether another thread has woken a fiber, or a signal waits for its handler.
    fn has_news(&self) -> bool {
        !self.mailbox.is_empty() || self.remote().has_woken() || self.signals.has_deferred()
    }

    /// Passes every later call of this thread through to libc. In-flight operations complete as
    /// usual.
    pub fn pass_through(&self) {
        self.conversion.set_passes_through(true);
        context::stay_off(self.slot());
    }

    /// In the child of fork, if the host may run other fibers there: passes all calls through until
    /// the host attaches the thread again.
    pub fn await_host(&self) {
        self.conversion.set_awaits_host();
        self.pass_through();
    }

    /// `fiber` has ended: drops what is kept for it. Call off a fiber, or on the one that ends.
    pub fn forget_fiber(&self, fiber: *mut c_void) {
        let _off = context::libc();
        self.static_results.forget(fiber);
        self.operations.forget_fiber(fiber);
        self.streams.forget_fiber(fiber);
        let running = self.host.running();
        if running.is_null() || running == fiber {
            self.runtimes.forget_fiber();
        }
    }

    /// Call before detaching. Returns false while fibers are parked in the shim.
    pub fn close(&mut self) -> bool {
        if self.in_flight() > 0 {
            return false;
        }
        self.recorder.end();
        self.runtimes.end();
        self.mailbox.close();
        let _off = context::libc();
        self.engine.close();
        true
    }
}
