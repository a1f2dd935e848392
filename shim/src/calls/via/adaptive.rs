//! Calls on paths, attributes and disk space of files. libc's whole function runs inline while
//! recent calls were quick, otherwise on a pool thread ([`policy::adaptive`]).
//!
//! io_uring has operations for some of them. It passes all of these to a kernel thread at once,
//! which costs as much as a pool thread (docs/measured.md), and it has its own rules for flags.

use crate::calls::via::offload;
use crate::calls::{CResult, Verdict};
use crate::engine::{FdPin, Lane};
use crate::runtime::blocking;
use crate::runtime::call::Call;
use crate::state::descriptors;
use crate::state::latency::LatencySlot;
use policy::{CallKind, Decision, Reason};
use std::ffi::c_int;
use sys::errno::Errno;

pub use crate::engine::NO_FILE;

/// A transfer in memory takes less than this many nanoseconds a byte.
const COPY_NS_PER_BYTE: u64 = 1;

/// Runs `function`, which calls libc's own function, and returns its result. `file` is the
/// descriptor that the call is about, or from which it looks up a path; it may be AT_FDCWD.
#[inline]
pub fn call_libc<R: CResult>(
    call: &Call<'_>,
    kind: CallKind,
    file: c_int,
    function: impl Fn() -> R,
) -> Verdict<R> {
    if descriptors::is_shim_owned(file) {
        // To the program this descriptor is not open, and fstat(2) is how a program checks.
        return Verdict::Failed(Errno::BADF);
    }
    call_libc_on_two(call, kind, [file, NO_FILE], function)
}

/// Like [`call_libc`], with two descriptors, which may be the shim's own; the first is the one that
/// may be slow.
#[inline]
pub fn call_libc_on_two<R: CResult>(
    call: &Call<'_>,
    kind: CallKind,
    files: [c_int; 2],
    function: impl Fn() -> R,
) -> Verdict<R> {
    let latency = LatencySlot::of(kind, files[0]);
    match policy::adaptive(kind, latency.slow_rate(), call.load()) {
        Decision::PassThrough(reason) => Verdict::PassThrough(reason),
        Decision::Submit if !call.is_sole_fiber() => call_on_pool(call, kind, files, function),
        _ => {
            let result = timed(call, kind, latency, function);
            call.inline();
            Verdict::Done(result)
        }
    }
}

/// The same for a transfer that is made here or not at all: None if recent transfers were slow.
#[inline]
pub fn transfer_inline(
    call: &Call<'_>,
    files: [c_int; 2],
    function: impl Fn() -> isize,
) -> Option<isize> {
    if files.into_iter().any(descriptors::is_shim_owned) {
        return None;
    }
    let latency = LatencySlot::of(CallKind::Move, files[0]);
    match policy::adaptive(CallKind::Move, latency.slow_rate(), call.load()) {
        Decision::Submit => None,
        _ => Some(timed(call, CallKind::Move, latency, function)),
    }
}

/// Makes the call here, and records whether it was slow.
#[inline]
fn timed<R: CResult>(
    call: &Call<'_>,
    kind: CallKind,
    latency: LatencySlot,
    function: impl Fn() -> R,
) -> R {
    let timing = call.thread.suspicion().start();
    let passing = call.passing();
    let result = function();
    drop(passing);
    latency.record(timing.was_slow(slow_from(kind, &result)));
    result
}

/// From how many nanoseconds on a call with this result was slow.
#[inline(always)]
fn slow_from<R: CResult>(kind: CallKind, result: &R) -> u64 {
    match kind {
        CallKind::Move => policy::SLOW_NS + result.count() * COPY_NS_PER_BYTE,
        _ => policy::SLOW_NS,
    }
}

#[cold]
#[inline(never)]
fn call_on_pool<R: CResult>(
    call: &Call<'_>,
    kind: CallKind,
    files: [c_int; 2],
    function: impl Fn() -> R,
) -> Verdict<R> {
    let timed = || blocking::watch(&function, |result| slow_from(kind, result));
    let Some((result, is_slow)) = offload::run_on(call, FdPin::UntilDone(files), Lane::Disk, timed)
    else {
        return Verdict::PassThrough(Reason::NoEngine);
    };
    LatencySlot::of(kind, files[0]).record(is_slow);
    // Past RLIMIT_FSIZE, and for a pipe without readers, the call also raises a signal in the
    // calling thread, so this thread must make it. The failed call had no effect, and will fail
    // again.
    let signals = matches!(kind, CallKind::Space | CallKind::Move);
    if signals && result.is_failure() && matches!(result.error(), libc::EFBIG | libc::EPIPE) {
        let _passing = call.passing();
        return Verdict::Done(function());
    }
    Verdict::Done(result)
}
