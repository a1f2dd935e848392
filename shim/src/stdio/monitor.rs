//! Streams as monitors: one task at a time is inside a stream, but while it is parked in there the
//! stream is marked, and whoever comes to it waits.
//!
//! A stream's lock cannot do that: it is the OS thread's, and so lets all fibers of that thread in;
//! and a fiber of another thread would block that thread on it. So a fiber that parks inside a
//! stream marks it, closes its [`Windows`] and gives the lock back; when it goes on it takes the
//! lock, opens the windows and takes the mark off, and all that waited look again. They are not
//! handed the stream: the one that goes on may be in the middle of a line.
//!
//! Invariant: a stream is marked while a fiber is parked inside it, and by that fiber alone: nobody
//! is inside a stream who found it marked.

use super::layout::File;
use super::lock;
use super::windows::Windows;
use crate::critical::{self, Condvar, Mutex, MutexGuard};
use crate::errno;
use crate::fork::Renewable;
use crate::remote::Remote;
use crate::tls;
use std::collections::BTreeMap;
use std::ffi::c_void;
use std::ptr::null_mut;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

pub struct Mark {
    windows: Windows,
    /// The parked fiber, and its OS thread.
    fiber: *mut c_void,
    thread: libc::pthread_t,
    waiting: Vec<Waiter>,
}

struct Waiter {
    fiber: *mut c_void,
    thread: Arc<Remote>,
}

// SAFETY: the fiber's name is only handed back to its host, on its own thread (Remote::unpark).
unsafe impl Send for Waiter {}

// SAFETY: as above; the parked one's is only compared.
unsafe impl Send for Mark {}

pub type Marks = BTreeMap<usize, Mark>;

static MARKS: Renewable<Mutex<Marks>> = Renewable::new(Mutex::new(Marks::new()));
/// Plain threads wait here for any mark to be taken off.
static TAKEN_OFF: Renewable<Condvar> = Renewable::new(Condvar::new());

/// How many streams of each hash are marked, so that one that is not costs its visitors a load.
static FILTER: [AtomicU32; 1024] = [const { AtomicU32::new(0) }; 1024];

/// exit(3) is under way: libc flushes all streams, and no fiber runs any more.
static EXITING: AtomicBool = AtomicBool::new(false);

/// Streams are allocated some 500 bytes apart.
#[inline(always)]
fn filter(file: *const File) -> &'static AtomicU32 {
    let address = file as usize;
    &FILTER[((address >> 4) ^ (address >> 14)) % FILTER.len()]
}

fn marks() -> MutexGuard<'static, Marks> {
    MARKS.get().lock()
}

/// From now on nobody waits for a parked fiber: such streams are left alone.
pub fn exiting() {
    EXITING.store(true, Ordering::Release);
}

/// Whether a fiber may be parked inside `file`.
///
/// Whoever marks a stream does so before giving its lock back: who has that lock sees the mark.
#[inline(always)]
pub fn may_be_marked(file: *const File) -> bool {
    filter(file).load(Ordering::Acquire) != 0
}

/// Whether a fiber is parked inside `file`.
pub fn is_marked(file: *const File) -> bool {
    may_be_marked(file) && marks().contains_key(&(file as usize))
}

/// What a fiber that parks inside a stream has to do when it goes on.
pub struct Left {
    file: *mut File,
    /// How many times it had the lock.
    locked: u32,
    /// Whether getc and putc took the lock when it entered.
    needed_lock: bool,
}

impl Left {
    pub fn file(&self) -> *mut File {
        self.file
    }
}

/// `fiber`, the running one, inside `file`, is about to park.
///
/// # Safety
/// The stream is open, and the running fiber is inside it.
pub unsafe fn leave(file: *mut File, fiber: *mut c_void) -> Option<Left> {
    let mut marks = marks();
    if marks.contains_key(&(file as usize)) {
        // The fiber left it already, by another entry.
        return None;
    }
    // SAFETY: the caller's promise; nobody else is inside.
    let (windows, needed_lock) = unsafe { (Windows::close(file), lock::needs_lock(file)) };
    let mark = Mark {
        windows,
        fiber,
        // SAFETY: no arguments.
        thread: unsafe { libc::pthread_self() },
        waiting: Vec::new(),
    };
    marks.insert(file as usize, mark);
    filter(file).fetch_add(1, Ordering::AcqRel);
    drop(marks);
    // SAFETY: the caller's promise; the running fiber is inside.
    let locked = unsafe { lock::release(file) };
    Some(Left {
        file,
        locked,
        needed_lock,
    })
}

/// It goes on. Whether the stream's lock was taken although it had not been before, and is to be
/// given back at the end.
///
/// # Safety
/// The stream is still open, and the fiber the one that left it so.
pub unsafe fn come_back(left: &Left) -> bool {
    let file = left.file;
    // SAFETY: the caller's promise. Whoever has the lock now is not inside, and gives it back to
    // wait.
    let made_up = unsafe {
        lock::take(file, left.locked);
        left.locked == 0 && lock::make_up(file, left.needed_lock)
    };
    let mut marks = marks();
    let Some(mark) = marks.remove(&(file as usize)) else {
        return made_up;
    };
    // SAFETY: the caller's promise; the mark kept everybody out.
    unsafe { take_off(file, mark, marks) };
    made_up
}

/// Opens what a mark, just removed, had closed, and wakes who waits. Handlers wait: one that jumps
/// away would leave those waiting for ever.
///
/// # Safety
/// The stream is open, and nobody is inside it.
unsafe fn take_off(file: *mut File, mark: Mark, marks: MutexGuard<'_, Marks>) {
    filter(file).fetch_sub(1, Ordering::AcqRel);
    // SAFETY: the caller's promise.
    unsafe { mark.windows.restore(file) };
    drop(marks);
    TAKEN_OFF.get().notify_all();
    for waiter in mark.waiting {
        waiter.thread.unpark(waiter.fiber);
    }
}

/// Waits until no fiber is parked inside `file`; its lock, if this thread has it, is given back
/// meanwhile. False when the stream must be left alone.
///
/// # Safety
/// The stream is open.
#[cold]
#[inline(never)]
pub unsafe fn await_free(file: *mut File) -> bool {
    while is_marked(file) {
        // SAFETY: the caller's promise.
        let locked = unsafe { lock::release(file) };
        let free = await_unmarked(file);
        // SAFETY: the caller's promise: the stream is open.
        unsafe { lock::take(file, locked) };
        if !free {
            return false;
        }
    }
    true
}

/// Waits until the mark that `file` may have is taken off: it may have another then, or be gone.
/// False, with EDEADLK, for those that would wait for ever: a scheduler or a signal handler on the
/// thread of the parked fiber, or anybody while the program ends.
pub fn await_unmarked(file: *const File) -> bool {
    // SAFETY: a thread stays attached while code of its fibers runs.
    let thread = unsafe { tls::here().as_ref() };
    let fiber = thread.map_or(null_mut(), |thread| thread.host().running());
    let _quiet = thread.map(critical::quiet);
    let key = file as usize;
    let mut marks = marks();
    let Some(mark) = marks.get(&key) else {
        return true;
    };
    // SAFETY: no arguments.
    let own_thread = mark.thread == unsafe { libc::pthread_self() };
    if EXITING.load(Ordering::Acquire) || (fiber.is_null() && own_thread) {
        errno::set(libc::EDEADLK);
        return false;
    }
    if own_thread
        && mark.fiber == fiber
        && let Some(mark) = marks.remove(&key)
    {
        // It runs, so it is not parked: a signal handler has jumped out of that, and out of the
        // stream. SAFETY: the fiber uses the stream again, so it is open; the mark kept everybody
        // out.
        unsafe { take_off(file.cast_mut(), mark, marks) };
        return true;
    }
    match thread {
        Some(thread) if !fiber.is_null() => {
            if let Some(mark) = marks.get_mut(&key) {
                let thread = Arc::clone(thread.remote());
                mark.waiting.push(Waiter { fiber, thread });
            }
            drop(marks);
            thread.await_turn();
        }
        _ => {
            while marks.contains_key(&key) && !EXITING.load(Ordering::Acquire) {
                marks = TAKEN_OFF.get().wait(marks);
            }
        }
    }
    true
}

/// The marks, held by the forking thread across the fork.
pub type Locked = std::sync::MutexGuard<'static, Marks>;

/// Before a fork: no other thread is changing the marks, or a stream's windows, when the process is
/// copied.
pub fn lock_before_fork() -> Option<Locked> {
    MARKS.get().lock_before_fork()
}

/// In the child of a fork, where no fiber is parked: its streams are as those of a thread that the
/// parent has and the child has not.
pub fn restore(locked: Option<Locked>) {
    for (file, mark) in locked.iter().flat_map(|marks| marks.iter()) {
        // SAFETY: a marked stream is open: its fiber is inside.
        unsafe { mark.windows.restore(*file as *mut File) };
    }
}

/// In the child of a fork, after [`restore`].
///
/// # Safety
/// The process has one thread, and it is in none of the functions here.
pub unsafe fn renew() {
    // SAFETY: vouched for by the caller.
    unsafe {
        MARKS.renew(Mutex::new(Marks::new()));
        TAKEN_OFF.renew(Condvar::new());
    }
    for count in &FILTER {
        count.store(0, Ordering::Relaxed);
    }
}
