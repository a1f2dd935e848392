//! What a thread has queued and not submitted, as other threads see it.
//!
//! The kernel looks a descriptor up when an entry is submitted. A thread that closes or replaces a
//! descriptor submits its own entries first, but cannot submit another thread's, whose fiber may
//! compute for long. So it goes through the entries of the others: those that name the number are
//! made to name a duplicate ([`redirect`]), which their thread closes once they are submitted.
//!
//! The entries lie in memory that is shared with the kernel, so all that other threads write is a
//! descriptor, by one atomic compare-and-exchange. The kernel may have read the old number just
//! before. It looks the file up before it moves the queue's head past the entry, so whoever wrote
//! waits for that while the owner is in io_uring_enter(2). That does not wait for any fiber.
//!
//! A window is never freed, but used again, so the list of them needs no lock: signal handlers may
//! close descriptors.

use crate::{fds, sys};
use io_uring::{IoUring, Parameters};
use rustix::io_uring::io_uring_params;
use std::ffi::c_int;
use std::os::fd::AsRawFd;
use std::ptr::{null_mut, with_exposed_provenance};
use std::sync::atomic::{
    AtomicBool, AtomicI32, AtomicPtr, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence,
};

/// All windows there have been.
static FIRST: AtomicPtr<Window> = AtomicPtr::new(null_mut());

/// Bytes of an entry, and where in it is what.
const ENTRY: usize = 64;
const OPCODE: usize = 0;
const FLAGS: usize = 1;
const DESCRIPTOR: usize = 4;
const ADDRESS: usize = 16;
/// The opcode of an update of the file table, and the flag of an entry that names a slot of it.
const FILES_UPDATE: u8 = 6;
const FIXED_FILE: u8 = 1;

/// Duplicates that a window keeps at a time. Past that a number is closed under the entries that
/// name it.
const MOST_KEPT: usize = 64;
const NOTHING: u64 = u64::MAX;

/// How often a thread that ends looks whether others still look at its queue.
const MOST_LOOKS: u32 = 1000;

struct Window {
    next: AtomicPtr<Window>,
    /// It belongs to a ring.
    used: AtomicBool,
    /// Others may look, and how many do.
    open: AtomicBool,
    readers: AtomicU32,
    /// The queue's mappings.
    ring: AtomicUsize,
    entries: AtomicUsize,
    count: AtomicU32,
    head: AtomicUsize,
    tail: AtomicUsize,
    /// Where updates of the file table read the hot file's number: two descriptors.
    hot: AtomicUsize,
    /// The owner is in io_uring_enter(2), or about to be.
    entering: AtomicBool,
    /// Duplicates that entries name, each behind the position that the head has to reach before it
    /// is closed.
    kept: [AtomicU64; MOST_KEPT],
    keeps: AtomicBool,
}

/// The owner's end of a window.
pub struct Owner(&'static Window);

impl Owner {
    /// Lets other threads see what is queued in `ring`. `hot` is where the hot file's numbers are,
    /// which must stay as long as this. None if the ring's memory cannot be mapped again.
    pub fn new(ring: &IoUring, hot: *const [c_int; 2]) -> Option<Self> {
        let params = parameters(ring.params());
        let (head, tail) = (params.sq_off.head, params.sq_off.tail);
        let ring_size = head.max(tail) as usize + size_of::<u32>();
        let map = |offset, size| sys::map_ring(ring.as_raw_fd(), offset, size);
        let queue = map(sys::IORING_OFF_SQ_RING, ring_size).ok()?;
        let Ok(entries) = map(sys::IORING_OFF_SQES, params.sq_entries as usize * ENTRY) else {
            sys::unmap(queue, ring_size);
            return None;
        };
        let window = Window::unused();
        window.ring.store(queue, Ordering::Relaxed);
        window.entries.store(entries, Ordering::Relaxed);
        window.count.store(params.sq_entries, Ordering::Relaxed);
        window.head.store(queue + head as usize, Ordering::Relaxed);
        window.tail.store(queue + tail as usize, Ordering::Relaxed);
        window.hot.store(hot.expose_provenance(), Ordering::Relaxed);
        window.open.store(true, Ordering::SeqCst);
        Some(Self(window))
    }

    /// Runs `enter`, which is io_uring_enter(2) with entries to submit.
    #[inline(always)]
    pub fn during<R>(&self, enter: impl FnOnce() -> R) -> R {
        // Before the kernel reads the entries; pairs with `redirect`.
        self.0.entering.swap(true, Ordering::SeqCst);
        let result = enter();
        self.0.entering.store(false, Ordering::Release);
        if self.0.keeps.load(Ordering::Relaxed) {
            self.0.let_go();
        }
        result
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        let window = self.0;
        window.open.store(false, Ordering::SeqCst);
        let mut looks = 0;
        while window.readers.load(Ordering::SeqCst) > 0 && looks < MOST_LOOKS {
            // Another thread is at it, or a handler of its has jumped out of that: then the
            // mappings stay.
            sys::yield_thread();
            looks += 1;
        }
        window.close_kept(|_| true);
        if looks < MOST_LOOKS {
            let head_end = window
                .head
                .load(Ordering::Relaxed)
                .max(window.tail.load(Ordering::Relaxed));
            let ring = window.ring.load(Ordering::Relaxed);
            sys::unmap(ring, head_end + size_of::<u32>() - ring);
            sys::unmap(
                window.entries.load(Ordering::Relaxed),
                window.count.load(Ordering::Relaxed) as usize * ENTRY,
            );
            window.used.store(false, Ordering::Release);
        }
    }
}

impl Window {
    /// A window that no ring has, a new one if there is none.
    fn unused() -> &'static Self {
        for window in windows() {
            let free =
                window
                    .used
                    .compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed);
            if free.is_ok() {
                return window;
            }
        }
        let window: &'static Self = Box::leak(Box::new(Self {
            next: AtomicPtr::new(null_mut()),
            used: AtomicBool::new(true),
            open: AtomicBool::new(false),
            readers: AtomicU32::new(0),
            ring: AtomicUsize::new(0),
            entries: AtomicUsize::new(0),
            count: AtomicU32::new(0),
            head: AtomicUsize::new(0),
            tail: AtomicUsize::new(0),
            hot: AtomicUsize::new(0),
            entering: AtomicBool::new(false),
            kept: [const { AtomicU64::new(NOTHING) }; MOST_KEPT],
            keeps: AtomicBool::new(false),
        }));
        let _ = FIRST.try_update(Ordering::Release, Ordering::Relaxed, |first| {
            window.next.store(first, Ordering::Relaxed);
            Some(std::ptr::from_ref(window).cast_mut())
        });
        window
    }

    fn word(&self, address: &AtomicUsize) -> &AtomicU32 {
        let at = with_exposed_provenance::<AtomicU32>(address.load(Ordering::Relaxed));
        // SAFETY: a word of the queue's mapping, which stays while the window is open or somebody
        // reads it.
        unsafe { &*at }
    }

    /// What the head is past, of positions that wrap around.
    fn has_passed(&self, position: u32) -> bool {
        self.word(&self.head)
            .load(Ordering::Acquire)
            .wrapping_sub(position)
            .cast_signed()
            >= 0
    }

    /// The descriptor that the entry at `position` names.
    fn descriptor(&self, position: u32) -> Option<&AtomicI32> {
        let mask = self.count.load(Ordering::Relaxed) - 1;
        let entry = self.entries.load(Ordering::Relaxed) + (position & mask) as usize * ENTRY;
        let byte = |at: usize| {
            // SAFETY: of an entry in the mapping; its owner may be writing a later one there, of
            // which any byte is as good.
            unsafe { &*with_exposed_provenance::<AtomicU8>(entry + at) }.load(Ordering::Relaxed)
        };
        let at = if byte(OPCODE) == FILES_UPDATE {
            // SAFETY: the entry lies in the ring's mapping, which this window keeps; its words are
            // only read atomically.
            let address = unsafe { &*with_exposed_provenance::<AtomicU64>(entry + ADDRESS) };
            let (address, hot) = (
                address.load(Ordering::Relaxed) as usize,
                self.hot.load(Ordering::Relaxed),
            );
            if address != hot {
                return None;
            }
            with_exposed_provenance(hot)
        } else if byte(FLAGS) & FIXED_FILE == 0 {
            with_exposed_provenance(entry + DESCRIPTOR)
        } else {
            return None;
        };
        // SAFETY: a word of the entry, in the mapping that this window keeps, or of the ring's hot
        // file, which lives as long.
        Some(unsafe { &*at })
    }

    /// Makes entries that name `first` to `last` name duplicates.
    fn redirect(&self, first: c_int, last: c_int) {
        let tail = self.word(&self.tail).load(Ordering::Acquire);
        let mut position = self.word(&self.head).load(Ordering::Acquire);
        let mut redirected = None;
        // The owner may have submitted all of it, and more, since the tail was read: then the head
        // is past it.
        while tail.wrapping_sub(position).cast_signed() > 0 {
            let Some(number) = self.descriptor(position) else {
                position = position.wrapping_add(1);
                continue;
            };
            position = position.wrapping_add(1);
            let fd = number.load(Ordering::Relaxed);
            if (first..=last).contains(&fd)
                && !fds::is_ours(fd)
                && let Some(duplicate) = self.keep(fd, tail)
                && number
                    .compare_exchange(fd, duplicate, Ordering::SeqCst, Ordering::Relaxed)
                    .is_ok()
            {
                redirected = Some(position);
            }
        }
        let Some(redirected) = redirected else { return };
        fence(Ordering::SeqCst);
        while self.entering.load(Ordering::SeqCst) && !self.has_passed(redirected) {
            sys::yield_thread();
        }
    }

    /// A duplicate of `fd` that stays open until the head is at `until`.
    fn keep(&self, fd: c_int, until: u32) -> Option<c_int> {
        let place = self
            .kept
            .iter()
            .find(|place| place.load(Ordering::Relaxed) == NOTHING)?;
        let duplicate = sys::duplicate_to_wait_on(fd)?;
        fds::mark_ours(duplicate, true);
        let kept = u64::from(until) << 32 | u64::from(duplicate as u32);
        if place
            .compare_exchange(NOTHING, kept, Ordering::Release, Ordering::Relaxed)
            .is_ok()
        {
            self.keeps.store(true, Ordering::Release);
            return Some(duplicate);
        }
        close(duplicate);
        None
    }

    /// Closes the duplicates whose entries are submitted.
    #[cold]
    fn let_go(&self) {
        self.keeps.store(false, Ordering::Relaxed);
        self.close_kept(|until| self.has_passed(until));
        let keeps = self
            .kept
            .iter()
            .any(|place| place.load(Ordering::Relaxed) != NOTHING);
        if keeps {
            self.keeps.store(true, Ordering::Relaxed);
        }
    }

    fn close_kept(&self, is_over: impl Fn(u32) -> bool) {
        for place in &self.kept {
            let kept = place.load(Ordering::Acquire);
            if kept != NOTHING && is_over((kept >> 32) as u32) {
                close(kept as u32 as c_int);
                place.store(NOTHING, Ordering::Release);
            }
        }
    }
}

fn close(duplicate: c_int) {
    fds::disown(duplicate);
    let _ = sys::close(duplicate);
}

fn windows() -> impl Iterator<Item = &'static Window> {
    let mut at = FIRST.load(Ordering::Acquire).cast_const();
    std::iter::from_fn(move || {
        // SAFETY: null, or a window, which is never freed.
        let window = unsafe { at.as_ref() }?;
        at = window.next.load(Ordering::Acquire);
        Some(window)
    })
}

/// Before the descriptors `first` to `last` are closed or replaced: what other threads have queued
/// on them names duplicates from here on. The caller's own entries are submitted.
pub fn redirect(first: c_int, last: c_int) {
    for window in windows() {
        window.readers.fetch_add(1, Ordering::SeqCst);
        if window.open.load(Ordering::SeqCst) {
            window.redirect(first, last);
        }
        window.readers.fetch_sub(1, Ordering::SeqCst);
    }
}

/// In the child of a fork: all windows are the parent's. Those of its other threads are left as
/// they are, for good.
pub fn renew() {
    for window in windows() {
        window.open.store(false, Ordering::SeqCst);
        window.entering.store(false, Ordering::SeqCst);
        window.readers.store(0, Ordering::SeqCst);
    }
}

fn parameters(params: &Parameters) -> &io_uring_params {
    // SAFETY: `Parameters` is a transparent wrapper of that structure, as its documentation says.
    unsafe { &*std::ptr::from_ref(params).cast() }
}
