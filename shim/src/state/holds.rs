//! Holds: they keep the file of an operation that uses its descriptor more than once.
//!
//! The kernel looks a descriptor up once per system call, and the call keeps that file even if the
//! descriptor is closed or replaced. An operation that the shim performs in several steps looks it
//! up in each step, and its fiber may park in between. Therefore the operation holds the
//! descriptor: before a task closes or replaces the number, it gives each hold a duplicate, and the
//! remaining steps use the duplicate. A hold costs no system call unless its descriptor is closed.
//!
//! The holds of one number form a linked list through the stacks of their fibers. A table, indexed
//! by the descriptor's number, has the head of each list in one word. The lowest bit of the word is
//! a lock. It is held for a few instructions, or for a few system calls while the number is being
//! closed, but never across a park.

use crate::context;
use crate::state::blocked::Blocked;
use crate::state::descriptors;
use crate::state::fork_reset::is_bare_child;
use once_cell::race::OnceNonZeroUsize;
use std::cell::{Cell, UnsafeCell};
use std::ffi::c_int;
use std::num::NonZeroUsize;
use std::ptr::null;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, AtomicUsize, Ordering};

/// The table's address: one reservation, of which only the pages in use take memory.
static TABLE: OnceNonZeroUsize = OnceNonZeroUsize::new();

const LOCKED: usize = 1;

/// Makes the table. Idempotent. If it fails, nothing is held.
pub fn init() {
    let _ = TABLE.get_or_try_init(|| {
        let base = sys::reserve_zeroes(descriptors::CAPACITY * size_of::<usize>())?;
        NonZeroUsize::new(base).ok_or(sys::errno::Errno::NOMEM)
    });
}

after_fork!(|| reset_after_fork());

/// In the child of a fork: the parent's fibers and their holds do not exist.
fn reset_after_fork() {
    if let Some(base) = TABLE.get() {
        sys::zero_anew(base.get(), descriptors::CAPACITY * size_of::<usize>());
    }
}

fn head(fd: c_int) -> Option<&'static AtomicUsize> {
    let base = TABLE.get()?;
    if fd as u32 as usize >= descriptors::CAPACITY {
        return None;
    }
    // SAFETY: `base` is a mapping of CAPACITY words that is never unmapped, and `fd` is below
    // CAPACITY.
    Some(unsafe { &*(base.get() as *const AtomicUsize).add(fd as usize) })
}

/// The locked list of one number. Dropping it stores `first` as the head and unlocks the list.
struct List {
    head: &'static AtomicUsize,
    first: *const Hold,
}

impl List {
    fn lock(head: &'static AtomicUsize) -> Self {
        let mut now = head.load(Ordering::Relaxed);
        loop {
            if now & LOCKED != 0 {
                std::hint::spin_loop();
                sys::yield_thread();
                now = head.load(Ordering::Relaxed);
                continue;
            }
            match head.compare_exchange_weak(
                now,
                now | LOCKED,
                Ordering::Acquire,
                Ordering::Relaxed,
            ) {
                Ok(_) => {
                    let first = std::ptr::with_exposed_provenance(now);
                    return Self { head, first };
                }
                Err(other) => now = other,
            }
        }
    }
}

impl Drop for List {
    fn drop(&mut self) {
        self.head
            .store(self.first.expose_provenance(), Ordering::Release);
    }
}

/// A duplicate that several holds share; closed with the last of them.
struct Duplicate(c_int);

impl Drop for Duplicate {
    fn drop(&mut self) {
        descriptors::disown(self.0);
        let _ = sys::close(self.0);
    }
}

/// An operation's hold on the file of its descriptor, from [`Hold::register`] on. It must not move
/// after that; borrowing it for as long as it is used ensures this.
pub struct Hold {
    /// The descriptor that the operation was given.
    number: c_int,
    /// The descriptor to use now.
    current: AtomicI32,
    begun: Cell<bool>,
    /// The next hold of the same number, protected by the list's lock.
    next: Cell<*const Hold>,
    /// The duplicate, set under the list's lock when the number is closed.
    duplicate: UnsafeCell<Option<Arc<Duplicate>>>,
    /// The call that holds it, if one does, and the next hold of that call.
    call: Cell<*const CallHolds>,
    next_of_call: Cell<*const Hold>,
}

/// The holds of one call, which end before a signal handler runs: it may jump out of the call. The
/// value must not move while there are holds.
pub struct CallHolds {
    first: Cell<*const Hold>,
}

impl CallHolds {
    #[inline(always)]
    pub const fn new() -> Self {
        Self {
            first: Cell::new(null()),
        }
    }

    /// [`Hold::register`] for this call.
    pub fn register(&self, hold: &Hold) {
        if hold.begun.get() {
            return;
        }
        hold.register();
        if hold.begun.get() {
            hold.next_of_call.set(self.first.replace(hold));
            hold.call.set(self);
        }
    }

    /// Runs `handlers`, which may jump out of the call, without these holds. If they return, the
    /// holds begin anew, with the files that their numbers refer to then: a call that the kernel
    /// restarts looks its descriptors up again, too.
    #[inline]
    pub fn without<R>(&self, handlers: impl FnOnce() -> R) -> R {
        let ended = self.first.replace(null());
        let mut at = ended;
        // SAFETY: a hold leaves the list when it is dropped.
        while let Some(hold) = unsafe { at.as_ref() } {
            hold.suspend();
            at = hold.next_of_call.get();
        }
        let result = handlers();
        let mut at = ended;
        // SAFETY: the handlers returned, so the call's frames with the holds still exist.
        while let Some(hold) = unsafe { at.as_ref() } {
            at = hold.next_of_call.get();
            self.register(hold);
        }
        result
    }

    fn remove(&self, hold: &Hold) {
        let mut link = &self.first;
        // SAFETY: as in `without`.
        while let Some(at) = unsafe { link.get().as_ref() } {
            if std::ptr::eq(at, hold) {
                link.set(at.next_of_call.get());
                return;
            }
            link = &at.next_of_call;
        }
    }
}

impl Hold {
    /// It holds nothing before [`Self::register`].
    #[inline(always)]
    pub const fn new(fd: c_int) -> Self {
        Self {
            number: fd,
            current: AtomicI32::new(fd),
            begun: Cell::new(false),
            next: Cell::new(null()),
            duplicate: UnsafeCell::new(None),
            call: Cell::new(null()),
            next_of_call: Cell::new(null()),
        }
    }

    /// The descriptor that refers to the file now.
    #[inline(always)]
    pub fn fd(&self) -> c_int {
        self.current.load(Ordering::Acquire)
    }

    /// Whether the number was closed or replaced since the hold began.
    pub fn has_moved(&self) -> bool {
        self.fd() != self.number
    }

    /// Whether the hold has begun.
    pub fn has_begun(&self) -> bool {
        self.begun.get()
    }

    /// Holds the file that the descriptor refers to now. Call it while that is still the intended
    /// file, and only if no jump of the program can skip the hold's end
    /// (`Call::hold`).
    pub fn register(&self) {
        // The program cannot close a descriptor of the shim.
        if self.begun.get() || descriptors::is_shim_owned(self.number) {
            return;
        }
        let Some(head) = head(self.number) else {
            return;
        };
        self.begun.set(true);
        let mut list = List::lock(head);
        self.next.set(list.first);
        list.first = self;
        descriptors::set_held(self.number, true);
    }

    /// Ends the hold as if it had never begun.
    fn suspend(&self) {
        self.end();
        self.begun.set(false);
        self.call.set(null());
        self.current.store(self.number, Ordering::Release);
        // SAFETY: the hold is in no list any more, so no other thread accesses the duplicate.
        unsafe { *self.duplicate.get() = None };
    }

    #[cold]
    #[inline(never)]
    fn end(&self) {
        let Some(head) = head(self.number) else {
            return;
        };
        let mut list = List::lock(head);
        // SAFETY: holds in the list are alive and do not move, and we hold the list's lock.
        unsafe {
            if list.first == std::ptr::from_ref(self) {
                list.first = self.next.get();
            } else {
                let mut at = list.first;
                while !at.is_null() && (*at).next.get() != std::ptr::from_ref(self) {
                    at = (*at).next.get();
                }
                // It is not in the list if the number was closed: then it got a duplicate, or none
                // could be made.
                if let Some(before) = at.as_ref() {
                    before.next.set(self.next.get());
                }
            }
        }
        if list.first.is_null() {
            descriptors::set_held(self.number, false);
        }
    }
}

impl Drop for Hold {
    #[inline(always)]
    fn drop(&mut self) {
        if self.begun.get() {
            self.end();
            // SAFETY: the call outlives its holds and does not move.
            if let Some(call) = unsafe { self.call.get().as_ref() } {
                call.remove(self);
            }
        }
    }
}

/// Gives the holds of `fd` a duplicate before it is closed or replaced. If no duplicate can be
/// made, they keep using the number.
#[cold]
pub fn redirect(fd: c_int) {
    let Some(head) = head(fd).filter(|_| !is_bare_child()) else {
        return;
    };
    // This takes the list's lock, so no signal handler of this thread may close a descriptor now.
    let _section = context::critical();
    let _blocked = Blocked::all();
    let mut list = List::lock(head);
    if list.first.is_null() {
        return;
    }
    let Some(duplicate) = sys::duplicate_to_wait_on(fd) else {
        return;
    };
    descriptors::mark_shim_owned(duplicate, true);
    let shared = Arc::new(Duplicate(duplicate));
    let mut at = std::mem::replace(&mut list.first, null());
    // SAFETY: holds in the list are alive and do not move, and we hold the list's lock. Their
    // fibers read `duplicate` only when they drop it, after taking that lock.
    while let Some(hold) = unsafe { at.as_ref() } {
        at = hold.next.replace(null());
        // SAFETY: we hold the list's lock, and the hold's fiber reads this only after taking that
        // lock.
        unsafe { *hold.duplicate.get() = Some(Arc::clone(&shared)) };
        hold.current.store(duplicate, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::{AsRawFd, IntoRawFd};

    #[test]
    fn a_hold_keeps_its_file_when_the_number_is_closed() {
        descriptors::init();
        init();
        let (reader, writer) = std::io::pipe().unwrap();
        let (first, second, other) = (
            Hold::new(writer.as_raw_fd()),
            Hold::new(writer.as_raw_fd()),
            Hold::new(reader.as_raw_fd()),
        );
        for hold in [&first, &second, &other] {
            hold.register();
        }
        let number = writer.into_raw_fd();
        redirect(number);
        sys::close(number).unwrap();
        assert!(first.has_moved() && first.fd() == second.fd() && !other.has_moved());
        sys::write_all(first.fd(), b"x");
        let duplicate = first.fd();
        let inode = sys::fstat(duplicate).unwrap().st_ino;
        // Another test may get the same number as soon as it is free.
        let has_file = || sys::fstat(duplicate).is_ok_and(|stat| stat.st_ino == inode);
        drop(first);
        assert!(has_file(), "the second hold still has it");
        drop(second);
        assert!(!has_file());
    }

    #[test]
    fn a_hold_that_ended_is_given_nothing() {
        descriptors::init();
        init();
        let (reader, _writer) = std::io::pipe().unwrap();
        let fd = reader.as_raw_fd();
        let (first, second) = (Hold::new(fd), Hold::new(fd));
        first.register();
        second.register();
        drop(first);
        redirect(fd);
        assert!(second.has_moved());
    }
}
