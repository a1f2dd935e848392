//! What a fiber is: one small record that outlives its stack, and the handle by which the world
//! names it.
//!
//! Invariant: records are never unmapped, so a stale handle may always be looked at; its generation
//! then differs from the record's and the answer is `ESRCH`. A started fiber's plain cells belong
//! to its worker's thread; other threads read only the atomics, and the cells of a parked fiber
//! they have just taken out of a wait queue (the queue's lock orders that).
//!
//! ```text
//!   (made) --> fresh --> running <--> ready          life: LIVE -----------> ENDED --join--> FREE
//!              no stack     |           ^                  \--JOINED(by) --wakes by--> FREE
//!                           +-> parked -+                   \-DETACHED --------------> FREE
//! ```

use crate::key::Values;
use crate::park::Waiter;
use crate::runtime::Runtime;
use crate::stack::Class;
use crate::worker::Worker;
use core::cell::{Cell, UnsafeCell};
use core::ffi::c_void;
use core::ptr::{null, null_mut};
use core::sync::atomic::{AtomicPtr, AtomicU8, AtomicU64, AtomicUsize, Ordering};

/// The C function a fiber runs.
pub(crate) type Entry = extern "C" fn(*mut c_void) -> *mut c_void;

/// Bytes of a fiber's name, its NUL included.
pub(crate) const NAME_LEN: usize = 16;

/// A fiber's record.
#[repr(C, align(64))]
pub(crate) struct Fiber {
    // What a switch touches: one cache line.
    /// Saved stack pointer; null before the start.
    pub sp: Cell<*mut u8>,
    /// The next one in the one list the fiber is in: ready, fresh, inbox or free.
    pub next: Cell<*mut Fiber>,
    /// Where it runs; null before the start.
    pub worker: AtomicPtr<Worker>,
    /// Generation, joiner and state: see [`Life`].
    pub life: AtomicU64,
    /// What it waits for, for reports: [`Waits`] and the object's address.
    pub waits: AtomicU8,
    /// What has become of requests to end it: the bits of cancel.rs.
    pub cancel: AtomicU8,
    pub class: Cell<Class>,
    /// Where in the worker's timer heap; [`NO_TIMER`] when not.
    pub timer: Cell<u32>,
    pub waits_on: AtomicUsize,
    /// The wait a timer may end; null: a plain sleep.
    pub waiter: Cell<*const Waiter>,
    /// The address of its stack's guard.
    pub stack: Cell<*mut u8>,

    // Touched at its beginning and its end.
    pub entry: Cell<Entry>,
    pub arg: Cell<*mut c_void>,
    /// What it ended with; before the start, [`Fiber::before`].
    pub result: Cell<*mut c_void>,
    pub runtime: AtomicPtr<Runtime>,
    pub id: AtomicU64,
    /// Values of its keys, made on the first set.
    pub values: UnsafeCell<Option<Box<Values>>>,
    /// NUL-ended; guarded by the name lock in debug.rs once the fiber is live.
    pub name: UnsafeCell<[u8; NAME_LEN]>,
}

const _: () = assert!(
    size_of::<Fiber>() == 128,
    "two cache lines, the first for switches: a million fibers are meant to be cheap"
);

/// No timer is set.
pub(crate) const NO_TIMER: u32 = u32::MAX;

/// What a parked fiber waits for.
#[repr(u8)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Waits {
    Nothing,
    Join,
    Sleep,
    Mutex,
    Cond,
    Semaphore,
    ReadLock,
    WriteLock,
    Barrier,
    Once,
    Shim,
}

impl Waits {
    pub(crate) const ALL: [Waits; 11] = [
        Waits::Nothing,
        Waits::Join,
        Waits::Sleep,
        Waits::Mutex,
        Waits::Cond,
        Waits::Semaphore,
        Waits::ReadLock,
        Waits::WriteLock,
        Waits::Barrier,
        Waits::Once,
        Waits::Shim,
    ];
}

extern "C" fn nothing(_: *mut c_void) -> *mut c_void {
    null_mut()
}

impl Fiber {
    /// A record that belongs to no fiber yet.
    pub(crate) const fn free() -> Fiber {
        Fiber {
            sp: Cell::new(null_mut()),
            next: Cell::new(null_mut()),
            worker: AtomicPtr::new(null_mut()),
            life: AtomicU64::new(1 << GENERATION_SHIFT),
            waits: AtomicU8::new(0),
            cancel: AtomicU8::new(0),
            class: Cell::new(Class::NONE),
            timer: Cell::new(NO_TIMER),
            waits_on: AtomicUsize::new(0),
            waiter: Cell::new(null()),
            stack: Cell::new(null_mut()),
            entry: Cell::new(nothing),
            arg: Cell::new(null_mut()),
            result: Cell::new(null_mut()),
            runtime: AtomicPtr::new(null_mut()),
            id: AtomicU64::new(0),
            values: UnsafeCell::new(None),
            name: UnsafeCell::new([0; NAME_LEN]),
        }
    }

    /// The record's present state.
    #[inline(always)]
    pub(crate) fn life(&self) -> Life {
        Life(self.life.load(Ordering::Acquire))
    }

    /// The name of a live fiber.
    #[inline(always)]
    pub(crate) fn handle(&self) -> Handle {
        Handle((self.life.load(Ordering::Relaxed) & GENERATION) | self as *const Fiber as u64)
    }

    /// The one before it, for a fresh fiber that waits behind another.
    #[inline(always)]
    pub(crate) fn before(&self) -> *mut Fiber {
        self.result.get().cast()
    }

    #[inline(always)]
    pub(crate) fn set_before(&self, before: *mut Fiber) {
        self.result.set(before.cast());
    }

    /// Notes what the fiber is about to park for.
    #[inline(always)]
    pub(crate) fn set_waits(&self, what: Waits, on: *const ()) {
        self.waits_on.store(on as usize, Ordering::Relaxed);
        self.waits.store(what as u8, Ordering::Relaxed);
    }

    /// Notes that the fiber waits no more.
    #[inline(always)]
    pub(crate) fn waits_no_more(&self) {
        self.waits.store(Waits::Nothing as u8, Ordering::Relaxed);
    }

    pub(crate) fn waits(&self) -> Waits {
        Waits::ALL[self.waits.load(Ordering::Relaxed) as usize]
    }
}

const GENERATION_SHIFT: u32 = 48;
const GENERATION: u64 = 0xffff << GENERATION_SHIFT;
const ADDRESS: u64 = !GENERATION & !STATE;
const STATE: u64 = 0b111;

/// A fiber's public name: the address of its record and, in the top 16 bits that user addresses
/// leave free, the record's generation. A name goes stale when its fiber is gone; it comes up again
/// only after the record has had 65,535 others.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Handle(pub u64);

impl Handle {
    /// The record, when the name may be one at all.
    #[inline(always)]
    pub(crate) fn record(self) -> Option<&'static Fiber> {
        let address = (self.0 & ADDRESS) as *const Fiber;
        // SAFETY: names are only made by `Fiber::handle`, and records are never unmapped.
        unsafe { address.as_ref() }
    }

    /// The record, when the name's fiber is not gone.
    #[inline(always)]
    pub(crate) fn fiber(self) -> Option<&'static Fiber> {
        self.record().filter(|f| f.life().is(self))
    }
}

/// What becomes of a fiber: one word, so that exactly one of ending, join and detach comes first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Life(pub u64);

impl Life {
    /// No fiber's record.
    pub(crate) const FREE: u64 = 0;
    /// Runs, or will; nobody has joined it yet.
    pub(crate) const LIVE: u64 = 1;
    /// Has ended; its result waits for a join.
    pub(crate) const ENDED: u64 = 2;
    /// Runs, or will; frees itself.
    pub(crate) const DETACHED: u64 = 3;
    /// Runs, or will; [`Life::joiner`] waits for it.
    pub(crate) const JOINED: u64 = 4;
    /// Has ended; the one that waited for it, or found it ended, is taking the result.
    pub(crate) const TAKEN: u64 = 5;

    #[inline(always)]
    pub(crate) fn state(self) -> u64 {
        self.0 & STATE
    }

    /// Whether the record still belongs to the fiber `name` was given to.
    #[inline(always)]
    pub(crate) fn is(self, name: Handle) -> bool {
        (self.0 ^ name.0) & GENERATION == 0 && !matches!(self.state(), Life::FREE | Life::TAKEN)
    }

    /// The fiber that waits in join, in state JOINED.
    pub(crate) fn joiner(self) -> *mut Fiber {
        (self.0 & ADDRESS) as *mut Fiber
    }

    /// The same fiber in another state.
    #[inline(always)]
    pub(crate) fn with(self, state: u64) -> Life {
        Life(self.0 & GENERATION | state)
    }

    /// The same fiber, waited for by `joiner`.
    pub(crate) fn joined_by(self, joiner: *const Fiber) -> Life {
        Life(self.0 & GENERATION | joiner as u64 | Life::JOINED)
    }

    /// A free record with the next generation: every name given so far is stale.
    #[inline(always)]
    pub(crate) fn next_generation(self) -> Life {
        Life((self.0 & GENERATION).wrapping_add(1 << GENERATION_SHIFT) | Life::FREE)
    }
}

/// A queue of fibers linked through [`Fiber::next`]. A fiber is in one list at a time, so joining
/// one never allocates.
pub(crate) struct List {
    head: Cell<*mut Fiber>,
    tail: Cell<*mut Fiber>,
    len: Cell<usize>,
}

impl List {
    pub(crate) const fn new() -> List {
        List {
            head: Cell::new(null_mut()),
            tail: Cell::new(null_mut()),
            len: Cell::new(0),
        }
    }

    #[inline(always)]
    pub(crate) fn head(&self) -> *mut Fiber {
        self.head.get()
    }

    #[inline(always)]
    pub(crate) fn len(&self) -> usize {
        self.len.get()
    }

    /// Appends `fiber`.
    ///
    /// # Safety
    /// It is in no list.
    #[inline(always)]
    pub(crate) unsafe fn push(&self, fiber: *mut Fiber) {
        // SAFETY: records are never unmapped; the caller and this list own the links of their
        // fibers.
        unsafe {
            (*fiber).next.set(null_mut());
            match self.tail.get() {
                tail if self.head.get().is_null() || tail.is_null() => self.head.set(fiber),
                tail => (*tail).next.set(fiber),
            }
        }
        self.tail.set(fiber);
        self.len.set(self.len.get() + 1);
    }

    /// The last one; null when there is none.
    #[inline(always)]
    pub(crate) fn last(&self) -> *mut Fiber {
        if self.head.get().is_null() {
            null_mut()
        } else {
            self.tail.get()
        }
    }

    /// Takes out the one behind `before`, and returns the one that is behind `before` now.
    ///
    /// # Safety
    /// `before` is in this list, and not the last.
    pub(crate) unsafe fn take_behind(&self, before: *mut Fiber) -> *mut Fiber {
        // SAFETY: records are never unmapped, and this list owns the links of its fibers.
        unsafe {
            let next = (*(*before).next.get()).next.get();
            (*before).next.set(next);
            if next.is_null() {
                self.tail.set(before);
            }
            self.len.set(self.len.get() - 1);
            next
        }
    }

    /// Takes the first; null when there is none.
    #[inline(always)]
    pub(crate) fn pop(&self) -> *mut Fiber {
        let first = self.head.get();
        if !first.is_null() {
            // SAFETY: records are never unmapped, and this list owns the links of its fibers.
            self.head.set(unsafe { (*first).next.get() });
            self.len.set(self.len.get() - 1);
        }
        first
    }

    /// Appends `fiber` and takes the first: a yield in one step.
    ///
    /// # Safety
    /// The list is not empty, and `fiber` is in no list.
    #[inline(always)]
    pub(crate) unsafe fn rotate(&self, fiber: *mut Fiber) -> *mut Fiber {
        let first = self.head.get();
        // SAFETY: the list is not empty, so head and tail are fibers whose links it owns; the
        // caller gives `fiber`'s.
        unsafe {
            (*fiber).next.set(null_mut());
            (*self.tail.get()).next.set(fiber);
            self.tail.set(fiber);
            self.head.set((*first).next.get());
        }
        first
    }

    pub(crate) fn clear(&self) {
        self.head.set(null_mut());
        self.tail.set(null_mut());
        self.len.set(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_go_stale_and_wrap() {
        let f = Fiber::free();
        let free = f.life();
        f.life.store(free.with(Life::LIVE).0, Ordering::Relaxed);
        let name = f.handle();
        assert!(name.fiber().is_some());
        f.life
            .store(f.life().next_generation().0, Ordering::Relaxed);
        assert!(name.fiber().is_none());
        let mut life = f.life();
        for _ in 0..0x1_0000 {
            life = life.next_generation();
        }
        assert_eq!(
            life,
            f.life(),
            "the generation is 16 bits wide and spoils no other field"
        );
        assert!(Handle(0).fiber().is_none());
    }

    #[test]
    fn joiners_survive_packing() {
        let (a, b) = (Fiber::free(), Fiber::free());
        let life = a.life().joined_by(&b);
        assert_eq!(life.joiner().cast_const(), &raw const b);
        assert_eq!(life.state(), Life::JOINED);
        assert!(life.is(Handle((a.life().0 & GENERATION) | 64)));
    }

    #[test]
    fn lists_are_first_in_first_out() {
        let fibers: Vec<_> = (0..3).map(|_| Box::new(Fiber::free())).collect();
        let at = |i: usize| (&raw const *fibers[i]).cast_mut();
        let list = List::new();
        assert!(list.pop().is_null());
        // SAFETY: each fiber is in the list at most once.
        unsafe {
            list.push(at(0));
            list.push(at(1));
            assert_eq!(list.rotate(at(2)), at(0));
            assert_eq!(list.pop(), at(1));
            assert_eq!(list.rotate(at(0)), at(2));
        }
        assert_eq!((list.pop(), list.len()), (at(0), 0));
        // SAFETY: the list is empty again.
        unsafe { list.push(at(1)) };
        assert_eq!(list.pop(), at(1));
        assert!(list.pop().is_null());
    }

    #[test]
    fn lists_give_away_those_behind_one_of_theirs() {
        let fibers: Vec<_> = (0..3).map(|_| Box::new(Fiber::free())).collect();
        let at = |i: usize| (&raw const *fibers[i]).cast_mut();
        let list = List::new();
        assert!(list.last().is_null());
        // SAFETY: each fiber is in the list at most once, and the first one in it all the time.
        unsafe {
            list.push(at(0));
            list.push(at(1));
            list.push(at(2));
            assert_eq!(list.take_behind(at(0)), at(2));
            assert!(list.take_behind(at(0)).is_null());
            assert_eq!((list.last(), list.len()), (at(0), 1));
            list.push(at(2));
        }
        assert_eq!(
            (list.pop(), list.pop(), list.last()),
            (at(0), at(2), null_mut())
        );
    }
}
