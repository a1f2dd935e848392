//! THE TABLE of system calls that can block their thread, with the event that each waits for.
//!
//! It contains each call that can sleep until something else happens. It leaves out calls that only
//! compute or wait for short locks inside the kernel (memory, identity, signal masks), close(2) and
//! fstat(2), which answer from memory on a local file system, and calls that their flags or a
//! timeout of 0 keep from blocking.

use std::ffi::c_int;
use syscalls::Sysno;

/// The arguments of a system call.
pub type Arguments = [usize; 6];

const DATA: &str = "data";
const ROOM: &str = "room or the disk";
const DISK: &str = "the disk";
const PEER: &str = "a peer";
const EVENT: &str = "an event";
const TIME: &str = "time";
const SIGNAL: &str = "a signal";
const CHILD: &str = "a child";
const LOCK: &str = "a lock";
const MESSAGE: &str = "a message";

/// The event that `call` waits for, given that [`what_for`] said that it can block.
pub fn reason(call: Sysno) -> &'static str {
    let waiting = match call {
        Sysno::clone => [libc::CLONE_VFORK as usize, 0, 0, 0, 0, 0],
        Sysno::fcntl => [0, libc::F_SETLKW as usize, 0, 0, 0, 0],
        Sysno::ioctl => [0, libc::TCSBRK as usize, 0, 0, 0, 0],
        Sysno::io_getevents | Sysno::io_pgetevents | Sysno::io_uring_enter => [1; 6],
        #[cfg(target_arch = "x86_64")]
        Sysno::poll | Sysno::epoll_wait => [1; 6],
        Sysno::epoll_pwait => [1; 6],
        _ => [0; 6],
    };
    what_for(call, &waiting).unwrap_or("something")
}

/// The event that the call can wait for; None if it cannot block as defined above.
pub fn what_for(call: Sysno, arguments: &Arguments) -> Option<&'static str> {
    use Sysno as S;
    let argument = |n: usize| arguments[n] as c_int;
    let unless = |what: &'static str, not: bool| (!not).then_some(what);
    match call {
        S::read | S::readv | S::pread64 | S::preadv => Some(DATA),
        S::preadv2 => unless(DATA, argument(5) & libc::RWF_NOWAIT != 0),
        S::write | S::writev | S::pwrite64 | S::pwritev => Some(ROOM),
        S::pwritev2 => unless(ROOM, argument(5) & libc::RWF_NOWAIT != 0),
        S::sendfile | S::copy_file_range => Some(ROOM),
        S::splice => unless(DATA, argument(5) & libc::SPLICE_F_NONBLOCK as c_int != 0),
        S::tee | S::vmsplice => unless(DATA, argument(3) & libc::SPLICE_F_NONBLOCK as c_int != 0),

        S::connect | S::accept | S::accept4 => Some(PEER),
        S::recvfrom | S::recvmmsg => unless(DATA, argument(3) & libc::MSG_DONTWAIT != 0),
        S::recvmsg => unless(DATA, argument(2) & libc::MSG_DONTWAIT != 0),
        S::sendto | S::sendmmsg => unless(ROOM, argument(3) & libc::MSG_DONTWAIT != 0),
        S::sendmsg => unless(ROOM, argument(2) & libc::MSG_DONTWAIT != 0),

        #[cfg(target_arch = "x86_64")]
        S::select => Some(EVENT),
        #[cfg(target_arch = "x86_64")]
        S::poll => unless(EVENT, argument(2) == 0),
        #[cfg(target_arch = "x86_64")]
        S::epoll_wait => unless(EVENT, argument(3) == 0),
        S::epoll_pwait => unless(EVENT, argument(3) == 0),
        // The timeouts of these are in memory.
        S::pselect6 | S::ppoll | S::epoll_pwait2 => Some(EVENT),
        S::io_getevents | S::io_pgetevents => unless(EVENT, arguments[1] == 0),
        S::io_uring_enter => unless(EVENT, argument(2) == 0),

        S::nanosleep | S::clock_nanosleep => Some(TIME),
        #[cfg(target_arch = "x86_64")]
        S::pause => Some(SIGNAL),
        S::rt_sigsuspend | S::rt_sigtimedwait => Some(SIGNAL),
        S::wait4 => unless(CHILD, argument(2) & libc::WNOHANG != 0),
        S::waitid => unless(CHILD, argument(3) & libc::WNOHANG != 0),
        #[cfg(target_arch = "x86_64")]
        S::vfork => Some(CHILD),
        S::clone => unless(CHILD, argument(0) & libc::CLONE_VFORK == 0),

        S::futex => unless(LOCK, !futex_waits(argument(1))),
        S::futex_waitv | S::futex_wait => Some(LOCK),
        S::flock => unless(LOCK, argument(1) & libc::LOCK_NB != 0),
        S::fcntl => unless(
            LOCK,
            !matches!(argument(1), libc::F_SETLKW | libc::F_OFD_SETLKW),
        ),

        S::msgrcv => unless(MESSAGE, argument(4) & libc::IPC_NOWAIT != 0),
        S::msgsnd => unless(MESSAGE, argument(3) & libc::IPC_NOWAIT != 0),
        S::semop | S::semtimedop => Some(LOCK),
        S::mq_timedreceive | S::mq_timedsend => Some(MESSAGE),
        S::getrandom => unless("entropy", arguments[2] as u32 & libc::GRND_NONBLOCK != 0),
        S::ioctl => unless("the line", !drains(arguments[1] as libc::Ioctl)),

        S::fsync | S::fdatasync | S::sync | S::syncfs | S::sync_file_range | S::msync => Some(DISK),
        // This is how libc calls fstat.
        S::newfstatat => unless(DISK, argument(3) & libc::AT_EMPTY_PATH != 0),
        S::openat | S::openat2 | S::statx | S::statfs | S::fstatfs => Some(DISK),
        S::faccessat
        | S::faccessat2
        | S::readlinkat
        | S::getdents64
        | S::chdir
        | S::execve
        | S::execveat => Some(DISK),
        S::unlinkat
        | S::renameat
        | S::renameat2
        | S::mkdirat
        | S::mknodat
        | S::linkat
        | S::symlinkat => Some(DISK),
        S::truncate | S::ftruncate | S::fallocate | S::utimensat => Some(DISK),
        S::fchmodat | S::fchmodat2 | S::fchownat | S::fchmod | S::fchown => Some(DISK),
        S::getxattr
        | S::lgetxattr
        | S::fgetxattr
        | S::listxattr
        | S::llistxattr
        | S::flistxattr => Some(DISK),
        S::setxattr
        | S::lsetxattr
        | S::fsetxattr
        | S::removexattr
        | S::lremovexattr
        | S::fremovexattr => Some(DISK),
        #[cfg(target_arch = "x86_64")]
        S::open
        | S::creat
        | S::stat
        | S::lstat
        | S::access
        | S::readlink
        | S::getdents
        | S::unlink
        | S::rename => Some(DISK),
        #[cfg(target_arch = "x86_64")]
        S::mkdir
        | S::rmdir
        | S::mknod
        | S::link
        | S::symlink
        | S::chmod
        | S::chown
        | S::lchown
        | S::utimes => Some(DISK),
        _ => None,
    }
}

/// Whether the operation of futex(2) is one that sleeps.
fn futex_waits(operation: c_int) -> bool {
    const FUTEX_LOCK_PI2: c_int = 13;
    let command = operation & !(libc::FUTEX_PRIVATE_FLAG | libc::FUTEX_CLOCK_REALTIME);
    matches!(
        command,
        libc::FUTEX_WAIT
            | libc::FUTEX_WAIT_BITSET
            | libc::FUTEX_LOCK_PI
            | FUTEX_LOCK_PI2
            | libc::FUTEX_WAIT_REQUEUE_PI
    )
}

/// Whether the request of ioctl(2) waits until a terminal has sent its output, as tcdrain(3) does.
fn drains(request: libc::Ioctl) -> bool {
    const TCSETAW: libc::Ioctl = 0x5407;
    const TCSETAF: libc::Ioctl = 0x5408;
    matches!(
        request,
        libc::TCSBRK | libc::TCSBRKP | libc::TCSETSW | libc::TCSETSF | TCSETAW | TCSETAF
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_wait_is_none() {
        let poll = |timeout: usize| what_for(Sysno::epoll_pwait, &[3, 0, 1, timeout, 0, 0]);
        assert_eq!(
            (poll(0), poll(7), poll(usize::MAX)),
            (None, Some(EVENT), Some(EVENT))
        );
        let futex = |op: c_int| what_for(Sysno::futex, &[0, op as usize, 0, 0, 0, 0]);
        assert_eq!(
            futex(libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG),
            Some(LOCK)
        );
        assert_eq!(
            futex(libc::FUTEX_WAIT_BITSET | libc::FUTEX_CLOCK_REALTIME | libc::FUTEX_PRIVATE_FLAG),
            Some(LOCK)
        );
        assert_eq!(futex(libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG), None);
        let lock = |how: c_int| what_for(Sysno::flock, &[3, how as usize, 0, 0, 0, 0]);
        assert_eq!(lock(libc::LOCK_EX), Some(LOCK));
        assert_eq!(lock(libc::LOCK_EX | libc::LOCK_NB), None);
        assert_eq!(what_for(Sysno::getpid, &[0; 6]), None);
        assert_eq!(what_for(Sysno::nanosleep, &[0; 6]), Some(TIME));
    }
}
