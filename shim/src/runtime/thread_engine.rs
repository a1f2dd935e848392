//! The engine of one thread: created when the first operation needs it, and replaced when the
//! kernel no longer accepts it or may soon kill the process for its system calls.
//!
//! Invariant: only the attached thread uses the engine, and no borrow of it outlives the method
//! here that makes it. An engine neither parks nor calls the host; it reports to a [`Sink`],
//! which does not use the engine.

use crate::context;
use crate::engine::{self, Engine, EngineSelection, Request, Sink, SocketCall, Wait};
use crate::host::Token;
use crate::record::stats;
use crate::runtime::queued_files::QueuedFiles;
use crate::state::{log, options};
use format::options::{EngineChoice, Level};
use std::cell::{Cell, UnsafeCell};
use std::ffi::c_int;
use sys::errno::{self, Errno};

enum EngineSlot {
    /// Created when the first operation is queued.
    NotCreated,
    Created(Box<dyn Engine>),
    Refused,
}

pub struct ThreadEngine {
    slot: UnsafeCell<EngineSlot>,
    /// Operations queued since the last batch was submitted.
    queued: Cell<u32>,
    /// The descriptors of all operations that the kernel has not taken yet.
    queued_files: QueuedFiles,
    /// Whether the engine benefits from batching; assumed true until it is created.
    batches: Cell<bool>,
    /// Whether the thread has an engine that it can sleep in.
    sleeps: Cell<bool>,
    /// The most preferred engine that the thread may use in its current state.
    limit: Cell<EngineChoice>,
    /// The eventfd that wakes the thread, if it has one.
    wake_fd: Option<c_int>,
    /// Whether the host parks its only fiber in place.
    in_place: bool,
}

impl ThreadEngine {
    /// For a thread that `wake_fd` wakes, if it is given, and whose host parks its only fiber in
    /// place or not.
    pub fn new(wake_fd: Option<c_int>, in_place: bool) -> Self {
        Self {
            slot: UnsafeCell::new(EngineSlot::NotCreated),
            queued: Cell::new(0),
            queued_files: QueuedFiles::new(),
            batches: Cell::new(true),
            sleeps: Cell::new(false),
            limit: Cell::new(engine::first()),
            wake_fd,
            in_place,
        }
    }

    #[inline(always)]
    #[expect(
        clippy::mut_from_ref,
        reason = "the attached thread's own; see the module's invariant"
    )]
    fn slot(&self) -> &mut EngineSlot {
        // SAFETY: only the attached thread uses it, and no other borrow is live (module invariant).
        unsafe { &mut *self.slot.get() }
    }

    /// The engine if it is created.
    #[inline(always)]
    fn created(&self) -> Option<&mut dyn Engine> {
        match self.slot() {
            EngineSlot::Created(engine) => Some(&mut **engine),
            _ => None,
        }
    }

    /// The engine, created on first use; None if the kernel refused every engine.
    #[inline(always)]
    fn engine(&self) -> Option<&mut dyn Engine> {
        match self.slot() {
            EngineSlot::Created(engine) => Some(&mut **engine),
            EngineSlot::Refused => None,
            EngineSlot::NotCreated => {
                self.create();
                self.created()
            }
        }
    }

    /// Whether there is an engine to submit to. Creates it on first use.
    #[inline(always)]
    pub fn is_available(&self) -> bool {
        self.engine().is_some()
    }

    /// Whether the engine was created and is in use.
    pub fn is_created(&self) -> bool {
        self.created().is_some()
    }

    #[cold]
    #[inline(never)]
    fn create(&self) {
        // The io-uring crate closes descriptors through libc, whose close is our hook.
        let _off = context::libc();
        let errno = errno::get();
        let choice = self.preferred();
        let EngineSelection {
            engine,
            rejections,
            out_of_descriptors,
        } = engine::make(choice, self.wake_fd, self.in_place);
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
        self.install(engine);
        errno::set(errno);
    }

    fn install(&self, engine: Option<Box<dyn Engine>>) {
        *self.slot() = match engine {
            None => EngineSlot::Refused,
            Some(engine) => {
                self.batches.set(engine.batches());
                self.sleeps.set(engine.sleeps());
                EngineSlot::Created(engine)
            }
        };
    }

    /// The engine that the thread may try first.
    fn preferred(&self) -> EngineChoice {
        options::current().engine.max(self.limit.get())
    }

    /// Queues a request. Returns false if the engine cannot do it asynchronously, or if there is no
    /// engine.
    #[inline(always)]
    pub fn queue(&self, request: &Request, token: Token) -> bool {
        let queued = self
            .created()
            .is_some_and(|engine| engine.queue(request, token));
        if queued {
            self.queued.set(self.queued.get() + 1);
            self.queued_files.add(request);
        }
        queued
    }

    /// Number of operations queued since the last batch was submitted.
    pub fn queued(&self) -> u32 {
        self.queued.get()
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

    /// Submits everything queued, so that the kernel sees it before anything that follows.
    pub fn submit_queued(&self) {
        if !self.queued_files.is_empty() {
            self.submit();
        }
    }

    /// Like [`Self::submit_queued`], but only needed by the operations that refer to `fd`, which is
    /// about to be closed or replaced.
    #[inline(always)]
    pub fn submit_users_of(&self, fd: c_int) {
        if self.queued_files.may_contain(fd) {
            self.submit();
        }
    }

    #[inline(never)]
    fn submit(&self) {
        if let Some(engine) = self.created() {
            self.queued.set(0);
            engine.submit();
            self.forget_submitted(engine);
        }
    }

    /// Call after the queue was submitted. What the kernel could not take yet still refers to its
    /// descriptors by their numbers.
    #[inline(always)]
    fn forget_submitted(&self, engine: &dyn Engine) {
        if !engine.has_unsubmitted() {
            self.queued_files.clear();
        }
    }

    /// Submits everything queued, waits as `wait` says, and reports completions to `sink`. An error
    /// means that the engine must be replaced.
    pub fn poll(&self, wait: Wait, sink: &mut dyn Sink) -> Result<(), Errno> {
        let Some(engine) = self.created() else {
            return Ok(());
        };
        self.queued.set(0);
        let result = engine.poll(wait, sink);
        self.forget_submitted(engine);
        result
    }

    /// Whether [`Self::poll`] can block and has something to wait for. If not, the thread sleeps by
    /// other means.
    pub fn sleeps(&self) -> bool {
        self.sleeps.get() && self.created().is_some_and(|engine| engine.has_operations())
    }

    /// Cancels the operation of `token`: see [`Engine::cancel`].
    pub fn cancel(&self, token: Token) -> bool {
        self.engine().is_some_and(|engine| engine.cancel(token))
    }

    /// Tries accept4(2) without blocking, which also submits everything queued: see
    /// [`Engine::accept_now`].
    pub fn accept_now(&self, call: &SocketCall) -> Option<Result<c_int, Errno>> {
        let engine = self.engine()?;
        let result = engine.accept_now(call)?;
        self.queued.set(0);
        self.forget_submitted(engine);
        Some(result)
    }

    /// Whether the engine does socket calls as a whole: see [`Engine::does_sockets`].
    pub fn does_sockets(&self) -> bool {
        self.engine().is_some_and(|engine| engine.does_sockets())
    }

    /// Whether the engine can wait for futexes.
    pub fn has_futexes(&self) -> bool {
        self.engine().is_some_and(|engine| engine.has_futexes())
    }

    /// Whether operations are queued that the kernel could not take yet.
    pub fn is_stalled(&self) -> bool {
        self.created().is_some_and(|engine| engine.is_stalled())
    }

    /// The descriptor through which the engine signals completions, if it has one.
    pub fn ready_descriptor(&self) -> Option<c_int> {
        self.engine()?.ready_descriptor()
    }

    pub fn name(&self) -> &'static str {
        self.created().map_or("plain calls", |engine| engine.name())
    }

    /// Whether the thread uses io_uring, or will try it first.
    pub fn uses_uring(&self) -> bool {
        let choice = self.created().map(|engine| engine.choice());
        choice.map_or_else(
            || self.preferred() <= EngineChoice::Uring,
            |choice| choice == EngineChoice::Uring,
        )
    }

    /// The most preferred engine that the thread may use.
    pub fn limit(&self) -> EngineChoice {
        self.limit.get()
    }

    /// Restricts the thread to `limit` and the engines below it from now on. Returns whether the
    /// current engine must be replaced for that.
    pub fn restrict(&self, limit: EngineChoice) -> bool {
        self.limit.set(self.limit.get().max(limit));
        self.created().is_some_and(|engine| engine.choice() < limit)
    }

    /// Allows the engines up to `limit` again, also to a thread that has been refused one.
    pub fn allow(&self, limit: EngineChoice) {
        self.limit.set(limit);
        let slot = self.slot();
        if let EngineSlot::Refused = slot {
            *slot = EngineSlot::NotCreated;
        }
    }

    /// The engine to use after the current one, which the kernel refuses with `error`. None if
    /// there is no current engine.
    pub fn successor(&self, error: Errno) -> Option<EngineChoice> {
        let engine = self.created()?;
        Some(engine::successor(engine, error))
    }

    /// Takes the engine away from the thread, with everything queued. The caller shuts it down.
    pub fn take(&self) -> Option<Box<dyn Engine>> {
        let EngineSlot::Created(engine) = std::mem::replace(self.slot(), EngineSlot::Refused)
        else {
            return None;
        };
        self.sleeps.set(false);
        self.queued.set(0);
        self.queued_files.clear();
        Some(engine)
    }

    /// After [`Self::take`]: creates the engine `choice`, or the next one that the kernel grants.
    pub fn replace(&self, choice: EngineChoice) {
        self.install(engine::make(choice, self.wake_fd, self.in_place).engine);
    }

    /// Call when the thread is about to be detached and nothing is in flight.
    pub fn close(&self) {
        *self.slot() = EngineSlot::NotCreated;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::rc::Rc;

    /// An engine whose kernel takes nothing in a poll, so that everything waits for `submit`.
    #[derive(Clone, Default)]
    struct Full(Rc<Cell<usize>>);

    impl Engine for Full {
        fn name(&self) -> &'static str {
            "full"
        }

        fn batches(&self) -> bool {
            true
        }

        fn has_unsubmitted(&self) -> bool {
            self.0.get() > 0
        }

        fn queue(&mut self, _: &Request, _: Token) -> bool {
            self.0.set(self.0.get() + 1);
            true
        }

        fn cancel(&mut self, _: Token) -> bool {
            false
        }

        fn submit(&mut self) {
            self.0.set(0);
        }

        fn poll(&mut self, _: Wait, _: &mut dyn Sink) -> Result<(), Errno> {
            Ok(())
        }

        fn shut_down(self: Box<Self>, _: usize) -> Vec<(Token, i32)> {
            Vec::new()
        }

        fn choice(&self) -> EngineChoice {
            EngineChoice::Threads
        }
    }

    struct Nothing;

    impl Sink for Nothing {
        fn done(&mut self, _: Token, _: i32) {}
        fn offload(&mut self, _: Token, _: Request) {}
    }

    /// A thread's engine with an operation on descriptor 3, which a poll could not submit.
    fn after_a_poll() -> (ThreadEngine, Full) {
        let (thread, full) = (ThreadEngine::new(None, false), Full::default());
        thread.install(Some(Box::new(full.clone())));
        assert!(thread.queue(&Request::Poll { fd: 3, events: 0 }, 0));
        thread.poll(Wait::No, &mut Nothing).unwrap();
        assert!(full.has_unsubmitted() && thread.queued() == 0);
        (thread, full)
    }

    #[test]
    fn an_operation_that_a_poll_could_not_submit_is_submitted_before_a_close() {
        let (thread, full) = after_a_poll();
        thread.submit_users_of(4);
        assert!(full.has_unsubmitted());
        thread.submit_users_of(3);
        assert!(!full.has_unsubmitted());
    }

    #[test]
    fn an_operation_that_a_poll_could_not_submit_is_submitted_with_the_queue() {
        let (thread, full) = after_a_poll();
        thread.submit_queued();
        assert!(!full.has_unsubmitted());
    }
}
