//! THE TABLE: a row per name by which a program reaches a call of libc's, aliases included.
//!
//! A row gives libc's name and signature, the function of [`crate::calls`] that handles it on a fiber, and, after
//! `forgets`, the descriptor that libc's call closes or changes, forgotten wherever the call is made ([`fds::forget`]).
//! One of the shim's own is not closed: the answer is EBADF. From the rows the macro makes the exported function (redhook: it finds
//! libc's own with dlsym), the list of names and the index into the statistics.
//!
//! `=> offload` in the place of a function has libc's own run on a thread of the pool ([`calls::offload`]).
//!
//! Off a fiber a hook is one thread-local load, a branch and a jump to libc: nothing allocates, locks or prints there.

use crate::call::Call;
use crate::calls::{self, CResult, Outcome};
use crate::errno;
use crate::fds;
use crate::thread::Thread;
use crate::tls;
use libc::{DIR, FILE, iovec, mode_t, off_t, size_t, socklen_t, ssize_t, timespec};
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
    ($( fn $name:ident ( $($arg:ident : $ty:ty),* ) -> $ret:ty => $($function:ident)::+ $(, forgets: $marked:expr)? ; )*) => {
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
                    converted!(call, libc(), ($($arg),*), $($function)::+)
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
                    LIBC.store(redhook::real!($name) as *mut (), Ordering::Relaxed);
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
    fn fcntl(fd: c_int, command: c_int, argument: c_ulong) -> c_int => calls::file::fcntl, forgets: calls::file::before_fcntl(fd, command);
    fn fcntl64(fd: c_int, command: c_int, argument: c_ulong) -> c_int => calls::file::fcntl, forgets: calls::file::before_fcntl(fd, command);
    fn __fcntl(fd: c_int, command: c_int, argument: c_ulong) -> c_int => calls::file::fcntl, forgets: calls::file::before_fcntl(fd, command);

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
    fn realpath(path: *const c_char, resolved: *mut c_char) -> *mut c_char => offload;

    // Data: what else is done to a file's contents.

    // Directories.

    // Names and users.

    // Interprocess communication.

    // Locks.

    // stdio, where it does more than its jump tables see (crate::stdio). It closes descriptors inside libc.
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
    // The variadic ones are in crate::stdio::variadic, and come here. A va_list is passed by its address.
    fn vdprintf(fd: c_int, format: *const c_char, arguments: *mut c_void) -> c_int => calls::stdio::vdprintf;
    fn __vdprintf_chk(fd: c_int, flag: c_int, format: *const c_char, arguments: *mut c_void) -> c_int => calls::stdio::vdprintf_chk;
    fn closedir(directory: *mut DIR) -> c_int => calls::file::closedir, forgets: calls::file::before_closedir(directory);
}

/// read(2), for stdio: its calls are made inside libc, and come here by its jump tables.
///
/// # Safety
/// As read(2).
pub unsafe fn call_read(fd: c_int, buf: *mut c_void, n: size_t) -> ssize_t {
    // SAFETY: passed on to our caller.
    unsafe { read::hook(fd, buf, n) }
}

/// write(2), for stdio.
///
/// # Safety
/// As write(2).
pub unsafe fn call_write(fd: c_int, buf: *const c_void, n: size_t) -> ssize_t {
    // SAFETY: passed on to our caller.
    unsafe { write::hook(fd, buf, n) }
}

/// lseek(2), for stdio.
///
/// # Safety
/// As lseek(2).
pub unsafe fn call_lseek(fd: c_int, offset: off_t, whence: c_int) -> off_t {
    // SAFETY: passed on to our caller.
    unsafe { lseek::hook(fd, offset, whence) }
}

/// Has the part of pclose that waits run by a thread of the pool; None where it is to be run here.
pub fn pclose_on_pool<R>(function: impl FnOnce() -> R) -> Option<R> {
    // SAFETY: a thread stays attached while one of its hooks runs.
    let thread = unsafe { tls::here().as_ref() }?;
    calls::offload::whole(&Call::begin(thread, Row::pclose as usize, None)?, function)
}

/// vdprintf(3), for dprintf.
///
/// # Safety
/// As vdprintf(3).
pub unsafe extern "C" fn call_vdprintf(fd: c_int, format: *const c_char, arguments: *mut c_void) -> c_int {
    // SAFETY: passed on to our caller.
    unsafe { vdprintf::hook(fd, format, arguments) }
}

/// `__vdprintf_chk`, for `__dprintf_chk`.
///
/// # Safety
/// As vdprintf(3).
pub unsafe extern "C" fn call_vdprintf_chk(
    fd: c_int,
    flag: c_int,
    format: *const c_char,
    arguments: *mut c_void,
) -> c_int {
    // SAFETY: passed on to our caller.
    unsafe { __vdprintf_chk::hook(fd, flag, format, arguments) }
}

/// close(2), for stdio.
///
/// # Safety
/// As close(2).
pub unsafe fn call_close(fd: c_int) -> c_int {
    // SAFETY: passed on to our caller.
    unsafe { close::hook(fd) }
}
