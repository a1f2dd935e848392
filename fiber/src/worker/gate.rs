//! The gate before a runtime's first fiber: no fiber runs until all workers are ready.
//!
//! When a worker attaches to the shim, it opens descriptors of its own. Each of them has a low
//! number for a moment. If a fiber ran at that moment, closed descriptor 2 and opened a file in its
//! place, the file would get another number.

use core::sync::atomic::{AtomicU32, Ordering};
use rustix::thread::futex;

pub(crate) struct Gate {
    /// The number of workers that are not ready yet. The workers sleep on it as a futex until it is
    /// zero.
    missing: AtomicU32,
}

impl Gate {
    pub(crate) fn new(workers: usize) -> Self {
        Self {
            missing: AtomicU32::new(u32::try_from(workers).unwrap_or(u32::MAX)),
        }
    }

    /// Marks the calling worker as ready and waits for the others.
    pub(crate) fn pass(&self) {
        let one_less = |missing: u32| missing.checked_sub(1);
        if self
            .missing
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, one_less)
            == Ok(1)
        {
            return self.open();
        }
        loop {
            match self.missing.load(Ordering::Acquire) {
                0 => break,
                // A signal may end the wait, or the value may have changed before it began. Check
                // again.
                missing => drop(futex::wait(
                    &self.missing,
                    futex::Flags::PRIVATE,
                    missing,
                    None,
                )),
            }
        }
    }

    /// Lets all workers through, now and later, because another worker could not be started.
    pub(crate) fn open(&self) {
        self.missing.store(0, Ordering::Release);
        let _ = futex::wake(&self.missing, futex::Flags::PRIVATE, u32::MAX >> 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::sync::atomic::AtomicUsize;

    #[test]
    fn no_worker_passes_before_all_are_ready() {
        let (gate, ready) = (Gate::new(4), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    ready.fetch_add(1, Ordering::Relaxed);
                    gate.pass();
                    assert_eq!(ready.load(Ordering::Relaxed), 4);
                });
            }
        });
    }

    #[test]
    fn an_open_gate_lets_fewer_through() {
        let gate = Gate::new(3);
        std::thread::scope(|scope| {
            scope.spawn(|| gate.pass());
            gate.open();
        });
        gate.pass();
    }
}
