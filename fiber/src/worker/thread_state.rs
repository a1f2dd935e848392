//! State that the C and C++ runtimes keep per thread but each fiber needs for itself: the
//! exceptions being thrown and handled, and the locale of uselocale(3).
//!
//! Both are stored in per-thread memory. If a fiber is switched away from while it handles an
//! exception or uses its own locale, it first saves these on its stack and resets the thread.
//!
//! Invariant: at a switch, the thread handles no exception and has its own locale. Therefore the
//! next fiber, started or not, finds no state of another fiber. A switch between fibers that use
//! neither costs two loads and a branch.
//!
//! The functions through which the C and C++ runtimes reach this state are in interpose/.

use crate::arch::slots;
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

/// The state of the C and C++ runtimes on one worker's thread.
pub(crate) struct ThreadState {
    /// The thread's exceptions, or a dummy until the worker's thread is known.
    exceptions: Cell<*mut Exceptions>,
    /// The running fiber's own locale, or null if it uses the thread's.
    locale: Cell<libc::locale_t>,
    /// The thread's own locale.
    base: Cell<libc::locale_t>,
}

impl ThreadState {
    pub(crate) const fn new() -> ThreadState {
        /// A dummy that belongs to no thread and is never written.
        struct Dummy(UnsafeCell<Exceptions>);
        // SAFETY: it is only read, because a worker without a thread never switches.
        unsafe impl Sync for Dummy {}
        static DUMMY: Dummy = Dummy(UnsafeCell::new(Exceptions::NONE));
        ThreadState {
            exceptions: Cell::new(DUMMY.0.get()),
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
    pub(crate) fn is_in_use(&self) -> bool {
        let Exceptions { caught, uncaught } = self.exceptions();
        caught.addr() | uncaught as usize | self.locale.get().addr() != 0
    }

    /// Records that the running fiber has set `locale` for itself.
    pub(crate) fn set_locale(&self, locale: libc::locale_t) {
        let is_threads = locale == self.base.get();
        self.locale
            .set(if is_threads { null_mut() } else { locale });
    }

    /// Runs `others`, which switches away and back, while the thread handles no exception and has
    /// its own locale. Restores the fiber's state afterwards.
    #[cold]
    #[inline(never)]
    pub(crate) fn save_over(&self, others: impl FnOnce()) {
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
        if self.is_in_use() {
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
        return slots::exceptions().cast();
    }
    // SAFETY: this is the type that the C++ ABI gives the function.
    let get = unsafe { core::mem::transmute::<*mut c_void, GetGlobals>(get) };
    get()
}

type Uselocale = extern "C" fn(libc::locale_t) -> libc::locale_t;

/// Calls uselocale(3) as the next library in search order defines it: libc, or a library that
/// interposes it.
pub(crate) fn next_uselocale(new: libc::locale_t) -> libc::locale_t {
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
