//! Engines: what carries out operations while their fibers are parked. One per attached thread,
//! used by it alone.
//!
//! A ladder: [`Uring`] does all asynchronously; [`LinuxAio`] what O_DIRECT, fsync(2) and poll(2)
//! allow; [`Threads`] nothing but to wait for streams. What an engine does not take is the offload
//! pool's ([`crate::pool`]). The highest rung that the kernel grants is taken, a thread at a time.

mod linux_aio;
mod plain;
mod readiness;
mod request;
mod socket;
mod threads;
mod uring;

use crate::conf::EngineChoice;
use crate::errno::Errno;
use crate::position;
use crate::sys;
use rustix::event::Timespec;
use std::ffi::c_int;
use std::sync::atomic::{AtomicBool, Ordering};

pub use plain::perform;
pub use request::{Data, KernelCall, Lane, MAX_COUNT, NO_FILE, Names, Request, Run, Transfer, Way};
pub use socket::{Action, SocketCall};

use linux_aio::LinuxAio;
use threads::Threads;
use uring::{ForOne, Uring};

/// Threads close descriptors beside those of the engines. Once true it stays.
static OTHERS_CLOSE: AtomicBool = AtomicBool::new(false);

/// Before another thread than an engine's closes or replaces the descriptors `first` to `last`:
/// what is queued on them names duplicates from here on. The caller's own engine has submitted.
#[cold]
pub fn redirect_queued(first: c_int, last: c_int) {
    OTHERS_CLOSE.store(true, Ordering::Relaxed);
    uring::redirect(first, last);
}

/// In the child of a fork: what the engines share is the parent's.
///
/// # Safety
/// As [`Renewable::renew`](crate::fork::Renewable::renew).
pub unsafe fn renew() {
    uring::renew();
    // SAFETY: vouched for by the caller.
    unsafe { linux_aio::renew() };
}

/// Whether descriptors may be closed by threads that cannot submit what is queued on them.
fn others_close() -> bool {
    OTHERS_CLOSE.load(Ordering::Relaxed) || position::others_are_attached()
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

impl Wait {
    /// As poll(2)'s kin take it: None is without limit.
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

/// Where an engine reports what became of requests.
pub trait Sink {
    /// It is done: the result as a system call's, a negative error number.
    fn done(&mut self, token: Token, result: i32);

    /// The engine cannot do it asynchronously after all: the pool is to.
    fn offload(&mut self, token: Token, request: Request);
}

pub trait Engine {
    fn name(&self) -> &'static str;

    /// Whether an operation in a large batch costs less than a system call of its own, even one
    /// that does not wait.
    fn batches(&self) -> bool;

    /// Whether [`Self::poll`] can wait. Else the thread sleeps by other means.
    fn sleeps(&self) -> bool {
        true
    }

    /// Whether it does a call on a socket as a whole, and keeps its file from the submission to the
    /// end. Else it tries one, in a form that does not wait, when the socket is ready, and
    /// accept4(2) and connect(2) not at all.
    fn does_sockets(&self) -> bool {
        false
    }

    /// A descriptor that is readable when a poll would find something done, to be read before it is
    /// waited on anew; None where there is no such one.
    fn ready_descriptor(&mut self) -> Option<c_int> {
        None
    }

    /// Whether it waits for futexes.
    fn has_futexes(&mut self) -> bool {
        false
    }

    /// Queues a request; false if it is not one that this engine does asynchronously.
    fn queue(&mut self, request: &Request, token: Token) -> bool;

    /// accept4(2) in a form that does not wait: EAGAIN where it would have to. None where the
    /// engine has no such form.
    fn accept_now(&mut self, _call: &SocketCall) -> Option<Result<c_int, Errno>> {
        None
    }

    /// Has the operation of `token` end early. True: it is gone, and nobody will report it. False:
    /// it is reported as ever, as ECANCELED or with what it came to, soon if the kernel can end it.
    fn cancel(&mut self, token: Token) -> bool;

    /// Hands everything queued to the kernel, and does not wait for it to be done.
    fn submit(&mut self);

    /// Submits what is queued and reports completions. Waits for a first one as `wait` says; ends
    /// early when the thread is woken. An error means that the kernel refuses to go on: the engine
    /// has to be replaced ([`Engine::surrender`]).
    fn poll(&mut self, wait: Wait, sink: &mut dyn Sink) -> Result<(), Errno>;

    /// Ends the engine. Returns the results of the operations that are done; no other of the
    /// `in_flight` operations that were queued will be carried out, nor will the kernel touch their
    /// memory.
    fn surrender(self: Box<Self>, in_flight: usize) -> Vec<(Token, i32)>;

    /// Where it stands on the ladder.
    fn rung(&self) -> EngineChoice;
}

/// An engine, and why those above it on the ladder were refused: their own words, for the log and
/// the statistics.
pub struct Made {
    pub engine: Option<Box<dyn Engine>>,
    pub refusals: Vec<String>,
    /// One was refused for want of a descriptor, which is the program's own doing.
    pub out_of_descriptors: bool,
}

/// Makes the calling thread's engine: the one chosen or the next one below it that is granted.
/// `wake_fd` is an eventfd that must end its waits; without one there is no engine but the pool of
/// threads. `has_one_fiber` says that the program does not know the thread to be more than an
/// ordinary one.
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
                    "{name}: no descriptor number from {} on is free",
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

/// What is to replace `engine`, which the kernel refuses with `error`: the one below, or a new one
/// of its kind where only its descriptor has been closed by somebody.
pub fn successor(engine: &dyn Engine, error: Errno) -> EngineChoice {
    match engine.rung() {
        rung if error == Errno::BADF => rung,
        EngineChoice::Auto | EngineChoice::Uring => EngineChoice::Aio,
        EngineChoice::Aio => EngineChoice::Threads,
        EngineChoice::Threads | EngineChoice::Sync => EngineChoice::Sync,
    }
}

/// Whether `error`, from a completion, says that the engine did not do the operation, not what the
/// operation gives: it is then done as a plain call.
pub fn not_done(error: Errno) -> bool {
    matches!(error, Errno::AGAIN | Errno::CANCELED | Errno::INTR)
}
