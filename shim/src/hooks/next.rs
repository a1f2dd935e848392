//! Other preloaded libraries behind the shim: which rows they interpose, and how these are called
//! then.
//!
//! The function that a row finds behind the shim is libc's as a rule. A library such as torsocks,
//! libfaketime or libeatmydata interposes some of the same names, and is to keep its effect whether
//! it comes before the shim or behind it. So the shim does not submit the operation of such a row
//! by itself: it calls the next function as a whole.
//!
//! That is looked at once, after all rows are bound. On an attached thread such a row is known by a
//! byte of its own, and all calls go by the way of those that are watched, so that without such a
//! library nothing costs more.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::ops::Range;
use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering::Relaxed};

/// How the row of an interposed function is called on a fiber.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Next {
    /// By its own conversion: the function is libc's, or one whose conversion calls the next
    /// function anyway.
    Converted,
    /// As a whole, by the thread pool.
    Offloaded,
    /// As a whole, by the fiber's thread.
    Through,
}

/// The [`Next`] of one row.
pub struct Mark(AtomicU8);

impl Mark {
    pub const fn new() -> Self {
        Self(AtomicU8::new(Next::Converted as u8))
    }

    pub fn set(&self, next: Next) {
        self.0.store(next as u8, Relaxed);
        if next != Next::Converted {
            ANY.store(true, Relaxed);
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

/// Some row is not converted.
static ANY: AtomicBool = AtomicBool::new(false);

/// Whether another library interposes any of the rows.
pub fn is_any_interposed() -> bool {
    ANY.load(Relaxed)
}

/// Modules of [`crate::calls`] whose functions wait, and can be called by any thread. Not those of
/// locks, signals and processes: these belong to the thread, or to the fiber, that makes the call.
const OFFLOADED: [&str; 13] = [
    "rw", "net", "mmsg", "connect", "poll", "select", "sleep", "open", "splice", "ipc", "space",
    "flock", "file",
];

/// How a row is called whose next function is at `function`. `handler` is what the table has for
/// it, `forgets` whether it closes or changes a descriptor.
pub fn of(function: *mut (), handler: &str, forgets: bool) -> Next {
    if !is_interposed(function as usize) {
        return Next::Converted;
    }
    by_handler(handler, forgets)
}

fn by_handler(handler: &str, forgets: bool) -> Next {
    let handler: String = handler.chars().filter(|c| !c.is_whitespace()).collect();
    let waits = || {
        OFFLOADED
            .iter()
            .any(|module| handler.contains(&format!("calls::{module}::")))
    };
    if handler.starts_with("recorded") || handler.starts_with("copied") || (forgets && waits()) {
        Next::Through
    } else if waits() {
        Next::Offloaded
    } else {
        Next::Converted
    }
}

/// Libraries whose functions the rows stand for.
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

/// Runtimes of sanitizers: theirs only look at the arguments, and leave the rest to libc.
const SANITIZERS: [&str; 6] = [
    "libasan.",
    "libtsan.",
    "liblsan.",
    "libmsan.",
    "libubsan.",
    "libclang_rt.",
];

/// Whether the function at `address` is of a library that changes what libc does.
fn is_interposed(address: usize) -> bool {
    static ORDINARY: OnceLock<Vec<Range<usize>>> = OnceLock::new();
    let ordinary = ORDINARY.get_or_init(|| {
        let mut ranges = Vec::new();
        // SAFETY: `add_ordinary` takes what is passed here, and is called during this call alone.
        unsafe { libc::dl_iterate_phdr(Some(add_ordinary), (&raw mut ranges).cast()) };
        ranges
    });
    // Where libc itself was not found, nothing can be told.
    !ordinary.is_empty() && !ordinary.iter().any(|range| range.contains(&address))
}

/// Adds the addresses of one loaded object, if it is the shim or one of those above.
///
/// # Safety
/// `info` is dl_iterate_phdr's, and `ranges` a `Vec<Range<usize>>` that nobody else uses meanwhile.
unsafe extern "C" fn add_ordinary(
    info: *mut libc::dl_phdr_info,
    _size: usize,
    ranges: *mut c_void,
) -> c_int {
    // SAFETY: the caller's promise; the name ends in a NUL, and the headers are as many as it says.
    let (info, ranges, headers) = unsafe {
        let info = &*info;
        let headers = std::slice::from_raw_parts(info.dlpi_phdr, usize::from(info.dlpi_phnum));
        (info, &mut *ranges.cast::<Vec<Range<usize>>>(), headers)
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
    let mut segments: Vec<_> = segments.collect();
    if is_ordinary(info.dlpi_name) || segments.iter().any(|segment| segment.contains(&own)) {
        ranges.append(&mut segments);
    }
    0
}

fn is_ordinary(path: *const c_char) -> bool {
    if path.is_null() {
        return false;
    }
    // SAFETY: dl_iterate_phdr's, which ends in a NUL.
    let path = unsafe { CStr::from_ptr(path) }.to_string_lossy();
    let name = Path::new(&*path)
        .file_name()
        .unwrap_or_default()
        .to_string_lossy();
    let is =
        |prefix: &&str| name.starts_with(*prefix) || name.starts_with(&prefix.replace('.', "-"));
    LIBC.iter().any(is) || SANITIZERS.iter().any(is)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_is_offloaded_and_what_belongs_to_the_thread_is_not() {
        for (handler, forgets, expected) in [
            ("calls::connect::connect", false, Next::Offloaded),
            ("with_libc calls :: space :: msync", false, Next::Offloaded),
            ("calls::file::close", true, Next::Through),
            ("recorded gethostbyname_r, h_errno", false, Next::Through),
            ("calls::locks::mutex::lock", false, Next::Converted),
            ("offload", false, Next::Converted),
            ("with_libc calls::walk::nftw", false, Next::Converted),
        ] {
            assert_eq!(by_handler(handler, forgets), expected, "{handler}");
        }
    }

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
