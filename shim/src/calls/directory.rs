//! opendir(3), readdir(3), scandir(3): reading directories.

use crate::calls::via::adaptive;
use crate::calls::{CResult, Verdict};
use crate::runtime::call::Call;
use crate::runtime::release;
use crate::state::descriptors;
use policy::{CallKind, Reason};
use std::ffi::{c_char, c_int, c_void};
use sys::errno;

/// The program's functions that scandir(3) calls: one chooses entries, the other compares two.
pub type Filter = Option<unsafe extern "C" fn(*const c_void) -> c_int>;
pub type Compare = Option<unsafe extern "C" fn(*const c_void, *const c_void) -> c_int>;

/// An entry, `struct dirent`.
type Entry = *mut c_void;

pub fn opendir(
    call: &Call<'_>,
    real: unsafe extern "C" fn(*const c_char) -> *mut libc::DIR,
    path: *const c_char,
) -> Verdict<*mut libc::DIR> {
    // SAFETY: libc's own function, with its caller's arguments, while that call lasts.
    let verdict = adaptive::call_libc(call, CallKind::Directory, libc::AT_FDCWD, || unsafe {
        real(path)
    });
    if let Verdict::Done(directory) = verdict
        && !directory.is_null()
    {
        // SAFETY: the directory was just opened.
        descriptors::forget(unsafe { libc::dirfd(directory) }).map(release::release);
    }
    verdict
}

pub fn readdir(
    call: &Call<'_>,
    real: unsafe extern "C" fn(*mut libc::DIR) -> Entry,
    directory: *mut libc::DIR,
) -> Verdict<Entry> {
    // SAFETY: libc's own function, with its caller's arguments, while that call lasts.
    entry(call, directory, || unsafe { real(directory) })
}

pub fn readdir_r(
    call: &Call<'_>,
    real: unsafe extern "C" fn(*mut libc::DIR, Entry, *mut Entry) -> c_int,
    directory: *mut libc::DIR,
    into: Entry,
    result: *mut Entry,
) -> Verdict<c_int> {
    // SAFETY: libc's own function, with its caller's arguments, while that call lasts.
    entry(call, directory, || unsafe { real(directory, into, result) })
}

/// Returns the next entry. Most entries are already in memory, so no read is needed.
fn entry<R: CResult>(
    call: &Call<'_>,
    directory: *mut libc::DIR,
    function: impl Fn() -> R,
) -> Verdict<R> {
    match Stream::of(directory) {
        Some(stream) if !stream.has_more() => {
            adaptive::call_libc(call, CallKind::Directory, stream.fd, function)
        }
        Some(_) => Verdict::PassThrough(Reason::Quick),
        None => adaptive::call_libc(call, CallKind::Directory, libc::AT_FDCWD, function),
    }
}

/// The head of glibc's DIR, which is private but unchanged since 2.1. Its content is only used as a
/// hint: if it were wrong, a call would block that was expected not to.
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
    /// None if the fields are not plausible.
    fn of(directory: *mut libc::DIR) -> Option<Self> {
        // SAFETY: null, or an open directory, says the C caller; that is larger than its head.
        let stream = unsafe { directory.cast::<Self>().as_ref() }?;
        let plausible =
            stream.fd >= 0 && stream.size <= stream.allocation && stream.allocation <= 1 << 24;
        plausible.then_some(*stream)
    }

    /// Whether there are entries that were read and not returned yet.
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
) -> Verdict<c_int> {
    // SAFETY: libc's own function, with its caller's arguments, while that call lasts.
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
) -> Verdict<c_int> {
    // SAFETY: libc's own function, with its caller's arguments, while that call lasts.
    scan(call, dir, list, filter, compare, |list| unsafe {
        real(dir, path, list, None, None)
    })
}

/// libc's function reads all entries, possibly on a pool thread. Filtering and sorting happen here,
/// on the fiber, because they call the program's functions.
fn scan(
    call: &Call<'_>,
    dir: c_int,
    list: *mut *mut Entry,
    filter: Filter,
    compare: Compare,
    all: impl Fn(*mut *mut Entry) -> c_int,
) -> Verdict<c_int> {
    let errno = errno::get();
    let mut entries: *mut Entry = std::ptr::null_mut();
    let at = &raw mut entries;
    let verdict = adaptive::call_libc(call, CallKind::Directory, dir, || all(at));
    let Verdict::Done(count @ 0..) = verdict else {
        return verdict;
    };
    // SAFETY: scandir has stored `count` entries there; it allocated them and the array with
    // malloc.
    let count = unsafe { choose(entries, count as usize, filter) };
    if count == 0 {
        // SAFETY: the array is scandir's, allocated with malloc; no entries are left in it.
        unsafe { libc::free(entries.cast()) };
        entries = std::ptr::null_mut();
    } else if compare.is_some() {
        // SAFETY: the array holds `count` pointers, and the C caller supplies the order.
        unsafe { libc::qsort(entries.cast(), count, size_of::<Entry>(), compare) };
    }
    // SAFETY: the C caller passes a writable pointer.
    unsafe { list.write(entries) };
    errno::set(errno);
    Verdict::Done(count as c_int)
}

/// Moves the entries that `filter` accepts to the front, and frees the others. Returns how many are
/// left.
///
/// # Safety
/// There are `count` entries, each allocated with malloc.
unsafe fn choose(entries: *mut Entry, count: usize, filter: Filter) -> usize {
    let Some(filter) = filter else { return count };
    let mut chosen = 0;
    for i in 0..count {
        // SAFETY: both indices are below `count`; the C caller supplies the filter. As in libc,
        // errno is 0 when the filter is called.
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
