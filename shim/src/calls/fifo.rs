//! Waiting for the first writer of a FIFO that is open for reading.
//!
//! poll(2) does not tell a FIFO's reader that a writer has opened the FIFO. inotify(7) reports
//! every open, and its descriptor can be polled. The number of inotify instances per user is
//! limited. Without one, a pool thread opens the FIFO a second time, because that open blocks in
//! the kernel until there is a writer. A writer that has already closed the FIFO is detected by the
//! data or the hang-up that it left.

use crate::engine::{FdPin, KernelCall, Request};
use crate::runtime::call::Call;
use crate::runtime::completion::Unfinished;
use crate::runtime::deadlines::Deadline;
use crate::state::descriptors;
use rustix::fs::inotify;
use std::ffi::{CString, c_int};
use std::os::fd::{BorrowedFd, IntoRawFd};
use sys::errno::Errno;
use sys::{PipeState, Sysno};

/// How long the second open waits before the FIFO is checked again, in case a writer opened and
/// closed it just before. The first value; it doubles each time.
const FIRST_CHECK_NS: u64 = 10_000_000;

/// How often to check the FIFO if no pool thread is available either.
const CHECK_EVERY_NS: u64 = 16_000_000;

/// Parks until `fifo`, which is open for reading, has or has had a writer since it was opened.
/// Fails if the fiber was interrupted.
pub fn await_writer(call: &Call<'_>, fifo: c_int) -> Result<(), Unfinished> {
    let openings = Openings::watch(fifo);
    let mut check_after = FIRST_CHECK_NS;
    // Openings::watch comes before this check, so a writer that opens the FIFO later causes an
    // event.
    while !had_writer(fifo) {
        let waited = match &openings {
            Some(openings) => openings.wait(call),
            None => {
                let deadline = sys::now().saturating_add(check_after);
                check_after = check_after.saturating_mul(2);
                await_second_open(call, fifo, deadline)
            }
        };
        // A writer may have opened the FIFO before the signal arrived.
        if waited == Err(Unfinished::Interrupted) && !had_writer(fifo) {
            return waited;
        }
    }
    Ok(())
}

/// Whether `fifo`, which is open for reading, has a writer or has had one since it was opened;
/// false if that cannot be determined.
pub fn had_writer(fifo: c_int) -> bool {
    matches!(
        sys::pipe_state(fifo),
        Some(PipeState::Data | PipeState::Empty)
    ) || sys::poll_now(fifo, libc::POLLIN)
}

/// Lets a pool thread open the FIFO for reading a second time, until a writer opens it or the
/// deadline passes.
fn await_second_open(call: &Call<'_>, fifo: c_int, deadline: Deadline) -> Result<(), Unfinished> {
    let path = CString::new(path_of(fifo)).map_err(|_| Errno::INVAL)?;
    let flags = libc::O_RDONLY | libc::O_CLOEXEC;
    let open = KernelCall {
        number: Sysno::openat,
        arguments: [
            libc::AT_FDCWD as usize,
            path.as_ptr() as usize,
            flags as usize,
            0,
            0,
            0,
        ],
        pin: FdPin::None,
        is_first_try: false,
    };
    match call.perform_until(&Request::Kernel(open), deadline) {
        Ok(second) => {
            let _ = sys::close(second);
            Ok(())
        }
        Err(error @ (Unfinished::Interrupted | Unfinished::TimedOut)) => Err(error),
        // There is no pool thread, or no /proc.
        Err(Unfinished::Failed(_) | Unfinished::NotDone) => {
            let claim = std::ptr::null();
            let paused = call.perform_until(&Request::Wait { claim }, sys::now() + CHECK_EVERY_NS);
            paused.map(drop)
        }
    }
}

fn path_of(fd: c_int) -> String {
    format!("/proc/self/fd/{fd}")
}

/// An inotify instance that reports each open(2) of one file. The descriptor belongs to the shim.
struct Openings(c_int);

impl Openings {
    fn watch(fd: c_int) -> Option<Self> {
        let instance =
            inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK).ok()?;
        inotify::add_watch(&instance, path_of(fd), inotify::WatchFlags::OPEN).ok()?;
        descriptors::adopt(instance.into_raw_fd()).ok().map(Self)
    }

    /// Parks until there is an event, then removes all queued events.
    fn wait(&self, call: &Call<'_>) -> Result<(), Unfinished> {
        let events = libc::POLLIN;
        let opened = call.perform(&Request::Poll { fd: self.0, events });
        // SAFETY: the descriptor is open as long as `self` lives.
        let queue = unsafe { BorrowedFd::borrow_raw(self.0) };
        while rustix::io::read(queue, &mut [0u8; 512]).is_ok_and(|n| n > 0) {}
        opened.map(drop)
    }
}

impl Drop for Openings {
    fn drop(&mut self) {
        descriptors::disown(self.0);
        let _ = sys::close(self.0);
    }
}
