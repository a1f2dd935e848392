//! Rows: opening and closing descriptors. [`crate`] explains the parts of a row.

/// Passes these rows, behind those before them, to the next file.
#[doc(hidden)]
#[macro_export]
macro_rules! descriptors {
    ($callback:tt $more:tt { $($before:tt)* }) => {
        $crate::next_rows! { $callback $more { $($before)*

    "Opening, closing, and what is done to a descriptor" {
        // Variadic in C. The optional mode is passed in the register of the third or fourth
        // argument either way.
        fn open, open64, __open, __open64(path: *const c_char, flags: c_int, mode: mode_t) -> c_int
            => Convert(calls::open::open), number(old SYS_open), waits(DISK), cancellation_point,
               any_thread;
        fn openat, openat64(dir: c_int, path: *const c_char, flags: c_int, mode: mode_t) -> c_int
            => Convert(calls::open::openat), number(SYS_openat), waits(DISK), cancellation_point,
               any_thread;
        fn __open_2, __open64_2(path: *const c_char, flags: c_int) -> c_int
            => Convert(calls::open::open_2), cancellation_point, any_thread;
        fn __openat_2, __openat64_2(dir: c_int, path: *const c_char, flags: c_int) -> c_int
            => Convert(calls::open::openat_2), cancellation_point, any_thread;
        fn creat, creat64(path: *const c_char, mode: mode_t) -> c_int
            => Convert(calls::open::creat), number(old SYS_creat), waits(DISK), cancellation_point,
               any_thread;
        fn close, __close(fd: c_int) -> c_int
            => Convert(calls::file::close), number(SYS_close), cancellation_point, any_thread,
               without_case(POSITION), forgets(descriptors::forget(fd));
        fn fsync(fd: c_int) -> c_int
            => Convert(calls::file::fsync), number(SYS_fsync), waits(DISK), cancellation_point,
               any_thread;
        fn fdatasync(fd: c_int) -> c_int
            => Convert(calls::file::fdatasync), number(SYS_fdatasync), waits(DISK),
               cancellation_point, any_thread;
        fn lseek, lseek64, __lseek(fd: c_int, offset: off_t, whence: c_int) -> off_t
            => Convert(calls::file::lseek), number(SYS_lseek), any_thread, without_case(POSITION);
        fn dup(fd: c_int) -> c_int
            => Convert(calls::file::dup), any_thread, passes;
        fn dup2, __dup2(from: c_int, to: c_int) -> c_int
            => Convert(calls::file::dup2), number(old SYS_dup2), any_thread, passes,
               forgets(calls::file::before_dup2(from, to));
        fn dup3(from: c_int, to: c_int, flags: c_int) -> c_int
            => Convert(calls::file::dup3), number(SYS_dup3), any_thread, passes,
               forgets(calls::file::before_dup2(from, to));
        // Variadic in C, like open.
        fn fcntl, fcntl64, __fcntl(fd: c_int, command: c_int, argument: c_ulong) -> c_int
            => WithLibc(calls::file::fcntl), number(SYS_fcntl, fcntl),
               waits(LOCK, if_one_of(1, &[F_SETLKW, F_OFD_SETLKW])), any_thread,
               forgets(calls::file::before_fcntl(fd, command));
        // Variadic in C. FIONBIO does the same as F_SETFL.
        fn ioctl(fd: c_int, request: c_ulong, argument: c_ulong) -> c_int
            => Convert(calls::file::ioctl), number(SYS_ioctl, ioctl),
               waits(LINE, if_one_of(1, DRAINS)), any_thread, passes,
               forgets(calls::file::before_ioctl(fd, request));
        fn setsockopt(
            fd: c_int, level: c_int, option: c_int, value: *const c_void, n: socklen_t
        ) -> c_int
            => Convert(calls::file::setsockopt), number(SYS_setsockopt), any_thread, passes,
               forgets(calls::file::before_setsockopt(fd, level, option));
    }
        } }
    };
}
