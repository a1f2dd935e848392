//! Sets up a ring. Features are tried rather than assumed, because the kernel may refuse any of
//! them.
//!
//! EINVAL leads to fewer flags and ENOMEM to smaller queues (rings count against RLIMIT_MEMLOCK). A
//! no-op must pass through the ring before it is used, because some seccomp filters allow
//! io_uring_setup and deny io_uring_enter.

use crate::state::descriptors;
use io_uring::{IoUring, Probe, opcode};
use rustix::event::{EventfdFlags, eventfd};
use std::ffi::c_int;
use std::os::fd::{AsRawFd, IntoRawFd};
use sys::errno::Errno;

/// Submission and completion queue lengths, tried in order while memory is short. The kernel keeps
/// completions beyond the queue's length in a list (IORING_FEAT_NODROP), so the length limits speed
/// but not the number of in-flight operations.
const QUEUE_DEPTHS: [(u32, u32); 5] = [(256, 4096), (128, 1024), (64, 256), (32, 64), (8, 16)];

/// Creates the ring with the most features that the kernel grants this thread.
pub fn build() -> Result<IoUring, Errno> {
    let mut error = Errno::INVAL;
    for (submissions, completions) in QUEUE_DEPTHS {
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

/// Each level adds the flags of a later kernel: SUBMIT_ALL (5.18), COOP_TASKRUN with its flag
/// (5.19), SINGLE_ISSUER and DEFER_TASKRUN (6.1), NO_SQARRAY (6.6).
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

/// Passes one no-op through the whole ring.
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

/// Moves the ring to a descriptor number that programs do not use by value, and marks the
/// descriptor as owned by the shim. EMFILE if no such number is free.
fn adopt(ring: IoUring) -> Result<IoUring, Errno> {
    let fd = ring.as_raw_fd();
    descriptors::mark_shim_owned(fd, true);
    let params = ring.params().clone();
    let Some(high) = sys::duplicate_out_of_the_way(fd) else {
        descriptors::disown(fd);
        return Err(Errno::MFILE);
    };
    descriptors::mark_shim_owned(high, true);
    // SAFETY: `high` refers to a ring that was made with these parameters, and only this function
    // uses it.
    match unsafe { IoUring::from_fd(high, params) } {
        Ok(moved) => {
            if descriptors::still_is(fd, high) {
                descriptors::disown(fd);
                drop(ring);
            } else {
                // Another thread has closed the number. Only the mappings remain, and unmapping
                // them is not worth the risk of closing a reused number.
                std::mem::forget(ring);
            }
            Ok(moved)
        }
        Err(error) => {
            descriptors::disown(high);
            let _ = sys::close(high);
            descriptors::disown(fd);
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

/// Creates an eventfd that the kernel writes to at each completion. The ring's own descriptor does
/// not work: if completions are deferred to the submitter, it becomes readable only once the
/// submitter looks for them.
pub fn ready_descriptor(ring: &IoUring) -> Option<c_int> {
    let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
    let ready = descriptors::adopt(eventfd(0, flags).ok()?.into_raw_fd()).ok()?;
    if ring.submitter().register_eventfd(ready).is_ok() {
        return Some(ready);
    }
    descriptors::disown(ready);
    let _ = sys::close(ready);
    None
}

/// Applies optional settings that make a ring run better. The kernel may refuse them without harm.
pub fn settle(ring: &IoUring) {
    // Each open, sync or throttled write blocks a kernel worker thread. The default limit is 4
    // workers per CPU, and a FIFO that no peer opens must not delay later operations. The kernel
    // only creates workers while all existing ones are blocked.
    let _ = ring
        .submitter()
        .register_iowq_max_workers(&mut [KERNEL_THREADS, 0]);
}

const KERNEL_THREADS: u32 = 512;
