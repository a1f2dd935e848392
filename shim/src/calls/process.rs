//! wait(2), waitpid(2), waitid(2), system(3): waits for children.
//!
//! First the plain call with WNOHANG. If it finds nothing, the fiber waits until there is something
//! to find, and calls again. Therefore the kernel alone decides which child to report, and reports
//! it only once.
//!
//! To wait for the end of one child, the fiber polls a pidfd. A pidfd does not cover waits for any
//! child, for a group, or for stops and continues; for these a pool thread makes a waitid(2) call
//! that leaves the status in place (WNOWAIT). A tracer's children stop without the wait asking for
//! stops, so a wait on a pidfd is interrupted at growing intervals to check; after a second, a pool
//! thread takes over, whose wait needs no such checks. For a program that is known to trace, the
//! pool thread is used from the start.

use super::Verdict;
use crate::engine::{FdPin, KernelCall, Request, pool};
use crate::runtime::call::Call;
use crate::runtime::completion::{Completion, Unfinished};
use crate::runtime::deadlines::NEVER;
use crate::state::descriptors;
use libc::{c_long, id_t, idtype_t, pid_t, rusage, siginfo_t};
use policy::Reason;
use std::ffi::{c_int, c_void};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use sys::errno::Errno;
use syscalls::Sysno;

const WNOTHREAD: c_int = 0x2000_0000;

/// How long a wait on a pidfd lasts before it checks whether the child has stopped for its tracer:
/// at first, and at most. A wait of the full length happens only if no pool thread is available.
const CHECK_AFTER_NS: (u64, u64) = (1_000_000, 1_000_000_000);

/// The part of a `siginfo_t` that waitid(2) fills in: everything up to the status.
type SiginfoHead = [c_int; 7];

/// Whether this process has traced others.
static HAS_TRACED: AtomicBool = AtomicBool::new(false);

pub fn wait(call: &Call<'_>, status: *mut c_int) -> Verdict {
    wait4(call, -1, status, 0, std::ptr::null_mut())
}

pub fn waitpid(call: &Call<'_>, pid: pid_t, status: *mut c_int, options: c_int) -> Verdict {
    wait4(call, pid, status, options, std::ptr::null_mut())
}

pub fn wait3(call: &Call<'_>, status: *mut c_int, options: c_int, usage: *mut rusage) -> Verdict {
    wait4(call, -1, status, options, usage)
}

pub fn wait4(
    call: &Call<'_>,
    pid: pid_t,
    status: *mut c_int,
    options: c_int,
    usage: *mut rusage,
) -> Verdict {
    if let Some(reason) = reason_to_pass(call, options) {
        return Verdict::PassThrough(reason);
    }
    let children = Children {
        kind: match pid {
            -1 => libc::P_ALL,
            ..=0 => libc::P_PGID,
            1.. => libc::P_PID,
        },
        // `unsigned_abs`, because -2147483648 has no positive counterpart; no such group exists.
        id: pid.unsigned_abs(),
        options: options | libc::WEXITED,
    };
    if pid == pid_t::MIN {
        return Verdict::PassThrough(Reason::Unusual);
    }
    let found = children.find(call, || {
        // SAFETY: the C caller's memory; the kernel checks it.
        match unsafe { sys::wait4(pid, status, options | libc::WNOHANG, usage) } {
            Ok(0) => Ok(None),
            Ok(found) => Ok(Some(found as isize)),
            Err(error) => Err(error),
        }
    });
    Verdict::from_result(found)
}

pub fn waitid(
    call: &Call<'_>,
    kind: idtype_t,
    id: id_t,
    info: *mut siginfo_t,
    options: c_int,
) -> Verdict {
    if let Some(reason) = reason_to_pass(call, options) {
        return Verdict::PassThrough(reason);
    }
    if kind == libc::P_PIDFD
        && sys::status_flags(id as c_int).is_ok_and(|flags| flags & libc::O_NONBLOCK != 0)
    {
        return Verdict::PassThrough(Reason::Nonblocking);
    }
    let children = Children { kind, id, options };
    let found = children.find(call, || {
        // SAFETY: zeroes are a valid siginfo_t.
        let mut found: siginfo_t = unsafe { std::mem::zeroed() };
        sys::waitid(kind, id, &mut found, options | libc::WNOHANG)?;
        // SAFETY: waitid(2) fills these fields in, with zeroes if no child was found.
        if unsafe { found.si_pid() } == 0 {
            return Ok(None);
        }
        if !info.is_null() {
            // SAFETY: a siginfo_t is at least as long as this part of it.
            let head = unsafe { (&raw const found).cast::<SiginfoHead>().read() };
            sys::copy_out(info.cast::<SiginfoHead>(), head)?;
        }
        Ok(Some(0))
    });
    Verdict::from_result(found)
}

/// Waits for the end of one child and returns its status.
pub fn end_of(call: &Call<'_>, child: pid_t, status: &mut c_int) -> Result<(), Unfinished> {
    let children = Children {
        kind: libc::P_PID,
        id: child.unsigned_abs(),
        options: libc::WEXITED,
    };
    children.find(call, || {
        // SAFETY: `status` is alive during the call.
        let found = unsafe { sys::wait4(child, status, libc::WNOHANG, std::ptr::null_mut()) }?;
        Ok((found != 0).then_some(0))
    })?;
    Ok(())
}

/// ptrace(2): records that this process is a tracer.
pub fn ptrace(
    _call: &Call<'_>,
    request: c_long,
    _pid: pid_t,
    _address: *mut c_void,
    _data: *mut c_void,
) -> Verdict {
    if request != c_long::from(libc::PTRACE_TRACEME) {
        HAS_TRACED.store(true, Relaxed);
    }
    Verdict::PassThrough(Reason::Quick)
}

fn reason_to_pass(call: &Call<'_>, options: c_int) -> Option<Reason> {
    if options & libc::WNOHANG != 0 {
        Some(Reason::Nonblocking)
    } else if options & WNOTHREAD != 0 {
        // A pool thread has no children of its own.
        Some(Reason::Unusual)
    } else {
        call.reason_to_pass()
    }
}

/// The children that a call waits for, in the terms of waitid(2).
struct Children {
    kind: idtype_t,
    id: id_t,
    options: c_int,
}

impl Children {
    /// Waits until `find`, which does not block, finds something, and returns that.
    fn find(
        &self,
        call: &Call<'_>,
        mut find: impl FnMut() -> Result<Option<isize>, Errno>,
    ) -> Result<isize, Unfinished> {
        let mut pause = CHECK_AFTER_NS.0;
        loop {
            if let Some(found) = find()? {
                call.inline();
                return Ok(found);
            }
            if let Err(error @ Unfinished::Interrupted) = self.wait_for_one(call, pause) {
                return Err(error);
            }
            pause = (pause * 2).min(CHECK_AFTER_NS.1);
        }
    }

    fn wait_for_one(&self, call: &Call<'_>, pause: u64) -> Completion {
        let is_pollable = matches!(self.kind, libc::P_PID | libc::P_PIDFD)
            && self.options & (libc::WSTOPPED | libc::WCONTINUED) == 0
            && !HAS_TRACED.load(Relaxed);
        let thread = (!is_pollable || pause >= CHECK_AFTER_NS.1)
            .then(pool::UnboundedWaitPermit::acquire)
            .flatten();
        if is_pollable
            && thread.is_none()
            && let Some(waited) = self.poll_for_one(call, pause)
        {
            return waited;
        }
        // SAFETY: zeroes are a valid siginfo_t.
        let mut info: siginfo_t = unsafe { std::mem::zeroed() };
        let options = self.options | libc::WNOWAIT;
        let waitid = KernelCall {
            number: Sysno::waitid,
            arguments: [
                self.kind as usize,
                self.id as usize,
                &raw mut info as usize,
                options as usize,
                0,
                0,
            ],
            pin: if self.kind == libc::P_PIDFD {
                FdPin::UntilStarted(self.id as c_int)
            } else {
                FdPin::None
            },
            is_first_try: false,
        };
        let waited = call.perform_until(&Request::Kernel(waitid), NEVER);
        if waited == Err(Unfinished::NotDone) {
            // Neither a descriptor nor a pool thread is available.
            let claim = std::ptr::null();
            return call.perform_until(&Request::Wait { claim }, sys::now() + pause);
        }
        waited
    }

    /// Waits on a pidfd for the end of one child, no longer than `pause`. Returns None if no
    /// pidfd can be opened.
    fn poll_for_one(&self, call: &Call<'_>, pause: u64) -> Option<Completion> {
        let until = sys::now() + pause;
        let events = libc::POLLIN;
        if self.kind == libc::P_PIDFD {
            let fd = self.id as c_int;
            return Some(call.perform_until(&Request::Poll { fd, events }, until));
        }
        let fd = sys::process_descriptor(self.id as pid_t)
            .and_then(descriptors::adopt)
            .ok()?;
        let waited = call.perform_until(&Request::Poll { fd, events }, until);
        descriptors::disown(fd);
        let _ = sys::close(fd);
        Some(waited)
    }
}
