//! The io_uring engine: a ring per thread, one system call per scheduling round.
//!
//! Invariant: between two calls from outside, the ring's own head and tail tell all there is to know; `early` holds
//! completions that had to be taken off the queue to make room for submissions.
//!
//! What the kernel may refuse is tried, not assumed: fewer flags on EINVAL, smaller queues on ENOMEM (rings count
//! against RLIMIT_MEMLOCK), and one no-op goes through before the ring is trusted, for seccomp filters that allow
//! io_uring_setup and deny io_uring_enter.

use super::{Data, Engine, Request, Token, Wait, Way};
use crate::conf::Level;
use crate::errno::Errno;
use crate::{log, sys};
use io_uring::{IoUring, opcode, squeue, types};
use std::ffi::c_int;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Submission and completion queue lengths, tried in turn while there is no memory. Past the completion queue's
/// length the kernel keeps completions in a list (IORING_FEAT_NODROP), so it bounds speed, not operations in flight.
const SIZES: [(u32, u32); 5] = [(256, 4096), (128, 1024), (64, 256), (32, 64), (8, 16)];

/// The user data of the read that is armed on the wake-up eventfd.
const WAKE: u64 = u64::MAX;
/// What stands in `queued` for entries of our own, which nobody waits for.
const OURS: Token = Token::MAX;

/// io_uring_enter(2): do not count the wait as waiting for I/O (6.15); the io-uring crate does not have it yet.
const IORING_ENTER_NO_IOWAIT: u32 = 1 << 7;
const IORING_ENTER_GETEVENTS: u32 = 1;
const IORING_ENTER_EXT_ARG: u32 = 1 << 3;

pub struct Uring {
    ring: IoUring,
    /// Flags for every io_uring_enter that waits.
    wait_flags: u32,
    timed_waits: bool,
    early: Vec<(Token, i32)>,
    wake_fd: c_int,
    /// Where the armed read puts the eventfd's count. Boxed: the kernel holds its address.
    wake_count: Box<u64>,
    wake_armed: bool,
    /// The tokens of what is queued, in the queue's order: what comes back if the kernel stops taking submissions.
    queued: Vec<Token>,
    /// The kernel has begun to refuse io_uring_enter: nothing is submitted any more.
    broken: bool,
}

impl Uring {
    pub fn new(wake_fd: c_int) -> Result<Self, Errno> {
        let ring = build()?;
        if !ring.params().is_feature_rw_cur_pos() || !ring.params().is_feature_nodrop() {
            // Before 5.6 there is no IORING_OP_READ, no OPENAT, no CLOSE.
            return Err(Errno(libc::ENOSYS));
        }
        let no_iowait = ring.params().is_feature_no_iowait();
        let mut uring = Self {
            wait_flags: IORING_ENTER_GETEVENTS | if no_iowait { IORING_ENTER_NO_IOWAIT } else { 0 },
            timed_waits: ring.params().is_feature_ext_arg(),
            ring,
            early: Vec::new(),
            wake_fd,
            wake_count: Box::new(0),
            wake_armed: false,
            queued: Vec::with_capacity(SIZES[0].0 as usize),
            broken: false,
        };
        uring.prove()?;
        Ok(uring)
    }

    /// One no-op through the whole ring.
    fn prove(&mut self) -> Result<(), Errno> {
        self.push(&opcode::Nop::new().build(), OURS);
        while self.ring.completion().is_empty() {
            match self.enter(1, None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error),
            }
        }
        self.ring.completion().next();
        Ok(())
    }

    fn push(&mut self, entry: &squeue::Entry, token: Token) {
        loop {
            // SAFETY: the entry's memory stays in place until its completion: the parked fiber keeps it (flight.rs),
            // and `wake_count` is boxed and outlives the ring's use of it (see Drop).
            if unsafe { self.ring.submission().push(entry) }.is_ok() {
                self.queued.push(token);
                return;
            }
            self.submit();
        }
    }

    /// io_uring_enter(2): submits everything queued, waits for `want` completions, for at most `timeout`.
    fn enter(&mut self, want: u32, timeout: Option<u64>) -> Result<usize, Errno> {
        let queued = self.ring.submission().len() as u32;
        let (flags, submitter) = (self.wait_flags, self.ring.submitter());
        let submitted = match timeout {
            // SAFETY: no argument is passed; the queue's entries were vouched for when pushed.
            None => unsafe { submitter.enter::<libc::sigset_t>(queued, want, flags, None) },
            Some(nanos) => {
                let timespec = types::Timespec::from(std::time::Duration::from_nanos(nanos));
                let arguments = types::SubmitArgs::new().timespec(&timespec);
                // SAFETY: `arguments` is the io_uring_getevents_arg that EXT_ARG announces, alive across the call.
                unsafe { submitter.enter(queued, want, flags | IORING_ENTER_EXT_ARG, Some(&arguments)) }
            }
        };
        let left = self.ring.submission().len();
        self.queued.drain(..queued as usize - left);
        submitted.map_err(Errno::from)
    }

    /// Takes completions off the queue: real ones to `done`, the wake-up's noted.
    fn reap(&mut self, done: &mut dyn FnMut(Token, i32)) {
        for entry in self.ring.completion() {
            if entry.user_data() == WAKE {
                self.wake_armed = false;
            } else {
                done(entry.user_data() as Token, entry.result());
            }
        }
    }

    /// Arms a read on the eventfd, so that a wake-up is a completion.
    fn arm_wake(&mut self) {
        if !self.wake_armed {
            self.wake_armed = true;
            let count = std::ptr::from_mut(&mut *self.wake_count).cast();
            self.push(
                &opcode::Read::new(types::Fd(self.wake_fd), count, 8)
                    .build()
                    .user_data(WAKE),
                OURS,
            );
        }
    }

    /// The kernel refuses io_uring_enter after all: what is still queued comes back as ECANCELED, which makes the
    /// calls plain ones.
    fn give_up(&mut self, error: Errno) {
        if !self.broken {
            self.broken = true;
            self.early.extend(
                self.queued
                    .drain(..)
                    .filter(|&token| token != OURS)
                    .map(|t| (t, -libc::ECANCELED)),
            );
            log::say(
                Level::Warn,
                format_args!("io_uring_enter: {error}; calls on this thread block from now on"),
            );
        }
    }

    /// Blocks as well as can be without EXT_ARG (before 5.11), or when broken: poll(2) on the ring.
    fn wait_outside(&self, nanos: u64) {
        // SAFETY: the ring's descriptor is open as long as the ring is.
        let fd = unsafe { BorrowedFd::borrow_raw(self.ring.as_raw_fd()) };
        // SAFETY: the eventfd belongs to the thread that owns this engine and outlives it.
        let wake = unsafe { BorrowedFd::borrow_raw(self.wake_fd) };
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        let timeout = Timespec {
            tv_sec: (nanos / 1_000_000_000) as i64,
            tv_nsec: (nanos % 1_000_000_000) as i64,
        };
        let mut fds = [PollFd::new(&fd, PollFlags::IN), PollFd::new(&wake, PollFlags::IN)];
        let _ = poll(&mut fds, Some(&timeout));
    }
}

impl Engine for Uring {
    fn name(&self) -> &'static str {
        "io_uring"
    }

    fn queue(&mut self, request: &Request, token: Token) {
        if self.broken {
            self.early.push((token, -libc::ECANCELED));
        } else {
            let entry = entry_of(request).user_data(u64::from(token));
            self.push(&entry, token);
        }
    }

    fn queued(&self) -> usize {
        self.queued.len()
    }

    fn abandon(self: Box<Self>) {
        // The rings' memory was not copied (MADV_DONTFORK), so there is nothing to unmap; the descriptor was.
        let fd = self.ring.as_raw_fd();
        std::mem::forget(self);
        sys::close(fd);
    }

    fn submit(&mut self) {
        while !self.broken && !self.ring.submission().is_empty() {
            match self.enter(0, None) {
                Ok(_) => {}
                // Too much is in flight for the kernel to take more: make room first.
                Err(Errno::BUSY | Errno::AGAIN) => {
                    let mut early = std::mem::take(&mut self.early);
                    self.reap(&mut |token, result| early.push((token, result)));
                    self.early = early;
                }
                Err(Errno::INTR) => {}
                Err(error) => {
                    self.give_up(error);
                    return;
                }
            }
        }
    }

    fn poll(&mut self, wait: Wait, done: &mut dyn FnMut(Token, i32)) {
        let ready = !self.early.is_empty() || !self.ring.completion().is_empty();
        let wait = if ready { Wait::No } else { wait };
        let (want, timeout) = match wait {
            Wait::No => (0, None),
            Wait::Forever => (1, None),
            Wait::Nanos(n) => (1, Some(n)),
        };
        if self.broken {
            if want > 0 {
                self.wait_outside(timeout.unwrap_or(1_000_000).min(1_000_000));
            }
        } else {
            if want > 0 {
                self.arm_wake();
            }
            let (queued, pending) = {
                let submission = self.ring.submission();
                (!submission.is_empty(), submission.taskrun() || submission.cq_overflow())
            };
            if queued || pending || want > 0 {
                let entered = match timeout {
                    Some(nanos) if !self.timed_waits => {
                        self.submit();
                        if self.ring.completion().is_empty() {
                            self.wait_outside(nanos);
                        }
                        Ok(0)
                    }
                    _ => self.enter(want, timeout),
                };
                match entered {
                    Ok(_) | Err(Errno::INTR | Errno::TIME | Errno::BUSY | Errno::AGAIN) => {}
                    Err(error) => self.give_up(error),
                }
            }
        }
        for (token, result) in std::mem::take(&mut self.early) {
            done(token, result);
        }
        self.reap(done);
    }
}

/// The richest ring that the kernel grants this thread.
fn build() -> Result<IoUring, Errno> {
    let mut error = Errno::INVAL;
    for (submissions, completions) in SIZES {
        for richness in (0..FLAG_SETS).rev() {
            let mut builder = IoUring::builder();
            builder.setup_cqsize(completions).setup_clamp().dontfork();
            set_flags(&mut builder, richness);
            match builder.build(submissions).map_err(Errno::from) {
                Ok(ring) => return Ok(ring),
                Err(e @ Errno::INVAL) => error = e,
                Err(e @ Errno::NOMEM) => {
                    error = e;
                    break;
                }
                Err(e) => return Err(e),
            }
        }
    }
    Err(error)
}

const FLAG_SETS: u32 = 5;

/// Each set adds what a later kernel brought: SUBMIT_ALL (5.18), COOP_TASKRUN with its flag (5.19), SINGLE_ISSUER and
/// DEFER_TASKRUN (6.1), NO_SQARRAY (6.6).
fn set_flags(builder: &mut io_uring::Builder, richness: u32) {
    if richness >= 1 {
        builder.setup_submit_all();
    }
    if richness >= 2 {
        builder.setup_coop_taskrun().setup_taskrun_flag();
    }
    if richness >= 3 {
        builder.setup_single_issuer().setup_defer_taskrun();
    }
    if richness >= 4 {
        builder.setup_no_sqarray();
    }
}

fn entry_of(request: &Request) -> squeue::Entry {
    match *request {
        Request::Transfer {
            way,
            fd,
            data,
            offset,
            flags,
        } => {
            let fd = types::Fd(fd);
            let offset = offset as u64;
            match (way, data) {
                (Way::Read, Data::Buffer(p, n)) => opcode::Read::new(fd, p, n).offset(offset).rw_flags(flags).build(),
                (Way::Write, Data::Buffer(p, n)) => opcode::Write::new(fd, p, n).offset(offset).rw_flags(flags).build(),
                (Way::Read, Data::Vector(v, n)) => opcode::Readv::new(fd, v, n).offset(offset).rw_flags(flags).build(),
                (Way::Write, Data::Vector(v, n)) => {
                    opcode::Writev::new(fd, v, n).offset(offset).rw_flags(flags).build()
                }
            }
        }
        Request::Fsync { fd, data_only } => {
            let flags = if data_only {
                types::FsyncFlags::DATASYNC
            } else {
                types::FsyncFlags::empty()
            };
            opcode::Fsync::new(types::Fd(fd)).flags(flags).build()
        }
        // In a kernel thread at once: issued in the submitter's context it would open a FIFO as if O_NONBLOCK was set.
        Request::Open { dir, path, flags, mode } => opcode::OpenAt::new(types::Fd(dir), path)
            .flags(flags)
            .mode(mode)
            .build()
            .flags(squeue::Flags::ASYNC),
        Request::Close { fd } => opcode::Close::new(types::Fd(fd)).build(),
    }
}
