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
mod arch;
mod capi;
mod clock;
mod errno;
mod host;
mod interpose;
mod launch;
mod output;
mod record;
mod report;
mod sched;
mod spin;
pub mod sync;
mod worker;

pub use api::{
    Builder, Current, JoinHandle, Options, current, run, sleep, spawn, test_cancel, yield_now,
};
pub use errno::Errno;
pub use sched::cancel::Cancelled;
pub use sync::{
    Barrier, BarrierWaitResult, Condvar, Mutex, MutexGuard, Once, RwLock, RwLockReadGuard,
    RwLockWriteGuard, Semaphore,
};
