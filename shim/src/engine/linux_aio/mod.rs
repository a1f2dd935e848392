//! The Linux AIO engine: io_submit(2), the kernel's asynchronous I/O of before io_uring, a context per thread.
//!
//! It is asynchronous for O_DIRECT transfers, fsync(2) and poll(2). So direct transfers are submitted as they are, but for
//! writes that make the file longer, which io_submit would wait for; streams and sockets are waited for by epoll
//! ([`Readiness`]), whose own descriptor is polled here; the rest is the offload pool's.
//!
//! A stream is not polled here itself: the kernel keeps the file of such a poll until the poll ends, and a while longer. A
//! socket that was closed would look open to its peer.
//!
//! Invariant: `operations` holds, by token, all that was queued and has not been reported.

mod context;

use super::readiness::Readiness;
use super::{Data, Engine, Request, Sink, Token, Transfer, Wait, Way};
use crate::conf::EngineChoice;
use crate::errno::Errno;
use crate::sys;
use context::{Context, Event, Iocb};
use std::ffi::c_int;
use std::os::fd::BorrowedFd;

/// The data of the poll on the wake-up eventfd.
const WAKE: u64 = u64::MAX;
/// The data of the poll on the epoll instance of `readiness`.
const READY: u64 = u64::MAX - 1;

/// How often to look for signals while transfers are in the kernel as well: a disk ends these.
const LOOK_NS: u64 = 20_000_000;

/// Operations at a time, tried in turn while the system has no more (fs.aio-max-nr, 65536 for all processes). What is
/// above waits in `queued`.
const SIZES: [u32; 4] = [1024, 256, 64, 16];

pub struct LinuxAio {
    context: Context,
    /// Most operations at a time.
    capacity: usize,
    in_kernel: usize,
    queued: Vec<Iocb>,
    /// Whether the operation of each token was queued and has not been reported.
    operations: Vec<bool>,
    /// What became known outside of `poll`.
    early: Vec<Early>,
    readiness: Readiness,
    readiness_armed: bool,
    wake_fd: c_int,
    wake_armed: bool,
    /// Times in a row that the kernel had no memory for an operation.
    shortages: u32,
    /// The error that made the engine give up.
    failed: Option<Errno>,
}

/// How often in a row the kernel may lack memory for an operation.
const MAX_SHORTAGES: u32 = 64;
/// The pause between two tries.
const PAUSE_NS: u64 = 200_000;
/// How long transfers of a disk are waited for when the engine ends.
const TRANSFERS_END_NS: u64 = 30_000_000_000;

enum Early {
    Event(Event),
    Refused(u64, Errno),
}

impl LinuxAio {
    pub fn new(wake_fd: c_int) -> Result<Self, Errno> {
        let (context, capacity) = setup()?;
        let mut aio = Self {
            context,
            capacity,
            in_kernel: 0,
            queued: Vec::new(),
            operations: Vec::new(),
            early: Vec::new(),
            readiness: Readiness::new(None)?,
            readiness_armed: false,
            wake_fd,
            wake_armed: false,
            shortages: 0,
            failed: None,
        };
        // IOCB_CMD_POLL came with 4.18; and a seccomp filter may allow io_setup and deny io_submit.
        aio.arm_wake();
        aio.submit_some();
        if let Some(Early::Refused(_, error)) = aio.early.pop() {
            return Err(error);
        }
        if !aio.queued.is_empty() {
            return Err(Errno::AGAIN);
        }
        let early = &mut aio.early;
        aio.context.wait(0, Some(0), |event| early.push(Early::Event(event)))?;
        aio.in_kernel -= aio.early.len();
        Ok(aio)
    }

    fn arm_wake(&mut self) {
        if !self.wake_armed {
            self.wake_armed = true;
            self.queued.push(poll(self.wake_fd, libc::POLLIN, WAKE));
        }
    }

    fn arm_readiness(&mut self) {
        if !self.readiness_armed && !self.readiness.is_empty() {
            self.readiness_armed = true;
            self.queued.push(poll(self.readiness.fd(), libc::POLLIN, READY));
        }
    }

    /// Submits what the kernel takes now.
    fn submit_some(&mut self) {
        let mut from = 0;
        while from < self.queued.len() {
            // SAFETY: the operations' memory stays in place until their completions: the parked fibers keep it
            // (flight.rs).
            match unsafe { self.context.submit(&self.queued[from..]) } {
                Ok(n) => {
                    from += n;
                    self.in_kernel += n;
                    self.shortages = 0;
                }
                Err(Errno::INTR) => {}
                // The rest waits until completions have made room.
                Err(Errno::AGAIN) if self.in_kernel >= self.capacity => break,
                Err(error @ (Errno::AGAIN | Errno::NOMEM)) => {
                    self.lacks_memory(error);
                    break;
                }
                Err(error) => {
                    self.early.push(Early::Refused(self.queued[from].data, error));
                    from += 1;
                }
            }
        }
        self.queued.drain(..from);
    }

    /// The kernel had no memory for an operation: it is submitted once more after a pause.
    #[cold]
    fn lacks_memory(&mut self, error: Errno) {
        self.shortages += 1;
        if self.shortages > MAX_SHORTAGES {
            self.failed = Some(error);
        } else {
            sys::pause(PAUSE_NS);
        }
    }

    /// Notes that the operation of `token` is queued.
    fn begin(&mut self, token: Token) {
        let at = token as usize;
        if self.operations.len() <= at {
            self.operations.resize(at + 1, false);
        }
        self.operations[at] = true;
    }

    /// Whether `data`, of an event or a refusal, is the token of an operation; it is over then.
    fn end(&mut self, data: u64) -> bool {
        self.operations
            .get_mut(data as usize)
            .is_some_and(|queued| std::mem::replace(queued, false))
    }

    /// Whether nothing is in the kernel but our own two polls.
    fn only_polls_are_left(&self) -> bool {
        let own = usize::from(self.wake_armed) + usize::from(self.readiness_armed);
        self.queued.is_empty() && self.in_kernel == own
    }

    /// Waits for a stream, a signal, or the wake-up, not for the kernel's context.
    fn wait_outside(&self, wait: Wait) {
        use rustix::event::{PollFd, PollFlags};
        // SAFETY: open as long as `readiness` is; the eventfd belongs to the thread that owns this engine and outlives it.
        let fds = [self.readiness.fd(), self.wake_fd].map(|fd| unsafe { BorrowedFd::borrow_raw(fd) });
        let mut polled = fds.each_ref().map(|fd| PollFd::new(fd, PollFlags::IN));
        let _ = rustix::event::poll(&mut polled, wait.timeout().as_ref());
        // What has armed itself on the eventfd completes with it, and finds it read.
        let _ = rustix::io::read(fds[1], &mut [0u8; 8]);
    }

    /// Tells of everything that `early` holds.
    fn report_early(&mut self, sink: &mut dyn Sink) {
        for early in std::mem::take(&mut self.early) {
            match early {
                Early::Event(event) => self.complete(event, sink),
                Early::Refused(data, error) => self.refused(data, error, sink),
            }
        }
    }

    fn complete(&mut self, event: Event, sink: &mut dyn Sink) {
        match event.data {
            WAKE => {
                self.wake_armed = false;
                // SAFETY: the eventfd belongs to the thread that owns this engine and outlives it.
                let _ = rustix::io::read(unsafe { BorrowedFd::borrow_raw(self.wake_fd) }, &mut [0u8; 8]);
            }
            READY => {
                self.readiness_armed = false;
                self.readiness.poll(Wait::No, sink);
            }
            data if self.end(data) => sink.done(data as Token, event.result as i32),
            _ => {}
        }
    }

    /// The kernel would not take an operation: the fiber makes the plain call, whose answer is the right one. Without the
    /// polls of its own, and where io_submit itself is refused, the engine is of no use.
    fn refused(&mut self, data: u64, error: Errno, sink: &mut dyn Sink) {
        if matches!(error.0, libc::EPERM | libc::ENOSYS | libc::EACCES) {
            // The next engine is to do it.
            self.failed = Some(error);
            self.end(data);
            return;
        }
        match data {
            WAKE | READY => {
                if data == WAKE {
                    self.wake_armed = false;
                } else {
                    self.readiness_armed = false;
                }
                self.failed = Some(error);
            }
            data if self.end(data) => sink.done(data as Token, -libc::ECANCELED),
            _ => {}
        }
    }
}

impl Engine for LinuxAio {
    fn name(&self) -> &'static str {
        "linux-aio"
    }

    fn batches(&self) -> bool {
        false
    }

    fn queue(&mut self, request: &Request, token: Token) -> bool {
        let iocb = match *request {
            Request::Transfer(transfer) if transfer.at_position() => return self.readiness.add(request, token),
            Request::Socket(call) if call.can_be_tried() => return self.readiness.add(request, token),
            // Of a signal only a wait by epoll(7) tells.
            Request::Poll { .. } | Request::AwaitSignal { .. } => return self.readiness.add(request, token),
            Request::Transfer(transfer) if transfer.direct && !extends(&transfer) => {
                self.begin(token);
                direct(&transfer, token)
            }
            Request::Fsync { fd, data_only } => {
                self.begin(token);
                let opcode = if data_only { context::FDSYNC } else { context::FSYNC };
                Iocb::new(opcode, fd, u64::from(token))
            }
            _ => return false,
        };
        self.queued.push(iocb);
        if super::others_close() {
            // The kernel looks the file up as the operation is submitted, and others may close it before the round ends.
            self.submit_some();
        }
        true
    }

    fn cancel(&mut self, token: Token) -> bool {
        self.readiness.remove(token)
    }

    fn submit(&mut self) {
        loop {
            self.submit_some();
            if self.queued.is_empty() || self.failed.is_some() {
                return;
            }
            if self.in_kernel < self.capacity {
                continue;
            }
            // Full of transfers, but for two polls of our own. Some of them end soon.
            let (early, in_kernel) = (&mut self.early, &mut self.in_kernel);
            let waited = self.context.wait(1, None, |event| {
                *in_kernel -= 1;
                early.push(Early::Event(event));
            });
            if let Err(error) = waited
                && error != Errno::INTR
            {
                self.failed = Some(error);
                return;
            }
        }
    }

    fn poll(&mut self, wait: Wait, sink: &mut dyn Sink) -> Result<(), Errno> {
        let nanos = match wait {
            Wait::No => Some(0),
            Wait::Nanos(nanos) => Some(nanos),
            Wait::Forever => None,
        };
        let waits = !matches!(wait, Wait::No);
        if waits {
            self.arm_wake();
        }
        if self.readiness.is_refused() {
            self.readiness.poll(Wait::No, sink);
        }
        let signals = self.readiness.awaits_signals();
        // Nobody but this thread must ask for signals, as the kernel would for its own poll.
        if !signals || !self.only_polls_are_left() {
            self.arm_readiness();
        }
        self.submit_some();
        let waits = waits && self.early.is_empty();
        let lacks_memory = !self.queued.is_empty() && self.in_kernel < self.capacity;
        let nanos = if lacks_memory { Some(0) } else { nanos };
        let before = self.early.len();
        let early = &mut self.early;
        self.context.reap(|event| early.push(Early::Event(event)));
        let waits = waits && early.is_empty() && self.failed.is_none();
        if waits && signals && self.only_polls_are_left() {
            self.wait_outside(wait);
        } else if waits {
            let nanos = if signals {
                Some(nanos.unwrap_or(LOOK_NS).min(LOOK_NS))
            } else {
                nanos
            };
            let early = &mut self.early;
            // Interrupted, or out of time: whoever waits looks around and comes back.
            if let Err(error) = self.context.wait(1, nanos, |event| early.push(Early::Event(event)))
                && error != Errno::INTR
            {
                self.failed = Some(error);
            }
        }
        self.in_kernel -= self.early.len() - before;
        self.report_early(sink);
        if signals {
            self.readiness.poll(Wait::No, sink);
        }
        self.failed.map_or(Ok(()), Err)
    }

    fn surrender(mut self: Box<Self>, _in_flight: usize) -> Vec<(Token, i32)> {
        for unsubmitted in std::mem::take(&mut self.queued) {
            self.end(unsubmitted.data);
        }
        // Streams are not tried any more. Transfers of a disk cannot be cancelled, and end soon: their completions can be
        // had without a system call.
        let mut done = Vec::new();
        let deadline = sys::now() + TRANSFERS_END_NS;
        loop {
            let early = &mut self.early;
            self.context.reap(|event| early.push(Early::Event(event)));
            for early in std::mem::take(&mut self.early) {
                match early {
                    Early::Event(event) if event.data >= READY => {}
                    Early::Event(event) => {
                        if self.end(event.data) {
                            done.push((event.data as Token, event.result as i32));
                        }
                    }
                    Early::Refused(data, _) => {
                        self.end(data);
                    }
                }
            }
            if !self.operations.contains(&true) || sys::now() > deadline {
                return done;
            }
            sys::pause(PAUSE_NS);
        }
    }

    fn rung(&self) -> EngineChoice {
        EngineChoice::Aio
    }
}

/// The largest context that the system has room for.
fn setup() -> Result<(Context, usize), Errno> {
    let mut error = Errno::AGAIN;
    for size in SIZES {
        match Context::new(size) {
            Ok(context) => return Ok((context, size as usize)),
            Err(e @ (Errno::AGAIN | Errno::NOMEM)) => error = e,
            Err(e) => return Err(e),
        }
    }
    Err(error)
}

/// Whether a transfer makes its file longer, as far as can be told.
fn extends(transfer: &Transfer) -> bool {
    let end = || transfer.buffer_len().map(|n| transfer.offset + n as i64);
    let size = || sys::fstat(transfer.fd).ok().map(|stat| stat.st_size);
    transfer.way == Way::Write && (transfer.flags & libc::RWF_APPEND != 0 || end().is_none_or(|end| size() < Some(end)))
}

fn poll(fd: c_int, events: i16, data: u64) -> Iocb {
    let mut iocb = Iocb::new(context::POLL, fd, data);
    iocb.data_at = events as u64;
    iocb
}

fn direct(transfer: &Transfer, token: Token) -> Iocb {
    let (opcode, data_at, length) = match (transfer.way, transfer.data) {
        (Way::Read, Data::Buffer(p, n)) => (context::PREAD, p as u64, n),
        (Way::Write, Data::Buffer(p, n)) => (context::PWRITE, p as u64, n),
        (Way::Read, Data::Vector(v, n)) => (context::PREADV, v as u64, n),
        (Way::Write, Data::Vector(v, n)) => (context::PWRITEV, v as u64, n),
    };
    let mut iocb = Iocb::new(opcode, transfer.fd, u64::from(token));
    iocb.rw_flags = transfer.flags as u32;
    iocb.data_at = data_at;
    iocb.length = u64::from(length);
    iocb.offset = transfer.offset;
    iocb
}
