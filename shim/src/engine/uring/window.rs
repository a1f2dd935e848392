//! Lets other threads see and redirect the entries that a thread has queued but not yet submitted.
//!
//! The kernel looks a descriptor up when an entry is submitted. A thread that closes or replaces a
//! descriptor submits its own entries first, but it cannot submit those of another thread, whose
//! fiber may compute for a long time. So it goes through the entries of the other threads and makes
//! those that name the descriptor name a duplicate ([`redirect`]). The owning thread closes the
//! duplicate once the entries are submitted.
//!
//! The entries lie in memory that is shared with the kernel. Other threads write nothing there
//! except a descriptor, by one atomic compare-and-exchange. The kernel may have read the old number
//! just before. It looks the file up before it moves the queue's head past the entry. So while the
//! owner is in io_uring_enter(2), the writer waits until the head has passed. That does not wait
//! for any fiber.
//!
//! A window is reused but never freed, so the list of windows needs no lock: signal handlers may
//! close descriptors.

use crate::state::descriptors;
use io_uring::{IoUring, Parameters};
use rustix::io_uring::io_uring_params;
use std::ffi::c_int;
use std::os::fd::AsRawFd;
use std::ptr::{null_mut, with_exposed_provenance};
use std::sync::atomic::{
    AtomicBool, AtomicI32, AtomicPtr, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence,
};

/// All windows ever made.
static FIRST: AtomicPtr<Window> = AtomicPtr::new(null_mut());

/// The size of an entry, and the offsets of its fields.
const ENTRY: usize = 64;
const OPCODE: usize = 0;
const FLAGS: usize = 1;
const DESCRIPTOR: usize = 4;
const ADDRESS: usize = 16;
/// The opcode of a file table update, and the flag of an entry that names a slot of the table.
const FILES_UPDATE: u8 = 6;
const FIXED_FILE: u8 = 1;

/// The most duplicates that a window keeps at a time. Beyond that, the number is closed although
/// entries name it.
const MAX_DUPLICATES: usize = 64;
const NO_DUPLICATE: u64 = u64::MAX;

/// How often an ending thread checks whether other threads still read its queue.
const MAX_CHECKS: u32 = 1000;

struct Window {
    next: AtomicPtr<Window>,
    /// Whether entries are queued. Other threads pass over a window that has none without writing
    /// to it: threads that open and close files all the time would otherwise pass its cache lines
    /// to and fro.
    pending: AtomicBool,
    /// Whether the window belongs to a ring.
    used: AtomicBool,
    /// Whether other threads may look, and how many currently do.
    open: AtomicBool,
    readers: AtomicU32,
    /// The queue's mappings.
    ring: AtomicUsize,
    entries: AtomicUsize,
    count: AtomicU32,
    head: AtomicUsize,
    tail: AtomicUsize,
    /// The address of two descriptors in memory. The queued updates of io_uring's file table read
    /// the number of the hot file there.
    hot: AtomicUsize,
    /// Whether the owner is in io_uring_enter(2), or about to enter it.
    entering: OwnLine,
    /// The duplicates that entries name, each with the position that the queue's head must reach
    /// before the duplicate is closed.
    duplicates: [AtomicU64; MAX_DUPLICATES],
    has_duplicates: AtomicBool,
}

/// A flag in a cache line of its own, because its owner writes it much more often than others read
/// the rest.
#[repr(align(64))]
struct OwnLine(AtomicBool);

/// The owner's handle to a window.
pub struct Owner(&'static Window);

impl Owner {
    /// Lets other threads see the entries queued in `ring`. `hot` is the address of the hot file's
    /// numbers, which must stay valid as long as the result. None if the ring's memory cannot be
    /// mapped a second time.
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
        window.pending.store(false, Ordering::Relaxed);
        window.open.store(true, Ordering::SeqCst);
        Some(Self(window))
    }

    /// Call before the first entry is queued, and when all have been submitted.
    #[inline(always)]
    pub fn set_pending(&self, pending: bool) {
        self.0.pending.store(pending, Ordering::Release);
    }

    /// Runs `enter`, which must be io_uring_enter(2) with entries to submit.
    #[inline(always)]
    pub fn during<R>(&self, enter: impl FnOnce() -> R) -> R {
        let OwnLine(entering) = &self.0.entering;
        // Must happen before the kernel reads the entries; pairs with `redirect`.
        entering.swap(true, Ordering::SeqCst);
        let result = enter();
        entering.store(false, Ordering::Release);
        if self.0.has_duplicates.load(Ordering::Relaxed) {
            self.0.close_submitted();
        }
        result
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        let window = self.0;
        window.open.store(false, Ordering::SeqCst);
        let mut checks = 0;
        while window.readers.load(Ordering::SeqCst) > 0 && checks < MAX_CHECKS {
            // Another thread is reading the queue, or one of its signal handlers jumped out of the
            // read. If that does not end, the mappings are leaked.
            sys::yield_thread();
            checks += 1;
        }
        window.close_duplicates(|_| true);
        if checks < MAX_CHECKS {
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
    /// A window that no ring uses, newly made if necessary.
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
            pending: AtomicBool::new(false),
            used: AtomicBool::new(true),
            open: AtomicBool::new(false),
            readers: AtomicU32::new(0),
            ring: AtomicUsize::new(0),
            entries: AtomicUsize::new(0),
            count: AtomicU32::new(0),
            head: AtomicUsize::new(0),
            tail: AtomicUsize::new(0),
            hot: AtomicUsize::new(0),
            entering: OwnLine(AtomicBool::new(false)),
            duplicates: [const { AtomicU64::new(NO_DUPLICATE) }; MAX_DUPLICATES],
            has_duplicates: AtomicBool::new(false),
        }));
        let _ = FIRST.try_update(Ordering::Release, Ordering::Relaxed, |first| {
            window.next.store(first, Ordering::Relaxed);
            Some(std::ptr::from_ref(window).cast_mut())
        });
        window
    }

    fn word(&self, address: &AtomicUsize) -> &AtomicU32 {
        let at = with_exposed_provenance::<AtomicU32>(address.load(Ordering::Relaxed));
        // SAFETY: the address is a word of the queue's mapping, which stays while the window is
        // open or has readers.
        unsafe { &*at }
    }

    /// Whether the head has passed `position`. Positions wrap around.
    fn has_passed(&self, position: u32) -> bool {
        self.word(&self.head)
            .load(Ordering::Acquire)
            .wrapping_sub(position)
            .cast_signed()
            >= 0
    }

    /// The descriptor field of the entry at `position`.
    fn descriptor(&self, position: u32) -> Option<&AtomicI32> {
        let mask = self.count.load(Ordering::Relaxed) - 1;
        let entry = self.entries.load(Ordering::Relaxed) + (position & mask) as usize * ENTRY;
        let byte = |at: usize| {
            // SAFETY: the byte lies in an entry of the mapping, and is read atomically. The owner
            // may be writing a later entry there; then any value will do.
            unsafe { &*with_exposed_provenance::<AtomicU8>(entry + at) }.load(Ordering::Relaxed)
        };
        let at = if byte(OPCODE) == FILES_UPDATE {
            // SAFETY: the entry lies in the ring's mapping, which this window keeps, and its words
            // are only read atomically.
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
        // SAFETY: the address is a word of the entry, in the mapping that this window keeps, or one
        // of the ring's hot file numbers, which live as long.
        Some(unsafe { &*at })
    }

    /// Makes entries that name the descriptors `first` to `last` name duplicates instead.
    fn redirect(&self, first: c_int, last: c_int) {
        let tail = self.word(&self.tail).load(Ordering::Acquire);
        let mut position = self.word(&self.head).load(Ordering::Acquire);
        let mut redirected = None;
        // The owner may have submitted all these entries, and more, since the tail was read. Then
        // the head is past the tail.
        while tail.wrapping_sub(position).cast_signed() > 0 {
            let Some(number) = self.descriptor(position) else {
                position = position.wrapping_add(1);
                continue;
            };
            position = position.wrapping_add(1);
            let fd = number.load(Ordering::Relaxed);
            if (first..=last).contains(&fd)
                && !descriptors::is_shim_owned(fd)
                && let Some(duplicate) = self.duplicate(fd, tail)
                && number
                    .compare_exchange(fd, duplicate, Ordering::SeqCst, Ordering::Relaxed)
                    .is_ok()
            {
                redirected = Some(position);
            }
        }
        let Some(redirected) = redirected else { return };
        fence(Ordering::SeqCst);
        while self.entering.0.load(Ordering::SeqCst) && !self.has_passed(redirected) {
            sys::yield_thread();
        }
    }

    /// Makes a duplicate of `fd` that stays open until the head reaches `until`.
    fn duplicate(&self, fd: c_int, until: u32) -> Option<c_int> {
        let slot = self
            .duplicates
            .iter()
            .find(|slot| slot.load(Ordering::Relaxed) == NO_DUPLICATE)?;
        let duplicate = sys::duplicate_to_wait_on(fd)?;
        descriptors::mark_shim_owned(duplicate, true);
        let packed = u64::from(until) << 32 | u64::from(duplicate as u32);
        if slot
            .compare_exchange(NO_DUPLICATE, packed, Ordering::Release, Ordering::Relaxed)
            .is_ok()
        {
            self.has_duplicates.store(true, Ordering::Release);
            return Some(duplicate);
        }
        close(duplicate);
        None
    }

    /// Closes the duplicates whose entries have been submitted.
    #[cold]
    fn close_submitted(&self) {
        self.has_duplicates.store(false, Ordering::Relaxed);
        self.close_duplicates(|until| self.has_passed(until));
        let has_duplicates = self
            .duplicates
            .iter()
            .any(|slot| slot.load(Ordering::Relaxed) != NO_DUPLICATE);
        if has_duplicates {
            self.has_duplicates.store(true, Ordering::Relaxed);
        }
    }

    fn close_duplicates(&self, is_over: impl Fn(u32) -> bool) {
        for slot in &self.duplicates {
            let packed = slot.load(Ordering::Acquire);
            if packed != NO_DUPLICATE && is_over((packed >> 32) as u32) {
                close(packed as u32 as c_int);
                slot.store(NO_DUPLICATE, Ordering::Release);
            }
        }
    }
}

fn close(duplicate: c_int) {
    descriptors::disown(duplicate);
    let _ = sys::close(duplicate);
}

fn windows() -> impl Iterator<Item = &'static Window> {
    let mut at = FIRST.load(Ordering::Acquire).cast_const();
    std::iter::from_fn(move || {
        // SAFETY: the pointer is null or a window, and windows are never freed.
        let window = unsafe { at.as_ref() }?;
        at = window.next.load(Ordering::Acquire);
        Some(window)
    })
}

/// Call before the descriptors `first` to `last` are closed or replaced: entries that other threads
/// have queued on them name duplicates from then on. The caller's own entries on them are
/// already submitted.
pub fn redirect(first: c_int, last: c_int) {
    // A call that was made before this close is seen here: whatever tells its order tells this
    // thread of the flag, too.
    for window in windows().filter(|window| window.pending.load(Ordering::Acquire)) {
        window.readers.fetch_add(1, Ordering::SeqCst);
        if window.open.load(Ordering::SeqCst) {
            window.redirect(first, last);
        }
        window.readers.fetch_sub(1, Ordering::SeqCst);
    }
}

after_fork!(|| disown());

/// In the child of fork: all windows belong to the parent. Those of threads that do not exist in
/// the child are never used again.
fn disown() {
    for window in windows() {
        window.open.store(false, Ordering::SeqCst);
        window.entering.0.store(false, Ordering::SeqCst);
        window.readers.store(0, Ordering::SeqCst);
    }
}

fn parameters(params: &Parameters) -> &io_uring_params {
    // SAFETY: `Parameters` is a transparent wrapper of that structure, as its documentation says.
    unsafe { &*std::ptr::from_ref(params).cast() }
}

/// The inverse of [`parameters`].
pub fn crate_parameters(params: io_uring_params) -> Parameters {
    // SAFETY: `Parameters` is a transparent wrapper of that structure, as its documentation says.
    unsafe { std::mem::transmute::<io_uring_params, Parameters>(params) }
}
