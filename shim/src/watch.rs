//! A wait for any of several files, as poll(2) and its kin wait: one is a poll of the engine's,
//! more are an epoll instance, which is one file again.
//!
//! What there is of the files is not asked here: whoever waits looks for himself, with the call
//! that he stands for, when the wait is over, and waits again if there is nothing. So files that
//! were closed meanwhile, and numbers that were reused, give what they give the kernel's own wait,
//! which looks by number, too.

use crate::call::Call;
use crate::deadlines::Deadline;
use crate::engine::Request;
use crate::errno::Errno;
use crate::sockets;
use crate::sys::{self, SignalSet};
use rustix::event::epoll::{self, EventData, EventFlags};
use std::ffi::c_int;
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, IntoRawFd};

/// A descriptor, and the events of poll(2) that end the wait. Errors and hang-ups always do.
#[derive(Clone, Copy)]
pub struct File {
    pub fd: c_int,
    pub events: i16,
}

/// Why a wait is over.
pub enum Waited {
    /// One of the files is ready, or was.
    Ready,
    Timeout,
    /// Handlers are to run, under the wait's mask.
    Interrupt,
    /// There is no way to wait like this: a thread has to.
    Impossible,
}

/// Waits on a lone file that may find nothing before the file is put into an epoll instance.
/// select(2) does not call an error an exception, but the kernel reports one to every poll, again
/// and again: only an edge-triggered wait can pass it over.
const MAX_SPURIOUS: u32 = 10;

pub struct Watch<'a> {
    call: &'a Call<'a>,
    files: Vec<File>,
    /// Ours, once there is one.
    epoll: Option<c_int>,
    waits: u32,
}

impl<'a> Watch<'a> {
    /// `files` may hold one more than once.
    pub fn new(call: &'a Call<'a>, mut files: Vec<File>) -> Self {
        files.sort_unstable_by_key(|file| file.fd);
        files.dedup_by(|file, before| {
            let same = file.fd == before.fd;
            if same {
                before.events |= file.events;
            }
            same
        });
        Self {
            call,
            files,
            epoll: None,
            waits: 0,
        }
    }

    /// Parks until one of the files is ready or `deadline` is over, under a signal mask of the
    /// wait's own if there is one.
    pub fn wait(&mut self, deadline: Deadline, mask: Option<SignalSet>) -> Waited {
        self.waits += 1;
        let request = match self.request() {
            Ok(request) => request,
            Err(_) => return Waited::Impossible,
        };
        let result = match mask {
            None => self.call.perform_until(&request, deadline),
            Some(mask) => self.call.perform_masked(&request, deadline, mask),
        };
        match Errno::of(result) {
            _ if result >= 0 => Waited::Ready,
            Errno::TIME => Waited::Timeout,
            Errno::RESTART => Waited::Interrupt,
            _ => Waited::Impossible,
        }
    }

    /// Discards what has been reported so far, after a look that found nothing. True if a report
    /// may have gone with that: the caller must look once more before it waits.
    pub fn discard_reports(&self) -> bool {
        let Some(epoll) = self.epoll else {
            return false;
        };
        let mut room = [const { MaybeUninit::<epoll::Event>::uninit() }; 64];
        let now = rustix::event::Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        while epoll::wait(borrowed(epoll), &mut room, Some(&now))
            .is_ok_and(|(events, rest)| !events.is_empty() && rest.is_empty())
        {}
        true
    }

    fn request(&mut self) -> Result<Request, Errno> {
        match *self.files {
            [] => {
                let claim = std::ptr::null();
                return Ok(Request::Wait { claim });
            }
            [File { fd, events }] if self.waits <= MAX_SPURIOUS && !self.outlives_process(fd) => {
                return Ok(Request::Poll { fd, events });
            }
            _ => {}
        }
        let fd = match self.epoll {
            Some(epoll) => epoll,
            None => self.gather()?,
        };
        let events = libc::POLLIN;
        Ok(Request::Poll { fd, events })
    }

    /// Whether the engine would keep `fd`, which is what a server is known by, until some time
    /// after the end of the process.
    fn outlives_process(&self, fd: c_int) -> bool {
        self.call.thread.does_sockets() && sockets::listens(fd)
    }

    /// Puts the files into an epoll instance, edge-triggered: a report that the caller does not
    /// count, or that others were faster to act on, ends one wait and not all that follow, and no
    /// file has to be left out for that.
    fn gather(&mut self) -> Result<c_int, Errno> {
        let error = |error: rustix::io::Errno| Errno(error.raw_os_error());
        let low = epoll::create(epoll::CreateFlags::CLOEXEC)
            .map_err(error)?
            .into_raw_fd();
        // Under a number that is out of the program's way.
        let kept = self.call.thread.keep(low);
        let _ = sys::close(low);
        let epoll = kept.ok_or(Errno(libc::EMFILE))?;
        self.epoll = Some(epoll);
        for &File { fd, events } in &self.files {
            // poll(2)'s events have epoll(7)'s values.
            let flags = EventFlags::from_bits_retain(u32::from(events as u16)) | EventFlags::ET;
            match epoll::add(
                borrowed(epoll),
                borrowed(fd),
                EventData::new_u64(fd as u64),
                flags,
            ) {
                // What cannot be waited for is always ready: were that wanted, there would be no
                // wait.
                Ok(()) | Err(rustix::io::Errno::PERM) => {}
                Err(other) => return Err(error(other)),
            }
        }
        Ok(epoll)
    }
}

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        if let Some(epoll) = self.epoll {
            self.call.thread.let_go(epoll);
        }
    }
}

fn borrowed(fd: c_int) -> BorrowedFd<'static> {
    // SAFETY: only used for one system call at a time; that a number may be closed by then is the
    // kernel's to say.
    unsafe { BorrowedFd::borrow_raw(fd) }
}
