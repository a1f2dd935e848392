//! fork on a fiber: the child continues with that fiber alone.
//!
//! Invariant: in the child, no other fiber of the parent ever runs. Their records are freed, so
//! joining one returns `ESRCH`. Wait queues skip their nodes, which they recognise by the epoch.
//! Their stacks stay mapped, because the surviving fiber may hold pointers into them. The child
//! does not read data that another thread may have been changing at the moment of the fork: it
//! leaks the other workers and the values of other fibers.

use crate::record::fiber::Fiber;
use crate::record::key;
use crate::record::slab;
use crate::record::stack;
use crate::report::dump as debug;
use crate::spin::SpinLock;
use crate::worker::current;
use crate::worker::state::Worker;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// The number of forks on fibers between the first process and this one.
static EPOCH: AtomicU32 = AtomicU32::new(0);

#[inline(always)]
pub(crate) fn epoch() -> u32 {
    EPOCH.load(Ordering::Relaxed)
}

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
    debug::NAMES.acquire();
}

extern "C" fn after() {
    debug::NAMES.release();
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
    if let Some(me) = unsafe { worker.current.get().as_ref() } {
        go_on_alone(worker, me);
    }
}

/// Drops all parts of the runtime except `me`, which runs on `worker`.
fn go_on_alone(worker: &Worker, me: &Fiber) {
    EPOCH.fetch_add(1, Ordering::Relaxed);
    worker.runtime().reduce_to(worker);
    worker.ready.clear();
    worker.fresh.forget();
    worker.starved.set(false);
    worker.remote.share.set_started(1);
    worker.turns.set_left(0);
    worker.timers.borrow_mut().forget();
    worker.remote.inbox.forget();
    worker.remote.cancels.forget();
    worker.remote.wakers.store(0, Ordering::Relaxed);
    worker.remote.tid.store(
        rustix::thread::gettid().as_raw_nonzero().get(),
        Ordering::Relaxed,
    );
    slab::for_each(|fiber, life| {
        let ours = core::ptr::eq(fiber.runtime.load(Ordering::Relaxed), worker.runtime);
        if core::ptr::eq(fiber, me) {
            // The fiber that was joining it does not exist in the child, so it may be joined again.
            if life.state() == crate::record::fiber::Life::JOINED {
                fiber.life.store(
                    life.with(crate::record::fiber::Life::LIVE).0,
                    Ordering::Relaxed,
                );
            }
        } else if ours {
            fiber.timer.set(crate::record::fiber::NO_TIMER);
            // SAFETY: the fiber does not run in this process, so no other code touches its values.
            // They are leaked and not dropped, because another worker may have been changing them.
            unsafe { fiber.values.get().write(None) };
            worker.records.put(fiber);
        }
    });
}
