//! A pool of unused contexts. io_destroy(2) waits tens of milliseconds for a grace period of the
//! kernel, so a context outlives its thread and the next thread that needs one reuses it. Any
//! thread of the process may use it, and exit(2) destroys it.
//!
//! Invariant: a context in this pool has no operation in flight, and all its completions have been
//! reaped.

use super::context::Context;
use crate::context::Mutex;
use sys::errno::Errno;

/// Capacities, tried in order while the system-wide limit is reached (fs.aio-max-nr, 65536 for all
/// processes). Operations beyond the capacity wait in the engine's queue.
const QUEUE_DEPTHS: [u32; 4] = [1024, 256, 64, 16];

/// The most contexts to keep, because they count against the system-wide limit.
const MAX_SPARE: usize = 8;

fork_reset! {
    /// The contexts belong to the parent.
    static SPARE: Mutex<Vec<Context>> = Mutex::new(Vec::new());
}

/// Takes an unused context, or creates the largest one that the system has room for.
pub fn take() -> Result<Context, Errno> {
    if let Some(context) = SPARE.get().lock().pop() {
        return Ok(context);
    }
    let mut error = Errno::AGAIN;
    for size in QUEUE_DEPTHS {
        match Context::new(size) {
            Err(e @ (Errno::AGAIN | Errno::NOMEM)) => error = e,
            result => return result,
        }
    }
    Err(error)
}

/// Keeps a context for the next thread. It must have no operation in flight.
pub fn put(context: Context) {
    let mut spare = SPARE.get().lock();
    if spare.len() < MAX_SPARE {
        spare.push(context);
    } else {
        drop(spare);
        drop(context);
    }
}
