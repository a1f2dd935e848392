//! The C side of the host table: the `aioshim_*` functions that shim/include/aioshim.h declares.

use super::{fork, init, main_fiber, stdio};
use crate::calls::thread_state;
use crate::context;
use crate::engine::Wait;
use crate::host::{self, Host, HostTable};
use crate::runtime::language::FiberValues;
use crate::runtime::signal;
use crate::runtime::thread::Thread;
use crate::state::{attached, descriptors, holds, options};
use std::ffi::{c_char, c_int, c_uint, c_void};
use sys::errno::Errno;

/// `aioshim_values_t`: room for [`FiberValues`], and more for later versions.
#[repr(C)]
pub struct SavedValues([usize; 8]);

const _: () = assert!(size_of::<FiberValues>() <= size_of::<SavedValues>());

fn code(result: Result<(), Errno>) -> c_int {
    result.map_or_else(|errno| errno.0, |()| 0)
}

#[unsafe(no_mangle)]
pub extern "C" fn aioshim_version() -> c_uint {
    // The package's version. aioshim.h repeats it, and a test compares the two.
    let mut parts = env!("CARGO_PKG_VERSION")
        .split('.')
        .map(|part| part.parse::<c_uint>().unwrap_or(0));
    let mut part = || parts.next().unwrap_or(0);
    part() << 16 | part() << 8 | part()
}

/// # Safety
/// See aioshim.h: `table` outlives the attachment, and `out` is writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn aioshim_attach(
    table: *const HostTable,
    data: *mut c_void,
    out: *mut *mut Thread,
) -> c_int {
    // SAFETY: our caller makes the same promise.
    code(unsafe { attach(table, data, out) })
}

/// # Safety
/// The same as for [`aioshim_attach`].
unsafe fn attach(
    table: *const HostTable,
    data: *mut c_void,
    out: *mut *mut Thread,
) -> Result<(), Errno> {
    init::ensure();
    if out.is_null() {
        return Err(Errno::INVAL);
    }
    // SAFETY: our caller makes the same promise.
    let host = unsafe { Host::read(table, data) }?;
    if !options::current().on {
        return Err(Errno::NOTSUP);
    }
    main_fiber::release_main();
    let before = context::attached().cast_mut().cast::<Thread>();
    // SAFETY: null, or this thread's own handle, which lives while it is attached.
    match unsafe { before.as_ref() } {
        None => {}
        // In the child of a fork the host attaches again.
        Some(thread) if thread.conversion().awaits_host() => {
            // SAFETY: this thread's own handle, which the host no longer uses.
            unsafe { aioshim_detach(before) };
        }
        Some(_) => return Err(Errno::BUSY),
    }
    let thread = attach_to(host)?;
    // SAFETY: not null (checked above); the caller promises that it is writable.
    unsafe { out.write(thread) };
    Ok(())
}

/// Attaches the calling thread, which must not be attached yet, to `host`.
pub fn attach_to(host: Host) -> Result<*mut Thread, Errno> {
    if thread_state::is_confined() {
        return Err(Errno::NOTSUP);
    }
    let thread = fork::attaching(|| {
        init::prepare();
        descriptors::init();
        holds::init();
        signal::wrap_all();
        stdio::convert();
        Thread::new(host)
    })?;
    let thread = Box::into_raw(Box::new(thread));
    attached::note_attach();
    // SAFETY: the slot is at the start of the Thread, which stays in place until the detach.
    unsafe { context::attach(thread.cast()) };
    Ok(thread)
}

/// # Safety
/// `thread` is attached, and is the calling thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn aioshim_prepare(thread: *mut Thread) {
    // SAFETY: the handle lives while the thread is attached.
    unsafe { &*thread }.engine().is_available();
}

/// The `AIOSHIM_HOST_*` flags that this version heeds, and the `AIOSHIM_FEATURE_*` bits.
#[unsafe(no_mangle)]
pub extern "C" fn aioshim_features() -> u64 {
    host::FLAGS | host::FEATURES
}

/// # Safety
/// `thread` came from [`aioshim_attach`] and was not detached.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn aioshim_detach(thread: *mut Thread) -> c_int {
    if thread.is_null() || !std::ptr::eq(thread.cast(), context::attached()) {
        return Errno::INVAL.0;
    }
    // SAFETY: the calling thread's own handle (just checked), and no function that borrows it is
    // running.
    if !unsafe { &mut *thread }.close() {
        return Errno::BUSY.0;
    }
    // SAFETY: the handle lives while the thread is attached, and it is until the next statement.
    let attached = unsafe { &*thread };
    context::stay_off(attached.slot());
    attached.handle_signals(None);
    context::forget();
    attached::note_detach();
    // SAFETY: `attach_to` made it as a Box, and nothing refers to it any more.
    drop(unsafe { Box::from_raw(thread) });
    0
}

/// # Safety
/// `thread` is attached, and is the calling thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn aioshim_poll(thread: *mut Thread, timeout_ns: i64) -> c_int {
    let wait = match timeout_ns {
        0 => Wait::No,
        1.. => Wait::Nanos(timeout_ns as u64),
        _ => Wait::Forever,
    };
    // SAFETY: the handle lives while the thread is attached.
    unsafe { &*thread }
        .poll(wait)
        .try_into()
        .unwrap_or(c_int::MAX)
}

/// # Safety
/// `thread` is attached.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn aioshim_wake(thread: *mut Thread) {
    // SAFETY: the handle lives while the thread is attached, and `remote` never changes in that
    // time.
    unsafe { &*thread }.remote().wake();
}

/// # Safety
/// `thread` is attached, and is the calling thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn aioshim_fd(thread: *mut Thread) -> c_int {
    // SAFETY: the handle lives while the thread is attached.
    unsafe { &*thread }.ready_descriptor().unwrap_or(-1)
}

/// # Safety
/// `thread` is attached, and is the calling thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn aioshim_arm(thread: *mut Thread) -> i64 {
    // SAFETY: the handle lives while the thread is attached.
    match unsafe { &*thread }.arm() {
        Wait::No => 0,
        Wait::Nanos(nanos) => nanos.try_into().unwrap_or(i64::MAX),
        Wait::Forever => -1,
    }
}

/// # Safety
/// `thread` is attached, and is the calling thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn aioshim_watch_fd(thread: *mut Thread, fd: c_int, events: u32) -> c_int {
    // SAFETY: the handle lives while the thread is attached.
    code(unsafe { &*thread }.watch_descriptor(fd, events))
}

/// # Safety
/// `thread` is attached, and is the calling thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn aioshim_ended(thread: *mut Thread, fiber: *mut c_void) {
    // SAFETY: the handle lives while the thread is attached.
    unsafe { &*thread }.forget_fiber(fiber);
}

/// # Safety
/// `thread` is attached, and is the calling thread; `out` is writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn aioshim_save(thread: *mut Thread, out: *mut SavedValues) {
    // SAFETY: the handle lives while the thread is attached, and our caller promises `out`, which
    // is larger.
    unsafe { out.cast::<FiberValues>().write((*thread).runtimes().save()) };
}

/// # Safety
/// `thread` is attached, and is the calling thread; `saved` was filled by [`aioshim_save`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn aioshim_restore(thread: *mut Thread, saved: *const SavedValues) {
    // SAFETY: the handle lives while the thread is attached, and our caller promises `saved`.
    unsafe { (*thread).runtimes().restore(&*saved.cast::<FiberValues>()) };
}

/// # Safety
/// `thread` is attached, and is the calling thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn aioshim_in_flight(thread: *const Thread) -> usize {
    // SAFETY: the handle lives while the thread is attached.
    unsafe { &*thread }.in_flight()
}

/// # Safety
/// `thread` is attached, and is the calling thread, on the fiber.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn aioshim_leaving(thread: *mut Thread) {
    // SAFETY: the handle lives while the thread is attached.
    let thread = unsafe { &*thread };
    let callbacks = thread.callbacks();
    if callbacks.any() {
        callbacks.end_abandoned(thread.host().running(), |_| true);
    }
}

/// # Safety
/// `thread` is attached, and is the calling thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn aioshim_cancel(thread: *mut Thread, fiber: *const c_void) -> c_int {
    // SAFETY: the handle lives while the thread is attached.
    if unsafe { &*thread }.cancel(fiber) {
        0
    } else {
        Errno::SRCH.0
    }
}

/// # Safety
/// `thread` is attached, and is the calling thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn aioshim_expire(thread: *mut Thread, fiber: *const c_void) -> c_int {
    // SAFETY: the handle lives while the thread is attached.
    if unsafe { &*thread }.expire(fiber) {
        0
    } else {
        Errno::SRCH.0
    }
}

/// # Safety
/// `thread` is attached, and is the calling thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn aioshim_blocked(thread: *const Thread) -> usize {
    // SAFETY: the handle lives while the thread is attached.
    unsafe { &*thread }.blocked()
}

/// # Safety
/// `thread` is attached, and is the calling thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn aioshim_all_blocked(thread: *const Thread) -> c_int {
    // SAFETY: the handle lives while the thread is attached.
    c_int::from(unsafe { &*thread }.all_blocked())
}

/// # Safety
/// `thread` is attached.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn aioshim_is_asleep(thread: *const Thread) -> c_int {
    // SAFETY: the handle lives while the thread is attached, and `remote` never changes in that
    // time.
    c_int::from(unsafe { &*thread }.remote().is_asleep())
}

/// # Safety
/// `thread` is attached, and is the calling thread; `buf` has `len` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn aioshim_describe(
    thread: *const Thread,
    fiber: *const c_void,
    buf: *mut c_char,
    len: usize,
) -> usize {
    // SAFETY: the handle lives while the thread is attached.
    let Some(text) = unsafe { &*thread }.operations().describe(fiber) else {
        return 0;
    };
    if len > 0 && !buf.is_null() {
        let n = text.len().min(len - 1);
        // SAFETY: the caller gives `len` bytes at `buf`, and n + 1 <= len.
        unsafe {
            std::ptr::copy_nonoverlapping(text.as_ptr().cast(), buf, n);
            buf.add(n).write(0);
        }
    }
    text.len()
}
