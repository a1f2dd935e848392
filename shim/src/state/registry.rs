//! Per-thread values that the report at exit reads for all threads. They outlive their thread, and
//! the next thread reuses them.
//!
//! Invariant: a value has at most one owner. It is never freed. A thread that attaches later takes
//! it over and continues its counts, so a program that repeatedly attaches threads uses memory only
//! for the largest number of threads that exist at the same time.

use crate::context::Mutex;
use crate::state::fork_reset::ForkReset;
use std::ops::Deref;
use std::sync::Arc;

/// Declares a static [`Registry`], which the child of a fork empties.
macro_rules! registry {
    ($(#[$doc:meta])* static $name:ident: Registry<$type:ty>;) => {
        $(#[$doc])*
        static $name: $crate::state::registry::Registry<$type> =
            $crate::state::registry::Registry::new();
        after_fork!({
            #[allow(unsafe_code, reason = "the caller of a Reset makes the promise")]
            unsafe fn reset() {
                // SAFETY: the contract of a `Reset` is the same.
                unsafe { $name.forget_all() };
            }
            reset
        });
    };
}

/// A list of per-thread values.
pub struct Registry<T: 'static>(ForkReset<Mutex<Values<T>>>);

struct Values<T> {
    all: Vec<Arc<T>>,
    /// Values whose thread is gone.
    free: Vec<Arc<T>>,
}

impl<T> Registry<T> {
    pub const fn new() -> Self {
        Self(ForkReset::new(Mutex::new(Values::NONE)))
    }

    /// Returns a value for the calling thread, and makes one if none is free.
    pub fn register(&'static self, make: impl FnOnce() -> T) -> Registered<T> {
        let mut values = self.0.get().lock();
        let value = values.free.pop().unwrap_or_else(|| {
            let value = Arc::new(make());
            values.all.push(Arc::clone(&value));
            value
        });
        Registered {
            registry: self,
            value,
        }
    }

    /// All values that were ever owned.
    pub fn all(&self) -> Vec<Arc<T>> {
        self.0.get().lock().all.clone()
    }

    /// In the child of a fork: the values belong to the parent.
    ///
    /// # Safety
    /// The same as for [`ForkReset::replace`].
    pub unsafe fn forget_all(&self) {
        // SAFETY: our caller makes the same promise.
        unsafe { self.0.replace(Mutex::new(Values::NONE)) };
    }
}

impl<T> Values<T> {
    const NONE: Self = Self {
        all: Vec::new(),
        free: Vec::new(),
    };
}

/// A thread's ownership of its value, until it is dropped.
pub struct Registered<T: 'static> {
    registry: &'static Registry<T>,
    value: Arc<T>,
}

impl<T> Deref for Registered<T> {
    type Target = T;

    #[inline(always)]
    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T> Drop for Registered<T> {
    fn drop(&mut self) {
        self.registry
            .0
            .get()
            .lock()
            .free
            .push(Arc::clone(&self.value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_goes_to_the_next_owner() {
        static REGISTRY: Registry<u32> = Registry::new();
        let (first, second) = (REGISTRY.register(|| 1), REGISTRY.register(|| 2));
        drop(first);
        let third = REGISTRY.register(|| 3);
        assert_eq!((*second, *third, REGISTRY.all().len()), (2, 1, 2));
    }
}
