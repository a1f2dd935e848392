//! The host: the scheduler that attached a thread, and how the shim calls it.
//!
//! [`Host`] holds the callbacks of shim/include/aioshim.h. [`remote`] is the part of an attached
//! thread that other threads use.

pub mod remote;

use policy::Contention;
use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::ptr::null;
use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering};
use sys::errno::Errno;

/// Identifies a wait of a thread's fiber: what ends the wait carries the token that it began with.
pub type Token = u32;

/// `aioshim_host_t`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct HostTable {
    pub size: usize,
    pub running: unsafe extern "C" fn(*mut c_void) -> *mut c_void,
    pub park: unsafe extern "C" fn(*mut c_void),
    pub unpark: unsafe extern "C" fn(*mut c_void, *mut c_void),
    pub runnable: unsafe extern "C" fn(*mut c_void) -> c_uint,
    pub wake: unsafe extern "C" fn(*mut c_void),
    pub alone: Option<unsafe extern "C" fn(*mut c_void) -> c_int>,
    pub watch: Option<unsafe extern "C" fn(*mut c_void, *mut HostProbe)>,
    pub name: Option<unsafe extern "C" fn(*mut c_void, *const c_void, *mut c_char, usize) -> usize>,
    pub cancelled: Option<unsafe extern "C" fn(*mut c_void)>,
    pub keeps_runtimes: c_int,
    /// `AIOSHIM_HOST_*`.
    pub flags: u64,
    // Version 2.
    pub r#yield: Option<unsafe extern "C" fn(*mut c_void)>,
    pub library: *const c_char,
    pub counts: Option<unsafe extern "C" fn(*mut c_void, *mut FiberCounts)>,
}

/// `AIOSHIM_HOST_PLAIN_LOCKS`.
const PLAIN_LOCKS: u64 = 1;
/// `AIOSHIM_HOST_FORKS`.
pub const FORKS: u64 = 2;
/// `AIOSHIM_HOST_SLEEPS_IN_POLL`.
pub const SLEEPS_IN_POLL: u64 = 4;
/// `AIOSHIM_HOST_NO_YIELDS`.
const NO_YIELDS: u64 = 8;

/// All flags that this version knows.
pub const FLAGS: u64 = PLAIN_LOCKS | FORKS | SLEEPS_IN_POLL | NO_YIELDS;
/// All `AIOSHIM_FEATURE_*` bits.
pub const FEATURES: u64 = 0x7f << 32;

/// `aioshim_watch_t`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct HostProbe {
    pub turns: *const AtomicU32,
    pub running: *const AtomicPtr<c_void>,
}

/// `aioshim_counts_t`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct FiberCounts {
    pub started: *const AtomicU64,
    pub ended: *const AtomicU64,
}

/// How many fibers of one thread have started and ended: words of its host.
pub struct FiberCounters(FiberCounts);

// SAFETY: any thread may read the words until the thread detaches (aioshim.h), and the owner drops
// this before.
unsafe impl Send for FiberCounters {}
// SAFETY: as for `Send`.
unsafe impl Sync for FiberCounters {}

impl FiberCounters {
    /// How many fibers have started, and how many of them have ended.
    pub fn read(&self) -> [u64; 2] {
        // SAFETY: neither is null (`Host::counters`), and the host keeps both in place until the
        // detach (aioshim.h).
        let [started, ended] = unsafe { [&*self.0.started, &*self.0.ended] };
        [started, ended].map(|word| word.load(Ordering::Relaxed))
    }
}

/// The size of the version 0.1 table up to its mandatory callbacks; `alone` and all later fields
/// are optional.
const SIZE_WITHOUT_ALONE: usize = std::mem::offset_of!(HostTable, alone);

/// A host's callbacks, and the argument that each of them gets.
#[derive(Clone, Copy)]
pub struct Host {
    pub table: HostTable,
    pub data: *mut c_void,
    /// The word in which the host publishes the running fiber, read instead of calling `running`;
    /// null if the host publishes none.
    published: *const AtomicPtr<c_void>,
    /// The host has one fiber, which parks by polling inside `park`; no other fiber runs while it
    /// is parked. `entry/main_fiber.rs` is the only such host.
    pub in_place: bool,
    /// For such a host: notes that the fiber runs again without a return from `park`.
    resumed_in_place: Option<fn(*mut c_void)>,
    /// The host keeps its fibers' exceptions and locales apart by itself.
    pub keeps_runtimes: bool,
}

impl Host {
    /// `resumed_in_place` is given if the host parks its only fiber in place.
    pub fn new(
        table: HostTable,
        data: *mut c_void,
        resumed_in_place: Option<fn(*mut c_void)>,
    ) -> Self {
        let host = Self {
            table,
            data,
            published: null(),
            in_place: resumed_in_place.is_some(),
            resumed_in_place,
            keeps_runtimes: table.keeps_runtimes != 0,
        };
        Self {
            published: host.probe().map_or(null(), |probe| probe.running),
            ..host
        }
    }

    /// # Safety
    /// `table` points to an `aioshim_host_t` of the size that its first field gives.
    pub unsafe fn read(table: *const HostTable, data: *mut c_void) -> Result<Self, Errno> {
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
            let mut copy = std::mem::MaybeUninit::<HostTable>::zeroed();
            std::ptr::copy_nonoverlapping(
                table.cast::<u8>(),
                copy.as_mut_ptr().cast::<u8>(),
                size.min(size_of::<HostTable>()),
            );
            Ok(Self::new(copy.assume_init(), data, None))
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

    /// Whether the host refuses that a fiber yields in a call that does not wait.
    pub fn refuses_yields(&self) -> bool {
        self.table.flags & NO_YIELDS != 0
    }

    /// The running fiber, if the host publishes it.
    #[inline(always)]
    pub fn published_fiber(&self) -> Option<*mut c_void> {
        // SAFETY: the host keeps the published word in place until the detach (aioshim.h).
        unsafe { self.published.as_ref() }.map(|published| published.load(Ordering::Relaxed))
    }

    #[inline(always)]
    pub fn running(&self) -> *mut c_void {
        // SAFETY: the host keeps the published word in place until the detach (aioshim.h);
        // otherwise this calls an attached host's callback, on its thread.
        unsafe {
            match self.published.as_ref() {
                Some(published) => published.load(Ordering::Relaxed),
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

    /// The fiber of a host that parks in place runs again without a return from `park`.
    pub fn note_resumed_in_place(&self) {
        if let Some(resumed_in_place) = self.resumed_in_place {
            resumed_in_place(self.data);
        }
    }

    #[inline]
    pub fn unpark(&self, fiber: *mut c_void) {
        // SAFETY: a callback of an attached host, called on its thread; the host gave us `fiber`,
        // which is parked or about to park.
        unsafe { (self.table.unpark)(self.data, fiber) }
    }

    /// The host's own way to let other fibers run, which returns on the running fiber; None if it
    /// has none.
    pub fn own_yield(&self) -> Option<impl Fn()> {
        let r#yield = self.table.r#yield?;
        // SAFETY: a callback of an attached host, called on its thread (aioshim.h) while a fiber
        // runs.
        Some(move || unsafe { r#yield(self.data) })
    }

    #[inline]
    pub fn runnable(&self) -> u32 {
        // SAFETY: a callback of an attached host, called on its thread (aioshim.h).
        unsafe { (self.table.runnable)(self.data) }
    }

    /// The answer of the callback `alone`.
    #[inline]
    fn alone(&self) -> c_int {
        // SAFETY: a callback of an attached host, called on its thread (aioshim.h).
        let ask = |alone: unsafe extern "C" fn(*mut c_void) -> c_int| unsafe { alone(self.data) };
        self.table.alone.map_or(0, ask)
    }

    /// Whether the host says that all its runnable fibers yielded in the middle of their work.
    pub fn others_can_wait(&self) -> bool {
        self.alone() < 0
    }

    #[inline]
    pub fn contention(&self) -> Contention {
        match self.alone() {
            ..=0 => Contention::OthersRunnable,
            1 => Contention::NoneNow,
            2.. => Contention::SoleFiber,
        }
    }
}

impl Host {
    /// The words through which other threads may observe this one; None if the host gives none.
    pub fn probe(&self) -> Option<HostProbe> {
        let mut probe = HostProbe {
            turns: std::ptr::null(),
            running: std::ptr::null(),
        };
        // SAFETY: a callback of an attached host, called on its thread (aioshim.h); it writes two
        // words.
        unsafe { self.table.watch?(self.data, &mut probe) };
        (!probe.turns.is_null() && !probe.running.is_null()).then_some(probe)
    }

    /// The words in which the host counts its fibers; None if it gives none.
    pub fn counters(&self) -> Option<FiberCounters> {
        let mut counts = FiberCounts {
            started: null(),
            ended: null(),
        };
        // SAFETY: a callback of an attached host, called on its thread (aioshim.h); it writes two
        // words.
        unsafe { self.table.counts?(self.data, &mut counts) };
        let given = !counts.started.is_null() && !counts.ended.is_null();
        given.then_some(FiberCounters(counts))
    }

    /// The name of the host's library; None if it gives none.
    pub fn library(&self) -> Option<String> {
        if self.table.library.is_null() {
            return None;
        }
        // SAFETY: a string that stays in place until the detach (aioshim.h).
        let name = unsafe { CStr::from_ptr(self.table.library) };
        Some(name.to_string_lossy().into_owned())
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
