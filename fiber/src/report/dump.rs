//! The list of fibers that `fiber_dump` and the deadlock report write: one line per fiber.
//!
//! Invariant: nothing here changes a fiber. Reports may be wrong about fibers of other workers,
//! because these run during the report.

use crate::output::Out;
use crate::record::fiber::{Fiber, Handle, Life};
use crate::record::name::{self, Printable};
use crate::record::slab;
use crate::record::wait_queue::{LOCKED, Queue, WAITERS};
use crate::record::wait_reason::WaitReason;
use crate::worker::current;
use crate::worker::runtime::Runtime;
use crate::worker::state::Worker;
use core::fmt::Write;
use core::ptr::null;
use core::sync::atomic::Ordering;
use std::os::fd::RawFd;

/// Returns whether the record belongs to a fiber of `runtime` that has not ended.
pub(crate) fn is_live_in(fiber: &Fiber, life: Life, runtime: *const Runtime) -> bool {
    matches!(life.state(), Life::LIVE | Life::DETACHED | Life::JOINED)
        && (runtime.is_null() || fiber.is_of(runtime))
}

/// Writes one line per live fiber of the caller's runtime to `fd`. On a thread that is not a
/// worker, covers all runtimes.
pub(crate) fn dump(fd: RawFd) {
    let mut out = Out::new(fd);
    let here = current::worker();
    let runtime = here.map_or(null(), |w| core::ptr::from_ref(w.runtime()));
    slab::for_each(|fiber, life| {
        if is_live_in(fiber, life, runtime) {
            write_line(&mut out, here, fiber);
        }
    });
}

/// Writes the line of one fiber, as `worker` sees it.
pub(crate) fn line(out: &mut Out, worker: &Worker, fiber: &Fiber) {
    write_line(out, Some(worker), fiber);
}

fn write_line(out: &mut Out, here: Option<&Worker>, fiber: &Fiber) {
    name::write_title(out, fiber);
    let home = fiber.worker();
    // SAFETY: the worker of a live fiber exists.
    match unsafe { home.as_ref() } {
        None => {
            let _ = writeln!(out, ": not started");
            return;
        }
        Some(home) => {
            let _ = write!(out, ", worker {}: ", home.index());
        }
    }
    let mine = here.filter(|w| core::ptr::eq(*w, home));
    let reason = fiber.wait_reason();
    let _ = match reason {
        WaitReason::Nothing if mine.is_some_and(|w| core::ptr::eq(w.current(), fiber)) => {
            writeln!(out, "running")
        }
        WaitReason::Nothing => writeln!(out, "ready"),
        WaitReason::Sleep => writeln!(out, "asleep"),
        WaitReason::Shim => {
            let mut buf = [0; 64];
            let text = match mine.and_then(|w| w.shim()) {
                Some(shim) => shim.describe(fiber, &mut buf),
                None => &[],
            };
            match text {
                [] => writeln!(out, "waits in the shim"),
                text => writeln!(out, "waits in {}", Printable(text)),
            }
        }
        WaitReason::Join => {
            // SAFETY: the target of a join is a record, and records are never unmapped.
            let target = unsafe { &*(fiber.waits_on.load(Ordering::Relaxed) as *const Fiber) };
            writeln!(
                out,
                "waits for fiber {} to end",
                target.id.load(Ordering::Relaxed)
            )
        }
        WaitReason::Mutex => {
            let at = fiber.waits_on.load(Ordering::Relaxed);
            // The mutex is sure to exist only while the fiber is parked, which we know only for
            // fibers of this worker.
            let owner = mine.and_then(|_| owner(at as *const Queue));
            match owner {
                Some(owner) => writeln!(out, "waits for mutex {at:#x}, held by fiber {owner}"),
                None => writeln!(out, "waits for mutex {at:#x}"),
            }
        }
        _ => writeln!(
            out,
            "waits for {} {:#x}",
            object(reason),
            fiber.waits_on.load(Ordering::Relaxed)
        ),
    };
}

/// Returns the id of the fiber that holds the mutex at `queue`, if any.
fn owner(queue: *const Queue) -> Option<u64> {
    // SAFETY: the caller has seen a fiber of this worker wait for the mutex, and that fiber has not
    // run since.
    let word = unsafe { (*queue).word.load(Ordering::Relaxed) };
    slab::find(Handle(word & !(LOCKED | WAITERS))).map(|f| f.id.load(Ordering::Relaxed))
}

fn object(reason: WaitReason) -> &'static str {
    match reason {
        WaitReason::Mutex => "mutex",
        WaitReason::Cond => "condition variable",
        WaitReason::Semaphore => "semaphore",
        WaitReason::ReadLock => "read-write lock to read",
        WaitReason::WriteLock => "read-write lock to write",
        WaitReason::Barrier => "barrier",
        WaitReason::Once => "once",
        WaitReason::Nothing | WaitReason::Join | WaitReason::Sleep | WaitReason::Shim => "",
    }
}
