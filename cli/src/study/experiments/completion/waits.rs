//! The ways to learn that something is complete. What completes is always the same: a byte that
//! another thread writes into a pipe, so that no disk adds its own latency.

use std::io;
use std::os::fd::RawFd;

use anyhow::{Context, Result, ensure};
use io_uring::{IoUring, opcode, types};
use rustix::event::{EventfdFlags, epoll, eventfd};
use rustix::fd::{BorrowedFd, OwnedFd};
use rustix::io::retry_on_intr;

use crate::study::experiments::asynchronous::Queue;

/// A way to wait for the byte.
pub trait Wait {
    /// Starts the operation, where there is one: before the byte is asked for.
    fn start(&mut self) -> Result<()>;

    /// Waits until the byte has been read.
    fn finish(&mut self) -> Result<()>;
}

/// Repeats `call` while it is interrupted. Not only signals do that, but also a ring of this thread
/// that is being closed.
fn uninterrupted(mut call: impl FnMut() -> isize) -> io::Result<isize> {
    loop {
        match call() {
            -1 => {
                let error = io::Error::last_os_error();
                if error.kind() != io::ErrorKind::Interrupted {
                    return Err(error);
                }
            }
            result => return Ok(result),
        }
    }
}

fn read_byte(fd: RawFd) -> Result<()> {
    let mut byte = [0_u8];
    // SAFETY: the buffer is a local variable of one byte.
    let read = uninterrupted(|| unsafe { libc::read(fd, byte.as_mut_ptr().cast(), 1) })?;
    ensure!(read == 1, "the writer of the pipe is gone");
    Ok(())
}

/// A blocking read.
pub struct BlockingRead(pub RawFd);

impl Wait for BlockingRead {
    fn start(&mut self) -> Result<()> {
        Ok(())
    }

    fn finish(&mut self) -> Result<()> {
        read_byte(self.0)
    }
}

/// epoll_wait, then read(2).
pub struct Epoll {
    epoll: OwnedFd,
    fd: RawFd,
}

impl Epoll {
    pub fn new(fd: RawFd) -> Result<Epoll> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        // SAFETY: the pipe is open as long as its writer, which the experiment keeps.
        let pipe = unsafe { BorrowedFd::borrow_raw(fd) };
        epoll::add(
            &epoll,
            pipe,
            epoll::EventData::new_u64(0),
            epoll::EventFlags::IN,
        )?;
        Ok(Epoll { epoll, fd })
    }
}

impl Wait for Epoll {
    fn start(&mut self) -> Result<()> {
        Ok(())
    }

    fn finish(&mut self) -> Result<()> {
        let mut events = Vec::with_capacity(1);
        while events.is_empty() {
            epoll::wait(
                &self.epoll,
                rustix::buffer::spare_capacity(&mut events),
                None,
            )?;
        }
        read_byte(self.fd)
    }
}

/// How a completion of io_uring is noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice {
    /// io_uring_enter waits for it.
    Enter,
    /// The thread looks at the ring until it is there.
    Peek,
    /// The thread reads an eventfd that the ring signals.
    Eventfd,
}

/// A read by io_uring.
pub struct Ring {
    ring: IoUring,
    fd: RawFd,
    notice: Notice,
    eventfd: OwnedFd,
    byte: Box<[u8; 1]>,
    started: bool,
}

impl Ring {
    pub fn new(fd: RawFd, notice: Notice) -> Result<Ring> {
        let ring = IoUring::new(2).context("io_uring_setup")?;
        let eventfd = eventfd(0, EventfdFlags::CLOEXEC)?;
        if notice == Notice::Eventfd {
            use std::os::fd::AsRawFd;
            ring.submitter().register_eventfd(eventfd.as_raw_fd())?;
        }
        Ok(Ring {
            ring,
            fd,
            notice,
            eventfd,
            byte: Box::new([0]),
            started: false,
        })
    }

    /// Waits in the kernel for the completion.
    fn enter(&self) -> Result<()> {
        match self.ring.submit_and_wait(1) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// Takes the completion if it is there.
    fn take(&mut self) -> Result<bool> {
        let Some(done) = self.ring.completion().next() else {
            return Ok(false);
        };
        self.started = false;
        ensure!(done.result() == 1, "read returned {}", done.result());
        Ok(true)
    }
}

impl Wait for Ring {
    fn start(&mut self) -> Result<()> {
        let entry = opcode::Read::new(types::Fd(self.fd), self.byte.as_mut_ptr(), 1).build();
        // SAFETY: the byte has a box of its own, which is kept until the read is done; see `drop`.
        unsafe { self.ring.submission().push(&entry) }.context("the ring is full")?;
        self.ring.submit()?;
        self.started = true;
        Ok(())
    }

    fn finish(&mut self) -> Result<()> {
        if self.notice == Notice::Eventfd {
            retry_on_intr(|| rustix::io::read(&self.eventfd, &mut [0; 8]))?;
        }
        while !self.take()? {
            match self.notice {
                Notice::Peek => std::hint::spin_loop(),
                _ => self.enter()?,
            }
        }
        Ok(())
    }
}

impl Drop for Ring {
    /// The kernel may write to the byte as long as the read is under way. It is then leaked,
    /// because the pipe may stay empty for ever.
    fn drop(&mut self) {
        if self.started {
            Box::leak(std::mem::replace(&mut self.byte, Box::new([0])));
        }
    }
}

/// Linux AIO: a poll operation, io_getevents, then read(2).
pub struct AioPoll {
    queue: Queue,
    fd: RawFd,
}

impl AioPoll {
    pub fn new(fd: RawFd) -> Result<AioPoll> {
        let queue = Queue::new(1).context("io_setup")?;
        Ok(AioPoll { queue, fd })
    }
}

impl Wait for AioPoll {
    fn start(&mut self) -> Result<()> {
        self.queue.submit_poll(self.fd)
    }

    fn finish(&mut self) -> Result<()> {
        let events = self.queue.wait_one()?;
        ensure!(events > 0, "poll returned {events}");
        read_byte(self.fd)
    }
}

/// A signal that the pipe sends to this thread, then read(2).
pub struct Signal {
    fd: RawFd,
    set: libc::sigset_t,
    before: libc::sigset_t,
}

/// `F_SETSIG`, `F_SETOWN_EX` and `F_OWNER_TID` of <asm-generic/fcntl.h>.
const SET_SIGNAL: i32 = 10;
const SET_OWNER: i32 = 15;
const OWNER_THREAD: i32 = 0;

impl Signal {
    pub fn new(fd: RawFd) -> Result<Signal> {
        let number = libc::SIGRTMIN() + 5;
        let owner = [
            OWNER_THREAD,
            rustix::thread::gettid().as_raw_nonzero().get(),
        ];
        // SAFETY: all pointers are to local variables of the right types, all zeros is a valid
        // signal set, and the descriptor is the pipe's.
        unsafe {
            let mut signal = Signal {
                fd,
                set: std::mem::zeroed(),
                before: std::mem::zeroed(),
            };
            libc::sigemptyset(&raw mut signal.set);
            libc::sigaddset(&raw mut signal.set, number);
            let (set, before) = (&raw const signal.set, &raw mut signal.before);
            libc::pthread_sigmask(libc::SIG_BLOCK, set, before);
            let flags = libc::fcntl(fd, libc::F_GETFL);
            let results = [
                libc::fcntl(fd, SET_OWNER, owner.as_ptr()),
                libc::fcntl(fd, SET_SIGNAL, number),
                libc::fcntl(fd, libc::F_SETFL, flags | libc::O_ASYNC),
            ];
            let error = io::Error::last_os_error();
            ensure!(!results.contains(&-1), "no signals from pipes: {error}");
            Ok(signal)
        }
    }
}

impl Wait for Signal {
    fn start(&mut self) -> Result<()> {
        Ok(())
    }

    fn finish(&mut self) -> Result<()> {
        let set = &raw const self.set;
        let wait = || {
            // SAFETY: the set is valid, and no information about the signal is asked for.
            (unsafe { libc::sigwaitinfo(set, std::ptr::null_mut()) }) as isize
        };
        uninterrupted(wait).context("sigwaitinfo")?;
        read_byte(self.fd)
    }
}

impl Drop for Signal {
    /// Takes a signal that is left, and restores the descriptor and the signal mask.
    fn drop(&mut self) {
        let now = libc::timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        // SAFETY: the set and the mask are valid, and the descriptor is the pipe's.
        unsafe {
            let flags = libc::fcntl(self.fd, libc::F_GETFL);
            libc::fcntl(self.fd, libc::F_SETFL, flags & !libc::O_ASYNC);
            let set = &raw const self.set;
            while libc::sigtimedwait(set, std::ptr::null_mut(), &raw const now) > 0 {}
            let before = &raw const self.before;
            libc::pthread_sigmask(libc::SIG_SETMASK, before, std::ptr::null_mut());
        }
    }
}
