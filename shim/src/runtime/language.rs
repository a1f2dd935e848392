//! The per-thread state of the C and C++ runtimes that each fiber needs for itself: the exceptions
//! that are being thrown and handled, and the locale of uselocale(3). Used for hosts that do not
//! switch it themselves (`keeps_runtimes` in aioshim.h).
//!
//! A fiber that parks while it handles an exception, or while it uses its own locale, first saves
//! them on its stack and restores the thread's own state. Therefore the next fiber never sees the
//! state of another one.
//!
//! The C++ library calls `__cxa_get_globals` for the thread's exceptions. The shim defines that
//! function as well. A preloaded library's definition comes first in the global scope, so calls
//! from all C++ libraries are bound to it, including libraries that dlopen loads later. If the C++
//! library is linked statically into the program, the program's own function is used.

use crate::context::{self, Slot};
use crate::host::Host;
use crate::runtime::resolver_state::OwnSettings;
use crate::state::{loaded, log, options};
use format::options::Level;
use std::cell::Cell;
use std::ffi::{c_int, c_uint, c_void};
use std::ptr::null_mut;
use std::sync::atomic::{AtomicPtr, Ordering};
use sys::errno;

/// `__cxa_eh_globals` of the C++ ABI.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Exceptions {
    /// The stack of exceptions that are being handled.
    caught: *mut c_void,
    /// The number of exceptions that are being thrown.
    uncaught: c_uint,
}

impl Exceptions {
    const NONE: Self = Self {
        caught: null_mut(),
        uncaught: 0,
    };
}

/// The values of a fiber while it does not run.
#[repr(C)]
pub struct FiberValues {
    exceptions: Exceptions,
    /// Null for the thread's own.
    locale: libc::locale_t,
    errno: c_int,
}

/// One attached thread's part of the runtimes' state.
pub struct Runtimes {
    /// Whether a park needs no work here: the host switches the state itself, and AIOSHIM_CHECK is
    /// not set.
    park_plainly: bool,
    /// The thread's own exception state.
    exceptions: *mut Exceptions,
    /// The locale that the running fiber uses; null for the thread's locale.
    locale: Cell<libc::locale_t>,
    /// The thread's own locale.
    base: Cell<libc::locale_t>,
    /// The thread's own resolver settings, while it uses the main thread's.
    resolver: OwnSettings,
}

impl Runtimes {
    /// The state of the calling thread, which is about to be attached to `host`.
    pub fn of_thread(host: &Host) -> Self {
        Self {
            park_plainly: host.keeps_runtimes && !options::current().check,
            exceptions: exceptions_of_thread(),
            locale: Cell::new(null_mut()),
            // SAFETY: null asks for the locale in use.
            base: Cell::new(unsafe { uselocale(null_mut()) }),
            resolver: OwnSettings::replace(),
        }
    }

    /// Gives the thread back what was its own. Call it on the thread, before it is detached.
    pub fn end(&mut self) {
        self.resolver.restore();
    }

    fn exceptions(&self) -> Exceptions {
        // SAFETY: two words of the attached thread, which is the calling one.
        unsafe { *self.exceptions }
    }

    /// Runs `park`, which parks the running fiber of the thread of `slot`, with the thread's own
    /// locale and no exception state. With AIOSHIM_CHECK, runs `check` afterwards.
    #[inline(always)]
    pub fn kept_over(&self, slot: &Slot, park: impl FnOnce(), check: impl FnOnce()) {
        if self.park_plainly {
            park();
        } else {
            self.switched_over(slot, park);
            if options::current().check {
                check();
            }
        }
    }

    #[inline]
    fn switched_over(&self, slot: &Slot, park: impl FnOnce()) {
        let (exceptions, locale) = (self.exceptions(), self.locale.get());
        let has_none = exceptions.caught.is_null() && exceptions.uncaught == 0 && locale.is_null();
        if !has_none {
            self.switch_to(Exceptions::NONE, null_mut());
        }
        park();
        if !std::ptr::eq(context::attached(), slot) {
            refuse_move();
        }
        if !has_none {
            self.switch_to(exceptions, locale);
        }
    }

    #[cold]
    fn switch_to(&self, exceptions: Exceptions, locale: libc::locale_t) {
        // SAFETY: two words of the attached thread, which is the calling one.
        unsafe { *self.exceptions = exceptions };
        if self.locale.replace(locale) != locale {
            let locale = if locale.is_null() {
                self.base.get()
            } else {
                locale
            };
            // SAFETY: a locale that the fiber or, before it, the thread has in use.
            unsafe { uselocale(locale) };
        }
    }

    /// The running fiber has ended or is about to: the thread has its own values again.
    pub fn forget_fiber(&self) {
        self.switch_to(Exceptions::NONE, null_mut());
    }

    /// Takes the running fiber's values, so that the thread has its own again.
    pub fn save(&self) -> FiberValues {
        let saved = FiberValues {
            exceptions: self.exceptions(),
            locale: self.locale.get(),
            errno: errno::get(),
        };
        self.switch_to(Exceptions::NONE, null_mut());
        saved
    }

    /// Gives the running fiber the values that [`Self::save`] has taken, here or on another thread.
    pub fn restore(&self, saved: &FiberValues) {
        self.switch_to(saved.exceptions, saved.locale);
        errno::set(saved.errno);
    }

    /// In the child of a fork: the forking fiber keeps its locale.
    pub fn inherit(&self, parents: &Self) {
        self.base.set(parents.base.get());
        self.locale.set(parents.locale.get());
    }

    /// The running fiber uses `locale` from now on.
    pub fn use_locale(&self, locale: libc::locale_t) {
        self.locale.set(if locale == self.base.get() {
            null_mut()
        } else {
            locale
        });
    }
}

/// The host resumed a fiber on another OS thread than the one that it had parked on. Its call would
/// continue with that thread's errno and the first thread's engine, and crash sooner or later.
#[cold]
#[inline(never)]
fn refuse_move() -> ! {
    log::say(
        Level::Error,
        format_args!(
            "the scheduler resumed a fiber on thread {} that had parked on another; a fiber may \
             move to another thread only between its calls (docs/hosts.md)",
            rustix::thread::gettid().as_raw_nonzero()
        ),
    );
    std::process::abort();
}

type GetGlobals = extern "C" fn() -> *mut Exceptions;

/// The `__cxa_get_globals` that the program uses.
static GET_GLOBALS: AtomicPtr<c_void> = AtomicPtr::new(null_mut());

/// libc's uselocale(3), past our hook.
static USELOCALE: AtomicPtr<c_void> = AtomicPtr::new(null_mut());

/// Finds the functions, before any thread is attached.
pub fn bind() {
    USELOCALE.store(loaded::next_anyway(c"uselocale"), Ordering::Relaxed);
    let get = loaded::default_anyway(c"__cxa_get_globals");
    GET_GLOBALS.store(get, Ordering::Relaxed);
}

/// Makes `locale` the calling thread's, and returns the one before. Null changes nothing.
///
/// # Safety
/// The locale is null or in use.
unsafe fn uselocale(locale: libc::locale_t) -> libc::locale_t {
    type UseLocale = unsafe extern "C" fn(libc::locale_t) -> libc::locale_t;
    let next = USELOCALE.load(Ordering::Relaxed);
    if next.is_null() {
        return null_mut();
    }
    // SAFETY: POSIX gives the function of this name this type, and our caller keeps its contract.
    unsafe { std::mem::transmute::<*mut c_void, UseLocale>(next)(locale) }
}

/// The address of the calling thread's exception state.
fn exceptions_of_thread() -> *mut Exceptions {
    let get = GET_GLOBALS.load(Ordering::Relaxed);
    if get.is_null() {
        return context::exceptions().cast();
    }
    // SAFETY: the C++ ABI defines the type of the function of this name.
    let get = unsafe { std::mem::transmute::<*mut c_void, GetGlobals>(get) };
    get()
}

#[unsafe(no_mangle)]
pub extern "C" fn __cxa_get_globals() -> *mut Exceptions {
    context::exceptions().cast()
}

#[unsafe(no_mangle)]
pub extern "C" fn __cxa_get_globals_fast() -> *mut Exceptions {
    context::exceptions().cast()
}
