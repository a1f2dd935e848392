//! An attached OS thread: its engine, its operations in flight, and how its fibers park.
//!
//! Invariant: everything but [`Remote`] is touched by the attached thread alone, and never while a borrow of it is
//! live: the verbs of a host do not call back (aioshim.h), and no borrow is held across a park.

use crate::allocator;
use crate::conf::{EngineChoice, Level};
use crate::deadlines::{Deadline, Deadlines, NEVER};
use crate::engine::{self, Engine, Made, Request, Run, Sink, Token, Wait};
use crate::errno;
use crate::escapes::Watch;
use crate::flight::{End, Flight, Flights, Kind};
use crate::host::Host;
use crate::known_files::KnownFiles;
use crate::policy::{self, INLINE_BUDGET, Opens};
use crate::pool::{self, Job};
use crate::remote::{Message, Remote};
use crate::signal::{Handled, Signals};
use crate::stall::Watched;
use crate::stats::Stats;
use crate::stdio::Files;
use crate::sys::SignalSet;
use crate::tls::{self, OffFiber};
use crate::trace::{Record, Trace};
use crate::{cancel, fds, hooks, log, main_fiber, start, sys};
use crossbeam_channel::Receiver;
use std::cell::{Cell, RefCell, UnsafeCell};
use std::collections::HashSet;
use std::ffi::{c_int, c_void};
use std::os::fd::BorrowedFd;
use std::sync::Arc;

/// How long a thread of the pool is given to notice that it is interrupted.
const KICK_AGAIN_NS: u64 = 1_000_000;

/// Where the engine reports to, while it polls.
struct Landings<'a> {
    thread: &'a Thread,
    unparked: usize,
}

impl Sink for Landings<'_> {
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

/// The token of what no fiber is in flight for.
const NOBODY: Token = Token::MAX;

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
    deadlines: RefCell<Deadlines>,
    /// The streams its fibers are inside.
    files: Files,
    /// Its fibers that are parked inside one.
    in_streams: RefCell<HashSet<*const c_void>>,
    /// Those whose waits were ended because they are cancelled.
    cancelled: RefCell<HashSet<*const c_void>>,
    /// Fibers of this thread that wait for their turn at a file position or a stream.
    waiting_turn: Cell<usize>,
    /// Operations queued since the last batch was submitted.
    queued: Cell<u32>,
    /// The engine makes something of batches; taken to be so until it is made.
    batches: Cell<bool>,
    /// Calls left before the running fiber lets others run.
    budget: Cell<u32>,
    /// When it used that up for the first time in its turn, if it has.
    turn_since: Cell<Option<u64>>,
    /// What this thread's opens have taught.
    pub opens: Cell<Opens>,
    pub known_files: KnownFiles,
    /// Duplicates of descriptors that parked fibers wait on.
    kept: RefCell<HashSet<c_int>>,
    /// In the child of a fork that could not be given a fresh start: nothing is left to wait with.
    defunct: Cell<bool>,
    signals: Signals,
    stats: Arc<Stats>,
    trace: Option<Arc<Trace>>,
    escapes: Option<Box<Watch>>,
    stall: Option<Watched>,
    /// Its calls are timed or traced.
    watched: bool,
    inbox: Receiver<Message>,
    remote: Arc<Remote>,
}

impl Thread {
    pub fn new(host: Host) -> Result<Self, errno::Errno> {
        let (remote, inbox) = Remote::new(&host)?;
        let stats = Stats::register(start::conf().stats != crate::conf::StatsFormat::Off);
        let trace = Trace::register();
        Ok(Self {
            host,
            engine: UnsafeCell::new(EngineSlot::Unmade),
            flights: UnsafeCell::new(Flights::new()),
            deadlines: RefCell::new(Deadlines::new()),
            files: Files::new(),
            in_streams: RefCell::default(),
            cancelled: RefCell::default(),
            waiting_turn: Cell::new(0),
            queued: Cell::new(0),
            batches: Cell::new(true),
            budget: Cell::new(INLINE_BUDGET),
            turn_since: Cell::new(None),
            opens: Cell::new(Opens::NOTHING),
            known_files: KnownFiles::new(),
            kept: RefCell::new(HashSet::new()),
            defunct: Cell::new(false),
            signals: Signals::new(),
            watched: stats.timed() || trace.is_some(),
            stats,
            trace,
            escapes: Watch::begin(),
            stall: Watched::begin(&host),
            inbox,
            remote: Arc::new(remote),
        })
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

    #[inline(always)]
    pub fn files(&self) -> &Files {
        &self.files
    }

    pub fn stats(&self) -> &Stats {
        &self.stats
    }

    /// Whether calls keep a record: for the statistics or the trace.
    #[inline(always)]
    pub fn is_watched(&self) -> bool {
        self.watched
    }

    /// What counts system calls that no hook sees, if anything does.
    #[inline]
    pub fn escapes(&self) -> Option<&Watch> {
        self.escapes.as_deref()
    }

    /// Begins the record of a watched call.
    pub fn record(&self, row: usize) -> Record {
        if let Some(escapes) = self.escapes() {
            escapes.resume();
        }
        Record::begin(row, self.trace.as_ref())
    }

    /// Fibers parked in the shim on something that can still wake them.
    pub fn in_flight(&self) -> usize {
        self.flights().len() + self.waiting_turn.get()
    }

    /// What the next batch may come to, with `runnable` fibers that may add to it; 0 where batches are worth nothing.
    #[inline(always)]
    pub fn batch(&self, runnable: u32) -> u32 {
        if self.batches.get() {
            runnable + self.queued.get()
        } else {
            0
        }
    }

    fn flights(&self) -> &Flights {
        // SAFETY: this thread's alone, and no mutable borrow outlives the statement that makes it (module invariant).
        unsafe { &*self.flights.get() }
    }

    /// The engine, made now if this is the first use; None when refused.
    #[inline(always)]
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
                self.make(slot);
                match slot {
                    EngineSlot::Made(engine) => Some(&mut **engine),
                    _ => None,
                }
            }
        }
    }

    #[cold]
    #[inline(never)]
    fn make(&self, slot: &mut EngineSlot) {
        // The io-uring crate closes descriptors through libc, which is our hook.
        let _off = OffFiber::enter();
        let errno = errno::get();
        let choice = start::conf().engine;
        let Made { engine, refusals } = engine::make(choice, self.remote.wake_fd());
        let name = engine.as_ref().map_or("sync", |engine| engine.name());
        for refusal in &refusals {
            // What was asked for by name is missed; auto takes what there is.
            let level = if choice == EngineChoice::Auto {
                Level::Info
            } else {
                Level::Warn
            };
            log::say(level, format_args!("{refusal}; using {name} instead"));
        }
        log::say(Level::Debug, format_args!("engine: {name}"));
        start::note_engine(match refusals.join(", ") {
            none if none.is_empty() => name.to_owned(),
            reasons => format!("{name} ({reasons})"),
        });
        *slot = engine.map_or(EngineSlot::Refused, |engine| {
            self.batches.set(engine.batches());
            EngineSlot::Made(engine)
        });
        errno::set(errno);
    }

    /// Whether the engine does calls on sockets as a whole ([`Engine::does_sockets`]).
    pub fn does_sockets(&self) -> bool {
        self.engine().is_some_and(|engine| engine.does_sockets())
    }

    /// Submits what is queued, so that what follows comes after it in the kernel.
    pub fn submit_queued(&self) {
        // SAFETY: as in `engine`.
        if let EngineSlot::Made(engine) = unsafe { &mut *self.engine.get() }
            && self.queued.replace(0) > 0
        {
            engine.submit();
        }
    }

    /// aioshim_poll: returns how many fibers were unparked.
    pub fn poll(&self, wait: Wait) -> usize {
        let idle = self.in_flight() == 0 && self.inbox.is_empty() && !self.signals.is_held();
        if self.defunct.get() || (idle && matches!(wait, Wait::No)) {
            return 0;
        }
        let _pause = self.escapes().map(Watch::pause);
        let critical = self.signals.enter();
        // An exception out of a signal's handler left it null.
        tls::set_here(self);
        let masked = (self.signals.masked.get() > 0 && !self.signals.is_held()).then(|| self.begin_masked());
        let mut unparked = self.open_inbox();
        // A fiber that goes on runs the handlers.
        if unparked == 0 && self.signals.is_held() {
            unparked = self.interrupt_for_signals();
        }
        let wait = self.deadlines.borrow().shorten(wait, sys::now);
        let sleeps = unparked == 0 && !matches!(wait, Wait::No) && self.remote.begin_sleep();
        let wait = if sleeps { wait } else { Wait::No };
        // SAFETY: as in `engine`; the landings touch the flights and the host, neither of which reach the engine.
        match unsafe { &mut *self.engine.get() } {
            EngineSlot::Made(engine) => {
                let queued = self.queued.replace(0);
                if self.stats.timed() && queued > 0 {
                    self.stats.submitted(u64::from(queued));
                }
                let mut landings = Landings { thread: self, unparked };
                engine.poll(wait, &mut landings);
                unparked = landings.unparked;
            }
            EngineSlot::Unmade | EngineSlot::Refused => self.sleep_without_engine(wait),
        }
        if sleeps {
            self.remote.end_sleep();
            unparked += self.open_inbox();
        }
        if !self.deadlines.borrow().is_empty() {
            unparked += self.end_overdue();
        }
        if let Some(base) = masked {
            self.signals.end_masked(base);
        }
        if unparked == 0 && self.signals.is_held() {
            unparked = self.interrupt_for_signals();
        }
        self.signals.leave(critical);
        unparked
    }

    /// Unblocks, for a wait of the whole thread, what any of its parked fibers waits to be interrupted by.
    #[cold]
    fn begin_masked(&self) -> SignalSet {
        // SAFETY: flights in the slab are alive (flight.rs), and so are their masks.
        let masks = self
            .flights()
            .iter()
            .map(|(_, flight)| unsafe { (*flight).mask.as_ref() });
        let mut blocked = SignalSet::MAX;
        let mut all_have_one = true;
        for mask in masks {
            match mask {
                Some(mask) => blocked &= mask,
                None => all_have_one = false,
            }
        }
        let base = self.signals.begin_masked(blocked);
        if !all_have_one && blocked & base != blocked {
            self.signals.begin_masked(blocked & base);
        }
        base
    }

    /// Has a fiber's wait end for the signals that are held back; how many were unparked right now. Where none can be ended, the
    /// handlers run right here, or, if what is waited for comes by itself and soon, after that.
    #[cold]
    fn interrupt_for_signals(&self) -> usize {
        let Some((signal, base)) = self.signals.held().filter(|_| !self.signals.due.get()) else {
            return 0;
        };
        let (mut accepts, mut soon) = (None, false);
        for (token, flight) in self.flights().iter() {
            // SAFETY: flights in the slab are alive (flight.rs).
            let flight = unsafe { &*flight };
            match flight.end {
                // Already told.
                Some(End::Interrupt) => return 0,
                Some(End::Timeout) => soon = true,
                None if accepts.is_none() && flight.accepts(signal, base) => accepts = Some(token),
                None => soon |= flight.is_brief && self.host.in_place,
            }
        }
        if let Some(token) = accepts {
            return usize::from(self.end_early(token, End::Interrupt));
        }
        if !soon {
            let _off = OffFiber::enter();
            self.signals.deliver(None);
        }
        0
    }

    /// Runs the handlers of the signals that are held back, on the running fiber, if there are any; under `mask`, if that is
    /// what it waited under. errno is kept.
    #[cold]
    #[inline(never)]
    pub fn handle_signals(&self, mask: Option<SignalSet>) -> Handled {
        if !self.signals.is_held() {
            return Handled::Nothing;
        }
        let errno = errno::get();
        let handled = self.signals.deliver(mask);
        errno::set(errno);
        handled
    }

    /// A handler jumped out of itself: onto the fiber that it ran on.
    pub fn jumped(&self) {
        self.signals.jumped();
        if self.host.in_place && self.host.running().is_null() {
            // It ran while its fiber was parked on what cannot be ended: that must be over before its stack is used anew.
            while self.in_flight() > 0 {
                self.poll(Wait::Forever);
            }
            main_fiber::unparked(&self.host);
        }
    }

    /// Ends what is over its deadline.
    #[inline(never)]
    fn end_overdue(&self) -> usize {
        let now = sys::now();
        let mut unparked = 0;
        loop {
            let Some(token) = self.deadlines.borrow_mut().pop(now) else {
                return unparked;
            };
            unparked += usize::from(self.end_early(token, End::Timeout));
        }
    }

    /// Has the operation of `token` end before it is done, if it can be ended; whether its fiber was unparked right now.
    fn end_early(&self, token: Token, end: End) -> bool {
        let Some(flight) = self.flights().get(token) else {
            return false;
        };
        // SAFETY: a flight in the slab is alive, and only this thread's (flight.rs).
        let flight = unsafe { &mut *flight };
        if flight.end.is_some() {
            if flight.kind == Kind::Pool && flight.interruptible {
                self.kick(flight, token);
            }
            return false;
        }
        let gone = match flight.kind {
            Kind::Pool if !flight.interruptible => return false,
            Kind::Pool => {
                flight.end = Some(end);
                self.deadlines.borrow_mut().remove(flight.deadline, token);
                self.kick(flight, token);
                false
            }
            Kind::Wait => flight.claim(),
            Kind::Engine => {
                flight.end = Some(end);
                self.engine().is_some_and(|engine| engine.cancel(token))
            }
        };
        if gone {
            flight.end = Some(end);
            self.complete(token, -libc::ECANCELED);
        }
        gone
    }

    /// Interrupts the thread of the pool that is at it, and does so again should that have come before it waited.
    fn kick(&self, flight: &mut Flight, token: Token) {
        pool::interrupt(&self.remote, token);
        flight.deadline = sys::now() + KICK_AGAIN_NS;
        self.deadlines.borrow_mut().add(flight.deadline, token);
    }

    /// Ends what `fiber`, parked in here, waits for, with [`Errno::RESTART`](errno::Errno::RESTART). False if it waits for
    /// nothing that can be ended early, or the call is no cancellation point where it is made: inside a stream.
    pub fn cancel(&self, fiber: *const c_void) -> bool {
        if self.in_streams.borrow().contains(&fiber) {
            return false;
        }
        // SAFETY: flights in the slab are alive (flight.rs).
        let of_fiber = |(_, flight): &(Token, *mut Flight)| unsafe { (**flight).fiber.cast_const() == fiber };
        let Some((token, flight)) = self.flights().iter().find(of_fiber) else {
            return false;
        };
        // SAFETY: as above.
        if !cancel::is_point(unsafe { (*flight).row } as usize) {
            return false;
        }
        // SAFETY: as above.
        let ends = unsafe { (*flight).kind != Kind::Pool || (*flight).interruptible };
        let critical = self.signals.enter();
        self.cancelled.borrow_mut().insert(fiber);
        self.end_early(token, End::Interrupt);
        self.signals.leave(critical);
        ends
    }

    /// Whether [`Self::cancel`] has interrupted `fiber`, and this was not asked since.
    pub fn was_cancelled(&self, fiber: *const c_void) -> bool {
        self.cancelled.borrow_mut().remove(&fiber)
    }

    #[inline(always)]
    fn complete(&self, token: Token, result: i32) -> bool {
        // SAFETY: this thread's alone; the borrow ends with the statement.
        let Some(flight) = (unsafe { &mut *self.flights.get() }).remove(token) else {
            return false;
        };
        // SAFETY: the flight lives on the stack of a fiber that stays parked until the unpark below (flight.rs).
        unsafe {
            (*flight).finish(result);
            if (*flight).deadline != NEVER {
                self.forget_deadline((*flight).deadline, token);
            }
            self.host.unpark((*flight).fiber);
        }
        if self.signals.is_held() {
            // At the end of its call, if not for it.
            self.signals.due.set(true);
        }
        true
    }

    /// Lands a wait of this thread's, whose claim the caller has.
    pub fn land(&self, token: Token) {
        self.complete(token, 0);
    }

    /// Begins a wait of the running fiber's, which is to park next ([`Self::await_landing`]) or to say that it need not
    /// ([`Self::forgo`]). No engine is needed for it.
    ///
    /// # Safety
    /// `flight` is one of [`Request::Wait`] on the running fiber's stack, and stays until the wait is over.
    pub unsafe fn begin_wait(&self, flight: *mut Flight) -> Token {
        // SAFETY: this thread's alone; the borrow ends with the statement.
        let token = unsafe { &mut *self.flights.get() }.add(flight);
        // SAFETY: the caller's, and alive.
        unsafe {
            (*flight).kind = Kind::Wait;
            if (*flight).deadline != NEVER {
                self.set_deadline(flight, token);
            }
        }
        token
    }

    /// Parks the running fiber until its wait is landed or ended early.
    pub fn await_landing(&self) {
        self.park();
    }

    /// Ends a wait for which the running fiber does not park; nobody is about to land it.
    pub fn forgo(&self, token: Token) {
        // SAFETY: this thread's alone; the borrow ends with the statement.
        let Some(flight) = (unsafe { &mut *self.flights.get() }).remove(token) else {
            return;
        };
        // SAFETY: alive, on its fiber's stack.
        let deadline = unsafe { (*flight).deadline };
        if deadline != NEVER {
            self.forget_deadline(deadline, token);
        }
    }

    /// Off the fiber, as in `set_deadline`: it gives memory back, and a preloaded malloc's locks may land a wait in here.
    #[cold]
    fn forget_deadline(&self, deadline: Deadline, token: Token) {
        let _off = OffFiber::enter();
        self.deadlines.borrow_mut().remove(deadline, token);
    }

    fn open_inbox(&self) -> usize {
        let mut unparked = 0;
        while let Ok(message) = self.inbox.try_recv() {
            match message {
                Message::Unpark(fiber) => {
                    self.host.unpark(fiber);
                    unparked += 1;
                }
                Message::Landed(token, result) => unparked += usize::from(self.complete(token, result)),
            }
        }
        self.remote
            .take_landed(|token| unparked += usize::from(self.complete(token, 0)));
        unparked
    }

    fn sleep_without_engine(&self, wait: Wait) {
        use rustix::event::{PollFd, PollFlags, poll};
        if matches!(wait, Wait::No) {
            return;
        }
        // SAFETY: the eventfd is ours until detach.
        let fd = unsafe { BorrowedFd::borrow_raw(self.remote.wake_fd()) };
        let _ = poll(&mut [PollFd::new(&fd, PollFlags::IN)], wait.timeout().as_ref());
        let _ = rustix::io::read(fd, &mut [0u8; 8]);
    }

    /// Has the engine, or the pool, do `request` for `flight` and parks its fiber, the running one, until it is done.
    /// Does nothing where that is impossible.
    ///
    /// # Safety
    /// `flight` is on the running fiber's stack, or stays otherwise until this returns.
    #[inline(always)]
    pub unsafe fn fly(&self, request: &Request, flight: *mut Flight) {
        let Some(engine) = self.engine() else { return };
        // A fiber that was to handle signals waits once more instead.
        self.signals.due.set(false);
        // SAFETY: this thread's alone; the borrow ends with the statement.
        let token = unsafe { &mut *self.flights.get() }.add(flight);
        // SAFETY: the caller's, and alive.
        if unsafe { (*flight).deadline } != NEVER {
            self.set_deadline(flight, token);
        }
        if engine.queue(request, token) {
            self.queued.set(self.queued.get() + 1);
            if let Request::Transfer(transfer) = request
                && (transfer.direct || transfer.cold)
            {
                self.keep_device_busy(transfer.direct);
            }
        } else if !self.carry_otherwise(request, token, flight) {
            return;
        }
        self.park();
    }

    #[cold]
    fn set_deadline(&self, flight: *mut Flight, token: Token) {
        let _off = OffFiber::enter();
        // SAFETY: alive, on its fiber's stack.
        self.deadlines.borrow_mut().add(unsafe { (*flight).deadline }, token);
    }

    /// What is not the engine's is the pool's, or nobody's; false where there is no thread to be had.
    #[inline(never)]
    fn carry_otherwise(&self, request: &Request, token: Token, flight: *mut Flight) -> bool {
        if matches!(request, Request::Wait { .. }) {
            // SAFETY: alive, on its fiber's stack; this thread's alone.
            unsafe { (*flight).kind = Kind::Wait };
            return true;
        }
        if self.offload(token, *request) {
            return true;
        }
        // SAFETY: this thread's alone; the borrow ends with the statement. As above.
        unsafe {
            (*self.flights.get()).remove(token);
            self.deadlines.borrow_mut().remove((*flight).deadline, token);
        }
        false
    }

    /// A device that waits for the end of the round to get everything at once idles meanwhile. So what is queued for it is
    /// handed over early while others still run, when it is a share of all that is in flight.
    #[inline]
    fn keep_device_busy(&self, direct: bool) {
        let (queued, in_flight) = (self.queued.get(), self.flights().len());
        if policy::is_share(queued, in_flight, direct, || self.host.runnable()) {
            self.submit_queued();
        }
    }

    /// Hands `request` to the pool; false where it has not one thread. errno is kept.
    #[inline(never)]
    fn offload(&self, token: Token, request: Request) -> bool {
        let errno = errno::get();
        // The pool's own locks are no fiber's to park for.
        let _off = OffFiber::enter();
        let submitted = pool::submit(Job {
            request,
            token,
            remote: Arc::clone(&self.remote),
        });
        errno::set(errno);
        if submitted && let Some(flight) = self.flights().get(token) {
            // SAFETY: a flight in the slab is alive, and only this thread's (flight.rs).
            let flight = unsafe { &mut *flight };
            flight.kind = Kind::Pool;
            self.stats.of(flight.row as usize).offloaded.add(1);
        }
        submitted
    }

    /// Has the pool run code that nobody's token waits for; false where it has not one thread.
    pub fn start_on_pool(&self, run: Run) -> bool {
        let errno = errno::get();
        let submitted = pool::submit(Job {
            request: Request::Run(run),
            token: NOBODY,
            remote: Arc::clone(&self.remote),
        });
        errno::set(errno);
        submitted
    }

    /// A duplicate of `fd` for a fiber that will park: as a thread in a system call, it keeps its file when the descriptor
    /// is closed. None if there is no room for one. To be given back with [`Self::let_go`].
    pub fn keep(&self, fd: c_int) -> Option<c_int> {
        let duplicate = sys::duplicate_to_wait_on(fd)?;
        fds::mark_ours(duplicate, true);
        self.kept.borrow_mut().insert(duplicate);
        Some(duplicate)
    }

    pub fn let_go(&self, duplicate: c_int) {
        self.kept.borrow_mut().remove(&duplicate);
        fds::disown(duplicate);
        let _ = sys::close(duplicate);
    }

    /// Parks the running fiber until another, of this thread or not, gives it its turn at a file position or a stream.
    pub fn await_turn(&self) {
        self.waiting_turn.update(|n| n + 1);
        self.park();
        self.waiting_turn.update(|n| n - 1);
    }

    /// Counts one more call of the running fiber since it last let others run; false when it has had its share.
    #[inline(always)]
    pub fn afford(&self) -> bool {
        let left = self.budget.get();
        if left > 1 {
            self.budget.set(left - 1);
        }
        left > 1
    }

    /// The same; when it has had its share, others run now, unless it may as well go on, and the result says so.
    #[inline]
    pub fn spend(&self, fiber: *mut c_void) -> bool {
        if self.afford() {
            return false;
        }
        self.end_turn(fiber);
        true
    }

    /// The running fiber lets others run, unless it may as well go on.
    #[cold]
    fn end_turn(&self, fiber: *mut c_void) {
        // Where calls block, a fiber must not come to share its thread with one that waits for it because of us.
        // SAFETY: as in `engine`.
        if !matches!(unsafe { &*self.engine.get() }, EngineSlot::Made(_)) {
            self.budget.set(INLINE_BUDGET);
            return;
        }
        if allocator::is_calling() {
            return;
        }
        let now = sys::now();
        let since = self.turn_since.get().unwrap_or(now);
        let anybody_waits = self.in_flight() > 0 || !self.inbox.is_empty();
        if policy::goes_on(now - since, self.host.runnable(), anybody_waits) {
            self.turn_since.set(Some(since));
            self.budget.set(INLINE_BUDGET);
        } else {
            self.yield_now(fiber);
        }
    }

    /// Lets the others of the thread run, and looks for what is done.
    pub fn yield_now(&self, fiber: *mut c_void) {
        self.host.unpark(fiber);
        self.park();
    }

    /// Parks the running fiber until it is unparked; it leaves the streams it is inside meanwhile. errno is kept.
    #[inline(always)]
    fn park(&self) {
        self.budget.set(INLINE_BUDGET);
        self.turn_since.set(None);
        let errno = errno::get();
        if self.files.any() {
            let fiber = self.host.running();
            self.in_streams.borrow_mut().insert(fiber);
            self.files.park(fiber, || self.switch());
            self.in_streams.borrow_mut().remove(&fiber.cast_const());
        } else {
            self.switch();
        }
        errno::set(errno);
    }

    /// Lets the host run others, and signals be handled.
    #[inline(always)]
    fn switch(&self) {
        if self.host.in_place {
            self.host.park();
        } else {
            self.signals.parking(self.host.running());
            self.signals.leave(false);
            self.host.park();
            self.signals.enter();
            self.signals.parking(std::ptr::null_mut());
        }
    }

    /// What a parked fiber waits for.
    pub fn describe(&self, fiber: *const c_void) -> Option<String> {
        // SAFETY: flights in the slab are alive (flight.rs).
        let flight = self
            .flights()
            .iter()
            .map(|(_, flight)| unsafe { &*flight })
            .find(|f| f.fiber.cast_const() == fiber)?;
        let name = hooks::NAMES[flight.row as usize];
        Some(if flight.fd < 0 {
            name.to_owned()
        } else {
            format!("{name}({})", flight.fd)
        })
    }

    /// Before detach: false while fibers are parked in here.
    pub fn close(&mut self) -> bool {
        if self.in_flight() > 0 {
            return false;
        }
        self.stall = None;
        if let Some(escapes) = self.escapes.take() {
            escapes.end();
        }
        self.remote.detach();
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
        for duplicate in self.kept.take() {
            fds::disown(duplicate);
            let _ = sys::close(duplicate);
        }
        self.remote.close();
        self.defunct.set(true);
    }
}
