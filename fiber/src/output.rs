//! The program's original standard error.
//!
//! A program may close descriptor 2 and open a file or a socket of its own under that number.
//! Therefore the library records before main which file descriptor 2 refers to. Invariant: a
//! message is written to descriptor 2 only while it still refers to that file.

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use rustix::fs::{Stat, fstat};
use std::os::fd::RawFd;

const NUMBER: RawFd = 2;

/// Whether descriptor 2 was open at start; the two statics below identify its file.
static OPEN: AtomicBool = AtomicBool::new(false);
static DEVICE: AtomicU64 = AtomicU64::new(0);
static INODE: AtomicU64 = AtomicU64::new(0);

#[ctor::ctor(unsafe)]
fn remember() {
    if let Some(stat) = look() {
        DEVICE.store(stat.st_dev, Relaxed);
        INODE.store(stat.st_ino, Relaxed);
        OPEN.store(true, Relaxed);
    }
}

fn look() -> Option<Stat> {
    // SAFETY: the descriptor is borrowed for this call only; if it is not open, fstat returns
    // EBADF.
    fstat(unsafe { std::os::fd::BorrowedFd::borrow_raw(NUMBER) }).ok()
}

/// Returns the descriptor of standard error, or None if the program has closed it.
/// Async-signal-safe.
pub(crate) fn descriptor() -> Option<RawFd> {
    let stat = look()?;
    let same = OPEN.load(Relaxed)
        && DEVICE.load(Relaxed) == stat.st_dev
        && INODE.load(Relaxed) == stat.st_ino;
    same.then_some(NUMBER)
}
