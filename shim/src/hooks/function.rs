//! The libc functions behind the table's names: their types, and how their addresses are found.

use super::late;
use super::next::{self, Mark};
use super::numbers::ByNumber;
use crate::calls::CResult;
use calltable::Name;
use std::ffi::{CStr, c_long, c_void};
use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicPtr, Ordering::Relaxed};
use sys::errno;

/// A libc function of the table, as a type that stands for it in generic code.
pub trait Function {
    /// The arguments, as a tuple.
    type Arguments: Copy;
    type Result: CResult;

    /// Its index in [`calltable::NAMES`], in the statistics and in the trace.
    const INDEX: usize;
    /// The symbol version of the libc function. Given for names of which dlsym might find an older
    /// version.
    const VERSION: Option<&'static CStr> = None;
    /// The address of our replacement, which is called if libc lacks the function.
    const REPLACEMENT: Option<fn() -> *mut ()> = None;
    /// The system call that this row makes, and how syscall(2) makes it.
    const NUMBER: Option<c_long> = None;
    const BY_NUMBER: Option<ByNumber> = None;
    /// Whether the call may change the file that a path names.
    const RENAMES: bool = false;

    fn symbol() -> &'static Symbol;

    /// Calls the libc function.
    ///
    /// # Safety
    /// The requirements of the libc function apply.
    unsafe fn call(arguments: Self::Arguments) -> Self::Result;

    /// Makes the call before the libc function has been found.
    ///
    /// # Safety
    /// The requirements of the libc function apply.
    unsafe fn unbound(arguments: Self::Arguments) -> Self::Result {
        Self::symbol().bind();
        // SAFETY: our caller guarantees what the libc function requires.
        unsafe { Self::call(arguments) }
    }

    /// Makes the call for a libc that lacks the function; its library may have been loaded since.
    /// Fails with ENOSYS if there is no such function.
    ///
    /// # Safety
    /// The requirements of the libc function apply.
    unsafe fn missing(arguments: Self::Arguments) -> Self::Result {
        let symbol = Self::symbol();
        let Some(function) = late::find(symbol.name) else {
            errno::set(libc::ENOSYS);
            return Self::Result::from_done(-1);
        };
        symbol.address.store(function, Relaxed);
        // SAFETY: our caller guarantees what the libc function requires.
        unsafe { Self::call(arguments) }
    }
}

/// Where the function behind one name is.
pub struct Symbol {
    /// The libc function. Until it is found, this is a function that finds it, so that the hook
    /// needs no check.
    address: AtomicPtr<()>,
    /// Whether another library interposes the libc function, and how to call it in that case.
    next: Mark,
    name: &'static CStr,
    version: Option<&'static CStr>,
    /// The function to call if libc lacks this one.
    replacement: fn() -> *mut (),
}

impl Symbol {
    pub const fn new(
        name: &'static CStr,
        version: Option<&'static CStr>,
        find: *mut (),
        replacement: fn() -> *mut (),
    ) -> Self {
        Self {
            address: AtomicPtr::new(find),
            next: Mark::new(),
            name,
            version,
            replacement,
        }
    }

    /// The address of the libc function, or of the function that finds it.
    #[inline(always)]
    pub fn address(&self) -> *mut () {
        self.address.load(Relaxed)
    }

    /// How to call the function on a fiber.
    pub fn next(&self) -> calltable::Next {
        self.next.get()
    }

    /// Finds the libc function. Allocates nothing.
    pub fn bind(&self) {
        let address = match (find(self.name), self.version) {
            (None, _) => versioned(self.name, FIRST_VERSION).unwrap_or_else(self.replacement),
            (Some(next), None) => next,
            (Some(next), Some(version)) => newest(self.name, version).unwrap_or(next),
        };
        self.address.store(address, Relaxed);
    }

    /// Checks whether another library interposes the function that [`Self::bind`] found.
    /// Allocates.
    pub fn resolve(&self, name: &Name) {
        self.next.set(next::of(self.address(), name.row));
    }
}

/// A C string from a string that ends with a NUL.
pub const fn c_string(text: &'static str) -> &'static CStr {
    match CStr::from_bytes_with_nul(text.as_bytes()) {
        Ok(text) => text,
        Err(_) => panic!("the name of a function ends with its only NUL"),
    }
}

/// glibc's base symbol version. Compatibility-only symbols exist under this version alone, so plain
/// dlsym does not find them.
#[cfg(target_arch = "x86_64")]
const FIRST_VERSION: &CStr = c"GLIBC_2.2.5";
#[cfg(target_arch = "aarch64")]
const FIRST_VERSION: &CStr = c"GLIBC_2.17";

/// Finds the next function of this name behind the shim.
fn find(name: &CStr) -> Option<*mut ()> {
    // SAFETY: `name` is a C string.
    let function = unsafe { libc::dlsym(libc::RTLD_NEXT, name.as_ptr()) };
    (!function.is_null()).then_some(function.cast())
}

/// Finds one version of the function. Returns None if the function has no such version.
fn versioned(name: &CStr, version: &CStr) -> Option<*mut ()> {
    // SAFETY: both are C strings.
    let function = unsafe { libc::dlvsym(libc::RTLD_NEXT, name.as_ptr(), version.as_ptr()) };
    (!function.is_null()).then_some(function.cast())
}

/// Finds that version of the libc function. If another library behind the shim defines the name
/// too, returns that library's function: the names of a sanitizer's runtime, for example, have no
/// versions.
fn newest(name: &CStr, version: &CStr) -> Option<*mut ()> {
    let libcs = versioned(name, version)?;
    // The comparison of addresses succeeds at once except with an old loader. Asking for the
    // objects is slow because it searches all their symbols.
    let next = find(name).filter(|next| *next != libcs && object_of(*next) != object_of(libcs));
    Some(next.unwrap_or(libcs))
}

/// The object that contains the function.
fn object_of(function: *mut ()) -> *mut c_void {
    let mut found = MaybeUninit::<libc::Dl_info>::zeroed();
    // SAFETY: dladdr only looks the address up. It fills a zeroed Dl_info, which is a valid value.
    unsafe {
        libc::dladdr(function.cast(), found.as_mut_ptr());
        found.assume_init().dli_fbase
    }
}
