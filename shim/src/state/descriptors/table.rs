//! The table of all descriptors: the layout of its words, and the flags of what uses a descriptor.

use crate::state::attached;
use once_cell::race::OnceNonZeroUsize;
use policy::Hint;
use std::ffi::c_int;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use sys::errno::Errno;

/// Descriptors at or above this number are examined on every call.
pub const CAPACITY: usize = 1 << 20;

/// The table's address: one reservation of 8 MiB, of which only the pages in use take memory. Made
/// by the first attach.
static TABLE: OnceNonZeroUsize = OnceNonZeroUsize::new();

// The layout of a word: bits 0-15, 30 and 31 hold the hint's flags and its count of tries to skip.
// Bits 16-23 and 29 hold the other learned values, bits 24-28 and 32 the flags below, and
// the highest 31 bits a hash of the inode.
/// A terminal, a signalfd(2), or an AF_UNIX socket that preserves message boundaries.
pub(super) const SPECIAL_KIND: u64 = 1 << 24;
/// A descriptor of the shim itself. The program never received it, so it must not close it.
pub(super) const SHIM_OWNED: u64 = 1 << 25;
/// Jobs of the offload pool refer to the descriptor by its number.
pub(super) const POOL_IN_USE: u64 = 1 << 26;
/// Operations hold the descriptor ([`holds`](crate::state::holds)).
pub(super) const HELD: u64 = 1 << 32;
/// Not examined since it was opened: only the flags are known, and possibly that it has a position.
pub(super) const OPENED: u64 = 1 << 27;
pub(super) const POSITION: u64 = 1 << 28;
/// Counts the uses of that knowledge: 2 bits, of those that later hold learned values.
pub(super) const USES: u64 = 1 << MISSES;
pub(super) const ALL_USES: u64 = 3 * USES;
/// One of these bits is set once the descriptor was examined.
pub(super) const CLASS: u64 = Hint::SEEKABLE.with(Hint::STREAM).bits() as u64;
/// The learned values are about writes.
pub(super) const OF_WRITES: u64 = 1 << 29;
/// 3 bits.
pub(super) const MISSES: u32 = 16;
/// 5 bits.
pub(super) const MISS_SHARE: u32 = 19;
pub(super) const LEARNED: u64 = 0xff00 | 0xff << MISSES | OF_WRITES;
pub(super) const INODE: u32 = 33;

/// Makes the table. Idempotent. If it fails, every call examines its descriptor, which is slower
/// but correct.
pub fn init() {
    let _ = TABLE.get_or_try_init(|| {
        let base = sys::reserve_zeroes(CAPACITY * size_of::<AtomicU64>())?;
        NonZeroUsize::new(base).ok_or(Errno::NOMEM)
    });
}

#[inline(always)]
pub(super) fn slot(fd: c_int) -> Option<&'static AtomicU64> {
    let base = TABLE.get()?;
    if fd as u32 as usize >= CAPACITY {
        return None;
    }
    // Threads that open files at the same time use consecutive numbers: in different cache lines.
    let at = fd as usize ^ (fd as usize & 7) << 3;
    // SAFETY: `base` is a mapping of CAPACITY zeroed words that stays, and `at` is below CAPACITY.
    Some(unsafe { &*(base.get() as *const AtomicU64).add(at) })
}

/// Forgets `fd`, which is being closed or replaced, or whose flags change. If it belongs to the
/// shim, or if operations, jobs or another thread may use it, this changes nothing and returns the
/// descriptor, which the caller passes to `runtime::release`.
#[inline(always)]
pub fn forget(fd: c_int) -> Option<c_int> {
    let slot = slot(fd)?;
    if slot.load(Ordering::Relaxed) & (SHIM_OWNED | POOL_IN_USE | HELD) != 0
        || attached::others_are_attached()
    {
        return Some(fd);
    }
    slot.store(0, Ordering::Relaxed);
    None
}

/// What uses a descriptor that is about to be closed or replaced.
pub struct Users {
    /// The shim owns it.
    pub is_shim_owned: bool,
    /// Operations hold it ([`holds`](crate::state::holds)).
    pub is_held: bool,
    /// Jobs of the offload pool refer to it by its number.
    pub is_pool_in_use: bool,
}

/// The users of `fd`; None if nothing is remembered of it.
pub fn users(fd: c_int) -> Option<Users> {
    let word = slot(fd)?.load(Ordering::Relaxed);
    Some(Users {
        is_shim_owned: word & SHIM_OWNED != 0,
        is_held: word & HELD != 0,
        is_pool_in_use: word & POOL_IN_USE != 0,
    })
}

/// Forgets `fd`, whose users have been taken care of.
pub fn clear(fd: c_int) {
    if let Some(slot) = slot(fd) {
        slot.store(0, Ordering::Relaxed);
    }
}

/// Sets or clears the flag that operations hold the descriptor.
pub fn set_held(fd: c_int, held: bool) {
    set_flag(fd, HELD, held);
}

/// Sets or clears the flag that jobs of the offload pool refer to the descriptor.
pub fn set_pool_in_use(fd: c_int, in_use: bool) {
    set_flag(fd, POOL_IN_USE, in_use);
}

fn set_flag(fd: c_int, flag: u64, on: bool) {
    let Some(slot) = slot(fd) else { return };
    if on {
        slot.fetch_or(flag, Ordering::Relaxed);
        note_remembered(fd);
    } else {
        slot.fetch_and(!flag, Ordering::Relaxed);
    }
}

/// See [`end_of_remembered`].
static END_OF_REMEMBERED: AtomicU32 = AtomicU32::new(0);

/// Notes that `fd` is remembered. Rarely writes, because every open on every thread comes here.
#[inline(always)]
pub(super) fn note_remembered(fd: c_int) {
    if END_OF_REMEMBERED.load(Ordering::Relaxed) <= fd as u32 {
        END_OF_REMEMBERED.fetch_max(fd as u32 + 1, Ordering::Relaxed);
    }
}

/// One past the highest descriptor ever remembered.
pub fn end_of_remembered() -> u32 {
    END_OF_REMEMBERED.load(Ordering::Relaxed)
}
