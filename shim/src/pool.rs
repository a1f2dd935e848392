//! The offload pool: threads that make plain calls for parked fibers, where no engine does the
//! operation asynchronously.
//!
//! It has two lanes, each with threads and a queue of its own. What a disk ends is bounded by
//! `AIOSHIM_THREADS`. What waits for a peer (the other end of a FIFO, the holder of a lock, a
//! server) may wait for ever, and the peer may itself need a thread: such a job never waits in the
//! queue behind another one, up to [`MOST_WAITING`] at a time, and takes none of the threads that a
//! disk's jobs need.
//!
//! Threads are started when first needed, and only while all of their lane are busy; a thread
//! without work for some seconds ends. All signals are blocked in them: the program's handlers run
//! on the program's own threads. All but one, which ends the call that a thread is in
//! ([`interrupt`]).
//!
//! Threads inherit namespaces, credentials and filters from the thread that starts them. Before
//! that one changes its own, each lane gets a new crew ([`retire`]): the old one finishes the jobs
//! it has, and takes none that come later.
//!
//! Invariant: `spare` is the number of a crew's threads that run no job, less the number of its
//! jobs that none has taken. A thread ends only while that leaves none waiting.

mod members;

use crate::conf::Level;
use crate::critical::{Condvar, Mutex};
use crate::engine::{self, KernelCall, Lane, Names, Request, Run, Token, Transfer, Way};
use crate::errno;
use crate::fds;
use crate::fork::{self, Renewable};
use crate::loader;
use crate::log;
use crate::remote::Remote;
use crate::signal;
use crate::spawn::{self, Queue};
use crate::start;
use crate::sys;
use crate::tls::OffFiber;
use members::Members;
use once_cell::race::OnceBox;
use std::collections::HashMap;
use std::ffi::{c_int, c_void};
use std::ptr::null_mut;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicIsize, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

/// A request, and whom to tell of its end.
pub struct Job {
    pub request: Request,
    pub token: Token,
    pub remote: Arc<Remote>,
}

// SAFETY: the memory the request names stays in place until the fiber that asked for it is unparked
// (flight.rs), and nobody else touches it meanwhile.
unsafe impl Send for Job {}

struct Pool {
    disk: Mutex<Arc<Crew>>,
    peers: Mutex<Arc<Crew>>,
    busy: Busy,
    interruptible: Mutex<HashMap<Key, State>>,
}

/// The threads of one lane, and their queue.
struct Crew {
    jobs: Queue<Job>,
    /// How many threads there may be.
    most: usize,
    threads: AtomicUsize,
    spare: AtomicIsize,
    /// No more jobs will come: a thread ends when it has none.
    retired: AtomicBool,
    members: Members,
}

/// What tells jobs apart: the thread that has it done, and its token there.
type Key = (usize, Token);

/// Where a job is that may be interrupted; it is nowhere before it was submitted and after it is
/// done.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Queued,
    /// The same, and a thread begins it whatever comes.
    Promised,
    /// On the thread with this id.
    Running(c_int),
    /// The same, and it is to end.
    Ending(c_int),
    /// Before a thread began it.
    Interrupted,
}

/// Threads that may wait for peers at a time. Beyond it jobs queue up, and those that can be tried
/// again now and then are.
const MOST_WAITING: usize = 1024;

/// How long a thread waits for a job before it ends.
const IDLE: Duration = Duration::from_secs(5);

/// Bytes of a thread's stack: libc's resolver and name services run on it. Only what is touched
/// takes memory.
const STACK: usize = 1 << 20;

static POOL: Renewable<OnceBox<Pool>> = Renewable::new(OnceBox::new());

/// In the child of a fork, where none of its threads exists.
///
/// # Safety
/// As [`Renewable::renew`].
pub unsafe fn renew() {
    // SAFETY: vouched for by the caller.
    unsafe { POOL.renew(OnceBox::new()) };
    UNBOUNDED.store(0, SeqCst);
}

/// Has a thread of the pool do `job`; false where not even one thread can be had, or the caller
/// must make the call itself.
pub fn submit(job: Job) -> bool {
    if matches!(job.request, Request::Run(_)) && loader::is_locked_here() {
        return false;
    }
    let pool = POOL.get().get_or_init(|| {
        Box::new(Pool {
            disk: Mutex::new(Crew::new(start::conf().threads)),
            peers: Mutex::new(Crew::new(MOST_WAITING)),
            busy: Busy {
                jobs: Mutex::new(HashMap::new()),
                changed: Condvar::new(),
            },
            interruptible: Mutex::new(HashMap::new()),
        })
    });
    let lane = match job.request.lane() {
        Lane::Disk => &pool.disk,
        Lane::Peers => &pool.peers,
    };
    let crew = Arc::clone(&lane.lock());
    if !crew.take_on(pool, matches!(job.request, Request::Kernel(_))) {
        return false;
    }
    job.names().files().for_each(|fd| pool.busy.begin(fd));
    if job.request.is_interruptible() {
        let state = match job.request {
            Request::Kernel(KernelCall {
                is_first_try: true, ..
            }) => State::Promised,
            _ => State::Queued,
        };
        pool.interruptible.lock().insert(job.key(), state);
    }
    crew.jobs.push(job);
    true
}

/// Ends the threads that have no job, before the calling thread changes what they have inherited;
/// those that have one end after it. `remote` is the calling thread's. No other thread may submit
/// jobs meanwhile.
pub fn retire(remote: &Arc<Remote>) {
    // pthread_join(3) is a hook of ours, too: on a fiber it would start a new thread of the pool.
    let _off = OffFiber::enter();
    if let Some(pool) = POOL.get().get() {
        for lane in [&pool.disk, &pool.peers] {
            let mut crew = lane.lock();
            let fresh = Crew::new(crew.most);
            let old = std::mem::replace(&mut *crew, fresh);
            drop(crew);
            old.retire(remote);
        }
    }
}

/// # Safety
/// None: it does nothing.
unsafe fn nothing(_: *mut c_void) {}

/// The token of what no fiber is in flight for.
pub const NOBODY: Token = Token::MAX;

/// Has the job of `token` end early, with EINTR, or ECANCELED if none has begun it. To be repeated
/// until it has: the signal may come before the thread waits.
pub fn interrupt(remote: &Arc<Remote>, token: Token) {
    let Some(pool) = POOL.get().get() else { return };
    // Locked meanwhile: so the thread is in this job, and in no other.
    let mut jobs = pool.interruptible.lock();
    let Some(state) = jobs.get_mut(&(Arc::as_ptr(remote).addr(), token)) else {
        return;
    };
    *state = match *state {
        State::Running(thread) | State::Ending(thread) => {
            signal::kick(thread);
            State::Ending(thread)
        }
        State::Queued | State::Interrupted => State::Interrupted,
        // The next signal comes when it has begun, or the one after.
        State::Promised => State::Promised,
    };
}

impl Crew {
    fn new(most: usize) -> Arc<Self> {
        Arc::new(Self {
            jobs: Queue::new(),
            most,
            threads: AtomicUsize::new(0),
            spare: AtomicIsize::new(0),
            retired: AtomicBool::new(false),
            members: Members::new(),
        })
    }

    /// Makes sure of a thread for one more job; false if there is none to be had, or none that is
    /// free and one `has_a_retry`: who can try again later need not queue up behind jobs that may
    /// wait for ever.
    fn take_on(self: &Arc<Self>, pool: &'static Pool, has_a_retry: bool) -> bool {
        let has_thread = self.spare.fetch_sub(1, SeqCst) > 0
            || self.grow(pool)
            || (!has_a_retry && self.threads.load(SeqCst) > 0);
        if !has_thread {
            self.spare.fetch_add(1, SeqCst);
        }
        has_thread
    }

    /// Starts one more thread, unless there are enough or it cannot be had.
    fn grow(self: &Arc<Self>, pool: &'static Pool) -> bool {
        let added = self
            .threads
            .try_update(SeqCst, SeqCst, |n| (n < self.most).then_some(n + 1));
        if added.is_err() {
            return false;
        }
        self.spare.fetch_add(1, SeqCst);
        signal::prepare_kicks();
        // The new thread inherits the mask. Making it goes through libc, which is our hook.
        let _off = OffFiber::enter();
        let blocked = signal::Blocked::all();
        let crew = Arc::clone(self);
        let thread = spawn::start(c"aioshim-io", STACK, move || {
            crew.work(pool);
            crew.members.forget_ended();
        });
        drop(blocked);
        match thread {
            Ok(handle) => {
                self.members.add(handle);
                true
            }
            Err(error) => {
                self.spare.fetch_sub(1, SeqCst);
                self.threads.fetch_sub(1, SeqCst);
                log::say(
                    Level::Info,
                    format_args!("cannot start an I/O thread: {error}"),
                );
                false
            }
        }
    }

    /// Ends the threads that have no job: each is given one that does nothing, and looks around
    /// after it.
    fn retire(&self, remote: &Arc<Remote>) {
        self.retired.store(true, SeqCst);
        self.members.end_idle(|| {
            self.spare.fetch_sub(1, SeqCst);
            let job = Job {
                request: Request::Run(Run {
                    code: nothing,
                    data: null_mut(),
                    names: Names::Nothing,
                    lane: Lane::Disk,
                }),
                token: NOBODY,
                remote: Arc::clone(remote),
            };
            self.jobs.push(job);
        });
    }

    fn work(&self, pool: &Pool) {
        signal::take_kicks();
        loop {
            match self.jobs.take_within(IDLE) {
                Some(job) => {
                    self.members.begin_job();
                    job.run(pool);
                    self.members.end_job();
                    self.spare.fetch_add(1, SeqCst);
                    if self.retired.load(SeqCst) && self.may_end() {
                        return;
                    }
                }
                None if self.may_end() => return,
                None => {}
            }
        }
    }

    /// Whether the calling thread, which has no job, is not needed for one either; it is then
    /// counted out.
    fn may_end(&self) -> bool {
        let ends = self
            .spare
            .try_update(SeqCst, SeqCst, |n| (n > 0).then_some(n - 1));
        if ends.is_ok() {
            self.threads.fetch_sub(1, SeqCst);
        }
        ends.is_ok()
    }
}

impl Job {
    fn run(self, pool: &Pool) {
        let waits_for_ever = matches!(self.names(), Names::UntilBegun(_));
        if waits_for_ever {
            self.names()
                .files()
                .for_each(|fd| pool.busy.enter(fd, sys::thread_id()));
        }
        let result = if self.request.is_interruptible() {
            self.perform(&pool.interruptible)
        } else {
            engine::perform(&self.request)
        };
        let result = match result {
            // The plain call raises SIGPIPE or SIGXFSZ in its caller as well: it is left to make
            // the call.
            error if self.raises_signal(error) => -libc::ECANCELED,
            result => result,
        };
        for fd in self.names().files() {
            if waits_for_ever {
                pool.busy.leave(fd, sys::thread_id());
            } else {
                pool.busy.end(fd);
            }
        }
        self.remote.land(self.token, result);
    }

    fn key(&self) -> Key {
        (Arc::as_ptr(&self.remote).addr(), self.token)
    }

    /// Does what may be interrupted meanwhile.
    fn perform(&self, jobs: &Mutex<HashMap<Key, State>>) -> i32 {
        let thread = sys::thread_id();
        let before = jobs.lock().insert(self.key(), State::Running(thread));
        let result = loop {
            if before == Some(State::Interrupted) {
                break -libc::ECANCELED;
            }
            let result = engine::perform(&self.request);
            // What came late for the job before this one was not for this one.
            if result != -libc::EINTR
                || jobs.lock().get(&self.key()) != Some(&State::Running(thread))
            {
                break result;
            }
        };
        jobs.lock().remove(&self.key());
        result
    }

    fn raises_signal(&self, result: i32) -> bool {
        let (Request::Transfer(transfer) | Request::Plain(transfer)) = &self.request else {
            return false;
        };
        transfer.way == Way::Write && matches!(-result, libc::EPIPE | libc::EFBIG)
    }

    /// What it names by numbers that must not be closed before the job is done. A transfer or a
    /// wait that may take for ever names nothing: it is only made when its file said that it is
    /// ready, or by the name of a duplicate.
    fn names(&self) -> Names {
        match self.request {
            Request::Transfer(transfer) if transfer.at_position() => Names::Nothing,
            Request::Open { dir, .. } if dir >= 0 => Names::until_done(dir),
            Request::Transfer(Transfer { fd, .. })
            | Request::Fsync { fd, .. }
            | Request::Close { fd } => Names::until_done(fd),
            Request::Run(Run { names, .. }) | Request::Kernel(KernelCall { names, .. }) => names,
            Request::Plain(_)
            | Request::Socket(_)
            | Request::Poll { .. }
            | Request::Open { .. }
            | Request::AwaitSignal { .. }
            | Request::Futex { .. }
            | Request::Futexes { .. }
            | Request::Wait { .. } => Names::Nothing,
        }
    }
}

/// The descriptors that jobs are about. A job names its file by a number: were that closed before a
/// thread gets to the job, it might name another file by then. So whoever closes one waits for the
/// jobs on it, which a disk ends; for those that may wait for ever, until their threads wait in the
/// kernel.
struct Busy {
    jobs: Mutex<HashMap<c_int, Jobs>>,
    changed: Condvar,
}

/// The jobs on one descriptor.
#[derive(Default)]
struct Jobs {
    /// Those that are to be done, or begun, before it is closed.
    waited_for: usize,
    /// The threads that have begun the others.
    begun: Vec<c_int>,
}

impl Busy {
    fn begin(&self, fd: c_int) {
        self.jobs.lock().entry(fd).or_default().waited_for += 1;
        fds::set_busy(fd, true);
    }

    fn end(&self, fd: c_int) {
        self.change(fd, |jobs| jobs.waited_for -= 1);
    }

    /// `thread` is about to make a call that may wait for ever.
    fn enter(&self, fd: c_int, thread: c_int) {
        self.change(fd, |jobs| {
            jobs.waited_for -= 1;
            jobs.begun.push(thread);
        });
    }

    fn leave(&self, fd: c_int, thread: c_int) {
        self.change(fd, |jobs| jobs.begun.retain(|&other| other != thread));
    }

    fn change(&self, fd: c_int, change: impl FnOnce(&mut Jobs)) {
        let mut all = self.jobs.lock();
        let Some(jobs) = all.get_mut(&fd) else { return };
        change(jobs);
        if jobs.waited_for == 0 && jobs.begun.is_empty() {
            all.remove(&fd);
            fds::set_busy(fd, false);
        }
        self.changed.notify_all();
    }

    fn wait(&self, fd: c_int) {
        let mut all = self.jobs.lock();
        while let Some(jobs) = all.get(&fd) {
            if jobs.waited_for > 0 {
                all = self.changed.wait(all);
            } else if jobs
                .begun
                .iter()
                .all(|&thread| sys::waits_in_kernel(thread))
            {
                break;
            } else {
                drop(all);
                sys::yield_thread();
                all = self.jobs.lock();
            }
        }
        fds::set_busy(fd, false);
    }
}

/// One of the waits for a peer that can be tried again instead. These take half of the threads that
/// may wait at most: the rest is for waits that cannot.
pub struct Unbounded(());

/// How many there are. The child of a fork starts anew.
static UNBOUNDED: AtomicUsize = AtomicUsize::new(0);

impl Unbounded {
    /// None while there are enough.
    pub fn begin() -> Option<Self> {
        let one = UNBOUNDED.try_update(SeqCst, SeqCst, |n| (n < MOST_WAITING / 2).then_some(n + 1));
        one.ok().map(|_| Self(()))
    }
}

impl Drop for Unbounded {
    fn drop(&mut self) {
        // One that began before a fork ends in the child, too, where it does not count.
        let _ = UNBOUNDED.try_update(SeqCst, SeqCst, |n| n.checked_sub(1));
    }
}

/// Before `fd`, marked busy, is closed: waits for the jobs on it. Before the current directory,
/// which AT_FDCWD names, changes: for the jobs that may look up a name there. errno is kept.
#[cold]
pub fn await_jobs(fd: c_int) {
    let errno = errno::get();
    match POOL.get().get() {
        Some(pool) if !fork::is_bare_child() => pool.busy.wait(fd),
        // The child of a fork: they are the parent's.
        _ => fds::set_busy(fd, false),
    }
    errno::set(errno);
}
