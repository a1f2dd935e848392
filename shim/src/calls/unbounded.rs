//! Waits that nothing bounds, in calls that no engine knows and nobody can poll for: a lock that another process holds.
//!
//! Such a call is first tried in a form that does not wait. Then it is made on a thread of the pool, if fewer than half of
//! its threads wait so: the others are for what ends by itself, and may be what ends these waits. Past that the fiber tries
//! again now and then, until it gets the lock or a thread: none starves the others, nor starves for ever.

use super::offload;
use crate::call::Call;
use crate::engine::{Names, Request};
use crate::errno::{self, Errno};
use crate::{pool, sys};

/// Nanoseconds between two tries: the first time, and at most.
const FIRST_PAUSE: u64 = 500_000;
const LONGEST_PAUSE: u64 = 16_000_000;

/// What `wait` returns, or `attempt` does when it need not wait. Err(EINTR) if the fiber was interrupted.
pub fn wait_for<R>(
    call: &Call<'_>,
    names: Names,
    mut attempt: impl FnMut() -> Option<R>,
    wait: impl Fn() -> R,
) -> Result<R, Errno> {
    let errno = errno::get();
    let mut pause = FIRST_PAUSE;
    loop {
        if let Some(result) = attempt() {
            return Ok(result);
        }
        // What a try in vain has set.
        errno::set(errno);
        if let Some(_one) = pool::Unbounded::begin()
            && let Some(result) = offload::run_on(call, names, &wait)
        {
            return Ok(result);
        }
        let claim = std::ptr::null();
        let paused = call.perform_until(&Request::Wait { claim }, sys::now() + pause);
        if Errno::of(paused) == Errno::RESTART {
            return Err(Errno::INTR);
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}
