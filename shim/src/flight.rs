//! Operations in flight: a slab per thread; an operation's index is the token its completion brings
//! back.
//!
//! Invariant: a flight lives on its fiber's stack, from before it is queued until its completion is
//! reaped, and the fiber is parked for all of that time. So does its request. So the memory the
//! kernel owns, and the flight itself, stay in place. What only the rare ends of an operation ask
//! for is read from the request then, not copied for each.

use crate::deadlines::Deadline;
use crate::engine::{Request, Token};
use crate::errno::Errno;
use crate::sys::SignalSet;
use crate::tls::OffFiber;
use slab::Slab;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ffi::{c_int, c_void};
use std::sync::atomic::Ordering;

/// One operation, on the stack of the fiber that waits for it. Small: with many fibers the stacks
/// are what misses the cache.
pub struct Flight {
    pub fiber: *mut c_void,
    /// What was asked for, on the same stack for as long as the flight: another engine can take it
    /// over.
    pub request: *const Request,
    /// The call's row in the table of hooks, for reports.
    pub row: u32,
    /// As a system call's; meaningful after the fiber was unparked.
    pub result: i32,
    /// For reports, the descriptor whose turn it waits for; -1 for none.
    pub of_turn: c_int,
    pub kind: Kind,
    /// Why it ends early, if it does.
    pub end: Option<End>,
    pub deadline: Deadline,
    /// What signals are blocked while it waits, if not those of its thread; else null.
    pub mask: *const SignalSet,
}

/// Who carries an operation out.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Engine,
    /// It is ended early as far as the kernel can be interrupted in it.
    Pool,
    /// Nobody: it waits for its deadline, or to be landed.
    Wait,
}

/// Why an operation ends before it is done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// Its deadline is over.
    Timeout,
    /// A signal's handler is to run, or the fiber was cancelled: see
    /// [`crate::thread::Thread::cancel`].
    Interrupt,
}

impl End {
    /// What its flight's result is then. Neither is a system call's.
    pub fn error(self) -> Errno {
        match self {
            Self::Timeout => Errno::TIME,
            Self::Interrupt => Errno::RESTART,
        }
    }
}

impl Flight {
    #[inline(always)]
    pub fn new(fiber: *mut c_void, row: usize, request: &Request, deadline: Deadline) -> Self {
        Self {
            fiber,
            request,
            row: row as u32,
            result: -libc::ECANCELED,
            of_turn: -1,
            kind: Kind::Engine,
            end: None,
            deadline,
            mask: std::ptr::null(),
        }
    }

    fn request(&self) -> &Request {
        // SAFETY: it is on the same stack, for as long as the flight (module invariant).
        unsafe { &*self.request }
    }

    /// The descriptor it is about, for reports.
    pub fn fd(&self) -> Option<c_int> {
        let of_turn = (self.of_turn >= 0).then_some(self.of_turn);
        self.request().fd().or(of_turn)
    }

    /// As in the kernel, what waits for a disk is not interrupted by signals.
    pub fn is_interruptible(&self) -> bool {
        self.request().is_interruptible()
    }

    /// Whether it waits for a disk, and for nothing else.
    pub fn is_brief(&self) -> bool {
        !self.is_interruptible() && !matches!(self.request(), Request::Run(_))
    }

    /// Whether its file was ready when it began.
    pub fn is_ready(&self) -> bool {
        matches!(self.request(), Request::Plain(_))
    }

    /// Whether a wait is its caller's to end: no other thread is about to land it.
    pub fn claim(&self) -> bool {
        let Request::Wait { claim } = *self.request() else {
            return true;
        };
        // SAFETY: null, or it lives as long as the call that waits (request.rs), and so as long as
        // the flight.
        unsafe { claim.as_ref() }.is_none_or(|claim| !claim.swap(true, Ordering::AcqRel))
    }

    /// Whether one of `signals` may interrupt it, on a thread that has `base` blocked.
    pub fn accepts(&self, signals: SignalSet, base: SignalSet) -> bool {
        // SAFETY: not null, it is on the stack of the fiber, as this flight.
        let blocked = unsafe { self.mask.as_ref() }.copied().unwrap_or(base);
        self.is_interruptible() && signals & !blocked != 0
    }

    /// The operation is over with `result`.
    #[inline(always)]
    pub fn finish(&mut self, result: i32) {
        self.result = match self.end {
            Some(end) if matches!(-result, libc::ECANCELED | libc::EINTR) => -end.error().0,
            _ => result,
        };
    }
}

/// The flights of one thread.
pub struct Flights {
    slab: Slab<*mut Flight>,
    /// Where a fiber's flight was when last somebody asked for one that was not here: not kept up,
    /// for hardly anybody asks.
    of_fibers: RefCell<BTreeMap<*const c_void, Token>>,
}

impl Flights {
    pub const fn new() -> Self {
        Self {
            slab: Slab::new(),
            of_fibers: RefCell::new(BTreeMap::new()),
        }
    }

    #[inline(always)]
    pub fn len(&self) -> usize {
        self.slab.len()
    }

    #[inline(always)]
    pub fn add(&mut self, flight: *mut Flight) -> Token {
        if self.slab.len() == self.slab.capacity() {
            self.grow();
        }
        self.slab.insert(flight) as Token
    }

    /// The flight of `fiber`, if it has one. Asked for many one after the other it looks through
    /// all of them once.
    pub fn of_fiber(&self, fiber: *const c_void) -> Option<(Token, *mut Flight)> {
        let mut of_fibers = self.of_fibers.borrow_mut();
        let known = of_fibers
            .get(&fiber)
            .and_then(|&token| Some((token, self.get(token)?)));
        // SAFETY: flights in the slab are alive.
        let is_its =
            |&(_, flight): &(Token, *mut Flight)| unsafe { (*flight).fiber.cast_const() } == fiber;
        if let Some((token, flight)) = known.filter(is_its) {
            return Some((token, flight));
        }
        // SAFETY: as above.
        *of_fibers = self
            .iter()
            .map(|(token, flight)| unsafe { ((*flight).fiber.cast_const(), token) })
            .collect();
        of_fibers
            .get(&fiber)
            .and_then(|&token| Some((token, self.get(token)?)))
    }

    /// Off the fiber: a preloaded malloc's locks may land a wait, which is in here.
    #[cold]
    fn grow(&mut self) {
        let _off = OffFiber::enter();
        self.slab.reserve(1);
    }

    /// Takes out the flight of `token`; None for a token that is not in flight.
    #[inline(always)]
    pub fn remove(&mut self, token: Token) -> Option<*mut Flight> {
        self.slab.try_remove(token as usize)
    }

    pub fn get(&self, token: Token) -> Option<*mut Flight> {
        self.slab.get(token as usize).copied()
    }

    pub fn iter(&self) -> impl Iterator<Item = (Token, *mut Flight)> {
        self.slab
            .iter()
            .map(|(token, flight)| (token as Token, *flight))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_reused_and_an_unknown_token_is_nobodys() {
        let mut flights = Flights::new();
        let at = |n: usize| std::ptr::without_provenance_mut::<Flight>(n * 8);
        assert_eq!(
            (0..4).map(|n| flights.add(at(n + 1))).collect::<Vec<_>>(),
            [0, 1, 2, 3]
        );
        assert_eq!(flights.remove(1), Some(at(2)));
        assert_eq!(flights.remove(1), None);
        assert_eq!(flights.remove(9), None);
        assert_eq!(flights.len(), 3);
        assert_eq!(flights.add(at(7)), 1);
        assert_eq!(flights.add(at(8)), 4);
        assert_eq!(flights.iter().count(), 5);
    }
}
