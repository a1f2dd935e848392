//! Text for people: fiber names, and one line per fiber for `fiber_dump` and the deadlock report.
//!
//! Reports are written by direct system calls: libc's write may be hooked by the shim, and a fiber
//! that writes a dump must not park.
//!
//! Invariant: nothing here changes a fiber. Reports may be wrong about fibers of other workers,
//! because these run during the report.

use crate::errno::Errno;
use crate::launch::runtime::Runtime;
use crate::output as stderr;
use crate::record::fiber::{Fiber, Handle, Life, NAME_LEN, Waits};
use crate::record::slab;
use crate::sched::park::{LOCKED, Queue, WAITERS};
use crate::spin::SpinLock;
use crate::worker::current;
use crate::worker::state::Worker;
use core::fmt::{self, Write};
use core::sync::atomic::Ordering;
use std::os::fd::{BorrowedFd, RawFd};

/// Guards the names of all fibers.
pub(crate) static NAMES: SpinLock<()> = SpinLock::new(());

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
        Out::new(stderr::descriptor().unwrap_or(-1))
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

/// Converts a name to the stored form, padded with NULs. Returns `ERANGE` if it is longer than 15
/// bytes.
pub(crate) fn checked_name(name: &[u8]) -> Result<[u8; NAME_LEN], Errno> {
    let mut stored = [0; NAME_LEN];
    stored[..NAME_LEN - 1]
        .get_mut(..name.len())
        .ok_or(Errno::ERANGE)?
        .copy_from_slice(name);
    Ok(stored)
}

pub(crate) fn set_name(fiber: &Fiber, name: [u8; NAME_LEN]) {
    let _names = NAMES.lock();
    // SAFETY: we hold the name lock.
    unsafe { *fiber.name.get() = name };
}

pub(crate) fn name(fiber: &Fiber) -> [u8; NAME_LEN] {
    let _names = NAMES.lock();
    // SAFETY: we hold the name lock.
    unsafe { *fiber.name.get() }
}

/// Returns the text of a stored name, without its NULs.
pub(crate) fn text(name: &[u8; NAME_LEN]) -> &[u8] {
    &name[..name.iter().position(|&b| b == 0).unwrap_or(NAME_LEN)]
}

/// Returns whether the record belongs to a fiber of `runtime` that has not ended.
pub(crate) fn is_of(fiber: &Fiber, life: Life, runtime: *const Runtime) -> bool {
    matches!(life.state(), Life::LIVE | Life::DETACHED | Life::JOINED)
        && (runtime.is_null() || core::ptr::eq(fiber.runtime.load(Ordering::Relaxed), runtime))
}

/// Writes one line per live fiber of the caller's runtime to `fd`. On a thread that is not a
/// worker, covers all runtimes.
pub(crate) fn dump(fd: RawFd) {
    let mut out = Out::new(fd);
    let here = current::worker();
    let runtime = here.map_or(core::ptr::null(), |w| w.runtime);
    slab::for_each(|fiber, life| {
        if is_of(fiber, life, runtime) {
            write_line(&mut out, here, fiber);
        }
    });
}

/// Writes the line of one fiber, as `worker` sees it.
pub(crate) fn line(out: &mut Out, worker: &Worker, fiber: &Fiber) {
    write_line(out, Some(worker), fiber);
}

/// Returns the name for a fiber in messages: its number and its name.
pub(crate) fn title(fiber: &Fiber) -> String {
    let mut title = String::new();
    write_title(&mut title, fiber);
    title
}

fn write_title(out: &mut impl Write, fiber: &Fiber) {
    let _ = write!(out, "fiber {}", fiber.id.load(Ordering::Relaxed));
    let name = name(fiber);
    if name[0] != 0 {
        let _ = write!(out, " \"{}\"", Printable(text(&name)));
    }
}

fn write_line(out: &mut Out, here: Option<&Worker>, fiber: &Fiber) {
    write_title(out, fiber);
    let home = fiber.worker.load(Ordering::Relaxed);
    // SAFETY: the worker of a live fiber exists.
    match unsafe { home.as_ref() } {
        None => {
            let _ = writeln!(out, ": not started");
            return;
        }
        Some(home) => {
            let _ = write!(out, ", worker {}: ", home.index);
        }
    }
    let mine = here.filter(|w| core::ptr::eq(*w, home));
    let what = fiber.waits();
    let _ = match what {
        Waits::Nothing if mine.is_some_and(|w| core::ptr::eq(w.current.get(), fiber)) => {
            writeln!(out, "running")
        }
        Waits::Nothing => writeln!(out, "ready"),
        Waits::Sleep => writeln!(out, "asleep"),
        Waits::Shim => {
            let mut buf = [0; 64];
            let text = match mine.and_then(|w| w.host.get()) {
                Some(host) => host.describe(fiber, &mut buf),
                None => &[],
            };
            match text {
                [] => writeln!(out, "waits in the shim"),
                text => writeln!(out, "waits in {}", Printable(text)),
            }
        }
        Waits::Join => {
            // SAFETY: the target of a join is a record, and records are never unmapped.
            let target = unsafe { &*(fiber.waits_on.load(Ordering::Relaxed) as *const Fiber) };
            writeln!(
                out,
                "waits for fiber {} to end",
                target.id.load(Ordering::Relaxed)
            )
        }
        Waits::Mutex => {
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
            object(what),
            fiber.waits_on.load(Ordering::Relaxed)
        ),
    };
}

/// Returns the id of the fiber that holds the mutex at `queue`, if any.
fn owner(queue: *const Queue) -> Option<u64> {
    // SAFETY: the caller has seen a fiber of this worker wait for the mutex, and that fiber has not
    // run since.
    let word = unsafe { (*queue).word.load(Ordering::Relaxed) };
    slab::knows(Handle(word & !(LOCKED | WAITERS))).map(|f| f.id.load(Ordering::Relaxed))
}

fn object(what: Waits) -> &'static str {
    match what {
        Waits::Mutex => "mutex",
        Waits::Cond => "condition variable",
        Waits::Semaphore => "semaphore",
        Waits::ReadLock => "read-write lock to read",
        Waits::WriteLock => "read-write lock to write",
        Waits::Barrier => "barrier",
        Waits::Once => "once",
        Waits::Nothing | Waits::Join | Waits::Sleep | Waits::Shim => "",
    }
}

/// The bytes of a name, with dots in place of characters that could disturb a terminal.
struct Printable<'a>(&'a [u8]);

impl fmt::Display for Printable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for &b in self.0 {
            f.write_char(if b.is_ascii_graphic() || b == b' ' {
                b.into()
            } else {
                '.'
            })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_fifteen_bytes() {
        assert_eq!(
            text(&checked_name(b"fifteen letters").unwrap()),
            b"fifteen letters"
        );
        assert_eq!(checked_name(b"sixteen letters!"), Err(Errno::ERANGE));
        assert_eq!(text(&checked_name(b"").unwrap()), b"");
        assert_eq!(Printable(b"a\x1b[2J\xff").to_string(), "a.[2J.");
    }
}
