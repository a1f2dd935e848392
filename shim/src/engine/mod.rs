//! Engines carry out operations while the fibers that asked for them are parked. Each attached
//! thread has its own engine, which only that thread uses.
//!
//! There are three engines, in order of preference: [`uring`] does every operation asynchronously;
//! [`linux_aio`] does O_DIRECT transfers and fsync(2), and waits for streams with epoll;
//! [`threads`] only waits for streams. The offload pool ([`crate::engine::pool`]) does whatever the
//! engine rejects. Each thread takes the first engine that the kernel grants it.

mod candidates;
mod linux_aio;
mod plain;
pub mod pool;
mod readiness;
mod request;
mod socket;
mod threads;
mod uring;

use crate::state::attached;
use format::options::EngineChoice;
use rustix::event::Timespec;
use std::ffi::c_int;
use std::sync::atomic::{AtomicBool, Ordering};
use sys::errno::Errno;

pub use candidates::{EngineSelection, first, make, successor};
pub use plain::perform;
pub use request::{
    Data, Direction, FdPin, KernelCall, Lane, MAX_COUNT, NO_FILE, Request, Run, Transfer, event,
};
pub use socket::{Action, SocketCall};

/// Whether threads that do not own an engine close descriptors. Never becomes false again.
static OTHERS_CLOSE: AtomicBool = AtomicBool::new(false);

/// Call before a thread closes or replaces the descriptors `first` to `last` while other threads'
/// engines may have operations queued on them: those operations name duplicates from then on. The
/// caller's own engine has already submitted the operations on them.
#[cold]
pub fn redirect_queued(first: c_int, last: c_int) {
    // Written only once: every close of a program with several workers comes here.
    if !OTHERS_CLOSE.load(Ordering::Relaxed) {
        OTHERS_CLOSE.store(true, Ordering::Relaxed);
    }
    uring::redirect(first, last);
}

/// Whether a descriptor may be closed by a thread that cannot submit the operations queued on it.
fn others_close() -> bool {
    OTHERS_CLOSE.load(Ordering::Relaxed) || attached::others_are_attached()
}

use crate::host::Token;
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
    /// The request is done. `result` is that of a system call: a negative error number on failure,
    /// and ECANCELED if the request was not carried out.
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

    /// Whether an operation is queued or in progress here. If not, [`Self::poll`] has nothing to
    /// wait for, and the thread sleeps by other means.
    fn has_operations(&self) -> bool {
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

    /// Whether operations are queued that the kernel has not taken yet. They still refer to their
    /// descriptors by number.
    fn has_unsubmitted(&self) -> bool {
        false
    }

    /// Whether operations are queued that the kernel could not take in the last poll, although none
    /// of the submitted ones has to complete first. Nothing may complete before it can, so poll
    /// again soon.
    fn is_stalled(&self) -> bool {
        false
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
    /// this engine's calls, and the engine must be replaced ([`Engine::shut_down`]).
    fn poll(&mut self, wait: Wait, sink: &mut dyn Sink) -> Result<(), Errno>;

    /// Ends the engine. Returns the results of the operations that have completed. None of the
    /// other `in_flight` queued operations will be carried out, and the kernel no longer touches
    /// their memory.
    fn shut_down(self: Box<Self>, in_flight: usize) -> Vec<(Token, i32)>;

    /// Which engine this is, as a value of the option.
    fn choice(&self) -> EngineChoice;
}
