//! Engines carry out operations while the fibers that asked for them are parked. Each attached
//! thread has its own engine, which only that thread uses.
//!
//! There are three engines, in order of preference: [`Uring`] does every operation asynchronously;
//! [`LinuxAio`] does O_DIRECT transfers and fsync(2), and waits for streams with epoll; [`Threads`]
//! only waits for streams. The offload pool ([`crate::engine::pool`]) does whatever the engine
//! rejects. Each thread takes the first engine that the kernel grants it.

mod linux_aio;
mod plain;
pub mod pool;
mod readiness;
mod request;
mod socket;
mod threads;
mod uring;

use crate::runtime::position;
use crate::state::options::EngineChoice;
use rustix::event::Timespec;
use std::ffi::c_int;
use std::sync::atomic::{AtomicBool, Ordering};
use sys::errno::Errno;

pub use plain::perform;
pub use request::{
    Data, KernelCall, Lane, MAX_COUNT, NO_FILE, Names, Request, Run, Transfer, Way, event,
};
pub use socket::{Action, SocketCall};

use linux_aio::LinuxAio;
use threads::Threads;
use uring::{ForOne, Uring};

/// Whether threads that do not own an engine close descriptors. Never becomes false again.
static OTHERS_CLOSE: AtomicBool = AtomicBool::new(false);

/// Call before a thread closes or replaces the descriptors `first` to `last` while other threads'
/// engines may have operations queued on them: those operations name duplicates from then on. The
/// caller's own engine has already submitted its queue.
#[cold]
pub fn redirect_queued(first: c_int, last: c_int) {
    OTHERS_CLOSE.store(true, Ordering::Relaxed);
    uring::redirect(first, last);
}

/// In the child of fork: resets the state that engines share, which belongs to the parent.
///
/// # Safety
/// See [`Renewable::renew`](crate::entry::fork::Renewable::renew).
pub unsafe fn renew() {
    uring::renew();
    // SAFETY: our caller keeps the same contract.
    unsafe { linux_aio::renew() };
}

/// Whether a descriptor may be closed by a thread that cannot submit the operations queued on it.
fn others_close() -> bool {
    OTHERS_CLOSE.load(Ordering::Relaxed) || position::others_are_attached()
}

/// Identifies a request: its completion carries the token that it was queued with.
pub type Token = u32;

/// How long [`Engine::poll`] may wait for a first completion.
#[derive(Clone, Copy)]
pub enum Wait {
    No,
    Nanos(u64),
    Forever,
}

impl Wait {
    /// The timeout argument of poll(2) and similar calls; None means no limit.
    pub fn timeout(self) -> Option<Timespec> {
        let nanos = match self {
            Self::No => 0,
            Self::Nanos(nanos) => nanos,
            Self::Forever => return None,
        };
        Some(Timespec {
            tv_sec: (nanos / 1_000_000_000) as i64,
            tv_nsec: (nanos % 1_000_000_000) as i64,
        })
    }
}

/// Receives the outcome of requests.
pub trait Sink {
    /// The request is done. `result` is that of a system call: a negative error number on failure.
    fn done(&mut self, token: Token, result: i32);

    /// The engine cannot do the request asynchronously after all: the thread pool must do it.
    fn offload(&mut self, token: Token, request: Request);
}

pub trait Engine {
    fn name(&self) -> &'static str;

    /// Whether an operation in a large batch costs less than a system call of its own, even one
    /// that does not wait.
    fn batches(&self) -> bool;

    /// Whether [`Self::poll`] can block. If not, the thread sleeps by other means.
    fn sleeps(&self) -> bool {
        true
    }

    /// Whether the engine does a socket call as a whole and holds the socket's file from submission
    /// to completion. Otherwise it retries a non-blocking form of the call when the socket is
    /// ready, and rejects accept4(2) and connect(2).
    fn does_sockets(&self) -> bool {
        false
    }

    /// A descriptor that becomes readable when a poll would find a completion. Read it before you
    /// wait on it again. None if the engine has none.
    fn ready_descriptor(&mut self) -> Option<c_int> {
        None
    }

    /// Whether the engine can wait for futexes.
    fn has_futexes(&mut self) -> bool {
        false
    }

    /// Queues a request. Returns false if the engine cannot do it asynchronously.
    fn queue(&mut self, request: &Request, token: Token) -> bool;

    /// Tries accept4(2) without blocking: EAGAIN if it would block. None if the engine cannot do
    /// that.
    fn accept_now(&mut self, _call: &SocketCall) -> Option<Result<c_int, Errno>> {
        None
    }

    /// Cancels the operation of `token`. True: it is gone and will not be reported. False: it is
    /// reported as usual, with ECANCELED or its own result, soon if the kernel can cancel it.
    fn cancel(&mut self, token: Token) -> bool;

    /// Submits everything queued to the kernel without waiting for completions.
    fn submit(&mut self);

    /// Submits the queue and reports completions. Waits for the first completion as `wait` says,
    /// and returns early when the thread is woken. An error means that the kernel no longer accepts
    /// this engine's calls, and the engine must be replaced ([`Engine::surrender`]).
    fn poll(&mut self, wait: Wait, sink: &mut dyn Sink) -> Result<(), Errno>;

    /// Ends the engine. Returns the results of the operations that have completed. None of the
    /// other `in_flight` queued operations will be carried out, and the kernel no longer touches
    /// their memory.
    fn surrender(self: Box<Self>, in_flight: usize) -> Vec<(Token, i32)>;

    /// Which engine this is, as a value of the option.
    fn rung(&self) -> EngineChoice;
}

/// An engine, and why the preferred ones were refused. The reasons go to the log and the
/// statistics.
pub struct Made {
    pub engine: Option<Box<dyn Engine>>,
    pub refusals: Vec<String>,
    /// An engine was refused because no descriptor number was free, which the program caused
    /// itself.
    pub out_of_descriptors: bool,
}

/// Creates the calling thread's engine: the chosen one, or the next one that the kernel grants.
/// `wake_fd` is an eventfd that must end the engine's waits; without it there is no engine and the
/// thread pool does everything. `has_one_fiber` says that the program knows this thread only as an
/// ordinary thread.
pub fn make(choice: EngineChoice, wake_fd: Option<c_int>, has_one_fiber: bool) -> Made {
    type Rung = (
        EngineChoice,
        &'static str,
        fn(c_int) -> Result<Box<dyn Engine>, Errno>,
    );
    let uring: fn(c_int) -> Result<Box<dyn Engine>, Errno> = if has_one_fiber {
        |fd| Ok(Box::new(ForOne(Uring::new(fd)?)))
    } else {
        |fd| Ok(Box::new(Uring::new(fd)?))
    };
    let ladder: [Rung; 3] = [
        (EngineChoice::Uring, "io_uring", uring),
        (EngineChoice::Aio, "Linux AIO", |fd| {
            Ok(Box::new(LinuxAio::new(fd)?))
        }),
        (EngineChoice::Threads, "threads", |fd| {
            Ok(Box::new(Threads::new(fd)?))
        }),
    ];
    let mut refusals = Vec::new();
    let mut out_of_descriptors = false;
    for (rung, name, make) in ladder {
        if rung < choice {
            continue;
        }
        match wake_fd.ok_or(Errno::MFILE).and_then(make) {
            Ok(engine) => {
                return Made {
                    engine: Some(engine),
                    refusals,
                    out_of_descriptors,
                };
            }
            Err(Errno::MFILE) => {
                refusals.push(format!(
                    "{name}: no descriptor number from {} up is free",
                    sys::LEAST
                ));
                out_of_descriptors = true;
            }
            Err(error) => refusals.push(format!("{name}: {error}")),
        }
    }
    let engine =
        out_of_descriptors.then(|| Box::new(Threads::without_descriptors()) as Box<dyn Engine>);
    Made {
        engine,
        refusals,
        out_of_descriptors,
    }
}

/// Selects the replacement for `engine`, which the kernel refuses with `error`: the next engine, or
/// a new one of the same kind if the program merely closed its descriptor.
pub fn successor(engine: &dyn Engine, error: Errno) -> EngineChoice {
    match engine.rung() {
        rung if error == Errno::BADF => rung,
        EngineChoice::Auto | EngineChoice::Uring => EngineChoice::Aio,
        EngineChoice::Aio => EngineChoice::Threads,
        EngineChoice::Threads | EngineChoice::Sync => EngineChoice::Sync,
    }
}

/// Whether a completion's `error` says that the engine did not do the operation, as opposed to the
/// operation's own result. The fiber then makes the plain call.
pub fn not_done(error: Errno) -> bool {
    matches!(error, Errno::AGAIN | Errno::CANCELED | Errno::INTR)
}
