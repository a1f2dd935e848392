//! A fiber: a small record that outlives its stack, and the handle that identifies it.
//!
//! Invariant: records are never unmapped, so code may always read the record of a stale handle. Its
//! generation then differs from the record's, and the result is `ESRCH`. The plain cells of a
//! started fiber belong to its worker's thread. Other threads read only the atomics, and the cells
//! of a parked fiber that they have just taken out of a wait queue (the queue's lock orders these
//! accesses).
//!
//! ```text
//!   created -> unstarted -> running <--> ready
//!             (no stack)      |           ^
//!                             +-> parked -+
//!
//!   life:  LIVE -+-------------> ENDED --join----> FREE
//!                +-> JOINED(by) ------wakes by---> FREE
//!                +-> DETACHED -------------------> FREE
//! ```

use super::cancellation::Cancellation;
use super::key::Locals;
use super::stack::Class;
use super::wait_queue::Waiter;
use super::wait_reason::WaitReason;
use core::cell::{Cell, UnsafeCell};
use core::ffi::c_void;
use core::ptr::{null, null_mut};
use core::sync::atomic::{AtomicPtr, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use queue::Link;

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
    /// The next fiber in the list that this fiber is in: ready, unstarted, inbox or free.
    pub next: Cell<*mut Fiber>,
    /// The address of the worker that it runs on, or null before the start. The layer of the
    /// workers gives it its type.
    pub worker_address: AtomicPtr<c_void>,
    /// Its generation, joiner and state, see [`Life`].
    pub life: AtomicU64,
    /// Why it waits: a value of [`WaitReason`]. `waits_on` holds the object's address.
    wait_reason: AtomicU8,
    pub cancellation: Cancellation,
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
    /// Its result. Before the start this holds [`Fiber::previous`].
    pub result: Cell<*mut c_void>,
    /// The address of its runtime.
    pub runtime_address: AtomicPtr<c_void>,
    pub id: AtomicU64,
    /// The values of its keys.
    pub locals: Locals,
    /// Its name, ended by a NUL. Once the fiber is live, the lock in name.rs guards it.
    pub name: UnsafeCell<[u8; NAME_LEN]>,
}

const _: () = assert!(
    size_of::<Fiber>() == 128,
    "a record has two cache lines, the first for switches: a million fibers must be cheap"
);

/// The fiber has no timer.
pub(crate) const NO_TIMER: u32 = u32::MAX;

extern "C" fn nothing(_: *mut c_void) -> *mut c_void {
    null_mut()
}

impl Fiber {
    /// A record that belongs to no fiber yet.
    pub(crate) const fn free() -> Fiber {
        Fiber {
            sp: Cell::new(null_mut()),
            next: Cell::new(null_mut()),
            worker_address: AtomicPtr::new(null_mut()),
            life: AtomicU64::new(1 << GENERATION_SHIFT),
            wait_reason: AtomicU8::new(0),
            cancellation: Cancellation::new(),
            class: Cell::new(Class::NONE),
            timer: Cell::new(NO_TIMER),
            waits_on: AtomicUsize::new(0),
            waiter: Cell::new(null()),
            stack: Cell::new(null_mut()),
            entry: Cell::new(nothing),
            arg: Cell::new(null_mut()),
            result: Cell::new(null_mut()),
            runtime_address: AtomicPtr::new(null_mut()),
            id: AtomicU64::new(0),
            locals: Locals::new(),
            name: UnsafeCell::new([0; NAME_LEN]),
        }
    }

    /// The record's current state.
    #[inline(always)]
    pub(crate) fn life(&self) -> Life {
        Life(self.life.load(Ordering::Acquire))
    }

    /// Changes the state from `from` to `to` in one step. Returns false if it was another one.
    pub(crate) fn change_life(&self, from: Life, to: Life) -> bool {
        self.life
            .compare_exchange(from.0, to.0, Ordering::SeqCst, Ordering::Relaxed)
            .is_ok()
    }

    /// The handle of a live fiber.
    #[inline(always)]
    pub(crate) fn handle(&self) -> Handle {
        Handle((self.life.load(Ordering::Relaxed) & GENERATION) | self as *const Fiber as u64)
    }

    /// The previous fiber in the queue. Set only in an unstarted fiber that is not the first one.
    #[inline(always)]
    pub(crate) fn previous(&self) -> *mut Fiber {
        self.result.get().cast()
    }

    #[inline(always)]
    pub(crate) fn set_previous(&self, previous: *mut Fiber) {
        self.result.set(previous.cast());
    }

    /// Records why the fiber is about to park.
    #[inline(always)]
    pub(crate) fn set_wait_reason(&self, reason: WaitReason, on: *const ()) {
        self.waits_on.store(on as usize, Ordering::Relaxed);
        self.wait_reason.store(reason as u8, Ordering::Relaxed);
    }

    /// Records that the fiber no longer waits.
    #[inline(always)]
    pub(crate) fn clear_wait_reason(&self) {
        self.wait_reason
            .store(WaitReason::Nothing as u8, Ordering::Relaxed);
    }

    pub(crate) fn wait_reason(&self) -> WaitReason {
        WaitReason::ALL[self.wait_reason.load(Ordering::Relaxed) as usize]
    }
}

impl Link for Fiber {
    fn next(&self) -> *mut Fiber {
        self.next.get()
    }

    fn set_next(&self, next: *mut Fiber) {
        self.next.set(next);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn handles_become_stale_and_generations_wrap() {
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
}
