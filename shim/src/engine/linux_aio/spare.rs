//! Contexts that nobody uses: io_destroy(2) waits for a grace period of the kernel's, tens of
//! milliseconds, so a context outlives its thread and is the next one's who needs one. Any thread
//! of the process may use it, and exit(2) destroys it.
//!
//! Invariant: nothing is in flight in a context that is kept here, and all its completions have
//! been taken.

use super::context::Context;
use crate::critical::Mutex;
use crate::errno::Errno;
use crate::fork::Renewable;

/// Operations at a time, tried in turn while the system has no more (fs.aio-max-nr, 65536 for all
/// processes). What is above waits in the engine's queue.
const SIZES: [u32; 4] = [1024, 256, 64, 16];

/// How many are kept: they count against what all processes may have.
const MOST_KEPT: usize = 8;

static KEPT: Renewable<Mutex<Vec<Context>>> = Renewable::new(Mutex::new(Vec::new()));

/// In the child of a fork: the contexts are the parent's.
///
/// # Safety
/// As [`Renewable::renew`].
pub unsafe fn renew() {
    // SAFETY: vouched for by the caller.
    unsafe { KEPT.renew(Mutex::new(Vec::new())) };
}

/// A context that nobody uses, or a new one, the largest that the system has room for.
pub fn take() -> Result<Context, Errno> {
    if let Some(context) = KEPT.get().lock().pop() {
        return Ok(context);
    }
    let mut error = Errno::AGAIN;
    for size in SIZES {
        match Context::new(size) {
            Err(e @ (Errno::AGAIN | Errno::NOMEM)) => error = e,
            result => return result,
        }
    }
    Err(error)
}

/// Keeps a context for the next one who needs one; nothing is in flight in it.
pub fn give_back(context: Context) {
    let mut kept = KEPT.get().lock();
    if kept.len() < MOST_KEPT {
        kept.push(context);
    } else {
        drop(kept);
        drop(context);
    }
}
