//! Creating, joining and detaching fibers.
//!
//! Invariant: every change of a fiber's [`Life`] is one compare-and-swap that also checks the
//! generation. Therefore exactly one of ending, joining and detaching comes first, and a stale
//! handle changes nothing. The one that moves a fiber to TAKEN, or finds it ENDED, frees its record
//! exactly once.

use super::switching;
use crate::errno::Errno;
use crate::record::fiber::{Entry, Fiber, Handle, Life, NAME_LEN};
use crate::record::slab;
use crate::record::stack::Class;
use crate::record::wait_reason::WaitReason;
use crate::worker::current;
use crate::worker::state::Worker;
use core::ffi::c_void;
use core::ptr::{null, null_mut};
use core::sync::atomic::{AtomicU64, Ordering};

/// The number of fibers created since the process began.
static CREATED: AtomicU64 = AtomicU64::new(0);

/// The parameters of a new fiber.
pub(crate) struct Spec {
    pub class: Class,
    pub name: [u8; NAME_LEN],
    pub detached: bool,
    /// Whether other workers must not take it.
    pub pinned: bool,
    /// Whether it is a Rust fiber, which unwinds when it is cancelled.
    pub unwinds: bool,
}

/// Creates a fiber in `worker`'s runtime and queues it to run. Returns `EAGAIN` if memory runs out.
#[inline]
pub(crate) fn create(
    worker: &Worker,
    spec: &Spec,
    entry: Entry,
    arg: *mut c_void,
) -> Result<Handle, Errno> {
    let record = worker.records().take();
    // SAFETY: records are never unmapped, and a free record belongs to the worker that took it.
    let Some(fiber) = (unsafe { record.as_ref() }) else {
        return Err(Errno::EAGAIN);
    };
    let runtime = worker.runtime();
    fiber.sp.set(null_mut());
    fiber.set_worker(None);
    fiber.class.set(spec.class);
    fiber.clear_wait_reason();
    fiber.cancellation.reset(spec.unwinds);
    fiber.entry.set(entry);
    fiber.arg.set(arg);
    fiber.set_runtime(runtime);
    fiber.id.store(
        CREATED.fetch_add(1, Ordering::Relaxed) + 1,
        Ordering::Relaxed,
    );
    // SAFETY: no other thread knows the fiber yet.
    unsafe { *fiber.name.get() = spec.name };
    let life = fiber.life().with(if spec.detached {
        Life::DETACHED
    } else {
        Life::LIVE
    });
    fiber.life.store(life.0, Ordering::Release);
    let name = fiber.handle();
    runtime.count_new();
    // SAFETY: the fiber has never run and is in no list.
    unsafe {
        worker
            .unstarted()
            .push(record, spec.pinned || runtime.is_single())
    };
    if !spec.pinned {
        runtime.offer(worker);
    }
    Ok(name)
}

/// Waits for the fiber `name` to end, frees it and returns its result. Call it on a fiber of
/// `worker`.
#[inline]
pub(crate) fn join(worker: &Worker, name: Handle) -> Result<*mut c_void, Errno> {
    let me = worker.running();
    me.cancellation.check()?;
    let fiber = name.record().ok_or(Errno::ESRCH)?;
    loop {
        let life = fiber.life();
        if !life.is(name) {
            return Err(Errno::ESRCH);
        }
        if core::ptr::eq(fiber, me) {
            return Err(Errno::EDEADLK);
        }
        match life.state() {
            Life::ENDED => {
                if fiber.change_life(life, life.with(Life::TAKEN)) {
                    break;
                }
            }
            Life::LIVE => {
                if waits_for(me, fiber) {
                    return Err(Errno::EDEADLK);
                }
                me.set_wait_reason(WaitReason::Join, (&raw const *fiber).cast());
                let mine = life.joined_by(me);
                if !fiber.change_life(life, mine) {
                    me.clear_wait_reason();
                    continue;
                }
                // Two fibers that join each other at the same moment on two workers both get here,
                // and at least one of them sees it.
                if waits_for(me, fiber) && fiber.change_life(mine, life) {
                    me.clear_wait_reason();
                    return Err(Errno::EDEADLK);
                }
                me.waiter.set(null());
                switching::park_until_ended(worker, fiber);
                if !me.waiter.replace(null()).is_null() {
                    return Err(Errno::ECANCELED);
                }
                break;
            }
            // The fiber is detached, or another fiber is joining it.
            _ => return Err(Errno::EINVAL),
        }
    }
    let result = fiber.result.get();
    worker.records().put(fiber);
    Ok(result)
}

/// Returns whether `other` is parked in a join of `me`.
fn waits_for(me: &Fiber, other: &Fiber) -> bool {
    let life = Life(me.life.load(Ordering::SeqCst));
    life.state() == Life::JOINED && core::ptr::eq(life.joiner(), other)
}

/// Makes the fiber `name` free itself when it ends. Callable from any thread.
pub(crate) fn detach(name: Handle) -> Result<(), Errno> {
    let fiber = name.record().ok_or(Errno::ESRCH)?;
    loop {
        let life = fiber.life();
        if !life.is(name) {
            return Err(Errno::ESRCH);
        }
        match life.state() {
            Life::LIVE => {
                if fiber.change_life(life, life.with(Life::DETACHED)) {
                    return Ok(());
                }
            }
            Life::ENDED => {
                if fiber.change_life(life, life.with(Life::TAKEN)) {
                    match current::worker() {
                        Some(worker) => worker.records().put(fiber),
                        None => slab::SPARE.put(fiber),
                    }
                    return Ok(());
                }
            }
            _ => return Err(Errno::EINVAL),
        }
    }
}
