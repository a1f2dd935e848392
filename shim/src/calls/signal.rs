//! pause(2), sigsuspend(2), sigwait(3) and their variants: waits for signals.
//!
//! The first two wait until a handler runs. The others take a signal that is blocked and pending:
//! they check for one, and wait on a signalfd(2) until there is one. A read of the program's own
//! signalfd waits in the same way.

use super::{Verdict, poll};
use crate::engine::{Request, Transfer};
use crate::runtime::call::Call;
use crate::runtime::completion::Unfinished;
use crate::runtime::deadlines::{Deadline, NEVER};
use crate::runtime::restart::Restart;
use crate::runtime::signal::Handled;
use crate::state::descriptors;
use libc::{siginfo_t, sigset_t, timespec};
use policy::Reason;
use std::ffi::c_int;
use sys::SignalSet;
use sys::errno::Errno;
use sys::signal_bit;

/// How often sigwait(3) checks for a signal if it has no descriptor to wait for.
const CHECK_EVERY_NS: u64 = 20_000_000;

/// pause(2).
pub fn pause(call: &Call<'_>) -> Verdict {
    if let Some(reason) = call.reason_to_pass() {
        return Verdict::PassThrough(reason);
    }
    let claim = std::ptr::null();
    loop {
        let _ = call.perform(&Request::Wait { claim });
        if !call.continue_after_handlers(Restart::Never) {
            return Verdict::Failed(Errno::INTR);
        }
    }
}

/// sigsuspend(2).
pub fn sigsuspend(call: &Call<'_>, mask: *const sigset_t) -> Verdict {
    if let Some(reason) = call.reason_to_pass() {
        return Verdict::PassThrough(reason);
    }
    match of_c(mask) {
        Some(mask) => suspend(call, mask),
        None => Verdict::PassThrough(Reason::Unusual),
    }
}

fn suspend(call: &Call<'_>, mask: SignalSet) -> Verdict {
    let claim = std::ptr::null();
    loop {
        if let Err(Handled::Restart | Handled::End) =
            call.perform_handled(&Request::Wait { claim }, NEVER, mask)
        {
            return Verdict::Failed(Errno::INTR);
        }
    }
}

/// sigpause(3) as in BSD: a mask of 32 signals.
pub fn sigpause(call: &Call<'_>, mask: c_int) -> Verdict {
    match call.reason_to_pass() {
        Some(reason) => Verdict::PassThrough(reason),
        None => suspend(call, SignalSet::from(mask as u32)),
    }
}

/// sigpause(3) as in System V: one signal, which is unblocked during the call.
pub fn sigpause_one(call: &Call<'_>, signal: c_int) -> Verdict {
    match call.reason_to_pass() {
        Some(reason) => Verdict::PassThrough(reason),
        None if !(1..=64).contains(&signal) => Verdict::PassThrough(Reason::Unusual),
        None => suspend(call, call.thread.signals().blocked() & !signal_bit(signal)),
    }
}

/// `__sigpause`: either variant.
pub fn sigpause_either(call: &Call<'_>, what: c_int, is_signal: c_int) -> Verdict {
    if is_signal != 0 {
        sigpause_one(call, what)
    } else {
        sigpause(call, what)
    }
}

/// sigwait(3): returns the error as its result, and no handler ends it.
pub fn sigwait(call: &Call<'_>, set: *const sigset_t, signal: *mut c_int) -> Verdict {
    let Some(set) = of_c(set) else {
        return Verdict::PassThrough(Reason::Unusual);
    };
    if let Some(reason) = call.reason_to_pass() {
        return Verdict::PassThrough(reason);
    }
    loop {
        match take(call, set, std::ptr::null_mut(), NEVER) {
            Ok(taken) => {
                // SAFETY: the C caller passes a valid pointer.
                unsafe { signal.write(taken) };
                return Verdict::Done(0);
            }
            Err(Errno::INTR) if call.is_left_to_libc() => {
                return Verdict::PassThrough(Reason::Alone);
            }
            Err(Errno::INTR) => {}
            Err(error) => return Verdict::Done(error.0 as isize),
        }
    }
}

/// sigwaitinfo(2).
pub fn sigwaitinfo(call: &Call<'_>, set: *const sigset_t, info: *mut siginfo_t) -> Verdict {
    sigtimedwait(call, set, info, std::ptr::null())
}

/// sigtimedwait(2).
pub fn sigtimedwait(
    call: &Call<'_>,
    set: *const sigset_t,
    info: *mut siginfo_t,
    timeout: *const timespec,
) -> Verdict {
    let Some(set) = of_c(set) else {
        return Verdict::PassThrough(Reason::Unusual);
    };
    let deadline = match poll::Limit::of_c(timeout) {
        Some(poll::Limit::Forever) => NEVER,
        Some(poll::Limit::Nanos(nanos)) => sys::now().saturating_add(nanos),
        None => return Verdict::PassThrough(Reason::Unusual),
    };
    if let Some(reason) = call.reason_to_pass() {
        return Verdict::PassThrough(reason);
    }
    Verdict::from_result(take(call, set, info, deadline).map(|taken| {
        // SAFETY: null, or the kernel has just written it.
        if let Some(info) = unsafe { info.as_mut() }
            && info.si_code == libc::SI_TKILL
        {
            // As libc reports it: the sender used kill(2) or raise(3).
            info.si_code = libc::SI_USER;
        }
        taken as isize
    }))
}

/// Reads a set from the C caller. The kernel also reads only its first 64 bits. None for a bad
/// pointer.
fn of_c(set: *const sigset_t) -> Option<SignalSet> {
    sys::copy_in(set.cast::<SignalSet>()).ok()
}

/// Takes a pending signal of `set`, waiting for one until `deadline`. Fails with EAGAIN at the
/// deadline and with EINTR if the handler of another signal ran.
fn take(
    call: &Call<'_>,
    set: SignalSet,
    info: *mut siginfo_t,
    deadline: Deadline,
) -> Result<c_int, Errno> {
    // Signals that are not blocked would run their handlers. In the kernel, too, this call takes
    // them instead.
    let base = call.thread.signals().block(set);
    let taken = take_blocked(call, set, info, deadline);
    call.thread.signals().end_masked(base);
    taken
}

fn take_blocked(
    call: &Call<'_>,
    set: SignalSet,
    info: *mut siginfo_t,
    deadline: Deadline,
) -> Result<c_int, Errno> {
    loop {
        match take_now(call, set, info) {
            Err(Errno::AGAIN) if sys::now() >= deadline => return Err(Errno::AGAIN),
            Err(Errno::AGAIN) => {}
            taken => return taken,
        }
        let mut waited = Err(Unfinished::NotDone);
        if let Ok(fd) = sys::signal_descriptor(set).and_then(descriptors::adopt) {
            waited = call.perform_until(&Request::AwaitSignal { fd }, deadline);
            descriptors::disown(fd);
            let _ = sys::close(fd);
        }
        if waited == Err(Unfinished::NotDone) {
            // No descriptor is available, or no engine that could wait for one.
            let claim = std::ptr::null();
            waited = call.perform_until(
                &Request::Wait { claim },
                deadline.min(sys::now() + CHECK_EVERY_NS),
            );
        }
        if waited == Err(Unfinished::Interrupted) {
            // The signal may have arrived before the one that interrupted the wait.
            match take_now(call, set, info) {
                Err(Errno::AGAIN) => {}
                taken => return taken,
            }
            if !call.continue_after_handlers(Restart::Never) {
                return Err(Errno::INTR);
            }
        }
    }
}

/// Takes a pending signal of `set`, or one that arrived before the set was blocked and whose
/// handler is still deferred.
fn take_now(call: &Call<'_>, set: SignalSet, info: *mut siginfo_t) -> Result<c_int, Errno> {
    match call.thread.signals().take_deferred(set) {
        Some((signal, came_with)) if !info.is_null() => {
            sys::copy_out(info, came_with).map(|()| signal)
        }
        Some((signal, _)) => Ok(signal),
        // SAFETY: null or the C caller's memory; the kernel checks it.
        None => unsafe { sys::take_signal(set, info) },
    }
}

/// A read of a signalfd(2). This thread must make the read itself, because some signals are
/// directed at it alone.
pub fn read(call: &Call<'_>, transfer: &Transfer) -> Verdict {
    let duplicate = call.thread.duplicate_for_wait(transfer.fd);
    let fd = duplicate.unwrap_or(transfer.fd);
    let there = Transfer { fd, ..*transfer };
    let result = loop {
        let waited = call.perform(&Request::AwaitSignal { fd });
        if waited == Err(Unfinished::Interrupted) {
            break Err(Unfinished::Interrupted);
        }
        match there.call(if waited.is_err() { 0 } else { libc::RWF_NOWAIT }) {
            // Another fiber took the signal first.
            Err(Errno::AGAIN) => {}
            // Before Linux 6.10.
            Err(Errno::NOTSUP) if !sys::poll_now(fd, libc::POLLIN) => {}
            Err(Errno::NOTSUP) => break there.call(0).map_err(Unfinished::from),
            result => break result.map_err(Unfinished::from),
        }
    };
    if let Some(duplicate) = duplicate {
        call.thread.close_duplicate(duplicate);
    }
    Verdict::from_result(result.map(|n| n as isize))
}
