//! Green threads with pthread conventions, for C (`include/fiber.h`) and for Rust.
//!
//! Many fibers share a few OS threads. A fiber that waits for another, for a lock or for a time
//! lets others run; a blocking system call blocks its OS thread, unless libaioshim.so is preloaded.
//! A fiber that has started stays on its OS thread for life, so what C compilers cache of a thread
//! stays true; one that has not may be taken by an idle worker.
//!
//! ```
//! let sum = fiber::run(fiber::Options::default(), || {
//!     let fibers: Vec<_> = (1..=10).map(|n| fiber::spawn(move || n * n)).collect();
//!     fibers.into_iter().map(|f| f.join().unwrap()).sum::<u32>()
//! });
//! assert_eq!(sum.unwrap(), 385);
//! ```
//!
//! How it works, from the outside in: `capi` and `api` are the two faces; `join` makes, joins and
//! detaches fibers, `cancel` ends their waits; `sync` has what they wait on, all of it built on
//! `park`; `sched` passes the turn on by `switch`; `runtime`, `worker`, `idle` and `inbox` are the
//! threads below, `stack` and `slab` the memory; `host` meets the shim.

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
mod inbox;
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
