//! Waits that nothing bounds, in calls that no engine knows and nobody can poll for: a lock that
//! another process holds.
//!
//! Such a call is first tried in a form that does not wait. Then a thread of the pool makes it, one
//! of those that wait for peers ([`pool`]). Where all of those that these calls may have are taken,
//! the fiber tries again now and then, until it gets the lock or a thread.

use super::offload;
use crate::call::{Call, LastLook};
use crate::engine::{KernelCall, Lane, Names, Request};
use crate::errno::{self, Errno};
use crate::signal::Handled;
use crate::{pool, sys};

/// Nanoseconds between two tries: the first time, and at most.
const FIRST_PAUSE: u64 = 500_000;
const LONGEST_PAUSE: u64 = 16_000_000;

/// Whether the call goes on after handlers that were installed with SA_RESTART: signal(7).
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Restarts {
    AsHandlersSay,
    Never,
}

/// What `wait` returns, or `attempt` does when it need not wait. `wait` has a thread of the pool do
/// it; None if there is none, Err([`Errno::RESTART`]) if the fiber was interrupted. Err(EINTR) if
/// handlers ended the wait.
pub fn wait_for<R>(
    call: &Call<'_>,
    restarts: Restarts,
    mut attempt: impl FnMut() -> Option<R>,
    wait: impl Fn() -> Option<Result<R, Errno>>,
) -> Result<R, Errno> {
    let errno = errno::get();
    let mut pause = FIRST_PAUSE;
    let mut look = LastLook::new();
    loop {
        if let Some(result) = attempt() {
            return Ok(result);
        }
        // What a try in vain has set.
        errno::set(errno);
        let waited = pool::Unbounded::begin().and_then(|_one| wait());
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
        // Only here, where it holds nothing: handlers may jump away, and a cancelled fiber ends in
        // there.
        let ends = |handled| match handled {
            Handled::Nothing => false,
            Handled::Restart => restarts == Restarts::Never,
            Handled::End => true,
        };
        if interrupted && !call.looks_again(&mut look) && ends(call.interrupted()) {
            return Err(Errno::INTR);
        }
    }
}

/// `function` on a thread of the pool, until it is done.
pub fn run<R>(call: &Call<'_>, names: Names, function: impl Fn() -> R) -> Option<Result<R, Errno>> {
    offload::run_on(call, names, Lane::Peers, function).map(Ok)
}

/// A system call on a thread of the pool, which signals interrupt.
pub fn perform(call: &Call<'_>, request: KernelCall) -> Option<Result<isize, Errno>> {
    let result = call.perform(&Request::Kernel(request));
    match Errno::of(result) {
        _ if result >= 0 => Some(Ok(result as isize)),
        Errno::CANCELED => None,
        error => Some(Err(error)),
    }
}
