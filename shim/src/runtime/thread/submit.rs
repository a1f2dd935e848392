//! Submits the operation of a fiber to the engine or the pool, waits for it, and completes it.

use super::Thread;
use crate::context;
use crate::engine::pool::{self, Job};
use crate::engine::{Request, Run, SocketCall};
use crate::host::Token;
use crate::host::remote::Parked;
use crate::runtime::operation::{Executor, Operation};
use std::ffi::c_int;
use std::sync::Arc;
use sys::errno::{self, Errno};

impl Thread {
    /// Submits `request` to the engine or the pool, and parks the running fiber, which `operation`
    /// belongs to, until it completes. Does nothing if neither accepts the request.
    ///
    /// # Safety
    /// `operation` is on the running fiber's stack, or otherwise stays alive until this returns.
    #[inline(always)]
    pub unsafe fn submit_and_park(&self, request: &Request, operation: *mut Operation) {
        if !self.engine.is_available() {
            return;
        }
        // A fiber that was meant to run the pending signal handlers is waiting again instead.
        self.signals.set_due(false);
        // SAFETY: our caller keeps the operation in place until its fiber is unparked.
        let token = unsafe { self.operations.add(operation) };
        if self.engine.queue(request, token) {
            if let Request::Transfer(transfer) = request
                && (transfer.direct || transfer.cold)
            {
                self.keep_device_busy(transfer.direct);
            }
            if matches!(request, Request::Futex { .. } | Request::Futexes { .. }) {
                self.engine.submit_queued();
            }
        } else if !self.submit_elsewhere(request, token, operation) {
            return;
        }
        self.park();
    }

    /// Handles a request that the engine rejected: a pure wait needs no executor, and everything
    /// else goes to the thread pool. Returns false if no pool thread is available.
    #[inline(never)]
    fn submit_elsewhere(&self, request: &Request, token: Token, operation: *mut Operation) -> bool {
        if matches!(request, Request::Wait { .. }) {
            // SAFETY: the operation is alive, on its fiber's stack, and only this thread uses it.
            unsafe { (*operation).executor = Executor::None };
            return true;
        }
        // Pool threads do not receive this thread's signals, so they cannot wait for them.
        if !matches!(request, Request::AwaitSignal { .. }) && self.offload(token, *request) {
            return true;
        }
        self.operations.withdraw(token);
        false
    }

    /// A device would be idle if its requests were only submitted at the end of the round. So they
    /// are submitted early, while other fibers still run, once they are a large enough share of all
    /// in-flight operations.
    #[inline]
    fn keep_device_busy(&self, direct: bool) {
        let (queued, in_flight) = (self.engine.queued(), self.operations.len());
        if policy::should_submit_early(queued, in_flight, direct, || self.host.runnable()) {
            self.engine.submit_queued();
        }
    }

    /// Submits everything queued, so that the kernel sees it before anything that follows.
    pub fn submit_queued(&self) {
        self.engine.submit_queued();
    }

    /// Submits everything queued if some of it refers to `fd`, which is about to be closed or
    /// replaced.
    #[inline(always)]
    pub fn submit_users_of(&self, fd: c_int) {
        self.engine.submit_users_of(fd);
    }

    /// Gives `request` to the pool. Returns false if the pool has no thread. Preserves errno.
    #[inline(never)]
    pub(super) fn offload(&self, token: Token, request: Request) -> bool {
        let errno = errno::get();
        // A fiber must not park for the pool's internal locks.
        let _off = context::libc();
        let submitted = pool::submit(Job {
            request,
            token,
            remote: Arc::clone(self.remote()),
        });
        errno::set(errno);
        if submitted && let Some(row) = self.operations.note_offloaded(token) {
            self.recorder.stats().of(row).offloaded.add(1);
        }
        submitted
    }

    /// Runs code on the pool without a fiber that waits for it. Returns false if the pool has no
    /// thread.
    pub fn start_on_pool(&self, run: Run) -> bool {
        let errno = errno::get();
        let _off = context::libc();
        let submitted = pool::submit(Job {
            request: Request::Run(run),
            token: pool::NO_WAITER,
            remote: Arc::clone(self.remote()),
        });
        errno::set(errno);
        submitted
    }

    /// Begins a wait of the running fiber. The fiber must next park ([`Self::park_until_woken`]) or
    /// cancel the wait ([`Self::cancel_wait`]). Needs no engine.
    ///
    /// # Safety
    /// `operation` is a [`Request::Wait`] on the running fiber's stack, and stays alive until the
    /// wait is over.
    pub unsafe fn begin_wait(&self, operation: *mut Operation) -> Token {
        // SAFETY: our caller keeps the operation in place until the wait is over.
        unsafe {
            (*operation).executor = Executor::None;
            self.operations.add(operation)
        }
    }

    /// Parks the running fiber until its wait is woken or ended early.
    pub fn park_until_woken(&self) {
        self.park();
    }

    /// Wakes a wait of this thread. The caller holds the claim.
    pub fn wake_wait(&self, token: Token) {
        self.complete(token, 0);
    }

    /// Cancels a wait that the running fiber has not parked for. No other thread may be about to
    /// wake it.
    pub fn cancel_wait(&self, token: Token) {
        self.operations.withdraw(token);
    }

    /// Completes the operation of `token`. Returns false if it is not in flight.
    #[inline(always)]
    pub(super) fn complete(&self, token: Token, result: i32) -> bool {
        let Some(fiber) = self.operations.finish(token, result) else {
            return false;
        };
        self.host.unpark(fiber);
        if self.signals.has_deferred() {
            // The fiber handles the signals at the end of its call at the latest.
            self.signals.set_due(true);
        }
        true
    }

    /// Calls accept4(2) on a socket that has a pending connection. EAGAIN if the connection is gone
    /// by now. None if the thread pool should make the call, because this thread must not block and
    /// its engine cannot try.
    pub fn accept_now(&self, call: &SocketCall) -> Option<Result<c_int, Errno>> {
        self.accepting
            .accept(call)
            .or_else(|| self.engine.accept_now(call))
    }

    /// Whether the engine does socket calls as a whole.
    pub fn does_sockets(&self) -> bool {
        self.engine.does_sockets()
    }

    /// Duplicates `fd` for a fiber that is about to park. Release it with
    /// [`Self::close_duplicate`].
    pub fn duplicate_for_wait(&self, fd: c_int) -> Option<c_int> {
        self.duplicates.make(fd)
    }

    pub fn close_duplicate(&self, duplicate: c_int) {
        self.duplicates.close(duplicate);
    }
}

/// For [`Parked::wake_here`].
///
/// # Safety
/// The wait of `parked` has not ended.
pub unsafe fn wake_here(parked: &Parked) -> bool {
    let here = context::active().cast::<Thread>();
    // On the scheduler's own stack the thread could be in the middle of any change.
    // SAFETY: `here` is null or the calling thread's handle, which lives while it is attached.
    let is_here =
        std::ptr::eq(here.cast(), parked.thread) && !unsafe { &*here }.host().running().is_null();
    if is_here {
        // SAFETY: `here` is the thread of a parked fiber, so it is not null.
        unsafe { &*here }.wake_wait(parked.token);
    }
    is_here
}
