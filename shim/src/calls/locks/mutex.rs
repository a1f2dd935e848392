//! pthread_mutex_*(3): a fiber changes libc's own lock word as libc does, and leaves another owner
//! in it.
//!
//! libc knows a mutex's owner by the thread's number, and fibers of one thread have the same. So a
//! mutex that a fiber holds says that [`A_FIBER`] holds it, which no thread's number is, and which
//! one in a field that libc uses for other kinds only. A plain thread finds it locked and waits on
//! its futex as ever; a fiber parks.
//!
//! Robust, priority-inheriting and -protecting ones belong to a thread in the kernel:
//! [`super::special`].

use super::kernel::Futex;
use super::special;
use super::{Patience, Wait, code, deadline, is_supported, is_valid, plainly, released};
use crate::allocator;
use crate::call::Call;
use crate::calls::Outcome;
use crate::deadlines::{Deadline, NEVER};
use crate::errno::Errno;
use crate::lot::{ANY, Which};
use crate::thread::Thread;
use crate::{sys, tls};
use libc::{clockid_t, pthread_mutex_t, timespec};
use std::ffi::{c_int, c_void};
use std::ptr::null_mut;
use std::sync::atomic::{AtomicPtr, AtomicU8, AtomicU32, Ordering::*};

/// libc's `struct __pthread_mutex_s` on 64-bit machines.
#[repr(C)]
pub struct Mutex {
    /// 0 free, 1 locked, 2 locked and threads wait on it.
    word: AtomicU32,
    /// Of a recursive one: how often its owner has locked it.
    count: AtomicU32,
    owner: AtomicU32,
    users: AtomicU32,
    kind: AtomicU32,
    _spins: u32,
    /// Which fiber has it. libc's list of a thread's robust mutexes, for those alone.
    fiber: AtomicPtr<c_void>,
    _list: *mut c_void,
}

const _: () = assert!(size_of::<Mutex>() == size_of::<pthread_mutex_t>());

/// The owner of what a fiber holds: no thread has so high a number. With the number of its process
/// where others may use the mutex, for they have fibers at the same addresses.
const A_FIBER: u32 = 1 << 30;
/// Bits of a process's number.
const PROCESS_BITS: u32 = 22;

/// The word of one that is locked, and that threads or the kernel's waiters wait on.
const CONTENDED: u32 = 2;

/// What of the kind decides how a mutex is locked, and the bits of it.
const KIND: u32 = 0x7f;
const TYPE: u32 = 3;
const SPECIAL: u32 = 0x70;
const ROBUST: u32 = 0x10;
const INHERITS: u32 = 0x20;
const SHARED: u32 = 0x80;

const NORMAL: u32 = 0;
const RECURSIVE: u32 = 1;
const ERROR_CHECKING: u32 = 2;

/// Where libc says that the process has but one thread, from 2.32 on.
static SINGLE_THREADED: AtomicPtr<AtomicU8> = AtomicPtr::new(null_mut());
static NOT_KNOWN: AtomicU8 = AtomicU8::new(0);

pub fn bind() {
    // SAFETY: a lookup by name; libc's variable is one byte.
    let found = unsafe { libc::dlsym(libc::RTLD_DEFAULT, c"__libc_single_threaded".as_ptr()) };
    let variable = if found.is_null() {
        (&raw const NOT_KNOWN).cast_mut()
    } else {
        found.cast()
    };
    SINGLE_THREADED.store(variable, Relaxed);
}

/// No other thread could see the steps of a change, so that they need not be one: libc spares
/// itself that, too.
#[inline(always)]
fn single_threaded() -> bool {
    let variable = SINGLE_THREADED.load(Relaxed);
    // SAFETY: null until bound, then a byte that stays.
    !variable.is_null() && unsafe { &*variable }.load(Relaxed) != 0
}

#[cold]
fn process_id() -> u32 {
    rustix::process::getpid().as_raw_nonzero().get() as u32 & ((1 << PROCESS_BITS) - 1)
}

/// The program's mutex.
#[inline(always)]
pub fn of<'a>(m: *mut pthread_mutex_t) -> &'a Mutex {
    // SAFETY: the C caller's, initialised and alive during the call; of the same layout (module
    // docs).
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

    /// The owner's number is in the word for robust and priority-inheriting ones, and beside it for
    /// all.
    pub fn is_owned_by(&self, thread: c_int) -> bool {
        self.owner.load(Relaxed) as c_int == thread
    }

    /// The word of a robust one, for a wait of the kernel's: it is locked, and its unlocking, or
    /// its owner's death, will be told. None if it is free, or its owner died.
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
                // The kernel tells of the death of an owner as if processes shared all robust ones.
                Ok(_) => return Some(Futex::of(&self.word, waited_on, true)),
                Err(now) => word = now,
            }
        }
    }

    /// The caller, who has it, had to wait for it: others may wait still, and the word does not say
    /// so any more.
    pub fn expect_waiters(&self) {
        self.word.fetch_or(libc::FUTEX_WAITERS, Relaxed);
    }

    pub fn is_robust(&self) -> bool {
        self.kind.load(Relaxed) & SPECIAL == ROBUST
    }

    /// Its owner died, and whoever came next gave it up.
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

    /// A fiber has just taken the word.
    #[inline(always)]
    fn own(&self) {
        self.owner.store(A_FIBER, Release);
        self.users
            .store(self.users.load(Relaxed).wrapping_add(1), Relaxed);
    }

    #[inline(always)]
    fn is_fibers(&self) -> bool {
        self.owner.load(Relaxed) >> PROCESS_BITS == A_FIBER >> PROCESS_BITS
    }

    fn is_owned_by_fiber(&self, fiber: *mut c_void) -> bool {
        // Which fiber is written before that it is one: else one that had it last could read its
        // own name.
        self.owner.load(Acquire) == self.owner_here() && self.fiber.load(Relaxed) == fiber
    }

    fn is_shared(&self) -> bool {
        self.kind.load(Relaxed) & SHARED != 0
    }

    /// What the owner is while a fiber of this process holds it.
    #[inline(always)]
    fn owner_here(&self) -> u32 {
        if self.is_shared() && self.counts_owners() {
            A_FIBER | process_id()
        } else {
            A_FIBER
        }
    }

    /// Gives up what a fiber holds.
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
        // From here on another may destroy it: only its address is used.
        if before > 1 {
            wake_thread(&self.word, shared);
        }
        released(self, Which::First);
    }

    /// The fiber's second locking of what it has; None if it has not.
    fn relock(&self, fiber: *mut c_void) -> Option<Result<(), Errno>> {
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

    fn own_anew(&self, fiber: *mut c_void) {
        self.fiber.store(fiber, Relaxed);
        self.own();
        if self.is_shared() {
            self.owner.store(self.owner_here(), Release);
        }
        if self.kind() == RECURSIVE {
            self.count.store(1, Relaxed);
        }
    }

    /// Takes the word, parking as long as others have it.
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
        let mut patience = Patience::new();
        let mut again = false;
        // A wake-up of the kernel's was for one of those that wait there: the word must say that
        // there may be others.
        let mut was_in_kernel = false;
        loop {
            // A plain thread may release it inside pthread_cond_wait, another process anyhow: only
            // the kernel sees that.
            let sees_release = self.is_fibers() && !shared;
            let futex = Futex::of(&self.word, CONTENDED, shared);
            if !sees_release && (shared || futex.waits_in_ring(call)) {
                if self.word.swap(CONTENDED, Acquire) == 0 {
                    return Ok(());
                }
                was_in_kernel = true;
                match futex.wait(call, deadline) {
                    Some(Err(Errno::TIME)) => return Err(Errno::TIMEDOUT),
                    Some(Err(Errno::RESTART)) => {
                        call.interrupted();
                        continue;
                    }
                    Some(_) => continue,
                    None => {}
                }
            }
            let wait = Wait {
                key: std::ptr::from_ref(self).addr(),
                mark: ANY,
                again,
                deadline: if sees_release {
                    deadline
                } else {
                    patience.next(deadline)
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
                // Who was woken to take it and does not must let the next one.
                released(self, Which::First);
                return Err(Errno::TIMEDOUT);
            }
            again = true;
        }
    }
}

/// The usual case, at once: an uncontended one that is no thread's in the kernel.
#[inline(always)]
pub fn lock_at_once(thread: &Thread, m: *mut pthread_mutex_t) -> Option<c_int> {
    let mutex = of(m);
    match mutex.kind() {
        // It does not matter who has it.
        NORMAL if mutex.try_word() => {
            mutex.own();
            Some(0)
        }
        RECURSIVE if !mutex.is_shared() => lock_recursive_at_once(thread, mutex),
        _ => None,
    }
}

/// Without a call, for the sake of the hook's other ways: it needs no stack frame then.
#[inline(always)]
fn lock_recursive_at_once(thread: &Thread, mutex: &Mutex) -> Option<c_int> {
    let fiber = thread.host().running_shown()?;
    if fiber.is_null() {
        return None;
    }
    if mutex.is_owned_by_fiber(fiber) {
        let count = mutex.count.load(Relaxed).checked_add(1)?;
        mutex.count.store(count, Relaxed);
    } else if mutex.try_word() {
        mutex.fiber.store(fiber, Relaxed);
        mutex.own();
        mutex.count.store(1, Relaxed);
    } else {
        return None;
    }
    Some(0)
}

/// pthread_mutex_lock(3).
pub fn lock(call: &Call<'_>, m: *mut pthread_mutex_t) -> Outcome {
    lock_until(call, m, || Ok(NEVER))
}

/// pthread_mutex_timedlock(3).
pub fn timedlock(call: &Call<'_>, m: *mut pthread_mutex_t, time: *const timespec) -> Outcome {
    clocklock(call, m, libc::CLOCK_REALTIME, time)
}

/// pthread_mutex_clocklock(3).
pub fn clocklock(
    call: &Call<'_>,
    m: *mut pthread_mutex_t,
    clock: clockid_t,
    time: *const timespec,
) -> Outcome {
    if !is_supported(clock) {
        return code(Err(Errno::INVAL));
    }
    // SAFETY: the C caller's; only looked at if it has to wait, as libc does.
    lock_until(call, m, || match unsafe { &*time } {
        // The kernel waits for these, and takes no time before its own.
        time if of(m).inherits_priority() && time.tv_sec < 0 => Err(Errno::INVAL),
        time if is_valid(time) => Ok(deadline(clock, time)),
        _ => Err(Errno::INVAL),
    })
}

fn lock_until(
    call: &Call<'_>,
    m: *mut pthread_mutex_t,
    until: impl Fn() -> Result<Deadline, Errno>,
) -> Outcome {
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
    if let Some(result) = mutex.relock(call.fiber) {
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
    mutex.own_anew(call.fiber);
    Ok(())
}

#[cold]
#[inline(never)]
fn wake_thread(word: &AtomicU32, shared: bool) {
    sys::futex_wake(word, 1, shared);
}

/// Waits as a plain thread does.
fn block(mutex: &Mutex) {
    let shared = mutex.is_shared();
    while mutex.word.swap(CONTENDED, Acquire) != 0 {
        sys::futex_wait(&mutex.word, CONTENDED, shared, None);
    }
}

/// pthread_mutex_trylock(3).
pub fn trylock(call: &Call<'_>, m: *mut pthread_mutex_t) -> Outcome {
    let mutex = of(m);
    if mutex.is_special() {
        return code(special::try_take(call, m));
    }
    call.inline();
    let result = match mutex.relock(call.fiber) {
        Some(result) if mutex.kind() == RECURSIVE => result,
        _ if mutex.try_word() => {
            mutex.own_anew(call.fiber);
            Ok(())
        }
        _ => {
            // Who tries in a loop waits for one that may be of the same thread.
            call.give_way();
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

/// Apart, so that the usual case needs no stack frame.
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
    // SAFETY: null, or this thread's attached Thread.
    unsafe { tls::here().as_ref() }.map_or(null_mut(), |thread| thread.host().running())
}

/// Unlocks what a fiber has.
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
        // SAFETY: the C caller's.
        plainly(|| unsafe { libc::pthread_mutex_unlock(m) })
    };
    if error == 0 {
        Ok(())
    } else {
        Err(Errno(error))
    }
}

/// Before a plain thread waits for a condition: libc will release `m` unseen, so those that wait
/// for it are to look again by themselves.
#[inline(always)]
pub fn before_unseen_release(m: *mut pthread_mutex_t) {
    released(m, Which::All);
}
