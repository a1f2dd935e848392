//! THE TABLE: a row per name by which a program reaches a call of libc's, aliases included.
//!
//! A row gives libc's name and signature, the function of [`crate::calls`] that handles it on a fiber, and, after
//! `forgets`, the descriptor that libc's call closes or changes, forgotten wherever the call is made ([`fds::forget`]).
//! One of the shim's own is not closed: the answer is EBADF. From the rows the macro makes the exported function (redhook), what
//! finds libc's own, the list of names and the index into the statistics.
//!
//! In the place of a function `=> offload` has libc's own run on a thread of the pool ([`calls::offload`]); `=> paced(kind,
//! file)` only while such calls are slow, else inline ([`calls::paced`]); `=> with_libc(function)` gives it libc's to call.
//!
//! Off a fiber a hook is one thread-local load, a branch and a jump to libc: nothing allocates, locks or prints there.

use crate::call::Call;
use crate::calls::directory::{Compare, Filter};
use crate::calls::walk::{Fts, FtwVisit, GlobError, NftwVisit};
use crate::calls::{self, CResult, Outcome};
use crate::errno;
use crate::fds;
use crate::policy::Kind;
use crate::thread::Thread;
use crate::tls;
use libc::{DIR, FILE, dev_t, gid_t, iovec, mode_t, off_t, size_t, socklen_t, ssize_t, timespec, uid_t};
use std::ffi::{c_char, c_int, c_uint, c_ulong, c_void};
use std::sync::atomic::{AtomicPtr, Ordering};

/// The descriptor that a row could not just forget; most rows have none to forget.
macro_rules! marked {
    () => {
        None::<c_int>
    };
    ($marked:expr) => {
        $marked
    };
}

/// What becomes of a fiber's call; None when it is libc's to do.
macro_rules! converted {
    ($call:ident, $real:expr, ($($arg:ident),*), offload) => {
        calls::offload::whole($call, || {
            // SAFETY: libc's own function, with its caller's arguments, while that call lasts.
            unsafe { $real($($arg),*) }
        })
    };
    ($call:ident, $real:expr, ($($arg:ident),*), paced($kind:ident, $file:expr)) => {
        calls::paced::whole($call, Kind::$kind, $file, || {
            // SAFETY: libc's own function, with its caller's arguments, while that call lasts.
            unsafe { $real($($arg),*) }
        })
    };
    ($call:ident, $real:expr, ($($arg:ident),*), with_libc($($function:ident)::+)) => {
        $($function)::+($call, $real, $($arg),*)
    };
    ($call:ident, $real:expr, ($($arg:ident),*), $($function:ident)::+) => {
        match $($function)::+($call, $($arg),*) {
            Outcome::Done(Ok(result)) => Some(CResult::from_done(result)),
            Outcome::Done(Err(error)) => {
                errno::set(error.0);
                Some(CResult::from_done(-1))
            }
            Outcome::Through(why) => {
                $call.through(why);
                None
            }
        }
    };
}

macro_rules! hooks {
    ($( fn $name:ident ( $($arg:ident : $ty:ty),* ) -> $ret:ty => $($function:ident)::+ $(( $($option:tt)* ))? $(, forgets: $marked:expr)? ; )*) => {
        /// The rows' names.
        pub const NAMES: &[&str] = &[$( stringify!($name) ),*];

        #[allow(non_camel_case_types)]
        #[derive(Clone, Copy)]
        enum Row { $( $name ),* }

        /// Finds libc's function of every row, before any of them is needed in a hurry.
        pub fn bind() {
            $( $name::bind(); )*
        }

        $(
            #[allow(non_snake_case, static_mut_refs, missing_abi)]
            mod $name {
                use super::*;

                redhook::hook! {
                    unsafe fn $name($($arg: $ty),*) -> $ret => hook {
                        let here = tls::here();
                        if here.is_null() {
                            if let Some(fd) = marked!($($marked)?) {
                                // SAFETY: it makes libc's call, with its caller's arguments.
                                return unsafe { marked(fd, $($arg),*) };
                            }
                            // SAFETY: libc's own function, with its caller's arguments.
                            unsafe { libc()($($arg),*) }
                        } else {
                            // SAFETY: `here` is this thread's attached Thread.
                            unsafe { attached(here, $($arg),*) }
                        }
                    }
                }

                /// The same on an attached thread; apart, so that the hook itself needs no stack frame.
                #[inline(never)]
                unsafe fn attached(here: *const Thread, $($arg: $ty),*) -> $ret {
                    // SAFETY: a thread stays attached while one of its hooks runs.
                    let thread = unsafe { &*here };
                    if thread.is_watched() {
                        // SAFETY: it makes libc's call at most, with its caller's arguments.
                        return unsafe { watched(thread, $($arg),*) };
                    }
                    if let Some(call) = Call::begin(thread, Row::$name as usize, None)
                        && let Some(result) = converted(&call, $($arg),*)
                    {
                        return result;
                    }
                    if let Some(fd) = marked!($($marked)?) {
                        // SAFETY: it makes libc's call, with its caller's arguments.
                        return unsafe { marked(fd, $($arg),*) };
                    }
                    // SAFETY: libc's own function, with its caller's arguments.
                    unsafe { libc()($($arg),*) }
                }

                /// The same for a descriptor that cannot just be forgotten; apart, for the same reason.
                #[cold]
                unsafe fn marked(fd: c_int, $($arg: $ty),*) -> $ret {
                    if fds::release(fd) {
                        errno::set(libc::EBADF);
                        return CResult::from_done(-1);
                    }
                    // SAFETY: libc's own function, with its caller's arguments.
                    unsafe { libc()($($arg),*) }
                }

                /// The same with a record kept of it.
                #[cold]
                #[inline(never)]
                unsafe fn watched(thread: &Thread, $($arg: $ty),*) -> $ret {
                    let record = thread.record(Row::$name as usize);
                    let call = Call::begin(thread, Row::$name as usize, Some(&record));
                    if let Some(call) = &call
                        && let Some(result) = converted(call, $($arg),*)
                    {
                        return record.end(result);
                    }
                    let result = match marked!($($marked)?) {
                        // SAFETY: it makes libc's call, with its caller's arguments.
                        Some(fd) => unsafe { marked(fd, $($arg),*) },
                        // SAFETY: libc's own function, with its caller's arguments.
                        None => unsafe { libc()($($arg),*) },
                    };
                    if call.is_some() { record.end(result) } else { result }
                }

                /// What became of a fiber's call; None when it is libc's to do.
                #[inline(always)]
                fn converted(call: &Call<'_>, $($arg: $ty),*) -> Option<$ret> {
                    converted!(call, libc(), ($($arg),*), $($function)::+ $(( $($option)* ))?)
                }

                type Real = unsafe extern "C" fn($($ty),*) -> $ret;

                /// libc's function, found by redhook; until then `find`, so that the hook needs no check.
                static LIBC: AtomicPtr<()> = AtomicPtr::new(find as *mut ());

                #[inline(always)]
                fn libc() -> Real {
                    // SAFETY: only ever holds functions of this type: `find`, and what `bind` found under the name.
                    unsafe { std::mem::transmute::<*mut (), Real>(LIBC.load(Ordering::Relaxed)) }
                }

                #[cold]
                unsafe extern "C" fn find($($arg: $ty),*) -> $ret {
                    bind();
                    // SAFETY: libc's own function, with its caller's arguments.
                    unsafe { libc()($($arg),*) }
                }

                pub fn bind() {
                    let name = concat!(stringify!($name), "\0").as_ptr().cast();
                    // SAFETY: the name is a string of C's.
                    let found = unsafe { ::libc::dlsym(::libc::RTLD_NEXT, name) };
                    let missing = missing as *mut ();
                    LIBC.store(if found.is_null() { missing } else { found.cast() }, Ordering::Relaxed);
                }

                /// In the place of a function that this libc does not have yet: no program was linked to it here.
                #[cold]
                unsafe extern "C" fn missing($(_: $ty),*) -> $ret {
                    errno::set(::libc::ENOSYS);
                    CResult::from_done(-1)
                }
            }
        )*
    };
}

hooks! {
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

    // Variadic in C; the optional mode comes in the register of a third or fourth argument all the same.
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

    // Variadic in C: FIONBIO is F_SETFL by another name.
    fn ioctl(fd: c_int, request: c_ulong, argument: c_ulong) -> c_int => calls::file::ioctl, forgets: calls::file::before_ioctl(fd, request);
    fn setsockopt(fd: c_int, level: c_int, option: c_int, value: *const c_void, n: socklen_t) -> c_int => calls::file::setsockopt, forgets: calls::file::before_setsockopt(fd, level, option);

    // Sockets.

    // Waiting for readiness.

    // Time and signals.
    fn nanosleep(time: *const timespec, left: *mut timespec) -> c_int => calls::sleep::nanosleep;
    fn __nanosleep(time: *const timespec, left: *mut timespec) -> c_int => calls::sleep::nanosleep;
    fn usleep(microseconds: c_uint) -> c_int => calls::sleep::usleep;
    fn sleep(seconds: c_uint) -> c_uint => calls::sleep::sleep;

    // Processes.

    // Metadata: names and attributes of files.
    fn stat(path: *const c_char, into: *mut c_void) -> c_int => paced(Lookup, libc::AT_FDCWD);
    fn stat64(path: *const c_char, into: *mut c_void) -> c_int => paced(Lookup, libc::AT_FDCWD);
    fn lstat(path: *const c_char, into: *mut c_void) -> c_int => paced(Lookup, libc::AT_FDCWD);
    fn lstat64(path: *const c_char, into: *mut c_void) -> c_int => paced(Lookup, libc::AT_FDCWD);
    fn fstat(fd: c_int, into: *mut c_void) -> c_int => paced(Lookup, fd);
    fn fstat64(fd: c_int, into: *mut c_void) -> c_int => paced(Lookup, fd);
    fn fstatat(dir: c_int, path: *const c_char, into: *mut c_void, flags: c_int) -> c_int => paced(Lookup, dir);
    fn fstatat64(dir: c_int, path: *const c_char, into: *mut c_void, flags: c_int) -> c_int => paced(Lookup, dir);
    // What programs built for a glibc before 2.33 call.
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
    fn realpath(path: *const c_char, resolved: *mut c_char) -> *mut c_char => paced(Lookup, libc::AT_FDCWD);
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
    fn rename(from: *const c_char, to: *const c_char) -> c_int => paced(Change, libc::AT_FDCWD);
    fn link(from: *const c_char, to: *const c_char) -> c_int => paced(Change, libc::AT_FDCWD);
    fn symlink(from: *const c_char, to: *const c_char) -> c_int => paced(Change, libc::AT_FDCWD);
    fn renameat(from_dir: c_int, from: *const c_char, to_dir: c_int, to: *const c_char) -> c_int => paced(Change, to_dir);
    fn renameat2(from_dir: c_int, from: *const c_char, to_dir: c_int, to: *const c_char, flags: c_uint) -> c_int => paced(Change, to_dir);
    fn linkat(from_dir: c_int, from: *const c_char, to_dir: c_int, to: *const c_char, flags: c_int) -> c_int => paced(Change, to_dir);
    fn symlinkat(target: *const c_char, dir: c_int, path: *const c_char) -> c_int => paced(Change, dir);
    fn mkdir(path: *const c_char, mode: mode_t) -> c_int => paced(Change, libc::AT_FDCWD);
    fn mkfifo(path: *const c_char, mode: mode_t) -> c_int => paced(Change, libc::AT_FDCWD);
    fn chmod(path: *const c_char, mode: mode_t) -> c_int => paced(Change, libc::AT_FDCWD);
    fn lchmod(path: *const c_char, mode: mode_t) -> c_int => paced(Change, libc::AT_FDCWD);
    fn mkdirat(dir: c_int, path: *const c_char, mode: mode_t) -> c_int => paced(Change, dir);
    fn mkfifoat(dir: c_int, path: *const c_char, mode: mode_t) -> c_int => paced(Change, dir);
    fn mknod(path: *const c_char, mode: mode_t, device: dev_t) -> c_int => paced(Change, libc::AT_FDCWD);
    fn mknodat(dir: c_int, path: *const c_char, mode: mode_t, device: dev_t) -> c_int => paced(Change, dir);
    fn __xmknod(version: c_int, path: *const c_char, mode: mode_t, device: *mut dev_t) -> c_int => paced(Change, libc::AT_FDCWD);
    fn __xmknodat(version: c_int, dir: c_int, path: *const c_char, mode: mode_t, device: *mut dev_t) -> c_int => paced(Change, dir);
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
    // What libc opens for its caller is not known from before.
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

    fn sync() -> () => paced(Flush, calls::paced::NO_FILE);
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
    fn nftw(path: *const c_char, visit: NftwVisit, descriptors: c_int, flags: c_int) -> c_int => with_libc(calls::walk::nftw);
    fn nftw64(path: *const c_char, visit: NftwVisit, descriptors: c_int, flags: c_int) -> c_int => with_libc(calls::walk::nftw);
    fn glob(pattern: *const c_char, flags: c_int, error: GlobError, into: *mut c_void) -> c_int => with_libc(calls::walk::glob);
    fn glob64(pattern: *const c_char, flags: c_int, error: GlobError, into: *mut c_void) -> c_int => with_libc(calls::walk::glob);
    fn fts_open(paths: *const *mut c_char, options: c_int, compare: Compare) -> *mut Fts => with_libc(calls::walk::fts_open);
    fn fts64_open(paths: *const *mut c_char, options: c_int, compare: Compare) -> *mut Fts => with_libc(calls::walk::fts_open);
    fn fts_read(tree: *mut Fts) -> *mut c_void => with_libc(calls::walk::fts_read);
    fn fts64_read(tree: *mut Fts) -> *mut c_void => with_libc(calls::walk::fts_read);
    fn fts_children(tree: *mut Fts, options: c_int) -> *mut c_void => with_libc(calls::walk::fts_children);
    fn fts64_children(tree: *mut Fts, options: c_int) -> *mut c_void => with_libc(calls::walk::fts_children);
    fn fts_close(tree: *mut Fts) -> c_int => paced(Directory, libc::AT_FDCWD);
    fn fts64_close(tree: *mut Fts) -> c_int => paced(Directory, libc::AT_FDCWD);

    // Names and users.

    // Interprocess communication.

    // Locks.

    // stdio closes descriptors inside libc, where no other hook sees it.
    fn fclose(stream: *mut FILE) -> c_int => calls::file::fclose, forgets: calls::file::before_fclose(stream);
    fn pclose(stream: *mut FILE) -> c_int => calls::file::fclose, forgets: calls::file::before_fclose(stream);
    fn freopen(path: *const c_char, mode: *const c_char, stream: *mut FILE) -> *mut FILE => calls::file::freopen, forgets: calls::file::before_fclose(stream);
    fn freopen64(path: *const c_char, mode: *const c_char, stream: *mut FILE) -> *mut FILE => calls::file::freopen, forgets: calls::file::before_fclose(stream);
    fn closedir(directory: *mut DIR) -> c_int => calls::file::closedir, forgets: calls::file::before_closedir(directory);
}
