//! Waits without an upper bound, in calls that no engine supports and no poll covers, such as
//! waiting for a lock that another process holds.
//!
//! Such a call is first tried in a non-blocking form. Then a pool thread makes it, one of those
//! that wait for peers ([`pool`]). If all the threads that such calls may use are taken, the fiber
//! retries with backoff until it gets the lock or a thread.

use crate::calls::via::offload;
use crate::engine::{FdPin, KernelCall, Lane, Request, pool};
use crate::runtime::call::Call;
use crate::runtime::restart::{LastAttempt, Restart};
use sys::errno::{self, Errno};

/// Nanoseconds between two attempts: at first, and at most.
const FIRST_PAUSE: u64 = 500_000;
const LONGEST_PAUSE: u64 = 16_000_000;

/// Returns the result of `wait`, or of `attempt` if that does not have to wait. `wait` runs the
/// call on a pool thread: None if no thread is available, Err([`Errno::RESTART`]) if the fiber was
/// interrupted. Returns Err(EINTR) if handlers ended the wait.
pub fn wait_for<R>(
    call: &Call<'_>,
    restart: Restart,
    mut attempt: impl FnMut() -> Option<R>,
    wait: impl Fn() -> Option<Result<R, Errno>>,
) -> Result<R, Errno> {
    let errno = errno::get();
    let mut pause = FIRST_PAUSE;
    let mut last = LastAttempt::new();
    loop {
        if let Some(result) = attempt() {
            return Ok(result);
        }
        // Undo what the failed attempt has set.
        errno::set(errno);
        let waited = pool::UnboundedWaitPermit::acquire().and_then(|_permit| wait());
        let interrupted = match waited {
            Some(Err(Errno::RESTART)) => true,
            Some(result) => return result,
            None => {
                let claim = std::ptr::null();
                let paused = call.perform_until(&Request::Wait { claim }, sys::now() + pause);
                pause = (pause * 2).min(LONGEST_PAUSE);
                Errno::of(paused) == Errno::RESTART
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
pub fn run<R>(call: &Call<'_>, pin: FdPin, function: impl Fn() -> R) -> Option<Result<R, Errno>> {
    offload::run_on(call, pin, Lane::Peers, function).map(Ok)
}

/// Makes a system call on a pool thread; signals interrupt it.
pub fn perform(call: &Call<'_>, request: KernelCall) -> Option<Result<isize, Errno>> {
    let result = call.perform(&Request::Kernel(request));
    match Errno::of(result) {
        _ if result >= 0 => Some(Ok(result as isize)),
        Errno::CANCELED => None,
        error => Some(Err(error)),
    }
}
