//! Calls by which a thread changes its own state in the kernel: seccomp filters, namespaces,
//! credentials, scheduling.
//!
//! A system call that the shim makes for a fiber must be made in the same state as the fiber's own.
//! Pool threads inherit the state of the thread that starts them, so they end before a change and
//! are started again after it. io_uring's kernel threads take the credentials of each operation,
//! but keep the namespaces and the tables that they started with, and no filter applies to their
//! operations. When namespaces or filters change, another engine takes over. If the shim cannot
//! work under a filter at all, or if the states of several attached threads would differ, all later
//! calls of the thread pass through.

use super::syscall::Syscall;
use crate::engine::pool;
use crate::runtime::signal;
use crate::runtime::thread::Thread;
use crate::state::attached;
use crate::state::seccomp::{self, BlockedCalls};
use format::options::EngineChoice;
use libc::{id_t, pid_t, size_t};
use std::ffi::{c_int, c_long, c_uint, c_ulong, c_void};
use std::ptr::with_exposed_provenance;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

type Prctl = unsafe extern "C" fn(c_int, c_ulong, c_ulong, c_ulong, c_ulong) -> c_int;

/// The kind of state that is about to change.
#[derive(Clone, Copy)]
enum Change {
    /// State that only new threads inherit, or that only affects later changes of credentials.
    Inheritable,
    /// The identity and permissions of the thread.
    Credentials,
    /// The namespaces, which decide what a path, a process id or a user id refers to.
    Namespaces,
    Filter(BlockedCalls, Reach),
}

/// The threads that a filter applies to.
#[derive(Clone, Copy)]
enum Reach {
    Thread,
    Process,
}

/// A thread of this process is confined in such a way that the shim could not attach another one.
static CONFINED: AtomicBool = AtomicBool::new(false);

/// Whether threads that attach from now on may be confined.
pub fn is_confined() -> bool {
    CONFINED.load(Relaxed)
}

/// Whether a filter may end the process because of a system call that the shim makes for itself on
/// the calling thread.
pub fn must_be_quiet() -> bool {
    // SAFETY: a thread stays attached while its own code runs.
    is_confined() && Thread::attached().is_none_or(|thread| thread.conversion().passes_through())
}

/// Makes a call that changes the calling thread. `failed` tells from the result whether the call
/// failed.
fn change<R>(change: Change, failed: impl FnOnce(&R) -> bool, call: impl FnOnce() -> R) -> R {
    // SAFETY: a thread stays attached while one of its hooks runs.
    let thread = Thread::attached();
    let Some(thread) = thread.filter(|thread| !thread.conversion().passes_through()) else {
        let result = call();
        if let Change::Filter(
            BlockedCalls {
                essential: true, ..
            },
            _,
        ) = change
            && !failed(&result)
        {
            CONFINED.store(true, Relaxed);
        }
        return result;
    };
    let has_others = attached::other_threads();
    let limit = thread.engine().limit();
    let passes_through = match change {
        Change::Inheritable => false,
        Change::Credentials | Change::Namespaces => has_others,
        Change::Filter(blocked, Reach::Thread) => blocked.essential || blocked.pool && has_others,
        Change::Filter(blocked, Reach::Process) => blocked.essential,
    };
    match change {
        Change::Filter(
            BlockedCalls {
                essential: true, ..
            },
            _,
        ) => {
            thread.disable_engine();
            if !has_others {
                signal::unwrap_all();
            }
        }
        Change::Filter(
            BlockedCalls {
                aio: true, uring, ..
            },
            _,
        ) if uring || !thread.engine().uses_uring() => {
            thread.limit_engine(EngineChoice::Threads);
        }
        Change::Filter(BlockedCalls { uring: true, .. }, _) | Change::Namespaces => {
            thread.limit_engine(EngineChoice::Aio)
        }
        _ => {}
    }
    if !has_others {
        pool::retire(thread.remote());
    }
    let result = call();
    if failed(&result) {
        thread.restore_engine(limit);
        if let Change::Filter(
            BlockedCalls {
                essential: true, ..
            },
            _,
        ) = change
        {
            signal::wrap_again();
        }
    } else if passes_through {
        CONFINED.fetch_or(matches!(change, Change::Filter(..)), Relaxed);
        thread.pass_through();
    }
    result
}

/// prctl(2).
pub fn prctl(real: Prctl, option: c_int, a: c_ulong, b: c_ulong, c: c_ulong, d: c_ulong) -> c_int {
    // SAFETY: libc's own function, with its caller's arguments.
    let call = || unsafe { real(option, a, b, c, d) };
    match of_prctl(option, a, b) {
        Some(kind) => change(kind, |result| *result == -1, call),
        None => call(),
    }
}

fn of_prctl(option: c_int, a: c_ulong, b: c_ulong) -> Option<Change> {
    match option {
        libc::PR_SET_SECCOMP if a == c_ulong::from(libc::SECCOMP_MODE_STRICT) => {
            Some(Change::Filter(BlockedCalls::STRICT, Reach::Thread))
        }
        libc::PR_SET_SECCOMP if a == c_ulong::from(libc::SECCOMP_MODE_FILTER) => {
            of_filter(b as usize, Reach::Thread)
        }
        libc::PR_SET_KEEPCAPS
        | libc::PR_SET_SECUREBITS
        | libc::PR_CAPBSET_DROP
        | libc::PR_CAP_AMBIENT
        | libc::PR_SET_NO_NEW_PRIVS
        | libc::PR_SET_TIMERSLACK => Some(Change::Inheritable),
        _ => None,
    }
}

/// The filter whose `struct sock_fprog` is at `address`. Returns None if there is none; the kernel
/// then rejects the call as well.
fn of_filter(address: usize, reach: Reach) -> Option<Change> {
    if is_confined() {
        // An existing filter may end the process for the system calls that reading the program
        // needs.
        return None;
    }
    let head = sys::copy_words_in(with_exposed_provenance(address), 2).ok()?;
    let length = usize::from(head[0] as u16);
    let program = sys::copy_words_in(with_exposed_provenance(head[1] as usize), length).ok()?;
    Some(Change::Filter(seccomp::blocked_calls(&program), reach))
}

fn of_seccomp(operation: c_long, flags: c_long, address: c_long) -> Option<Change> {
    let reach = if flags as c_ulong & libc::SECCOMP_FILTER_FLAG_TSYNC == 0 {
        Reach::Thread
    } else {
        Reach::Process
    };
    match operation as c_uint {
        libc::SECCOMP_SET_MODE_STRICT => Some(Change::Filter(BlockedCalls::STRICT, Reach::Thread)),
        libc::SECCOMP_SET_MODE_FILTER => of_filter(address as usize, reach),
        _ => None,
    }
}

/// unshare(2).
pub fn unshare(real: unsafe extern "C" fn(c_int) -> c_int, flags: c_int) -> c_int {
    // SAFETY: libc's own function, with its caller's arguments.
    change(
        Change::Namespaces,
        |result| *result == -1,
        || unsafe { real(flags) },
    )
}

/// A call that gives the thread a descriptor table of its own, besides unshare(2). The descriptors
/// of pool threads and of io_uring's kernel threads then differ, as namespaces may.
pub fn unshare_descriptors<R, E>(call: impl FnOnce() -> Result<R, E>) -> Result<R, E> {
    change(Change::Namespaces, Result::is_err, call)
}

/// setns(2).
pub fn setns(real: unsafe extern "C" fn(c_int, c_int) -> c_int, fd: c_int, kind: c_int) -> c_int {
    // SAFETY: libc's own function, with its caller's arguments.
    change(
        Change::Namespaces,
        |result| *result == -1,
        || unsafe { real(fd, kind) },
    )
}

/// capset(2).
pub fn capset(
    real: unsafe extern "C" fn(*mut c_void, *const c_void) -> c_int,
    header: *mut c_void,
    data: *const c_void,
) -> c_int {
    // SAFETY: libc's own function, with its caller's arguments.
    change(
        Change::Credentials,
        |result| *result == -1,
        || unsafe { real(header, data) },
    )
}

/// setfsuid(2) and setfsgid(2), which do not report failure.
pub fn set_file_owner(real: unsafe extern "C" fn(id_t) -> c_int, id: id_t) -> c_int {
    // SAFETY: libc's own function, with its caller's arguments.
    change(Change::Credentials, |_| false, || unsafe { real(id) })
}

/// setpriority(2).
pub fn setpriority(
    real: unsafe extern "C" fn(c_int, id_t, c_int) -> c_int,
    which: c_int,
    who: id_t,
    priority: c_int,
) -> c_int {
    // SAFETY: libc's own function, with its caller's arguments.
    change(
        Change::Inheritable,
        |result| *result == -1,
        || unsafe { real(which, who, priority) },
    )
}

/// nice(2).
pub fn nice(real: unsafe extern "C" fn(c_int) -> c_int, step: c_int) -> c_int {
    // SAFETY: libc's own function, with its caller's arguments.
    change(Change::Inheritable, |_| false, || unsafe { real(step) })
}

/// sched_setscheduler(2).
pub fn sched_setscheduler(
    real: unsafe extern "C" fn(pid_t, c_int, *const c_void) -> c_int,
    pid: pid_t,
    policy: c_int,
    parameters: *const c_void,
) -> c_int {
    // SAFETY: libc's own function, with its caller's arguments.
    change(
        Change::Inheritable,
        |result| *result == -1,
        || unsafe { real(pid, policy, parameters) },
    )
}

/// sched_setparam(2).
pub fn sched_setparam(
    real: unsafe extern "C" fn(pid_t, *const c_void) -> c_int,
    pid: pid_t,
    parameters: *const c_void,
) -> c_int {
    // SAFETY: libc's own function, with its caller's arguments.
    change(
        Change::Inheritable,
        |result| *result == -1,
        || unsafe { real(pid, parameters) },
    )
}

/// sched_setaffinity(2).
pub fn sched_setaffinity(
    real: unsafe extern "C" fn(pid_t, size_t, *const c_void) -> c_int,
    pid: pid_t,
    n: size_t,
    set: *const c_void,
) -> c_int {
    // SAFETY: libc's own function, with its caller's arguments.
    change(
        Change::Inheritable,
        |result| *result == -1,
        || unsafe { real(pid, n, set) },
    )
}

/// What a system call changes.
enum Changed {
    /// This, whatever the arguments.
    Always(Change),
    /// What the option of prctl(2) says.
    ByOption,
    /// What the operation of seccomp(2) says.
    ByOperation,
}

/// What the system call of this number changes. libc's functions for credentials change all threads
/// of the process; the system calls change only the calling thread.
fn changed_by(number: c_long) -> Option<Changed> {
    match number {
        libc::SYS_prctl => Some(Changed::ByOption),
        libc::SYS_seccomp => Some(Changed::ByOperation),
        libc::SYS_unshare | libc::SYS_setns => Some(Changed::Always(Change::Namespaces)),
        libc::SYS_capset
        | libc::SYS_keyctl
        | libc::SYS_landlock_restrict_self
        | libc::SYS_setfsgid
        | libc::SYS_setfsuid
        | libc::SYS_setgid
        | libc::SYS_setgroups
        | libc::SYS_setregid
        | libc::SYS_setresgid
        | libc::SYS_setresuid
        | libc::SYS_setreuid
        | libc::SYS_setuid => Some(Changed::Always(Change::Credentials)),
        libc::SYS_ioprio_set
        | libc::SYS_sched_setattr
        | libc::SYS_sched_setaffinity
        | libc::SYS_sched_setparam
        | libc::SYS_sched_setscheduler
        | libc::SYS_setpriority => Some(Changed::Always(Change::Inheritable)),
        _ => None,
    }
}

/// Whether the system call of this number changes the calling thread; [`by_number`] makes it.
pub fn is_change(number: c_long) -> bool {
    changed_by(number).is_some()
}

/// Makes a system call that [`is_change`] recognizes.
///
/// # Safety
/// The requirements of the system call apply.
pub unsafe fn by_number(real: Syscall, number: c_long, [a, b, c, d, e, f]: [c_long; 6]) -> c_long {
    // SAFETY: libc's own function, with its caller's arguments.
    let call = || unsafe { real(number, a, b, c, d, e, f) };
    let kind = match changed_by(number) {
        Some(Changed::Always(kind)) => Some(kind),
        Some(Changed::ByOption) => of_prctl(a as c_int, b as c_ulong, c as c_ulong),
        Some(Changed::ByOperation) => of_seccomp(a, b, c),
        None => None,
    };
    match kind {
        Some(kind) => change(kind, |result| *result == -1, call),
        None => call(),
    }
}
