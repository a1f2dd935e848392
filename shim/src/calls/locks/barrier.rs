//! pthread_barrier_*(3): fibers and threads share libc's own counters; only the way they wait
//! differs.
//!
//! Everyone who enters gets a number. When enough have entered, the round is complete and its last
//! number is published. A fiber enters as libc does, but parks instead of waiting on the futex of
//! the published number.

use super::kernel::Futex;
use super::{WAIT_TABLE, Wait, WaitBackoff, released};
use crate::calls::Verdict;
use crate::runtime::call::Call;
use crate::runtime::completion::Unfinished;
use crate::runtime::deadlines::NEVER;
use libc::pthread_barrier_t;
use policy::Reason;
use queue::wait_table::{ANY, Which};
use std::ffi::c_int;
use std::sync::atomic::{AtomicU32, Ordering::*, fence};

/// libc's `struct pthread_barrier`.
#[repr(C)]
struct Barrier {
    /// How many have entered since the barrier was made or reset.
    entered: AtomicU32,
    /// The published number: the value of `entered` at the end of the last complete round.
    complete: AtomicU32,
    count: u32,
    shared: u32,
    /// How many have left.
    left: AtomicU32,
}

/// When this many have entered, libc resets the counters at the end of the round.
const MAX_ENTERED: u32 = u32::MAX / 2;

fn of<'a>(b: *mut pthread_barrier_t) -> &'a Barrier {
    // SAFETY: the C caller passes an initialised barrier that stays alive during the call; the
    // layouts are the same.
    unsafe { &*b.cast::<Barrier>() }
}

impl Barrier {
    fn last_number(&self) -> u32 {
        MAX_ENTERED - MAX_ENTERED % self.count
    }

    /// Wakes threads and fibers that wait for `word` to change.
    fn wake(&self, word: &AtomicU32) {
        sys::futex_wake(word, u32::MAX >> 1, self.shared != 0);
        fence(SeqCst);
        WAIT_TABLE
            .get()
            .wake_exactly(std::ptr::from_ref(self).addr(), Which::All);
    }

    /// Parks until `word` is not `value` any more.
    fn wait(&self, call: &Call<'_>, word: &AtomicU32, value: u32) {
        let mut backoff = WaitBackoff::new();
        while word.load(Acquire) == value {
            if self.shared != 0 {
                match Futex::of(word, value, true).wait(call, NEVER) {
                    Err(Unfinished::NotDone) => {}
                    Err(Unfinished::Interrupted) => {
                        call.interrupted();
                        continue;
                    }
                    _ => continue,
                }
            }
            let wait = Wait {
                key: std::ptr::from_ref(self).addr(),
                mark: ANY,
                again: false,
                // Another process's entries are not noticed, so look again periodically.
                deadline: if self.shared != 0 {
                    backoff.next(NEVER)
                } else {
                    NEVER
                },
            };
            wait.park(call, || word.load(Acquire) != value);
        }
    }

    /// Enters the barrier and returns the caller's number.
    fn enter(&self, call: &Call<'_>) -> u32 {
        loop {
            let number = self.entered.fetch_add(1, AcqRel) + 1;
            if number <= self.last_number() {
                return number;
            }
            // The counters are about to be reset; enter again afterwards.
            let mut now = number;
            while now > self.last_number() {
                self.wait(call, &self.entered, now);
                now = self.entered.load(Acquire);
            }
        }
    }
}

/// pthread_barrier_wait(3).
pub fn wait(call: &Call<'_>, b: *mut pthread_barrier_t) -> Verdict {
    let barrier = of(b);
    let (count, number) = (barrier.count, barrier.enter(call));
    let mut complete = barrier.complete.load(Relaxed);
    while complete + count <= number {
        // The caller completes its round.
        let round = number - number % count;
        match barrier
            .complete
            .compare_exchange_weak(complete, round, Release, Relaxed)
        {
            Ok(_) => {
                barrier.wake(&barrier.complete);
                complete = round;
                break;
            }
            Err(now) => complete = now,
        }
    }
    while number > complete {
        barrier.wait(call, &barrier.complete, complete);
        complete = barrier.complete.load(Acquire);
    }
    fence(Acquire);
    let last = barrier.last_number();
    // From here on another thread may destroy the barrier, unless this is the last one to leave
    // before a reset.
    if barrier.left.fetch_add(1, Release) + 1 == last {
        fence(Acquire);
        barrier.complete.store(0, Relaxed);
        barrier.left.store(0, Relaxed);
        barrier.entered.store(0, Release);
        barrier.wake(&barrier.entered);
    }
    let serial = number.is_multiple_of(count);
    Verdict::Done(if serial {
        libc::PTHREAD_BARRIER_SERIAL_THREAD as isize
    } else {
        0
    })
}

/// pthread_barrier_wait(3) off a fiber.
#[inline(always)]
pub unsafe fn wait_plainly(
    real: unsafe extern "C" fn(*mut pthread_barrier_t) -> c_int,
    b: *mut pthread_barrier_t,
) -> c_int {
    // SAFETY: libc's own function, with its caller's argument.
    let result = unsafe { real(b) };
    released(b, Which::All);
    result
}

/// pthread_barrier_destroy(3) waits until everyone has left. Some may be fibers of this thread,
/// which must be able to run.
pub fn destroy(call: &Call<'_>, b: *mut pthread_barrier_t) -> Verdict {
    let barrier = of(b);
    while barrier.left.load(Acquire) != barrier.entered.load(Relaxed) {
        call.thread.yield_now(call.fiber);
    }
    Verdict::PassThrough(Reason::Quick)
}
