//! The objects that the process was started with, and look-ups in their symbol tables.
//!
//! dlsym(3) takes a lock of the loader. A library's constructor that dlopen(3) runs may hold it
//! while it waits for a thread, and that thread may call a hook. dlsym is slow, too: looking up all
//! names of the call table took a quarter of the time by which the shim delayed each program. The
//! functions here read the symbol tables themselves. They take no lock and allocate nothing, so a
//! hook can look up libc's function at its first call, also in a signal handler.
//!
//! Invariant: only objects that were loaded before `main` are read. The loader never unloads them,
//! changes their tables or their order. So objects that a program opens later are not found; they
//! were not when the shim looked all names up before `main`.

pub use super::symbol_table::Object;
use super::symbol_table::{Entry, IFUNC, TLS, hash};
use std::ffi::{CStr, c_char, c_int, c_void};
use std::iter;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicPtr, Ordering::*};

/// `struct link_map` of <link.h>: one loaded object.
#[repr(C)]
struct LinkMap {
    base: usize,
    name: *const c_char,
    dynamic: *const Entry,
    next: *mut LinkMap,
}

/// `struct r_debug`: the head of the list of all objects.
#[repr(C)]
struct Debug {
    version: c_int,
    map: *mut LinkMap,
}

// The linker defines `_DYNAMIC` in each object.
std::arch::global_asm!(".hidden _DYNAMIC");

unsafe extern "C" {
    static _r_debug: Debug;
    static _DYNAMIC: Entry;
}

/// The entry of the shim, and the last entry, once start-up has stored them.
static OWN: AtomicPtr<LinkMap> = AtomicPtr::new(null_mut());
static LAST: AtomicPtr<LinkMap> = AtomicPtr::new(null_mut());

/// Remembers which objects the process was started with. Start-up calls this. If libc is not behind
/// the shim, because the program opened the shim by dlopen(3), only the loader knows the order of
/// the objects, and is asked each time.
pub fn remember() {
    let Some(own) = maps(first()).find(|map| std::ptr::eq(map.dynamic, &raw const _DYNAMIC)) else {
        return;
    };
    let own = std::ptr::from_ref(own).cast_mut();
    if let Some(last) = maps(own).last()
        && maps(own).any(LinkMap::is_libc)
    {
        LAST.store(std::ptr::from_ref(last).cast_mut(), Relaxed);
        OWN.store(own, Release);
    }
}

fn first() -> *mut LinkMap {
    // SAFETY: ld.so defines this variable. It changes the first entry only before `main`.
    unsafe { (&raw const _r_debug.map).read() }
}

/// The entries from `map` to the last one that the process was started with.
fn maps(map: *mut LinkMap) -> impl Iterator<Item = &'static LinkMap> + Clone {
    let last = LAST.load(Relaxed);
    // SAFETY: null or an entry of the list, which is never freed (the invariant).
    let begin = unsafe { map.as_ref() };
    iter::successors(begin, move |map| {
        if std::ptr::eq(*map, last) {
            return None;
        }
        // SAFETY: as above, because entries behind the last one are not visited.
        unsafe { map.next.as_ref() }
    })
}

/// All of these entries, in the order in which the loader searches them for a program. None if
/// [`remember`] could not tell.
fn all() -> impl Iterator<Item = &'static LinkMap> {
    let is_known = !OWN.load(Acquire).is_null();
    maps(if is_known { first() } else { null_mut() }).filter(|map| !map.is_vdso())
}

/// What a look-up found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Answer {
    /// The address of a function or variable.
    Found(*mut ()),
    /// No object defines the name.
    Missing,
    /// Only the loader can answer: the tables cannot be read, the name is that of a thread-local
    /// variable, or, except on x86-64, that of a function that chooses the address (IFUNC).
    Unknown,
}

impl Answer {
    fn or_ask(self, loader: impl FnOnce() -> *mut c_void) -> *mut c_void {
        match self {
            Self::Found(at) => at.cast(),
            Self::Missing => null_mut(),
            Self::Unknown => loader(),
        }
    }
}

/// glibc's base symbol version. Compatibility-only symbols exist under this version alone, so plain
/// look-ups do not find them.
#[cfg(target_arch = "x86_64")]
pub const FIRST_VERSION: &CStr = c"GLIBC_2.2.5";
#[cfg(target_arch = "aarch64")]
pub const FIRST_VERSION: &CStr = c"GLIBC_2.17";

/// The objects whose symbols dlsym(RTLD_NEXT) searches, in its order. None for an object whose
/// tables cannot be read.
pub fn behind() -> impl Iterator<Item = Option<Object>> + Clone {
    maps(OWN.load(Acquire))
        .skip(1)
        .filter(|map| !map.is_vdso())
        .map(LinkMap::object)
}

/// Whether look-ups in [`behind`] need no help from the loader.
pub fn is_readable() -> bool {
    behind().next().is_some() && behind().all(|object| object.is_some())
}

/// Looks up what dlsym(RTLD_NEXT) finds: the default version in the first of the objects that
/// defines the name, or, if that object has the version `wanted`, that version.
pub fn next(
    objects: impl Iterator<Item = Option<Object>>,
    name: &CStr,
    wanted: Option<&CStr>,
) -> Answer {
    look_up(objects, name, wanted, false)
}

/// Looks up the version `wanted` alone.
pub fn version(
    objects: impl Iterator<Item = Option<Object>>,
    name: &CStr,
    wanted: &CStr,
) -> Answer {
    look_up(objects, name, Some(wanted), true)
}

/// Looks up what dlsym(RTLD_NEXT) finds, or a function that only programs linked long ago can
/// call by this name. Asks the loader if need be. Null if nothing defines the name.
pub fn next_anyway(name: &CStr) -> *mut c_void {
    let found = match next(behind(), name, None) {
        Answer::Missing => version(behind(), name, FIRST_VERSION),
        found => found,
    };
    // SAFETY: a look-up by name.
    found.or_ask(|| unsafe { libc::dlsym(libc::RTLD_NEXT, name.as_ptr()) })
}

/// Looks up what dlsym(RTLD_DEFAULT) finds. Asks the loader if need be. Null if nothing defines the
/// name.
pub fn default_anyway(name: &CStr) -> *mut c_void {
    let found = look_up(all().map(LinkMap::object), name, None, false);
    // SAFETY: a look-up by name.
    found.or_ask(|| unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) })
}

/// Looks up a function of libc itself, past every library that interposes it.
pub fn of_libc(name: &CStr) -> Option<*mut ()> {
    let libc = all().find(|map| map.is_libc())?;
    match look_up(iter::once(libc.object()), name, None, false) {
        Answer::Found(function) => Some(function),
        _ => None,
    }
}

/// The address and the size of a variable of the loader.
pub fn variable_of_loader(name: &CStr) -> Option<(*mut c_void, usize)> {
    let hash = hash(name);
    all().find_map(|map| {
        let object = map.object()?;
        let symbol = object.find(name, hash, None, false)?;
        Some(((object.base + symbol.value) as *mut c_void, symbol.size))
    })
}

/// The next function of a name that has no row. It is looked up when it is called first.
pub struct NextFunction(AtomicPtr<c_void>);

impl NextFunction {
    pub const fn new() -> Self {
        Self(AtomicPtr::new(null_mut()))
    }

    /// The address of the function.
    ///
    /// # Panics
    /// Nothing defines `name`.
    #[inline]
    pub fn find(&self, name: &CStr) -> *mut c_void {
        let known = self.0.load(Relaxed);
        if known.is_null() {
            self.look_up(name)
        } else {
            known
        }
    }

    #[cold]
    fn look_up(&self, name: &CStr) -> *mut c_void {
        let found = next_anyway(name);
        assert!(!found.is_null(), "libc has no function {name:?}");
        self.0.store(found, Relaxed);
        found
    }
}

/// The next function behind the hook `$name` of the calling module, as a function of type `$type`.
#[macro_export]
macro_rules! next_function {
    ($name:ident as $type:ty) => {{
        static NEXT: $crate::state::loaded::NextFunction =
            $crate::state::loaded::NextFunction::new();
        const NAME: &str = concat!(stringify!($name), "\0");
        let name = ::std::ffi::CStr::from_bytes_with_nul(NAME.as_bytes()).unwrap_or_default();
        // SAFETY: the function of this name has the type of its hook.
        unsafe { ::std::mem::transmute::<*mut ::std::ffi::c_void, $type>(NEXT.find(name)) }
    }};
}

fn look_up(
    objects: impl Iterator<Item = Option<Object>>,
    name: &CStr,
    wanted: Option<&CStr>,
    exactly: bool,
) -> Answer {
    let hash = hash(name);
    let mut is_empty = true;
    for object in objects {
        is_empty = false;
        let Some(object) = object else {
            return Answer::Unknown;
        };
        if let Some(symbol) = object.find(name, hash, wanted, exactly) {
            let at = (object.base + symbol.value) as *mut ();
            return match symbol.kind() {
                #[cfg(target_arch = "x86_64")]
                IFUNC => {
                    // SAFETY: on x86-64 these functions take no arguments, and all objects that the
                    // process was started with are relocated before any code of theirs runs.
                    Answer::Found(unsafe {
                        std::mem::transmute::<*mut (), extern "C" fn() -> *mut ()>(at)()
                    })
                }
                #[cfg(not(target_arch = "x86_64"))]
                IFUNC => Answer::Unknown,
                TLS => Answer::Unknown,
                _ => Answer::Found(at),
            };
        }
    }
    if is_empty {
        Answer::Unknown
    } else {
        Answer::Missing
    }
}

impl LinkMap {
    /// None if the object's tables cannot be read.
    fn object(&self) -> Option<Object> {
        Object::of(self.base, self.dynamic)
    }

    fn path(&self) -> &[u8] {
        if self.name.is_null() {
            return b"";
        }
        // SAFETY: the object's path, which ends in a NUL.
        unsafe { CStr::from_ptr(self.name) }.to_bytes()
    }

    /// The kernel's object, which the loader never searches for a program.
    fn is_vdso(&self) -> bool {
        self.path().starts_with(b"linux-vdso")
    }

    fn is_libc(&self) -> bool {
        self.path().ends_with(b"/libc.so.6")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn by_loader(name: &CStr, version: Option<&CStr>) -> *mut () {
        // SAFETY: look-ups by name.
        let found = unsafe {
            match version {
                None => libc::dlsym(libc::RTLD_NEXT, name.as_ptr()),
                Some(version) => libc::dlvsym(libc::RTLD_NEXT, name.as_ptr(), version.as_ptr()),
            }
        };
        found.cast()
    }

    #[test]
    fn every_name_is_found_where_the_loader_finds_it() {
        remember();
        assert!(is_readable());
        let mut found = 0;
        for name in (0..calltable::COUNT).map(calltable::c_name) {
            let expected = by_loader(name, None);
            match next(behind(), name, None) {
                Answer::Found(at) => {
                    assert_eq!(at, expected, "{name:?}");
                    found += 1;
                }
                Answer::Missing => assert!(expected.is_null(), "{name:?}"),
                Answer::Unknown => panic!("{name:?} needs the loader"),
            }
        }
        assert!(found > calltable::COUNT / 2, "{found} names");
    }

    #[test]
    fn a_version_is_found_where_the_loader_finds_it() {
        remember();
        for (name, version) in [
            (c"pthread_cond_wait", c"GLIBC_2.2.5"),
            (c"pthread_cond_wait", c"GLIBC_2.3.2"),
            (c"glob", c"GLIBC_2.27"),
        ] {
            let expected = by_loader(name, Some(version));
            if expected.is_null() {
                continue; // another architecture
            }
            assert_eq!(next(behind(), name, Some(version)), Answer::Found(expected));
            assert_eq!(
                super::version(behind(), name, version),
                Answer::Found(expected)
            );
        }
        assert_eq!(
            next(behind(), c"pthread_cond_wait", Some(c"GLIBC_1.0")),
            Answer::Found(by_loader(c"pthread_cond_wait", None))
        );
        assert_eq!(
            version(behind(), c"pthread_cond_wait", c"GLIBC_1.0"),
            Answer::Missing
        );
    }

    #[test]
    fn what_needs_the_loader_is_unknown() {
        remember();
        assert_eq!(next(behind(), c"no_such_function", None), Answer::Missing);
        assert_eq!(next(behind(), c"__resp", None), Answer::Unknown);
        // SAFETY: look-ups by name.
        let [memcpy, getpid] = [c"memcpy", c"getpid"]
            .map(|name| unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) });
        assert_eq!(
            (next_anyway(c"memcpy"), default_anyway(c"getpid")),
            (memcpy, getpid)
        );
        assert_eq!(of_libc(c"getpid"), Some(getpid.cast()));
        assert!(default_anyway(c"no_such_function").is_null());
        let (_, size) = variable_of_loader(c"_rtld_global").expect("a variable of ld.so");
        assert!(size > 1000);
    }
}
