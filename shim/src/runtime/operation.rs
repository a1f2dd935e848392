//! Operations in flight: one slab per thread. An operation's index in the slab is its token, which
//! its completion returns.
//!
//! Invariant: an `Operation` and its request live on the stack of the waiting fiber from before the
//! operation is queued until its completion is reaped. The fiber is parked all that time, so the
//! operation and the memory that the kernel uses stay in place. Values that are needed only when an
//! operation ends unusually are read from the request at that time instead of being copied for
//! every operation.

use crate::context;
use crate::engine::Request;
use crate::host::Token;
use crate::runtime::completion::StoredCompletion;
use crate::runtime::deadlines::{Deadline, NEVER};
use slab::Slab;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ffi::{c_int, c_void};
use std::sync::atomic::Ordering;
use sys::SignalSet;

/// The index of sem_wait(3) in the call table.
const SEM_WAIT: usize = calltable::index_of("sem_wait");

/// One operation in flight, on the stack of the fiber that waits for it. It is small because with
/// many fibers most cache misses are on their stacks.
pub struct Operation {
    pub fiber: *mut c_void,
    /// The request, on the same stack for as long as the operation, so another engine can take it
    /// over.
    pub request: *const Request,
    /// The call's index in [`calltable::NAMES`], for reports.
    pub row: u32,
    /// What became of the request; final once the fiber was unparked.
    pub completion: StoredCompletion,
    /// For reports: the descriptor whose [`crate::runtime::position`] turn the fiber waits for; -1
    /// for none.
    pub queued_fd: c_int,
    pub executor: Executor,
    /// Why the operation ends early, if it does.
    pub end: Option<EarlyEnd>,
    pub deadline: Deadline,
    /// The signals that are blocked during the wait; null if they are those that the thread blocks.
    pub mask: *const SignalSet,
}

/// Which executor performs an operation.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Executor {
    Engine,
    /// The offload pool. The operation can end early only where the kernel lets a signal interrupt
    /// it.
    Pool,
    /// None: the operation is a wait that ends with its deadline or when another task wakes it.
    None,
}

/// Why an operation ends before it is done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EarlyEnd {
    /// Its deadline has passed.
    Timeout,
    /// A signal handler must run, or the fiber was cancelled (see
    /// [`crate::runtime::thread::Thread::cancel`]).
    Interrupt,
}

impl EarlyEnd {
    /// The completion of an operation that ended for this reason.
    fn stored(self) -> StoredCompletion {
        match self {
            Self::Timeout => StoredCompletion::TIMED_OUT,
            Self::Interrupt => StoredCompletion::INTERRUPTED,
        }
    }
}

impl Operation {
    #[inline(always)]
    pub fn new(fiber: *mut c_void, row: usize, request: &Request, deadline: Deadline) -> Self {
        Self {
            fiber,
            request,
            row: row as u32,
            completion: StoredCompletion::NOT_DONE,
            queued_fd: -1,
            executor: Executor::Engine,
            end: None,
            deadline,
            mask: std::ptr::null(),
        }
    }

    pub fn request(&self) -> &Request {
        // SAFETY: the request is on the same stack and lives as long as the operation (module
        // invariant).
        unsafe { &*self.request }
    }

    /// The descriptor that the operation is about, for reports.
    pub fn fd(&self) -> Option<c_int> {
        let queued_fd = (self.queued_fd >= 0).then_some(self.queued_fd);
        self.request().fd().or(queued_fd)
    }

    /// Whether signals interrupt the operation. As in the kernel, they do not interrupt a wait for
    /// a disk.
    pub fn is_interruptible(&self) -> bool {
        self.request().is_interruptible()
    }

    /// Whether only a signal ends the operation, as in pause(2).
    pub fn needs_a_signal(&self) -> bool {
        matches!(self.request(), Request::Wait { claim } if claim.is_null())
            && self.deadline == NEVER
    }

    /// Whether only another fiber or thread ends the operation, as in pthread_mutex_lock(3). If the
    /// program handles signals, a handler may call sem_post(3).
    pub fn is_blocked_by_others(&self, handles_signals: fn() -> bool) -> bool {
        matches!(self.request(), Request::Wait { claim } if !claim.is_null())
            && self.deadline == NEVER
            && !(self.row as usize == SEM_WAIT && handles_signals())
    }

    /// Whether the operation waits for a disk and for nothing else.
    pub fn waits_for_disk_only(&self) -> bool {
        !self.is_interruptible() && !matches!(self.request(), Request::Run(_))
    }

    /// Whether the file was ready when the operation began.
    pub fn is_ready(&self) -> bool {
        matches!(self.request(), Request::Plain(_))
    }

    /// Claims the end of a wait. Returns false if another thread claimed it first and is about to
    /// land it.
    pub fn claim(&self) -> bool {
        let Request::Wait { claim } = *self.request() else {
            return true;
        };
        // SAFETY: null, or it lives as long as the call that waits (request.rs), which is as long
        // as the operation.
        unsafe { claim.as_ref() }.is_none_or(|claim| !claim.swap(true, Ordering::AcqRel))
    }

    /// Whether one of `signals` may interrupt the operation on a thread that blocks `base`.
    pub fn accepts(&self, signals: SignalSet, base: SignalSet) -> bool {
        // SAFETY: a mask that is not null is on the fiber's stack, like this operation.
        let blocked = unsafe { self.mask.as_ref() }.copied().unwrap_or(base);
        self.is_interruptible() && signals & !blocked != 0
    }

    /// The operation has completed with `result`, as its executor reports it.
    #[inline(always)]
    pub fn finish(&mut self, result: i32) {
        self.completion = match self.end {
            Some(end) if matches!(-result, libc::ECANCELED | libc::EINTR) => end.stored(),
            _ => StoredCompletion::reported(result),
        };
    }
}

/// The operations in flight of one thread.
pub struct Operations {
    slab: Slab<*mut Operation>,
    /// A cache from fibers to tokens, rebuilt on a miss. Inserts and removals do not update it,
    /// because lookups by fiber are rare.
    by_fiber: RefCell<BTreeMap<*const c_void, Token>>,
}

impl Operations {
    pub const fn new() -> Self {
        Self {
            slab: Slab::new(),
            by_fiber: RefCell::new(BTreeMap::new()),
        }
    }

    #[inline(always)]
    pub fn len(&self) -> usize {
        self.slab.len()
    }

    #[inline(always)]
    pub fn add(&mut self, operation: *mut Operation) -> Token {
        if self.slab.len() == self.slab.capacity() {
            self.grow();
        }
        self.slab.insert(operation) as Token
    }

    /// The operation of `fiber`, if it has one. Looking up many fibers in a row scans all
    /// operations only once.
    pub fn by_fiber(&self, fiber: *const c_void) -> Option<(Token, *mut Operation)> {
        let mut by_fiber = self.by_fiber.borrow_mut();
        let known = by_fiber
            .get(&fiber)
            .and_then(|&token| Some((token, self.get(token)?)));
        // SAFETY: operations in the slab are alive (module invariant).
        let is_its =
            |&(_, found): &(Token, *mut Operation)| unsafe { (*found).fiber.cast_const() } == fiber;
        if let Some((token, operation)) = known.filter(is_its) {
            return Some((token, operation));
        }
        // SAFETY: operations in the slab are alive (module invariant).
        *by_fiber = self
            .iter()
            .map(|(token, operation)| unsafe { ((*operation).fiber.cast_const(), token) })
            .collect();
        by_fiber
            .get(&fiber)
            .and_then(|&token| Some((token, self.get(token)?)))
    }

    /// Runs off the fiber: reserving memory may take a preloaded malloc's lock, and releasing that
    /// lock may wake a wait, which uses this slab.
    #[cold]
    fn grow(&mut self) {
        let _off = context::libc();
        self.slab.reserve(1);
    }

    /// Removes the operation of `token`; None if the token is not in flight.
    #[inline(always)]
    pub fn remove(&mut self, token: Token) -> Option<*mut Operation> {
        self.slab.try_remove(token as usize)
    }

    pub fn get(&self, token: Token) -> Option<*mut Operation> {
        self.slab.get(token as usize).copied()
    }

    pub fn iter(&self) -> impl Iterator<Item = (Token, *mut Operation)> {
        self.slab
            .iter()
            .map(|(token, operation)| (token as Token, *operation))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_reused_and_an_unknown_token_is_nobodys() {
        let mut operations = Operations::new();
        let at = |n: usize| std::ptr::without_provenance_mut::<Operation>(n * 8);
        assert_eq!(
            (0..4)
                .map(|n| operations.add(at(n + 1)))
                .collect::<Vec<_>>(),
            [0, 1, 2, 3]
        );
        assert_eq!(operations.remove(1), Some(at(2)));
        assert_eq!(operations.remove(1), None);
        assert_eq!(operations.remove(9), None);
        assert_eq!(operations.len(), 3);
        assert_eq!(operations.add(at(7)), 1);
        assert_eq!(operations.add(at(8)), 4);
        assert_eq!(operations.iter().count(), 5);
    }
}
