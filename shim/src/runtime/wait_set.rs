//! Waits for any of several files, as poll(2) and similar calls do. A single file is one poll
//! request to the engine; several files are put into an epoll instance, which is a single file
//! again.
//!
//! This does not report which files are ready. When the wait is over, the caller checks with its
//! own system call, and waits again if nothing is ready. Files that were closed during the wait,
//! and numbers that were reused, therefore behave as in the kernel's own wait, which also looks
//! files up by number.

use crate::engine::Request;
use crate::runtime::call::Call;
use crate::runtime::completion::Unfinished;
use crate::runtime::deadlines::Deadline;
use rustix::event::epoll::{self, EventData, EventFlags};
use std::ffi::c_int;
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, IntoRawFd};
use sys::errno::Errno;
use sys::{SignalSet, sockets};

/// A descriptor, and the poll(2) events that end the wait. Errors and hang-ups always do.
#[derive(Clone, Copy)]
pub struct File {
    pub fd: c_int,
    pub events: i16,
}

/// How many waits on a single file may end spuriously before the file is put into an epoll
/// instance. select(2) does not count an error as an exceptional condition, but the kernel reports
/// an error to every poll again; only an edge-triggered wait reports it once.
const MAX_SPURIOUS: u32 = 10;

pub struct WaitSet<'a> {
    call: &'a Call<'a>,
    files: Vec<File>,
    /// The epoll instance, once there is one. It belongs to the shim.
    epoll: Option<c_int>,
    waits: u32,
}

impl<'a> WaitSet<'a> {
    /// `files` may contain a descriptor more than once.
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

    /// Parks until one of the files is ready or `deadline` has passed, with the wait's own signal
    /// mask if there is one; after an interruption the handlers run under that mask. If the wait
    /// failed or was not done, this kind of wait is not possible, and a pool thread must do it.
    pub fn wait(&mut self, deadline: Deadline, mask: Option<SignalSet>) -> Result<(), Unfinished> {
        self.waits += 1;
        let request = self.request()?;
        let completion = match mask {
            None => self.call.perform_until(&request, deadline),
            Some(mask) => self.call.perform_masked(&request, deadline, mask),
        };
        completion.map(drop)
    }

    /// Discards the reports so far, after a check that found nothing. Returns true if that may have
    /// discarded a new report; the caller must then check once more before it waits.
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
            None => self.create_epoll()?,
        };
        let events = libc::POLLIN;
        Ok(Request::Poll { fd, events })
    }

    /// Whether `fd` is a listening socket that the engine would keep open until some time after the
    /// end of the process. Its address must be free by then for the next server.
    fn outlives_process(&self, fd: c_int) -> bool {
        self.call.thread.does_sockets() && sockets::listens(fd)
    }

    /// Puts the files into an edge-triggered epoll instance. A report that the caller does not
    /// count, or that another task was faster to act on, then ends one wait but not all later ones,
    /// and the file need not be removed for that.
    fn create_epoll(&mut self) -> Result<c_int, Errno> {
        let error = |error: rustix::io::Errno| Errno(error.raw_os_error());
        let low = epoll::create(epoll::CreateFlags::CLOEXEC)
            .map_err(error)?
            .into_raw_fd();
        // Move it to a high number that the program does not use.
        let duplicate = self.call.thread.duplicate_for_wait(low);
        let _ = sys::close(low);
        let epoll = duplicate.ok_or(Errno(libc::EMFILE))?;
        self.epoll = Some(epoll);
        for &File { fd, events } in &self.files {
            // poll(2)'s events have the values of epoll(7)'s.
            let flags = EventFlags::from_bits_retain(u32::from(events as u16)) | EventFlags::ET;
            match epoll::add(
                borrowed(epoll),
                borrowed(fd),
                EventData::new_u64(fd as u64),
                flags,
            ) {
                // epoll refuses files that are always ready. If the caller wanted such an event, it
                // would not wait.
                Ok(()) | Err(rustix::io::Errno::PERM) => {}
                Err(other) => return Err(error(other)),
            }
        }
        Ok(epoll)
    }
}

impl Drop for WaitSet<'_> {
    fn drop(&mut self) {
        if let Some(epoll) = self.epoll {
            self.call.thread.close_duplicate(epoll);
        }
    }
}

fn borrowed(fd: c_int) -> BorrowedFd<'static> {
    // SAFETY: used for one system call at a time; if the number is closed by then, the kernel
    // reports that.
    unsafe { BorrowedFd::borrow_raw(fd) }
}
