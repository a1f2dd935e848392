//! Whether another preloaded library behind the shim interposes one of the shim's names.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

static ANY: AtomicBool = AtomicBool::new(false);

/// Notes that a name is interposed.
pub fn note() {
    ANY.store(true, Relaxed);
}

/// Whether any name is interposed.
pub fn is_any() -> bool {
    ANY.load(Relaxed)
}
