//! The io_uring engine: a ring per thread, one system call per scheduling round.
//!
//! Invariant: between two calls from outside, the ring's own head and tail are the only state of
//! the queues, except that `reaped` holds completions that were reaped to make room for
//! submissions.

mod deadline;
mod files;
mod for_one;
mod hot_file;
mod setup;
mod sqe;
mod teardown;
#[cfg(test)]
mod tests;
mod window;

pub use window::redirect;

use super::{Engine, Request, Sink, SocketCall, Transfer, Wait};
use crate::host::Token;
use crate::state::descriptors;
use deadline::Deadline;
use files::Files;
pub use for_one::ForOne;
use format::options::EngineChoice;
use hot_file::HotFile;
use io_uring::{IoUring, opcode, squeue, types};
use sqe::File;
use std::ffi::c_int;
use std::os::fd::AsRawFd;
use std::time::Duration;
use sys::errno::Errno;
use teardown::Teardown;

/// The user data of the read that is armed on the wake-up eventfd.
const WAKE: u64 = u64::MAX;
/// The user data of entries whose completion is ignored.
const SILENT: u64 = u64::MAX - 1;
/// The user data of the armed timeout.
const DEADLINE: u64 = u64::MAX - 2;
/// The user data of the accept that is being attempted.
const ATTEMPT: u64 = u64::MAX - 3;
/// Marks entries in `queued` that the engine made for itself and that no fiber waits for.
const INTERNAL: Token = Token::MAX;

/// The bit position in the user data at which an operation on a captured file has the file's slot.
/// The token is below it.
const SLOT_SHIFT: u32 = 32;

/// How many consecutive failures of io_uring_enter the engine tolerates before it gives up: the
/// first limit is for a kernel that lacks memory or room for completions, the second for every
/// other error, because those are rarely transient.
const MAX_SHORTAGES: u32 = 64;
const MAX_REFUSALS: u32 = 3;
/// From this many consecutive shortages on, the thread pauses before each retry, for this long.
const PAUSE_FROM: u32 = 8;
const PAUSE_NS: u64 = 200_000;

/// How long to wait for cancelled operations to complete.
const CANCEL_NS: u64 = 2_000_000_000;
/// How long to wait until the kernel releases the memory of operations whose completions can no
/// longer be reaped.
const TEARDOWN_NS: u64 = 20_000_000;

/// The most entries that one request needs: its own, and the two around the first use of a hot
/// file.
const ENTRIES_PER_REQUEST: usize = 3;

/// A flag of io_uring_enter(2): do not count the wait as I/O wait (Linux 6.15). The io-uring crate
/// does not define it yet.
const IORING_ENTER_NO_IOWAIT: u32 = 1 << 7;
const IORING_ENTER_GETEVENTS: u32 = 1;

pub struct Uring {
    ring: IoUring,
    /// The view of the queue for other threads. Declared before `hot` because it refers to `hot`.
    window: Option<window::Owner>,
    hot: HotFile,
    files: Files,
    /// The flags of every io_uring_enter call.
    wait_flags: u32,
    reaped: Vec<(Token, i32)>,
    wake_fd: c_int,
    /// The buffer of the armed read of the eventfd. Boxed because the kernel holds its address.
    wake_count: Box<u64>,
    wake_armed: bool,
    deadline: Deadline,
    /// The result of the attempted accept.
    attempted: Option<i32>,
    /// The tokens of the queued entries, in the order of the queue. Shows which entries are left if
    /// the kernel stops accepting submissions.
    queued: Vec<Token>,
    /// Whether this kernel's io_uring supports futexes; None until the first query.
    futexes: Option<bool>,
    /// The eventfd that signals completions, created on the first query.
    ready: Option<c_int>,
    /// Consecutive failures of io_uring_enter.
    failures: u32,
    /// The error that made the engine give up. Nothing is submitted any more.
    failed: Option<Errno>,
}

impl Uring {
    pub fn new(wake_fd: c_int) -> Result<Self, Errno> {
        Self::with_ring(setup::build()?, wake_fd)
    }

    fn with_ring(mut ring: IoUring, wake_fd: c_int) -> Result<Self, Errno> {
        if !ring.params().is_feature_rw_cur_pos() || !ring.params().is_feature_nodrop() {
            // Kernels before 5.6 lack IORING_OP_READ, OPENAT and CLOSE.
            descriptors::disown(ring.as_raw_fd());
            return Err(Errno(libc::ENOSYS));
        }
        let no_iowait = ring.params().is_feature_no_iowait();
        if let Err(error) = setup::prove(&mut ring) {
            descriptors::disown(ring.as_raw_fd());
            return Err(error);
        }
        setup::settle(&ring);
        let files = Files::new(&ring);
        let hot = HotFile::new(&ring, files.has_hot_slot());
        Ok(Self {
            wait_flags: IORING_ENTER_GETEVENTS | if no_iowait { IORING_ENTER_NO_IOWAIT } else { 0 },
            window: window::Owner::new(&ring, hot.values()),
            hot,
            files,
            queued: Vec::with_capacity(ring.params().sq_entries() as usize),
            ring,
            reaped: Vec::new(),
            wake_fd,
            wake_count: Box::new(0),
            wake_armed: false,
            deadline: Deadline::new(),
            futexes: None,
            attempted: None,
            ready: None,
            failures: 0,
            failed: None,
        })
    }

    /// Makes room for [`ENTRIES_PER_REQUEST`] entries.
    fn make_room(&mut self) {
        if self.queued.len() + ENTRIES_PER_REQUEST > self.ring.params().sq_entries() as usize {
            self.submit();
        }
    }

    /// Queues `entry`; there must be room. After the engine has failed, the entry is not submitted:
    /// the next poll has the engine replaced, and the operation moves to its successor.
    fn push(&mut self, entry: &squeue::Entry, token: Token) {
        if self.queued.is_empty() {
            self.set_pending(true);
        }
        // SAFETY: the entry's memory stays in place until its completion: the parked fiber keeps it
        // for requests (operation.rs), and the engine's own entries refer to boxed memory that
        // lives as long as the ring.
        let pushed = unsafe { self.ring.submission().push(entry) };
        // The queue can only be full if nothing is submitted any more.
        debug_assert!(
            pushed.is_ok() || self.failed.is_some(),
            "make_room was called"
        );
        if pushed.is_ok() {
            self.queued.push(token);
        }
    }

    /// Tells other threads whether entries are queued.
    fn set_pending(&self, pending: bool) {
        if let Some(window) = &self.window {
            window.set_pending(pending);
        }
    }

    /// Call before the queue is submitted.
    fn end_batch(&mut self) {
        if let Some(last) = self.hot.end_batch() {
            self.push(&last.user_data(SILENT), INTERNAL);
        }
    }

    /// io_uring_enter(2): submits everything queued and waits for `want` completions.
    fn enter(&mut self, want: u32) -> Result<usize, Errno> {
        let queued = self.ring.submission().len() as u32;
        // The crate would make this call with libc's syscall(), which is our own hook and may let
        // other fibers run. SAFETY: no argument is a pointer; `push` guarantees that the queue's
        // entries are valid.
        let enter =
            || unsafe { sys::io_uring_enter(self.ring.as_raw_fd(), queued, want, self.wait_flags) };
        let submitted = match &self.window {
            Some(window) if queued > 0 => window.during(enter),
            _ => enter(),
        };
        let left = self.ring.submission().len();
        self.queued.drain(..queued as usize - left);
        if submitted.is_ok() {
            self.failures = 0;
        }
        if queued > 0 && left == 0 {
            self.set_pending(false);
        }
        if left > 0 {
            // The entries that are still queued read the hot file's values, which therefore must
            // not change.
            self.hot.cool();
        }
        submitted
    }

    /// Takes completions off the queue. Reports those of requests to `done` and handles the rest.
    fn reap(&mut self, done: &mut dyn FnMut(Token, i32)) {
        for entry in self.ring.completion() {
            match entry.user_data() {
                WAKE => self.wake_armed = false,
                DEADLINE => self.deadline.completed(entry.result()),
                SILENT => {}
                ATTEMPT => self.attempted = Some(entry.result()),
                data => {
                    let slot = (data >> SLOT_SHIFT) as u32;
                    if slot != 0 {
                        self.files.release(slot);
                    }
                    done(data as Token, entry.result());
                }
            }
        }
    }

    /// Arms a read on the eventfd, so that a wake-up posts a completion.
    fn arm_wake(&mut self) {
        if !self.wake_armed {
            self.wake_armed = true;
            self.make_room();
            let count = std::ptr::from_mut(&mut *self.wake_count).cast();
            self.push(
                &opcode::Read::new(types::Fd(self.wake_fd), count, 8)
                    .build()
                    .user_data(WAKE),
                INTERNAL,
            );
        }
    }

    /// Arms a timeout, so that the end of a wait posts a completion.
    fn arm_deadline(&mut self, nanos: u64) {
        let entries = self.deadline.arm(sys::now(), nanos);
        for (entry, data) in entries.into_iter().flatten() {
            self.make_room();
            self.push(&entry.user_data(data), INTERNAL);
        }
    }

    /// Notes an error of io_uring_enter. Returns whether the ring is still usable.
    #[cold]
    fn survives(&mut self, error: Errno) -> bool {
        if error == Errno::INTR {
            return true;
        }
        self.failures += 1;
        let is_shortage = matches!(error, Errno::BUSY | Errno::AGAIN | Errno::NOMEM);
        if self.failures
            > if is_shortage {
                MAX_SHORTAGES
            } else {
                MAX_REFUSALS
            }
        {
            self.failed = Some(error);
            return false;
        }
        if is_shortage && self.failures > PAUSE_FROM {
            sys::pause(PAUSE_NS);
        }
        true
    }

    /// Cancels all in-flight operations and adds their results to `done` until it has `in_flight`
    /// of them. Returns whether all results arrived.
    fn cancel_all(&mut self, in_flight: usize, done: &mut Vec<(Token, i32)>) -> bool {
        let deadline = sys::now() + CANCEL_NS;
        self.make_room();
        let all = opcode::AsyncCancel2::new(types::CancelBuilder::any()).build();
        self.push(&all.user_data(SILENT), INTERNAL);
        self.submit();
        // The armed timeout is cancelled as well.
        self.deadline = Deadline::new();
        loop {
            done.append(&mut self.reaped);
            self.reap(&mut |token, result| done.push((token, result)));
            if done.len() >= in_flight {
                return true;
            }
            let left = deadline.saturating_sub(sys::now());
            if self.failed.is_some() || left == 0 {
                return false;
            }
            self.arm_deadline(left);
            if let Err(error) = self.enter(1) {
                self.survives(error);
            }
        }
    }
}

impl Drop for Uring {
    fn drop(&mut self) {
        descriptors::disown(self.ring.as_raw_fd());
        if let Some(ready) = self.ready {
            descriptors::disown(ready);
            let _ = sys::close(ready);
        }
    }
}

impl Engine for Uring {
    fn name(&self) -> &'static str {
        "io_uring"
    }

    fn batches(&self) -> bool {
        true
    }

    fn does_sockets(&self) -> bool {
        true
    }

    fn ready_descriptor(&mut self) -> Option<c_int> {
        if self.ready.is_none() {
            self.ready = setup::ready_descriptor(&self.ring);
        }
        self.ready
    }

    fn has_unsubmitted(&self) -> bool {
        !self.queued.is_empty()
    }

    fn is_stalled(&self) -> bool {
        self.has_unsubmitted() || self.failed.is_some()
    }

    fn has_futexes(&mut self) -> bool {
        *self
            .futexes
            .get_or_insert_with(|| setup::has_futexes(&self.ring))
    }

    fn queue(&mut self, request: &Request, token: Token) -> bool {
        self.make_room();
        let file = match *request {
            Request::Transfer(Transfer { fd, .. }) if self.hot.vote(fd) => {
                if let Some(first) = self.hot.take() {
                    self.push(&first.user_data(SILENT), INTERNAL);
                }
                File::Slot(files::HOT)
            }
            // A kernel worker thread looks the file up later, after io_uring_enter has returned.
            Request::Fsync { fd, .. } => match self.files.capture(fd) {
                Some(slot) => File::Slot(slot),
                None => return false,
            },
            _ => File::Descriptor(request.fd().unwrap_or(libc::AT_FDCWD)),
        };
        let Some(entry) = sqe::of(request, file) else {
            return false;
        };
        let slot = match file {
            File::Slot(slot) => slot,
            File::Descriptor(_) => 0,
        };
        self.push(
            &entry.user_data(u64::from(slot) << SLOT_SHIFT | u64::from(token)),
            token,
        );
        true
    }

    /// Queues an accept and, behind it, its cancellation. If the accept cannot complete at once it
    /// is cancelled and leaves nothing behind.
    fn accept_now(&mut self, call: &SocketCall) -> Option<Result<c_int, Errno>> {
        let accept = sqe::of(&Request::Socket(*call), File::Descriptor(call.fd))?;
        self.make_room();
        if self.failed.is_some() {
            return None;
        }
        self.attempted = None;
        self.push(&accept.user_data(ATTEMPT), INTERNAL);
        self.push(
            &opcode::AsyncCancel::new(ATTEMPT).build().user_data(SILENT),
            INTERNAL,
        );
        self.end_batch();
        loop {
            if let Err(error) = self.enter(1)
                && !self.survives(error)
            {
                return None;
            }
            let mut reaped = std::mem::take(&mut self.reaped);
            self.reap(&mut |token, result| reaped.push((token, result)));
            self.reaped = reaped;
            match self.attempted {
                None => {}
                Some(accepted @ 0..) => return Some(Ok(accepted)),
                Some(result) if result == -libc::ECANCELED => return Some(Err(Errno::AGAIN)),
                Some(result) => return Some(Err(Errno::of(result))),
            }
        }
    }

    fn cancel(&mut self, token: Token) -> bool {
        // The kernel takes entries in order, so this one finds the operation of `token` or none,
        // never a later operation with the same token.
        self.make_room();
        self.push(
            &opcode::AsyncCancel::new(u64::from(token))
                .build()
                .user_data(SILENT),
            INTERNAL,
        );
        false
    }

    fn submit(&mut self) {
        self.end_batch();
        while self.failed.is_none() && !self.ring.submission().is_empty() {
            if let Err(error) = self.enter(0)
                && self.survives(error)
            {
                // The kernel may refuse submissions because too many completions are pending: reap
                // them first.
                let mut reaped = std::mem::take(&mut self.reaped);
                self.reap(&mut |token, result| reaped.push((token, result)));
                self.reaped = reaped;
            }
        }
    }

    fn poll(&mut self, wait: Wait, sink: &mut dyn Sink) -> Result<(), Errno> {
        if self.failed.is_none() && !matches!(wait, Wait::No) {
            // May submit, and so produce completions.
            self.arm_wake();
            if let Wait::Nanos(nanos) = wait {
                self.arm_deadline(nanos);
            }
        }
        let ready = !self.reaped.is_empty() || !self.ring.completion().is_empty();
        let want = u32::from(!ready && !matches!(wait, Wait::No));
        if self.failed.is_none() {
            self.round(want);
        }
        for (token, result) in std::mem::take(&mut self.reaped) {
            sink.done(token, result);
        }
        self.reap(&mut |token, result| sink.done(token, result));
        self.failed.map_or(Ok(()), Err)
    }

    fn shut_down(mut self: Box<Self>, in_flight: usize) -> Vec<(Token, i32)> {
        let mut done = Vec::new();
        let mut otherwise = 0;
        if !self.cancel_all(in_flight, &mut done) {
            // This works without io_uring_enter: it cancels waiting operations and waits for those
            // that a kernel worker thread is executing.
            let limit = types::Timespec::from(Duration::from_nanos(CANCEL_NS));
            let all = types::CancelBuilder::any();
            let _ = self.ring.submitter().register_sync_cancel(Some(limit), all);
            self.reap(&mut |token, result| done.push((token, result)));
            // The read of the eventfd may still be in flight, so its buffer must stay.
            std::mem::forget(std::mem::take(&mut self.wake_count));
            // A transfer between a disk and memory cannot be cancelled, and its completion never
            // arrives here. The caller repeats it after this one has ended.
            otherwise = TEARDOWN_NS;
        }
        let teardown = Teardown::of(self.ring.as_raw_fd());
        drop(self);
        teardown.wait(otherwise);
        done.retain(|(_, result)| !matches!(-result, libc::ECANCELED | libc::EINTR));
        done
    }

    fn choice(&self) -> EngineChoice {
        EngineChoice::Uring
    }
}

impl Uring {
    /// The one system call of a scheduling round, skipped if there is nothing to do.
    fn round(&mut self, want: u32) {
        self.end_batch();
        let pending = {
            let submission = self.ring.submission();
            submission.taskrun() || submission.cq_overflow()
        };
        if self.queued.is_empty() && !pending && want == 0 {
            return;
        }
        if let Err(error) = self.enter(want) {
            self.survives(error);
        }
    }
}
