//! Names that a moment ago were those of files: to open one again waits for no peer, and need not
//! be asked about.
//!
//! Opening a FIFO waits for its other end. To be sure that a name is no FIFO's takes two system
//! calls beside the open (`calls::open`), a sixth of what that costs. So a name that was found to
//! be a file's is trusted for the next opens, but not for long, and not when this process has made
//! a FIFO or given anything another name since ([`forget`]).
//!
//! Invariant: a path is read only where, and as far as, the kernel has just read one: elsewhere
//! that could fault, where the kernel says EFAULT.

use std::cell::RefCell;
use std::ffi::{c_char, c_int};
use std::sync::atomic::{AtomicU32, Ordering};

/// How long a name is trusted: less than it takes another process to be started that would put a
/// FIFO in its place.
const LIFE_NS: u64 = 1_000_000;
/// Opens for which it is: enough for what is asked in between to count for nothing.
const OPENS: u8 = 64;
/// Names that are remembered, each in the place that its address gives.
const PLACES: usize = 64;
/// The longest of them.
const LONGEST: usize = 120;

/// Counts what may have put something else under a name.
static CHANGES: AtomicU32 = AtomicU32::new(0);

/// Trusts no name from now on, on any thread: a FIFO is about to be made, or something to get
/// another name. As a row of the hook table has it, no descriptor is forgotten with it.
#[inline(always)]
pub fn forget() {
    CHANGES.fetch_add(1, Ordering::Relaxed);
}

/// The names that one thread's opens have found to be files'.
pub struct KnownFiles(RefCell<Vec<Name>>);

#[derive(Clone, Copy)]
struct Name {
    /// Where the program keeps it, and the kernel has read it.
    path: *const c_char,
    flags: c_int,
    changes: u32,
    until: u64,
    opens_left: u8,
    length: u8,
    text: [u8; LONGEST],
}

const NOBODY: Name = Name {
    path: std::ptr::null(),
    flags: 0,
    changes: 0,
    until: 0,
    opens_left: 0,
    length: 0,
    text: [0; LONGEST],
};

impl KnownFiles {
    pub const fn new() -> Self {
        Self(RefCell::new(Vec::new()))
    }

    /// Whether `path`, opened with these flags a moment ago, was a file's.
    ///
    /// # Safety
    /// What the kernel read at this address a moment ago can still be read.
    pub unsafe fn is_file(&self, path: *const c_char, flags: c_int, now: u64) -> bool {
        let mut names = self.0.borrow_mut();
        let Some(name) = names.get_mut(place(path)) else {
            return false;
        };
        if name.path != path
            || name.flags != flags
            || name.opens_left == 0
            || name.until < now
            || name.changes != CHANGES.load(Ordering::Relaxed)
        {
            return false;
        }
        name.opens_left -= 1;
        let n = usize::from(name.length);
        // SAFETY: so many bytes, the terminating one included, were there a moment ago, says the
        // caller.
        let text = unsafe { std::slice::from_raw_parts(path.cast::<u8>(), n + 1) };
        text[..n] == name.text[..n] && text[n] == 0
    }

    /// Remembers that `path`, opened with these flags just now, is a file's. Only a name that says
    /// all by itself is worth it: an absolute one.
    ///
    /// # Safety
    /// The path can be read.
    pub unsafe fn remember(&self, path: *const c_char, flags: c_int, changes: u32, now: u64) {
        // SAFETY: passed on to our caller.
        let n = unsafe { libc::strnlen(path, LONGEST + 1) };
        // SAFETY: so many bytes are there.
        let read = unsafe { std::slice::from_raw_parts(path.cast::<u8>(), n) };
        if n > LONGEST || read.first() != Some(&b'/') {
            return;
        }
        let mut names = self.0.borrow_mut();
        if names.is_empty() {
            names.resize(PLACES, NOBODY);
        }
        let name = &mut names[place(path)];
        name.text[..n].copy_from_slice(read);
        (name.path, name.flags, name.length) = (path, flags, n as u8);
        (name.changes, name.until, name.opens_left) = (changes, now + LIFE_NS, OPENS);
    }
}

/// What [`KnownFiles::remember`] is to be told: asked before the name is looked at.
#[inline(always)]
pub fn changes() -> u32 {
    CHANGES.load(Ordering::Relaxed)
}

/// Paths in buffers of fibers lie pages apart.
fn place(path: *const c_char) -> usize {
    let mixed = (path as usize as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> 58) as usize % PLACES
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Asks about a name that stays readable.
    fn is_file(names: &KnownFiles, path: &[u8], flags: c_int, now: u64) -> bool {
        // SAFETY: `path` is alive.
        unsafe { names.is_file(path.as_ptr().cast(), flags, now) }
    }

    fn remember(names: &KnownFiles, path: &[u8], flags: c_int, now: u64) {
        assert_eq!(path.last(), Some(&0));
        // SAFETY: `path` is alive, and ends.
        unsafe { names.remember(path.as_ptr().cast(), flags, changes(), now) };
    }

    #[test]
    fn a_name_is_trusted_for_a_moment_some_opens_and_until_one_changes() {
        let (names, mut path) = (KnownFiles::new(), *b"/some/file\0");
        assert!(!is_file(&names, &path, 0, 5));
        remember(&names, &path, 0, 5);
        assert!(is_file(&names, &path, 0, 5 + LIFE_NS));
        assert!(!is_file(&names, &path, 1, 5) && !is_file(&names, &path, 0, 6 + LIFE_NS));
        assert_eq!(
            (0..200).filter(|_| is_file(&names, &path, 0, 5)).count(),
            usize::from(OPENS) - 1
        );
        remember(&names, &path, 0, 5);
        forget();
        assert!(!is_file(&names, &path, 0, 5));
        remember(&names, &path, 0, 5);
        path[1] = b'h';
        assert!(
            !is_file(&names, &path, 0, 5),
            "another name at the same place"
        );
    }

    #[test]
    fn names_that_depend_on_a_directory_or_are_long_are_not_remembered() {
        let names = KnownFiles::new();
        for path in [
            b"file\0".to_vec(),
            b"\0".to_vec(),
            [vec![b'/'; LONGEST + 1], vec![0]].concat(),
        ] {
            remember(&names, &path, 0, 5);
            assert!(!is_file(&names, &path, 0, 5));
        }
        let longest = [vec![b'/'; LONGEST], vec![0]].concat();
        remember(&names, &longest, 0, 5);
        assert!(is_file(&names, &longest, 0, 5));
    }
}
