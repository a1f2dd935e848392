//! poll(2), epoll_wait(2) and their variants: check what is ready; if nothing is, wait and check
//! again.
//!
//! A check is the plain call with a timeout of zero, so the kernel itself reports the events of
//! each descriptor.

use super::Verdict;
use crate::calls::via::offload;
use crate::runtime::call::Call;
use crate::runtime::completion::Unfinished;
use crate::runtime::deadlines::NEVER;
use crate::runtime::signal::Handled;
use crate::runtime::wait_set::{File, WaitSet};
use crate::state::holds::Hold;
use libc::{epoll_event, nfds_t, pollfd, sigset_t, timespec};
use policy::{Contention, Reason};
use std::cell::RefCell;
use std::ffi::c_int;
use sys::errno::Errno;
use sys::{SignalSet, outcome};
use syscalls::{Sysno, raw};

pub const NO_TIME: timespec = timespec {
    tv_sec: 0,
    tv_nsec: 0,
};

/// The longest pollfd array for which a wait is prepared; the kernel rejects longer ones with
/// EINVAL (RLIMIT_NOFILE).
const MAX_FILES: nfds_t = 1 << 30;

/// How long a call may wait: a number of nanoseconds, or forever.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    Nanos(u64),
    Forever,
}

impl Limit {
    pub fn of_millis(millis: c_int) -> Self {
        u64::try_from(millis).map_or(Self::Forever, |millis| Self::Nanos(millis * 1_000_000))
    }

    /// None if the kernel would report EINVAL or EFAULT.
    pub fn of_c(time: *const timespec) -> Option<Self> {
        Self::of(time_of_c(time).ok()?.as_ref())
    }

    /// None if the kernel would report EINVAL.
    pub fn of(time: Option<&timespec>) -> Option<Self> {
        let Some(time) = time else {
            return Some(Self::Forever);
        };
        sys::nanos_of(time).map(Self::Nanos)
    }
}

/// Reads a time from the C caller; None for a null pointer.
pub fn time_of_c<T: Copy>(time: *const T) -> Result<Option<T>, Errno> {
    if time.is_null() {
        return Ok(None);
    }
    sys::copy_in(time).map(Some)
}

pub fn poll(call: &Call<'_>, fds: *mut pollfd, n: nfds_t, timeout: c_int) -> Verdict {
    poll_for(call, fds, n, Limit::of_millis(timeout), std::ptr::null())
}

/// `__poll_chk`: libc's own call ends the program if the object is too small.
pub fn poll_chk(
    call: &Call<'_>,
    fds: *mut pollfd,
    n: nfds_t,
    timeout: c_int,
    object: usize,
) -> Verdict {
    if object / size_of::<pollfd>() < n as usize {
        return Verdict::PassThrough(Reason::Unusual);
    }
    poll(call, fds, n, timeout)
}

pub fn ppoll(
    call: &Call<'_>,
    fds: *mut pollfd,
    n: nfds_t,
    timeout: *const timespec,
    mask: *const sigset_t,
) -> Verdict {
    match Limit::of_c(timeout) {
        Some(limit) => poll_for(call, fds, n, limit, mask),
        None => Verdict::PassThrough(Reason::Unusual),
    }
}

/// `__ppoll_chk`: like [`poll_chk`].
pub fn ppoll_chk(
    call: &Call<'_>,
    fds: *mut pollfd,
    n: nfds_t,
    timeout: *const timespec,
    mask: *const sigset_t,
    object: usize,
) -> Verdict {
    if object / size_of::<pollfd>() < n as usize {
        return Verdict::PassThrough(Reason::Unusual);
    }
    ppoll(call, fds, n, timeout, mask)
}

fn poll_for(
    call: &Call<'_>,
    fds: *mut pollfd,
    n: nfds_t,
    limit: Limit,
    mask: *const sigset_t,
) -> Verdict {
    if n > MAX_FILES {
        return Verdict::PassThrough(Reason::Unusual);
    }
    // The kernel reads the array once, so the array of a call that waits is kept: other fibers may
    // change the C caller's.
    let kept = RefCell::new(None::<Vec<pollfd>>);
    let entry = |at: usize| {
        // SAFETY: an entry of the C caller's array, which the kernel has just read and written.
        // Another thread may write it, so it is copied.
        unsafe { fds.add(at).read_volatile() }
    };
    let has_changed = |kept: &[pollfd]| {
        kept.iter().enumerate().any(|(at, kept)| {
            let now = entry(at);
            now.fd != kept.fd || now.events != kept.events
        })
    };
    let check_kept = |kept: &mut [pollfd], limit: Option<&timespec>| {
        let found = plain(kept.as_mut_ptr(), n, limit)?;
        for (at, kept) in kept.iter().enumerate() {
            // SAFETY: an entry of the C caller's array, of which the kernel writes this field, too.
            unsafe { (&raw mut (*fds.add(at)).revents).write_volatile(kept.revents) };
        }
        Ok(found)
    };
    let check = |limit: Option<&timespec>| {
        let mut kept = kept.borrow_mut();
        match kept.as_mut() {
            // The C caller's array may change before the kernel reads it.
            Some(kept) if limit.is_none_or(takes_time) => check_kept(kept, limit),
            kept => {
                let found = plain(fds, n, limit)?;
                match kept {
                    Some(kept) if has_changed(kept) => check_kept(kept, limit),
                    _ => Ok(found),
                }
            }
        }
    };
    let files = || {
        let mut kept = kept.borrow_mut();
        let kept = kept.get_or_insert_with(|| (0..n as usize).map(entry).collect());
        let wanted = kept.iter().filter(|polled| polled.fd >= 0);
        wanted
            .map(|polled| File {
                fd: polled.fd,
                events: polled.events,
            })
            .collect()
    };
    wait(
        call,
        limit,
        mask,
        check,
        files,
        || false,
        || {
            // A copy of an array that has changed is the only one.
            let mut kept = kept.borrow_mut();
            if kept.as_ref().is_some_and(|kept| !has_changed(kept)) {
                *kept = None;
            }
        },
    )
}

fn takes_time(limit: &timespec) -> bool {
    limit.tv_sec != NO_TIME.tv_sec || limit.tv_nsec != NO_TIME.tv_nsec
}

/// ppoll(2) without a signal mask, on the C caller's array or on a copy of it.
fn plain(fds: *mut pollfd, n: nfds_t, limit: Option<&timespec>) -> Result<usize, Errno> {
    let limit = limit.map_or(0, |limit| std::ptr::from_ref(limit) as usize);
    let call = Sysno::ppoll as usize;
    // SAFETY: the kernel checks the array, which lives as long as the call. The time is our own
    // copy, which the kernel may change.
    outcome(unsafe { raw::syscall5(call, fds as usize, n as usize, limit, 0, 0) })
}

pub fn epoll_wait(
    call: &Call<'_>,
    epoll: c_int,
    events: *mut epoll_event,
    n: c_int,
    timeout: c_int,
) -> Verdict {
    epoll_for(
        call,
        epoll,
        events,
        n,
        Limit::of_millis(timeout),
        std::ptr::null(),
    )
}

pub fn epoll_pwait(
    call: &Call<'_>,
    epoll: c_int,
    events: *mut epoll_event,
    n: c_int,
    timeout: c_int,
    mask: *const sigset_t,
) -> Verdict {
    epoll_for(call, epoll, events, n, Limit::of_millis(timeout), mask)
}

pub fn epoll_pwait2(
    call: &Call<'_>,
    epoll: c_int,
    events: *mut epoll_event,
    n: c_int,
    timeout: *const timespec,
    mask: *const sigset_t,
) -> Verdict {
    match Limit::of_c(timeout) {
        Some(limit) => epoll_for(call, epoll, events, n, limit, mask),
        None => Verdict::PassThrough(Reason::Unusual),
    }
}

/// epoll_pwait2(2) for a libc that lacks it (before 2.35).
///
/// # Safety
/// The requirements of epoll_pwait2(2) apply.
pub unsafe extern "C" fn fallback_epoll_pwait2(
    epoll: c_int,
    events: *mut epoll_event,
    n: c_int,
    timeout: *const timespec,
    mask: *const sigset_t,
) -> c_int {
    let (call, size) = (Sysno::epoll_pwait2 as usize, size_of::<u64>());
    let (events, timeout, mask) = (events as usize, timeout as usize, mask as usize);
    // SAFETY: our caller guarantees what epoll_pwait2(2) requires.
    match outcome(unsafe {
        raw::syscall6(
            call,
            epoll as usize,
            events,
            n as usize,
            timeout,
            mask,
            size,
        )
    }) {
        Ok(n) => n as c_int,
        Err(error) => {
            sys::errno::set(error.0);
            -1
        }
    }
}

fn epoll_for(
    call: &Call<'_>,
    epoll: c_int,
    events: *mut epoll_event,
    n: c_int,
    limit: Limit,
    mask: *const sigset_t,
) -> Verdict {
    let hold = &Hold::new(epoll);
    let check = |limit: Option<&timespec>| {
        // In milliseconds, rounded up so that the wait does not end too early.
        let millis = limit.map_or(-1, |limit| {
            let millis = limit
                .tv_sec
                .saturating_mul(1000)
                .saturating_add((limit.tv_nsec + 999_999) / 1_000_000);
            c_int::try_from(millis).unwrap_or(c_int::MAX)
        });
        let call = Sysno::epoll_pwait as usize;
        let (events, millis) = (events as usize, millis as usize);
        // SAFETY: the C caller's array, during its call; the kernel checks it.
        outcome(unsafe {
            raw::syscall6(call, hold.fd() as usize, events, n as usize, millis, 0, 0)
        })
    };
    // Unlike the files of poll(2), which are looked up by number, this one stays the same while the
    // call lasts.
    let files = || {
        call.hold(hold);
        vec![File {
            fd: hold.fd(),
            events: libc::POLLIN,
        }]
    };
    wait(call, limit, mask, check, files, || hold.has_moved(), || ())
}

/// Checks, and waits until something is ready or the time is up. `check` is the plain call, with a
/// time limit. `is_stale` says whether `files` has changed since it was called; `release` frees the
/// memory that `files` keeps and can get again.
pub fn wait(
    call: &Call<'_>,
    limit: Limit,
    mask: *const sigset_t,
    check: impl Fn(Option<&timespec>) -> Result<usize, Errno>,
    files: impl Fn() -> Vec<File>,
    is_stale: impl Fn() -> bool,
    release: impl Fn(),
) -> Verdict {
    if limit == Limit::Nanos(0) {
        return Verdict::PassThrough(Reason::Nonblocking);
    }
    if call.load().contention == Contention::SoleFiber {
        return Verdict::PassThrough(Reason::Alone);
    }
    if !call.has_engine() {
        return Verdict::PassThrough(Reason::NoEngine);
    }
    let deadline = match limit {
        Limit::Nanos(nanos) => sys::now().saturating_add(nanos),
        Limit::Forever => NEVER,
    };
    let mask = match own_mask(mask) {
        Ok(mask) => mask,
        Err(error) => return Verdict::from_error(error),
    };
    let check_now = || match check(Some(&NO_TIME)) {
        // The kernel checks the files first and then for a signal. In between, the event may have
        // arrived, with a signal after it. The handler is deferred until this call ends, so check
        // once more first.
        Err(Errno::INTR) => check(Some(&NO_TIME)),
        found => found,
    };
    let mut found = check_now();
    if found != Ok(0) {
        call.inline();
        return Verdict::from_result(found.map(|n| n as isize));
    }
    let mut wait_set = WaitSet::new(call, files());
    while found == Ok(0) {
        match wait_set.wait(deadline, mask) {
            Ok(()) => {
                found = check_now();
                if found == Ok(0) && wait_set.discard_reports() {
                    found = check_now();
                }
                if found == Ok(0) && is_stale() {
                    drop(wait_set);
                    wait_set = WaitSet::new(call, files());
                }
            }
            Err(Unfinished::TimedOut) => {
                found = check_now();
                break;
            }
            Err(Unfinished::Interrupted) => {
                found = check_now();
                if found != Ok(0) {
                    // The event arrived before the signal.
                    break;
                }
                // A handler may jump away, and a cancelled fiber ends inside this call, so hold
                // nothing during it.
                drop(wait_set);
                release();
                // This applies even with SA_RESTART: signal(7).
                if call.interrupted_under(mask) != Handled::Nothing {
                    return Verdict::Failed(Errno::INTR);
                }
                wait_set = WaitSet::new(call, files());
            }
            Err(Unfinished::Failed(_) | Unfinished::NotDone) => {
                let left = (deadline != NEVER)
                    .then(|| sys::timespec_of(deadline.saturating_sub(sys::now())));
                let there = || check(left.as_ref());
                found = offload::run(call, there).unwrap_or_else(there);
                break;
            }
        }
    }
    Verdict::from_result(found.map(|n| n as isize))
}

/// Reads the call's own signal mask; a null pointer means none.
fn own_mask(mask: *const sigset_t) -> Result<Option<SignalSet>, Errno> {
    if mask.is_null() {
        return Ok(None);
    }
    // libc's signal set starts with the kernel's set.
    sys::copy_in(mask.cast::<SignalSet>()).map(Some)
}
