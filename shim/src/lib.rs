//! libaioshim.so: blocking libc calls made on a fiber become asynchronous operations, by
//! LD_PRELOAD.
//!
//! How one `read` on a fiber travels, a file a step:
//!
//! 1. [`hooks`]: the table; libc's name leads here. Off a fiber it goes straight on to libc.
//! 2. [`calls`]: the call as its C caller sees it: arguments, result, errno, file position.
//! 3. [`policy`]: through, try inline, or submit; a pure function of what [`fds`] remembers and how
//!    busy the thread is.
//! 4. [`engine`]: queues the operation; no system call yet. What it cannot do asynchronously is for
//!    a thread of [`pool`].
//! 5. [`thread`]: parks the fiber. Its host runs others and comes back through [`host`]'s
//!    `aioshim_poll`, which submits the batch, reaps completions and unparks.
//!
//! stdio, whose calls do not come by names, enters at the first step by its jump tables: [`stdio`].
//!
//! Around it: [`start`] sets all up before `main`, [`conf`] reads the environment, [`stats`]
//! counts, [`trace`] writes calls down, [`escapes`] counts those that no hook sees, [`stall`]
//! reports fibers that compute for long, [`position`] keeps reads and writes at a shared file
//! position atomic, [`lot`] is where fibers wait for locks, [`signal`] has handlers run on fibers,
//! [`cancel`] says where a cancelled fiber may end, [`fork`] gives the child a fresh start,
//! [`main_fiber`] makes a fiber of an unmodified program's main thread, [`runtimes`] keeps a
//! fiber's exceptions and locale apart from those of others, [`records`] what libc keeps in static
//! memory.

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
mod lot;
mod main_fiber;
mod paces;
mod policy;
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
