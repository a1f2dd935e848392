//! Waiting for a FIFO's other end, by a thread that may block.
//!
//! That a writer has opened a FIFO is no event that poll(2) tells its reader; that anybody has opened it is one of
//! inotify(7). A writer that came and went is seen by what it left: data, or a hang-up.

use crate::errno::Errno;
use crate::fds;
use crate::sys::{self, PipeState};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify;
use std::ffi::c_int;
use std::os::fd::{BorrowedFd, IntoRawFd};

/// How often to look where inotify is not to be had (its instances are limited a user, or /proc is not mounted).
const LOOK_EVERY: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 2_000_000,
};

/// Returns when `fifo`, open for reading, has or has had a writer since it was opened; or EINTR.
pub fn await_writer(fifo: c_int) -> Result<(), Errno> {
    let openings = Openings::watch(fifo);
    // SAFETY: only used here; the program does not know the descriptor yet, for its open(2) has not returned.
    let end = unsafe { BorrowedFd::borrow_raw(fifo) };
    // A writer that opens it from here on is an event.
    while !has_writer(fifo) {
        let mut waited = vec![PollFd::new(&end, PollFlags::IN)];
        let events;
        if let Some(openings) = &openings {
            // SAFETY: open as long as `openings` is.
            events = unsafe { BorrowedFd::borrow_raw(openings.0) };
            waited.push(PollFd::new(&events, PollFlags::IN));
        }
        let limit = openings.is_none().then_some(&LOOK_EVERY);
        if poll(&mut waited, limit) == Err(rustix::io::Errno::INTR) {
            return Err(Errno::INTR);
        }
        if !waited[0].revents().is_empty() {
            break;
        }
        if let Some(openings) = &openings {
            openings.forget_past();
        }
    }
    Ok(())
}

/// Whether `fifo`, just opened for reading, has a writer or data; on any doubt not.
pub fn has_writer(fifo: c_int) -> bool {
    matches!(sys::pipe_state(fifo), Some(PipeState::Data | PipeState::Empty))
}

/// An inotify instance that hears of each open(2) of one file. One of the shim's own descriptors.
struct Openings(c_int);

impl Openings {
    fn watch(fd: c_int) -> Option<Self> {
        let instance = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK).ok()?;
        inotify::add_watch(&instance, format!("/proc/self/fd/{fd}"), inotify::WatchFlags::OPEN).ok()?;
        fds::adopt(instance.into_raw_fd()).ok().map(Self)
    }

    /// Takes the events that there were off the queue.
    fn forget_past(&self) {
        // SAFETY: open as long as `self` is.
        let events = unsafe { BorrowedFd::borrow_raw(self.0) };
        while rustix::io::read(events, &mut [0u8; 512]).is_ok_and(|n| n > 0) {}
    }
}

impl Drop for Openings {
    fn drop(&mut self) {
        fds::disown(self.0);
        let _ = sys::close(self.0);
    }
}
