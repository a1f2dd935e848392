//! The objects that the process was started with, and look-ups in their symbol tables.
//!
//! dlsym(3) takes a lock of the loader. A library's constructor that dlopen(3) runs may hold it
//! while it waits for a thread, and that thread may call a hook. dlsym is slow, too: looking up all
//! names of the call table took a quarter of the time by which the shim delayed each program. The
//! functions here read the symbol tables themselves. They take no lock and allocate nothing, so a
//! hook can look up libc's function at its first call, also in a signal handler.
//!
//! Invariant: only the objects that the process was started with are read. The loader never unloads
//! them, changes their tables or their order. Objects that a program opens later, also by a
//! constructor before `main`, are not found.

use super::symbol_table::{Entry, IFUNC, TLS, names};
pub use super::symbol_table::{Object, hash};
use std::ffi::{CStr, c_char, c_int, c_void};
use std::iter;
use std::ptr::{null, null_mut};
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
    if let Some(last) = last_at_start() {
        LAST.store(std::ptr::from_ref(last).cast_mut(), Relaxed);
        if maps(own).any(LinkMap::is_libc) {
            OWN.store(own, Release);
        }
    }
}

/// The last object that the process was started with. The list begins with the program and the
/// preloaded libraries. Then come the libraries that they need, among them libc, and those that
/// these need. What a constructor has opened since comes last, and no object before it needs it.
/// None if there are too many names.
fn last_at_start() -> Option<&'static LinkMap> {
    let mut needed = Hashes::new();
    let mut last = None;
    let mut has_libc = false;
    for map in maps_until(first(), null()) {
        if has_libc && !map.is_vdso() && !map.names().any(|name| needed.has(name)) {
            break;
        }
        has_libc |= map.is_libc();
        for (is_needed, name) in names(map.base, map.dynamic) {
            if is_needed && !needed.add(base_name(name.to_bytes())) {
                return None;
            }
        }
        last = Some(map);
    }
    last
}

/// The hashes of names, in a table that needs no allocation.
struct Hashes {
    table: [u64; Self::SIZE],
    count: usize,
}

impl Hashes {
    const SIZE: usize = 1024;

    fn new() -> Self {
        Self {
            table: [0; Self::SIZE],
            count: 0,
        }
    }

    /// The place of a name, and its hash, which is not 0 (FNV-1a).
    fn place(&self, name: &[u8]) -> (usize, u64) {
        let hash = name.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3)
        }) | 1;
        let mut at = (hash >> 32) as usize % Self::SIZE;
        while self.table[at] != 0 && self.table[at] != hash {
            at = (at + 1) % Self::SIZE;
        }
        (at, hash)
    }

    fn has(&self, name: &[u8]) -> bool {
        self.table[self.place(name).0] != 0
    }

    /// Returns false if the table is full.
    fn add(&mut self, name: &[u8]) -> bool {
        let (at, hash) = self.place(name);
        if self.table[at] == 0 {
            self.table[at] = hash;
            self.count += 1;
        }
        self.count < Self::SIZE / 4 * 3
    }
}

/// The part of a path behind the last slash.
fn base_name(path: &[u8]) -> &[u8] {
    path.rsplit(|byte| *byte == b'/').next().unwrap_or(path)
}

fn first() -> *mut LinkMap {
    // SAFETY: ld.so defines this variable. It changes the first entry only before `main`.
    unsafe { (&raw const _r_debug.map).read() }
}

/// The entries from `map` to the last one that the process was started with.
fn maps(map: *mut LinkMap) -> impl Iterator<Item = &'static LinkMap> + Clone {
    maps_until(map, LAST.load(Relaxed))
}

/// The entries from `map` to `last`, or all of them.
fn maps_until(
    map: *mut LinkMap,
    last: *const LinkMap,
) -> impl Iterator<Item = &'static LinkMap> + Clone {
    // SAFETY: null or an entry of an object that the process was started with, which the loader
    // never frees (the invariant).
    let begin = unsafe { map.as_ref() };
    iter::successors(begin, move |map| {
        if std::ptr::eq(*map, last) {
            return None;
        }
        // SAFETY: as above, because entries behind the last one are not visited. Only start-up
        // passes no last one, before other code can unload an object. Without a last one, callers
        // of `maps` stop at libc or the loader, which are never unloaded.
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

/// Whether look-ups need no help from the loader.
pub fn is_readable() -> bool {
    behind().next().is_some() && all().all(|map| map.object().is_some())
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
    let libc = maps(first()).find(|map| map.is_libc())?;
    match look_up(iter::once(libc.object()), name, None, false) {
        Answer::Found(function) => Some(function),
        _ => None,
    }
}

/// The address and the size of a variable of the loader.
pub fn variable_of_loader(name: &CStr) -> Option<(*mut c_void, usize)> {
    let object = maps(first()).find(|map| map.is_loader())?.object()?;
    let symbol = object.find(name, hash(name), None, false)?;
    Some((symbol.address(object.base) as *mut c_void, symbol.size))
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
            let at = symbol.address(object.base) as *mut ();
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

    fn is_loader(&self) -> bool {
        base_name(self.path()).starts_with(b"ld-")
    }

    /// The names under which other objects may need this one.
    fn names(&self) -> impl Iterator<Item = &[u8]> {
        let own = names(self.base, self.dynamic).filter(|(is_needed, _)| !is_needed);
        let own = own.map(|(_, name)| base_name(name.to_bytes()));
        iter::once(base_name(self.path())).chain(own)
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

    #[test]
    fn objects_that_a_program_opens_do_not_belong_to_its_start() {
        let before = last_at_start().expect("an object");
        // SAFETY: a library of libc without constructors of its own.
        let opened = unsafe { libc::dlopen(c"libanl.so.1".as_ptr(), libc::RTLD_NOW) };
        assert!(!opened.is_null() && !before.next.is_null());
        assert!(last_at_start().is_some_and(|last| std::ptr::eq(last, before)));
    }

    #[test]
    fn a_table_of_names_fills_up() {
        let mut names = Hashes::new();
        assert!(!names.has(b"libc.so.6"));
        assert!(names.add(b"libc.so.6") && names.add(b"libc.so.6"));
        assert!(names.has(b"libc.so.6") && !names.has(b"libm.so.6"));
        let added = (0..2 * Hashes::SIZE).take_while(|n| names.add(n.to_string().as_bytes()));
        assert_eq!(added.count(), Hashes::SIZE / 4 * 3 - 2);
    }
}
