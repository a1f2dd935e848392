//! fork on a fiber: the child continues with that fiber alone.
//!
//! Invariant: in the child, no other fiber of the parent ever runs. Their records are freed, so
//! joining one returns `ESRCH`. Wait queues skip their nodes, which they recognise by the epoch.
//! Their stacks stay mapped, because the surviving fiber may hold pointers into them. The child
//! does not read data that another thread may have been changing at the moment of the fork: it
//! leaks the other workers and the values of other fibers.

use crate::record::fiber::{Fiber, Life, NO_TIMER};
use crate::record::{epoch, key, name, slab, stack};
use crate::spin::SpinLock;
use crate::worker::current;
use crate::worker::state::Worker;
use core::sync::atomic::{AtomicBool, Ordering};

/// Held while a runtime is set up, which may include work that is done once per process. The child
/// may set up a runtime too.
static STARTING: SpinLock<()> = SpinLock::new(());

/// Calls `start` to set up a runtime. No other thread sets one up or forks during the call. The
/// first call registers the fork handlers.
pub(crate) fn starting<R>(start: impl FnOnce() -> R) -> R {
    static INSTALLED: AtomicBool = AtomicBool::new(false);
    if !INSTALLED.swap(true, Ordering::Relaxed) {
        // SAFETY: the handlers only take and release our own locks, which is allowed in fork
        // handlers.
        unsafe { libc::pthread_atfork(Some(before), Some(after), Some(in_child)) };
    }
    let _starting = STARTING.lock();
    start()
}

/// Takes the library's own locks, so no other thread holds one of them in the child.
extern "C" fn before() {
    STARTING.acquire();
    slab::SPARE.acquire();
    stack::acquire_spare();
    key::acquire();
    name::NAMES.acquire();
}

extern "C" fn after() {
    name::NAMES.release();
    key::release();
    stack::release_spare();
    slab::SPARE.release();
    STARTING.release();
}

extern "C" fn in_child() {
    after();
    let Some(worker) = current::worker() else {
        return;
    };
    // SAFETY: records are never unmapped.
    if let Some(me) = unsafe { worker.current().as_ref() } {
        continue_alone(worker, me);
    }
}

/// Drops all parts of the runtime except `me`, which runs on `worker`.
fn continue_alone(worker: &Worker, me: &Fiber) {
    epoch::advance();
    worker.runtime().reset_after_fork(worker);
    worker.reset_after_fork();
    slab::for_each(|fiber, life| {
        if core::ptr::eq(fiber, me) {
            // The fiber that was joining it does not exist in the child, so it may be joined again.
            if life.state() == Life::JOINED {
                fiber.life.store(life.with(Life::LIVE).0, Ordering::Relaxed);
            }
        } else if fiber.is_of(worker.runtime()) {
            fiber.timer.set(NO_TIMER);
            // SAFETY: the fiber does not run in this process, so no other code touches its values.
            // They are leaked and not dropped, because another worker may have been changing them.
            unsafe { fiber.locals.forget() };
            worker.records().put(fiber);
        }
    });
}
