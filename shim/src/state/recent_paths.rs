//! A cache of paths that were recently found to be regular files. Opening such a path again does
//! not block, so the checks before an open can be skipped.
//!
//! Opening a FIFO blocks until its other end is opened. Making sure that a path is no FIFO takes
//! two system calls in addition to the open (`calls::open`), a sixth of its cost. Therefore a path
//! that was found to be a file is trusted for the next opens, but only for a short time, and only
//! until this process makes a FIFO or renames or links anything ([`forget`]).
//!
//! Invariant: a path is read only at an address, and up to a length, that the kernel has just read.
//! Reading it elsewhere could fault where the kernel returns EFAULT.

use std::cell::RefCell;
use std::ffi::{c_char, c_int};
use std::sync::atomic::{AtomicU32, Ordering};
use sys::stopwatch::Stopwatch;

/// How long a path is trusted: less than the time it takes to start another process that could
/// replace it by a FIFO.
const MAX_AGE_NS: u64 = 1_000_000;
/// For how many opens a path is trusted: enough to make the cost of the checks negligible.
const MAX_OPENS: u8 = 64;
/// The number of cached paths. The path's address selects the slot.
const SLOTS: usize = 64;
/// The maximum length of a cached path.
const MAX_LENGTH: usize = 120;

/// Counts the calls that may have put something else at a path.
static CHANGES: AtomicU32 = AtomicU32::new(0);

/// Invalidates the cache on all threads, because a FIFO is about to be made or a path is about to
/// change. The hooks call this for the rows of the call table that are marked `renames`.
#[inline(always)]
pub fn forget() {
    CHANGES.fetch_add(1, Ordering::Relaxed);
}

/// One thread's cached paths.
pub struct RecentPathCache(RefCell<Vec<CachedPath>>);

#[derive(Clone, Copy)]
struct CachedPath {
    /// The program's address of the path, which the kernel has read.
    path: *const c_char,
    flags: c_int,
    changes: u32,
    since: Stopwatch,
    opens_left: u8,
    length: u8,
    text: [u8; MAX_LENGTH],
}

const EMPTY: CachedPath = CachedPath {
    path: std::ptr::null(),
    flags: 0,
    changes: 0,
    since: Stopwatch::LONG_AGO,
    opens_left: 0,
    length: 0,
    text: [0; MAX_LENGTH],
};

impl RecentPathCache {
    pub const fn new() -> Self {
        Self(RefCell::new(Vec::new()))
    }

    /// Whether `path` was recently opened with these flags and was a file. `now` is a stopwatch
    /// that was just started.
    ///
    /// # Safety
    /// The bytes that the kernel recently read at this address are still readable.
    pub unsafe fn is_file(&self, path: *const c_char, flags: c_int, now: Stopwatch) -> bool {
        let mut paths = self.0.borrow_mut();
        let Some(cached) = paths.get_mut(slot(path)) else {
            return false;
        };
        if cached.path != path
            || cached.flags != flags
            || cached.opens_left == 0
            || cached.changes != CHANGES.load(Ordering::Relaxed)
            || cached.since.had_exceeded(&now, MAX_AGE_NS)
        {
            return false;
        }
        cached.opens_left -= 1;
        let n = usize::from(cached.length);
        // SAFETY: the caller promises that these bytes, including the terminating one, are still
        // readable.
        let text = unsafe { std::slice::from_raw_parts(path.cast::<u8>(), n + 1) };
        text[..n] == cached.text[..n] && text[n] == 0
    }

    /// Remembers that `path`, which was just opened with these flags, is a file. Caches only
    /// absolute paths, because a relative path depends on the current directory. `now` is a
    /// stopwatch that was just started.
    ///
    /// # Safety
    /// The path can be read.
    pub unsafe fn remember(&self, path: *const c_char, flags: c_int, changes: u32, now: Stopwatch) {
        // SAFETY: our caller makes the same promise.
        let n = unsafe { libc::strnlen(path, MAX_LENGTH + 1) };
        // SAFETY: strnlen has just found this many bytes.
        let read = unsafe { std::slice::from_raw_parts(path.cast::<u8>(), n) };
        if n > MAX_LENGTH || read.first() != Some(&b'/') {
            return;
        }
        let mut paths = self.0.borrow_mut();
        if paths.is_empty() {
            paths.resize(SLOTS, EMPTY);
        }
        let cached = &mut paths[slot(path)];
        cached.text[..n].copy_from_slice(read);
        (cached.path, cached.flags, cached.length) = (path, flags, n as u8);
        (cached.changes, cached.since, cached.opens_left) = (changes, now, MAX_OPENS);
    }
}

/// The value to pass to [`RecentPathCache::remember`]; read it before the path is examined.
#[inline(always)]
pub fn changes() -> u32 {
    CHANGES.load(Ordering::Relaxed)
}

/// Multiplicative hashing, because paths in buffers on fibers' stacks lie pages apart.
fn slot(path: *const c_char) -> usize {
    let mixed = (path as usize as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> 58) as usize % SLOTS
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Looks up a path that stays readable.
    fn is_file(paths: &RecentPathCache, path: &[u8], flags: c_int, now: Stopwatch) -> bool {
        // SAFETY: `path` is alive.
        unsafe { paths.is_file(path.as_ptr().cast(), flags, now) }
    }

    fn remember(paths: &RecentPathCache, path: &[u8], flags: c_int, now: Stopwatch) {
        assert_eq!(path.last(), Some(&0));
        // SAFETY: `path` is alive and NUL-terminated.
        unsafe { paths.remember(path.as_ptr().cast(), flags, changes(), now) };
    }

    #[test]
    fn a_name_is_trusted_for_a_moment_some_opens_and_until_one_changes() {
        // One test, because the change of a name affects all caches.
        sys::stopwatch::calibrate();
        let now = Stopwatch::start();
        let (paths, mut path) = (RecentPathCache::new(), *b"/some/file\0");
        let longest = [vec![b'/'; MAX_LENGTH], vec![0]].concat();
        remember(&paths, &longest, 0, now);
        assert!(is_file(&paths, &longest, 0, now));
        assert!(!is_file(&paths, &path, 0, now));
        remember(&paths, &path, 0, Stopwatch::LONG_AGO);
        assert!(!is_file(&paths, &path, 0, now));
        remember(&paths, &path, 0, now);
        assert!(!is_file(&paths, &path, 1, now));
        assert_eq!(
            (0..200).filter(|_| is_file(&paths, &path, 0, now)).count(),
            usize::from(MAX_OPENS)
        );
        remember(&paths, &path, 0, now);
        forget();
        assert!(!is_file(&paths, &path, 0, now));
        remember(&paths, &path, 0, now);
        path[1] = b'h';
        assert!(
            !is_file(&paths, &path, 0, now),
            "another path at the same address"
        );
    }

    #[test]
    fn names_that_depend_on_a_directory_or_are_long_are_not_remembered() {
        let (paths, now) = (RecentPathCache::new(), Stopwatch::start());
        for path in [
            b"file\0".to_vec(),
            b"\0".to_vec(),
            [vec![b'/'; MAX_LENGTH + 1], vec![0]].concat(),
        ] {
            remember(&paths, &path, 0, now);
            assert!(!is_file(&paths, &path, 0, now));
        }
    }
}
