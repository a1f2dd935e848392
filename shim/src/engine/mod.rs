//! Engines: what carries out operations while their fibers are parked. One per attached thread, used by it alone.
//!
//! [`uring`] is the only one so far; Linux AIO and a thread pool will stand beside it.

mod uring;

use crate::conf::EngineChoice;
use crate::errno::Errno;
use std::ffi::{c_char, c_int};

pub use uring::Uring;

/// One operation, in the kernel's terms. The memory it names belongs to the kernel until its completion is reaped:
/// the parked fiber that asked for it keeps it in place.
#[derive(Clone, Copy)]
pub enum Request {
    /// An offset of -1 is the current position, and the only one for streams.
    Transfer {
        way: Way,
        fd: c_int,
        data: Data,
        offset: i64,
        flags: c_int,
    },
    Fsync {
        fd: c_int,
        data_only: bool,
    },
    Open {
        dir: c_int,
        path: *const c_char,
        flags: c_int,
        mode: u32,
    },
    Close {
        fd: c_int,
    },
    /// poll(2)'s events, once.
    Poll {
        fd: c_int,
        events: i16,
    },
}

impl Request {
    /// The descriptor it is about; None for a path.
    #[inline(always)]
    pub fn fd(&self) -> Option<c_int> {
        match *self {
            Self::Transfer { fd, .. } | Self::Fsync { fd, .. } | Self::Close { fd } | Self::Poll { fd, .. } => Some(fd),
            Self::Open { .. } => None,
        }
    }
}

/// Which way a transfer goes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Way {
    Read,
    Write,
}

/// The memory of a transfer: at most 0x7ffff000 bytes in one piece, or a vector.
#[derive(Clone, Copy)]
pub enum Data {
    Buffer(*mut u8, u32),
    Vector(*const libc::iovec, u32),
}

/// What the completion of a request carries back to the one who queued it.
pub type Token = u32;

/// How long [`Engine::poll`] may wait for a first completion.
#[derive(Clone, Copy)]
pub enum Wait {
    No,
    Nanos(u64),
    Forever,
}

pub trait Engine {
    fn name(&self) -> &'static str;

    /// Queues a request. No system call, unless the queue is full.
    fn queue(&mut self, request: &Request, token: Token);

    /// Asks for the request of `token` to end soon; it still completes, one way or the other.
    fn cancel(&mut self, token: Token);

    /// Hands everything queued to the kernel, and does not wait.
    fn submit(&mut self);

    /// Submits what is queued and reports completions: `done(token, result)`, the result as a system call's (a
    /// negative error number). Waits for a first one as `wait` says; ends early when the thread is woken.
    fn poll(&mut self, wait: Wait, done: &mut dyn FnMut(Token, i32));

    /// In the child of a fork: lets go of this process's copy without touching the parent's operations.
    fn abandon(self: Box<Self>);
}

/// Why there is no engine: its own words, for the log and the statistics.
pub type Refusal = String;

/// Makes the calling thread's engine. `wake_fd` is an eventfd that must end its waits.
pub fn make(choice: EngineChoice, wake_fd: c_int) -> Result<Box<dyn Engine>, Refusal> {
    match choice {
        EngineChoice::Sync => Err("AIOSHIM_ENGINE=sync".into()),
        EngineChoice::Auto | EngineChoice::Uring => match Uring::new(wake_fd) {
            Ok(uring) => Ok(Box::new(uring)),
            Err(error) => Err(format!("io_uring: {error}")),
        },
    }
}

/// Whether `error`, from a completion, says that the engine did not do the operation, not what the operation gives:
/// it is then done as a plain call.
pub fn not_done(error: Errno) -> bool {
    matches!(error, Errno::AGAIN | Errno::CANCELED | Errno::INTR)
}
