//! The Linux AIO engine: io_submit(2), the kernel's asynchronous I/O from before io_uring, with one
//! context per thread.
//!
//! Linux AIO is asynchronous only for O_DIRECT transfers and fsync(2). So direct transfers are
//! submitted, except for writes that extend the file, in which io_submit would block. Streams and
//! sockets are waited for by epoll ([`Readiness`]), and the offload pool does the rest. Completions
//! are counted in the thread's wake-up eventfd, which is one of the files that epoll waits for.
//!
//! A thread gets a context at its first such operation and leaves it to other threads when it ends
//! ([`spare`]), because destroying a context is expensive.
//!
//! IOCB_CMD_POLL is not used for streams: the kernel holds the file of such a poll until the poll
//! ends and a while longer, so a socket that was closed would look open to its peer.
//!
//! Invariant: `operations` marks, by token, every operation that was queued and has not been
//! reported.

mod context;
mod spare;

use super::readiness::Readiness;
use super::{Data, Direction, Engine, Request, Sink, Transfer, Wait};
use crate::host::Token;
use crate::state::{log, options};
use context::{Context, Event, Iocb};
use format::options::{EngineChoice, Level};
use std::ffi::c_int;
use std::sync::atomic::{AtomicBool, Ordering};
use sys::errno::Errno;

pub struct LinuxAio {
    context: ContextSlot,
    in_kernel: usize,
    queued: Vec<Iocb>,
    /// For each token: whether its operation was queued and has not been reported.
    operations: Vec<bool>,
    /// Completions and refusals that were found outside of `poll`.
    reaped: Vec<Reaped>,
    readiness: Readiness,
    wake_fd: c_int,
    /// Consecutive times that the kernel had no memory for an operation.
    shortages: u32,
    /// The error that made the engine give up.
    failed: Option<Errno>,
}

enum ContextSlot {
    /// Created when the first operation is queued.
    NotCreated,
    Created(Context),
    /// The kernel refused a context; the thread pool does the operations.
    Refused,
}

/// Reports once that the kernel refuses contexts: a warning if the user asked for this engine.
#[cold]
fn say_refused(error: Errno) {
    static SAID: AtomicBool = AtomicBool::new(false);
    if SAID.swap(true, Ordering::Relaxed) {
        return;
    }
    let level = if options::current().engine == EngineChoice::Aio {
        Level::Warn
    } else {
        Level::Info
    };
    let cause = if error == Errno::AGAIN {
        ", because all contexts that fs.aio-max-nr allows are in use"
    } else {
        ""
    };
    log::say(
        level,
        format_args!(
            "Linux AIO: io_setup failed: {error}{cause}; direct transfers and fsync use the thread \
            pool instead"
        ),
    );
}

/// How many consecutive times the kernel may lack memory for an operation.
const MAX_SHORTAGES: u32 = 64;
/// The pause between two attempts.
const PAUSE_NS: u64 = 200_000;
/// How long to wait for disk transfers when the engine ends.
const TRANSFERS_END_NS: u64 = 30_000_000_000;

enum Reaped {
    Event(Event),
    Refused(u64, Errno),
}

impl LinuxAio {
    pub fn new(wake_fd: c_int) -> Result<Self, Errno> {
        context::probe()?;
        Ok(Self {
            context: ContextSlot::NotCreated,
            in_kernel: 0,
            queued: Vec::new(),
            operations: Vec::new(),
            reaped: Vec::new(),
            readiness: Readiness::new(wake_fd)?,
            wake_fd,
            shortages: 0,
            failed: None,
        })
    }

    /// Whether there is a context to submit to. Creates it on first use.
    fn has_context(&mut self) -> bool {
        if let ContextSlot::NotCreated = self.context {
            self.context = match spare::take() {
                Ok(context) => ContextSlot::Created(context),
                Err(error) => {
                    say_refused(error);
                    ContextSlot::Refused
                }
            };
        }
        matches!(self.context, ContextSlot::Created(_))
    }

    fn capacity(&self) -> usize {
        match &self.context {
            ContextSlot::Created(context) => context.capacity(),
            _ => 0,
        }
    }

    /// Submits as many operations as the kernel accepts now.
    fn submit_some(&mut self) {
        let ContextSlot::Created(context) = &self.context else {
            return;
        };
        let (mut from, mut shortage) = (0, None);
        while from < self.queued.len() {
            // SAFETY: the operations' memory stays in place until their completions, because the
            // parked fibers keep it (operation.rs).
            match unsafe { context.submit(&self.queued[from..]) } {
                Ok(n) => {
                    from += n;
                    self.in_kernel += n;
                    self.shortages = 0;
                }
                Err(Errno::INTR) => {}
                // The context is full. The rest is submitted after completions.
                Err(Errno::AGAIN) if self.in_kernel >= context.capacity() => break,
                Err(error @ (Errno::AGAIN | Errno::NOMEM)) => {
                    shortage = Some(error);
                    break;
                }
                Err(error) => {
                    self.reaped
                        .push(Reaped::Refused(self.queued[from].data, error));
                    from += 1;
                }
            }
        }
        self.queued.drain(..from);
        if let Some(error) = shortage {
            self.lacks_memory(error);
        }
    }

    /// Submits the operation that was queued last, and all before it. If the kernel cannot take it
    /// now, removes it from the queue and returns false.
    fn submit_last(&mut self) -> bool {
        self.submit_some();
        if !self.queued.is_empty() {
            self.reap();
            self.submit_some();
        }
        if let Some(last) = self.queued.pop() {
            self.end(last.data);
            return false;
        }
        true
    }

    /// Takes the available completions, without a system call if the ring is readable.
    fn reap(&mut self) {
        let ContextSlot::Created(context) = &self.context else {
            return;
        };
        let (reaped, in_kernel) = (&mut self.reaped, &mut self.in_kernel);
        context.reap(|event| {
            *in_kernel -= 1;
            reaped.push(Reaped::Event(event));
        });
    }

    /// The kernel had no memory for an operation: pauses before the caller submits it again.
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

    /// Whether `data`, from an event or a refusal, is the token of a queued operation. Marks that
    /// operation as ended.
    fn end(&mut self, data: u64) -> bool {
        self.operations
            .get_mut(data as usize)
            .is_some_and(|queued| std::mem::replace(queued, false))
    }

    /// Reports everything in `reaped`.
    fn report_reaped(&mut self, sink: &mut dyn Sink) {
        for reaped in std::mem::take(&mut self.reaped) {
            match reaped {
                Reaped::Event(event) => self.complete(event, sink),
                Reaped::Refused(data, error) => self.refused(data, error, sink),
            }
        }
    }

    fn complete(&mut self, event: Event, sink: &mut dyn Sink) {
        if self.end(event.data) {
            sink.done(event.data as Token, event.result as i32);
        }
    }

    /// The kernel refused an operation. The fiber makes the plain call instead, which gives the
    /// correct result. If the kernel refuses io_submit itself, the next engine takes over.
    fn refused(&mut self, data: u64, error: Errno, sink: &mut dyn Sink) {
        if !self.end(data) {
            return;
        }
        if matches!(error.0, libc::EPERM | libc::ENOSYS | libc::EACCES) {
            self.failed = Some(error);
        } else {
            sink.done(data as Token, -libc::ECANCELED);
        }
    }
}

impl Drop for LinuxAio {
    fn drop(&mut self) {
        if let ContextSlot::Created(context) =
            std::mem::replace(&mut self.context, ContextSlot::NotCreated)
            && self.in_kernel == 0
        {
            spare::put(context);
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

    fn has_operations(&self) -> bool {
        self.in_kernel > 0
            || !self.queued.is_empty()
            || !self.reaped.is_empty()
            || !self.readiness.is_empty()
            || self.failed.is_some()
    }

    fn ready_descriptor(&mut self) -> Option<c_int> {
        Some(self.readiness.fd())
    }

    fn has_unsubmitted(&self) -> bool {
        !self.queued.is_empty()
    }

    fn is_stalled(&self) -> bool {
        self.has_unsubmitted() && self.in_kernel < self.capacity() || self.failed.is_some()
    }

    fn queue(&mut self, request: &Request, token: Token) -> bool {
        let iocb = match *request {
            Request::Transfer(transfer) if transfer.at_position() => {
                return self.readiness.add(request, token);
            }
            Request::Socket(call) if call.can_be_tried() => {
                return self.readiness.add(request, token);
            }
            // epoll_wait(2) also notices signals that are directed at this thread alone.
            Request::Poll { .. } | Request::AwaitSignal { .. } => {
                return self.readiness.add(request, token);
            }
            Request::Transfer(transfer) if transfer.direct && !extends(&transfer) => {
                direct(&transfer, token, self.wake_fd)
            }
            Request::Fsync { fd, data_only } => {
                let opcode = if data_only {
                    context::FDSYNC
                } else {
                    context::FSYNC
                };
                Iocb::new(opcode, fd, u64::from(token), self.wake_fd)
            }
            _ => return false,
        };
        if !self.has_context() {
            return false;
        }
        self.begin(token);
        self.queued.push(iocb);
        // The kernel looks the file up at submission, and another thread may close it before the
        // round ends.
        !super::others_close() || self.submit_last()
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
            let ContextSlot::Created(context) = &self.context else {
                return;
            };
            if self.in_kernel < context.capacity() {
                continue;
            }
            // The context is full of transfers, and some of them end soon.
            let (reaped, in_kernel) = (&mut self.reaped, &mut self.in_kernel);
            let waited = context.wait(1, None, |event| {
                *in_kernel -= 1;
                reaped.push(Reaped::Event(event));
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
        self.submit_some();
        self.reap();
        let poll_only = self.is_stalled() || !self.reaped.is_empty();
        let wait = if poll_only { Wait::No } else { wait };
        if !matches!(wait, Wait::No) || !self.readiness.is_empty() {
            self.readiness.poll(wait, sink);
            // A completion is in the ring before it is counted in the eventfd, which has just been
            // read.
            self.reap();
        }
        self.report_reaped(sink);
        self.failed.map_or(Ok(()), Err)
    }

    fn shut_down(mut self: Box<Self>, _in_flight: usize) -> Vec<(Token, i32)> {
        for unsubmitted in std::mem::take(&mut self.queued) {
            self.end(unsubmitted.data);
        }
        // Streams are no longer attempted. Disk transfers cannot be cancelled but end soon. Their
        // completions can be reaped without a system call.
        let mut done = Vec::new();
        let deadline = sys::now() + TRANSFERS_END_NS;
        loop {
            self.reap();
            for reaped in std::mem::take(&mut self.reaped) {
                match reaped {
                    Reaped::Event(event) => {
                        if self.end(event.data) {
                            done.push((event.data as Token, event.result as i32));
                        }
                    }
                    Reaped::Refused(data, _) => {
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

    fn choice(&self) -> EngineChoice {
        EngineChoice::Aio
    }
}

/// Whether a write extends its file, as far as the shim can tell.
fn extends(transfer: &Transfer) -> bool {
    let end = || transfer.buffer_len().map(|n| transfer.offset + n as i64);
    let size = || sys::fstat(transfer.fd).ok().map(|stat| stat.st_size);
    transfer.direction == Direction::Write
        && (transfer.flags & libc::RWF_APPEND != 0 || end().is_none_or(|end| size() < Some(end)))
}

fn direct(transfer: &Transfer, token: Token, eventfd: c_int) -> Iocb {
    let (opcode, data_at, length) = match (transfer.direction, transfer.data) {
        (Direction::Read, Data::Buffer(p, n)) => (context::PREAD, p as u64, n),
        (Direction::Write, Data::Buffer(p, n)) => (context::PWRITE, p as u64, n),
        (Direction::Read, Data::Vector(v, n)) => (context::PREADV, v as u64, n),
        (Direction::Write, Data::Vector(v, n)) => (context::PWRITEV, v as u64, n),
    };
    let mut iocb = Iocb::new(opcode, transfer.fd, u64::from(token), eventfd);
    iocb.rw_flags = transfer.flags as u32;
    iocb.data_at = data_at;
    iocb.length = u64::from(length);
    iocb.offset = transfer.offset;
    iocb
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::descriptors;
    use rustix::event::{EventfdFlags, eventfd};
    use rustix::fs::{MemfdFlags, memfd_create};
    use std::os::fd::{AsRawFd, OwnedFd};

    /// What the smallest context takes is more than it was asked to take, but less than this.
    const MANY: Token = 2000;

    #[derive(Default)]
    struct Results(Vec<i32>);

    impl Sink for Results {
        fn done(&mut self, _: Token, result: i32) {
            self.0.push(result);
        }

        fn offload(&mut self, _: Token, _: Request) {
            panic!("the kernel supports fsync");
        }
    }

    /// An engine with the smallest context. None if the kernel refuses Linux AIO.
    fn engine(wake: &OwnedFd) -> Option<LinuxAio> {
        descriptors::init();
        let made = LinuxAio::new(wake.as_raw_fd()).and_then(|mut engine| {
            engine.context = ContextSlot::Created(Context::new(1)?);
            Ok(engine)
        });
        made.inspect_err(|error| testprogs::skip(&format!("Linux AIO: {error}")))
            .ok()
    }

    fn fsync(file: &OwnedFd) -> Request {
        Request::Fsync {
            fd: file.as_raw_fd(),
            data_only: false,
        }
    }

    /// Waits for the results of `n` operations. All must have succeeded.
    fn expect_success(engine: &mut LinuxAio, n: usize) {
        let mut results = Results::default();
        while results.0.len() < n {
            engine.poll(Wait::Forever, &mut results).unwrap();
        }
        assert!(results.0.iter().all(|&result| result == 0));
        assert_eq!(results.0.len(), n);
    }

    #[test]
    fn operations_that_a_full_context_cannot_take_are_submitted_before_a_close() {
        let wake = eventfd(0, EventfdFlags::CLOEXEC).unwrap();
        let Some(mut engine) = engine(&wake) else {
            return;
        };
        let mut file = memfd_create("file", MemfdFlags::CLOEXEC).unwrap();
        (0..MANY).for_each(|token| assert!(engine.queue(&fsync(&file), token)));
        engine.submit_some();
        assert!(engine.has_unsubmitted() && !engine.is_stalled());
        engine.submit();
        assert!(!engine.has_unsubmitted());
        // From here on the number refers to a pipe, on which fsync fails.
        rustix::io::dup2(std::io::pipe().unwrap().0, &mut file).unwrap();
        expect_success(&mut engine, MANY as usize);
    }

    #[test]
    fn an_operation_that_a_full_context_cannot_take_at_once_is_refused() {
        let wake = eventfd(0, EventfdFlags::CLOEXEC).unwrap();
        let Some(mut engine) = engine(&wake) else {
            return;
        };
        let file = memfd_create("file", MemfdFlags::CLOEXEC).unwrap();
        for token in 0..MANY {
            assert!(engine.queue(&fsync(&file), token));
        }
        assert!(!engine.submit_last());
        assert!(!engine.operations[MANY as usize - 1]);
        expect_success(&mut engine, MANY as usize - 1);
    }
}
