//! fork on a fiber: the child goes on on that fiber alone.
//!
//! Invariant: in the child no other fiber of the parent ever runs. Their records are freed, so
//! joining one is `ESRCH`; their places in wait queues are passed over (the epoch tells); their
//! stacks stay as they are, for the surviving fiber may hold pointers into them. What another
//! thread could be changing at the moment of the fork is not read: other workers, and the values of
//! other fibers, are leaked.

use crate::fiber::Fiber;
use crate::spin::SpinLock;
use crate::worker::Worker;
use crate::{debug, key, slab, stack, tls};
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// How many forks on fibers lie between the first process and this one.
static EPOCH: AtomicU32 = AtomicU32::new(0);

#[inline(always)]
pub(crate) fn epoch() -> u32 {
    EPOCH.load(Ordering::Relaxed)
}

/// Held while a runtime is set up, which may do what is done once per process. The child may set
/// one up, too.
static STARTING: SpinLock<()> = SpinLock::new(());

/// Sets a runtime up, by `start`: no other thread does meanwhile, and none forks. Registers the
/// handlers the first time.
pub(crate) fn starting<R>(start: impl FnOnce() -> R) -> R {
    static INSTALLED: AtomicBool = AtomicBool::new(false);
    if !INSTALLED.swap(true, Ordering::Relaxed) {
        // SAFETY: the handlers do what is allowed in them: they take and release locks of ours.
        unsafe { libc::pthread_atfork(Some(before), Some(after), Some(in_child)) };
    }
    let _starting = STARTING.lock();
    start()
}

/// Takes the library's own locks, so that no other thread holds one in the child.
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
    let Some(worker) = tls::worker() else { return };
    // SAFETY: records are never unmapped.
    if let Some(me) = unsafe { worker.current.get().as_ref() } {
        go_on_alone(worker, me);
    }
}

/// Drops everything of the runtime but `me`, which runs on `worker`.
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
            // Whoever waited for it is not here: it may be joined again, or never is.
            if life.state() == crate::fiber::Life::JOINED {
                fiber
                    .life
                    .store(life.with(crate::fiber::Life::LIVE).0, Ordering::Relaxed);
            }
        } else if ours {
            fiber.timer.set(crate::fiber::NO_TIMER);
            // SAFETY: the fiber does not run in this process, so nobody else touches its values.
            // They are leaked, not dropped: another worker may have been changing them.
            unsafe { fiber.values.get().write(None) };
            worker.records.put(fiber);
        }
    });
}
