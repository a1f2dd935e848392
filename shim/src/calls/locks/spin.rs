//! pthread_spin_lock(3), sched_yield(2): a fiber that would spin lets the other fibers of its
//! thread run, because one of them may hold the lock.

use crate::calls::Verdict;
use crate::context;
use crate::runtime::call::Call;
use crate::state::allocator;
use std::ffi::c_int;
use std::hint::spin_loop;

pub type Lock = c_int;

unsafe extern "C" {
    fn pthread_spin_trylock(lock: *mut Lock) -> c_int;
}

/// Attempts between two yields.
const SPINS: u32 = 100;

/// pthread_spin_lock(3).
pub fn lock(call: &Call<'_>, lock: *mut Lock) -> Verdict {
    call.inline();
    loop {
        for _ in 0..SPINS {
            // SAFETY: the C caller passes a valid lock.
            if context::in_libc(|| unsafe { pthread_spin_trylock(lock) }) == 0 {
                return Verdict::Done(0);
            }
            spin_loop();
        }
        let_others_run(call);
    }
}

/// Lets other fibers run or, if no other can run, other threads.
fn let_others_run(call: &Call<'_>) {
    let in_malloc = allocator::is_calling();
    if in_malloc || call.thread.host().runnable() == 0 {
        rustix::thread::sched_yield();
    }
    if !in_malloc {
        call.thread.yield_now(call.fiber);
    }
}

/// pthread_spin_trylock(3). A failed attempt counts against the fiber's quantum, because another
/// fiber of this thread may hold the lock.
pub fn trylock(call: &Call<'_>, lock: *mut Lock) -> Verdict {
    call.inline();
    // SAFETY: the C caller passes a valid lock.
    let error = context::in_libc(|| unsafe { pthread_spin_trylock(lock) });
    if error != 0 {
        call.yield_if_exhausted();
    }
    Verdict::Done(error as isize)
}

/// sched_yield(2), pthread_yield(3), thrd_yield(3).
pub fn yield_now(call: &Call<'_>) -> Verdict {
    call.inline();
    let_others_run(call);
    Verdict::Done(0)
}
