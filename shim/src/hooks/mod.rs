//! The hook table: one row for each name through which a program reaches a call of libc, aliases
//! included.
//!
//! A row gives libc's name and signature and the function of [`crate::calls`] that handles the call
//! on a fiber. From the rows, [`macros`] generates the exported function (redhook), the lookup of
//! libc's own function, the list of names, and the index into the statistics.
//!
//! Instead of a function, a row may name a way of handling the call:
//!
//! - `=> offload`: libc's own function runs on a pool thread ([`calls::via::offload`]). `when` gives a
//!   condition under which it may block; otherwise it runs inline. `offload(file)` names the
//!   descriptor that the call is about.
//! - `=> paced(kind, file)`: the same, but inline as long as such calls are quick
//!   ([`calls::via::adaptive`]). A second descriptor may follow. Neither descriptor is closed before the
//!   pool thread has made the call.
//! - `=> recorded(twin)`: the reentrant twin runs, with its result in memory that belongs to the
//!   fiber ([`calls::results`]). `=> copied`: libc's own result is copied there.
//! - `=> with_libc(function)`: our function gets libc's own function as an argument.
//!
//! Options after it:
//!
//! - `forgets`: the descriptor that libc's call closes or changes. Its cached facts are dropped
//!   wherever the call is made ([`fds::forget`]). If the descriptor is one of the shim's own, libc
//!   is not called and the call fails with EBADF.
//! - `changes`: an expression that is evaluated before every call.
//! - `instead`: a function that is asked first. If it gives a result, nothing else happens.
//! - `otherwise`: our fallback if this libc lacks the function.
//! - `version`: the symbol version of libc's function, for names with older versions that dlsym
//!   might find.
//!
//! Further options, mostly of locks:
//!
//! - `first`: a function that may answer at once on an attached thread. Such an answer is only
//!   counted if calls are being timed.
//! - `by`: a function through which libc's own function is called, on a fiber and off.
//! - `at: everywhere`: always call the row's function, on a fiber or off; no other processing
//!   applies.
//! - `unbound`: a function that makes the call before libc's own is found, for calls that dlsym
//!   itself makes.
//!
//! Off a fiber, a hook costs one thread-local load, a branch and a jump to libc. It allocates
//! nothing, takes no lock and prints nothing.

#[macro_use]
mod macros;
mod entries;
mod late;
mod next;
mod numbers;

pub use entries::*;
pub use next::{Next, is_any_interposed};

use crate::calls;
use crate::calls::directory::{Compare, Filter};
use crate::calls::walk::{Fts, FtwVisit, GlobError, NftwVisit};
use crate::state::{descriptors as fds, recent_paths as known_files};
use libc::{
    DIR, FILE, LIO_WAIT, clockid_t, dev_t, epoll_event, fd_set, gid_t, id_t, idtype_t, iovec,
    mmsghdr, mode_t, msghdr, nfds_t, off_t, pid_t, pollfd, rusage, siginfo_t, sigset_t, size_t,
    sockaddr, socklen_t, ssize_t, timespec, timeval, uid_t,
};
use libc::{
    pthread_barrier_t, pthread_cond_t, pthread_mutex_t, pthread_rwlock_t, pthread_t, sem_t,
};
use std::ffi::{c_char, c_int, c_long, c_uint, c_ulong, c_void};

hooks! {
    // Reads and writes.
    fn read(fd: c_int, buf: *mut c_void, n: size_t) -> ssize_t => calls::rw::read;
    fn __read(fd: c_int, buf: *mut c_void, n: size_t) -> ssize_t => calls::rw::read;
    fn __read_chk(fd: c_int, buf: *mut c_void, n: size_t, object: size_t) -> ssize_t => calls::rw::read_chk;
    fn write(fd: c_int, buf: *const c_void, n: size_t) -> ssize_t => calls::rw::write;
    fn __write(fd: c_int, buf: *const c_void, n: size_t) -> ssize_t => calls::rw::write;

    fn pread(fd: c_int, buf: *mut c_void, n: size_t, offset: off_t) -> ssize_t => calls::rw::pread;
    fn pread64(fd: c_int, buf: *mut c_void, n: size_t, offset: off_t) -> ssize_t => calls::rw::pread;
    fn __pread64(fd: c_int, buf: *mut c_void, n: size_t, offset: off_t) -> ssize_t => calls::rw::pread;
    fn __pread_chk(fd: c_int, buf: *mut c_void, n: size_t, offset: off_t, object: size_t) -> ssize_t => calls::rw::pread_chk;
    fn __pread64_chk(fd: c_int, buf: *mut c_void, n: size_t, offset: off_t, object: size_t) -> ssize_t => calls::rw::pread_chk;
    fn pwrite(fd: c_int, buf: *const c_void, n: size_t, offset: off_t) -> ssize_t => calls::rw::pwrite;
    fn pwrite64(fd: c_int, buf: *const c_void, n: size_t, offset: off_t) -> ssize_t => calls::rw::pwrite;
    fn __pwrite64(fd: c_int, buf: *const c_void, n: size_t, offset: off_t) -> ssize_t => calls::rw::pwrite;

    fn readv(fd: c_int, iov: *const iovec, n: c_int) -> ssize_t => calls::rw::readv;
    fn writev(fd: c_int, iov: *const iovec, n: c_int) -> ssize_t => calls::rw::writev;
    fn preadv(fd: c_int, iov: *const iovec, n: c_int, offset: off_t) -> ssize_t => calls::rw::preadv;
    fn preadv64(fd: c_int, iov: *const iovec, n: c_int, offset: off_t) -> ssize_t => calls::rw::preadv;
    fn pwritev(fd: c_int, iov: *const iovec, n: c_int, offset: off_t) -> ssize_t => calls::rw::pwritev;
    fn pwritev64(fd: c_int, iov: *const iovec, n: c_int, offset: off_t) -> ssize_t => calls::rw::pwritev;
    fn preadv2(fd: c_int, iov: *const iovec, n: c_int, offset: off_t, flags: c_int) -> ssize_t => calls::rw::preadv2;
    fn preadv64v2(fd: c_int, iov: *const iovec, n: c_int, offset: off_t, flags: c_int) -> ssize_t => calls::rw::preadv2;
    fn pwritev2(fd: c_int, iov: *const iovec, n: c_int, offset: off_t, flags: c_int) -> ssize_t => calls::rw::pwritev2;
    fn pwritev64v2(fd: c_int, iov: *const iovec, n: c_int, offset: off_t, flags: c_int) -> ssize_t => calls::rw::pwritev2;

    // Opening, closing, and what is done to a descriptor.
    // Variadic in C. The optional mode is passed in the register of the third or fourth argument
    // either way.
    fn open(path: *const c_char, flags: c_int, mode: mode_t) -> c_int => calls::open::open;
    fn open64(path: *const c_char, flags: c_int, mode: mode_t) -> c_int => calls::open::open;
    fn __open(path: *const c_char, flags: c_int, mode: mode_t) -> c_int => calls::open::open;
    fn __open64(path: *const c_char, flags: c_int, mode: mode_t) -> c_int => calls::open::open;
    fn openat(dir: c_int, path: *const c_char, flags: c_int, mode: mode_t) -> c_int => calls::open::openat;
    fn openat64(dir: c_int, path: *const c_char, flags: c_int, mode: mode_t) -> c_int => calls::open::openat;
    fn __open_2(path: *const c_char, flags: c_int) -> c_int => calls::open::open_2;
    fn __open64_2(path: *const c_char, flags: c_int) -> c_int => calls::open::open_2;
    fn __openat_2(dir: c_int, path: *const c_char, flags: c_int) -> c_int => calls::open::openat_2;
    fn __openat64_2(dir: c_int, path: *const c_char, flags: c_int) -> c_int => calls::open::openat_2;
    fn creat(path: *const c_char, mode: mode_t) -> c_int => calls::open::creat;
    fn creat64(path: *const c_char, mode: mode_t) -> c_int => calls::open::creat;

    fn close(fd: c_int) -> c_int => calls::file::close, forgets: fds::forget(fd);
    fn __close(fd: c_int) -> c_int => calls::file::close, forgets: fds::forget(fd);

    fn fsync(fd: c_int) -> c_int => calls::file::fsync;
    fn fdatasync(fd: c_int) -> c_int => calls::file::fdatasync;

    fn lseek(fd: c_int, offset: off_t, whence: c_int) -> off_t => calls::file::lseek;
    fn lseek64(fd: c_int, offset: off_t, whence: c_int) -> off_t => calls::file::lseek;
    fn __lseek(fd: c_int, offset: off_t, whence: c_int) -> off_t => calls::file::lseek;

    fn dup(fd: c_int) -> c_int => calls::file::dup;
    fn dup2(from: c_int, to: c_int) -> c_int => calls::file::dup2, forgets: calls::file::before_dup2(from, to);
    fn __dup2(from: c_int, to: c_int) -> c_int => calls::file::dup2, forgets: calls::file::before_dup2(from, to);
    fn dup3(from: c_int, to: c_int, flags: c_int) -> c_int => calls::file::dup3, forgets: calls::file::before_dup2(from, to);

    // Variadic in C, like open.
    fn fcntl(fd: c_int, command: c_int, argument: c_ulong) -> c_int => with_libc(calls::file::fcntl), forgets: calls::file::before_fcntl(fd, command);
    fn fcntl64(fd: c_int, command: c_int, argument: c_ulong) -> c_int => with_libc(calls::file::fcntl), forgets: calls::file::before_fcntl(fd, command);
    fn __fcntl(fd: c_int, command: c_int, argument: c_ulong) -> c_int => with_libc(calls::file::fcntl), forgets: calls::file::before_fcntl(fd, command);

    // Variadic in C. FIONBIO does the same as F_SETFL.
    fn ioctl(fd: c_int, request: c_ulong, argument: c_ulong) -> c_int => calls::file::ioctl, forgets: calls::file::before_ioctl(fd, request);
    fn setsockopt(fd: c_int, level: c_int, option: c_int, value: *const c_void, n: socklen_t) -> c_int => calls::file::setsockopt, forgets: calls::file::before_setsockopt(fd, level, option);

    // Sockets.
    fn recv(fd: c_int, buf: *mut c_void, n: size_t, flags: c_int) -> ssize_t => calls::net::recv;
    fn __recv(fd: c_int, buf: *mut c_void, n: size_t, flags: c_int) -> ssize_t => calls::net::recv;
    fn __recv_chk(fd: c_int, buf: *mut c_void, n: size_t, object: size_t, flags: c_int) -> ssize_t => calls::net::recv_chk;
    fn recvfrom(fd: c_int, buf: *mut c_void, n: size_t, flags: c_int, address: *mut sockaddr, len: *mut socklen_t) -> ssize_t => calls::net::recvfrom;
    fn __recvfrom_chk(fd: c_int, buf: *mut c_void, n: size_t, object: size_t, flags: c_int, address: *mut sockaddr, len: *mut socklen_t) -> ssize_t => calls::net::recvfrom_chk;
    fn recvmsg(fd: c_int, message: *mut msghdr, flags: c_int) -> ssize_t => calls::net::recvmsg;
    fn recvmmsg(fd: c_int, messages: *mut mmsghdr, n: c_uint, flags: c_int, limit: *mut timespec) -> c_int => calls::mmsg::recvmmsg;
    fn send(fd: c_int, buf: *const c_void, n: size_t, flags: c_int) -> ssize_t => calls::net::send;
    fn __send(fd: c_int, buf: *const c_void, n: size_t, flags: c_int) -> ssize_t => calls::net::send;
    fn sendto(fd: c_int, buf: *const c_void, n: size_t, flags: c_int, address: *const sockaddr, len: socklen_t) -> ssize_t => calls::net::sendto;
    fn sendmsg(fd: c_int, message: *const msghdr, flags: c_int) -> ssize_t => calls::net::sendmsg;
    fn sendmmsg(fd: c_int, messages: *mut mmsghdr, n: c_uint, flags: c_int) -> c_int => calls::mmsg::sendmmsg;
    fn __sendmmsg(fd: c_int, messages: *mut mmsghdr, n: c_uint, flags: c_int) -> c_int => calls::mmsg::sendmmsg;
    fn accept(fd: c_int, address: *mut sockaddr, len: *mut socklen_t) -> c_int => calls::connect::accept;
    fn accept4(fd: c_int, address: *mut sockaddr, len: *mut socklen_t, flags: c_int) -> c_int => calls::connect::accept4;
    fn connect(fd: c_int, address: *const sockaddr, len: socklen_t) -> c_int => calls::connect::connect;
    fn __connect(fd: c_int, address: *const sockaddr, len: socklen_t) -> c_int => calls::connect::connect;

    // Waiting for readiness.
    fn poll(fds: *mut pollfd, n: nfds_t, timeout: c_int) -> c_int => calls::poll::poll;
    fn __poll(fds: *mut pollfd, n: nfds_t, timeout: c_int) -> c_int => calls::poll::poll;
    fn __poll_chk(fds: *mut pollfd, n: nfds_t, timeout: c_int, object: size_t) -> c_int => calls::poll::poll_chk;
    fn ppoll(fds: *mut pollfd, n: nfds_t, timeout: *const timespec, mask: *const sigset_t) -> c_int => calls::poll::ppoll;
    fn __ppoll_chk(fds: *mut pollfd, n: nfds_t, timeout: *const timespec, mask: *const sigset_t, object: size_t) -> c_int => calls::poll::ppoll_chk;
    fn select(n: c_int, readable: *mut fd_set, writable: *mut fd_set, exceptional: *mut fd_set, timeout: *mut timeval) -> c_int => calls::select::select;
    fn __select(n: c_int, readable: *mut fd_set, writable: *mut fd_set, exceptional: *mut fd_set, timeout: *mut timeval) -> c_int => calls::select::select;
    fn pselect(n: c_int, readable: *mut fd_set, writable: *mut fd_set, exceptional: *mut fd_set, timeout: *const timespec, mask: *const sigset_t) -> c_int => calls::select::pselect;
    fn epoll_wait(epoll: c_int, events: *mut epoll_event, n: c_int, timeout: c_int) -> c_int => calls::poll::epoll_wait;
    fn epoll_pwait(epoll: c_int, events: *mut epoll_event, n: c_int, timeout: c_int, mask: *const sigset_t) -> c_int => calls::poll::epoll_pwait;
    fn epoll_pwait2(epoll: c_int, events: *mut epoll_event, n: c_int, timeout: *const timespec, mask: *const sigset_t) -> c_int => calls::poll::epoll_pwait2, otherwise: calls::poll::own_epoll_pwait2;

    // Time and signals.
    fn nanosleep(time: *const timespec, left: *mut timespec) -> c_int => calls::sleep::nanosleep;
    fn __nanosleep(time: *const timespec, left: *mut timespec) -> c_int => calls::sleep::nanosleep;
    fn usleep(microseconds: c_uint) -> c_int => calls::sleep::usleep;
    fn sleep(seconds: c_uint) -> c_uint => calls::sleep::sleep;
    fn clock_nanosleep(clock: c_int, flags: c_int, time: *const timespec, left: *mut timespec) -> c_int => calls::sleep::clock_nanosleep, version: "GLIBC_2.17";
    fn thrd_sleep(time: *const timespec, left: *mut timespec) -> c_int => calls::sleep::thrd_sleep;
    fn pause() -> c_int => calls::signal::pause;
    fn sigsuspend(mask: *const sigset_t) -> c_int => calls::signal::sigsuspend;
    fn __sigsuspend(mask: *const sigset_t) -> c_int => calls::signal::sigsuspend;
    fn sigpause(mask: c_int) -> c_int => calls::signal::sigpause;
    fn __sigpause(what: c_int, is_signal: c_int) -> c_int => calls::signal::sigpause_either;
    fn __xpg_sigpause(signal: c_int) -> c_int => calls::signal::sigpause_one;
    fn sigwait(set: *const sigset_t, signal: *mut c_int) -> c_int => calls::signal::sigwait;
    fn sigwaitinfo(set: *const sigset_t, info: *mut siginfo_t) -> c_int => calls::signal::sigwaitinfo;
    fn sigtimedwait(set: *const sigset_t, info: *mut siginfo_t, timeout: *const timespec) -> c_int => calls::signal::sigtimedwait;
    fn __sigtimedwait(set: *const sigset_t, info: *mut siginfo_t, timeout: *const timespec) -> c_int => calls::signal::sigtimedwait;

    // Calls that make children without running fork handlers. clone is variadic in C, like syscall
    // below.
    fn clone(entry: calls::clone::Entry, stack: *mut c_void, flags: c_int, argument: *mut c_void, parent_id: *mut c_void, tls: *mut c_void, child_id: *mut c_void) -> c_int => calls::clone::clone, at: everywhere;
    fn __clone(entry: calls::clone::Entry, stack: *mut c_void, flags: c_int, argument: *mut c_void, parent_id: *mut c_void, tls: *mut c_void, child_id: *mut c_void) -> c_int => calls::clone::clone, at: everywhere;
    fn _Fork() -> pid_t => calls::clone::fork, at: everywhere, otherwise: calls::clone::own_fork;

    // Changes of the thread: its rights, namespaces, filters and priorities.
    // Variadic in C, like syscall below.
    fn prctl(option: c_int, a: c_ulong, b: c_ulong, c: c_ulong, d: c_ulong) -> c_int => calls::thread_state::prctl, at: everywhere;
    fn unshare(flags: c_int) -> c_int => calls::thread_state::unshare, at: everywhere;
    fn setns(fd: c_int, kind: c_int) -> c_int => calls::thread_state::setns, at: everywhere;
    fn capset(header: *mut c_void, data: *const c_void) -> c_int => calls::thread_state::capset, at: everywhere;
    fn setfsuid(user: uid_t) -> c_int => calls::thread_state::set_file_owner, at: everywhere;
    fn setfsgid(group: gid_t) -> c_int => calls::thread_state::set_file_owner, at: everywhere;
    fn setpriority(which: c_int, who: id_t, priority: c_int) -> c_int => calls::thread_state::setpriority, at: everywhere;
    fn nice(step: c_int) -> c_int => calls::thread_state::nice, at: everywhere;
    fn sched_setscheduler(pid: pid_t, policy: c_int, parameters: *const c_void) -> c_int => calls::thread_state::sched_setscheduler, at: everywhere;
    fn __sched_setscheduler(pid: pid_t, policy: c_int, parameters: *const c_void) -> c_int => calls::thread_state::sched_setscheduler, at: everywhere;
    fn sched_setparam(pid: pid_t, parameters: *const c_void) -> c_int => calls::thread_state::sched_setparam, at: everywhere;
    fn sched_setaffinity(pid: pid_t, n: size_t, set: *const c_void) -> c_int => calls::thread_state::sched_setaffinity, at: everywhere;

    // Processes.
    fn wait(status: *mut c_int) -> pid_t => calls::process::wait;
    fn __wait(status: *mut c_int) -> pid_t => calls::process::wait;
    fn waitpid(pid: pid_t, status: *mut c_int, options: c_int) -> pid_t => calls::process::waitpid;
    fn __waitpid(pid: pid_t, status: *mut c_int, options: c_int) -> pid_t => calls::process::waitpid;
    fn wait3(status: *mut c_int, options: c_int, usage: *mut rusage) -> pid_t => calls::process::wait3;
    fn wait4(pid: pid_t, status: *mut c_int, options: c_int, usage: *mut rusage) -> pid_t => calls::process::wait4;
    fn waitid(kind: idtype_t, id: id_t, info: *mut siginfo_t, options: c_int) -> c_int => calls::process::waitid;
    fn system(command: *const c_char) -> c_int => calls::system::system;
    // Variadic in C, like open.
    fn ptrace(request: c_long, pid: pid_t, address: *mut c_void, data: *mut c_void) -> c_long => calls::process::ptrace;

    // Metadata: names and attributes of files.
    fn stat(path: *const c_char, into: *mut c_void) -> c_int => paced(Lookup, libc::AT_FDCWD), otherwise: calls::stat::own_stat;
    fn stat64(path: *const c_char, into: *mut c_void) -> c_int => paced(Lookup, libc::AT_FDCWD), otherwise: calls::stat::own_stat;
    fn lstat(path: *const c_char, into: *mut c_void) -> c_int => paced(Lookup, libc::AT_FDCWD), otherwise: calls::stat::own_lstat;
    fn lstat64(path: *const c_char, into: *mut c_void) -> c_int => paced(Lookup, libc::AT_FDCWD), otherwise: calls::stat::own_lstat;
    fn fstat(fd: c_int, into: *mut c_void) -> c_int => paced(Lookup, fd), otherwise: calls::stat::own_fstat;
    fn fstat64(fd: c_int, into: *mut c_void) -> c_int => paced(Lookup, fd), otherwise: calls::stat::own_fstat;
    fn fstatat(dir: c_int, path: *const c_char, into: *mut c_void, flags: c_int) -> c_int => paced(Lookup, dir), otherwise: calls::stat::own_fstatat;
    fn fstatat64(dir: c_int, path: *const c_char, into: *mut c_void, flags: c_int) -> c_int => paced(Lookup, dir), otherwise: calls::stat::own_fstatat;
    // Called by programs that were built for a glibc before 2.33.
    fn __xstat(version: c_int, path: *const c_char, into: *mut c_void) -> c_int => paced(Lookup, libc::AT_FDCWD);
    fn __xstat64(version: c_int, path: *const c_char, into: *mut c_void) -> c_int => paced(Lookup, libc::AT_FDCWD);
    fn __lxstat(version: c_int, path: *const c_char, into: *mut c_void) -> c_int => paced(Lookup, libc::AT_FDCWD);
    fn __lxstat64(version: c_int, path: *const c_char, into: *mut c_void) -> c_int => paced(Lookup, libc::AT_FDCWD);
    fn __fxstat(version: c_int, fd: c_int, into: *mut c_void) -> c_int => paced(Lookup, fd);
    fn __fxstat64(version: c_int, fd: c_int, into: *mut c_void) -> c_int => paced(Lookup, fd);
    fn __fxstatat(version: c_int, dir: c_int, path: *const c_char, into: *mut c_void, flags: c_int) -> c_int => paced(Lookup, dir);
    fn __fxstatat64(version: c_int, dir: c_int, path: *const c_char, into: *mut c_void, flags: c_int) -> c_int => paced(Lookup, dir);
    fn statx(dir: c_int, path: *const c_char, flags: c_int, mask: c_uint, into: *mut c_void) -> c_int => paced(Lookup, dir);
    fn access(path: *const c_char, mode: c_int) -> c_int => paced(Lookup, libc::AT_FDCWD);
    fn euidaccess(path: *const c_char, mode: c_int) -> c_int => paced(Lookup, libc::AT_FDCWD);
    fn eaccess(path: *const c_char, mode: c_int) -> c_int => paced(Lookup, libc::AT_FDCWD);
    fn faccessat(dir: c_int, path: *const c_char, mode: c_int, flags: c_int) -> c_int => paced(Lookup, dir);
    fn statfs(path: *const c_char, into: *mut c_void) -> c_int => paced(Lookup, libc::AT_FDCWD);
    fn statfs64(path: *const c_char, into: *mut c_void) -> c_int => paced(Lookup, libc::AT_FDCWD);
    fn __statfs(path: *const c_char, into: *mut c_void) -> c_int => paced(Lookup, libc::AT_FDCWD);
    fn statvfs(path: *const c_char, into: *mut c_void) -> c_int => paced(Lookup, libc::AT_FDCWD);
    fn statvfs64(path: *const c_char, into: *mut c_void) -> c_int => paced(Lookup, libc::AT_FDCWD);
    fn fstatfs(fd: c_int, into: *mut c_void) -> c_int => paced(Lookup, fd);
    fn fstatfs64(fd: c_int, into: *mut c_void) -> c_int => paced(Lookup, fd);
    fn fstatvfs(fd: c_int, into: *mut c_void) -> c_int => paced(Lookup, fd);
    fn fstatvfs64(fd: c_int, into: *mut c_void) -> c_int => paced(Lookup, fd);
    fn readlink(path: *const c_char, into: *mut c_char, n: size_t) -> ssize_t => paced(Lookup, libc::AT_FDCWD);
    fn __readlink_chk(path: *const c_char, into: *mut c_char, n: size_t, object: size_t) -> ssize_t => paced(Lookup, libc::AT_FDCWD);
    fn readlinkat(dir: c_int, path: *const c_char, into: *mut c_char, n: size_t) -> ssize_t => paced(Lookup, dir);
    fn __readlinkat_chk(dir: c_int, path: *const c_char, into: *mut c_char, n: size_t, object: size_t) -> ssize_t => paced(Lookup, dir);
    fn realpath(path: *const c_char, resolved: *mut c_char) -> *mut c_char => paced(Lookup, libc::AT_FDCWD), version: "GLIBC_2.3";
    fn __realpath_chk(path: *const c_char, resolved: *mut c_char, object: size_t) -> *mut c_char => paced(Lookup, libc::AT_FDCWD);
    fn canonicalize_file_name(path: *const c_char) -> *mut c_char => paced(Lookup, libc::AT_FDCWD);
    fn getxattr(path: *const c_char, name: *const c_char, value: *mut c_void, n: size_t) -> ssize_t => paced(Lookup, libc::AT_FDCWD);
    fn lgetxattr(path: *const c_char, name: *const c_char, value: *mut c_void, n: size_t) -> ssize_t => paced(Lookup, libc::AT_FDCWD);
    fn fgetxattr(fd: c_int, name: *const c_char, value: *mut c_void, n: size_t) -> ssize_t => paced(Lookup, fd);
    fn listxattr(path: *const c_char, list: *mut c_char, n: size_t) -> ssize_t => paced(Lookup, libc::AT_FDCWD);
    fn llistxattr(path: *const c_char, list: *mut c_char, n: size_t) -> ssize_t => paced(Lookup, libc::AT_FDCWD);
    fn flistxattr(fd: c_int, list: *mut c_char, n: size_t) -> ssize_t => paced(Lookup, fd);
    fn name_to_handle_at(dir: c_int, path: *const c_char, handle: *mut c_void, mount: *mut c_int, flags: c_int) -> c_int => paced(Lookup, dir);
    fn open_by_handle_at(mount: c_int, handle: *mut c_void, flags: c_int) -> c_int => with_libc(calls::name::open_by_handle_at);
    fn chdir(path: *const c_char) -> c_int => with_libc(calls::name::chdir);
    fn fchdir(dir: c_int) -> c_int => with_libc(calls::name::fchdir);

    fn unlink(path: *const c_char) -> c_int => paced(Change, libc::AT_FDCWD);
    fn rmdir(path: *const c_char) -> c_int => paced(Change, libc::AT_FDCWD);
    fn remove(path: *const c_char) -> c_int => paced(Change, libc::AT_FDCWD);
    fn unlinkat(dir: c_int, path: *const c_char, flags: c_int) -> c_int => paced(Change, dir);
    fn rename(from: *const c_char, to: *const c_char) -> c_int => paced(Change, libc::AT_FDCWD), changes: known_files::forget();
    fn link(from: *const c_char, to: *const c_char) -> c_int => paced(Change, libc::AT_FDCWD), changes: known_files::forget();
    fn symlink(from: *const c_char, to: *const c_char) -> c_int => paced(Change, libc::AT_FDCWD), changes: known_files::forget();
    fn renameat(from_dir: c_int, from: *const c_char, to_dir: c_int, to: *const c_char) -> c_int => paced(Change, to_dir, from_dir), changes: known_files::forget();
    fn renameat2(from_dir: c_int, from: *const c_char, to_dir: c_int, to: *const c_char, flags: c_uint) -> c_int => paced(Change, to_dir, from_dir), changes: known_files::forget();
    fn linkat(from_dir: c_int, from: *const c_char, to_dir: c_int, to: *const c_char, flags: c_int) -> c_int => paced(Change, to_dir, from_dir), changes: known_files::forget();
    fn symlinkat(target: *const c_char, dir: c_int, path: *const c_char) -> c_int => paced(Change, dir), changes: known_files::forget();
    fn mkdir(path: *const c_char, mode: mode_t) -> c_int => paced(Change, libc::AT_FDCWD);
    fn mkfifo(path: *const c_char, mode: mode_t) -> c_int => paced(Change, libc::AT_FDCWD), changes: known_files::forget();
    fn chmod(path: *const c_char, mode: mode_t) -> c_int => paced(Change, libc::AT_FDCWD);
    fn lchmod(path: *const c_char, mode: mode_t) -> c_int => paced(Change, libc::AT_FDCWD);
    fn mkdirat(dir: c_int, path: *const c_char, mode: mode_t) -> c_int => paced(Change, dir);
    fn mkfifoat(dir: c_int, path: *const c_char, mode: mode_t) -> c_int => paced(Change, dir), changes: known_files::forget();
    fn mknod(path: *const c_char, mode: mode_t, device: dev_t) -> c_int => paced(Change, libc::AT_FDCWD), changes: known_files::forget(), otherwise: calls::stat::own_mknod;
    fn mknodat(dir: c_int, path: *const c_char, mode: mode_t, device: dev_t) -> c_int => paced(Change, dir), changes: known_files::forget(), otherwise: calls::stat::own_mknodat;
    fn __xmknod(version: c_int, path: *const c_char, mode: mode_t, device: *mut dev_t) -> c_int => paced(Change, libc::AT_FDCWD), changes: known_files::forget();
    fn __xmknodat(version: c_int, dir: c_int, path: *const c_char, mode: mode_t, device: *mut dev_t) -> c_int => paced(Change, dir), changes: known_files::forget();
    fn fchmod(fd: c_int, mode: mode_t) -> c_int => paced(Change, fd);
    fn fchmodat(dir: c_int, path: *const c_char, mode: mode_t, flags: c_int) -> c_int => paced(Change, dir);
    fn chown(path: *const c_char, owner: uid_t, group: gid_t) -> c_int => paced(Change, libc::AT_FDCWD);
    fn lchown(path: *const c_char, owner: uid_t, group: gid_t) -> c_int => paced(Change, libc::AT_FDCWD);
    fn fchown(fd: c_int, owner: uid_t, group: gid_t) -> c_int => paced(Change, fd);
    fn fchownat(dir: c_int, path: *const c_char, owner: uid_t, group: gid_t, flags: c_int) -> c_int => paced(Change, dir);
    fn utime(path: *const c_char, times: *const c_void) -> c_int => paced(Change, libc::AT_FDCWD);
    fn utimes(path: *const c_char, times: *const c_void) -> c_int => paced(Change, libc::AT_FDCWD);
    fn lutimes(path: *const c_char, times: *const c_void) -> c_int => paced(Change, libc::AT_FDCWD);
    fn futimes(fd: c_int, times: *const c_void) -> c_int => paced(Change, fd);
    fn futimens(fd: c_int, times: *const c_void) -> c_int => paced(Change, fd);
    fn futimesat(dir: c_int, path: *const c_char, times: *const c_void) -> c_int => paced(Change, dir);
    fn utimensat(dir: c_int, path: *const c_char, times: *const c_void, flags: c_int) -> c_int => paced(Change, dir);
    fn setxattr(path: *const c_char, name: *const c_char, value: *const c_void, n: size_t, flags: c_int) -> c_int => paced(Change, libc::AT_FDCWD);
    fn lsetxattr(path: *const c_char, name: *const c_char, value: *const c_void, n: size_t, flags: c_int) -> c_int => paced(Change, libc::AT_FDCWD);
    fn fsetxattr(fd: c_int, name: *const c_char, value: *const c_void, n: size_t, flags: c_int) -> c_int => paced(Change, fd);
    fn removexattr(path: *const c_char, name: *const c_char) -> c_int => paced(Change, libc::AT_FDCWD);
    fn lremovexattr(path: *const c_char, name: *const c_char) -> c_int => paced(Change, libc::AT_FDCWD);
    fn fremovexattr(fd: c_int, name: *const c_char) -> c_int => paced(Change, fd);
    // libc chooses the descriptor, so it cannot be forgotten before the call.
    fn mkstemp(template: *mut c_char) -> c_int => with_libc(calls::name::mkstemp);
    fn mkstemp64(template: *mut c_char) -> c_int => with_libc(calls::name::mkstemp);
    fn mkstemps(template: *mut c_char, suffix: c_int) -> c_int => with_libc(calls::name::mkstemps);
    fn mkstemps64(template: *mut c_char, suffix: c_int) -> c_int => with_libc(calls::name::mkstemps);
    fn mkostemp(template: *mut c_char, flags: c_int) -> c_int => with_libc(calls::name::mkstemps);
    fn mkostemp64(template: *mut c_char, flags: c_int) -> c_int => with_libc(calls::name::mkstemps);
    fn mkostemps(template: *mut c_char, suffix: c_int, flags: c_int) -> c_int => with_libc(calls::name::mkostemps);
    fn mkostemps64(template: *mut c_char, suffix: c_int, flags: c_int) -> c_int => with_libc(calls::name::mkostemps);
    fn mkdtemp(template: *mut c_char) -> *mut c_char => paced(Change, libc::AT_FDCWD);
    fn mktemp(template: *mut c_char) -> *mut c_char => paced(Lookup, libc::AT_FDCWD);
    fn tmpnam_r(into: *mut c_char) -> *mut c_char => paced(Lookup, libc::AT_FDCWD);
    fn tmpnam(into: *mut c_char) -> *mut c_char => paced(Lookup, libc::AT_FDCWD);
    fn tempnam(dir: *const c_char, prefix: *const c_char) -> *mut c_char => paced(Lookup, libc::AT_FDCWD);

    // Data: what else is done to a file's contents.
    fn truncate(path: *const c_char, length: off_t) -> c_int => paced(Space, libc::AT_FDCWD);
    fn truncate64(path: *const c_char, length: off_t) -> c_int => paced(Space, libc::AT_FDCWD);
    fn ftruncate(fd: c_int, length: off_t) -> c_int => paced(Space, fd);
    fn ftruncate64(fd: c_int, length: off_t) -> c_int => paced(Space, fd);
    fn fallocate(fd: c_int, mode: c_int, offset: off_t, length: off_t) -> c_int => paced(Space, fd);
    fn fallocate64(fd: c_int, mode: c_int, offset: off_t, length: off_t) -> c_int => paced(Space, fd);
    fn posix_fallocate(fd: c_int, offset: off_t, length: off_t) -> c_int => with_libc(calls::space::posix_fallocate);
    fn posix_fallocate64(fd: c_int, offset: off_t, length: off_t) -> c_int => with_libc(calls::space::posix_fallocate);
    fn posix_fadvise(fd: c_int, offset: off_t, length: off_t, advice: c_int) -> c_int => paced(Space, fd);
    fn posix_fadvise64(fd: c_int, offset: off_t, length: off_t, advice: c_int) -> c_int => paced(Space, fd);
    fn readahead(fd: c_int, offset: off_t, n: size_t) -> ssize_t => paced(Space, fd);

    fn sync() -> () => paced(Flush, calls::via::adaptive::NO_FILE);
    fn syncfs(fd: c_int) -> c_int => paced(Flush, fd);
    fn sync_file_range(fd: c_int, offset: off_t, length: off_t, flags: c_uint) -> c_int => with_libc(calls::space::sync_file_range);
    fn msync(memory: *mut c_void, length: size_t, flags: c_int) -> c_int => with_libc(calls::space::msync);

    fn copy_file_range(from: c_int, from_at: *mut off_t, to: c_int, to_at: *mut off_t, n: size_t, flags: c_uint) -> ssize_t => with_libc(calls::splice::copy_file_range);
    fn sendfile(to: c_int, from: c_int, from_at: *mut off_t, n: size_t) -> ssize_t => with_libc(calls::splice::sendfile);
    fn sendfile64(to: c_int, from: c_int, from_at: *mut off_t, n: size_t) -> ssize_t => with_libc(calls::splice::sendfile);
    fn splice(from: c_int, from_at: *mut off_t, to: c_int, to_at: *mut off_t, n: size_t, flags: c_uint) -> ssize_t => with_libc(calls::splice::splice);
    fn tee(from: c_int, to: c_int, n: size_t, flags: c_uint) -> ssize_t => with_libc(calls::splice::tee);
    fn vmsplice(pipe: c_int, iov: *const iovec, n: size_t, flags: c_uint) -> ssize_t => with_libc(calls::splice::vmsplice);

    fn flock(fd: c_int, operation: c_int) -> c_int => with_libc(calls::flock::flock);
    fn lockf(fd: c_int, command: c_int, length: off_t) -> c_int => with_libc(calls::flock::lockf);
    fn lockf64(fd: c_int, command: c_int, length: off_t) -> c_int => with_libc(calls::flock::lockf);

    // Directories.
    fn opendir(path: *const c_char) -> *mut DIR => with_libc(calls::directory::opendir);
    fn fdopendir(fd: c_int) -> *mut DIR => paced(Lookup, fd);
    fn readdir(directory: *mut DIR) -> *mut c_void => with_libc(calls::directory::readdir);
    fn readdir64(directory: *mut DIR) -> *mut c_void => with_libc(calls::directory::readdir);
    fn readdir_r(directory: *mut DIR, entry: *mut c_void, result: *mut *mut c_void) -> c_int => with_libc(calls::directory::readdir_r);
    fn readdir64_r(directory: *mut DIR, entry: *mut c_void, result: *mut *mut c_void) -> c_int => with_libc(calls::directory::readdir_r);
    fn getdents64(fd: c_int, buf: *mut c_void, n: size_t) -> ssize_t => paced(Directory, fd);
    fn getdirentries(fd: c_int, buf: *mut c_char, n: size_t, base: *mut off_t) -> ssize_t => paced(Directory, fd);
    fn getdirentries64(fd: c_int, buf: *mut c_char, n: size_t, base: *mut off_t) -> ssize_t => paced(Directory, fd);
    fn scandir(path: *const c_char, list: *mut *mut *mut c_void, filter: Filter, compare: Compare) -> c_int => with_libc(calls::directory::scandir);
    fn scandir64(path: *const c_char, list: *mut *mut *mut c_void, filter: Filter, compare: Compare) -> c_int => with_libc(calls::directory::scandir);
    fn scandirat(dir: c_int, path: *const c_char, list: *mut *mut *mut c_void, filter: Filter, compare: Compare) -> c_int => with_libc(calls::directory::scandirat);
    fn scandirat64(dir: c_int, path: *const c_char, list: *mut *mut *mut c_void, filter: Filter, compare: Compare) -> c_int => with_libc(calls::directory::scandirat);

    fn ftw(path: *const c_char, visit: FtwVisit, descriptors: c_int) -> c_int => with_libc(calls::walk::ftw);
    fn ftw64(path: *const c_char, visit: FtwVisit, descriptors: c_int) -> c_int => with_libc(calls::walk::ftw);
    fn nftw(path: *const c_char, visit: NftwVisit, descriptors: c_int, flags: c_int) -> c_int => with_libc(calls::walk::nftw), version: "GLIBC_2.3.3";
    fn nftw64(path: *const c_char, visit: NftwVisit, descriptors: c_int, flags: c_int) -> c_int => with_libc(calls::walk::nftw), version: "GLIBC_2.3.3";
    fn glob(pattern: *const c_char, flags: c_int, error: GlobError, into: *mut c_void) -> c_int => with_libc(calls::walk::glob), version: "GLIBC_2.27";
    fn glob64(pattern: *const c_char, flags: c_int, error: GlobError, into: *mut c_void) -> c_int => with_libc(calls::walk::glob), version: "GLIBC_2.27";
    fn fts_open(paths: *const *mut c_char, options: c_int, compare: Compare) -> *mut Fts => with_libc(calls::walk::fts_open);
    fn fts64_open(paths: *const *mut c_char, options: c_int, compare: Compare) -> *mut Fts => with_libc(calls::walk::fts_open);
    fn fts_read(tree: *mut Fts) -> *mut c_void => with_libc(calls::walk::fts_read);
    fn fts64_read(tree: *mut Fts) -> *mut c_void => with_libc(calls::walk::fts_read);
    fn fts_children(tree: *mut Fts, options: c_int) -> *mut c_void => with_libc(calls::walk::fts_children);
    fn fts64_children(tree: *mut Fts, options: c_int) -> *mut c_void => with_libc(calls::walk::fts_children);
    fn fts_close(tree: *mut Fts) -> c_int => paced(Directory, libc::AT_FDCWD);
    fn fts64_close(tree: *mut Fts) -> c_int => paced(Directory, libc::AT_FDCWD);

    // Names and users: the resolver, the name services, their files and sockets.
    fn getaddrinfo(node: *const c_char, service: *const c_char, hints: *const c_void, result: *mut c_void) -> c_int => offload;
    fn getnameinfo(address: *const c_void, n: socklen_t, host: *mut c_void, host_n: socklen_t, service: *mut c_void, service_n: socklen_t, flags: c_int) -> c_int => offload;
    fn gethostbyname(name: *const c_char) -> *mut c_void => recorded(gethostbyname_r, h_errno);
    fn gethostbyname2(name: *const c_char, family: c_int) -> *mut c_void => recorded(gethostbyname2_r, h_errno);
    fn gethostbyaddr(address: *const c_void, n: socklen_t, family: c_int) -> *mut c_void => recorded(gethostbyaddr_r, h_errno);
    fn gethostbyname_r(name: *const c_char, entry: *mut c_void, buf: *mut c_void, n: size_t, result: *mut c_void, error: *mut c_void) -> c_int => offload;
    fn gethostbyname2_r(name: *const c_char, family: c_int, entry: *mut c_void, buf: *mut c_void, n: size_t, result: *mut c_void, error: *mut c_void) -> c_int => offload;
    fn gethostbyaddr_r(address: *const c_void, address_n: socklen_t, family: c_int, entry: *mut c_void, buf: *mut c_void, n: size_t, result: *mut c_void, error: *mut c_void) -> c_int => offload;
    fn gethostent() -> *mut c_void => recorded(gethostent_r, h_errno);
    fn gethostent_r(entry: *mut c_void, buf: *mut c_void, n: size_t, result: *mut c_void, error: *mut c_void) -> c_int => offload;
    fn sethostent(stay_open: c_int) -> () => offload;
    fn endhostent() -> () => offload;
    fn getnetent() -> *mut c_void => recorded(getnetent_r, h_errno);
    fn getnetent_r(entry: *mut c_void, buf: *mut c_void, n: size_t, result: *mut c_void, error: *mut c_void) -> c_int => offload;
    fn setnetent(stay_open: c_int) -> () => offload;
    fn endnetent() -> () => offload;
    fn getprotoent() -> *mut c_void => recorded(getprotoent_r);
    fn getprotoent_r(entry: *mut c_void, buf: *mut c_void, n: size_t, result: *mut c_void) -> c_int => offload;
    fn setprotoent(stay_open: c_int) -> () => offload;
    fn endprotoent() -> () => offload;
    fn getservent() -> *mut c_void => recorded(getservent_r);
    fn getservent_r(entry: *mut c_void, buf: *mut c_void, n: size_t, result: *mut c_void) -> c_int => offload;
    fn setservent(stay_open: c_int) -> () => offload;
    fn endservent() -> () => offload;
    fn getpwent() -> *mut c_void => recorded(getpwent_r);
    fn getpwent_r(entry: *mut c_void, buf: *mut c_void, n: size_t, result: *mut c_void) -> c_int => offload;
    fn setpwent() -> () => offload;
    fn endpwent() -> () => offload;
    fn getgrent() -> *mut c_void => recorded(getgrent_r);
    fn getgrent_r(entry: *mut c_void, buf: *mut c_void, n: size_t, result: *mut c_void) -> c_int => offload;
    fn setgrent() -> () => offload;
    fn endgrent() -> () => offload;
    fn getspent() -> *mut c_void => recorded(getspent_r);
    fn getspent_r(entry: *mut c_void, buf: *mut c_void, n: size_t, result: *mut c_void) -> c_int => offload;
    fn setspent() -> () => offload;
    fn endspent() -> () => offload;
    fn getnetbyname(name: *const c_char) -> *mut c_void => recorded(getnetbyname_r, h_errno);
    fn getnetbyname_r(name: *const c_char, entry: *mut c_void, buf: *mut c_void, n: size_t, result: *mut c_void, error: *mut c_void) -> c_int => offload;
    fn getnetbyaddr(net: c_uint, family: c_int) -> *mut c_void => recorded(getnetbyaddr_r, h_errno);
    fn getnetbyaddr_r(net: c_uint, family: c_int, entry: *mut c_void, buf: *mut c_void, n: size_t, result: *mut c_void, error: *mut c_void) -> c_int => offload;
    fn getprotobyname(name: *const c_char) -> *mut c_void => recorded(getprotobyname_r);
    fn getprotobyname_r(name: *const c_char, entry: *mut c_void, buf: *mut c_void, n: size_t, result: *mut c_void) -> c_int => offload;
    fn getprotobynumber(number: c_int) -> *mut c_void => recorded(getprotobynumber_r);
    fn getprotobynumber_r(number: c_int, entry: *mut c_void, buf: *mut c_void, n: size_t, result: *mut c_void) -> c_int => offload;
    fn getservbyname(name: *const c_char, protocol: *const c_char) -> *mut c_void => recorded(getservbyname_r);
    fn getservbyname_r(name: *const c_char, protocol: *const c_char, entry: *mut c_void, buf: *mut c_void, n: size_t, result: *mut c_void) -> c_int => offload;
    fn getservbyport(port: c_int, protocol: *const c_char) -> *mut c_void => recorded(getservbyport_r);
    fn getservbyport_r(port: c_int, protocol: *const c_char, entry: *mut c_void, buf: *mut c_void, n: size_t, result: *mut c_void) -> c_int => offload;
    fn getpwnam(name: *const c_char) -> *mut c_void => recorded(getpwnam_r);
    fn getpwuid(user: c_uint) -> *mut c_void => recorded(getpwuid_r);
    fn getpwnam_r(name: *const c_char, entry: *mut c_void, buf: *mut c_void, n: size_t, result: *mut c_void) -> c_int => offload;
    fn getpwuid_r(user: c_uint, entry: *mut c_void, buf: *mut c_void, n: size_t, result: *mut c_void) -> c_int => offload;
    fn getgrnam(name: *const c_char) -> *mut c_void => recorded(getgrnam_r);
    fn getgrgid(group: c_uint) -> *mut c_void => recorded(getgrgid_r);
    fn getgrnam_r(name: *const c_char, entry: *mut c_void, buf: *mut c_void, n: size_t, result: *mut c_void) -> c_int => offload;
    fn getgrgid_r(group: c_uint, entry: *mut c_void, buf: *mut c_void, n: size_t, result: *mut c_void) -> c_int => offload;
    fn getgrouplist(user: *const c_char, group: c_uint, groups: *mut c_void, n: *mut c_void) -> c_int => offload;
    fn getspnam(name: *const c_char) -> *mut c_void => recorded(getspnam_r);
    fn getspnam_r(name: *const c_char, entry: *mut c_void, buf: *mut c_void, n: size_t, result: *mut c_void) -> c_int => offload;
    fn innetgr(group: *const c_char, host: *const c_char, user: *const c_char, domain: *const c_char) -> c_int => offload;
    fn getaliasbyname(name: *const c_char) -> *mut c_void => recorded(getaliasbyname_r);
    fn getrpcbyname(name: *const c_char) -> *mut c_void => recorded(getrpcbyname_r);
    fn getrpcbynumber(number: c_int) -> *mut c_void => recorded(getrpcbynumber_r);
    fn getaliasbyname_r(name: *const c_char, entry: *mut c_void, buf: *mut c_void, n: size_t, result: *mut c_void) -> c_int => offload;
    fn getrpcbyname_r(name: *const c_char, entry: *mut c_void, buf: *mut c_void, n: size_t, result: *mut c_void) -> c_int => offload;
    fn getrpcbynumber_r(number: c_int, entry: *mut c_void, buf: *mut c_void, n: size_t, result: *mut c_void) -> c_int => offload;
    fn getrpcent() -> *mut c_void => recorded(getrpcent_r);
    fn getrpcent_r(entry: *mut c_void, buf: *mut c_void, n: size_t, result: *mut c_void) -> c_int => offload;
    fn setrpcent(stay_open: c_int) -> () => offload;
    fn endrpcent() -> () => offload;
    fn getaliasent() -> *mut c_void => recorded(getaliasent_r);
    fn getaliasent_r(entry: *mut c_void, buf: *mut c_void, n: size_t, result: *mut c_void) -> c_int => offload;
    fn setaliasent() -> () => offload;
    fn endaliasent() -> () => offload;
    fn getsgnam(name: *const c_char) -> *mut c_void => recorded(getsgnam_r);
    fn getsgnam_r(name: *const c_char, entry: *mut c_void, buf: *mut c_void, n: size_t, result: *mut c_void) -> c_int => offload;
    fn getsgent() -> *mut c_void => recorded(getsgent_r);
    fn getsgent_r(entry: *mut c_void, buf: *mut c_void, n: size_t, result: *mut c_void) -> c_int => offload;
    fn setsgent() -> () => offload;
    fn endsgent() -> () => offload;
    fn ether_hostton(host: *const c_char, address: *mut c_void) -> c_int => offload;
    fn ether_ntohost(host: *mut c_void, address: *const c_void) -> c_int => offload;
    fn getlogin() -> *mut c_char => in_record(calls::results::getlogin);
    fn getlogin_r(buf: *mut c_void, n: size_t) -> c_int => offload;
    fn __getlogin_r_chk(buf: *mut c_void, n: size_t, object: size_t) -> c_int => offload;
    fn getpass(prompt: *const c_char) -> *mut c_char => offload;
    fn wordexp(words: *const c_char, result: *mut c_void, flags: c_int) -> c_int => offload;
    fn gethostid() -> c_long => offload;
    fn vsyslog(priority: c_int, format: *const c_char, arguments: *mut c_void) -> () => offload;
    fn __vsyslog_chk(priority: c_int, flag: c_int, format: *const c_char, arguments: *mut c_void) -> () => offload;
    fn openlog(ident: *const c_char, options: c_int, facility: c_int) -> () => offload;
    fn closelog() -> () => offload;
    fn res_query(name: *const c_char, class: c_int, kind: c_int, answer: *mut c_void, n: c_int) -> c_int => calls::resolver::res_query;
    fn __res_query(name: *const c_char, class: c_int, kind: c_int, answer: *mut c_void, n: c_int) -> c_int => calls::resolver::res_query;
    fn res_search(name: *const c_char, class: c_int, kind: c_int, answer: *mut c_void, n: c_int) -> c_int => calls::resolver::res_search;
    fn __res_search(name: *const c_char, class: c_int, kind: c_int, answer: *mut c_void, n: c_int) -> c_int => calls::resolver::res_search;
    fn res_querydomain(name: *const c_char, domain: *const c_char, class: c_int, kind: c_int, answer: *mut c_void, n: c_int) -> c_int => calls::resolver::res_querydomain;
    fn __res_querydomain(name: *const c_char, domain: *const c_char, class: c_int, kind: c_int, answer: *mut c_void, n: c_int) -> c_int => calls::resolver::res_querydomain;
    fn res_send(message: *const c_void, message_n: c_int, answer: *mut c_void, n: c_int) -> c_int => calls::resolver::res_send;
    fn __res_send(message: *const c_void, message_n: c_int, answer: *mut c_void, n: c_int) -> c_int => calls::resolver::res_send;
    fn res_nquery(state: *mut c_void, name: *const c_char, class: c_int, kind: c_int, answer: *mut c_void, n: c_int) -> c_int => offload;
    fn __res_nquery(state: *mut c_void, name: *const c_char, class: c_int, kind: c_int, answer: *mut c_void, n: c_int) -> c_int => offload;
    fn res_nsearch(state: *mut c_void, name: *const c_char, class: c_int, kind: c_int, answer: *mut c_void, n: c_int) -> c_int => offload;
    fn __res_nsearch(state: *mut c_void, name: *const c_char, class: c_int, kind: c_int, answer: *mut c_void, n: c_int) -> c_int => offload;
    fn res_nquerydomain(state: *mut c_void, name: *const c_char, domain: *const c_char, class: c_int, kind: c_int, answer: *mut c_void, n: c_int) -> c_int => offload;
    fn __res_nquerydomain(state: *mut c_void, name: *const c_char, domain: *const c_char, class: c_int, kind: c_int, answer: *mut c_void, n: c_int) -> c_int => offload;
    fn res_nsend(state: *mut c_void, message: *const c_void, message_n: c_int, answer: *mut c_void, n: c_int) -> c_int => offload;
    fn __res_nsend(state: *mut c_void, message: *const c_void, message_n: c_int, answer: *mut c_void, n: c_int) -> c_int => offload;

    // Interprocess communication, and the rest.
    fn msgrcv(queue: c_int, message: *mut c_void, n: size_t, kind: c_long, flags: c_int) -> ssize_t => calls::ipc::msgrcv;
    fn msgsnd(queue: c_int, message: *const c_void, n: size_t, flags: c_int) -> c_int => calls::ipc::msgsnd;
    fn semop(set: c_int, operations: *mut c_void, n: size_t) -> c_int => calls::ipc::semop;
    fn semtimedop(set: c_int, operations: *mut c_void, n: size_t, limit: *const timespec) -> c_int => calls::ipc::semtimedop;
    fn mq_receive(queue: c_int, message: *mut c_char, n: size_t, priority: *mut c_uint) -> ssize_t => calls::ipc::mq_receive;
    fn mq_timedreceive(queue: c_int, message: *mut c_char, n: size_t, priority: *mut c_uint, until: *const timespec) -> ssize_t => calls::ipc::mq_timedreceive;
    fn mq_send(queue: c_int, message: *const c_char, n: size_t, priority: c_uint) -> c_int => calls::ipc::mq_send;
    fn mq_timedsend(queue: c_int, message: *const c_char, n: size_t, priority: c_uint, until: *const timespec) -> c_int => calls::ipc::mq_timedsend;
    fn mq_open(name: *const c_char, flags: c_int, mode: mode_t, attributes: *const c_void) -> c_int => offload;
    fn __mq_open_2(name: *const c_char, flags: c_int) -> c_int => offload;
    fn mq_unlink(name: *const c_char) -> c_int => offload;
    fn shm_open(name: *const c_char, flags: c_int, mode: mode_t) -> c_int => offload;
    fn shm_unlink(name: *const c_char) -> c_int => offload;
    fn sem_unlink(name: *const c_char) -> c_int => offload;
    fn eventfd_read(fd: c_int, value: *mut c_void) -> c_int => calls::rw::eventfd_read;
    fn eventfd_write(fd: c_int, value: u64) -> c_int => calls::rw::eventfd_write;
    fn getrandom(buf: *mut c_void, n: size_t, flags: c_uint) -> ssize_t => offload when calls::random::waits();
    fn getentropy(buf: *mut c_void, n: size_t) -> c_int => offload when calls::random::waits();
    fn tcdrain(fd: c_int) -> c_int => offload(fd);
    fn tcsendbreak(fd: c_int, duration: c_int) -> c_int => offload(fd);
    fn tcsetattr(fd: c_int, actions: c_int, settings: *const c_void) -> c_int => offload(fd) when calls::terminal::drains(actions);
    fn aio_suspend(list: *const c_void, n: c_int, limit: *const timespec) -> c_int => offload;
    fn aio_suspend64(list: *const c_void, n: c_int, limit: *const timespec) -> c_int => offload;
    fn lio_listio(mode: c_int, list: *const c_void, n: c_int, event: *mut c_void) -> c_int => offload when mode == LIO_WAIT, version: "GLIBC_2.4";
    fn lio_listio64(mode: c_int, list: *const c_void, n: c_int, event: *mut c_void) -> c_int => offload when mode == LIO_WAIT, version: "GLIBC_2.4";
    fn mlock(address: *const c_void, n: size_t) -> c_int => offload;
    fn mlock2(address: *const c_void, n: size_t, flags: c_uint) -> c_int => offload;
    fn mlockall(flags: c_int) -> c_int => offload;

    // Locks.
    fn pthread_mutex_lock(m: *mut pthread_mutex_t) -> c_int => calls::locks::mutex::lock, first: calls::locks::mutex::lock_at_once;
    fn __pthread_mutex_lock(m: *mut pthread_mutex_t) -> c_int => calls::locks::mutex::lock, first: calls::locks::mutex::lock_at_once;
    fn pthread_mutex_trylock(m: *mut pthread_mutex_t) -> c_int => calls::locks::mutex::trylock, first: calls::locks::mutex::lock_at_once;
    fn __pthread_mutex_trylock(m: *mut pthread_mutex_t) -> c_int => calls::locks::mutex::trylock, first: calls::locks::mutex::lock_at_once;
    fn pthread_mutex_timedlock(m: *mut pthread_mutex_t, time: *const timespec) -> c_int => calls::locks::mutex::timedlock;
    fn pthread_mutex_clocklock(m: *mut pthread_mutex_t, clock: clockid_t, time: *const timespec) -> c_int => calls::locks::mutex::clocklock;
    fn pthread_mutex_unlock(m: *mut pthread_mutex_t) -> c_int => calls::locks::mutex::unlock, at: everywhere;
    fn __pthread_mutex_unlock(m: *mut pthread_mutex_t) -> c_int => calls::locks::mutex::unlock, at: everywhere;

    fn pthread_cond_wait(c: *mut pthread_cond_t, m: *mut pthread_mutex_t) -> c_int => calls::locks::cond::wait, by: calls::locks::cond::wait_plainly, version: "GLIBC_2.3.2";
    fn pthread_cond_timedwait(c: *mut pthread_cond_t, m: *mut pthread_mutex_t, time: *const timespec) -> c_int => calls::locks::cond::timedwait, by: calls::locks::cond::timedwait_plainly, version: "GLIBC_2.3.2";
    fn pthread_cond_clockwait(c: *mut pthread_cond_t, m: *mut pthread_mutex_t, clock: clockid_t, time: *const timespec) -> c_int => calls::locks::cond::clockwait, by: calls::locks::cond::clockwait_plainly;
    fn pthread_cond_signal(c: *mut pthread_cond_t) -> c_int => calls::locks::cond::signal, at: everywhere, version: "GLIBC_2.3.2";
    fn pthread_cond_broadcast(c: *mut pthread_cond_t) -> c_int => calls::locks::cond::broadcast, at: everywhere, version: "GLIBC_2.3.2";

    fn pthread_rwlock_rdlock(l: *mut pthread_rwlock_t) -> c_int => calls::locks::rwlock::rdlock, first: calls::locks::rwlock::rdlock_at_once;
    fn __pthread_rwlock_rdlock(l: *mut pthread_rwlock_t) -> c_int => calls::locks::rwlock::rdlock, first: calls::locks::rwlock::rdlock_at_once;
    fn pthread_rwlock_wrlock(l: *mut pthread_rwlock_t) -> c_int => calls::locks::rwlock::wrlock, first: calls::locks::rwlock::wrlock_at_once;
    fn __pthread_rwlock_wrlock(l: *mut pthread_rwlock_t) -> c_int => calls::locks::rwlock::wrlock, first: calls::locks::rwlock::wrlock_at_once;
    fn pthread_rwlock_tryrdlock(l: *mut pthread_rwlock_t) -> c_int => calls::locks::rwlock::tryrdlock, first: calls::locks::rwlock::rdlock_at_once;
    fn __pthread_rwlock_tryrdlock(l: *mut pthread_rwlock_t) -> c_int => calls::locks::rwlock::tryrdlock, first: calls::locks::rwlock::rdlock_at_once;
    fn pthread_rwlock_trywrlock(l: *mut pthread_rwlock_t) -> c_int => calls::locks::rwlock::trywrlock, first: calls::locks::rwlock::wrlock_at_once;
    fn __pthread_rwlock_trywrlock(l: *mut pthread_rwlock_t) -> c_int => calls::locks::rwlock::trywrlock, first: calls::locks::rwlock::wrlock_at_once;
    fn pthread_rwlock_timedrdlock(l: *mut pthread_rwlock_t, time: *const timespec) -> c_int => calls::locks::rwlock::timedrdlock;
    fn pthread_rwlock_timedwrlock(l: *mut pthread_rwlock_t, time: *const timespec) -> c_int => calls::locks::rwlock::timedwrlock;
    fn pthread_rwlock_clockrdlock(l: *mut pthread_rwlock_t, clock: clockid_t, time: *const timespec) -> c_int => calls::locks::rwlock::clockrdlock;
    fn pthread_rwlock_clockwrlock(l: *mut pthread_rwlock_t, clock: clockid_t, time: *const timespec) -> c_int => calls::locks::rwlock::clockwrlock;
    fn pthread_rwlock_unlock(l: *mut pthread_rwlock_t) -> c_int => calls::locks::rwlock::unlock, at: everywhere;
    fn __pthread_rwlock_unlock(l: *mut pthread_rwlock_t) -> c_int => calls::locks::rwlock::unlock, at: everywhere;

    fn pthread_spin_lock(lock: *mut calls::locks::spin::Lock) -> c_int => calls::locks::spin::lock;
    fn pthread_spin_trylock(lock: *mut calls::locks::spin::Lock) -> c_int => calls::locks::spin::trylock;
    fn sched_yield() -> c_int => calls::locks::spin::yield_now;
    fn __sched_yield() -> c_int => calls::locks::spin::yield_now;
    fn pthread_yield() -> c_int => calls::locks::spin::yield_now;
    fn thrd_yield() -> () => calls::locks::spin::yield_now;

    fn pthread_barrier_wait(b: *mut pthread_barrier_t) -> c_int => calls::locks::barrier::wait, by: calls::locks::barrier::wait_plainly;
    fn pthread_barrier_destroy(b: *mut pthread_barrier_t) -> c_int => calls::locks::barrier::destroy;
    fn pthread_once(control: *mut c_int, routine: calls::locks::once::Routine) -> c_int => calls::locks::once::once, first: calls::locks::once::done, by: calls::locks::once::run, unbound: calls::locks::once::without_libc;
    fn __pthread_once(control: *mut c_int, routine: calls::locks::once::Routine) -> c_int => calls::locks::once::once, first: calls::locks::once::done, by: calls::locks::once::run, unbound: calls::locks::once::without_libc;
    fn pthread_join(thread: pthread_t, value: *mut *mut c_void) -> c_int => calls::locks::join::join;
    fn pthread_timedjoin_np(thread: pthread_t, value: *mut *mut c_void, time: *const timespec) -> c_int => calls::locks::join::timedjoin;
    fn pthread_clockjoin_np(thread: pthread_t, value: *mut *mut c_void, clock: clockid_t, time: *const timespec) -> c_int => calls::locks::join::clockjoin;

    fn sem_wait(s: *mut sem_t) -> c_int => calls::locks::sem::wait, first: calls::locks::sem::wait_at_once;
    fn sem_trywait(s: *mut sem_t) -> c_int => calls::locks::sem::trywait, first: calls::locks::sem::take_at_once;
    fn sem_timedwait(s: *mut sem_t, time: *const timespec) -> c_int => calls::locks::sem::timedwait;
    fn sem_clockwait(s: *mut sem_t, clock: clockid_t, time: *const timespec) -> c_int => calls::locks::sem::clockwait;
    fn sem_post(s: *mut sem_t) -> c_int => calls::locks::sem::post, at: everywhere;

    fn mtx_lock(m: *mut pthread_mutex_t) -> c_int => calls::locks::c11::mtx_lock, first: calls::locks::mutex::lock_at_once;
    fn mtx_trylock(m: *mut pthread_mutex_t) -> c_int => calls::locks::c11::mtx_trylock, first: calls::locks::mutex::lock_at_once;
    fn mtx_timedlock(m: *mut pthread_mutex_t, time: *const timespec) -> c_int => calls::locks::c11::mtx_timedlock;
    fn mtx_unlock(m: *mut pthread_mutex_t) -> c_int => calls::locks::c11::mtx_unlock, at: everywhere;
    fn cnd_wait(c: *mut pthread_cond_t, m: *mut pthread_mutex_t) -> c_int => calls::locks::c11::cnd_wait, by: calls::locks::cond::wait_plainly;
    fn cnd_timedwait(c: *mut pthread_cond_t, m: *mut pthread_mutex_t, time: *const timespec) -> c_int => calls::locks::c11::cnd_timedwait, by: calls::locks::cond::timedwait_plainly;
    fn cnd_signal(c: *mut pthread_cond_t) -> c_int => calls::locks::cond::signal, at: everywhere;
    fn cnd_broadcast(c: *mut pthread_cond_t) -> c_int => calls::locks::cond::broadcast, at: everywhere;
    fn call_once(control: *mut c_int, routine: calls::locks::once::Routine) -> () => calls::locks::once::once, first: calls::locks::once::called, by: calls::locks::once::call;
    fn thrd_join(thread: pthread_t, result: *mut c_int) -> c_int => calls::locks::join::thrd_join;

    // Variadic in C. Up to six arguments are read, the last one from the stack, even if fewer were
    // passed.
    fn syscall(number: c_long, a: c_long, b: c_long, c: c_long, d: c_long, e: c_long, f: c_long) -> c_long => calls::syscall::dispatch, instead: numbers::by_number, first: calls::syscall::uncharged, by: calls::syscall::plainly;

    // What libc keeps for a thread, or in static memory.
    fn __h_errno_location() -> *mut c_int => calls::results::h_errno_location, at: everywhere;
    fn strerror(number: c_int) -> *mut c_char => in_record(calls::results::strerror), first: calls::results::uncharged1;
    fn strsignal(signal: c_int) -> *mut c_char => copied, first: calls::results::uncharged1;
    fn inet_ntoa(address: c_uint) -> *mut c_char => copied, first: calls::results::uncharged1;
    fn asctime(time: *const c_void) -> *mut c_char => in_record(calls::results::asctime), first: calls::results::uncharged1;
    fn ctime(time: *const c_void) -> *mut c_char => in_record(calls::results::ctime), first: calls::results::uncharged1;
    fn gmtime(time: *const c_void) -> *mut c_void => in_record(calls::results::gmtime), first: calls::results::uncharged1;
    fn localtime(time: *const c_void) -> *mut c_void => in_record(calls::results::localtime), first: calls::results::uncharged1;
    fn ttyname(fd: c_int) -> *mut c_char => in_record(calls::results::ttyname), first: calls::results::uncharged1;
    fn ptsname(fd: c_int) -> *mut c_char => in_record(calls::results::ptsname), first: calls::results::uncharged1;
    fn ether_ntoa(address: *const c_void) -> *mut c_char => in_record(calls::results::ether_ntoa), first: calls::results::uncharged1;
    fn ether_aton(text: *const c_char) -> *mut c_void => in_record(calls::results::ether_aton), first: calls::results::uncharged1;
    fn l64a(number: c_long) -> *mut c_char => copied, first: calls::results::uncharged1;
    fn strtok(text: *mut c_char, delimiters: *const c_char) -> *mut c_char => in_record(calls::results::strtok), first: calls::results::uncharged2;
    fn uselocale(new: libc::locale_t) -> libc::locale_t => calls::locale::uselocale, at: everywhere;
    fn __uselocale(new: libc::locale_t) -> libc::locale_t => calls::locale::uselocale, at: everywhere;

    // Streams, where stdio does more than its jump tables see (crate::stdio).
    // libc closes the descriptor internally, where the hook of close(2) does not see it.
    fn fopen(path: *const c_char, mode: *const c_char) -> *mut FILE => calls::stdio::fopen;
    fn fopen64(path: *const c_char, mode: *const c_char) -> *mut FILE => calls::stdio::fopen;
    fn _IO_fopen(path: *const c_char, mode: *const c_char) -> *mut FILE => calls::stdio::fopen;
    fn freopen(path: *const c_char, mode: *const c_char, stream: *mut FILE) -> *mut FILE => calls::stdio::freopen, forgets: calls::file::before_fclose(stream);
    fn freopen64(path: *const c_char, mode: *const c_char, stream: *mut FILE) -> *mut FILE => calls::stdio::freopen, forgets: calls::file::before_fclose(stream);
    fn tmpfile() -> *mut FILE => offload;
    fn tmpfile64() -> *mut FILE => offload;
    fn fclose(stream: *mut FILE) -> c_int => calls::stdio::fclose, forgets: calls::file::before_fclose(stream);
    fn _IO_fclose(stream: *mut FILE) -> c_int => calls::stdio::fclose, forgets: calls::file::before_fclose(stream);
    fn pclose(stream: *mut FILE) -> c_int => calls::stdio::pclose, forgets: calls::file::before_fclose(stream);
    fn fcloseall() -> c_int => calls::stdio::fcloseall;
    fn fflush(stream: *mut FILE) -> c_int => calls::stdio::fflush;
    fn fflush_unlocked(stream: *mut FILE) -> c_int => calls::stdio::fflush;
    fn _IO_fflush(stream: *mut FILE) -> c_int => calls::stdio::fflush;
    fn _IO_flush_all() -> c_int => calls::stdio::flush_all_streams;
    fn flockfile(stream: *mut FILE) -> () => calls::stdio::flockfile;
    fn _IO_flockfile(stream: *mut FILE) -> () => calls::stdio::flockfile;
    fn ftrylockfile(stream: *mut FILE) -> c_int => calls::stdio::ftrylockfile;
    fn _IO_ftrylockfile(stream: *mut FILE) -> c_int => calls::stdio::ftrylockfile;
    fn funlockfile(stream: *mut FILE) -> () => calls::stdio::funlockfile;
    fn _IO_funlockfile(stream: *mut FILE) -> () => calls::stdio::funlockfile;
    // The variadic functions are in entry::variadic and call these. A va_list is passed by its
    // address.
    fn vdprintf(fd: c_int, format: *const c_char, arguments: *mut c_void) -> c_int => calls::stdio::vdprintf;
    fn __vdprintf_chk(fd: c_int, flag: c_int, format: *const c_char, arguments: *mut c_void) -> c_int => calls::stdio::vdprintf_chk;
    fn closedir(directory: *mut DIR) -> c_int => calls::file::closedir, forgets: calls::file::before_closedir(directory);
}
