//! Standard error as the program was given it.
//!
//! A program may close descriptor 2 and open a file or a socket of its own under that number. So
//! the library remembers, before main, which file descriptor 2 is. Invariant: a message goes to
//! descriptor 2 only while it is still that file.

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use rustix::fs::{Stat, fstat};
use std::os::fd::RawFd;

const NUMBER: RawFd = 2;

/// Descriptor 2 was open at start, and which file it was.
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
    // SAFETY: borrowed for this call alone; a number that is not open gives EBADF.
    fstat(unsafe { std::os::fd::BorrowedFd::borrow_raw(NUMBER) }).ok()
}

/// The descriptor of standard error, or None when the program has closed it. May be called in a
/// signal handler.
pub(crate) fn descriptor() -> Option<RawFd> {
    let stat = look()?;
    let same = OPEN.load(Relaxed)
        && DEVICE.load(Relaxed) == stat.st_dev
        && INODE.load(Relaxed) == stat.st_ino;
    same.then_some(NUMBER)
}
