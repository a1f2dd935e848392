//! Other preloaded libraries behind the shim: which rows they interpose, and how to call those
//! rows.
//!
//! The function that a row finds behind the shim is usually libc's. A library such as torsocks,
//! libfaketime or libeatmydata interposes some of the same names, and must keep its effect whether
//! it comes before the shim or behind it. Therefore the shim does not submit the operation of such
//! a row itself; it calls the next function as a whole.
//!
//! Start-up collects the addresses of libc, because a child of fork must not ask the loader: a
//! thread of the parent may have been inside it. The check runs once, when a thread is attached. If
//! another library may interpose a row, all rows are bound, and each keeps the result in one byte.
//! If any row is interposed, all calls on an attached thread take the path of watched calls, so
//! there is no cost when no such library is loaded.

use crate::state::interposed;
use crate::state::loaded::{Object, hash};
use calltable::Next;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::ops::Range;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};

/// The [`Next`] of one row.
pub struct Mark(AtomicU8);

impl Mark {
    pub const fn new() -> Self {
        Self(AtomicU8::new(Next::Converted as u8))
    }

    pub fn set(&self, next: Next) {
        self.0.store(next as u8, Relaxed);
        if next != Next::Converted {
            interposed::note();
        }
    }

    pub fn get(&self) -> Next {
        match self.0.load(Relaxed) {
            n if n == Next::Offloaded as u8 => Next::Offloaded,
            n if n == Next::Through as u8 => Next::Through,
            _ => Next::Converted,
        }
    }
}

/// How to call a name whose next function is at `function`: as `if_interposed` says, if that
/// function belongs to another preloaded library.
pub fn of(function: *mut (), if_interposed: Next) -> Next {
    if is_interposed(function as usize) {
        if_interposed
    } else {
        Next::Converted
    }
}

/// Libraries whose functions the rows replace.
const LIBC: [&str; 9] = [
    "libc.",
    "libpthread.",
    "librt.",
    "libresolv.",
    "libdl.",
    "libanl.",
    "libutil.",
    "libnsl.",
    "ld-linux",
];

/// Runtimes of sanitizers: their functions only check the arguments and then call libc.
const SANITIZERS: [&str; 6] = [
    "libasan.",
    "libtsan.",
    "liblsan.",
    "libmsan.",
    "libubsan.",
    "libclang_rt.",
];

/// The addresses of the shim and of the libraries above: one range for each of them.
#[derive(Default)]
struct Ordinary {
    ranges: [Range<usize>; MOST],
    count: usize,
}

/// There is one of each library, and the shim. A further one would count as interposed, which is
/// slower but right.
const MOST: usize = LIBC.len() + SANITIZERS.len() + 1;

fn ordinary() -> &'static Ordinary {
    static ORDINARY: OnceLock<Ordinary> = OnceLock::new();
    ORDINARY.get_or_init(|| {
        let mut ordinary = Ordinary::default();
        // SAFETY: `add_ordinary` expects exactly this value, and runs only during this call.
        unsafe { libc::dl_iterate_phdr(Some(add_ordinary), (&raw mut ordinary).cast()) };
        ordinary
    })
}

/// Collects the addresses of the libraries. Start-up calls this.
pub fn collect() {
    ordinary();
}

/// Whether the function at `address` belongs to a library that changes the behaviour of libc.
fn is_interposed(address: usize) -> bool {
    let ordinary = &ordinary().ranges[..ordinary().count];
    // If libc itself was not found, nothing can be concluded.
    !ordinary.is_empty() && !ordinary.iter().any(|range| range.contains(&address))
}

/// Whether one of `objects` defines the name of a row although it is none of the libraries above.
/// Rows that are called in the same way even then do not count.
pub fn may_interpose(objects: &[Option<Object>]) -> bool {
    let others = || {
        let readable = objects.iter().flatten();
        readable.filter(|object| is_interposed(object.base))
    };
    let defines = |name: &CStr| {
        let hash = hash(name);
        others().any(|object| object.find(name, hash, None, false).is_some())
    };
    (0..calltable::COUNT)
        .any(|row| calltable::next(row) != Next::Converted && defines(calltable::c_name(row)))
}

/// Adds the addresses of one loaded object if it is the shim or one of the libraries above.
///
/// # Safety
/// `info` comes from dl_iterate_phdr, and `ordinary` is an `Ordinary` with no other user during the
/// call.
unsafe extern "C" fn add_ordinary(
    info: *mut libc::dl_phdr_info,
    _size: usize,
    ordinary: *mut c_void,
) -> c_int {
    // SAFETY: the caller guarantees both pointers; the name ends in a NUL, and `dlpi_phnum` counts
    // the headers.
    let (info, ordinary, headers) = unsafe {
        let info = &*info;
        let headers = std::slice::from_raw_parts(info.dlpi_phdr, usize::from(info.dlpi_phnum));
        (info, &mut *ordinary.cast::<Ordinary>(), headers)
    };
    let begin = info.dlpi_addr as usize;
    let segments = headers
        .iter()
        .filter(|header| header.p_type == libc::PT_LOAD);
    let segments = segments.map(|header| {
        let at = begin + header.p_vaddr as usize;
        at..at + header.p_memsz as usize
    });
    let own = add_ordinary as *const () as usize;
    // A library occupies the addresses between its segments as well.
    let all = segments
        .reduce(|all, segment| all.start.min(segment.start)..all.end.max(segment.end))
        .unwrap_or_default();
    if (is_ordinary(info.dlpi_name) || all.contains(&own))
        && let Some(range) = ordinary.ranges.get_mut(ordinary.count)
    {
        *range = all;
        ordinary.count += 1;
    }
    0
}

fn is_ordinary(path: *const c_char) -> bool {
    if path.is_null() {
        return false;
    }
    // SAFETY: dl_iterate_phdr's path, which ends in a NUL.
    let path = unsafe { CStr::from_ptr(path) }.to_bytes();
    let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or(path);
    // libc.so.6 or libc-2.31.so
    let is = |prefix: &&str| {
        let rest = name.strip_prefix(prefix.trim_end_matches('.').as_bytes());
        rest.is_some_and(|rest| {
            !prefix.ends_with('.') || rest.starts_with(b".") || rest.starts_with(b"-")
        })
    };
    LIBC.iter().any(is) || SANITIZERS.iter().any(is)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libcs_own_functions_are_not_interposed() {
        assert!(!is_interposed(libc::getpid as *const () as usize));
        assert!(is_interposed(16));
        for name in [c"/lib/libc.so.6", c"/lib64/libc-2.31.so", c"libtsan.so.2"] {
            assert!(is_ordinary(name.as_ptr()), "{name:?}");
        }
        assert!(!is_ordinary(c"/usr/lib/libcap.so".as_ptr()) && !is_ordinary(c"".as_ptr()));
    }
}
