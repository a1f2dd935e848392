//! pthread_once(3): libc runs the routine, on the fiber; other fibers that come meanwhile park
//! until it is done.
//!
//! libc's word is 0, or a number for the process since its last fork with bit 0 while the routine
//! runs, or 2 when it is done. A fiber that finds it free first writes a claim, which to other
//! fibers says that it is taken, and to libc that its runner was lost in a fork. So libc is never
//! entered by a fiber that would have to wait in it. An exception that leaves the routine leaves
//! libc's function and the hook as it does without us; then nobody looks into the lot, so those who
//! wait look by themselves.

use super::kernel::Futex;
use super::{Patience, Wait, plainly, released};
use crate::call::Call;
use crate::calls::Outcome;
use crate::deadlines::NEVER;
use crate::errno::Errno;
use crate::lot::{ANY, Which};
use crate::policy::Why;
use crate::sys;
use crate::thread::Thread;
use std::ffi::{CStr, c_int, c_void};
use std::sync::atomic::{AtomicI32, AtomicU32, Ordering::*};

pub type Routine = Option<unsafe extern "C" fn()>;

const IN_PROGRESS: i32 = 1;
const DONE: i32 = 2;
/// Of a fiber's claim: no process has forked that often.
const CLAIM: i32 = 1 << 30;

/// A control word to learn the process's number from.
static PROBE: AtomicI32 = AtomicI32::new(0);
static GENERATION: AtomicI32 = AtomicI32::new(0);

unsafe extern "C" {
    fn pthread_once(control: *mut c_int, routine: unsafe extern "C" fn()) -> c_int;
}

/// The child of a fork has another number.
pub fn renew() {
    PROBE.store(0, Relaxed);
}

unsafe extern "C" fn learn() {
    GENERATION.store(PROBE.load(Relaxed) & !(IN_PROGRESS | DONE), Relaxed);
}

fn generation() -> i32 {
    // SAFETY: a control word and a routine that stay.
    plainly(|| unsafe { pthread_once(PROBE.as_ptr(), learn) });
    GENERATION.load(Relaxed)
}

fn word<'a>(control: *mut c_int) -> &'a AtomicI32 {
    // SAFETY: the C caller's, which libc changes atomically.
    unsafe { AtomicI32::from_ptr(control) }
}

/// The usual case, at once.
#[inline(always)]
pub fn done(_: &Thread, control: *mut c_int, _: Routine) -> Option<c_int> {
    (word(control).load(Acquire) & DONE != 0).then_some(0)
}

/// The same for call_once(3).
#[inline(always)]
pub fn called(_: &Thread, control: *mut c_int, _: Routine) -> Option<()> {
    (word(control).load(Acquire) & DONE != 0).then_some(())
}

/// pthread_once(3) by libc, on a fiber or off: it may have been what others wait for.
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
/// pthread_once(3), which is our hook. The control word is changed and waited on as libc does it,
/// for libc may wait for the same one.
pub unsafe fn without_libc(control: *mut c_int, routine: Routine) -> c_int {
    // SAFETY: the C caller's, which everybody changes atomically; an AtomicU32 is laid out as an
    // AtomicI32.
    let word = unsafe { AtomicU32::from_ptr(control.cast()) };
    loop {
        match word.compare_exchange(0, IN_PROGRESS as u32, AcqRel, Acquire) {
            Ok(_) => break,
            Err(now) if now & DONE as u32 != 0 => return 0,
            Err(now) => sys::futex_wait(word, now, false, None),
        }
    }
    if let Some(routine) = routine {
        // SAFETY: the C caller's, to be called once.
        unsafe { routine() };
    }
    word.store(DONE as u32, Release);
    sys::futex_wake(word, u32::MAX >> 1, false);
    0
}

/// The same as [`run`] for call_once(3).
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

/// What C++'s std::call_once is about to call: its library hands that to the routine in two
/// variables of the thread's, which other fibers set while this one is parked.
struct Callable([Option<(*mut *mut c_void, *mut c_void)>; 2]);

impl Callable {
    fn save() -> Self {
        let variable = |name: &CStr| {
            // SAFETY: a lookup by name, of this thread's variable.
            let at =
                unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) }.cast::<*mut c_void>();
            // SAFETY: not null, it is a pointer of the calling thread's.
            (!at.is_null()).then(|| (at, unsafe { *at }))
        };
        Self(plainly(|| {
            [c"_ZSt15__once_callable", c"_ZSt11__once_call"].map(variable)
        }))
    }

    fn restore(self) {
        for (at, value) in self.0.into_iter().flatten() {
            // SAFETY: as in `save`; a fiber stays on its thread.
            unsafe { *at = value };
        }
    }
}

/// Parks until it is done, or this fiber's to do: by libc, then.
pub fn once(call: &Call<'_>, control: *mut c_int, _: Routine) -> Outcome {
    let word = word(control);
    let mut patience = Patience::new();
    loop {
        let now = word.load(Acquire);
        if now & DONE != 0 {
            call.inline();
            return Outcome::Done(Ok(0));
        }
        let running = generation() | IN_PROGRESS;
        if now == running || now == running | CLAIM {
            let wait = Wait {
                key: control.addr(),
                mark: ANY,
                again: false,
                deadline: patience.next(NEVER),
            };
            let callable = Callable::save();
            // libc wakes all that wait there when it is done, or given up.
            // SAFETY: of the same size, and alive during the call.
            let futex = Futex::of(
                unsafe { AtomicU32::from_ptr(control.cast()) },
                now as u32,
                false,
            );
            let waits_in_ring = futex.waits_in_ring(call);
            if waits_in_ring && futex.wait(call, NEVER) == Some(Err(Errno::RESTART)) {
                call.interrupted();
            } else if !waits_in_ring {
                wait.park(call, || word.load(Acquire) != now);
            }
            callable.restore();
        } else if word
            .compare_exchange(now, running | CLAIM, AcqRel, Relaxed)
            .is_ok()
        {
            return Outcome::Through(Why::Quick);
        }
    }
}
