//! pthread_once(3): libc runs the routine on the fiber. Other fibers that call it in the meantime
//! park until the routine is done.
//!
//! libc's control word starts as 0. While the routine runs, it is a generation number, which
//! changes with every fork, with bit 0 set. When the routine is done, it is 2. A fiber that finds
//! the word free first writes a claim. Other fibers read the claim as "taken"; libc reads it as a
//! run that a fork interrupted, and runs the routine. Therefore a fiber never enters libc when it
//! would have to wait there. If an exception leaves the routine, it unwinds through libc's function
//! and the hook as it does without the shim. Nothing wakes the wait queue in that case, so the
//! waiting fibers check the word periodically.

use super::kernel::Futex;
use super::{Wait, WaitBackoff, released};
use crate::calls::Verdict;
use crate::context;
use crate::runtime::call::Call;
use crate::runtime::completion::Unfinished;
use crate::runtime::deadlines::NEVER;
use crate::runtime::thread::Thread;
use policy::Reason;
use queue::wait_table::{ANY, Which};
use std::ffi::{CStr, c_int, c_void};
use std::sync::atomic::{AtomicI32, AtomicU32, Ordering::*};

pub type Routine = Option<unsafe extern "C" fn()>;

const IN_PROGRESS: i32 = 1;
const DONE: i32 = 2;
/// The bit that marks a fiber's claim. No process forks often enough for its generation to reach
/// it.
const CLAIM: i32 = 1 << 30;

/// A control word from which the process's generation number is read.
static PROBE: AtomicI32 = AtomicI32::new(0);
static GENERATION: AtomicI32 = AtomicI32::new(0);

unsafe extern "C" {
    fn pthread_once(control: *mut c_int, routine: unsafe extern "C" fn()) -> c_int;
}

// Forgets the generation number, because the child of a fork has another one.
after_fork!(|| PROBE.store(0, Relaxed));

unsafe extern "C" fn learn() {
    GENERATION.store(PROBE.load(Relaxed) & !(IN_PROGRESS | DONE), Relaxed);
}

fn generation() -> i32 {
    // SAFETY: the control word and the routine are static.
    context::in_libc(|| unsafe { pthread_once(PROBE.as_ptr(), learn) });
    GENERATION.load(Relaxed)
}

fn word<'a>(control: *mut c_int) -> &'a AtomicI32 {
    // SAFETY: the C caller passes a valid control word, and libc accesses it atomically.
    unsafe { AtomicI32::from_ptr(control) }
}

/// The fast path: returns at once if the routine is done.
#[inline(always)]
pub fn done(_: &Thread, control: *mut c_int, _: Routine) -> Option<c_int> {
    (word(control).load(Acquire) & DONE != 0).then_some(0)
}

/// The fast path of call_once(3).
#[inline(always)]
pub fn called(_: &Thread, control: *mut c_int, _: Routine) -> Option<()> {
    (word(control).load(Acquire) & DONE != 0).then_some(())
}

/// Calls libc's pthread_once(3), on a fiber or off, then wakes the fibers that wait for the
/// routine.
#[inline(always)]
pub unsafe fn run(
    real: unsafe extern "C" fn(*mut c_int, Routine) -> c_int,
    control: *mut c_int,
    routine: Routine,
) -> c_int {
    // SAFETY: libc's own function, with its caller's arguments.
    let result = unsafe { real(control, routine) };
    released(control, Which::All);
    result
}

/// pthread_once(3) while libc's own is being looked up: before glibc 2.34 dlsym(3) calls
/// pthread_once(3), which is our hook. This function changes the control word and waits on it
/// exactly as libc does, because libc may wait on the same word.
pub unsafe fn without_libc(control: *mut c_int, routine: Routine) -> c_int {
    // SAFETY: the C caller passes a valid control word, and everyone changes it atomically.
    // AtomicU32 and AtomicI32 have the same layout.
    let word = unsafe { AtomicU32::from_ptr(control.cast()) };
    loop {
        match word.compare_exchange(0, IN_PROGRESS as u32, AcqRel, Acquire) {
            Ok(_) => break,
            Err(now) if now & DONE as u32 != 0 => return 0,
            Err(now) => sys::futex_wait(word, now, false, None),
        }
    }
    if let Some(routine) = routine {
        // SAFETY: the C caller's routine, which is to be called once.
        unsafe { routine() };
    }
    word.store(DONE as u32, Release);
    sys::futex_wake(word, u32::MAX >> 1, false);
    0
}

/// Like [`run`], for call_once(3).
#[inline(always)]
pub unsafe fn call(
    real: unsafe extern "C" fn(*mut c_int, Routine),
    control: *mut c_int,
    routine: Routine,
) {
    // SAFETY: libc's own function, with its caller's arguments.
    unsafe { real(control, routine) };
    released(control, Which::All);
}

/// The callable that C++'s std::call_once is about to call. libstdc++ passes it to the routine in
/// two thread-local variables, and other fibers may overwrite them while this one is parked.
struct Callable([Option<(*mut *mut c_void, *mut c_void)>; 2]);

impl Callable {
    fn save() -> Self {
        let variable = |name: &CStr| {
            // SAFETY: looks this thread's variable up by name.
            let at =
                unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) }.cast::<*mut c_void>();
            // SAFETY: not null, so it points to a variable of the calling thread.
            (!at.is_null()).then(|| (at, unsafe { *at }))
        };
        Self(context::in_libc(|| {
            [c"_ZSt15__once_callable", c"_ZSt11__once_call"].map(variable)
        }))
    }

    fn restore(self) {
        for (at, value) in self.0.into_iter().flatten() {
            // SAFETY: the addresses came from `save` on this thread, and a fiber stays on its
            // thread.
            unsafe { *at = value };
        }
    }
}

/// Parks until the routine is done or this fiber has claimed it; in the latter case libc runs it.
pub fn once(call: &Call<'_>, control: *mut c_int, _: Routine) -> Verdict {
    let word = word(control);
    let mut backoff = WaitBackoff::new();
    loop {
        let now = word.load(Acquire);
        if now & DONE != 0 {
            call.inline();
            return Verdict::Done(0);
        }
        let running = generation() | IN_PROGRESS;
        if now == running || now == running | CLAIM {
            let wait = Wait {
                key: control.addr(),
                mark: ANY,
                again: false,
                deadline: backoff.next(NEVER),
            };
            let callable = Callable::save();
            // libc wakes all waiters on the word when the routine is done or was abandoned.
            // SAFETY: AtomicU32 has the size of the control word, which is alive during the call.
            let futex = Futex::of(
                unsafe { AtomicU32::from_ptr(control.cast()) },
                now as u32,
                false,
            );
            let waits_in_ring = futex.waits_in_ring(call);
            if waits_in_ring && futex.wait(call, NEVER) == Err(Unfinished::Interrupted) {
                call.interrupted();
            } else if !waits_in_ring {
                wait.park(call, || word.load(Acquire) != now);
            }
            callable.restore();
        } else if word
            .compare_exchange(now, running | CLAIM, AcqRel, Relaxed)
            .is_ok()
        {
            return Verdict::PassThrough(Reason::Quick);
        }
    }
}
