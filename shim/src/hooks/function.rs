//! The libc functions behind the table's names: their types, and how their addresses are found.
//!
//! The address of each name is at first that of a function which looks the name up, so that a hook
//! needs no check, and only names that are called are looked up. When a thread is attached, all
//! names are, if that needs the loader, or if other libraries interpose some.

use super::late;
use super::next::{self, Mark};
use super::numbers::ByNumber;
use crate::calls::CResult;
use crate::state::loaded::{self, Answer, FIRST_VERSION, Object};
use calltable::Next;
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
    /// The address of the function that is called if libc lacks this one.
    const REPLACEMENT: fn() -> *mut ();
    /// The system call that this row makes, and how syscall(2) makes it.
    const NUMBER: Option<c_long> = None;
    const BY_NUMBER: Option<ByNumber> = None;
    /// Whether the call may change the file that a path names.
    const RENAMES: bool = false;

    /// Where the address of the libc function is kept.
    fn address() -> &'static AtomicPtr<()>;

    /// Calls the libc function.
    ///
    /// # Safety
    /// The requirements of the libc function apply.
    unsafe fn call(arguments: Self::Arguments) -> Self::Result;

    /// Makes the call if only the loader can find the libc function.
    ///
    /// # Safety
    /// The requirements of the libc function apply.
    unsafe fn unbound(arguments: Self::Arguments) -> Self::Result {
        Self::address().store(by_loader::<Self>(), Relaxed);
        // SAFETY: our caller guarantees what the libc function requires.
        unsafe { Self::call(arguments) }
    }

    /// Makes the call for a libc that lacks the function; its library may have been loaded since.
    /// Fails with ENOSYS if there is no such function.
    ///
    /// # Safety
    /// The requirements of the libc function apply.
    unsafe fn missing(arguments: Self::Arguments) -> Self::Result {
        let Some(function) = late::find(calltable::c_name(Self::INDEX)) else {
            errno::set(libc::ENOSYS);
            return Self::Result::from_done(-1);
        };
        Self::address().store(function, Relaxed);
        // SAFETY: our caller guarantees what the libc function requires.
        unsafe { Self::call(arguments) }
    }
}

/// Whether another library interposes the libc functions, and how to call them in that case.
static MARKS: [Mark; calltable::COUNT] = [const { Mark::new() }; _];

/// How the libc function is called on a fiber.
pub fn next_of<F: Function>() -> Next {
    MARKS[F::INDEX].get()
}

/// Finds the libc function among `objects`. Allocates nothing, takes no lock, and calls no hook.
/// Returns false if only the loader can find it.
#[inline(always)]
pub fn bind<F: Function>(objects: impl Iterator<Item = Option<Object>> + Clone) -> bool {
    bind_to(F::address(), F::INDEX, F::VERSION, F::REPLACEMENT, objects)
}

/// [`bind`], without the types, so that there are few copies of it.
#[inline(never)]
fn bind_to(
    address: &AtomicPtr<()>,
    index: usize,
    version: Option<&CStr>,
    replacement: fn() -> *mut (),
    objects: impl Iterator<Item = Option<Object>> + Clone,
) -> bool {
    let name = calltable::c_name(index);
    let mut found = loaded::next(objects.clone(), name, version);
    if found == Answer::Missing {
        found = loaded::version(objects, name, FIRST_VERSION);
    }
    let function = match found {
        Answer::Found(function) => function,
        Answer::Missing => replacement(),
        Answer::Unknown => return false,
    };
    address.store(function, Relaxed);
    true
}

/// Finds the libc function as [`bind`] does, with the loader's help if need be.
#[inline(always)]
pub fn bind_anyway<F: Function>(objects: impl Iterator<Item = Option<Object>> + Clone) {
    if !bind::<F>(objects) {
        F::address().store(by_loader::<F>(), Relaxed);
    }
}

/// Finds out whether another library interposes the libc function that was found. Allocates.
pub fn mark<F: Function>() {
    let function = F::address().load(Relaxed);
    MARKS[F::INDEX].set(next::of(function, calltable::next(F::INDEX)));
}

/// What the loader finds.
#[cold]
fn by_loader<F: Function + ?Sized>() -> *mut () {
    find(calltable::c_name(F::INDEX), F::VERSION, F::REPLACEMENT)
}

#[inline(never)]
fn find(name: &CStr, version: Option<&CStr>, replacement: fn() -> *mut ()) -> *mut () {
    let found = match (next(name), version) {
        (None, _) => versioned(name, FIRST_VERSION).unwrap_or_else(replacement),
        (Some(next), None) => next,
        (Some(next), Some(version)) => newest(name, version).unwrap_or(next),
    };
    // A name that was not found leaves an error that the program's next dlerror(3) would report.
    // SAFETY: only clears this thread's error.
    unsafe { libc::dlerror() };
    found
}

/// A C string from a string that ends with a NUL.
pub const fn c_string(text: &'static str) -> &'static CStr {
    match CStr::from_bytes_with_nul(text.as_bytes()) {
        Ok(text) => text,
        Err(_) => panic!("the name of a function ends with its only NUL"),
    }
}

/// Finds the next function of this name behind the shim.
fn next(name: &CStr) -> Option<*mut ()> {
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
    let next = next(name).filter(|next| *next != libcs && object_of(*next) != object_of(libcs));
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
