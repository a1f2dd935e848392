//! The deadlock report: if every fiber waits and nothing can wake one, it lists what each fiber
//! waits for and aborts.
//!
//! Invariant: it never reports while another thread could still post. All workers must be idle,
//! with no timer set and nothing in flight in the shim except waits for locks, and the process must
//! have no other thread, because that thread could post. After these checks, in this order, no
//! wake-up may be on its way and no worker may have woken since.

use super::dump;
use crate::output::Out;
use crate::record::slab;
use crate::sched::idle::Checked;
use crate::worker::state::Worker;
use core::fmt::Write;
use core::mem::MaybeUninit;
use core::sync::atomic::{AtomicBool, Ordering};
use rustix::fs::{Mode, OFlags, RawDir};

/// The maximum number of fibers that a report lists.
const LISTED: usize = 100;

/// Checks whether this runtime is in a deadlock. If it is, reports it and does not return.
#[cold]
pub(crate) fn check(worker: &Worker) -> Checked {
    let runtime = worker.runtime();
    let workers = runtime.workers();
    let Some(mark) = runtime.idle().all_asleep(workers.len()) else {
        return Checked::NoDeadlock;
    };
    if has_other_threads(workers) || !worker.waits_for_others_only() {
        return Checked::NoDeadlock;
    }
    // A worker that takes a wake-up out of the shim counts as idle for another moment, but does not
    // sleep in the shim any more.
    let others = || {
        workers
            .iter()
            .filter(|other| !core::ptr::eq(*other, worker))
    };
    if !others().all(|other| other.remote().is_asleep_in_shim()) {
        return Checked::TooEarly;
    }
    let on_its_way = workers
        .iter()
        .any(|w| !w.remote().inbox().is_empty() || w.remote().cancel_requests().has_any())
        || runtime.has_unstarted();
    if on_its_way || runtime.is_done() || runtime.idle().all_asleep(workers.len()) != Some(mark) {
        return Checked::NoDeadlock;
    }
    // Several workers may have found the deadlock. One reports it; the others sleep until it aborts
    // the process.
    static REPORTED: AtomicBool = AtomicBool::new(false);
    if REPORTED.swap(true, Ordering::Relaxed) {
        return Checked::NoDeadlock;
    }
    report(worker);
    // SAFETY: abort only ends the process.
    unsafe { libc::abort() }
}

fn report(worker: &Worker) {
    let mut out = Out::to_stderr();
    let runtime = worker.runtime();
    let live = runtime.live();
    let _ = writeln!(
        out,
        "fiber: deadlock: {live} fibers wait, and nothing can wake any of them"
    );
    let mut seen = 0;
    slab::for_each(|fiber, life| {
        if dump::is_live_in(fiber, life, runtime) {
            seen += 1;
            if seen <= LISTED {
                dump::line(&mut out, worker, fiber);
            }
        }
    });
    if seen > LISTED {
        let _ = writeln!(out, "fiber: and {} more", seen - LISTED);
    }
}

/// Returns whether the process has threads other than the workers of this runtime and the helper
/// threads of the kernel and the shim. Those helpers act only for operations in flight. Returns
/// true if it cannot tell.
fn has_other_threads(workers: &[Worker]) -> bool {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let Ok(dir) = rustix::fs::open(c"/proc/self/task", flags, Mode::empty()) else {
        return true;
    };
    let mut buf = [MaybeUninit::uninit(); 2048];
    let mut entries = RawDir::new(&dir, &mut buf);
    let mut others = false;
    while let Some(entry) = entries.next() {
        let Ok(entry) = entry else { return true };
        let Some(tid) = entry
            .file_name()
            .to_str()
            .ok()
            .and_then(|s| s.parse::<i32>().ok())
        else {
            continue;
        };
        let ours = workers.iter().any(|w| w.remote().tid() == tid);
        others |= !ours && !is_helper(&dir, tid);
    }
    // Rustix closes `dir` by libc's `close`. That is safe here, because the scheduler does not run
    // on a fiber.
    others
}

fn is_helper(task: &impl std::os::fd::AsFd, tid: i32) -> bool {
    let path = format!("{tid}/comm");
    let Ok(file) = rustix::fs::openat(task, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
    else {
        return true; // The thread has just ended.
    };
    let mut name = [0; 16];
    let len = rustix::io::read(&file, &mut name).unwrap_or(0);
    name[..len].starts_with(b"iou-") || name[..len].starts_with(b"aioshim")
}
