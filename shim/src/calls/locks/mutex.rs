//! pthread_mutex_*(3): a fiber changes libc's own lock word as libc does, but stores a different
//! owner.
//!
//! libc identifies a mutex's owner by thread id, which all fibers of one thread share. Therefore a
//! mutex held by a fiber has [`FIBER_BIT`] as its owner, which is no thread's id, and the fiber
//! itself is recorded in a field that libc only uses for other kinds of mutexes. A plain thread
//! finds the mutex locked and waits on its futex as usual; a fiber parks.
//!
//! For robust, priority-inheriting and priority-protecting mutexes, whose owner the kernel knows as
//! a thread, see [`super::special`].

use super::kernel::Futex;
use super::{Wait, WaitBackoff, code, deadline, is_supported, is_valid, released, special};
use crate::calls::Verdict;
use crate::context;
use crate::runtime::call::Call;
use crate::runtime::completion::Unfinished;
use crate::runtime::deadlines::{Deadline, NEVER};
use crate::runtime::thread::Thread;
use crate::state::{allocator, loaded};
use libc::{clockid_t, pthread_mutex_t, timespec};
use queue::wait_table::{ANY, Which};
use std::ffi::{c_int, c_void};
use std::ptr::null_mut;
use std::sync::atomic::{AtomicPtr, AtomicU8, AtomicU32, Ordering::*};
use sys::errno::Errno;

/// libc's `struct __pthread_mutex_s` on 64-bit machines.
#[repr(C)]
pub struct Mutex {
    /// 0: free, 1: locked, 2: locked and threads wait on it.
    word: AtomicU32,
    /// For a recursive mutex: how often its owner has locked it.
    count: AtomicU32,
    owner: AtomicU32,
    users: AtomicU32,
    kind: AtomicU32,
    _spins: u32,
    /// The fiber that holds it. In robust mutexes, libc's list of the thread's robust mutexes.
    fiber: AtomicPtr<c_void>,
    _list: *mut c_void,
}

const _: () = assert!(size_of::<Mutex>() == size_of::<pthread_mutex_t>());

/// The owner field of a mutex held by a fiber; no thread has such a high id. If other processes may
/// use the mutex, the process id is added, because their fibers may be at the same addresses.
const FIBER_BIT: u32 = 1 << 30;
/// Number of bits of a process id.
const PROCESS_BITS: u32 = 22;

/// The word of a locked mutex on which threads or the kernel's waiters wait.
const CONTENDED: u32 = 2;

/// The bits of the kind that decide how a mutex is locked.
const KIND: u32 = 0x7f;
const TYPE: u32 = 3;
const SPECIAL: u32 = 0x70;
const ROBUST: u32 = 0x10;
const INHERITS: u32 = 0x20;
const SHARED: u32 = 0x80;

const NORMAL: u32 = 0;
const RECURSIVE: u32 = 1;
const ERROR_CHECKING: u32 = 2;

/// The row of a call whose waits a cancellation does not end.
pub const LOCK: usize = calltable::index_of("pthread_mutex_lock");

/// The address of the libc flag that says that the process has only one thread (since glibc 2.32).
static SINGLE_THREADED: AtomicPtr<AtomicU8> = AtomicPtr::new(null_mut());
static NOT_SINGLE_THREADED: AtomicU8 = AtomicU8::new(0);

pub fn bind() {
    let found = loaded::default_anyway(c"__libc_single_threaded");
    let variable = if found.is_null() {
        (&raw const NOT_SINGLE_THREADED).cast_mut()
    } else {
        found.cast()
    };
    SINGLE_THREADED.store(variable, Relaxed);
}

/// Whether the process has only one thread, so that a change need not be atomic. libc makes the
/// same optimisation.
#[inline(always)]
fn single_threaded() -> bool {
    let variable = SINGLE_THREADED.load(Relaxed);
    // SAFETY: null until bound, then a byte that is never freed.
    !variable.is_null() && unsafe { &*variable }.load(Relaxed) != 0
}

#[cold]
fn process_id() -> u32 {
    rustix::process::getpid().as_raw_nonzero().get() as u32 & ((1 << PROCESS_BITS) - 1)
}

/// The program's mutex.
#[inline(always)]
pub fn of<'a>(m: *mut pthread_mutex_t) -> &'a Mutex {
    // SAFETY: the C caller passes an initialised mutex that stays alive during the call; the
    // layouts are the same.
    unsafe { &*m.cast::<Mutex>() }
}

impl Mutex {
    #[inline(always)]
    fn kind(&self) -> u32 {
        self.kind.load(Relaxed) & KIND
    }

    pub fn mutex_type(&self) -> u32 {
        self.kind.load(Relaxed) & TYPE
    }

    #[inline(always)]
    pub fn is_special(&self) -> bool {
        self.kind.load(Relaxed) & SPECIAL != 0
    }

    fn inherits_priority(&self) -> bool {
        self.kind.load(Relaxed) & INHERITS != 0
    }

    pub fn counts_owners(&self) -> bool {
        matches!(self.mutex_type(), RECURSIVE | ERROR_CHECKING)
    }

    /// Whether `thread` is the owner. Every kind stores the owner's id in the owner field; robust
    /// and priority-inheriting mutexes store it in the word as well.
    pub fn is_owned_by(&self, thread: c_int) -> bool {
        self.owner.load(Relaxed) as c_int == thread
    }

    /// Marks a robust mutex so that the kernel or its owner wakes this waiter when it is unlocked
    /// or its owner dies. Returns the futex to wait on, or None if the mutex is free or its owner
    /// has died.
    pub fn announce_waiter(&self) -> Option<Futex> {
        let mut word = self.word.load(Relaxed);
        loop {
            if word == 0 || word & libc::FUTEX_OWNER_DIED != 0 {
                return None;
            }
            let waited_on = word | libc::FUTEX_WAITERS;
            match self
                .word
                .compare_exchange_weak(word, waited_on, Acquire, Relaxed)
            {
                // The kernel announces the death of an owner as if all robust mutexes were shared
                // between processes.
                Ok(_) => return Some(Futex::of(&self.word, waited_on, true)),
                Err(now) => word = now,
            }
        }
    }

    /// Called by a new owner that had to wait: there may be more waiters, and the word no longer
    /// says so.
    pub fn expect_waiters(&self) {
        self.word.fetch_or(libc::FUTEX_WAITERS, Relaxed);
    }

    pub fn is_robust(&self) -> bool {
        self.kind.load(Relaxed) & SPECIAL == ROBUST
    }

    /// Its owner died, and the next owner unlocked it without making it consistent.
    pub fn is_not_recoverable(&self) -> bool {
        self.owner.load(Relaxed) == i32::MAX as u32 - 1
    }

    pub fn times_locked(&self) -> u32 {
        self.count.load(Relaxed)
    }

    #[inline(always)]
    fn try_word(&self) -> bool {
        if single_threaded() && !self.is_shared() {
            let free = self.word.load(Relaxed) == 0;
            if free {
                self.word.store(1, Relaxed);
            }
            free
        } else {
            self.word.compare_exchange(0, 1, Acquire, Relaxed).is_ok()
        }
    }

    /// Records that a fiber has just taken the word.
    #[inline(always)]
    fn set_owner(&self) {
        self.owner.store(FIBER_BIT, Release);
        self.users
            .store(self.users.load(Relaxed).wrapping_add(1), Relaxed);
    }

    #[inline(always)]
    fn is_fibers(&self) -> bool {
        self.owner.load(Relaxed) >> PROCESS_BITS == FIBER_BIT >> PROCESS_BITS
    }

    fn is_owned_by_fiber(&self, fiber: *mut c_void) -> bool {
        // The field `fiber` is written before `owner`. In the other order, a previous holder could
        // read its own address there and take itself for the owner.
        self.owner.load(Acquire) == self.owner_id() && self.fiber.load(Relaxed) == fiber
    }

    fn is_shared(&self) -> bool {
        self.kind.load(Relaxed) & SHARED != 0
    }

    /// The owner field while a fiber of this process holds the mutex.
    #[inline(always)]
    fn owner_id(&self) -> u32 {
        if self.is_shared() && self.counts_owners() {
            FIBER_BIT | process_id()
        } else {
            FIBER_BIT
        }
    }

    /// Releases a mutex that a fiber holds.
    #[inline(always)]
    fn release(&self) {
        self.owner.store(0, Relaxed);
        self.users
            .store(self.users.load(Relaxed).wrapping_sub(1), Relaxed);
        let shared = self.is_shared();
        let before = if single_threaded() && !shared {
            let before = self.word.load(Relaxed);
            self.word.store(0, Relaxed);
            before
        } else {
            self.word.swap(0, Release)
        };
        // From here on another thread may destroy the mutex; only its address is used.
        if before > 1 {
            wake_thread(&self.word, shared);
        }
        released(self, Which::First);
    }

    /// Locks again a mutex that the fiber already holds; None if it does not hold it.
    fn lock_again(&self, fiber: *mut c_void) -> Option<Result<(), Errno>> {
        if !self.is_owned_by_fiber(fiber) {
            return None;
        }
        match self.kind() {
            RECURSIVE => {
                let Some(count) = self.count.load(Relaxed).checked_add(1) else {
                    return Some(Err(Errno::AGAIN));
                };
                self.count.store(count, Relaxed);
                Some(Ok(()))
            }
            ERROR_CHECKING => Some(Err(Errno::DEADLK)),
            _ => None,
        }
    }

    fn take_ownership(&self, fiber: *mut c_void) {
        self.fiber.store(fiber, Relaxed);
        self.set_owner();
        if self.is_shared() {
            self.owner.store(self.owner_id(), Release);
        }
        if self.kind() == RECURSIVE {
            self.count.store(1, Relaxed);
        }
    }

    /// Takes the word, parking as long as it is taken.
    fn acquire(
        &self,
        call: &Call<'_>,
        until: impl Fn() -> Result<Deadline, Errno>,
    ) -> Result<(), Errno> {
        if self.try_word() {
            return Ok(());
        }
        let deadline = until()?;
        let shared = self.is_shared();
        let mut backoff = WaitBackoff::new();
        let mut again = false;
        // If the kernel woke this fiber, the wake-up came from its queue, where others may still
        // wait; the word must say so.
        let mut was_in_kernel = false;
        loop {
            // A plain thread may release it inside pthread_cond_wait, and another process at any
            // time. Only the kernel sees these releases.
            let sees_release = self.is_fibers() && !shared;
            let futex = Futex::of(&self.word, CONTENDED, shared);
            if !sees_release && (shared || futex.waits_in_ring(call)) {
                if self.word.swap(CONTENDED, Acquire) == 0 {
                    return Ok(());
                }
                was_in_kernel = true;
                match futex.wait(call, deadline) {
                    Ok(()) | Err(Unfinished::Failed(_)) => continue,
                    Err(Unfinished::TimedOut) => return Err(Errno::TIMEDOUT),
                    Err(Unfinished::Interrupted) => {
                        call.interrupted();
                        continue;
                    }
                    Err(Unfinished::NotDone) => {}
                }
            }
            let wait = Wait {
                key: std::ptr::from_ref(self).addr(),
                mark: ANY,
                again,
                deadline: if sees_release {
                    deadline
                } else {
                    backoff.next(deadline)
                },
            };
            let attempt = || {
                if was_in_kernel {
                    self.word.swap(CONTENDED, Acquire) == 0
                } else {
                    self.try_word()
                }
            };
            if wait.park(call, attempt) == super::Woken::Ready || attempt() {
                return Ok(());
            }
            if deadline != NEVER && sys::now() >= deadline {
                // This fiber may have been woken to take the lock. As it gives up, it passes the
                // wake-up on.
                released(self, Which::First);
                return Err(Errno::TIMEDOUT);
            }
            again = true;
        }
    }
}

/// The fast path: takes an uncontended mutex that has no owner in the kernel.
#[inline(always)]
pub fn lock_fast(thread: &Thread, m: *mut pthread_mutex_t) -> Option<c_int> {
    let mutex = of(m);
    match mutex.kind() {
        // For this kind it does not matter who holds it.
        NORMAL if mutex.try_word() => {
            mutex.set_owner();
            Some(0)
        }
        RECURSIVE if !mutex.is_shared() => lock_recursive_fast(thread, mutex),
        _ => None,
    }
}

/// Makes no function calls, so that the hook needs no stack frame on its other paths.
#[inline(always)]
fn lock_recursive_fast(thread: &Thread, mutex: &Mutex) -> Option<c_int> {
    let fiber = thread.host().published_fiber()?;
    if fiber.is_null() {
        return None;
    }
    if mutex.is_owned_by_fiber(fiber) {
        let count = mutex.count.load(Relaxed).checked_add(1)?;
        mutex.count.store(count, Relaxed);
    } else if mutex.try_word() {
        mutex.fiber.store(fiber, Relaxed);
        mutex.set_owner();
        mutex.count.store(1, Relaxed);
    } else {
        return None;
    }
    Some(0)
}

/// pthread_mutex_lock(3).
pub fn lock(call: &Call<'_>, m: *mut pthread_mutex_t) -> Verdict {
    lock_until(call, m, || Ok(NEVER))
}

/// pthread_mutex_timedlock(3).
pub fn timedlock(call: &Call<'_>, m: *mut pthread_mutex_t, time: *const timespec) -> Verdict {
    clocklock(call, m, libc::CLOCK_REALTIME, time)
}

/// pthread_mutex_clocklock(3).
pub fn clocklock(
    call: &Call<'_>,
    m: *mut pthread_mutex_t,
    clock: clockid_t,
    time: *const timespec,
) -> Verdict {
    if !is_supported(clock) {
        return code(Err(Errno::INVAL));
    }
    // SAFETY: the C caller passes a valid time. As in libc, it is only read if the fiber has to
    // wait.
    lock_until(call, m, || match unsafe { &*time } {
        // The kernel waits for these mutexes, and rejects negative times.
        time if of(m).inherits_priority() && time.tv_sec < 0 => Err(Errno::INVAL),
        time if is_valid(time) => Ok(deadline(clock, time)),
        _ => Err(Errno::INVAL),
    })
}

fn lock_until(
    call: &Call<'_>,
    m: *mut pthread_mutex_t,
    until: impl Fn() -> Result<Deadline, Errno>,
) -> Verdict {
    code(take(call, m, until))
}

/// Locks `m` for the running fiber.
pub fn take(
    call: &Call<'_>,
    m: *mut pthread_mutex_t,
    until: impl Fn() -> Result<Deadline, Errno>,
) -> Result<(), Errno> {
    let mutex = of(m);
    if mutex.is_special() {
        return special::take(call, m, until);
    }
    if let Some(result) = mutex.lock_again(call.fiber) {
        call.inline();
        return result;
    }
    if mutex.try_word() {
        call.inline();
    } else if allocator::is_calling() {
        block(mutex);
    } else {
        mutex.acquire(call, until)?;
    }
    mutex.take_ownership(call.fiber);
    Ok(())
}

#[cold]
#[inline(never)]
fn wake_thread(word: &AtomicU32, shared: bool) {
    sys::futex_wake(word, 1, shared);
}

/// Blocks as a plain thread does.
fn block(mutex: &Mutex) {
    let shared = mutex.is_shared();
    while mutex.word.swap(CONTENDED, Acquire) != 0 {
        sys::futex_wait(&mutex.word, CONTENDED, shared, None);
    }
}

/// pthread_mutex_trylock(3).
pub fn trylock(call: &Call<'_>, m: *mut pthread_mutex_t) -> Verdict {
    let mutex = of(m);
    if mutex.is_special() {
        return code(special::try_take(call, m));
    }
    call.inline();
    let result = match mutex.lock_again(call.fiber) {
        Some(result) if mutex.kind() == RECURSIVE => result,
        _ if mutex.try_word() => {
            mutex.take_ownership(call.fiber);
            Ok(())
        }
        _ => {
            // A fiber that retries in a loop may be waiting for a fiber of its own thread.
            call.yield_if_exhausted();
            Err(Errno::BUSY)
        }
    };
    code(result)
}

/// pthread_mutex_unlock(3), on a fiber and off.
#[inline(always)]
pub fn unlock(
    real: unsafe extern "C" fn(*mut pthread_mutex_t) -> c_int,
    m: *mut pthread_mutex_t,
) -> c_int {
    let mutex = of(m);
    if mutex.is_fibers() && mutex.kind() == NORMAL {
        mutex.release();
        return 0;
    }
    unlock_other(real, m)
}

/// A function of its own, so that the fast path needs no stack frame.
#[inline(never)]
fn unlock_other(
    real: unsafe extern "C" fn(*mut pthread_mutex_t) -> c_int,
    m: *mut pthread_mutex_t,
) -> c_int {
    let mutex = of(m);
    if mutex.is_fibers() {
        return unlock_fibers(mutex, running());
    }
    if mutex.is_special() && !special::may_unlock(m, running()) {
        return libc::EPERM;
    }
    // SAFETY: libc's own function, with its caller's argument.
    let error = unsafe { real(m) };
    released(m, Which::First);
    error
}

/// The fiber that runs here; null off a fiber.
fn running() -> *mut c_void {
    Thread::current().map_or(null_mut(), |thread| thread.host().running())
}

/// Unlocks a mutex that a fiber holds.
fn unlock_fibers(mutex: &Mutex, fiber: *mut c_void) -> c_int {
    if mutex.counts_owners() {
        if !mutex.is_owned_by_fiber(fiber) {
            return libc::EPERM;
        }
        if mutex.kind() == RECURSIVE {
            let left = mutex.count.load(Relaxed) - 1;
            mutex.count.store(left, Relaxed);
            if left > 0 {
                return 0;
            }
        }
    }
    mutex.release();
    0
}

/// Unlocks `m` for the running fiber, as pthread_cond_wait(3) does.
pub fn give(call: &Call<'_>, m: *mut pthread_mutex_t) -> Result<(), Errno> {
    let mutex = of(m);
    let error = if mutex.is_fibers() {
        unlock_fibers(mutex, call.fiber)
    } else if mutex.is_special() && !special::may_unlock(m, call.fiber) {
        libc::EPERM
    } else {
        // SAFETY: the C caller passes a valid mutex.
        context::in_libc(|| unsafe { libc::pthread_mutex_unlock(m) })
    };
    if error == 0 {
        Ok(())
    } else {
        Err(Errno(error))
    }
}

/// Locks `m` again after a wait for a condition, which may have been interrupted. A cancelled fiber
/// ends only with `m` locked, because its cleanup handler unlocks it. EINTR means that libc makes
/// the call.
pub fn take_after_wait(
    call: &Call<'_>,
    m: *mut pthread_mutex_t,
    interrupted: bool,
) -> Result<(), Errno> {
    // A cancellation that came when the fiber was already woken does not end this call.
    let was_cancelled = call.thread.operations().was_cancelled(call.fiber);
    let is_cancelled = interrupted && was_cancelled;
    call.as_row(LOCK, || {
        if interrupted && !is_cancelled {
            call.interrupted();
        }
        take(call, m, || Ok(NEVER))
    })?;
    if is_cancelled {
        call.interrupted();
        if call.is_left_to_libc() {
            return Err(Errno::INTR);
        }
    }
    Ok(())
}

/// Called before a plain thread waits for a condition. libc will release `m` without the shim
/// noticing, so the fibers that wait for it are woken to check it periodically.
#[inline(always)]
pub fn before_unseen_release(m: *mut pthread_mutex_t) {
    released(m, Which::All);
}
