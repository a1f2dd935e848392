//! Calls on names, attributes and space of files: libc's whole function, inline while the last ones
//! were quick, else on a thread of the pool ([`crate::policy::paced`]).
//!
//! io_uring has operations for some of them. All of these go to a kernel thread at once, which
//! costs what a thread of the pool costs (docs/measured.md), and have rules of their own for flags.

use super::{CResult, offload};
use crate::call::Call;
use crate::engine::{Lane, Names};
use crate::errno;
use crate::fds;
use crate::paces::Account;
use crate::policy::{self, Decision, Kind, Why};
use crate::stopwatch::Stopwatch;
use std::ffi::c_int;

pub use crate::engine::NO_FILE;

/// What `function`, libc's own, returns; None if libc is to be called as ever. `file` is the
/// descriptor that the call is about, or from which it looks up a name, AT_FDCWD included.
#[inline]
pub fn whole<R: CResult>(
    call: &Call<'_>,
    kind: Kind,
    file: c_int,
    function: impl Fn() -> R,
) -> Option<R> {
    whole_of_two(call, kind, [file, NO_FILE], function)
}

/// The same for a call that may name two descriptors; the first is the one that may be slow.
#[inline]
pub fn whole_of_two<R: CResult>(
    call: &Call<'_>,
    kind: Kind,
    files: [c_int; 2],
    function: impl Fn() -> R,
) -> Option<R> {
    let [file, _] = files;
    if files.into_iter().any(fds::is_ours) {
        // To the program it is not open, and fstat(2) is how it looks.
        errno::set(libc::EBADF);
        return Some(R::from_done(-1));
    }
    let account = Account::of(kind, file);
    match policy::paced(kind, account.pace(), call.load()) {
        Decision::Through(why) => {
            call.through(why);
            None
        }
        Decision::Submit if !call.is_sole_fiber() => hand_over(call, kind, files, function),
        _ => {
            let watch = Stopwatch::start();
            let passing = call.passing();
            let result = function();
            drop(passing);
            account.took(watch.roughly());
            call.inline();
            Some(result)
        }
    }
}

#[cold]
#[inline(never)]
fn hand_over<R: CResult>(
    call: &Call<'_>,
    kind: Kind,
    files: [c_int; 2],
    function: impl Fn() -> R,
) -> Option<R> {
    let timed = || {
        let watch = Stopwatch::start();
        let result = function();
        (result, watch.roughly())
    };
    let Some((result, nanos)) = offload::run_on(call, Names::UntilDone(files), Lane::Disk, timed)
    else {
        call.through(Why::NoEngine);
        return None;
    };
    Account::of(kind, files[0]).took(nanos);
    // Past RLIMIT_FSIZE, and for a pipe that nobody reads, the call raises a signal as well, in the
    // thread that makes it: ours. It has failed without an effect, and does so again.
    let signals = matches!(kind, Kind::Space | Kind::Move);
    if signals && result.is_failure() && matches!(result.error(), libc::EFBIG | libc::EPIPE) {
        let _passing = call.passing();
        return Some(function());
    }
    Some(result)
}
