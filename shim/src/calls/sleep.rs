//! nanosleep(2), clock_nanosleep(2) and their kin: a wait for a deadline, nothing else.

use super::Outcome;
use crate::call::Call;
use crate::engine::Request;
use crate::errno::Errno;
use crate::policy::{Alone, Why};
use crate::sys;

/// nanosleep(2).
pub fn nanosleep(call: &Call<'_>, time: *const libc::timespec, _left: *mut libc::timespec) -> Outcome {
    // SAFETY: the C caller's; null is libc's to answer.
    let Some(time) = (unsafe { time.as_ref() }) else {
        return Outcome::Through(Why::Unusual);
    };
    if !(0..1_000_000_000).contains(&time.tv_nsec) || time.tv_sec < 0 {
        return Outcome::Through(Why::Unusual);
    }
    sleep_for(call, time.tv_sec as u64, time.tv_nsec as u64)
}

/// usleep(3).
pub fn usleep(call: &Call<'_>, microseconds: libc::c_uint) -> Outcome {
    sleep_for(call, 0, u64::from(microseconds) * 1000)
}

/// sleep(3).
pub fn sleep(call: &Call<'_>, seconds: libc::c_uint) -> Outcome {
    sleep_for(call, u64::from(seconds), 0)
}

fn sleep_for(call: &Call<'_>, seconds: u64, nanos: u64) -> Outcome {
    if call.load().alone == Alone::Entirely {
        return Outcome::Through(Why::Alone);
    }
    if !call.has_engine() {
        return Outcome::Through(Why::NoEngine);
    }
    let deadline = sys::now().saturating_add(seconds.saturating_mul(1_000_000_000).saturating_add(nanos));
    let claim = std::ptr::null();
    match call.perform_until(&Request::Wait { claim }, deadline) {
        result if Errno::of(result) == Errno::RESTART => Outcome::Done(Err(Errno::INTR)),
        _ => Outcome::Done(Ok(0)),
    }
}
