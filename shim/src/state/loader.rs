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

use once_cell::race::OnceBox;
use std::ffi::{c_int, c_uint, c_void};
use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicI32, AtomicU32, Ordering};

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
        let zero = [&self.lock, &self.owner, &self.spins].map(|word| word.load(Ordering::Relaxed))
            == [0; 3]
            && [&self.count, &self.users]
                .into_iter()
                .chain(&self.list)
                .all(|word| word.load(Ordering::Relaxed) == 0);
        zero && self.kind.load(Ordering::Relaxed) == libc::PTHREAD_MUTEX_RECURSIVE
    }
}

/// The loader's locks, and data that looks like one.
static LOCKS: OnceBox<Vec<&'static Mutex>> = OnceBox::new();

unsafe extern "C" {
    fn dladdr1(
        address: *const c_void,
        info: *mut libc::Dl_info,
        symbol: *mut *const Symbol,
        flags: c_int,
    ) -> c_int;
}

/// `Elf64_Sym`.
#[repr(C)]
struct Symbol {
    name: c_uint,
    info: [u8; 4],
    value: u64,
    size: u64,
}

/// A flag of [`dladdr1`]: return the symbol.
const RTLD_DL_SYMENT: c_int = 1;

/// Finds the locks. Must run while none of them is held.
pub fn bind() {
    LOCKS.get_or_init(|| Box::new(find()));
}

fn find() -> Vec<&'static Mutex> {
    // SAFETY: a look-up by name.
    let data = unsafe { libc::dlsym(libc::RTLD_DEFAULT, c"_rtld_global".as_ptr()) };
    let mut info = MaybeUninit::<libc::Dl_info>::uninit();
    let mut symbol: *const Symbol = std::ptr::null();
    // SAFETY: `dladdr1` takes an address and writes its answer to the two live variables.
    let mut is_known =
        || unsafe { dladdr1(data, info.as_mut_ptr(), &mut symbol, RTLD_DL_SYMENT) } != 0;
    if data.is_null() || !is_known() {
        return Vec::new();
    }
    // SAFETY: null, or the symbol's entry in ld.so's table, which is never unmapped.
    let size = unsafe { symbol.as_ref() }.map_or(0, |symbol| symbol.size as usize);
    let last = size.saturating_sub(size_of::<Mutex>());
    (0..=last)
        .step_by(align_of::<Mutex>())
        .filter(|_| size >= size_of::<Mutex>())
        // SAFETY: within the symbol's data, which is never unmapped, is aligned, and is written as
        // words.
        .map(|offset| unsafe { &*data.byte_add(offset).cast::<Mutex>() })
        .filter(|mutex| mutex.is_free_and_recursive())
        .collect()
}

/// Whether the calling OS thread holds one of these locks.
pub fn is_locked_here() -> bool {
    let Some(locks) = LOCKS.get() else {
        return false;
    };
    let held = |lock: &Mutex| lock.count.load(Ordering::Relaxed) != 0;
    // Usually no thread holds any of them.
    locks.iter().any(|lock| held(lock)) && {
        let me = sys::thread_id();
        locks
            .iter()
            .any(|lock| held(lock) && lock.owner.load(Ordering::Relaxed) == me)
    }
}
