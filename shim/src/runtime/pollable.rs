//! Two event loops that sleep together: the host's, and that of aioshim_poll.
//!
//! A host that sleeps in its own event loop waits there for the *ready descriptor*, an epoll
//! instance that is readable when a poll has something to do. A host that sleeps in aioshim_poll
//! may have *watched descriptors*, which end that sleep. They are in an epoll instance as well,
//! because the host adds and removes them one by one.
//!
//! Invariant: the eventfds behind the ready descriptor are emptied before the completions that they
//! announce are reaped, so a completion that arrives later makes the descriptor readable again.

use crate::engine::Wait;
use crate::state::descriptors;
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::event::{PollFd, PollFlags, poll};
use std::cell::Cell;
use std::ffi::c_int;
use std::os::fd::{BorrowedFd, IntoRawFd};
use sys::errno::Errno;

/// What makes the ready descriptor readable: the descriptor through which the engine signals
/// completions, and the eventfd that other threads write to.
#[derive(Clone, Copy)]
pub struct Sources {
    pub engine: Option<c_int>,
    pub wake: c_int,
}

#[derive(Default)]
pub struct Pollable {
    ready: Cell<Option<c_int>>,
    watched: Cell<Option<c_int>>,
    /// The thread may be asleep in the event loop of its host.
    armed: Cell<bool>,
}

impl Pollable {
    /// Whether the host has asked for the ready descriptor.
    #[inline(always)]
    pub fn has_ready_descriptor(&self) -> bool {
        self.ready.get().is_some()
    }

    /// Whether the host has descriptors that end the sleep in aioshim_poll.
    #[inline(always)]
    pub fn watches_any(&self) -> bool {
        self.watched.get().is_some()
    }

    /// The ready descriptor, made on first use.
    pub fn ready_descriptor(&self, sources: impl FnOnce() -> Sources) -> Result<c_int, Errno> {
        if let Some(ready) = self.ready.get() {
            return Ok(ready);
        }
        let ready = new_epoll()?;
        self.ready.set(Some(ready));
        let sources = sources();
        for source in [Some(sources.wake), sources.engine].into_iter().flatten() {
            add(ready, source, EventFlags::IN).map_err(errno)?;
        }
        Ok(ready)
    }

    /// Another engine signals completions through `engine` from now on. The kernel has removed the
    /// descriptor of the engine from before, which is closed.
    pub fn replace_engine(&self, engine: impl FnOnce() -> Option<c_int>) {
        if let Some(ready) = self.ready.get()
            && let Some(engine) = engine()
        {
            let _ = add(ready, engine, EventFlags::IN);
        }
    }

    /// Watches `fd` for `events` of epoll_ctl(2); no longer if there are none.
    pub fn watch(&self, fd: c_int, events: u32) -> Result<(), Errno> {
        if fd < 0 {
            return Err(Errno::BADF);
        }
        let watched = match self.watched.get() {
            Some(watched) => watched,
            None => {
                let watched = new_epoll()?;
                self.watched.set(Some(watched));
                watched
            }
        };
        let flags = EventFlags::from_bits_retain(events);
        let changed = if events == 0 {
            epoll::delete(borrowed(watched), borrowed(fd))
        } else {
            match add(watched, fd, flags) {
                Err(rustix::io::Errno::EXIST) => {
                    let data = EventData::new_u64(0);
                    epoll::modify(borrowed(watched), borrowed(fd), data, flags)
                }
                added => added,
            }
        };
        changed.map_err(errno)
    }

    /// Sleeps until a poll has something to do, a watched descriptor is ready, or `wait` is over.
    pub fn sleep(&self, wait: Wait) {
        let files = [self.ready.get(), self.watched.get()];
        let mut polled: Vec<PollFd<'_>> = files
            .into_iter()
            .flatten()
            .map(|file| PollFd::from_borrowed_fd(borrowed(file), PollFlags::IN))
            .collect();
        let _ = poll(&mut polled, wait.timeout().as_ref());
    }

    /// Empties the eventfds behind the ready descriptor. Poll afterwards.
    pub fn empty(&self, sources: Sources) {
        for source in [Some(sources.wake), sources.engine].into_iter().flatten() {
            // An epoll instance has nothing to read, and the read fails.
            let _ = rustix::io::read(borrowed(source), &mut [0_u8; 8]);
        }
    }

    /// Notes that the thread is about to sleep in the event loop of its host.
    pub fn arm(&self) {
        self.armed.set(true);
    }

    /// The thread is awake. Returns whether it may have slept in the event loop of its host.
    #[inline(always)]
    pub fn disarm(&self) -> bool {
        self.armed.get() && self.armed.replace(false)
    }
}

impl Drop for Pollable {
    fn drop(&mut self) {
        for fd in [self.ready.get(), self.watched.get()].into_iter().flatten() {
            descriptors::disown(fd);
            let _ = sys::close(fd);
        }
    }
}

fn new_epoll() -> Result<c_int, Errno> {
    let made = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(errno)?;
    descriptors::adopt(made.into_raw_fd())
}

fn add(epoll: c_int, fd: c_int, flags: EventFlags) -> rustix::io::Result<()> {
    epoll::add(borrowed(epoll), borrowed(fd), EventData::new_u64(0), flags)
}

/// One of the thread's descriptors, or one that the host gave. If the host has closed it, the
/// kernel refuses it.
fn borrowed<'a>(fd: c_int) -> BorrowedFd<'a> {
    // SAFETY: it is not -1; it is used for one system call, which checks it.
    unsafe { BorrowedFd::borrow_raw(fd) }
}

fn errno(error: rustix::io::Errno) -> Errno {
    Errno(error.raw_os_error())
}
