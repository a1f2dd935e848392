//! The C side of the host table: `aioshim_*`, as shim/include/aioshim.h has them.

use crate::calls::{converse, thread_state};
use crate::engine::Wait;
use crate::errno::Errno;
use crate::policy::Alone;
use crate::thread::Thread;
use crate::{fds, fork, holds, main_fiber, position, signal, start, stdio, tls};
use std::ffi::{c_char, c_int, c_uint, c_void};
use std::ptr::null;
use std::sync::atomic::{AtomicPtr, AtomicU32, Ordering};

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

/// The size of the table of version 0.1, whose last verb is optional.
const SIZE_WITHOUT_ALONE: usize = std::mem::offset_of!(Table, alone);

/// A host's verbs, and the argument it wants back in each.
#[derive(Clone, Copy)]
pub struct Host {
    pub table: Table,
    pub data: *mut c_void,
    /// Where it shows which fiber runs, so that it need not be asked; null where it does not.
    shown: *const AtomicPtr<c_void>,
    /// Its one fiber parks where it is, inside of `park`: nobody else runs meanwhile
    /// ([`main_fiber`]).
    pub in_place: bool,
    /// It keeps its fibers' exceptions and locales apart by itself.
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
    /// `table` points to an `aioshim_host_t` of the size its first field says.
    unsafe fn read(table: *const Table, data: *mut c_void) -> Result<Self, Errno> {
        if table.is_null() {
            return Err(Errno::INVAL);
        }
        // SAFETY: the size field is there in every version; at most that many bytes are read.
        unsafe {
            let size = (&raw const (*table).size).read();
            if size < SIZE_WITHOUT_ALONE {
                return Err(Errno::INVAL);
            }
            // The verbs are function pointers that must not be null.
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

    /// Whether calls on locks stay libc's on its fibers.
    pub fn leaves_locks(&self) -> bool {
        self.table.flags & PLAIN_LOCKS != 0
    }

    /// Whether, in the child of a fork, it runs no fiber but the one that forked.
    pub fn forks(&self) -> bool {
        self.table.flags & FORKS != 0
    }

    /// Whether its threads may sleep elsewhere than in aioshim_poll.
    pub fn sleeps_elsewhere(&self) -> bool {
        self.table.flags & SLEEPS_IN_POLL == 0
    }

    /// The running fiber, where that is to be had without a call.
    #[inline(always)]
    pub fn running_shown(&self) -> Option<*mut c_void> {
        // SAFETY: as in `running`.
        unsafe { self.shown.as_ref() }.map(|shown| shown.load(Ordering::Relaxed))
    }

    #[inline(always)]
    pub fn running(&self) -> *mut c_void {
        // SAFETY: where it shows the fiber, that word stays until the detach (aioshim.h); a verb of
        // an attached host, on its thread.
        unsafe {
            match self.shown.as_ref() {
                Some(shown) => shown.load(Ordering::Relaxed),
                None => (self.table.running)(self.data),
            }
        }
    }

    #[inline]
    pub fn park(&self) {
        // SAFETY: a verb of an attached host, on its thread (aioshim.h); a fiber is running.
        unsafe { (self.table.park)(self.data) }
    }

    #[inline]
    pub fn unpark(&self, fiber: *mut c_void) {
        // SAFETY: a verb of an attached host, on its thread; `fiber` is one that it named and that
        // is parked or about to be.
        unsafe { (self.table.unpark)(self.data, fiber) }
    }

    #[inline]
    pub fn runnable(&self) -> u32 {
        // SAFETY: a verb of an attached host, on its thread (aioshim.h).
        unsafe { (self.table.runnable)(self.data) }
    }

    #[inline]
    pub fn alone(&self) -> Alone {
        // SAFETY: a verb of an attached host, on its thread (aioshim.h).
        let ask = |alone: unsafe extern "C" fn(*mut c_void) -> c_int| unsafe { alone(self.data) };
        match self.table.alone.map_or(0, ask) {
            ..=0 => Alone::No,
            1 => Alone::ForNow,
            2.. => Alone::Entirely,
        }
    }
}

impl Host {
    /// Where other threads may look at this one; None where the host does not say.
    pub fn watch(&self) -> Option<Watch> {
        let mut watch = Watch {
            turns: std::ptr::null(),
            running: std::ptr::null(),
        };
        // SAFETY: a verb of an attached host, on its thread (aioshim.h); it writes two words.
        unsafe { self.table.watch?(self.data, &mut watch) };
        (!watch.turns.is_null() && !watch.running.is_null()).then_some(watch)
    }

    /// Lets the host end the running fiber, in whose call nothing has happened, if it was
    /// cancelled: then this does not return.
    #[cold]
    pub fn cancelled(&self) {
        if let Some(cancelled) = self.table.cancelled {
            // SAFETY: a verb of an attached host, on its thread; a fiber is running, and its stack
            // holds nothing of ours that must be dropped.
            unsafe { cancelled(self.data) };
        }
    }

    /// What people call `fiber`, which ran a moment ago. From any thread.
    pub fn name(&self, fiber: *const c_void) -> String {
        let mut text = [0_u8; 64];
        if let Some(name) = self.table.name {
            // SAFETY: a verb of an attached host that may be called from any thread; it writes at
            // most so many bytes.
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
    // The package's version, which aioshim.h repeats; a test compares.
    let mut parts = env!("CARGO_PKG_VERSION")
        .split('.')
        .map(|part| part.parse::<c_uint>().unwrap_or(0));
    let mut part = || parts.next().unwrap_or(0);
    part() << 16 | part() << 8 | part()
}

/// # Safety
/// As aioshim.h says: `table` outlives the attachment, `out` can be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn aioshim_attach(
    table: *const Table,
    data: *mut c_void,
    out: *mut *mut Thread,
) -> c_int {
    // SAFETY: passed on to our caller.
    code(unsafe { attach(table, data, out) })
}

/// # Safety
/// As [`aioshim_attach`].
unsafe fn attach(
    table: *const Table,
    data: *mut c_void,
    out: *mut *mut Thread,
) -> Result<(), Errno> {
    start::ensure();
    if out.is_null() {
        return Err(Errno::INVAL);
    }
    // SAFETY: passed on to our caller.
    let host = unsafe { Host::read(table, data) }?;
    if !start::conf().on {
        return Err(Errno::NOTSUP);
    }
    main_fiber::give_way();
    let before = tls::attached().cast_mut();
    // SAFETY: null, or this thread's own, alive while attached.
    match unsafe { before.as_ref() } {
        None => {}
        // In the child of a fork the host begins anew.
        Some(thread) if thread.awaits_host() => {
            // SAFETY: this thread's own handle, which the host does not use any more.
            unsafe { aioshim_detach(before) };
        }
        Some(_) => return Err(Errno::BUSY),
    }
    let thread = attach_to(host)?;
    // SAFETY: not null; the caller vouches for the rest.
    unsafe { out.write(thread) };
    Ok(())
}

/// Attaches the calling thread, which is not, to `host`.
pub fn attach_to(host: Host) -> Result<*mut Thread, Errno> {
    if thread_state::is_confined() {
        return Err(Errno::NOTSUP);
    }
    let thread = fork::attaching(|| {
        fds::init();
        holds::init();
        signal::wrap_all();
        stdio::convert();
        Thread::new(host)
    })?;
    let thread = Box::into_raw(Box::new(thread));
    position::attached();
    tls::set_attached(thread);
    tls::set_here(thread);
    Ok(thread)
}

/// # Safety
/// `thread` is attached, and is the calling thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn aioshim_prepare(thread: *mut Thread) {
    // SAFETY: alive while attached.
    unsafe { &*thread }.engine();
}

/// # Safety
/// `thread` came from [`aioshim_attach`] and was not detached.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn aioshim_detach(thread: *mut Thread) -> c_int {
    if thread.is_null() || !std::ptr::eq(thread, tls::attached()) {
        return Errno::INVAL.0;
    }
    // SAFETY: the calling thread's own (just checked), and it is in none of the functions that
    // borrow it.
    if !unsafe { &mut *thread }.close() {
        return Errno::BUSY.0;
    }
    tls::set_here(std::ptr::null());
    // SAFETY: attached until below.
    unsafe { &*thread }.handle_signals(None);
    tls::set_attached(std::ptr::null());
    position::detached();
    // SAFETY: made by `attach` as a Box; nothing refers to it any more.
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
    // SAFETY: alive while attached.
    unsafe { &*thread }
        .poll(wait)
        .try_into()
        .unwrap_or(c_int::MAX)
}

/// # Safety
/// `thread` is attached.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn aioshim_wake(thread: *mut Thread) {
    // SAFETY: alive while attached; `remote` never changes while it is.
    unsafe { &*thread }.remote().wake();
}

/// # Safety
/// `thread` is attached, and is the calling thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn aioshim_in_flight(thread: *const Thread) -> usize {
    // SAFETY: alive while attached.
    unsafe { &*thread }.in_flight()
}

/// # Safety
/// `thread` is attached, and is the calling thread, on the fiber.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn aioshim_leaving(thread: *mut Thread) {
    // SAFETY: alive while attached.
    let thread = unsafe { &*thread };
    if converse::is_talking(thread) {
        converse::end_left(thread, thread.host().running(), |_| true);
    }
}

/// # Safety
/// `thread` is attached, and is the calling thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn aioshim_cancel(thread: *mut Thread, fiber: *const c_void) -> c_int {
    // SAFETY: alive while attached.
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
    // SAFETY: alive while attached.
    let Some(text) = unsafe { &*thread }.describe(fiber) else {
        return 0;
    };
    if len > 0 && !buf.is_null() {
        let n = text.len().min(len - 1);
        // SAFETY: `buf` has `len` bytes, and n + 1 <= len.
        unsafe {
            std::ptr::copy_nonoverlapping(text.as_ptr().cast(), buf, n);
            buf.add(n).write(0);
        }
    }
    text.len()
}
