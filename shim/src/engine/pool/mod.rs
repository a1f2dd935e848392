//! The offload pool: threads that make plain calls for parked fibers when no engine can do the
//! operation asynchronously.
//!
//! The pool has two lanes, each with its own threads and queue. `AIOSHIM_THREADS` limits the
//! threads for operations that wait for a disk. An operation that waits for a peer (the other end
//! of a FIFO, the holder of a lock, a server) may wait without limit, and the peer may itself need
//! a pool thread. Such a job does not wait in the queue behind another one while at most
//! [`MAX_WAITING`] are in progress, and it uses none of the threads that disk jobs need.
//!
//! Threads are started on demand, and only while all threads of their lane are busy; a thread that
//! is idle for some seconds ends. They block all signals, because the program's handlers run on the
//! program's own threads. The one exception is the signal that interrupts the call of a pool thread
//! ([`interrupt`]).
//!
//! Threads inherit namespaces, credentials and filters from the thread that starts them. Before
//! that thread changes its own, each lane gets a new crew ([`retire`]). The old crew finishes the
//! jobs it has and takes no new ones.
//!
//! Invariant: `spare` is the number of a crew's idle threads minus the number of its jobs that no
//! thread has taken yet. A thread ends only if no job is left waiting for one.

mod fds_in_use;
pub mod interrupt_signal;
mod job_queue;
mod members;

use crate::context::{self, Mutex};
use crate::engine::{self, Direction, FdPin, KernelCall, Lane, Request, Run, Transfer};
use crate::host::Token;
use crate::host::remote::Remote;
use crate::state::blocked::Blocked;
use crate::state::fork_reset::is_bare_child;
use crate::state::options;
use crate::state::spawn;
use crate::state::{descriptors, loader, log};
use fds_in_use::FdsInUse;
use format::options::Level;
use job_queue::{Queue, Sleeper};
use members::Members;
use once_cell::race::OnceBox;
use std::collections::HashMap;
use std::ffi::{c_int, c_void};
use std::ptr::null_mut;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicIsize, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;
use sys::errno;

/// A request, and the thread to notify when it is done.
pub struct Job {
    pub request: Request,
    pub token: Token,
    pub remote: Arc<Remote>,
}

// SAFETY: the memory that the request names stays in place until the fiber that submitted it is
// unparked (operation.rs), and nothing else touches it until then.
unsafe impl Send for Job {}

struct Pool {
    disk: Mutex<Arc<Crew>>,
    peers: Mutex<Arc<Crew>>,
    busy: FdsInUse,
    interruptible: Mutex<HashMap<Key, State>>,
}

/// The threads of one lane, and their queue.
struct Crew {
    jobs: Queue<Job>,
    /// The most threads that it may have.
    limit: usize,
    threads: AtomicUsize,
    spare: AtomicIsize,
    /// No more jobs will arrive: a thread ends when it has no job.
    retired: AtomicBool,
    members: Members,
}

/// Identifies a job: the thread that submitted it, and the token of its operation there.
type Key = (usize, Token);

/// The progress of an interruptible job. A job has no state before it is submitted and after it is
/// done.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Queued,
    /// Queued, and a thread will begin it even if it is interrupted.
    Promised,
    /// Runs on the thread with this id.
    Running(c_int),
    /// Runs on the thread with this id, and is being interrupted.
    Ending(c_int),
    /// The job was interrupted, for example by a signal, before a thread began it.
    Interrupted,
}

/// The most threads that may wait for peers at a time. Beyond that jobs queue up, except those that
/// their callers can retry later.
const MAX_WAITING: usize = 1024;

/// How long a thread waits for a job before it ends.
const IDLE: Duration = Duration::from_secs(5);

/// The stack size of a thread in bytes. libc's resolver and name services run on it. Only touched
/// pages take memory.
const STACK: usize = 1 << 20;

fork_reset! {
    /// The child starts with an empty pool, because no pool thread exists there.
    static POOL: OnceBox<Pool> = OnceBox::new();
}

/// Gives `job` to a pool thread. Returns false if no thread is available, or if the caller must
/// make the call itself.
pub fn submit(job: Job) -> bool {
    if matches!(job.request, Request::Run(_)) && loader::is_locked_here() {
        return false;
    }
    let pool = POOL.get().get_or_init(|| {
        Box::new(Pool {
            disk: Mutex::new(Crew::new(options::current().threads)),
            peers: Mutex::new(Crew::new(MAX_WAITING)),
            busy: FdsInUse::new(),
            interruptible: Mutex::new(HashMap::new()),
        })
    });
    let lane = match job.request.lane() {
        Lane::Disk => &pool.disk,
        Lane::Peers => &pool.peers,
    };
    let crew = Arc::clone(&lane.lock());
    if !crew.reserve_thread(pool, matches!(job.request, Request::Kernel(_))) {
        return false;
    }
    job.pin().files().for_each(|fd| pool.busy.begin(fd));
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

/// Ends the idle threads before the calling thread changes an attribute that they inherited; busy
/// threads end after their jobs. `remote` belongs to the calling thread. No other thread may submit
/// jobs during this call.
pub fn retire(remote: &Arc<Remote>) {
    // pthread_join(3) is hooked too: on a fiber it would start a new pool thread.
    let _off = context::libc();
    if let Some(pool) = POOL.get().get() {
        for lane in [&pool.disk, &pool.peers] {
            let mut crew = lane.lock();
            let fresh = Crew::new(crew.limit);
            let old = std::mem::replace(&mut *crew, fresh);
            drop(crew);
            old.retire(remote);
        }
    }
}

/// # Safety
/// None: it does nothing.
unsafe fn nothing(_: *mut c_void) {}

/// The token of a job that no fiber waits for.
pub const NO_WAITER: Token = Token::MAX;

/// Ends the job of `token` early: with EINTR, or with ECANCELED if no thread has begun it. Must be
/// repeated until the job ends, because the signal may arrive before the thread blocks.
pub fn interrupt(remote: &Arc<Remote>, token: Token) {
    let Some(pool) = POOL.get().get() else { return };
    // The lock is held throughout, so the thread is still in this job when it is interrupted.
    let mut jobs = pool.interruptible.lock();
    let Some(state) = jobs.get_mut(&(Arc::as_ptr(remote).addr(), token)) else {
        return;
    };
    *state = match *state {
        State::Running(thread) | State::Ending(thread) => {
            interrupt_signal::send(thread);
            State::Ending(thread)
        }
        State::Queued | State::Interrupted => State::Interrupted,
        // A later call interrupts the job once it has begun.
        State::Promised => State::Promised,
    };
}

impl Crew {
    fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self {
            jobs: Queue::new(),
            limit,
            threads: AtomicUsize::new(0),
            spare: AtomicIsize::new(0),
            retired: AtomicBool::new(false),
            members: Members::new(),
        })
    }

    /// Reserves a thread for one more job. Returns false if none is available. With `has_a_retry`,
    /// also returns false if no thread is idle and no new one can start, because a caller that can
    /// retry later need not queue behind jobs that may wait without limit.
    fn reserve_thread(self: &Arc<Self>, pool: &'static Pool, has_a_retry: bool) -> bool {
        let has_thread = self.spare.fetch_sub(1, SeqCst) > 0
            || self.grow(pool)
            || (!has_a_retry && self.threads.load(SeqCst) > 0);
        if !has_thread {
            self.spare.fetch_add(1, SeqCst);
        }
        has_thread
    }

    /// Starts one more thread, unless the limit is reached or the thread cannot be created.
    fn grow(self: &Arc<Self>, pool: &'static Pool) -> bool {
        let added = self
            .threads
            .try_update(SeqCst, SeqCst, |n| (n < self.limit).then_some(n + 1));
        if added.is_err() {
            return false;
        }
        self.spare.fetch_add(1, SeqCst);
        interrupt_signal::prepare();
        // The new thread inherits the mask. It is created through libc, whose functions are our
        // hooks.
        let _off = context::libc();
        let blocked = Blocked::all();
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

    /// Ends the idle threads: each receives a job that does nothing, and checks for retirement
    /// after it.
    fn retire(&self, remote: &Arc<Remote>) {
        self.retired.store(true, SeqCst);
        self.members.end_idle(|| {
            self.spare.fetch_sub(1, SeqCst);
            let job = Job {
                request: Request::Run(Run {
                    code: nothing,
                    data: null_mut(),
                    pin: FdPin::None,
                    lane: Lane::Disk,
                }),
                token: NO_WAITER,
                remote: Arc::clone(remote),
            };
            self.jobs.push(job);
        });
    }

    fn work(&self, pool: &Pool) {
        interrupt_signal::accept();
        let sleeper = Sleeper::new();
        loop {
            match self.jobs.take_within(&sleeper, IDLE) {
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

    /// Whether the calling thread, which has no job, is not needed for a waiting one either. If so,
    /// it is no longer counted.
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
        let is_unbounded = matches!(self.pin(), FdPin::UntilStarted(_));
        if is_unbounded {
            self.pin()
                .files()
                .for_each(|fd| pool.busy.enter(fd, sys::thread_id()));
        }
        let result = if self.request.is_interruptible() {
            self.perform(&pool.interruptible)
        } else {
            engine::perform(&self.request)
        };
        let result = match result {
            // The plain call raises SIGPIPE or SIGXFSZ in its caller as well, so the caller must
            // make it.
            error if self.raises_signal(error) => -libc::ECANCELED,
            result => result,
        };
        for fd in self.pin().files() {
            if is_unbounded {
                pool.busy.leave(fd, sys::thread_id());
            } else {
                pool.busy.end(fd);
            }
        }
        self.remote.complete(self.token, result);
    }

    fn key(&self) -> Key {
        (Arc::as_ptr(&self.remote).addr(), self.token)
    }

    /// Performs an interruptible request.
    fn perform(&self, jobs: &Mutex<HashMap<Key, State>>) -> i32 {
        let thread = sys::thread_id();
        let before = jobs.lock().insert(self.key(), State::Running(thread));
        let result = loop {
            if before == Some(State::Interrupted) {
                break -libc::ECANCELED;
            }
            let result = engine::perform(&self.request);
            // A late interrupt that was meant for the previous job must not end this one.
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
        transfer.direction == Direction::Write && matches!(-result, libc::EPIPE | libc::EFBIG)
    }

    /// The descriptor numbers that must not be closed before the job is done. A transfer or a wait
    /// that may block without limit has none: it only runs after its file was reported ready, or it
    /// uses a duplicate.
    fn pin(&self) -> FdPin {
        match self.request {
            Request::Transfer(transfer) if transfer.at_position() => FdPin::None,
            Request::Open { dir, .. } if dir >= 0 => FdPin::until_done(dir),
            Request::Transfer(Transfer { fd, .. })
            | Request::Fsync { fd, .. }
            | Request::Close { fd } => FdPin::until_done(fd),
            Request::Run(Run { pin, .. }) | Request::Kernel(KernelCall { pin, .. }) => pin,
            Request::Plain(_)
            | Request::Socket(_)
            | Request::Poll { .. }
            | Request::Open { .. }
            | Request::AwaitSignal { .. }
            | Request::Futex { .. }
            | Request::Futexes { .. }
            | Request::Wait { .. } => FdPin::None,
        }
    }
}

/// A permit for an unbounded wait for a peer that the caller could retry instead. At most half of
/// the peer lane's threads hold one; the rest is for waits that cannot be retried.
pub struct UnboundedWaitPermit(());

/// The number of permits in use. Reset in the child of fork.
static UNBOUNDED_WAITS: AtomicUsize = AtomicUsize::new(0);
after_fork!(|| UNBOUNDED_WAITS.store(0, SeqCst));

impl UnboundedWaitPermit {
    /// None while all permits are in use.
    pub fn acquire() -> Option<Self> {
        let one =
            UNBOUNDED_WAITS.try_update(SeqCst, SeqCst, |n| (n < MAX_WAITING / 2).then_some(n + 1));
        one.ok().map(|_| Self(()))
    }
}

impl Drop for UnboundedWaitPermit {
    fn drop(&mut self) {
        // A permit from before a fork is also dropped in the child, where it is not counted.
        let _ = UNBOUNDED_WAITS.try_update(SeqCst, SeqCst, |n| n.checked_sub(1));
    }
}

/// Call before closing `fd`, which is marked busy: waits for the jobs on it. For AT_FDCWD, call
/// before changing the current directory: waits for the jobs that may look up a name there.
/// Preserves errno.
#[cold]
pub fn await_jobs(fd: c_int) {
    let errno = errno::get();
    match POOL.get().get() {
        Some(pool) if !is_bare_child() => pool.busy.wait(fd),
        // In the child of fork the jobs belong to the parent.
        _ => descriptors::set_pool_in_use(fd, false),
    }
    errno::set(errno);
}
