//! What the C and C++ runtimes keep for a thread and each fiber must have for itself: the
//! exceptions that are being thrown and handled, and the locale of uselocale(3).
//!
//! Both are in memory of the thread's. A fiber that is switched away from while it handles an
//! exception, or under a locale of its own, saves them on its stack first and leaves the thread as
//! it was found.
//!
//! Invariant: at a switch the thread handles no exception and has its own locale. So the next
//! fiber, fresh or not, finds nothing of another's, and a switch between fibers that use neither
//! costs two loads and a branch.
//!
//! C++'s library asks `__cxa_get_globals` for the thread's exceptions. This library defines that
//! function as well, since the C++ library may be loaded later, by dlopen, where no look-up would
//! find it; calls from there are bound to the first definition in the global scope. Whichever that
//! is, the worker asks it once where its thread's words are.

use crate::sync::on_fiber;
use crate::tls;
use core::cell::{Cell, UnsafeCell};
use core::ffi::{c_uint, c_void};
use core::ptr::null_mut;
use core::sync::atomic::{AtomicPtr, Ordering};

/// `__cxa_eh_globals` of the C++ ABI.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Exceptions {
    /// The stack of those that are being handled.
    caught: *mut c_void,
    /// How many are being thrown.
    uncaught: c_uint,
}

impl Exceptions {
    const NONE: Exceptions = Exceptions {
        caught: null_mut(),
        uncaught: 0,
    };
}

/// What one worker's thread has of the runtimes' data.
pub(crate) struct Runtimes {
    /// The thread's own, [`Self::none`] until the worker's thread is known.
    exceptions: Cell<*mut Exceptions>,
    /// The locale that the running fiber uses; null for the thread's.
    locale: Cell<libc::locale_t>,
    /// The thread's own locale.
    base: Cell<libc::locale_t>,
}

impl Runtimes {
    pub(crate) const fn new() -> Runtimes {
        /// Belongs to no thread and is never written.
        struct Nobodys(UnsafeCell<Exceptions>);
        // SAFETY: only read: workers without a thread switch nowhere.
        unsafe impl Sync for Nobodys {}
        static NOBODYS: Nobodys = Nobodys(UnsafeCell::new(Exceptions::NONE));
        Runtimes {
            exceptions: Cell::new(NOBODYS.0.get()),
            locale: Cell::new(null_mut()),
            base: Cell::new(null_mut()),
        }
    }

    /// The calling thread becomes the worker's.
    pub(crate) fn attach(&self) {
        self.exceptions.set(of_thread());
        self.base.set(next_uselocale(null_mut()));
    }

    fn exceptions(&self) -> Exceptions {
        // SAFETY: two words of the worker's thread, which nobody else touches, or of nobody.
        unsafe { *self.exceptions.get() }
    }

    /// Whether the running code handles or throws an exception, or has a locale of its own.
    #[inline(always)]
    pub(crate) fn are_in_use(&self) -> bool {
        let Exceptions { caught, uncaught } = self.exceptions();
        caught.addr() | uncaught as usize | self.locale.get().addr() != 0
    }

    /// Runs `others`, which switches away and back, on a thread that handles no exception and has
    /// its own locale.
    #[cold]
    #[inline(never)]
    pub(crate) fn kept_over(&self, others: impl FnOnce()) {
        let (exceptions, locale) = (self.exceptions(), self.locale.get());
        self.clear();
        others();
        // SAFETY: as in `exceptions`; a worker that switches has a thread.
        unsafe { *self.exceptions.get() = exceptions };
        if !locale.is_null() {
            self.locale.set(locale);
            next_uselocale(locale);
        }
    }

    /// Leaves the thread as it was found: the running fiber ends or is about to be switched away
    /// from.
    #[inline]
    pub(crate) fn clear(&self) {
        if self.are_in_use() {
            // SAFETY: as in `kept_over`.
            unsafe { *self.exceptions.get() = Exceptions::NONE };
            if !self.locale.replace(null_mut()).is_null() {
                next_uselocale(self.base.get());
            }
        }
    }
}

type GetGlobals = extern "C" fn() -> *mut Exceptions;

/// Where the calling thread's exceptions are.
fn of_thread() -> *mut Exceptions {
    // SAFETY: a look-up by name.
    let get = unsafe { libc::dlsym(libc::RTLD_DEFAULT, c"__cxa_get_globals".as_ptr()) };
    if get.is_null() {
        return tls::exceptions();
    }
    // SAFETY: the C++ ABI's type of the function of this name.
    let get = unsafe { core::mem::transmute::<*mut c_void, GetGlobals>(get) };
    get()
}

#[unsafe(no_mangle)]
pub(crate) extern "C" fn __cxa_get_globals() -> *mut Exceptions {
    tls::exceptions()
}

#[unsafe(no_mangle)]
pub(crate) extern "C" fn __cxa_get_globals_fast() -> *mut Exceptions {
    tls::exceptions()
}

type Uselocale = extern "C" fn(libc::locale_t) -> libc::locale_t;

/// uselocale(3) as the library behind this one defines it: libc, or whoever interposes it.
fn next_uselocale(new: libc::locale_t) -> libc::locale_t {
    static NEXT: AtomicPtr<c_void> = AtomicPtr::new(null_mut());
    let mut next = NEXT.load(Ordering::Relaxed);
    if next.is_null() {
        // SAFETY: a look-up by name.
        next = unsafe { libc::dlsym(libc::RTLD_NEXT, c"uselocale".as_ptr()) };
        NEXT.store(next, Ordering::Relaxed);
    }
    if next.is_null() {
        return null_mut();
    }
    // SAFETY: POSIX's type of the function of this name.
    let next = unsafe { core::mem::transmute::<*mut c_void, Uselocale>(next) };
    next(new)
}

/// uselocale(3): the locale is the calling fiber's.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn uselocale(new: libc::locale_t) -> libc::locale_t {
    let old = next_uselocale(new);
    if !new.is_null()
        && !old.is_null()
        && let Ok(worker) = on_fiber()
    {
        let runtimes = &worker.runtimes;
        let own = if new == runtimes.base.get() {
            null_mut()
        } else {
            new
        };
        runtimes.locale.set(own);
    }
    old
}

/// The name by which the C++ library calls it.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn __uselocale(new: libc::locale_t) -> libc::locale_t {
    uselocale(new)
}
