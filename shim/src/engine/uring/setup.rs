//! Sets up a ring. Features are tried rather than assumed, because the kernel may refuse any of
//! them.
//!
//! EINVAL leads to fewer flags and ENOMEM to smaller queues (rings count against RLIMIT_MEMLOCK). A
//! no-op must pass through the ring before it is used, because some seccomp filters allow
//! io_uring_setup and deny io_uring_enter.

use super::window;
use crate::state::descriptors;
use io_uring::{IoUring, Probe, opcode};
use rustix::event::{EventfdFlags, eventfd};
use rustix::io_uring::{IoringSetupFlags as Flags, io_uring_params, io_uring_setup};
use std::ffi::c_int;
use std::os::fd::IntoRawFd;
use sys::errno::Errno;

/// Submission and completion queue lengths, tried in order while memory is short. The kernel keeps
/// completions beyond the queue's length in a list (IORING_FEAT_NODROP), so the length limits speed
/// but not the number of in-flight operations.
const QUEUE_DEPTHS: [(u32, u32); 5] = [(256, 4096), (128, 1024), (64, 256), (32, 64), (8, 16)];

/// Creates the ring with the most features that the kernel grants this thread.
pub fn build() -> Result<IoUring, Errno> {
    let mut error = Errno::INVAL;
    for (submissions, completions) in QUEUE_DEPTHS {
        for added in (0..=FLAGS.len()).rev() {
            let mut params = io_uring_params::default();
            params.cq_entries = completions;
            params.flags = Flags::CQSIZE | Flags::CLAMP;
            params.flags |= FLAGS[..added].iter().copied().collect::<Flags>();
            // SAFETY: no parameter names a descriptor.
            let ring = unsafe { io_uring_setup(submissions, &mut params) }
                .map_err(|error| Errno(error.raw_os_error()))
                .and_then(|fd| map(descriptors::adopt(fd.into_raw_fd())?, params));
            match ring {
                Ok(ring) => return Ok(ring),
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

/// The flags that later kernels have added: in 5.18, 5.19, 6.1 and 6.6.
const FLAGS: [Flags; 4] = [
    Flags::SUBMIT_ALL,
    Flags::COOP_TASKRUN.union(Flags::TASKRUN_FLAG),
    Flags::SINGLE_ISSUER.union(Flags::DEFER_TASKRUN),
    Flags::NO_SQARRAY,
];

/// Maps the queues of the ring `fd`, which is the shim's. The ring is mapped only now, because the
/// crate's own constructor would map it before it has moved to its final number.
pub fn map(fd: c_int, params: io_uring_params) -> Result<IoUring, Errno> {
    // SAFETY: `fd` refers to a ring that was made with these parameters, and only the result uses
    // it.
    unsafe { IoUring::from_fd(fd, window::crate_parameters(params)) }.map_err(|error| {
        // The crate calls close(3), which is a hook that closes no descriptor of the shim. It has
        // closed the descriptor only if its number is too high to be marked.
        if descriptors::is_shim_owned(fd) {
            descriptors::disown(fd);
            let _ = sys::close(fd);
        }
        error.into()
    })
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
