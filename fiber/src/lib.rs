//! Green threads with pthread conventions, for C (`include/fiber.h`) and for Rust.
//!
//! Many fibers share a few OS threads. While a fiber waits for another fiber, a lock or a timeout,
//! its OS thread runs other fibers. A blocking system call blocks the OS thread, unless
//! libaioshim.so is preloaded. A fiber that has started stays on its OS thread for life, so C
//! compilers may cache addresses of thread-local variables. An idle worker may take over a fiber
//! that has not started yet.
//!
//! ```
//! let sum = fiber::run(fiber::Options::default(), || {
//!     let fibers: Vec<_> = (1..=10).map(|n| fiber::spawn(move || n * n)).collect();
//!     fibers.into_iter().map(|f| f.join().unwrap()).sum::<u32>()
//! });
//! assert_eq!(sum.unwrap(), 385);
//! ```
//!
//! The modules, from the outside in: `capi` and `api` are the C and the Rust interface. `join`
//! creates, joins and detaches fibers, and `cancel` ends their waits. `sync` holds the objects that
//! fibers wait on, all built on `park`. `sched` picks the next fiber and `switch` switches to it.
//! `runtime`, `worker` and `idle` manage the OS threads, `stack` and `slab` the memory.
//! `host` connects the scheduler to the shim.

mod api;
mod balance;
mod cancel;
mod capi;
mod conf;
mod deadlock;
mod debug;
mod errno;
mod fiber;
mod fork;
mod fresh;
mod gate;
mod guard;
mod host;
mod idle;
mod join;
mod kept;
mod key;
mod leave;
mod overflow;
mod park;
mod runtime;
mod sched;
mod slab;
mod spin;
mod stack;
mod stderr;
mod switch;
pub mod sync;
mod timer;
mod tls;
mod turns;
mod worker;

pub use api::{
    Builder, Current, JoinHandle, Options, current, run, sleep, spawn, test_cancel, yield_now,
};
pub use cancel::Cancelled;
pub use errno::Errno;
pub use sync::{
    Barrier, BarrierWaitResult, Condvar, Mutex, MutexGuard, Once, RwLock, RwLockReadGuard,
    RwLockWriteGuard, Semaphore,
};
