//! libaioshim.so, loaded with LD_PRELOAD, turns blocking libc calls made on a fiber into
//! asynchronous operations.
//!
//! The path of one `read` on a fiber, one file per step:
//!
//! 1. [`hooks`]: the table of interposed functions, where a call by libc's name arrives. Off a
//!    fiber it passes straight through to libc.
//! 2. [`calls`]: the call as its C caller sees it: arguments, result, errno, file position.
//! 3. [`policy`]: decides whether to pass through, try inline, or submit. It is a pure function of
//!    what [`fds`] remembers and how busy the thread is.
//! 4. [`engine`]: queues the operation without a system call. A thread of the [`pool`] runs the
//!    operations that the engine cannot do asynchronously.
//! 5. [`thread`]: parks the fiber. Its host runs other fibers and then calls `aioshim_poll` in
//!    [`host`], which submits the batch, reaps completions and unparks fibers.
//!
//! stdio calls the kernel from inside libc, where interposition does not reach. Its calls enter at
//! the first step through stdio's jump tables: [`stdio`].
//!
//! The other modules:
//!
//! - [`start`] sets everything up before `main`; [`conf`] reads the environment;
//! - [`stats`] counts calls, [`trace`] records them, [`escapes`] counts system calls that no hook
//!   sees, and [`stall`] reports fibers that do not yield;
//! - [`position`] keeps reads and writes at a shared file position atomic;
//! - [`signal`] runs signal handlers on fibers; [`cancel`] lists the calls at which a cancelled
//!   fiber may end;
//! - [`fork`] resets the shim in the child of a fork;
//! - [`main_fiber`] makes the main thread of an unmodified program a fiber;
//! - [`runtimes`] separates the exceptions and locales of fibers, [`records`] the results that libc
//!   keeps in static memory.

mod allocator;
mod call;
mod calls;
mod cancel;
mod conf;
mod critical;
mod deadlines;
mod engine;
mod errno;
mod escapes;
mod fds;
mod fifo;
mod flight;
mod fork;
mod holds;
mod hooks;
mod host;
mod known_files;
mod loader;
mod log;
mod lookout;
mod main_fiber;
mod paces;
mod pool;
mod position;
mod records;
mod registry;
mod remote;
mod runtimes;
mod sanitizers;
mod seccomp;
mod signal;
mod sockets;
mod spawn;
mod stall;
mod start;
mod stats;
mod stderr;
mod stdio;
mod stopwatch;
mod symbol;
mod sys;
mod thread;
mod tls;
mod trace;
mod variadic;
mod vfork;
mod watch;
