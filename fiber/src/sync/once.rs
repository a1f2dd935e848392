//! Once: `fiber_once_t` and [`Once`].

use super::misuse;
use crate::clock::NEVER;
use crate::errno::Errno;
use crate::record::wait_queue::{Queue, STATE_SHIFT};
use crate::record::wait_reason::WaitReason;
use crate::sched::wait;
use crate::worker::current::on_fiber;
use core::sync::atomic::Ordering;

const NEW: u64 = 0;
const RUNNING: u64 = 1;
const DONE: u64 = 2;

/// `fiber_once_t`.
#[repr(C)]
pub(crate) struct RawOnce {
    queue: Queue,
}

/// Ends a run when dropped: the state becomes done, or new again if the run panicked.
struct Run<'a> {
    once: &'a RawOnce,
    then: u64,
}

impl Drop for Run<'_> {
    fn drop(&mut self) {
        let mut queue = self.once.queue.lock();
        queue.set_state(self.then);
        let all = queue.pop_all();
        drop(queue);
        all.wake();
    }
}

impl RawOnce {
    pub(crate) const fn new() -> RawOnce {
        RawOnce {
            queue: Queue::new(NEW),
        }
    }

    pub(crate) fn is_done(&self) -> bool {
        self.queue.word.load(Ordering::Acquire) >> STATE_SHIFT == DONE
    }

    /// Runs `f` unless it has run before. Returns when it has run.
    #[inline]
    pub(crate) fn call(&self, f: impl FnOnce()) -> Result<(), Errno> {
        let worker = on_fiber()?;
        while !self.is_done() {
            let mut queue = self.queue.lock();
            match queue.state() {
                NEW => {
                    queue.set_state(RUNNING);
                    drop(queue);
                    let mut run = Run {
                        once: self,
                        then: NEW,
                    };
                    f();
                    run.then = DONE;
                    return Ok(());
                }
                RUNNING => wait::wait(worker, queue, WaitReason::Once, 0, NEVER, || ())?,
                _ => {}
            }
        }
        Ok(())
    }
}

/// Runs a function once, on the first fiber that calls it.
pub struct Once {
    raw: RawOnce,
}

impl Once {
    /// Creates a `Once` that has not run.
    pub const fn new() -> Self {
        Once {
            raw: RawOnce::new(),
        }
    }

    /// Runs `f` unless it has run before. Returns when it has run. May park. If `f` panics, the
    /// next caller tries again.
    ///
    /// # Panics
    /// Panics off a fiber.
    #[track_caller]
    pub fn call_once(&self, f: impl FnOnce()) {
        if let Err(e) = self.raw.call(f) {
            misuse("Once::call_once", e);
        }
    }

    /// Returns whether the function has run.
    pub fn is_completed(&self) -> bool {
        self.raw.is_done()
    }
}

impl Default for Once {
    fn default() -> Self {
        Once::new()
    }
}
