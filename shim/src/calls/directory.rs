//! opendir(3), readdir(3), scandir(3): directories by entries.

use super::paced;
use crate::call::Call;
use crate::errno;
use crate::fds;
use crate::policy::{Kind, Why};
use std::ffi::{c_char, c_int, c_void};

/// scandir(3)'s choice, and its order.
pub type Filter = Option<unsafe extern "C" fn(*const c_void) -> c_int>;
pub type Compare = Option<unsafe extern "C" fn(*const c_void, *const c_void) -> c_int>;

/// An entry, `struct dirent`.
type Entry = *mut c_void;

pub fn opendir(
    call: &Call<'_>,
    real: unsafe extern "C" fn(*const c_char) -> *mut libc::DIR,
    path: *const c_char,
) -> Option<*mut libc::DIR> {
    // SAFETY: libc's own, with its caller's arguments, while that call lasts; so below.
    let directory = paced::whole(call, Kind::Directory, libc::AT_FDCWD, || unsafe {
        real(path)
    })?;
    if !directory.is_null() {
        // SAFETY: just opened.
        fds::forget(unsafe { libc::dirfd(directory) }).map(fds::release);
    }
    Some(directory)
}

pub fn readdir(
    call: &Call<'_>,
    real: unsafe extern "C" fn(*mut libc::DIR) -> Entry,
    directory: *mut libc::DIR,
) -> Option<Entry> {
    // SAFETY: as in `opendir`.
    entry(call, directory, || unsafe { real(directory) })
}

pub fn readdir_r(
    call: &Call<'_>,
    real: unsafe extern "C" fn(*mut libc::DIR, Entry, *mut Entry) -> c_int,
    directory: *mut libc::DIR,
    into: Entry,
    result: *mut Entry,
) -> Option<c_int> {
    // SAFETY: as in `opendir`.
    entry(call, directory, || unsafe { real(directory, into, result) })
}

/// The next entry: most are in memory already.
fn entry<R: super::CResult>(
    call: &Call<'_>,
    directory: *mut libc::DIR,
    function: impl Fn() -> R,
) -> Option<R> {
    match Stream::of(directory) {
        Some(stream) if !stream.has_more() => {
            paced::whole(call, Kind::Directory, stream.fd, function)
        }
        Some(_) => {
            call.through(Why::Quick);
            None
        }
        None => paced::whole(call, Kind::Directory, libc::AT_FDCWD, function),
    }
}

/// The head of glibc's DIR: private, the same since 2.1. What it says is a hint: if it lied, a call
/// would wait that was taken for one that does not.
#[repr(C)]
#[derive(Clone, Copy)]
struct Stream {
    fd: c_int,
    lock: c_int,
    allocation: usize,
    size: usize,
    offset: usize,
}

impl Stream {
    /// None if it does not look like one.
    fn of(directory: *mut libc::DIR) -> Option<Self> {
        // SAFETY: an open directory, says the C caller, which is larger than its head; null is
        // libc's to follow.
        let stream = unsafe { directory.cast::<Self>().as_ref() }?;
        let plausible =
            stream.fd >= 0 && stream.size <= stream.allocation && stream.allocation <= 1 << 24;
        plausible.then_some(*stream)
    }

    /// Entries that were read and not given out yet.
    fn has_more(self) -> bool {
        self.offset < self.size
    }
}

pub fn scandir(
    call: &Call<'_>,
    real: unsafe extern "C" fn(*const c_char, *mut *mut Entry, Filter, Compare) -> c_int,
    path: *const c_char,
    list: *mut *mut Entry,
    filter: Filter,
    compare: Compare,
) -> Option<c_int> {
    // SAFETY: as in `opendir`.
    scan(call, libc::AT_FDCWD, list, filter, compare, |list| unsafe {
        real(path, list, None, None)
    })
}

pub fn scandirat(
    call: &Call<'_>,
    real: unsafe extern "C" fn(c_int, *const c_char, *mut *mut Entry, Filter, Compare) -> c_int,
    dir: c_int,
    path: *const c_char,
    list: *mut *mut Entry,
    filter: Filter,
    compare: Compare,
) -> Option<c_int> {
    // SAFETY: as in `opendir`.
    scan(call, dir, list, filter, compare, |list| unsafe {
        real(dir, path, list, None, None)
    })
}

/// All entries by libc's function, wherever that runs; chosen and put in order here, on the fiber
/// whose functions those are.
fn scan(
    call: &Call<'_>,
    dir: c_int,
    list: *mut *mut Entry,
    filter: Filter,
    compare: Compare,
    all: impl Fn(*mut *mut Entry) -> c_int,
) -> Option<c_int> {
    let errno = errno::get();
    let mut entries: *mut Entry = std::ptr::null_mut();
    let at = &raw mut entries;
    let count = paced::whole(call, Kind::Directory, dir, || all(at))?;
    if count < 0 {
        return Some(count);
    }
    // SAFETY: scandir has put so many entries there, allocated by malloc as the array is.
    let count = unsafe { choose(entries, count as usize, filter) };
    if count == 0 {
        // SAFETY: the array is scandir's, allocated by malloc; nothing is left in it.
        unsafe { libc::free(entries.cast()) };
        entries = std::ptr::null_mut();
    } else if compare.is_some() {
        // SAFETY: so many pointers are there, and the order is the C caller's.
        unsafe { libc::qsort(entries.cast(), count, size_of::<Entry>(), compare) };
    }
    // SAFETY: the C caller's to be written to.
    unsafe { list.write(entries) };
    errno::set(errno);
    Some(count as c_int)
}

/// Moves the entries that `filter` wants to the front, and frees the others; returns how many are
/// left.
///
/// # Safety
/// `entries` are `count`, each allocated by malloc.
unsafe fn choose(entries: *mut Entry, count: usize, filter: Filter) -> usize {
    let Some(filter) = filter else { return count };
    let mut chosen = 0;
    for i in 0..count {
        // SAFETY: below `count`, and so is `chosen`; the filter is the C caller's. As libc has it,
        // errno is 0 for it.
        unsafe {
            let entry = *entries.add(i);
            errno::set(0);
            if filter(entry) != 0 {
                *entries.add(chosen) = entry;
                chosen += 1;
            } else {
                libc::free(entry);
            }
        }
    }
    chosen
}
