//! The functions of libaioshim.so, and the attachment of a worker to it.
//!
//! The shim is preloaded or absent, never linked, so its functions are looked up by name. If it is
//! absent, incomplete or refuses to attach, nothing changes.

use crate::record::fiber::Fiber;
use core::ffi::{CStr, c_char, c_int, c_void};
use core::mem::transmute_copy;
use std::sync::OnceLock;

/// The functions of the shim.
struct Shim {
    attach: extern "C" fn(*const c_void, *mut c_void, *mut *mut c_void) -> c_int,
    detach: extern "C" fn(*mut c_void) -> c_int,
    poll: extern "C" fn(*mut c_void, i64) -> c_int,
    wake: extern "C" fn(*mut c_void),
    in_flight: extern "C" fn(*const c_void) -> usize,
    describe: extern "C" fn(*const c_void, *const c_void, *mut c_char, usize) -> usize,
    /// This function and those below are optional: another implementation of the shim's interface
    /// may lack them.
    cancel: Option<extern "C" fn(*mut c_void, *const c_void) -> c_int>,
    leaving: Option<extern "C" fn(*mut c_void)>,
    prepare: Option<extern "C" fn(*mut c_void)>,
    all_blocked: Option<extern "C" fn(*const c_void) -> c_int>,
    is_asleep: Option<extern "C" fn(*const c_void) -> c_int>,
}

/// Looks the shim up before other threads could do so at the same time.
pub(crate) fn find() {
    shim();
}

/// Returns the shim if it is present.
fn shim() -> Option<&'static Shim> {
    static SHIM: OnceLock<Option<Shim>> = OnceLock::new();
    SHIM.get_or_init(|| {
        // SAFETY: the names and types are those of aioshim.h.
        unsafe {
            Some(Shim {
                attach: function(c"aioshim_attach")?,
                detach: function(c"aioshim_detach")?,
                poll: function(c"aioshim_poll")?,
                wake: function(c"aioshim_wake")?,
                in_flight: function(c"aioshim_in_flight")?,
                describe: function(c"aioshim_describe")?,
                cancel: function(c"aioshim_cancel"),
                leaving: function(c"aioshim_leaving"),
                prepare: function(c"aioshim_prepare"),
                all_blocked: function(c"aioshim_all_blocked"),
                is_asleep: function(c"aioshim_is_asleep"),
            })
        }
    })
    .as_ref()
}

/// Looks up a function of the shim.
///
/// # Safety
/// `F` is the function pointer type of the function `name`.
unsafe fn function<F: Copy>(name: &CStr) -> Option<F> {
    const { assert!(size_of::<F>() == size_of::<*mut c_void>()) };
    // SAFETY: dlsym only looks the name up.
    let symbol = unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) };
    // SAFETY: the caller guarantees that the symbol is a function of type `F`.
    (!symbol.is_null()).then(|| unsafe { transmute_copy(&symbol) })
}

/// An attached worker and the shim it is attached to.
#[derive(Clone, Copy)]
pub(crate) struct Attachment {
    shim: &'static Shim,
    thread: *mut c_void,
}

impl Attachment {
    /// Attaches the calling thread. `table` is an `aioshim_host_t`, and its callbacks get `data`.
    /// Returns `None` if there is no shim or it refuses.
    pub(crate) fn new(table: *const c_void, data: *mut c_void) -> Option<Attachment> {
        let shim = shim()?;
        let mut thread = core::ptr::null_mut();
        if (shim.attach)(table, data, &mut thread) != 0 || thread.is_null() {
            return None;
        }
        Some(Attachment { shim, thread })
    }

    /// Lets the shim open the descriptors that the calling thread needs. If there are several
    /// workers, that must be done before fibers run on any of them (worker/gate.rs).
    pub(crate) fn prepare(&self) {
        if let Some(prepare) = self.shim.prepare {
            prepare(self.thread);
        }
    }

    /// The shim's handle for the thread.
    pub(crate) fn thread(&self) -> *mut c_void {
        self.thread
    }

    /// Detaches the calling thread. No other thread may be in the middle of waking it.
    pub(crate) fn detach(self) {
        (self.shim.detach)(self.thread);
    }

    /// Lets the shim submit operations, reap completions and unpark fibers. Waits for up to
    /// `timeout` nanoseconds, or without limit if it is negative.
    pub(crate) fn poll(&self, timeout: i64) {
        (self.shim.poll)(self.thread, timeout);
    }

    /// The number of fibers parked on an operation that can still wake them.
    pub(crate) fn in_flight(&self) -> usize {
        (self.shim.in_flight)(self.thread)
    }

    /// Whether fibers of this thread are parked in the shim, and only another fiber or thread can
    /// wake them, because they wait for a lock without a time limit.
    pub(crate) fn all_blocked(&self) -> bool {
        self.shim
            .all_blocked
            .is_some_and(|all_blocked| all_blocked(self.thread) != 0)
    }

    /// Writes a description of the call that a fiber of this thread is parked in to `buf` and
    /// returns it. The result is empty if the shim does not know the fiber.
    pub(crate) fn describe<'a>(&self, fiber: &Fiber, buf: &'a mut [u8]) -> &'a [u8] {
        let fiber = (&raw const *fiber).cast();
        let full = (self.shim.describe)(self.thread, fiber, buf.as_mut_ptr().cast(), buf.len());
        &buf[..full.min(buf.len().saturating_sub(1))]
    }

    /// Interrupts the call that a fiber of this thread is parked in, if the call is a cancellation
    /// point.
    pub(crate) fn cancel(&self, fiber: &Fiber) {
        if let Some(cancel) = self.shim.cancel {
            cancel(self.thread, (&raw const *fiber).cast());
        }
    }

    /// Tells the shim that the running fiber is about to end without returning from its current
    /// call.
    pub(crate) fn leaving(&self) {
        if let Some(leaving) = self.shim.leaving {
            leaving(self.thread);
        }
    }
}

/// Whether an attached thread sleeps in the shim and no other thread has sent it anything. Assumed
/// if the shim cannot tell.
pub(crate) fn is_asleep(thread: *const c_void) -> bool {
    shim()
        .and_then(|shim| shim.is_asleep)
        .is_none_or(|is_asleep| is_asleep(thread) != 0)
}

/// Ends the sleep of an attached thread.
pub(crate) fn wake(thread: *mut c_void) {
    if let Some(shim) = shim() {
        (shim.wake)(thread);
    }
}
