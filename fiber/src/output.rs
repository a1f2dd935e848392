//! Text for people: a buffer for lines, and the program's original standard error.
//!
//! Text is written by direct system calls: libc's write may be hooked by the shim, and a fiber that
//! writes a report must not park.
//!
//! A program may close descriptor 2 and open a file or a socket of its own under that number.
//! Therefore the library records before main which file descriptor 2 refers to. Invariant: a
//! message is written to descriptor 2 only while it still refers to that file.

use core::fmt::{self, Write};
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use rustix::fs::{Stat, fstat};
use std::os::fd::{BorrowedFd, RawFd};

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
    fstat(unsafe { BorrowedFd::borrow_raw(NUMBER) }).ok()
}

/// Returns the descriptor of standard error, or None if the program has closed it.
/// Async-signal-safe.
pub(crate) fn stderr() -> Option<RawFd> {
    let stat = look()?;
    let same = OPEN.load(Relaxed)
        && DEVICE.load(Relaxed) == stat.st_dev
        && INODE.load(Relaxed) == stat.st_ino;
    same.then_some(NUMBER)
}

/// Text to be written to a descriptor, one line at a time.
pub(crate) struct Out {
    fd: RawFd,
    buf: [u8; 256],
    len: usize,
}

impl Out {
    pub(crate) fn new(fd: RawFd) -> Out {
        Out {
            fd,
            buf: [0; 256],
            len: 0,
        }
    }

    /// Text for standard error. It is dropped if the program has closed that.
    pub(crate) fn to_stderr() -> Out {
        Out::new(stderr().unwrap_or(-1))
    }

    fn flush(&mut self) {
        let mut rest = &self.buf[..core::mem::take(&mut self.len)];
        if self.fd < 0 {
            return;
        }
        // SAFETY: the descriptor is borrowed for this call only. The caller asked to write to it,
        // and a bad one returns EBADF.
        let fd = unsafe { BorrowedFd::borrow_raw(self.fd) };
        while !rest.is_empty() {
            match rustix::io::write(fd, rest) {
                Ok(n) => rest = &rest[n..],
                Err(rustix::io::Errno::INTR) => {}
                Err(_) => break,
            }
        }
    }
}

impl Write for Out {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for &byte in text.as_bytes() {
            if self.len == self.buf.len() {
                self.flush();
            }
            self.buf[self.len] = byte;
            self.len += 1;
            if byte == b'\n' {
                self.flush();
            }
        }
        Ok(())
    }
}

impl Drop for Out {
    fn drop(&mut self) {
        self.flush();
    }
}
