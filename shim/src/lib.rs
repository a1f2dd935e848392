//! libaioshim.so, loaded with LD_PRELOAD, turns blocking libc calls made on a fiber into
//! asynchronous operations.
//!
//! The path of one `read` on a fiber, one file per step:
//!
//! 1. [`hooks`]: the table of interposed functions, where a call by libc's name arrives. The
//!    [`context`] says whose code makes it: off a fiber it passes straight through to libc.
//! 2. [`calls`]: the call as its C caller sees it: arguments, result, errno, file position. The
//!    hook turns the verdict of these functions ([`runtime::verdict`]) into the result.
//! 3. [`policy`]: decides whether to pass through, try inline, or submit. It is a pure function of
//!    what [`state::descriptors`] remembers and how busy the thread is.
//! 4. [`engine`]: queues the operation without a system call. A thread of the [`engine::pool`] runs
//!    the operations that the engine cannot do asynchronously.
//! 5. [`runtime::thread`]: parks the fiber through the [`host`]. The host runs other fibers and
//!    then calls `aioshim_poll` ([`entry`]), and with it the thread's `poll`, which submits the
//!    batch, reaps completions and unparks fibers.
//!
//! stdio calls the kernel from inside libc, where interposition does not reach. Its calls enter at
//! the first step through stdio's jump tables: [`entry::stdio`].
//!
//! The other modules:
//!
//! - [`entry`]: start-up, fork, the host table's functions and others that have no row in the call
//!   table;
//! - [`record`]: statistics, the trace, the tracer of unhooked calls and the watchdog;
//! - [`runtime`]: an attached thread's calls, operations, signals and file positions;
//! - [`state`]: the state of the process.

// First, because the other modules use its macros.
#[macro_use]
mod state;

mod calls;
mod context;
mod engine;
mod entry;
mod hooks;
mod host;
mod record;
mod runtime;
