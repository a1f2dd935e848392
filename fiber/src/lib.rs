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
//! The modules, from the bottom up; each uses only those before it:
//!
//! | module | what it holds |
//! |---|---|
//! | `errno`, `clock`, `output`, `spin` | error numbers, time, text for people, spin locks |
//! | `arch` | the context switch and thread-local slots, one file per CPU |
//! | `record` | the record of a fiber: its stack, timer, values and wait queue |
//! | `worker` | the state of an OS thread that runs fibers, and of a runtime |
//! | `sched` | the scheduler: run, park, wake, join, cancel, sleep |
//! | `sync`, `host`, `report` | locks; the callbacks for the shim; reports for people |
//! | `launch` | the start and end of a runtime |
//! | `interpose`, `api`, `capi` | replaced functions of libc; the Rust API; the C API |

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
pub use sched::cancel_point::Cancelled;
pub use sync::{
    Barrier, BarrierWaitResult, Condvar, Mutex, MutexGuard, Once, RwLock, RwLockReadGuard,
    RwLockWriteGuard, Semaphore,
};
