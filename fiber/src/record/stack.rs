//! Stacks: address space is plentiful, touched pages are not.
//!
//! Stacks are carved from large mappings that reserve no memory. All mappings have identical flags,
//! so the kernel merges them into one area, no matter how many there are. A guard page is a marker
//! in the page table (MADV_GUARD_INSTALL, Linux 6.13), which does not split the area either: a
//! million stacks fit into the default vm.max_map_count. Older kernels use mprotect instead.
//!
//! A frame that is larger than the rest of its stack can jump over the guard. Therefore a gap that
//! belongs to no other stack lies below each guard ([`GAP`]), and such a frame does no harm there.
//! Guard markers on the whole gap would end the program instead, but would take 18 us per stack. An
//! untouched gap takes 2 KiB of page tables, because it moves the stacks farther apart.
//!
//! ```text
//!  lower addresses    | gap | guard |       stack <-- | gap | guard |       stack <-- |    higher
//! ```
//!
//! Invariant: a stack is in exactly one place, which is a running or parked fiber or one free list.
//! The page below it is a guard from the moment it is carved. Stacks are reused last in, first out,
//! while their top pages are warm. A worker with many free stacks returns their memory to the
//! kernel, but keeps their addresses.

use crate::arch::TOP_GAP;
use crate::spin::SpinLock;
use core::ptr::null_mut;
use core::sync::atomic::{AtomicU8, Ordering};

/// A stack's size class: the power of two that its size is rounded up to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Class(u8);

impl Class {
    pub(crate) const NONE: Class = Class(0);
    pub(crate) const MIN_SIZE: usize = 16 << 10;
    pub(crate) const MAX_SIZE: usize = 1 << 30;
    const FIRST: u8 = Self::MIN_SIZE.trailing_zeros() as u8;
    const LAST: u8 = Self::MAX_SIZE.trailing_zeros() as u8;
    const COUNT: usize = (Self::LAST - Self::FIRST + 1) as usize;

    /// Returns the smallest class that holds `size` bytes, or `None` if `size` is out of bounds.
    pub(crate) fn of(size: usize) -> Option<Class> {
        let sound = (Self::MIN_SIZE..=Self::MAX_SIZE).contains(&size);
        // A stack has at least one page, even where pages are large.
        sound.then(|| Class(size.max(page()).next_power_of_two().trailing_zeros() as u8))
    }

    /// The number of bytes that a fiber may use.
    pub(crate) fn size(self) -> usize {
        1 << self.0
    }

    /// The number of bytes of address space, including the gap and the guard. It must be an odd
    /// number of pages: if stacks were a power of two apart, their first pages would compete for a
    /// few sets of the TLB, and a switch among a hundred fibers would cost twice as much.
    fn stride(self) -> usize {
        GAP + page() + self.size()
    }

    #[inline(always)]
    fn index(self) -> usize {
        (self.0 - Self::FIRST) as usize
    }
}

/// The size of a guard in bytes. The gap lies below it.
#[inline(always)]
pub(crate) fn page() -> usize {
    if cfg!(target_arch = "x86_64") {
        LEAST_PAGE
    } else {
        rustix::param::page_size()
    }
}

/// Returns the address of a fiber's first frame on the stack at `base`. The first frames of
/// neighbouring stacks are a few cache lines apart; otherwise the hot frames of all fibers would
/// compete for the same few lines of the first-level cache.
#[inline(always)]
pub(crate) fn top(base: *mut u8, class: Class) -> *mut u8 {
    const SHADES: usize = 8;
    const SHADE: usize = 64;
    let shade = base.addr() / LEAST_PAGE % SHADES * SHADE;
    base.wrapping_add(page() + class.size() - TOP_GAP - shade)
}

/// The number of bytes below a guard that no stack uses. A frame of up to this size at the end of
/// its stack does not reach any other stack.
const GAP: usize = 1 << 20;
/// The smallest page size.
const LEAST_PAGE: usize = 4096;

/// The amount of address space reserved at a time.
const SLAB: usize = 64 << 20;
/// The number of spare stacks that a worker takes at a time.
const BATCH: usize = 32;
/// The number of free stacks per class that a worker keeps warm.
const WARM: usize = 1024;
/// The number of bytes at the top of a warm stack that a trim keeps.
const WARM_BYTES: usize = 16 << 10;

/// The free stacks of one worker.
pub(crate) struct Stacks {
    lists: [Free; Class::COUNT],
    /// Whether some list holds more warm stacks than it should.
    excess: bool,
}

#[derive(Default)]
struct Free {
    /// Recently used stacks, the most recent one last.
    warm: Vec<*mut u8>,
    /// The number of stacks in `warm`, from the bottom, that have not been used since the last
    /// trim.
    trimmed: usize,
    /// Stacks whose memory was returned or never touched. Their guards are in place.
    cold: Vec<*mut u8>,
    /// Reserved address space without guards yet: its first address and its end.
    raw: (usize, usize),
}

impl Stacks {
    pub(crate) fn new() -> Stacks {
        Stacks {
            lists: core::array::from_fn(|_| Free::default()),
            excess: false,
        }
    }

    /// Takes a free stack and returns the address of its guard, or `None` if memory runs out.
    #[inline(always)]
    pub(crate) fn take(&mut self, class: Class) -> Option<*mut u8> {
        let list = &mut self.lists[class.index()];
        match list.warm.pop() {
            Some(base) => {
                list.trimmed = list.trimmed.min(list.warm.len());
                Some(base)
            }
            None => list.take_cold(class),
        }
    }

    /// Takes a stack back. Only the ownership of its memory changes: the caller may continue to run
    /// on it until it takes another stack.
    #[inline(always)]
    pub(crate) fn put(&mut self, base: *mut u8, class: Class) {
        let list = &mut self.lists[class.index()];
        list.warm.push(base);
        self.excess |= list.warm.len() > WARM;
    }

    /// Returns whether [`trim_excess`](Self::trim_excess) has work.
    pub(crate) fn has_excess(&self) -> bool {
        self.excess
    }

    /// Returns the memory of all warm stacks beyond the limit. Do not call this on a fiber, because
    /// its stack may be one of them.
    pub(crate) fn trim_excess(&mut self) {
        self.excess = false;
        for (list, class) in self.lists.iter_mut().zip(Class::FIRST..) {
            let class = Class(class);
            while list.warm.len() > WARM {
                let base = list.warm.pop().expect("longer than the limit");
                discard(base, class.size());
                list.cold.push(base);
            }
        }
    }

    /// Returns the memory that deep calls left in warm stacks since the last trim. Do not call this
    /// on a fiber.
    pub(crate) fn trim_deep(&mut self) {
        for (list, class) in self.lists.iter_mut().zip(Class::FIRST..) {
            let class = Class(class);
            if class.size() > WARM_BYTES {
                for &base in &list.warm[list.trimmed..] {
                    discard(base, class.size() - WARM_BYTES);
                }
            }
            list.trimmed = list.warm.len();
        }
    }

    /// Moves all stacks to the spare list for the next runtime when the worker ends.
    pub(crate) fn flush(&mut self) {
        self.trim_deep();
        let mut spare = SPARE.lock();
        for (list, class) in self.lists.iter_mut().zip(Class::FIRST..) {
            let class = Class(class);
            spare[class.index()].extend(
                list.cold
                    .drain(..)
                    .chain(list.warm.drain(..))
                    .map(|base| base.addr()),
            );
            list.trimmed = 0;
            // Unmap the address space that never got guards.
            let (first, end) = core::mem::take(&mut list.raw);
            if first < end {
                // SAFETY: this part of our mapping was never used for a stack.
                unsafe { libc::munmap(first as *mut _, end - first) };
            }
        }
    }
}

impl Free {
    #[cold]
    fn take_cold(&mut self, class: Class) -> Option<*mut u8> {
        if let Some(base) = self.cold.pop() {
            return Some(base);
        }
        {
            let spare = &mut SPARE.lock()[class.index()];
            let from = spare.len().saturating_sub(BATCH);
            self.cold
                .extend(spare.drain(from..).map(|base| base as *mut u8));
        }
        if let Some(base) = self.cold.pop() {
            return Some(base);
        }
        if self.raw.0 == self.raw.1 {
            self.raw = reserve(class)?;
        }
        let base = (self.raw.0 + GAP) as *mut u8;
        guard(base).then(|| {
            self.raw.0 += class.stride();
            base
        })
    }
}

/// Free stacks that no worker owns, by class: the addresses of their guards.
static SPARE: SpinLock<[Vec<usize>; Class::COUNT]> =
    SpinLock::new([const { Vec::new() }; Class::COUNT]);

/// For fork: ensures that no other thread holds the lock in the child.
pub(crate) fn acquire_spare() {
    SPARE.acquire();
}

pub(crate) fn release_spare() {
    SPARE.release();
}

/// Reserves address space for stacks of `class`.
fn reserve(class: Class) -> Option<(usize, usize)> {
    let one = class.stride();
    // Reserve many stacks at once, or only one if address space is limited.
    [one * (SLAB / one).max(1), one]
        .into_iter()
        .find_map(|len| {
            // SAFETY: a new anonymous mapping affects no existing memory.
            let base = unsafe {
                libc::mmap(
                    null_mut(),
                    len,
                    libc::PROT_READ | libc::PROT_WRITE,
                    libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | libc::MAP_STACK,
                    -1,
                    0,
                )
            };
            if base == libc::MAP_FAILED {
                return None;
            }
            // With huge pages, the first frame of a stack would cost 2 MiB.
            // SAFETY: the advice concerns only our own new mapping.
            unsafe { libc::madvise(base, len, libc::MADV_NOHUGEPAGE) };
            Some((base.addr(), base.addr() + len))
        })
}

/// Returns the memory of the lowest `len` bytes of the free stack above the guard at `base`, and of
/// its gap.
fn discard(base: *mut u8, len: usize) {
    let from = base.wrapping_sub(GAP);
    // SAFETY: the range lies in a free stack and its gap. Their content is no longer needed, and
    // the guard stays in place.
    unsafe { libc::madvise(from.cast(), GAP + page() + len, libc::MADV_DONTNEED) };
}

const MADV_GUARD_INSTALL: i32 = 102;

/// Makes the page at `base` fault on any access. Returns false if memory for that runs out.
fn guard(base: *mut u8) -> bool {
    /// Whether this kernel supports guard markers: 0 unknown, 1 yes, 2 no.
    static MARKERS: AtomicU8 = AtomicU8::new(0);
    if MARKERS.load(Ordering::Relaxed) < 2 {
        // SAFETY: the page is the guard of a stack that is not in use.
        if unsafe { libc::madvise(base.cast(), page(), MADV_GUARD_INSTALL) } == 0 {
            MARKERS.store(1, Ordering::Relaxed);
            return true;
        }
        if MARKERS.load(Ordering::Relaxed) == 1 {
            return false;
        }
        MARKERS.store(2, Ordering::Relaxed);
    }
    // SAFETY: the page is the guard of a stack that is not in use.
    unsafe { libc::mprotect(base.cast(), page(), libc::PROT_NONE) == 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_round_up_to_a_power_of_two() {
        let size = |n| Class::of(n).map(Class::size);
        assert_eq!(size(Class::MIN_SIZE), Some(Class::MIN_SIZE));
        assert_eq!(size(100_000), Some(128 << 10));
        assert_eq!(size(256 << 10), Some(256 << 10));
        assert_eq!(size(Class::MAX_SIZE), Some(Class::MAX_SIZE));
        assert_eq!(size(Class::MIN_SIZE - 1), None);
        assert_eq!(size(Class::MAX_SIZE + 1), None);
    }

    #[test]
    fn the_last_stack_put_back_is_taken_first() {
        let class = Class::of(64 << 10).unwrap();
        let mut stacks = Stacks::new();
        let (a, b) = (stacks.take(class).unwrap(), stacks.take(class).unwrap());
        assert_ne!(a, b);
        for base in [a, b] {
            let top = top(base, class);
            assert_eq!(top.addr() % 16, 0);
            // SAFETY: the word below the top is inside the stack.
            unsafe { top.cast::<u64>().sub(1).write(1) };
            stacks.put(base, class);
        }
        assert_eq!(stacks.take(class), Some(b));
        stacks.put(b, class);
        stacks.flush();
    }

    #[test]
    fn excess_stacks_lose_their_memory_but_not_their_address() {
        let class = Class::of(16 << 10).unwrap();
        let mut stacks = Stacks::new();
        let all: Vec<_> = (0..WARM + 3).map(|_| stacks.take(class).unwrap()).collect();
        for &base in &all {
            // SAFETY: the word is inside the stack.
            unsafe { top(base, class).cast::<u64>().sub(1).write(7) };
            stacks.put(base, class);
        }
        assert!(stacks.has_excess());
        stacks.trim_excess();
        assert!(!stacks.has_excess());
        let list = &stacks.lists[class.index()];
        assert_eq!((list.warm.len(), list.cold.len()), (WARM, 3));
        // SAFETY: the word is inside a free stack that we own.
        let last = unsafe { top(list.cold[0], class).cast::<u64>().sub(1).read() };
        assert_eq!(last, 0);
        stacks.flush();
    }
}
