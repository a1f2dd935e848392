//! How an operation of a fiber's is queued, or given to the pool, waited for, and landed.

use super::{EngineSlot, Thread};
use crate::deadlines::NEVER;
use crate::engine::{Request, Run, Token};
use crate::flight::{Flight, Kind};
use crate::pool::{self, Job};
use crate::tls::OffFiber;
use crate::{errno, fds, policy, sys};
use std::ffi::c_int;
use std::sync::Arc;

impl Thread {
    /// Has the engine, or the pool, do `request` for `flight` and parks its fiber, the running one,
    /// until it is done. Does nothing where that is impossible.
    ///
    /// # Safety
    /// `flight` is on the running fiber's stack, or stays otherwise until this returns.
    #[inline(always)]
    pub unsafe fn fly(&self, request: &Request, flight: *mut Flight) {
        let Some(engine) = self.engine() else { return };
        // A fiber that was to handle signals waits once more instead.
        self.signals.due.set(false);
        // SAFETY: this thread's alone; the borrow ends with the statement.
        let token = unsafe { &mut *self.flights.get() }.add(flight);
        // SAFETY: the caller's, and alive.
        if unsafe { (*flight).deadline } != NEVER {
            self.set_deadline(flight, token);
        }
        if engine.queue(request, token) {
            self.queued.set(self.queued.get() + 1);
            if let Request::Transfer(transfer) = request
                && (transfer.direct || transfer.cold)
            {
                self.keep_device_busy(transfer.direct);
            }
            if matches!(request, Request::Futex { .. } | Request::Futexes { .. }) {
                self.submit_queued();
            }
        } else if !self.carry_otherwise(request, token, flight) {
            return;
        }
        self.park();
    }

    /// What is not the engine's is the pool's, or nobody's; false where there is no thread to be
    /// had.
    #[inline(never)]
    fn carry_otherwise(&self, request: &Request, token: Token, flight: *mut Flight) -> bool {
        if matches!(request, Request::Wait { .. }) {
            // SAFETY: alive, on its fiber's stack; this thread's alone.
            unsafe { (*flight).kind = Kind::Wait };
            return true;
        }
        // The pool's threads get none of this thread's signals.
        if !matches!(request, Request::AwaitSignal { .. }) && self.offload(token, *request) {
            return true;
        }
        // SAFETY: this thread's alone; the borrow ends with the statement.
        unsafe { (*self.flights.get()).remove(token) };
        // SAFETY: the flight is alive, on its fiber's stack.
        self.forget_deadline(unsafe { (*flight).deadline }, token);
        false
    }

    /// A device that waits for the end of the round to get everything at once idles meanwhile. So
    /// what is queued for it is handed over early while others still run, when it is a share of all
    /// that is in flight.
    #[inline]
    fn keep_device_busy(&self, direct: bool) {
        let (queued, in_flight) = (self.queued.get(), self.flights().len());
        if policy::is_share(queued, in_flight, direct, || self.host.runnable()) {
            self.submit_queued();
        }
    }

    /// Submits what is queued, so that what follows comes after it in the kernel.
    pub fn submit_queued(&self) {
        // SAFETY: this thread's alone, and the borrow ends with this function, which neither parks
        // nor calls the host.
        if let EngineSlot::Made(engine) = unsafe { &mut *self.engine.get() }
            && self.queued.replace(0) > 0
        {
            engine.submit();
        }
    }

    /// Hands `request` to the pool; false where it has not one thread. errno is kept.
    #[inline(never)]
    pub(super) fn offload(&self, token: Token, request: Request) -> bool {
        let errno = errno::get();
        // The pool's own locks are no fiber's to park for.
        let _off = OffFiber::enter();
        let submitted = pool::submit(Job {
            request,
            token,
            remote: Arc::clone(&self.remote),
        });
        errno::set(errno);
        if submitted && let Some(flight) = self.flights().get(token) {
            // SAFETY: a flight in the slab is alive, and only this thread's (flight.rs).
            let flight = unsafe { &mut *flight };
            flight.kind = Kind::Pool;
            self.stats.of(flight.row as usize).offloaded.add(1);
        }
        submitted
    }

    /// Has the pool run code that nobody's token waits for; false where it has not one thread.
    pub fn start_on_pool(&self, run: Run) -> bool {
        let errno = errno::get();
        let _off = OffFiber::enter();
        let submitted = pool::submit(Job {
            request: Request::Run(run),
            token: pool::NOBODY,
            remote: Arc::clone(&self.remote),
        });
        errno::set(errno);
        submitted
    }

    /// Begins a wait of the running fiber's, which is to park next ([`Self::await_landing`]) or to
    /// say that it need not ([`Self::forgo`]). No engine is needed for it.
    ///
    /// # Safety
    /// `flight` is one of [`Request::Wait`] on the running fiber's stack, and stays until the wait
    /// is over.
    pub unsafe fn begin_wait(&self, flight: *mut Flight) -> Token {
        // SAFETY: this thread's alone; the borrow ends with the statement.
        let token = unsafe { &mut *self.flights.get() }.add(flight);
        // SAFETY: the caller's, and alive.
        unsafe {
            (*flight).kind = Kind::Wait;
            if (*flight).deadline != NEVER {
                self.set_deadline(flight, token);
            }
        }
        token
    }

    /// Parks the running fiber until its wait is landed or ended early.
    pub fn await_landing(&self) {
        self.park();
    }

    /// Lands a wait of this thread's, whose claim the caller has.
    pub fn land(&self, token: Token) {
        self.complete(token, 0);
    }

    /// Ends a wait for which the running fiber does not park; nobody is about to land it.
    pub fn forgo(&self, token: Token) {
        // SAFETY: this thread's alone; the borrow ends with the statement.
        let Some(flight) = (unsafe { &mut *self.flights.get() }).remove(token) else {
            return;
        };
        // SAFETY: alive, on its fiber's stack.
        let deadline = unsafe { (*flight).deadline };
        if deadline != NEVER {
            self.forget_deadline(deadline, token);
        }
    }

    #[inline(always)]
    pub(super) fn complete(&self, token: Token, result: i32) -> bool {
        // SAFETY: this thread's alone; the borrow ends with the statement.
        let Some(flight) = (unsafe { &mut *self.flights.get() }).remove(token) else {
            return false;
        };
        // SAFETY: the flight lives on the stack of a fiber that stays parked until the unpark below
        // (flight.rs).
        unsafe {
            (*flight).finish(result);
            if (*flight).deadline != NEVER {
                self.forget_deadline((*flight).deadline, token);
            }
            self.host.unpark((*flight).fiber);
        }
        if self.signals.is_held() {
            // At the end of its call, if not for it.
            self.signals.due.set(true);
        }
        true
    }

    /// A duplicate of `fd` for a fiber that will park: as a thread in a system call, it keeps its
    /// file when the descriptor is closed. None if there is no room for one. To be given back with
    /// [`Self::let_go`].
    pub fn keep(&self, fd: c_int) -> Option<c_int> {
        let duplicate = sys::duplicate_to_wait_on(fd)?;
        fds::mark_ours(duplicate, true);
        self.kept.borrow_mut().insert(duplicate);
        Some(duplicate)
    }

    pub fn let_go(&self, duplicate: c_int) {
        // A handler that the fiber ran meanwhile may have forked: the child has none of the
        // parent's duplicates.
        if self.kept.borrow_mut().remove(&duplicate) {
            fds::disown(duplicate);
            let _ = sys::close(duplicate);
        }
    }
}
