//! The sleep of the worker: the event loop of `may` and the shim sleep together.
//!
//! The worker sleeps in epoll_wait(2), on an epoll instance that `may` keeps to itself. The
//! function here stands in front of that of libc in every program that uses this crate. For the
//! worker it adds the descriptor of the shim to the instance, and polls the shim after the sleep.
//! What became runnable is in the queue of `may` then, which the worker empties after each
//! epoll_wait.

use std::ffi::c_int;
use std::mem::transmute;
use std::os::fd::AsRawFd;
use std::ptr::null;
use std::sync::OnceLock;
use std::time::Duration;

use aioshim_host::{Attachment, SleepLimit};
use libc::{epoll_event, pollfd, timespec};

use crate::{ATTACHED, Worker};

/// Marks events of the shim's descriptor. Those of `may` carry addresses, or 0.
static MARK: u8 = 0;

type EpollWait = unsafe extern "C" fn(c_int, *mut epoll_event, c_int, c_int) -> c_int;

fn mark() -> u64 {
    (&raw const MARK).addr() as u64
}

/// The next function of this name: that of the shim or of libc.
fn next() -> EpollWait {
    static NEXT: OnceLock<EpollWait> = OnceLock::new();
    *NEXT.get_or_init(|| {
        // SAFETY: dlsym only looks the name up.
        let found = unsafe { libc::dlsym(libc::RTLD_NEXT, c"epoll_wait".as_ptr()) };
        assert!(!found.is_null(), "libc has epoll_wait");
        // SAFETY: a function of this name has this type.
        unsafe { transmute::<*mut libc::c_void, EpollWait>(found) }
    })
}

/// epoll_wait(2).
///
/// # Safety
/// The requirements of epoll_wait(2) apply.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn epoll_wait(
    epoll: c_int,
    events: *mut epoll_event,
    most: c_int,
    timeout: c_int,
) -> c_int {
    // SAFETY: our caller guarantees what epoll_wait(2) requires.
    let plain = |timeout| unsafe { next()(epoll, events, most, timeout) };
    ATTACHED
        .try_with(|attached| match attached.get() {
            // Not a coroutine, which may wait for an epoll instance of the program.
            Some(attached) if generator::get_local_data().is_null() => {
                let found = sleep(attached, epoll, timeout, plain);
                // SAFETY: the kernel has stored so many events.
                unsafe { without_mark(events, found) }
            }
            _ => plain(timeout),
        })
        .unwrap_or_else(|_| plain(timeout))
}

/// Sleeps until an event of `may` or the shim arrives.
fn sleep(
    attached: &Attachment<Worker>,
    epoll: c_int,
    timeout: c_int,
    plain: impl Fn(c_int) -> c_int,
) -> c_int {
    add_descriptor(attached, epoll);
    let found = match attached.arm() {
        SleepLimit::Runnable => plain(0),
        SleepLimit::Unlimited => plain(timeout),
        SleepLimit::For(limit) => {
            let given = u64::try_from(timeout).map_or(Duration::MAX, Duration::from_millis);
            wait_for(epoll, limit.min(given));
            plain(0)
        }
    };
    let error = std::io::Error::last_os_error();
    attached.poll();
    if found < 0 {
        // SAFETY: the address of this thread's errno.
        unsafe { *libc::__errno_location() = error.raw_os_error().unwrap_or(0) };
    }
    found
}

/// The instance holds the descriptor from the first sleep on.
fn add_descriptor(attached: &Attachment<Worker>, epoll: c_int) {
    if attached.host().epoll.replace(Some(epoll)) == Some(epoll) {
        return;
    }
    let mut event = epoll_event {
        events: libc::EPOLLIN as u32,
        u64: mark(),
    };
    if let Some(file) = attached.fd() {
        // SAFETY: the event is read during the call.
        unsafe { libc::epoll_ctl(epoll, libc::EPOLL_CTL_ADD, file.as_raw_fd(), &mut event) };
    }
}

/// Sleeps until the instance is readable or the time is up, which epoll_wait counts in
/// milliseconds.
fn wait_for(epoll: c_int, limit: Duration) {
    let mut file = pollfd {
        fd: epoll,
        events: libc::POLLIN,
        revents: 0,
    };
    let limit = timespec {
        tv_sec: i64::try_from(limit.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: limit.subsec_nanos().into(),
    };
    // SAFETY: one descriptor, and a time, during the call.
    unsafe { libc::ppoll(&mut file, 1, &limit, null()) };
}

/// Removes the event of the shim's descriptor from the `found` ones. Returns how many remain.
///
/// # Safety
/// `events` has `found` events.
unsafe fn without_mark(events: *mut epoll_event, found: c_int) -> c_int {
    let Ok(count) = usize::try_from(found) else {
        return found;
    };
    // SAFETY: our caller guarantees that.
    let events = unsafe { std::slice::from_raw_parts_mut(events, count) };
    match events.iter().position(|event| { event.u64 } == mark()) {
        Some(at) => {
            events[at] = events[count - 1];
            found - 1
        }
        None => found,
    }
}
