//! The memory of fiber records: slabs that are never unmapped, with a free list per worker.
//!
//! Invariant: once a record has been allocated, its address stays readable forever. This makes
//! stale handles harmless.

use super::fiber::{Fiber, Handle, Life};
use crate::spin::SpinLock;
use core::cell::Cell;
use core::ptr::null_mut;
use core::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

const SLAB: usize = 64 << 10;
const HEADER: usize = 64;
const PER_SLAB: usize = (SLAB - HEADER) / size_of::<Fiber>();
/// If a worker's free list grows longer than this, it gives half of its records back. This happens
/// when fibers are created on one worker and joined on another.
const MAX_FREE: usize = 2 * PER_SLAB;

/// How many records are initialised at a time: about a page. A worker with few fibers then does not
/// touch the rest of its slab.
const CARVED: usize = 32;

#[repr(C, align(64))]
struct Slab {
    next: *mut Slab,
    /// How many records are initialised. The others are zeroes and belong to whoever has the slab.
    ready: AtomicUsize,
    /// The next slab that no worker has.
    next_spare: *mut Slab,
}

/// All slabs, newest first. The list only grows, so it can be walked without a lock.
static SLABS: AtomicPtr<Slab> = AtomicPtr::new(null_mut());

/// A chain of free records linked by `next`, and a chain of slabs with uninitialised ones.
struct Chain {
    head: *mut Fiber,
    len: usize,
    slab: *mut Slab,
}

// SAFETY: a chain owns its records and the uninitialised ones of its slabs; they belong to no
// thread.
unsafe impl Send for Chain {}

/// Free records that no worker owns.
pub(crate) static SPARE: Spare = Spare(SpinLock::new(Chain {
    head: null_mut(),
    len: 0,
    slab: null_mut(),
}));

pub(crate) struct Spare(SpinLock<Chain>);

impl Spare {
    /// For fork: ensures that no other thread holds the lock in the child.
    pub(crate) fn acquire(&self) {
        self.0.acquire();
    }

    pub(crate) fn release(&self) {
        self.0.release();
    }

    /// Frees a record on a thread that is not a worker.
    pub(crate) fn put(&self, fiber: &Fiber) {
        retire(fiber);
        let mut spare = self.0.lock();
        fiber.next.set(spare.head);
        spare.head = (&raw const *fiber).cast_mut();
        spare.len += 1;
    }
}

/// Makes every handle of `fiber` stale.
fn retire(fiber: &Fiber) {
    fiber
        .life
        .store(fiber.life().next_generation().0, Ordering::Release);
}

/// The free records of one worker.
pub(crate) struct Records {
    head: Cell<*mut Fiber>,
    len: Cell<usize>,
    /// The slab whose uninitialised records this worker takes; null if there is none.
    slab: Cell<*mut Slab>,
}

impl Records {
    pub(crate) const fn new() -> Records {
        Records {
            head: Cell::new(null_mut()),
            len: Cell::new(0),
            slab: Cell::new(null_mut()),
        }
    }

    /// Returns a free record, or null if memory runs out.
    #[inline(always)]
    pub(crate) fn take(&self) -> *mut Fiber {
        if self.head.get().is_null() && !self.refill() {
            return null_mut();
        }
        let fiber = self.head.get();
        // SAFETY: this list owns its records.
        self.head.set(unsafe { (*fiber).next.get() });
        self.len.set(self.len.get() - 1);
        fiber
    }

    /// Frees the record of a fiber that no longer exists. Its handles are stale from now on.
    #[inline(always)]
    pub(crate) fn put(&self, fiber: &Fiber) {
        retire(fiber);
        fiber.next.set(self.head.get());
        self.head.set((&raw const *fiber).cast_mut());
        self.len.set(self.len.get() + 1);
        if self.len.get() > MAX_FREE {
            self.give_back(MAX_FREE / 2);
        }
    }

    #[cold]
    fn refill(&self) -> bool {
        let mut spare = SPARE.0.lock();
        if !spare.head.is_null() {
            // Take up to one slab's worth of the records that others gave back.
            let first = spare.head;
            let (mut last, mut n) = (first, 1);
            // SAFETY: the spare chain owns its records.
            unsafe {
                while n < PER_SLAB && !(*last).next.get().is_null() {
                    last = (*last).next.get();
                    n += 1;
                }
                spare.head = (*last).next.replace(null_mut());
            }
            spare.len -= n;
            self.head.set(first);
            self.len.set(n);
            return true;
        }
        if self.slab.get().is_null() && !spare.slab.is_null() {
            // SAFETY: slabs are never unmapped, and the spare chain owns this one.
            let next = unsafe { core::mem::replace(&mut (*spare.slab).next_spare, null_mut()) };
            self.slab.set(core::mem::replace(&mut spare.slab, next));
        }
        drop(spare);
        if self.slab.get().is_null() {
            let Some(slab) = map() else { return false };
            publish(slab);
            self.slab.set(slab);
        }
        self.carve();
        true
    }

    /// Initialises some records of this worker's slab, which has uninitialised ones.
    fn carve(&self) {
        let slab = self.slab.get();
        // SAFETY: the slab is mapped, and only the worker that has it initialises its records.
        unsafe {
            let ready = &(*slab).ready;
            let first = ready.load(Ordering::Relaxed);
            let end = (first + CARVED).min(PER_SLAB);
            for i in (first..end).rev() {
                let record = record(slab, i);
                record.write(Fiber::free());
                (*record).next.set(self.head.replace(record));
            }
            self.len.set(self.len.get() + end - first);
            ready.store(end, Ordering::Release);
            if end == PER_SLAB {
                self.slab.set(null_mut());
            }
        }
    }

    /// Moves `n` records to the spare list.
    #[cold]
    fn give_back(&self, n: usize) {
        let first = self.head.get();
        let mut last = first;
        // SAFETY: this list owns its records and has at least `n` of them.
        unsafe {
            for _ in 1..n {
                last = (*last).next.get();
            }
            let mut spare = SPARE.0.lock();
            self.head.set((*last).next.replace(spare.head));
            spare.head = first;
            spare.len += n;
        }
        self.len.set(self.len.get() - n);
    }

    /// Gives all records back when the worker ends.
    pub(crate) fn flush(&self) {
        if self.len.get() > 0 {
            self.give_back(self.len.get());
        }
        let slab = self.slab.replace(null_mut());
        if !slab.is_null() {
            let mut spare = SPARE.0.lock();
            // SAFETY: slabs are never unmapped, and this one was the worker's.
            unsafe { (*slab).next_spare = core::mem::replace(&mut spare.slab, slab) };
        }
    }
}

/// Adds a new slab, none of whose records is initialised, to the list of all slabs.
fn publish(slab: *mut Slab) {
    let mut top = SLABS.load(Ordering::Relaxed);
    loop {
        // SAFETY: nobody else knows the slab yet.
        unsafe { (*slab).next = top };
        match SLABS.compare_exchange_weak(top, slab, Ordering::Release, Ordering::Relaxed) {
            Ok(_) => return,
            Err(now) => top = now,
        }
    }
}

/// A new slab of zeroes.
fn map() -> Option<*mut Slab> {
    // SAFETY: a new anonymous mapping affects no existing memory.
    let slab = unsafe {
        libc::mmap(
            null_mut(),
            SLAB,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            -1,
            0,
        )
    };
    (slab != libc::MAP_FAILED).then_some(slab.cast())
}

/// Returns the `i`th record of a slab.
///
/// # Safety
/// `slab` is mapped and `i` is below [`PER_SLAB`].
unsafe fn record(slab: *mut Slab, i: usize) -> *mut Fiber {
    // SAFETY: the header and PER_SLAB records fit in the slab.
    unsafe { slab.byte_add(HEADER).cast::<Fiber>().add(i) }
}

/// Calls `visit` for every record that belongs to a fiber, in no particular order. Fibers may be
/// created and may end during the call.
pub(crate) fn for_each(mut visit: impl FnMut(&'static Fiber, Life)) {
    let mut slab = SLABS.load(Ordering::Acquire);
    while !slab.is_null() {
        // SAFETY: slabs in the list are never unmapped.
        let ready = unsafe { (*slab).ready.load(Ordering::Acquire) };
        for i in 0..ready {
            // SAFETY: the record is initialised and never unmapped.
            let fiber = unsafe { &*record(slab, i) };
            let life = fiber.life();
            if life.state() != Life::FREE {
                visit(fiber, life);
            }
        }
        // SAFETY: slabs in the list are never unmapped, and `next` was written before the slab was
        // published.
        slab = unsafe { (*slab).next };
    }
}

/// Returns the fiber `name` if it exists. Unlike [`Handle::fiber`], also checks that the address
/// lies in a slab, because reports pass values that they read from locks.
pub(crate) fn find(name: Handle) -> Option<&'static Fiber> {
    let mut found = None;
    for_each(|fiber, life| {
        if life.is(name) && fiber.handle() == name {
            found = Some(fiber);
        }
    });
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn records_come_back_with_a_new_generation() {
        let records = Records::new();
        let f = records.take();
        // SAFETY: records are never unmapped.
        let before = unsafe { &*f }.life();
        // SAFETY: records are never unmapped.
        records.put(unsafe { &*f });
        assert_eq!(records.take(), f, "the last freed record comes first");
        // SAFETY: records are never unmapped.
        assert_ne!(before, unsafe { &*f }.life());
    }

    #[test]
    fn a_worker_initialises_few_records_and_passes_the_rest_of_its_slab_on() {
        let records = Records::new();
        // Until no spare record is left, which other tests may have given back.
        while records.slab.get().is_null() {
            assert!(!records.take().is_null());
        }
        let slab = records.slab.get();
        // SAFETY: slabs are never unmapped.
        let ready = || unsafe { &*slab }.ready.load(Ordering::Relaxed);
        let before = ready();
        assert!(before % CARVED == 0 && before < PER_SLAB, "{before}");
        records.flush();
        assert!(records.slab.get().is_null() && records.head.get().is_null());
        assert_eq!(ready(), before);
    }

    #[test]
    fn many_records_are_distinct_and_return_to_the_spare_list() {
        let records = Records::new();
        let all: Vec<_> = (0..5 * PER_SLAB).map(|_| records.take()).collect();
        assert_eq!(all.iter().collect::<HashSet<_>>().len(), all.len());
        for &f in &all {
            // SAFETY: records are never unmapped.
            records.put(unsafe { &*f });
            assert!(records.len.get() <= MAX_FREE);
        }
        records.flush();
        assert!(records.head.get().is_null());
        let other = Records::new();
        assert!(all.contains(&other.take()) || !SLABS.load(Ordering::Acquire).is_null());
    }
}
