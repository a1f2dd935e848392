//! The standard error that the program was started with: the destination of messages without
//! `AIOSHIM_OUT`.
//!
//! A program may close descriptor 2 and open a file or a socket of its own under that number.
//! Therefore start-up remembers which file descriptor 2 is. Invariant: a message is written to a
//! descriptor only while that descriptor is this file.

use crate::state::descriptors;
use std::ffi::c_int;
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering::Relaxed};

/// The values that identify a file.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Identity {
    device: libc::dev_t,
    inode: libc::ino_t,
}

impl Identity {
    fn of(fd: c_int) -> Option<Self> {
        let stat = sys::fstat(fd).ok()?;
        Some(Self {
            device: stat.st_dev,
            inode: stat.st_ino,
        })
    }
}

/// The device and the inode of descriptor 2 at start-up. No file has the inode 0: descriptor 2 was
/// closed.
static DEVICE: AtomicU64 = AtomicU64::new(0);
static INODE: AtomicU64 = AtomicU64::new(0);

fn original() -> Option<Identity> {
    let inode = INODE.load(Relaxed);
    (inode != 0).then(|| Identity {
        device: DEVICE.load(Relaxed),
        inode,
    })
}

/// A duplicate of it for the report at exit; -1 if there is none.
static DUPLICATE: AtomicI32 = AtomicI32::new(-1);

/// Remembers which file standard error is. Start-up calls this before the program runs.
pub fn remember() {
    if let Some(identity) = Identity::of(libc::STDERR_FILENO) {
        DEVICE.store(identity.device, Relaxed);
        INODE.store(identity.inode, Relaxed);
    }
}

/// Keeps a duplicate of standard error for the report at exit, because many programs have closed
/// theirs by then. Keeps none if no high descriptor number is free.
pub fn keep() {
    descriptors::init();
    if original().is_some()
        && let Some(duplicate) = sys::duplicate_out_of_the_way(libc::STDERR_FILENO)
    {
        descriptors::mark_shim_owned(duplicate, true);
        DUPLICATE.store(duplicate, Relaxed);
    }
}

/// Whether `fd` is the duplicate. The child of a fork keeps it for its own report.
pub fn is_duplicate(fd: c_int) -> bool {
    DUPLICATE.load(Relaxed) == fd
}

/// Writes `text` to standard error. Writes nothing if the program has closed it and there is no
/// duplicate.
pub fn write(text: &[u8]) {
    let Some(original) = original() else {
        return;
    };
    let candidates = [DUPLICATE.load(Relaxed), libc::STDERR_FILENO];
    let found = candidates
        .into_iter()
        .find(|fd| Identity::of(*fd) == Some(original));
    if let Some(fd) = found {
        sys::write_all(fd, text);
    }
}
