//! Streams as monitors: one task at a time is inside a stream. While that task is parked there, the
//! stream is marked, and other tasks that need it wait.
//!
//! A stream's lock is not enough for that. The OS thread owns it, so it would let all fibers of
//! that thread in, and a fiber of another thread would block its thread on it. Therefore a fiber
//! that parks inside a stream marks it, disables its fast path ([`DisabledFastPath`]) and releases
//! the lock. When it resumes, it takes the lock, enables the fast path and removes the mark, and
//! all waiters check again. The stream is not passed directly to a waiter, because the resumed
//! fiber may be in the middle of a line.
//!
//! Invariant: a stream is marked while a fiber is parked inside it, and only by that fiber. A task
//! that finds a stream marked does not enter it.

use super::layout::File;
use super::lock;
use crate::context::{Condvar, Mutex, MutexGuard};
use crate::host::remote::Remote;
use crate::runtime::stream::fast_path::DisabledFastPath;
use std::collections::BTreeMap;
use std::ffi::c_void;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use sys::errno;

pub struct ParkedStream {
    fast_path: DisabledFastPath,
    /// The parked fiber, and its OS thread.
    fiber: *mut c_void,
    thread: libc::pthread_t,
    waiting: Vec<Waiter>,
}

struct Waiter {
    fiber: *mut c_void,
    thread: Arc<Remote>,
}

// SAFETY: the fiber's address is only passed back to its host, on its own thread (Remote::unpark).
unsafe impl Send for Waiter {}

// SAFETY: the addresses of waiting fibers are only passed back to their hosts, and that of the
// parked fiber is only compared.
unsafe impl Send for ParkedStream {}

pub type ParkedStreams = BTreeMap<usize, ParkedStream>;

fork_reset! {
    static PARKED: Mutex<ParkedStreams> = Mutex::new(ParkedStreams::new());
}
fork_reset! {
    /// Plain threads wait here for any mark to be removed.
    static UNMARKED: Condvar = Condvar::new();
}

/// The number of marked streams per hash. Checking an unmarked stream costs one load.
static FILTER: [AtomicU32; 1024] = [const { AtomicU32::new(0) }; 1024];
after_fork!(|| FILTER
    .iter()
    .for_each(|count| count.store(0, Ordering::Relaxed)));

/// exit(3) is in progress: libc flushes all streams, and no fiber runs any more.
static EXITING: AtomicBool = AtomicBool::new(false);

/// Streams are allocated about 500 bytes apart.
#[inline(always)]
fn filter(file: *const File) -> &'static AtomicU32 {
    let address = file as usize;
    &FILTER[((address >> 4) ^ (address >> 14)) % FILTER.len()]
}

fn parked_streams() -> MutexGuard<'static, ParkedStreams> {
    PARKED.get().lock()
}

/// From now on tasks do not wait for a parked fiber, and do not touch its streams.
pub fn exiting() {
    EXITING.store(true, Ordering::Release);
}

/// Whether a fiber may be parked inside `file`.
///
/// A fiber marks a stream before it releases the lock, so the next owner of the lock sees the mark.
#[inline(always)]
pub fn may_be_marked(file: *const File) -> bool {
    filter(file).load(Ordering::Acquire) != 0
}

/// Whether a fiber is parked inside `file`.
pub fn is_marked(file: *const File) -> bool {
    may_be_marked(file) && parked_streams().contains_key(&(file as usize))
}

/// The state that a fiber needs to re-enter a stream after a park.
pub struct LeftStream {
    file: *mut File,
    /// How many times the fiber's thread had taken the lock.
    locked: u32,
    /// Whether getc and putc took the lock when the fiber left the stream.
    needed_lock: bool,
}

impl LeftStream {
    pub fn file(&self) -> *mut File {
        self.file
    }
}

/// The running fiber `fiber`, which is inside `file`, is about to park.
///
/// # Safety
/// The stream is open, and the running fiber is inside it.
pub unsafe fn leave(file: *mut File, fiber: *mut c_void) -> Option<LeftStream> {
    let mut parked_streams = parked_streams();
    if parked_streams.contains_key(&(file as usize)) {
        // The fiber already left it, through another entry.
        return None;
    }
    // SAFETY: our caller makes the same promise, and no other task is inside.
    let (fast_path, needed_lock) =
        unsafe { (DisabledFastPath::disable(file), lock::needs_lock(file)) };
    let entry = ParkedStream {
        fast_path,
        fiber,
        // SAFETY: pthread_self takes no arguments.
        thread: unsafe { libc::pthread_self() },
        waiting: Vec::new(),
    };
    parked_streams.insert(file as usize, entry);
    filter(file).fetch_add(1, Ordering::AcqRel);
    drop(parked_streams);
    // SAFETY: our caller makes the same promise: the stream is open.
    let locked = unsafe { lock::release(file) };
    Some(LeftStream {
        file,
        locked,
        needed_lock,
    })
}

/// The fiber resumes. Returns whether this took the stream's lock although the fiber did not have
/// it before; it must then be released at the end.
///
/// # Safety
/// The stream is still open, and the calling fiber is the one that left it.
pub unsafe fn re_enter(left: &LeftStream) -> bool {
    let file = left.file;
    // SAFETY: our caller makes the same promise. A task that owns the lock now is not inside, and
    // releases it in order to wait.
    let took_lock = unsafe {
        lock::take(file, left.locked);
        left.locked == 0 && lock::take_if_needed_now(file, left.needed_lock)
    };
    let mut parked_streams = parked_streams();
    let Some(entry) = parked_streams.remove(&(file as usize)) else {
        return took_lock;
    };
    // SAFETY: our caller makes the same promise; the mark kept all other tasks out.
    unsafe { unmark(file, entry, parked_streams) };
    took_lock
}

/// Enables the fast path of a stream whose mark was just removed, and wakes the waiters. Signal
/// handlers must be deferred: one that jumps away would leave the waiters parked for ever.
///
/// # Safety
/// The stream is open, and no task is inside it.
unsafe fn unmark(
    file: *mut File,
    entry: ParkedStream,
    parked_streams: MutexGuard<'_, ParkedStreams>,
) {
    filter(file).fetch_sub(1, Ordering::AcqRel);
    // SAFETY: our caller makes the same promise.
    unsafe { entry.fast_path.restore(file) };
    drop(parked_streams);
    UNMARKED.get().notify_all();
    for waiter in entry.waiting {
        waiter.thread.unpark(waiter.fiber);
    }
}

/// Waits until the mark of `file`, if there is one, is removed: see
/// [`super::waiting::await_unmarked`].
///
/// `fiber` is the running fiber, which `park` parks until its thread, that of `remote`, unparks it;
/// both are null or None off a fiber.
pub(super) fn await_unmarked(
    file: *const File,
    fiber: *mut c_void,
    remote: Option<&Arc<Remote>>,
    park: impl FnOnce(),
) -> bool {
    let key = file as usize;
    let mut parked_streams = parked_streams();
    let Some(entry) = parked_streams.get(&key) else {
        return true;
    };
    // SAFETY: pthread_self takes no arguments.
    let own_thread = entry.thread == unsafe { libc::pthread_self() };
    if EXITING.load(Ordering::Acquire) || (fiber.is_null() && own_thread) {
        errno::set(libc::EDEADLK);
        return false;
    }
    if own_thread
        && entry.fiber == fiber
        && let Some(entry) = parked_streams.remove(&key)
    {
        // The fiber that set the mark is running, so it is not parked: a signal handler has jumped
        // out of its park, and out of the stream. SAFETY: the fiber uses the stream again, so it is
        // open; the mark kept all other tasks out.
        unsafe { unmark(file.cast_mut(), entry, parked_streams) };
        return true;
    }
    match remote {
        Some(remote) if !fiber.is_null() => {
            if let Some(entry) = parked_streams.get_mut(&key) {
                let thread = Arc::clone(remote);
                entry.waiting.push(Waiter { fiber, thread });
            }
            drop(parked_streams);
            park();
        }
        _ => {
            while parked_streams.contains_key(&key) && !EXITING.load(Ordering::Acquire) {
                parked_streams = UNMARKED.get().wait(parked_streams);
            }
        }
    }
    true
}

/// The locked marks; the forking thread holds them across the fork.
pub type Locked = std::sync::MutexGuard<'static, ParkedStreams>;

/// Before a fork: ensures that no other thread is changing the marks or a stream's fast path when
/// the process is copied.
pub fn lock_before_fork() -> Option<Locked> {
    PARKED.get().lock_before_fork()
}

/// In the child of a fork, where no fiber is parked: enables the fast path of all marked streams.
/// These streams are then in the state that a stream has when it was in use by a thread that does
/// not exist in the child.
pub fn restore(locked: Option<Locked>) {
    for (file, entry) in locked
        .iter()
        .flat_map(|parked_streams| parked_streams.iter())
    {
        // SAFETY: a marked stream is open, because its fiber is inside.
        unsafe { entry.fast_path.restore(*file as *mut File) };
    }
}
