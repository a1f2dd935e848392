//! The C side of the host table: the `aioshim_*` functions that shim/include/aioshim.h declares.

pub mod main_fiber;
pub mod remote;

use crate::calls::thread_state;
use crate::calls::via::callback;
use crate::context;
use crate::engine::Wait;
use crate::entry::{fork, init};
use crate::runtime::thread::Thread;
use crate::runtime::{holds, position, signal};
use crate::state::descriptors;
use crate::stdio;
use policy::Alone;
use std::ffi::{c_char, c_int, c_uint, c_void};
use std::ptr::null;
use std::sync::atomic::{AtomicPtr, AtomicU32, Ordering};
use sys::errno::Errno;

/// `aioshim_host_t`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Table {
    pub size: usize,
    pub running: unsafe extern "C" fn(*mut c_void) -> *mut c_void,
    pub park: unsafe extern "C" fn(*mut c_void),
    pub unpark: unsafe extern "C" fn(*mut c_void, *mut c_void),
    pub runnable: unsafe extern "C" fn(*mut c_void) -> c_uint,
    pub wake: unsafe extern "C" fn(*mut c_void),
    pub alone: Option<unsafe extern "C" fn(*mut c_void) -> c_int>,
    pub watch: Option<unsafe extern "C" fn(*mut c_void, *mut Watch)>,
    pub name: Option<unsafe extern "C" fn(*mut c_void, *const c_void, *mut c_char, usize) -> usize>,
    pub cancelled: Option<unsafe extern "C" fn(*mut c_void)>,
    pub keeps_runtimes: c_int,
    /// `AIOSHIM_HOST_*`.
    pub flags: u64,
}

/// `AIOSHIM_HOST_PLAIN_LOCKS`.
const PLAIN_LOCKS: u64 = 1;
/// `AIOSHIM_HOST_FORKS`.
pub const FORKS: u64 = 2;
/// `AIOSHIM_HOST_SLEEPS_IN_POLL`.
pub const SLEEPS_IN_POLL: u64 = 4;

/// `aioshim_watch_t`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Watch {
    pub turns: *const AtomicU32,
    pub running: *const AtomicPtr<c_void>,
}

/// The size of the version 0.1 table up to its mandatory callbacks; `alone` and all later fields
/// are optional.
const SIZE_WITHOUT_ALONE: usize = std::mem::offset_of!(Table, alone);

/// A host's callbacks, and the argument that each of them gets.
#[derive(Clone, Copy)]
pub struct Host {
    pub table: Table,
    pub data: *mut c_void,
    /// The word in which the host publishes the running fiber, read instead of calling `running`;
    /// null if the host publishes none.
    shown: *const AtomicPtr<c_void>,
    /// The host has one fiber, which parks by polling inside `park`; no other fiber runs while it
    /// is parked ([`main_fiber`]).
    pub in_place: bool,
    /// The host keeps its fibers' exceptions and locales apart by itself.
    pub keeps_runtimes: bool,
}

impl Host {
    pub fn new(table: Table, data: *mut c_void, in_place: bool) -> Self {
        let host = Self {
            table,
            data,
            shown: null(),
            in_place,
            keeps_runtimes: table.keeps_runtimes != 0,
        };
        Self {
            shown: host.watch().map_or(null(), |watch| watch.running),
            ..host
        }
    }

    /// # Safety
    /// `table` points to an `aioshim_host_t` of the size that its first field gives.
    unsafe fn read(table: *const Table, data: *mut c_void) -> Result<Self, Errno> {
        if table.is_null() {
            return Err(Errno::INVAL);
        }
        // SAFETY: every version has the size field, and no more bytes than it says are read.
        unsafe {
            let size = (&raw const (*table).size).read();
            if size < SIZE_WITHOUT_ALONE {
                return Err(Errno::INVAL);
            }
            // The mandatory callbacks are function pointers and must not be null.
            let words = std::slice::from_raw_parts(table.cast::<usize>().add(1), 5);
            if words.contains(&0) {
                return Err(Errno::INVAL);
            }
            let mut copy = std::mem::MaybeUninit::<Table>::zeroed();
            std::ptr::copy_nonoverlapping(
                table.cast::<u8>(),
                copy.as_mut_ptr().cast::<u8>(),
                size.min(size_of::<Table>()),
            );
            Ok(Self::new(copy.assume_init(), data, false))
        }
    }

    /// Whether the shim leaves locks to libc on this host's fibers.
    pub fn leaves_locks(&self) -> bool {
        self.table.flags & PLAIN_LOCKS != 0
    }

    /// Whether the host, in the child of a fork, runs only the fiber that forked.
    pub fn forks(&self) -> bool {
        self.table.flags & FORKS != 0
    }

    /// Whether the host's threads may sleep outside of aioshim_poll.
    pub fn sleeps_elsewhere(&self) -> bool {
        self.table.flags & SLEEPS_IN_POLL == 0
    }

    /// The running fiber, if the host publishes it.
    #[inline(always)]
    pub fn running_shown(&self) -> Option<*mut c_void> {
        // SAFETY: the host keeps the published word in place until the detach (aioshim.h).
        unsafe { self.shown.as_ref() }.map(|shown| shown.load(Ordering::Relaxed))
    }

    #[inline(always)]
    pub fn running(&self) -> *mut c_void {
        // SAFETY: the host keeps the published word in place until the detach (aioshim.h);
        // otherwise this calls an attached host's callback, on its thread.
        unsafe {
            match self.shown.as_ref() {
                Some(shown) => shown.load(Ordering::Relaxed),
                None => (self.table.running)(self.data),
            }
        }
    }

    #[inline]
    pub fn park(&self) {
        // SAFETY: a callback of an attached host, called on its thread (aioshim.h) while a fiber
        // runs.
        unsafe { (self.table.park)(self.data) }
    }

    #[inline]
    pub fn unpark(&self, fiber: *mut c_void) {
        // SAFETY: a callback of an attached host, called on its thread; the host gave us `fiber`,
        // which is parked or about to park.
        unsafe { (self.table.unpark)(self.data, fiber) }
    }

    #[inline]
    pub fn runnable(&self) -> u32 {
        // SAFETY: a callback of an attached host, called on its thread (aioshim.h).
        unsafe { (self.table.runnable)(self.data) }
    }

    #[inline]
    pub fn alone(&self) -> Alone {
        // SAFETY: a callback of an attached host, called on its thread (aioshim.h).
        let ask = |alone: unsafe extern "C" fn(*mut c_void) -> c_int| unsafe { alone(self.data) };
        match self.table.alone.map_or(0, ask) {
            ..=0 => Alone::No,
            1 => Alone::ForNow,
            2.. => Alone::Entirely,
        }
    }
}

impl Host {
    /// The words through which other threads may observe this one; None if the host gives none.
    pub fn watch(&self) -> Option<Watch> {
        let mut watch = Watch {
            turns: std::ptr::null(),
            running: std::ptr::null(),
        };
        // SAFETY: a callback of an attached host, called on its thread (aioshim.h); it writes two
        // words.
        unsafe { self.table.watch?(self.data, &mut watch) };
        (!watch.turns.is_null() && !watch.running.is_null()).then_some(watch)
    }

    /// Lets the host end the running fiber if it was cancelled; then this does not return. Called
    /// only while the fiber's call has had no effect.
    #[cold]
    pub fn cancelled(&self) {
        if let Some(cancelled) = self.table.cancelled {
            // SAFETY: a callback of an attached host, called on its thread; a fiber is running, and
            // its stack holds nothing of the shim that must be dropped.
            unsafe { cancelled(self.data) };
        }
    }

    /// A readable name of `fiber`, which ran a moment ago. From any thread.
    pub fn name(&self, fiber: *const c_void) -> String {
        let mut text = [0_u8; 64];
        if let Some(name) = self.table.name {
            // SAFETY: an attached host's callback that may be called from any thread; it writes at
            // most `text.len()` bytes.
            let n = unsafe { name(self.data, fiber, text.as_mut_ptr().cast(), text.len()) };
            String::from_utf8_lossy(&text[..n.min(text.len() - 1)]).into_owned()
        } else {
            format!("fiber {fiber:?}")
        }
    }
}

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
    table: *const Table,
    data: *mut c_void,
    out: *mut *mut Thread,
) -> c_int {
    // SAFETY: our caller makes the same promise.
    code(unsafe { attach(table, data, out) })
}

/// # Safety
/// The same as for [`aioshim_attach`].
unsafe fn attach(
    table: *const Table,
    data: *mut c_void,
    out: *mut *mut Thread,
) -> Result<(), Errno> {
    init::ensure();
    if out.is_null() {
        return Err(Errno::INVAL);
    }
    // SAFETY: our caller makes the same promise.
    let host = unsafe { Host::read(table, data) }?;
    if !init::conf().on {
        return Err(Errno::NOTSUP);
    }
    main_fiber::give_way();
    let before = context::attached().cast_mut().cast::<Thread>();
    // SAFETY: null, or this thread's own handle, which lives while it is attached.
    match unsafe { before.as_ref() } {
        None => {}
        // In the child of a fork the host attaches again.
        Some(thread) if thread.awaits_host() => {
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
        descriptors::init();
        holds::init();
        signal::wrap_all();
        stdio::convert();
        Thread::new(host)
    })?;
    let thread = Box::into_raw(Box::new(thread));
    position::attached();
    // SAFETY: the slot is at the start of the Thread, which stays in place until the detach.
    unsafe { context::attach(thread.cast()) };
    Ok(thread)
}

/// # Safety
/// `thread` is attached, and is the calling thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn aioshim_prepare(thread: *mut Thread) {
    // SAFETY: the handle lives while the thread is attached.
    unsafe { &*thread }.engine();
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
    position::detached();
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
    if callback::is_talking(thread) {
        callback::end_left(thread, thread.host().running(), |_| true);
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
/// `thread` is attached, and is the calling thread; `buf` has `len` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn aioshim_describe(
    thread: *const Thread,
    fiber: *const c_void,
    buf: *mut c_char,
    len: usize,
) -> usize {
    // SAFETY: the handle lives while the thread is attached.
    let Some(text) = unsafe { &*thread }.describe(fiber) else {
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
