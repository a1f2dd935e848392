//! What each attached thread has one of, and the report at exit reads of all: kept here past the
//! thread, for the next one.
//!
//! Invariant: a value has at most one owner. It is never freed, and goes to a thread that attaches
//! later, which counts on where the other stopped: so a program that attaches threads again and
//! again takes no more memory than for those it has at a time.

use crate::critical::Mutex;
use crate::fork::Renewable;
use std::ops::Deref;
use std::sync::Arc;

pub struct Registry<T: 'static>(Renewable<Mutex<Values<T>>>);

struct Values<T> {
    all: Vec<Arc<T>>,
    /// Those whose thread is gone.
    free: Vec<Arc<T>>,
}

impl<T> Registry<T> {
    pub const fn new() -> Self {
        Self(Renewable::new(Mutex::new(Values::NONE)))
    }

    /// A value for the calling thread, made where none is free.
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

    /// Every value that ever had an owner.
    pub fn all(&self) -> Vec<Arc<T>> {
        self.0.get().lock().all.clone()
    }

    /// In the child of a fork: the parent's values are the parent's.
    ///
    /// # Safety
    /// As [`Renewable::renew`].
    pub unsafe fn forget_all(&self) {
        // SAFETY: vouched for by the caller.
        unsafe { self.0.renew(Mutex::new(Values::NONE)) };
    }
}

impl<T> Values<T> {
    const NONE: Self = Self {
        all: Vec::new(),
        free: Vec::new(),
    };
}

/// A thread's value, until it is dropped.
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
