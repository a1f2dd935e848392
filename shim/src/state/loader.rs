//! Tells whether this OS thread holds a lock of the dynamic loader.
//!
//! A library's constructor runs inside dlopen(3), under a lock of the loader that the OS thread
//! owns. A callback of dl_iterate_phdr(3) and the resolver of an IFUNC also run under such a lock.
//! A libc function that the shim runs as a whole on a pool thread may load a library (name services
//! do). The pool thread would then wait for the lock held by the fiber's thread, while the fiber
//! waits for the pool thread. Therefore a fiber makes these calls itself while its OS thread holds
//! such a lock.
//!
//! The locks are recursive mutexes in `_rtld_global`, the data of ld.so, whose layout differs
//! between versions. While such a mutex is free, it is all zeroes except for its kind. Other data
//! there may look the same, but it never names this thread as an owner later.

use super::loaded;
use std::ffi::c_void;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicI32, AtomicPtr, AtomicU32, AtomicU64, Ordering};

/// The head of `pthread_mutex_t`.
#[repr(C, align(8))]
struct Mutex {
    lock: AtomicI32,
    count: AtomicU32,
    owner: AtomicI32,
    users: AtomicU32,
    kind: AtomicI32,
    spins: AtomicI32,
    list: [AtomicU32; 4],
}

impl Mutex {
    fn is_free_and_recursive(&self) -> bool {
        // The kind comes first because most other data fails here.
        self.kind.load(Ordering::Relaxed) == libc::PTHREAD_MUTEX_RECURSIVE
            && [&self.lock, &self.owner, &self.spins].map(|word| word.load(Ordering::Relaxed))
                == [0; 3]
            && [&self.count, &self.users]
                .into_iter()
                .chain(&self.list)
                .all(|word| word.load(Ordering::Relaxed) == 0)
    }
}

/// The address of `_rtld_global`.
static DATA: AtomicPtr<c_void> = AtomicPtr::new(null_mut());

/// The words of `_rtld_global` at which one of the loader's locks begins, or data that looks like
/// one: a bit each. The variable has about 600 words.
static LOCKS: [AtomicU64; 16] = [const { AtomicU64::new(0) }; _];

const WORD: usize = align_of::<Mutex>();

/// Finds the locks. Must run while none of them is held.
pub fn bind() {
    let Some((data, size)) = loaded::variable_of_loader(c"_rtld_global") else {
        return;
    };
    let end = size
        .min(64 * LOCKS.len() * WORD)
        .saturating_sub(size_of::<Mutex>() - 1);
    for offset in (0..end).step_by(WORD) {
        // SAFETY: within the variable's memory, which is never unmapped, is aligned, and is written
        // as words.
        let mutex = unsafe { &*data.byte_add(offset).cast::<Mutex>() };
        if mutex.is_free_and_recursive() {
            let (word, bit) = (offset / WORD / 64, offset / WORD % 64);
            LOCKS[word].fetch_or(1 << bit, Ordering::Relaxed);
        }
    }
    DATA.store(data, Ordering::Release);
}

fn locks() -> impl Iterator<Item = &'static Mutex> {
    let data = DATA.load(Ordering::Acquire);
    let words = LOCKS.iter().enumerate();
    words.flat_map(move |(word, bits)| {
        let bits = bits.load(Ordering::Relaxed);
        (0..64)
            .filter(move |bit| bits >> bit & 1 != 0)
            .map(move |bit| {
                // SAFETY: `bind` found a lock here, and has stored the address since.
                unsafe { &*data.byte_add((word * 64 + bit) * WORD).cast::<Mutex>() }
            })
    })
}

/// Whether the calling OS thread holds one of these locks.
pub fn is_locked_here() -> bool {
    let held = |lock: &Mutex| lock.count.load(Ordering::Relaxed) != 0;
    // Usually no thread holds any of them.
    locks().any(held) && {
        let me = sys::thread_id();
        locks().any(|lock| held(lock) && lock.owner.load(Ordering::Relaxed) == me)
    }
}
