//! A fiber: a small record that outlives its stack, and the handle that identifies it.
//!
//! Invariant: records are never unmapped, so code may always read the record of a stale handle. Its
//! generation then differs from the record's, and the result is `ESRCH`. The plain cells of a
//! started fiber belong to its worker's thread. Other threads read only the atomics, and the cells
//! of a parked fiber that they have just taken out of a wait queue (the queue's lock orders these
//! accesses).
//!
//! ```text
//!   (made) --> fresh --> running <--> ready          life: LIVE -----------> ENDED --join--> FREE
//!              no stack     |           ^                  \--JOINED(by) --wakes by--> FREE
//!                           +-> parked -+                   \-DETACHED --------------> FREE
//! ```

use crate::launch::runtime::Runtime;
use crate::record::key::Values;
use crate::record::stack::Class;
use crate::sched::park::Waiter;
use crate::worker::state::Worker;
use core::cell::{Cell, UnsafeCell};
use core::ffi::c_void;
use core::ptr::{null, null_mut};
use core::sync::atomic::{AtomicPtr, AtomicU8, AtomicU64, AtomicUsize, Ordering};

/// The C function that a fiber runs.
pub(crate) type Entry = extern "C" fn(*mut c_void) -> *mut c_void;

/// The size of a fiber's name in bytes, including its NUL.
pub(crate) const NAME_LEN: usize = 16;

/// A fiber's record.
#[repr(C, align(64))]
pub(crate) struct Fiber {
    // The fields that a switch touches share one cache line.
    /// The saved stack pointer, or null before the start.
    pub sp: Cell<*mut u8>,
    /// The next fiber in the list that this fiber is in: ready, fresh, inbox or free.
    pub next: Cell<*mut Fiber>,
    /// The worker that it runs on, or null before the start.
    pub worker: AtomicPtr<Worker>,
    /// Its generation, joiner and state, see [`Life`].
    pub life: AtomicU64,
    /// What it waits for, used in reports and by cancellation: a value of [`Waits`]. `waits_on`
    /// holds the object's address.
    pub waits: AtomicU8,
    /// The state of its cancellation: the bits defined in cancel.rs.
    pub cancel: AtomicU8,
    pub class: Cell<Class>,
    /// Its position in the worker's timer heap, or [`NO_TIMER`].
    pub timer: Cell<u32>,
    pub waits_on: AtomicUsize,
    /// The wait that a timer may end, or null for a plain sleep.
    pub waiter: Cell<*const Waiter>,
    /// The address of its stack's guard.
    pub stack: Cell<*mut u8>,

    // The fields below are touched only at its beginning and its end.
    pub entry: Cell<Entry>,
    pub arg: Cell<*mut c_void>,
    /// Its result. Before the start this holds [`Fiber::before`].
    pub result: Cell<*mut c_void>,
    pub runtime: AtomicPtr<Runtime>,
    pub id: AtomicU64,
    /// The values of its keys, allocated when the first one is set.
    pub values: UnsafeCell<Option<Box<Values>>>,
    /// Its name, ended by a NUL. Once the fiber is live, the name lock in debug.rs guards it.
    pub name: UnsafeCell<[u8; NAME_LEN]>,
}

const _: () = assert!(
    size_of::<Fiber>() == 128,
    "a record has two cache lines, the first for switches: a million fibers must be cheap"
);

/// The fiber has no timer.
pub(crate) const NO_TIMER: u32 = u32::MAX;

/// The kind of object that a parked fiber waits for.
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

    /// The record's current state.
    #[inline(always)]
    pub(crate) fn life(&self) -> Life {
        Life(self.life.load(Ordering::Acquire))
    }

    /// The handle of a live fiber.
    #[inline(always)]
    pub(crate) fn handle(&self) -> Handle {
        Handle((self.life.load(Ordering::Relaxed) & GENERATION) | self as *const Fiber as u64)
    }

    /// The previous fiber in the queue. Set only in a fresh fiber that is not the first one.
    #[inline(always)]
    pub(crate) fn before(&self) -> *mut Fiber {
        self.result.get().cast()
    }

    #[inline(always)]
    pub(crate) fn set_before(&self, before: *mut Fiber) {
        self.result.set(before.cast());
    }

    /// Records what the fiber is about to park for.
    #[inline(always)]
    pub(crate) fn set_waits(&self, what: Waits, on: *const ()) {
        self.waits_on.store(on as usize, Ordering::Relaxed);
        self.waits.store(what as u8, Ordering::Relaxed);
    }

    /// Records that the fiber no longer waits.
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

/// A fiber's public handle: the address of its record and, in the top 16 bits that user addresses
/// do not use, the record's generation. The handle becomes stale when its fiber is freed. The same
/// value is used again only after 65,535 other fibers have used the record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Handle(pub u64);

impl Handle {
    /// Returns the record, unless the handle is null.
    #[inline(always)]
    pub(crate) fn record(self) -> Option<&'static Fiber> {
        let address = (self.0 & ADDRESS) as *const Fiber;
        // SAFETY: only `Fiber::handle` creates handles, and records are never unmapped.
        unsafe { address.as_ref() }
    }

    /// Returns the record if the handle's fiber still exists.
    #[inline(always)]
    pub(crate) fn fiber(self) -> Option<&'static Fiber> {
        self.record().filter(|f| f.life().is(self))
    }
}

/// The life cycle of a fiber in one word, so exactly one of ending, joining and detaching comes
/// first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Life(pub u64);

impl Life {
    /// The record belongs to no fiber.
    pub(crate) const FREE: u64 = 0;
    /// The fiber runs or will run, and is not being joined.
    pub(crate) const LIVE: u64 = 1;
    /// The fiber has ended; its result waits for a join.
    pub(crate) const ENDED: u64 = 2;
    /// The fiber runs or will run, and frees itself at its end.
    pub(crate) const DETACHED: u64 = 3;
    /// The fiber runs or will run, and [`Life::joiner`] waits for it.
    pub(crate) const JOINED: u64 = 4;
    /// The fiber has ended, and the fiber that joins it is taking the result.
    pub(crate) const TAKEN: u64 = 5;

    #[inline(always)]
    pub(crate) fn state(self) -> u64 {
        self.0 & STATE
    }

    /// Returns whether the record still belongs to the fiber with the handle `name`.
    #[inline(always)]
    pub(crate) fn is(self, name: Handle) -> bool {
        (self.0 ^ name.0) & GENERATION == 0 && !matches!(self.state(), Life::FREE | Life::TAKEN)
    }

    /// The fiber that waits in a join; valid in state JOINED.
    pub(crate) fn joiner(self) -> *mut Fiber {
        (self.0 & ADDRESS) as *mut Fiber
    }

    /// The same fiber in another state.
    #[inline(always)]
    pub(crate) fn with(self, state: u64) -> Life {
        Life(self.0 & GENERATION | state)
    }

    /// The same fiber while `joiner` joins it.
    pub(crate) fn joined_by(self, joiner: *const Fiber) -> Life {
        Life(self.0 & GENERATION | joiner as u64 | Life::JOINED)
    }

    /// A free record with the next generation, which makes every earlier handle stale.
    #[inline(always)]
    pub(crate) fn next_generation(self) -> Life {
        Life((self.0 & GENERATION).wrapping_add(1 << GENERATION_SHIFT) | Life::FREE)
    }
}

/// A queue of fibers linked through [`Fiber::next`]. A fiber is in one list at a time, so adding
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
    /// `fiber` is in no list.
    #[inline(always)]
    pub(crate) unsafe fn push(&self, fiber: *mut Fiber) {
        // SAFETY: records are never unmapped; this list owns the links of its fibers, and the
        // caller hands over the link of `fiber`.
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

    /// Returns the last fiber, or null if there is none.
    #[inline(always)]
    pub(crate) fn last(&self) -> *mut Fiber {
        if self.head.get().is_null() {
            null_mut()
        } else {
            self.tail.get()
        }
    }

    /// Takes out the fiber behind `before`, and returns the fiber that is behind `before`
    /// afterwards.
    ///
    /// # Safety
    /// `before` is in this list, and is not the last one.
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

    /// Takes the first fiber, or returns null if there is none.
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

    /// Appends `fiber` and takes the first fiber: a yield in one step.
    ///
    /// # Safety
    /// The list is not empty, and `fiber` is in no list.
    #[inline(always)]
    pub(crate) unsafe fn rotate(&self, fiber: *mut Fiber) -> *mut Fiber {
        let first = self.head.get();
        // SAFETY: the list is not empty, so it owns the links of its head and its tail; the caller
        // hands over the link of `fiber`.
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
            "the generation is 16 bits wide and overwrites no other field"
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
        // SAFETY: each fiber is in the list at most once, and the first one stays in it.
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
