//! Undoes everything that must not outlive the command: directories, mounts, devices, settings.
//!
//! Each is undone when its guard is dropped, which also happens after the first Ctrl-C, because the
//! study then ends by itself. A panic aborts the process without dropping anything, so a panic hook
//! undoes the rest, and so must a signal handler that ends the process.

use std::collections::BTreeMap;
use std::panic;
use std::sync::{Mutex, Once};

type Undo = Box<dyn FnOnce() + Send>;

/// The actions that are left, in the order in which the guards were made.
static LEFT: Mutex<BTreeMap<u64, Undo>> = Mutex::new(BTreeMap::new());

/// Undoes one thing when it is dropped.
#[derive(Debug)]
#[must_use]
pub struct Guard(u64);

/// Returns a guard that calls `undo`.
pub fn guard(undo: impl FnOnce() + Send + 'static) -> Guard {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let report = panic::take_hook();
        panic::set_hook(Box::new(move |what| {
            report(what);
            undo_all();
        }));
    });
    let mut left = LEFT.lock().expect("no undoing panics");
    let number = left.last_key_value().map_or(0, |(last, _)| last + 1);
    left.insert(number, Box::new(undo));
    Guard(number)
}

/// Undoes everything that is left, the latest first. Must be called before the process ends without
/// dropping its guards.
pub fn undo_all() {
    // The lock is taken only if this very thread panicked while it held it: nothing can be done.
    let left = LEFT.try_lock().map(|mut left| std::mem::take(&mut *left));
    for (_, undo) in left.unwrap_or_default().into_iter().rev() {
        undo();
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let undo = LEFT.lock().ok().and_then(|mut left| left.remove(&self.0));
        if let Some(undo) = undo {
            undo();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::guard;

    #[test]
    fn a_guard_undoes_once() {
        let count = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&count);
        let guard = guard(move || {
            counted.fetch_add(1, Ordering::Relaxed);
        });
        assert_eq!(count.load(Ordering::Relaxed), 0);
        drop(guard);
        assert_eq!(count.load(Ordering::Relaxed), 1);
    }
}
