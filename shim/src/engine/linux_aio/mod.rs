//! The Linux AIO engine: io_submit(2), the kernel's asynchronous I/O of before io_uring, a context per thread.
//!
//! It is asynchronous for O_DIRECT transfers, fsync(2) and poll(2). So direct transfers are submitted as they are, but for
//! writes that make the file longer, which io_submit would wait for; a transfer on a stream, or a call on a socket, is a
//! poll, and tried when that completes; the rest is the offload pool's.
//!
//! Invariant: `operations` holds, by token, all that was queued and has not been reported.

mod context;

use super::readiness::{MOST_IN_VAIN, Readiness};
use super::{Data, Engine, Request, Sink, Token, Transfer, Wait, Way};
use crate::conf::EngineChoice;
use crate::errno::Errno;
use crate::{fds, sys};
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

#[derive(Clone, Copy)]
enum Operation {
    /// An O_DIRECT transfer, or fsync.
    Direct,
    /// A poll for a transfer on a stream or a call on a socket. `file` is our duplicate of its descriptor, or the descriptor itself where there
    /// is no room for one: a thread in read(2) keeps its file when another closes the descriptor. `poll` tells its event
    /// from that of a poll which was given up, and whose token is another's by now. `in_vain` counts tries that did not go.
    Stream {
        request: Request,
        file: c_int,
        poll: u32,
        in_vain: u32,
    },
}

pub struct LinuxAio {
    context: Context,
    /// Most operations at a time.
    capacity: usize,
    in_kernel: usize,
    /// Polls among them, but for our own two: they may stay for ever, and must leave room for transfers.
    polls: usize,
    /// Those of them that nobody waits for any more.
    given_up: usize,
    /// The last poll's number: of 31 bits, and not 0.
    last_poll: u32,
    queued: Vec<Iocb>,
    operations: Vec<Option<Operation>>,
    /// What became known outside of `poll`.
    early: Vec<Early>,
    /// Streams beyond what may be polled for here.
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
            polls: 0,
            given_up: 0,
            last_poll: 0,
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

    fn keep(&mut self, token: Token, operation: Operation) {
        let at = token as usize;
        if self.operations.len() <= at {
            self.operations.resize(at + 1, None);
        }
        self.operations[at] = Some(operation);
    }

    fn queue_stream(&mut self, request: &Request, token: Token) -> bool {
        let Some(fd) = request.fd() else { return false };
        if self.polls >= self.capacity / 2 || self.readiness.awaits_signals() {
            return self.readiness.add(request, token);
        }
        let file = match sys::duplicate_to_wait_on(fd) {
            Some(duplicate) => {
                fds::mark_ours(duplicate, true);
                duplicate
            }
            None => fd,
        };
        self.poll_stream(request, file, token, 0);
        true
    }

    fn poll_stream(&mut self, request: &Request, file: c_int, token: Token, in_vain: u32) {
        let Some(way) = request.way() else { return };
        self.polls += 1;
        self.last_poll = self.last_poll % (i32::MAX as u32) + 1;
        let poll = self.last_poll;
        let request = *request;
        self.keep(
            token,
            Operation::Stream {
                request,
                file,
                poll,
                in_vain,
            },
        );
        let data = u64::from(poll) << 32 | u64::from(token);
        self.queued.push(self::poll(file, way.event(), data));
    }

    /// The operation that an event or a refusal of `data` is about; None if it was given up.
    fn take(&mut self, data: u64) -> Option<Operation> {
        let slot = &mut self.operations[data as Token as usize];
        let poll = match slot {
            Some(Operation::Stream { poll, .. }) => *poll,
            _ => 0,
        };
        if data >> 32 == 0 {
            return slot.take();
        }
        self.polls -= 1;
        if data >> 32 == u64::from(poll) {
            slot.take()
        } else {
            self.given_up -= 1;
            None
        }
    }

    /// Drops an operation that the kernel did not take: the next engine is to do it.
    fn drop_unsubmitted(&mut self, data: u64) {
        if data < READY
            && let Some(Operation::Stream { request, file, .. }) = self.take(data)
        {
            let_go(file, &request);
        }
    }

    /// Has `readiness` wait for the streams that the kernel polls for here. Of a signal only a wait by epoll(7) tells, and a
    /// thread waits in one way at a time.
    fn move_streams(&mut self) {
        for token in 0..self.operations.len() as Token {
            let Some(Operation::Stream { request, .. }) = self.operations[token as usize] else {
                continue;
            };
            // A duplicate is kept in any case: it is made before the one that is let go of.
            if self.readiness.add(&request, token) {
                self.give_up_stream(token);
            }
        }
    }

    /// Whether nothing is in the kernel but our own two polls, and those that were given up.
    fn only_polls_are_left(&self) -> bool {
        let own = usize::from(self.wake_armed) + usize::from(self.readiness_armed);
        self.queued.is_empty() && self.in_kernel == own + self.given_up
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

    /// Does not wait for a stream any more; false where nobody did.
    fn give_up_stream(&mut self, token: Token) -> bool {
        // The poll stays in the kernel, which can only be asked to end it by the address that its iocb was at.
        let Some(slot @ Some(Operation::Stream { .. })) = self.operations.get_mut(token as usize) else {
            return false;
        };
        if let Some(Operation::Stream { request, file, .. }) = slot.take() {
            self.given_up += 1;
            let_go(file, &request);
        }
        true
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
            data => match self.take(data) {
                Some(Operation::Stream {
                    request, file, in_vain, ..
                }) => {
                    self.stream_ready(&request, file, in_vain, data as Token, sink);
                }
                Some(Operation::Direct) => sink.done(data as Token, event.result as i32),
                None => {}
            },
        }
    }

    fn stream_ready(&mut self, request: &Request, file: c_int, in_vain: u32, token: Token, sink: &mut dyn Sink) {
        match (request.on(file).attempt(), request) {
            // It only looks ready (readiness.rs).
            (Ok(None), Request::Socket(_)) if in_vain >= MOST_IN_VAIN => sink.done(token, -Errno::AGAIN.0),
            // Somebody else was faster.
            (Ok(None), _) => return self.poll_stream(request, file, token, in_vain + 1),
            (Ok(Some(n)), _) => sink.done(token, n as i32),
            (Err(Errno::NOTSUP), Request::Transfer(transfer)) => sink.offload(token, Request::Plain(*transfer)),
            (Err(error), _) => sink.done(token, -error.0),
        }
        let_go(file, request);
    }

    /// The kernel would not take an operation: the fiber makes the plain call, whose answer is the right one. Without the
    /// polls of its own, and where io_submit itself is refused, the engine is of no use.
    fn refused(&mut self, data: u64, error: Errno, sink: &mut dyn Sink) {
        if matches!(error.0, libc::EPERM | libc::ENOSYS | libc::EACCES) {
            self.failed = Some(error);
            self.drop_unsubmitted(data);
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
            data => {
                let token = data as Token;
                match self.take(data) {
                    Some(Operation::Stream { request, file, .. }) => {
                        let_go(file, &request);
                        sink.offload(
                            token,
                            match request {
                                Request::Transfer(transfer) => Request::Plain(transfer),
                                other => other,
                            },
                        );
                    }
                    Some(Operation::Direct) => sink.done(token, -libc::ECANCELED),
                    None => {}
                }
            }
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
            Request::Transfer(transfer) if transfer.at_position() => return self.queue_stream(request, token),
            Request::Socket(call) if call.can_be_tried() => return self.queue_stream(request, token),
            // A FIFO must be closed when it is: the kernel lets go of an iocb's file a little after its completion.
            Request::Poll { .. } => return self.readiness.add(request, token),
            Request::AwaitSignal { .. } => {
                self.move_streams();
                return self.readiness.add(request, token);
            }
            Request::Transfer(transfer) if transfer.direct && !extends(&transfer) => {
                self.keep(token, Operation::Direct);
                direct(&transfer, token)
            }
            Request::Fsync { fd, data_only } => {
                self.keep(token, Operation::Direct);
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
        self.readiness.remove(token) || self.give_up_stream(token)
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
            // Full of transfers: polls leave them half of the room. Some of them end soon.
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
            self.drop_unsubmitted(unsubmitted.data);
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
                        if let Some(Operation::Direct) = self.take(event.data) {
                            done.push((event.data as Token, event.result as i32));
                        }
                    }
                    Early::Refused(data, _) => self.drop_unsubmitted(data),
                }
            }
            let is_transfer = |operation: &Option<Operation>| matches!(operation, Some(Operation::Direct));
            if !self.operations.iter().any(is_transfer) || sys::now() > deadline {
                return done;
            }
            sys::pause(PAUSE_NS);
        }
    }

    fn rung(&self) -> EngineChoice {
        EngineChoice::Aio
    }
}

impl Drop for LinuxAio {
    fn drop(&mut self) {
        for operation in self.operations.iter().flatten() {
            if let Operation::Stream { request, file, .. } = operation {
                let_go(*file, request);
            }
        }
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

/// A stream is not polled for any more.
fn let_go(file: c_int, request: &Request) {
    if request.fd() != Some(file) {
        fds::disown(file);
        let _ = sys::close(file);
    }
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
