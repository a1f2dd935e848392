//! The descriptors of the shim itself, which the program must not close.

use super::table::{CAPACITY, SHIM_OWNED, note_remembered, slot};
use std::ffi::c_int;
use std::sync::atomic::{AtomicU64, Ordering};
use sys::errno::Errno;

/// Whether the descriptor belongs to the shim.
pub fn is_shim_owned(fd: c_int) -> bool {
    slot(fd).is_some_and(|slot| slot.load(Ordering::Relaxed) & SHIM_OWNED != 0)
}

/// One bit per page of the table that ever contained a descriptor of the shim. The child of a fork
/// scans only these pages.
static PAGES_WITH_SHIM_OWNED: [AtomicU64; CAPACITY / WORDS_IN_PAGE / 64] =
    [const { AtomicU64::new(0) }; _];
const WORDS_IN_PAGE: usize = 512;

/// In the child of a fork: forgets all descriptors of the shim, because they belong to the parent,
/// and calls `each` for each one.
pub fn take_shim_owned(mut each: impl FnMut(c_int)) {
    for (n, bits) in PAGES_WITH_SHIM_OWNED.iter().enumerate() {
        let mut bits = bits.swap(0, Ordering::Relaxed);
        while bits != 0 {
            let page = n * 64 + bits.trailing_zeros() as usize;
            bits &= bits - 1;
            for fd in page * WORDS_IN_PAGE..(page + 1) * WORDS_IN_PAGE {
                let fd = fd as c_int;
                if is_shim_owned(fd) {
                    mark_shim_owned(fd, false);
                    each(fd);
                }
            }
        }
    }
}

/// Marks a descriptor as the shim's, or clears that mark.
pub fn mark_shim_owned(fd: c_int, owned: bool) {
    if let Some(slot) = slot(fd) {
        if owned {
            let page = fd as usize / WORDS_IN_PAGE;
            PAGES_WITH_SHIM_OWNED[page / 64].fetch_or(1 << (page % 64), Ordering::Relaxed);
        }
        slot.store(if owned { SHIM_OWNED } else { 0 }, Ordering::Relaxed);
        note_remembered(fd);
    }
}

/// Makes `fd`, which was just opened, a descriptor of the shim, moves it to a high number that the
/// program does not use, and returns that number. If no such number is free, closes `fd` and
/// returns EMFILE.
pub fn adopt(fd: c_int) -> Result<c_int, Errno> {
    mark_shim_owned(fd, true);
    let high = sys::duplicate_out_of_the_way(fd);
    if let Some(high) = high {
        mark_shim_owned(high, true);
    }
    if high.is_none_or(|high| still_is(fd, high)) {
        disown(fd);
        let _ = sys::close(fd);
    }
    high.ok_or(Errno::MFILE)
}

/// Clears the mark of a descriptor of the shim, before it is closed.
pub fn disown(fd: c_int) {
    mark_shim_owned(fd, false);
}

/// Whether `fd` still refers to the file of `owned`. It does not if another thread closed it by its
/// number before it was marked; the number may then belong to the program.
fn still_is(fd: c_int, owned: c_int) -> bool {
    sys::same_open_file(fd, owned).unwrap_or(true)
}
