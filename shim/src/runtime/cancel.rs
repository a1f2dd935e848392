//! Which calls are cancellation points, as listed in pthreads(7): where a fiber may end after its
//! host cancelled it.
//!
//! The host requests the end of the call that a fiber is parked in (`aioshim_cancel`). If that wait
//! can be interrupted, it is, as by a signal. The host is told (`cancelled`) only when the call
//! holds none of the shim's resources and has had no effect for the caller; the host may end the
//! fiber there ([`crate::runtime::call::Call::cancelled_here`]). If the fiber does not end, the
//! call fails with EINTR. A call that has moved data returns the number of bytes. A fiber whose
//! calls never block is checked whenever its quantum is used up.

use crate::hooks::NAMES;
use once_cell::race::OnceBox;

/// Whether the calls of each row of the hook table are cancellation points.
static OF_ROWS: OnceBox<[bool; NAMES.len()]> = OnceBox::new();

/// Computes the table in advance. LeakSanitizer yields while it holds malloc's locks, and by then
/// nothing may allocate.
pub fn bind() {
    is_point(0);
}

/// Whether the call of this row is a cancellation point. Asked every few calls, so the names are
/// not compared each time.
#[inline]
pub fn is_point(row: usize) -> bool {
    OF_ROWS.get_or_init(|| Box::new(NAMES.map(is_point_by_name)))[row]
}

/// Whether the call of this name is a cancellation point: every call that may block, except locks
/// and system(3), which changes the signal dispositions of the whole process while it waits.
fn is_point_by_name(name: &str) -> bool {
    let name = name.trim_start_matches('_');
    let name = name.strip_suffix("_chk").unwrap_or(name);
    let name = name.strip_suffix("_2").unwrap_or(name);
    // `preadv64v2` is preadv2.
    let name = name.replacen("64v", "64", 1).replacen("64", "", 1);
    POINTS.binary_search(&name.as_str()).is_ok()
}

/// Names without the `__`, `64`, `_2` and `_chk` of their aliases.
const POINTS: [&str; 75] = [
    "accept",
    "accept4",
    "aio_suspend",
    "clock_nanosleep",
    "close",
    "connect",
    "copy_file_range",
    "creat",
    "epoll_pwait",
    "epoll_pwait2",
    "epoll_wait",
    "eventfd_read",
    "eventfd_write",
    "fallocate",
    "fdatasync",
    "fsync",
    "getrandom",
    "lockf",
    "mq_receive",
    "mq_send",
    "mq_timedreceive",
    "mq_timedsend",
    "msgrcv",
    "msgsnd",
    "msync",
    "nanosleep",
    "open",
    "openat",
    "pause",
    "poll",
    "posix_fallocate",
    "ppoll",
    "pread",
    "preadv",
    "preadv2",
    "pselect",
    "pwrite",
    "pwritev",
    "pwritev2",
    "read",
    "readv",
    "recv",
    "recvfrom",
    "recvmmsg",
    "recvmsg",
    "select",
    "sem_clockwait",
    "sem_timedwait",
    "sem_wait",
    "semop",
    "semtimedop",
    "send",
    "sendfile",
    "sendmmsg",
    "sendmsg",
    "sendto",
    "sigsuspend",
    "sigtimedwait",
    "sigwait",
    "sigwaitinfo",
    "sleep",
    "splice",
    "sync_file_range",
    "tcdrain",
    "tee",
    "thrd_sleep",
    "usleep",
    "vmsplice",
    "wait",
    "wait3",
    "wait4",
    "waitid",
    "waitpid",
    "write",
    "writev",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aliases_are_what_they_stand_for() {
        assert!(POINTS.is_sorted());
        for name in [
            "read",
            "__read",
            "__pread64_chk",
            "preadv64v2",
            "__open64_2",
            "__openat_2",
            "creat64",
            "__poll",
            "wait4",
            "accept4",
            "epoll_pwait2",
            "pwritev2",
            "nanosleep",
            "sem_wait",
        ] {
            assert!(is_point_by_name(name), "{name}");
        }
        for name in [
            "lseek64",
            "dup2",
            "fcntl",
            "pthread_mutex_lock",
            "ioctl",
            "__dup2",
            "setsockopt",
        ] {
            assert!(!is_point_by_name(name), "{name}");
        }
    }
}
