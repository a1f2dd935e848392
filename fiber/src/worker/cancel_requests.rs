//! The requests to end waits of one worker's fibers.
//!
//! Invariant: a request is added before the flag is set, and the flag is cleared before the
//! requests are taken. Therefore the owner misses none.

use crate::record::fiber::Handle;
use crate::spin::SpinLock;
use core::sync::atomic::{AtomicBool, Ordering};

/// The pending requests for fibers of one worker whose waits must be ended.
pub(crate) struct CancelRequests {
    any: AtomicBool,
    handles: SpinLock<Vec<Handle>>,
}

impl CancelRequests {
    pub(crate) const fn new() -> CancelRequests {
        CancelRequests {
            any: AtomicBool::new(false),
            handles: SpinLock::new(Vec::new()),
        }
    }

    #[inline(always)]
    pub(crate) fn has_any(&self) -> bool {
        self.any.load(Ordering::SeqCst)
    }

    pub(crate) fn add(&self, fiber: Handle) {
        self.handles.lock().push(fiber);
        self.any.store(true, Ordering::SeqCst);
    }

    pub(crate) fn take(&self) -> Vec<Handle> {
        self.any.store(false, Ordering::SeqCst);
        core::mem::take(&mut *self.handles.lock())
    }

    /// In a forked child: another thread may have held the lock, and that thread does not exist
    /// here. The data it was changing is leaked, not dropped.
    pub(crate) fn forget(&self) {
        self.handles.release();
        core::mem::forget(self.take());
    }
}
