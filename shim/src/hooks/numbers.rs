//! System calls by number, through syscall(2): if a row exists for the call, its hook makes it.
//!
//! A number therefore behaves as its name does: it parks a fiber if the call blocks, forgets
//! descriptors that it closes or replaces, and leaves the shim's own descriptors alone. Calls whose
//! rows are only paced are passed through here, except those that rename or link a file, because
//! [`recent_paths`](known_files) has to know about them.

use super::*;
use std::ptr::{with_exposed_provenance, with_exposed_provenance_mut};
use sys::errno;

/// Converts an argument of syscall(2) to the type that the call itself takes.
trait OfWord {
    fn of_word(word: c_long) -> Self;
}

macro_rules! of_word {
    ($($type:ty),*) => {$(
        impl OfWord for $type {
            fn of_word(word: c_long) -> Self {
                word as Self
            }
        }
    )*};
}

of_word!(c_int, c_uint, c_long, u64, usize);

impl<T> OfWord for *mut T {
    fn of_word(word: c_long) -> Self {
        with_exposed_provenance_mut(word as usize)
    }
}

impl<T> OfWord for *const T {
    fn of_word(word: c_long) -> Self {
        with_exposed_provenance(word as usize)
    }
}

/// Calls a row's hook with words as arguments.
macro_rules! hook {
    ($name:ident($($word:expr),*)) => {
        // SAFETY: the arguments are those of syscall(2)'s caller, who must guarantee for them what
        // the call itself requires.
        unsafe { $name::hook($(OfWord::of_word($word)),*) as c_long }
    };
}

/// The size of the kernel's signal set in bytes. Calls with a mask take it as an argument.
const MASK_SIZE: c_long = 8;

/// The result of the call with this number, or -1 with the error in errno. Returns None if no row
/// exists for the call, so that the kernel alone handles it.
#[inline(always)]
pub fn by_number(
    number: c_long,
    a: c_long,
    b: c_long,
    c: c_long,
    d: c_long,
    e: c_long,
    f: c_long,
) -> Option<c_long> {
    // Language runtimes and the shim's own libraries make this call most often.
    if number == libc::SYS_futex {
        return None;
    }
    of_row(number, [a, b, c, d, e, f])
}

#[inline(never)]
fn of_row(number: c_long, [a, b, c, d, e, f]: [c_long; 6]) -> Option<c_long> {
    Some(match number {
        libc::SYS_read => hook!(read(a, b, c)),
        libc::SYS_write => hook!(write(a, b, c)),
        libc::SYS_pread64 => hook!(pread(a, b, c, d)),
        libc::SYS_pwrite64 => hook!(pwrite(a, b, c, d)),
        libc::SYS_readv => hook!(readv(a, b, c)),
        libc::SYS_writev => hook!(writev(a, b, c)),
        libc::SYS_preadv => hook!(preadv(a, b, c, d)),
        libc::SYS_pwritev => hook!(pwritev(a, b, c, d)),
        libc::SYS_preadv2 => hook!(preadv2(a, b, c, d, f)),
        libc::SYS_pwritev2 => hook!(pwritev2(a, b, c, d, f)),
        libc::SYS_lseek => hook!(lseek(a, b, c)),
        libc::SYS_openat => hook!(openat(a, b, c, d)),

        libc::SYS_close => hook!(close(a)),
        libc::SYS_dup3 => hook!(dup3(a, b, c)),
        libc::SYS_close_range => c_long::from(calls::file::close_range(
            a as c_uint,
            b as c_uint,
            c as c_int,
        )),
        // For any other command libc's function makes other system calls.
        libc::SYS_fcntl if is_known_command(b as c_int) => hook!(fcntl(a, b, c)),
        libc::SYS_ioctl if b as c_ulong == libc::FIONBIO => hook!(ioctl(a, b, c)),
        libc::SYS_setsockopt => hook!(setsockopt(a, b, c, d, e)),

        libc::SYS_fsync => hook!(fsync(a)),
        libc::SYS_fdatasync => hook!(fdatasync(a)),
        libc::SYS_syncfs => hook!(syncfs(a)),
        libc::SYS_sync_file_range => hook!(sync_file_range(a, b, c, d)),
        libc::SYS_msync => hook!(msync(a, b, c)),
        libc::SYS_fallocate => hook!(fallocate(a, b, c, d)),
        libc::SYS_ftruncate => hook!(ftruncate(a, b)),
        libc::SYS_splice => hook!(splice(a, b, c, d, e, f)),
        libc::SYS_tee => hook!(tee(a, b, c, d)),
        libc::SYS_vmsplice => hook!(vmsplice(a, b, c, d)),
        libc::SYS_sendfile => hook!(sendfile(a, b, c, d)),
        libc::SYS_copy_file_range => hook!(copy_file_range(a, b, c, d, e, f)),
        libc::SYS_flock => hook!(flock(a, b)),

        libc::SYS_recvfrom => hook!(recvfrom(a, b, c, d, e, f)),
        libc::SYS_recvmsg => hook!(recvmsg(a, b, c)),
        libc::SYS_recvmmsg => hook!(recvmmsg(a, b, c, d, e)),
        libc::SYS_sendto => hook!(sendto(a, b, c, d, e, f)),
        libc::SYS_sendmsg => hook!(sendmsg(a, b, c)),
        libc::SYS_sendmmsg => hook!(sendmmsg(a, b, c, d)),
        libc::SYS_accept => hook!(accept(a, b, c)),
        libc::SYS_accept4 => hook!(accept4(a, b, c, d)),
        libc::SYS_connect => hook!(connect(a, b, c)),

        libc::SYS_ppoll if d == 0 || e == MASK_SIZE => hook!(ppoll(a, b, c, d)),
        libc::SYS_epoll_pwait if e == 0 || f == MASK_SIZE => hook!(epoll_pwait(a, b, c, d, e)),
        libc::SYS_nanosleep => hook!(nanosleep(a, b)),
        libc::SYS_clock_nanosleep => match hook!(clock_nanosleep(a, b, c, d)) {
            0 => 0,
            error => {
                errno::set(error as c_int);
                -1
            }
        },
        libc::SYS_rt_sigsuspend if b == MASK_SIZE => hook!(sigsuspend(a)),
        libc::SYS_wait4 => hook!(wait4(a, b, c, d)),
        libc::SYS_waitid if e == 0 => hook!(waitid(a, b, c, d)),
        libc::SYS_sched_yield => hook!(sched_yield()),

        libc::SYS_msgrcv => hook!(msgrcv(a, b, c, d, e)),
        libc::SYS_msgsnd => hook!(msgsnd(a, b, c, d)),
        libc::SYS_semop => hook!(semop(a, b, c)),
        libc::SYS_semtimedop => hook!(semtimedop(a, b, c, d)),
        libc::SYS_mq_timedreceive => hook!(mq_timedreceive(a, b, c, d, e)),
        libc::SYS_mq_timedsend => hook!(mq_timedsend(a, b, c, d, e)),

        libc::SYS_chdir => hook!(chdir(a)),
        libc::SYS_fchdir => hook!(fchdir(a)),
        _ => return of_old_row(number, [a, b, c, d, e]),
    })
}

/// Calls that newer architectures lack, and calls that rename or link a file.
#[cfg_attr(
    not(target_arch = "x86_64"),
    expect(unused_variables, reason = "no such calls")
)]
fn of_old_row(number: c_long, [a, b, c, d, e]: [c_long; 5]) -> Option<c_long> {
    match number {
        libc::SYS_renameat2
        | libc::SYS_linkat
        | libc::SYS_symlinkat
        | libc::SYS_mknodat
        | libc::SYS_renameat => {
            known_files::forget();
            return None;
        }
        _ => {}
    }
    #[cfg(not(target_arch = "x86_64"))]
    return None;
    #[cfg(target_arch = "x86_64")]
    Some(match number {
        libc::SYS_open => hook!(open(a, b, c)),
        libc::SYS_creat => hook!(creat(a, b)),
        libc::SYS_dup2 => hook!(dup2(a, b)),
        libc::SYS_poll => hook!(poll(a, b, c)),
        libc::SYS_select => hook!(select(a, b, c, d, e)),
        libc::SYS_epoll_wait => hook!(epoll_wait(a, b, c, d)),
        libc::SYS_pause => hook!(pause()),
        libc::SYS_rename | libc::SYS_link | libc::SYS_symlink | libc::SYS_mknod => {
            known_files::forget();
            return None;
        }
        _ => return None,
    })
}

/// Commands of fcntl(2) that libc's function passes on unchanged and for which the hook does
/// something.
fn is_known_command(command: c_int) -> bool {
    matches!(
        command,
        libc::F_DUPFD
            | libc::F_DUPFD_CLOEXEC
            | libc::F_SETFL
            | libc::F_SETLK
            | libc::F_SETLKW
            | libc::F_OFD_SETLK
            | libc::F_OFD_SETLKW
    )
}
