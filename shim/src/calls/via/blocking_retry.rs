//! Waits without an upper bound, in calls that no engine supports and no poll covers, such as
//! waiting for a lock that another process holds.
//!
//! Such a call is first tried in a non-blocking form. Then a pool thread makes it, one of those
//! that wait for peers ([`pool`]). If all the threads that such calls may use are taken, the fiber
//! retries with backoff until it gets the lock or a thread.

use crate::calls::via::offload;
use crate::engine::{FdPin, KernelCall, Lane, Request, pool};
use crate::runtime::call::Call;
use crate::runtime::completion::Unfinished;
use crate::runtime::restart::{LastAttempt, Restart};
use sys::errno::{self, Errno};

/// Nanoseconds between two attempts: at first, and at most.
const FIRST_PAUSE: u64 = 500_000;
const LONGEST_PAUSE: u64 = 16_000_000;

/// Returns the result of `wait`, or of `attempt` if that does not have to wait. `wait` runs the
/// call on a pool thread. Fails with EINTR if handlers ended the wait.
pub fn wait_for<R>(
    call: &Call<'_>,
    restart: Restart,
    mut attempt: impl FnMut() -> Option<Result<R, Errno>>,
    wait: impl Fn() -> Result<R, Unfinished>,
) -> Result<R, Errno> {
    let errno = errno::get();
    let mut pause = FIRST_PAUSE;
    let mut last = LastAttempt::new();
    loop {
        if let Some(result) = attempt() {
            return result;
        }
        // Undo what the failed attempt has set.
        errno::set(errno);
        let waited = match pool::UnboundedWaitPermit::acquire() {
            Some(_permit) => wait(),
            None => Err(Unfinished::NotDone),
        };
        let interrupted = match waited {
            Ok(result) => return Ok(result),
            Err(Unfinished::Failed(error)) => return Err(error),
            Err(Unfinished::Interrupted) => true,
            Err(Unfinished::NotDone | Unfinished::TimedOut) => {
                let claim = std::ptr::null();
                let paused = call.perform_until(&Request::Wait { claim }, sys::now() + pause);
                pause = (pause * 2).min(LONGEST_PAUSE);
                paused == Err(Unfinished::Interrupted)
            }
        };
        // The only safe place for this, because the call holds nothing here: a handler may jump
        // away, and a cancelled fiber ends inside it.
        if interrupted && !call.continue_after_attempt(restart, &mut last) {
            return Err(Errno::INTR);
        }
    }
}

/// Runs `function` on a pool thread; signals do not interrupt it.
pub fn run<R>(call: &Call<'_>, pin: FdPin, function: impl Fn() -> R) -> Result<R, Unfinished> {
    offload::run_on(call, pin, Lane::Peers, function).ok_or(Unfinished::NotDone)
}

/// Makes a system call on a pool thread; signals interrupt it.
pub fn perform(call: &Call<'_>, request: KernelCall) -> Result<isize, Unfinished> {
    let completion = call.perform(&Request::Kernel(request));
    completion.map(|result| result as isize)
}
