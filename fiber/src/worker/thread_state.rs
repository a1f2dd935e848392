//! State that the C and C++ runtimes keep per thread but each fiber needs for itself: the
//! exceptions being thrown and handled, and the locale of uselocale(3).
//!
//! Both are stored in per-thread memory. If a fiber is switched away from while it handles an
//! exception or uses its own locale, it first saves these on its stack and resets the thread.
//!
//! Invariant: at a switch, the thread handles no exception and has its own locale. Therefore the
//! next fiber, fresh or not, finds no state of another fiber. A switch between fibers that use
//! neither costs two loads and a branch.
//!
//! The C++ library calls `__cxa_get_globals` to find the thread's exceptions. This library defines
//! that function too, because dlopen may load the C++ library later. A look-up would not find the
//! definition there, but the calls in it are bound to the first definition in the global scope,
//! which is then ours. Whichever definition is first, the worker calls it once to find the address
//! of its thread's data.

use crate::sync::on_fiber;
use crate::worker::current as tls;
use core::cell::{Cell, UnsafeCell};
use core::ffi::{c_uint, c_void};
use core::ptr::null_mut;
use core::sync::atomic::{AtomicPtr, Ordering};

/// `__cxa_eh_globals` of the C++ ABI.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Exceptions {
    /// The stack of the exceptions being handled.
    caught: *mut c_void,
    /// The number of exceptions being thrown.
    uncaught: c_uint,
}

impl Exceptions {
    const NONE: Exceptions = Exceptions {
        caught: null_mut(),
        uncaught: 0,
    };
}

/// The runtimes' state of one worker's thread.
pub(crate) struct Runtimes {
    /// The thread's exceptions, or a dummy until the worker's thread is known.
    exceptions: Cell<*mut Exceptions>,
    /// The running fiber's own locale, or null if it uses the thread's.
    locale: Cell<libc::locale_t>,
    /// The thread's own locale.
    base: Cell<libc::locale_t>,
}

impl Runtimes {
    pub(crate) const fn new() -> Runtimes {
        /// A dummy that belongs to no thread and is never written.
        struct Nobodys(UnsafeCell<Exceptions>);
        // SAFETY: it is only read, because a worker without a thread never switches.
        unsafe impl Sync for Nobodys {}
        static NOBODYS: Nobodys = Nobodys(UnsafeCell::new(Exceptions::NONE));
        Runtimes {
            exceptions: Cell::new(NOBODYS.0.get()),
            locale: Cell::new(null_mut()),
            base: Cell::new(null_mut()),
        }
    }

    /// Binds this state to the calling thread, which becomes the worker's.
    pub(crate) fn attach(&self) {
        self.exceptions.set(of_thread());
        self.base.set(next_uselocale(null_mut()));
    }

    fn exceptions(&self) -> Exceptions {
        // SAFETY: the address belongs to the worker's thread, and only this thread uses it, or it
        // is the dummy, which is never written.
        unsafe { *self.exceptions.get() }
    }

    /// Whether the running code handles or throws an exception, or has its own locale.
    #[inline(always)]
    pub(crate) fn are_in_use(&self) -> bool {
        let Exceptions { caught, uncaught } = self.exceptions();
        caught.addr() | uncaught as usize | self.locale.get().addr() != 0
    }

    /// Runs `others`, which switches away and back, while the thread handles no exception and has
    /// its own locale. Restores the fiber's state afterwards.
    #[cold]
    #[inline(never)]
    pub(crate) fn kept_over(&self, others: impl FnOnce()) {
        let (exceptions, locale) = (self.exceptions(), self.locale.get());
        self.clear();
        others();
        // SAFETY: a worker that switches has a thread, and only that thread uses the address.
        unsafe { *self.exceptions.get() = exceptions };
        if !locale.is_null() {
            self.locale.set(locale);
            next_uselocale(locale);
        }
    }

    /// Resets the thread, because the running fiber ends or is about to be switched away from.
    #[inline]
    pub(crate) fn clear(&self) {
        if self.are_in_use() {
            // SAFETY: a worker with state in use has a thread, and only that thread uses the
            // address.
            unsafe { *self.exceptions.get() = Exceptions::NONE };
            if !self.locale.replace(null_mut()).is_null() {
                next_uselocale(self.base.get());
            }
        }
    }
}

type GetGlobals = extern "C" fn() -> *mut Exceptions;

/// Returns the address of the calling thread's exceptions.
fn of_thread() -> *mut Exceptions {
    // SAFETY: dlsym only looks the name up.
    let get = unsafe { libc::dlsym(libc::RTLD_DEFAULT, c"__cxa_get_globals".as_ptr()) };
    if get.is_null() {
        return tls::exceptions();
    }
    // SAFETY: this is the type that the C++ ABI gives the function.
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

/// Calls uselocale(3) as the next library in search order defines it: libc, or a library that
/// interposes it.
fn next_uselocale(new: libc::locale_t) -> libc::locale_t {
    static NEXT: AtomicPtr<c_void> = AtomicPtr::new(null_mut());
    let mut next = NEXT.load(Ordering::Relaxed);
    if next.is_null() {
        // SAFETY: dlsym only looks the name up.
        next = unsafe { libc::dlsym(libc::RTLD_NEXT, c"uselocale".as_ptr()) };
        NEXT.store(next, Ordering::Relaxed);
    }
    if next.is_null() {
        return null_mut();
    }
    // SAFETY: this is the type that POSIX gives the function.
    let next = unsafe { core::mem::transmute::<*mut c_void, Uselocale>(next) };
    next(new)
}

/// uselocale(3), but the locale belongs to the calling fiber.
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

/// The name under which the C++ library calls it.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn __uselocale(new: libc::locale_t) -> libc::locale_t {
    uselocale(new)
}
