//! Making a ring: what the kernel may refuse is tried, not assumed.
//!
//! Fewer flags on EINVAL, smaller queues on ENOMEM (rings count against RLIMIT_MEMLOCK), and one
//! no-op goes through before the ring is trusted, for seccomp filters that allow io_uring_setup and
//! deny io_uring_enter.

use crate::errno::Errno;
use crate::{fds, sys};
use io_uring::{IoUring, Probe, opcode};
use rustix::event::{EventfdFlags, eventfd};
use std::ffi::c_int;
use std::os::fd::{AsRawFd, IntoRawFd};

/// Submission and completion queue lengths, tried in turn while there is no memory. Past the
/// completion queue's length the kernel keeps completions in a list (IORING_FEAT_NODROP), so it
/// bounds speed, not operations in flight.
const SIZES: [(u32, u32); 5] = [(256, 4096), (128, 1024), (64, 256), (32, 64), (8, 16)];

/// The richest ring that the kernel grants this thread.
pub fn build() -> Result<IoUring, Errno> {
    let mut error = Errno::INVAL;
    for (submissions, completions) in SIZES {
        for richness in (0..FLAG_SETS).rev() {
            let mut builder = IoUring::builder();
            builder.setup_cqsize(completions).setup_clamp();
            set_flags(&mut builder, richness);
            match builder.build(submissions).map_err(Errno::from) {
                Ok(ring) => return adopt(ring),
                Err(e @ Errno::INVAL) => error = e,
                Err(e @ Errno::NOMEM) => {
                    error = e;
                    break;
                }
                Err(e) => return Err(e),
            }
        }
    }
    Err(error)
}

const FLAG_SETS: u32 = 5;

/// Each set adds what a later kernel brought: SUBMIT_ALL (5.18), COOP_TASKRUN with its flag (5.19),
/// SINGLE_ISSUER and DEFER_TASKRUN (6.1), NO_SQARRAY (6.6).
fn set_flags(builder: &mut io_uring::Builder, richness: u32) {
    if richness >= 1 {
        builder.setup_submit_all();
    }
    if richness >= 2 {
        builder.setup_coop_taskrun().setup_taskrun_flag();
    }
    if richness >= 3 {
        builder.setup_single_issuer().setup_defer_taskrun();
    }
    if richness >= 4 {
        builder.setup_no_sqarray();
    }
}

/// One no-op through the whole ring.
pub fn prove(ring: &mut IoUring) -> Result<(), Errno> {
    // SAFETY: a no-op refers to no memory.
    if unsafe { ring.submission().push(&opcode::Nop::new().build()) }.is_err() {
        return Err(Errno::INVAL);
    }
    while ring.completion().is_empty() {
        match ring.submit_and_wait(1).map_err(Errno::from) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
    ring.completion().next();
    Ok(())
}

/// The same ring under a number that is out of the program's way, marked as ours; EMFILE when no
/// such number is free.
fn adopt(ring: IoUring) -> Result<IoUring, Errno> {
    let fd = ring.as_raw_fd();
    fds::mark_ours(fd, true);
    let params = ring.params().clone();
    let Some(high) = sys::duplicate_out_of_the_way(fd) else {
        fds::disown(fd);
        return Err(Errno::MFILE);
    };
    fds::mark_ours(high, true);
    // SAFETY: `high` is a ring that was made with these parameters, and nobody else's.
    match unsafe { IoUring::from_fd(high, params) } {
        Ok(moved) => {
            if fds::still_is(fd, high) {
                fds::disown(fd);
                drop(ring);
            } else {
                // Closed by number, by another thread: its mappings are all that is left, and not
                // worth the risk.
                std::mem::forget(ring);
            }
            Ok(moved)
        }
        Err(error) => {
            fds::disown(high);
            let _ = sys::close(high);
            fds::disown(fd);
            Err(error.into())
        }
    }
}

/// Whether the kernel has IORING_OP_FUTEX_WAIT and IORING_OP_FUTEX_WAITV (6.7).
pub fn has_futexes(ring: &IoUring) -> bool {
    let mut probe = Probe::new();
    let asked = ring.submitter().register_probe(&mut probe).is_ok();
    asked
        && probe.is_supported(opcode::FutexWait::CODE)
        && probe.is_supported(opcode::FutexWaitV::CODE)
}

/// An eventfd that the kernel writes to at each completion. The ring's own descriptor will not do:
/// where completions are deferred to the submitter it becomes readable only once that looks for
/// them.
pub fn ready_descriptor(ring: &IoUring) -> Option<c_int> {
    let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
    let ready = fds::adopt(eventfd(0, flags).ok()?.into_raw_fd()).ok()?;
    if ring.submitter().register_eventfd(ready).is_ok() {
        return Some(ready);
    }
    fds::disown(ready);
    let _ = sys::close(ready);
    None
}

/// What makes a ring run better and may be refused without harm.
pub fn settle(ring: &IoUring) {
    // Opens, syncs and throttled writes block a kernel thread each; the default bound is 4 a CPU,
    // and a FIFO that nobody opens from the other side must not keep later ones waiting. Threads
    // are only made while all are blocked.
    let _ = ring
        .submitter()
        .register_iowq_max_workers(&mut [KERNEL_THREADS, 0]);
}

const KERNEL_THREADS: u32 = 512;
