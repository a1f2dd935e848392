//! select(2) and pselect(2), implemented like [`super::poll`]. The sets are copied for each check,
//! because a check clears them.

use super::Verdict;
use super::poll::{self, Limit};
use crate::runtime::call::Call;
use crate::runtime::wait_set::File;
use libc::{fd_set, sigset_t, timespec, timeval};
use policy::Reason;
use std::cell::RefCell;
use std::ffi::c_int;
use sys::errno::Errno;
use sys::outcome;
use syscalls::{Sysno, raw};

/// The events of poll(2) for which select(2) reports readable, writable and exceptional.
const EVENTS: [i16; 3] = [
    libc::POLLIN | libc::POLLRDNORM | libc::POLLRDBAND,
    libc::POLLOUT | libc::POLLWRNORM | libc::POLLWRBAND,
    libc::POLLPRI,
];

const BITS: usize = u64::BITS as usize;

/// select(2): the remaining time is written back, as on Linux.
pub fn select(
    call: &Call<'_>,
    n: c_int,
    readable: *mut fd_set,
    writable: *mut fd_set,
    exceptional: *mut fd_set,
    timeout: *mut timeval,
) -> Verdict {
    let Ok(time) = poll::time_of_c(timeout) else {
        return Verdict::PassThrough(Reason::Unusual);
    };
    let time = time.map(|time: timeval| timespec {
        tv_sec: time.tv_sec.saturating_add(time.tv_usec / 1_000_000),
        tv_nsec: time.tv_usec % 1_000_000 * 1000,
    });
    let begin = sys::now();
    let sets = [readable, writable, exceptional];
    let outcome = select_for(call, n, sets, time.as_ref(), std::ptr::null());
    if let (Verdict::Done(_) | Verdict::Failed(_), Some(Limit::Nanos(nanos))) =
        (&outcome, Limit::of(time.as_ref()))
        && !timeout.is_null()
    {
        let left = nanos.saturating_sub(sys::now() - begin);
        let left = timeval {
            tv_sec: (left / 1_000_000_000) as i64,
            tv_usec: (left % 1_000_000_000 / 1000) as i64,
        };
        // The kernel also ignores a failure to write it.
        let _ = sys::copy_out(timeout, left);
    }
    outcome
}

pub fn pselect(
    call: &Call<'_>,
    n: c_int,
    readable: *mut fd_set,
    writable: *mut fd_set,
    exceptional: *mut fd_set,
    timeout: *const timespec,
    mask: *const sigset_t,
) -> Verdict {
    match poll::time_of_c(timeout) {
        Ok(time) => select_for(
            call,
            n,
            [readable, writable, exceptional],
            time.as_ref(),
            mask,
        ),
        Err(_) => Verdict::PassThrough(Reason::Unusual),
    }
}

fn select_for(
    call: &Call<'_>,
    n: c_int,
    sets: [*mut fd_set; 3],
    time: Option<&timespec>,
    mask: *const sigset_t,
) -> Verdict {
    let (Some(limit), Ok(n)) = (Limit::of(time), usize::try_from(n)) else {
        return Verdict::PassThrough(Reason::Unusual);
    };
    if limit == Limit::Nanos(0) {
        return Verdict::PassThrough(Reason::Nonblocking);
    }
    // The kernel also checks only as far as its descriptor table reaches.
    let n = n.min(sys::descriptor_table_size(n));
    let sets = sets.map(|set| set.cast::<u64>());
    let mut wanted: [Option<Vec<u64>>; 3] = [const { None }; 3];
    for (wanted, set) in wanted
        .iter_mut()
        .zip(sets)
        .filter(|(_, set)| !set.is_null())
    {
        match sys::copy_words_in(set, n.div_ceil(BITS)) {
            Ok(words) => *wanted = Some(words),
            Err(_) => return Verdict::PassThrough(Reason::Unusual),
        }
    }
    let found = RefCell::new(wanted.clone());
    let check = |limit: Option<&timespec>| {
        let mut found = found.borrow_mut();
        found.clone_from(&wanted);
        plain(n, &mut found, limit)
    };
    let files = || files(n, &wanted);
    let outcome = poll::wait(call, limit, mask, check, files, || false, || ());
    if let Verdict::Done(_) = outcome {
        for (set, words) in sets.into_iter().zip(found.borrow().iter()) {
            if let Some(words) = words
                && let Err(error) = sys::copy_words_out(set, words)
            {
                return Verdict::from_error(error);
            }
        }
    }
    outcome
}

/// pselect6(2) on our own copies of the sets.
fn plain(
    n: usize,
    sets: &mut [Option<Vec<u64>>; 3],
    limit: Option<&timespec>,
) -> Result<usize, Errno> {
    let at =
        |set: &mut Option<Vec<u64>>| set.as_mut().map_or(0, |words| words.as_mut_ptr() as usize);
    let [readable, writable, exceptional] = sets.each_mut().map(at);
    // The kernel overwrites this with the remaining time.
    let mut limit = limit.copied();
    let limit = limit
        .as_mut()
        .map_or(0, |limit| std::ptr::from_mut(limit) as usize);
    let call = Sysno::pselect6 as usize;
    // SAFETY: the sets are alive and have at least `n` bits.
    outcome(unsafe { raw::syscall6(call, n, readable, writable, exceptional, limit, 0) })
}

/// The descriptors below `n` in the three sets.
fn files(n: usize, sets: &[Option<Vec<u64>>; 3]) -> Vec<File> {
    let mut files = Vec::new();
    for (events, words) in EVENTS.into_iter().zip(sets) {
        for (at, &word) in words.iter().flatten().enumerate() {
            let mut left = word;
            while left != 0 {
                let fd = at * BITS + left.trailing_zeros() as usize;
                left &= left - 1;
                if fd < n {
                    files.push(File {
                        fd: fd as c_int,
                        events,
                    });
                }
            }
        }
    }
    files
}
